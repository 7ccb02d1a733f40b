//! Keeps the journal: writes each epoch before anybody sees it, makes epochs durable in groups, says how far
//! that has come, and lets go of what nobody needs any more.
//!
//! While the disk refuses, nothing new is taken in and nothing that was taken in is given up: the sealer waits in
//! [`Keeper::append`] and tries again until it succeeds, or until the service stops.

#[cfg(test)]
mod tests;

use std::io;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use dataflows::epoch::Epoch;
use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

use crate::journal::epochs::{self, KIND_ENTRIES, KIND_EPOCH};
use crate::journal::files::{Files, MemoryFiles};
use crate::journal::log::{JournalError, Log, LogConfig};
use crate::journal::recovery::Recovered;
use crate::recent::Recent;

/// What an answer waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// The disk has it: it survives a power loss.
    #[default]
    Fsync,
    /// The operating system has it: it survives the end of the process.
    Os,
    /// Nothing: the journal is in memory and ends with the process.
    Memory,
}

/// What happens when the journal has reached its size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// The oldest goes, if a checkpoint covers it; a storage that has not read it has missed it, counted.
    #[default]
    DropOldest,
    /// Nothing new is taken in.
    Refuse,
}

/// How the journal is kept.
#[derive(Clone, Copy, Debug)]
pub struct KeeperConfig {
    /// What an answer waits for.
    pub durability: Durability,
    /// Shortest time between two fsyncs.
    pub fsync_interval: Duration,
    /// Bytes of the journal.
    pub bytes_max: u64,
    /// What happens beyond.
    pub when_full: WhenFull,
    /// Free space on its disk below which nothing is taken in, so that a checkpoint, which makes room, can still be
    /// written. 0: there is no such reserve.
    pub free_bytes_min: u64,
    /// Memory for raw samples that queries can still see.
    pub recent_bytes: usize,
    /// Time between two tries while the disk refuses.
    pub retry: Duration,
}

impl Default for KeeperConfig {
    fn default() -> Self {
        KeeperConfig {
            durability: Durability::Fsync,
            fsync_interval: Duration::from_millis(5),
            bytes_max: 8 << 30,
            when_full: WhenFull::DropOldest,
            free_bytes_min: 0,
            recent_bytes: 16 << 20,
            retry: Duration::from_millis(100),
        }
    }
}

/// Time between two syncs that nobody waits for.
const LAZY_SYNC: Duration = Duration::from_millis(500);

/// The service stops while the disk refuses: what was to be written is given up, and nobody was told otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GivenUp;

/// Tells the free space of the journal's disk in bytes, if that is known.
pub type FreeSpace = Box<dyn Fn() -> Option<u64> + Send + Sync>;

/// The free space as of the last look.
struct Space {
    ask: FreeSpace,
    seen: Mutex<(Instant, Option<u64>)>,
}

/// Time between two looks at the free space.
const SPACE_INTERVAL: Duration = Duration::from_secs(1);

/// Called when something new can be read from the journal; must not block.
pub type Waker = Box<dyn Fn() + Send + Sync>;

/// The keeper. One thread appends, one runs [`Keeper::commit_until_closed`]; everything else may be asked by anybody.
pub struct Keeper {
    config: KeeperConfig,
    log: Log,
    recent: Recent,
    state: Mutex<State>,
    changed: Condvar,
    /// The last epoch that answers may be given for.
    safe: watch::Sender<u64>,
    wakers: Mutex<Vec<Waker>>,
    space: OnceLock<Space>,
    /// What the encoder writes into, kept for its room.
    scratch: Mutex<[Vec<u8>; 2]>,
    /// The last epoch that a checkpoint holds: nothing behind it is ever given up.
    checkpointed: AtomicU64,
    /// Tries to write or sync that failed.
    pub failures: AtomicU64,
    /// Bytes appended since the start.
    pub appended_bytes: AtomicU64,
    /// Bytes given up for the size of the journal before every storage had read them.
    pub given_up_bytes: AtomicU64,
}

#[derive(Default)]
struct State {
    append_trouble: Option<String>,
    sync_trouble: Option<String>,
    /// Somebody waits for what was appended.
    urgent: bool,
    /// Somebody else who keeps what leaves asks for a pause.
    held: Option<&'static str>,
    closing: bool,
}

impl Keeper {
    /// Opens the journal and says what was found in it.
    ///
    /// # Errors
    /// The directory can't be used.
    pub fn open(
        files: Arc<dyn Files>,
        log: LogConfig,
        config: KeeperConfig,
    ) -> Result<(Keeper, Recovered), JournalError> {
        let (log, recovered) = Log::open(files, log)?;
        let keeper = Keeper {
            config,
            safe: watch::Sender::new(log.appended()),
            log,
            recent: Recent::new(config.recent_bytes),
            state: Mutex::default(),
            changed: Condvar::new(),
            wakers: Mutex::default(),
            space: OnceLock::new(),
            scratch: Mutex::default(),
            checkpointed: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            appended_bytes: AtomicU64::new(0),
            given_up_bytes: AtomicU64::new(0),
        };
        if config.durability == Durability::Memory {
            // There are no checkpoints: a restart begins empty.
            keeper.checkpointed(u64::MAX);
        }
        Ok((keeper, recovered))
    }

    /// A keeper whose journal is in memory.
    ///
    /// # Errors
    /// None that is known: memory has no directory that could be missing.
    pub fn in_memory(bytes_max: u64) -> Result<Keeper, JournalError> {
        let config = KeeperConfig { durability: Durability::Memory, bytes_max, ..KeeperConfig::default() };
        let log = LogConfig { segment_bytes: 1 << 20, bytes_max, ..LogConfig::default() };
        Keeper::open(Arc::new(MemoryFiles::default()), log, config).map(|(keeper, _)| keeper)
    }

    /// The journal.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// The newest samples, in memory.
    pub fn recent(&self) -> &Recent {
        &self.recent
    }

    /// How it is kept.
    pub fn config(&self) -> &KeeperConfig {
        &self.config
    }

    /// Has `waker` called whenever something new is safe.
    pub fn add_waker(&self, waker: Waker) {
        self.wakers.lock().push(waker);
    }

    /// Writes an epoch. Waits while the disk refuses.
    ///
    /// # Errors
    /// The disk refuses, and the service is about to stop.
    pub fn append(&self, epoch: &Epoch) -> Result<(), GivenUp> {
        let mut scratch = self.scratch.lock();
        let [body, entries] = &mut *scratch;
        body.clear();
        entries.clear();
        let samples_len = epochs::encode(epoch, body);
        let mut records: Vec<(u8, u64, &[u8])> = vec![(KIND_EPOCH, epoch.number, body)];
        if !epoch.entries.is_empty() {
            epochs::encode_entries(&epoch.entries, entries);
            records.push((KIND_ENTRIES, epoch.number, entries));
        }
        loop {
            let tried = match self.refuses_for_size().or_else(|| self.refuses_for_space()) {
                Some(why) => Err(why),
                None => self.write(&records).map_err(|error| error.to_string()),
            };
            match self.note_append(tried) {
                ControlFlow::Break(result) => {
                    if !epoch.is_empty() {
                        self.urge();
                        self.recent.push(epoch, &body[..samples_len]);
                    }
                    let bytes = records.iter().map(|(.., bytes)| bytes.len() as u64).sum();
                    self.appended_bytes.fetch_add(bytes, Ordering::Relaxed);
                    if result.is_ok() && self.config.durability != Durability::Fsync {
                        self.publish(epoch.number);
                    }
                    return result;
                }
                ControlFlow::Continue(()) => {
                    let mut state = self.state.lock();
                    if !state.closing {
                        self.changed.wait_for(&mut state, self.config.retry);
                    }
                }
            }
        }
    }

    /// Appends; when too much waits for a sync, syncs first: nobody else is about to.
    fn write(&self, records: &[(u8, u64, &[u8])]) -> io::Result<()> {
        match self.log.append(records) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.sync()?;
                self.log.append(records)
            }
            appended => appended,
        }
    }

    /// Takes note of a try; breaks when there is nothing left to wait for.
    fn note_append(&self, tried: Result<(), String>) -> ControlFlow<Result<(), GivenUp>> {
        let mut state = self.state.lock();
        match tried {
            Ok(()) => {
                if state.append_trouble.take().is_some() {
                    tracing::info!("the journal can be written again");
                }
                ControlFlow::Break(Ok(()))
            }
            Err(why) => {
                self.failures.fetch_add(1, Ordering::Relaxed);
                if state.append_trouble.is_none() {
                    tracing::error!(
                        error = why,
                        "the journal can't be written; nothing is taken in until it can"
                    );
                }
                state.append_trouble = Some(why);
                if state.closing { ControlFlow::Break(Err(GivenUp)) } else { ControlFlow::Continue(()) }
            }
        }
    }

    fn refuses_for_size(&self) -> Option<String> {
        if self.log.bytes() <= self.config.bytes_max {
            return None;
        }
        self.shrink();
        let (bytes, max) = (self.log.bytes(), self.config.bytes_max);
        let refuses = self.config.when_full == WhenFull::Refuse && bytes > max;
        refuses
            .then(|| format!("the journal holds {bytes} bytes of {max}, and a storage has not read them yet"))
    }

    /// Has the free space looked at, for [`KeeperConfig::free_bytes_min`].
    pub fn watch_space(&self, ask: FreeSpace) {
        let seen = Mutex::new((Instant::now(), ask()));
        // Asked for once, at the start.
        let _ = self.space.set(Space { ask, seen });
    }

    fn refuses_for_space(&self) -> Option<String> {
        let min = self.config.free_bytes_min;
        let space = self.space.get().filter(|_| min > 0)?;
        let mut seen = space.seen.lock();
        // Short of space, it is looked at again with every try.
        if seen.0.elapsed() >= SPACE_INTERVAL || seen.1.is_some_and(|free| free < min) {
            *seen = (Instant::now(), (space.ask)());
        }
        let free = seen.1.filter(|free| *free < min)?;
        Some(format!("expected {min} bytes of free space to be left (journal.free_space_min), found {free}"))
    }

    /// Gives up the oldest segments that a checkpoint covers until the journal is within its size, if it may.
    fn shrink(&self) {
        if self.config.when_full == WhenFull::Refuse {
            return;
        }
        while self.log.bytes() > self.config.bytes_max {
            let Some(end) = self.log.oldest_segment_end() else { return };
            if end > self.checkpointed.load(Ordering::Relaxed) {
                return;
            }
            match self.log.release(end) {
                Ok(0) | Err(_) => return,
                Ok(bytes) => {
                    self.given_up_bytes.fetch_add(bytes, Ordering::Relaxed);
                }
            }
        }
    }

    /// Somebody waits for what was appended to be durable: not only heartbeats.
    pub fn urge(&self) {
        let mut state = self.state.lock();
        let urgent = std::mem::replace(&mut state.urgent, true);
        drop(state);
        if !urgent {
            self.changed.notify_all();
        }
    }

    /// Makes epochs durable in groups until closed and done. Runs on a thread of its own.
    pub fn commit_until_closed(&self) {
        let interval = match self.config.durability {
            Durability::Fsync => self.config.fsync_interval,
            Durability::Os | Durability::Memory => LAZY_SYNC,
        };
        loop {
            let closing = {
                let mut state = self.state.lock();
                let lazy = Instant::now() + LAZY_SYNC;
                while !state.closing && !state.urgent && Instant::now() < lazy {
                    self.changed.wait_until(&mut state, lazy);
                }
                state.urgent = false;
                state.closing
            };
            let began = Instant::now();
            let pause = match self.sync() {
                Ok(()) if closing && self.log.appended() == self.log.durable() => return,
                Ok(()) => interval,
                // Given up by the sealer as well.
                Err(_) if closing => return,
                Err(_) => self.config.retry,
            };
            let mut state = self.state.lock();
            while !state.closing && began.elapsed() < pause {
                self.changed.wait_for(&mut state, pause.saturating_sub(began.elapsed()));
            }
        }
    }

    /// Makes everything appended so far durable.
    ///
    /// # Errors
    /// The disk refuses; nothing is lost, and the next call tries again.
    pub fn sync(&self) -> io::Result<()> {
        let synced = self.log.sync();
        let mut state = self.state.lock();
        match synced {
            Ok(number) => {
                if state.sync_trouble.take().is_some() {
                    tracing::info!("the journal can be synced again");
                }
                drop(state);
                self.publish(number);
                Ok(())
            }
            Err(error) => {
                self.failures.fetch_add(1, Ordering::Relaxed);
                if state.sync_trouble.is_none() {
                    tracing::error!(%error, "the journal can't be synced; nothing is taken in until it can");
                }
                state.sync_trouble = Some(error.to_string());
                Err(error)
            }
        }
    }

    fn publish(&self, number: u64) {
        let moved = self.safe.send_if_modified(|safe| {
            let moved = number > *safe;
            *safe = number.max(*safe);
            moved
        });
        if moved {
            self.wakers.lock().iter().for_each(|wake| wake());
        }
    }

    /// The last epoch that an answer may be given for, and that readers may read.
    pub fn safe(&self) -> u64 {
        *self.safe.borrow()
    }

    /// Waits until `epoch` is safe; says whether it was within the time.
    pub async fn is_safe_within(&self, epoch: u64, timeout: Duration) -> bool {
        let mut safe = self.safe.subscribe();
        if *safe.borrow_and_update() >= epoch {
            return true;
        }
        let reached = tokio::time::timeout(timeout, safe.wait_for(|safe| *safe >= epoch)).await;
        matches!(reached, Ok(Ok(_)))
    }

    /// Why nothing is taken in at the moment, if so.
    pub fn trouble(&self) -> Option<String> {
        let state = self.state.lock();
        let troubles = [&state.append_trouble, &state.sync_trouble];
        troubles.into_iter().flatten().next().cloned().or_else(|| state.held.map(String::from))
    }

    /// Has nothing new taken in for a reason, or no more for it.
    pub fn hold(&self, why: Option<&'static str>) {
        self.state.lock().held = why;
    }

    /// A checkpoint holds every epoch up to `number`.
    pub fn checkpointed(&self, number: u64) {
        self.checkpointed.fetch_max(number, Ordering::Relaxed);
    }

    /// The last epoch that a checkpoint holds.
    pub fn checkpointed_epoch(&self) -> u64 {
        self.checkpointed.load(Ordering::Relaxed)
    }

    /// Deletes what the checkpoint holds and every storage has read up to `number`; then what is beyond the size.
    pub fn release(&self, number: u64) {
        let number = number.min(self.checkpointed.load(Ordering::Relaxed));
        if let Err(error) = self.log.release(number) {
            tracing::warn!(%error, "can't delete segments of the journal that nobody needs; trying again later");
        }
        self.shrink();
    }

    /// Calls nobody any more.
    pub fn forget_wakers(&self) {
        self.wakers.lock().clear();
    }

    /// Ends [`Keeper::commit_until_closed`] when all is durable, and the waiting of [`Keeper::append`] in any case.
    pub fn close(&self) {
        self.state.lock().closing = true;
        self.changed.notify_all();
    }
}
