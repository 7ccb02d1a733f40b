//! Upkeep of what is on disk: checkpoints, and letting go of what they and the storages make needless.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use dataflows::checkpoint::{self, Part};
use dataflows::engine::Engine;
use dataflows::epoch::SharedEpoch;
use operators::catalog::Catalog;
use operators::sample::SeriesId;
use parking_lot::{Condvar, Mutex};

use super::storage::Storages;
use crate::checkpoint::Checkpoints;
use crate::intake::Intake;
use crate::journal::epochs;
use crate::keeper::Keeper;
use crate::notify::receivers::Receivers;
use crate::outbox::Outbox;
use crate::recovery::{ENTRIES, HEAD, Head, PART, REQUESTS, Recovery};
use crate::settings::Stored;

/// When there is a checkpoint.
#[derive(Clone, Copy, Debug)]
pub struct UpkeepConfig {
    /// Longest time between two.
    pub interval: Duration,
    /// Bytes of journal between two.
    pub journal_bytes: u64,
}

/// Time between two looks at what can go.
const TICK: Duration = Duration::from_millis(200);
/// Checkpoints that are kept: should the newest be damaged, the one before serves.
const KEPT: usize = 2;
/// Parts of workers that wait to be written.
const PARTS_MAX: usize = 8;
/// Catalog entries and requests in one record.
const RECORD_LEN: usize = 10_000;
/// How long a checkpoint waits for the journal and the outbox to be as far as it is.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// A checkpoint to be written.
struct Job {
    head: Head,
    /// Series that epochs up to it brought.
    entries: SeriesId,
    parts: Receiver<Part>,
    workers: usize,
}

/// What the upkeep did, for `/status`.
#[derive(Debug, Default)]
pub struct UpkeepCounters {
    /// Checkpoints written.
    pub checkpoints: AtomicU64,
    /// Checkpoints that could not be written, or were given up.
    pub failed: AtomicU64,
    /// The epoch of the last one.
    pub epoch: AtomicU64,
    /// Its bytes.
    pub bytes: AtomicU64,
    /// How long it took, in microseconds.
    pub micros: AtomicU64,
}

/// What is kept up.
pub struct Kept {
    /// The journal.
    pub keeper: Arc<Keeper>,
    /// The outbox.
    pub outbox: Arc<Outbox>,
    /// The storages.
    pub storages: Arc<Storages>,
    /// The door, which remembers requests.
    pub intake: Arc<Intake>,
    /// The catalog.
    pub catalog: Arc<Catalog>,
    /// The receivers of alerts.
    pub receivers: Arc<Receivers>,
}

/// The upkeep.
pub struct Upkeep {
    config: UpkeepConfig,
    checkpoints: Option<Checkpoints>,
    kept: Kept,
    state: Mutex<State>,
    changed: Condvar,
    /// For `/status`.
    pub counters: UpkeepCounters,
}

struct State {
    job: Option<Job>,
    busy: bool,
    /// When the last one began, and how much of the journal had been written.
    began: Instant,
    journal_bytes: u64,
    /// The start had epochs to take in again: a checkpoint spares the next start the same, however soon that comes.
    after_replay: bool,
    /// Epochs of the last two checkpoints.
    epochs: [u64; KEPT],
    /// The last epoch sealed.
    sealed: Option<Head>,
    closed: bool,
}

/// The last checkpoint, being written while the engine stops.
pub struct LastCheckpoint(Option<JoinHandle<bool>>);

impl Upkeep {
    /// Upkeep that goes on behind what a start has restored.
    pub fn new(
        config: UpkeepConfig,
        checkpoints: Option<Checkpoints>,
        kept: Kept,
        recovery: &Recovery,
    ) -> Upkeep {
        let known = checkpoints.as_ref().and_then(|place| place.epochs().ok()).unwrap_or_default();
        let epochs = [recovery.checkpoint_epoch, known.get(1).copied().unwrap_or(0)];
        let state = State {
            job: None,
            busy: false,
            began: Instant::now(),
            journal_bytes: 0,
            after_replay: recovery.replayed_epochs > 0,
            epochs,
            sealed: None,
            closed: false,
        };
        Upkeep {
            config,
            checkpoints,
            kept,
            state: Mutex::new(state),
            changed: Condvar::new(),
            counters: UpkeepCounters::default(),
        }
    }

    /// Begins a checkpoint behind `epoch` if one is due. On the thread that submits epochs.
    pub fn between(&self, engine: &Engine, epoch: &SharedEpoch) {
        if self.checkpoints.is_none() {
            return;
        }
        let head = Head { epoch: epoch.number, arrival_ns: epoch.arrival_ns, floor_ns: epoch.floor_ns };
        let written = self.kept.keeper.appended_bytes.load(Ordering::Relaxed);
        let mut state = self.state.lock();
        state.sealed = Some(head);
        let due = state.after_replay
            || state.began.elapsed() >= self.config.interval
            || written.saturating_sub(state.journal_bytes) >= self.config.journal_bytes;
        if !due || state.busy || state.closed {
            return;
        }
        state.began = Instant::now();
        state.journal_bytes = written;
        state.after_replay = false;
        let (sink, parts) = checkpoint::queue(PARTS_MAX);
        if engine.checkpoint(sink) == Some(epoch.number) {
            state.busy = true;
            state.job = Some(Job {
                head,
                entries: self.kept.catalog.carried(),
                parts,
                workers: engine.plan().workers,
            });
            drop(state);
            self.changed.notify_all();
        }
    }

    /// Writes checkpoints and lets go of what nobody needs, until closed. On a thread of its own.
    pub fn run(&self) {
        loop {
            let (job, closed) = {
                let mut state = self.state.lock();
                if state.job.is_none() && !state.closed {
                    self.changed.wait_for(&mut state, TICK);
                }
                (state.job.take(), state.closed)
            };
            if let Some(job) = job {
                self.write(job);
                self.state.lock().busy = false;
            }
            self.release();
            self.kept.receivers.store();
            if closed {
                return;
            }
        }
    }

    /// Ends [`Upkeep::run`], once a checkpoint under way is written.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_all();
    }

    /// Writes a checkpoint; says whether it is there.
    fn write(&self, job: Job) -> bool {
        let (began, epoch) = (Instant::now(), job.head.epoch);
        match self.try_write(job) {
            Ok(Some(bytes)) => {
                let counters = &self.counters;
                counters.checkpoints.fetch_add(1, Ordering::Relaxed);
                counters.epoch.store(epoch, Ordering::Relaxed);
                counters.bytes.store(bytes, Ordering::Relaxed);
                counters.micros.store(began.elapsed().as_micros() as u64, Ordering::Relaxed);
                let mut state = self.state.lock();
                state.epochs = [epoch, state.epochs[0]];
                tracing::debug!(epoch, bytes, took = ?began.elapsed(), "checkpoint");
                true
            }
            Ok(None) => {
                self.counters.failed.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(epoch, "a checkpoint was given up");
                false
            }
            Err(error) => {
                self.counters.failed.fetch_add(1, Ordering::Relaxed);
                tracing::error!(epoch, %error, "a checkpoint can't be written");
                false
            }
        }
    }

    /// Writes a checkpoint; gives its bytes, or nothing when the workers gave it up.
    fn try_write(&self, job: Job) -> io::Result<Option<u64>> {
        let Some(checkpoints) = &self.checkpoints else { return Ok(None) };
        let encoded = |error: postcard::Error| io::Error::other(error.to_string());
        let mut writer = checkpoints.write(job.head.epoch)?;
        writer.put(HEAD, &postcard::to_allocvec(&job.head).map_err(encoded)?)?;
        let mut scratch = Vec::new();
        for from in (0..job.entries).step_by(RECORD_LEN) {
            scratch.clear();
            let entries = self.kept.catalog.entries(from..job.entries.min(from + RECORD_LEN as SeriesId));
            epochs::encode_entries(&entries, &mut scratch);
            writer.put(ENTRIES, &scratch)?;
        }
        for some in self.kept.intake.remembered(job.head.epoch).chunks(RECORD_LEN) {
            writer.put(REQUESTS, &postcard::to_allocvec(some).map_err(encoded)?)?;
        }
        let (mut ended, mut end_epoch) = (0, job.head.epoch);
        for part in &job.parts {
            writer.put(PART, &part.bytes)?;
            if let Some(epoch) = part.end_epoch {
                ended += 1;
                end_epoch = end_epoch.max(epoch);
            }
            if ended == job.workers {
                break;
            }
        }
        if ended < job.workers || !self.is_safe(end_epoch) {
            return Ok(None);
        }
        let bytes = writer.finish()?;
        checkpoints.keep(KEPT)?;
        Ok(Some(bytes))
    }

    /// Waits until journal and outbox are durable up to `epoch`: a checkpoint must not be ahead of them.
    fn is_safe(&self, epoch: u64) -> bool {
        let deadline = Instant::now() + WAIT_MAX;
        while self.kept.keeper.log().durable() < epoch {
            if Instant::now() >= deadline || self.kept.keeper.sync().is_err() {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        self.kept.outbox.wait_written(epoch, left) && self.kept.outbox.sync()
    }

    /// Lets go of what the older of the kept checkpoints covers and everybody has read.
    fn release(&self) {
        if self.checkpoints.is_some() {
            self.kept.keeper.checkpointed(self.state.lock().epochs[1]);
        }
        let raw = self.kept.storages.cursor(Stored::Raw).unwrap_or(u64::MAX);
        self.kept.keeper.release(raw);
        let windows = self.kept.storages.cursor(Stored::Windows).unwrap_or(u64::MAX);
        let settled = self.kept.receivers.settled().unwrap_or(u64::MAX);
        self.kept.outbox.release(windows.min(settled).min(self.kept.keeper.checkpointed_epoch()));
    }

    /// Has the workers write their state and ends them; the checkpoint is written meanwhile.
    pub fn stop_engine(self: &Arc<Self>, engine: &Engine) -> LastCheckpoint {
        let sealed = self.state.lock().sealed;
        let nothing_new = sealed.is_none_or(|head| head.epoch == self.state.lock().epochs[0]);
        let (Some(head), true) = (sealed.filter(|_| !nothing_new), self.checkpoints.is_some()) else {
            engine.stop();
            return LastCheckpoint(None);
        };
        let (sink, parts) = checkpoint::queue(PARTS_MAX);
        let job = Job { head, entries: self.kept.catalog.carried(), parts, workers: engine.plan().workers };
        let upkeep = self.clone();
        let writing = std::thread::Builder::new().name("checkpoint".into()).spawn(move || upkeep.write(job));
        match writing {
            Ok(writing) => {
                engine.stop_with_checkpoint(sink);
                LastCheckpoint(Some(writing))
            }
            Err(error) => {
                tracing::error!(%error, "no thread for the last checkpoint; the next start replays the journal");
                engine.stop();
                LastCheckpoint(None)
            }
        }
    }

    /// Whether state and samples stay beyond the end of the process.
    pub fn is_kept(&self) -> bool {
        self.checkpoints.is_some()
    }
}

impl LastCheckpoint {
    /// Waits for it; says whether it is there.
    pub fn wait(self) -> bool {
        self.0.is_none_or(|writing| writing.join().unwrap_or(false))
    }
}
