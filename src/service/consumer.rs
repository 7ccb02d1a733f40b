//! The consumer's inner life: engine, door, storage, alerts; and the bus that feeds them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use dataflows::engine::{Callbacks, Engine};
use operators::catalog::Catalog;
use parking_lot::Mutex;

use super::storage::{Sources, Storages};
use super::upkeep::{Kept, Upkeep};
use super::{StartError, notifying, wiring};
use crate::alerts::AlertBoard;
use crate::bus::Receiver;
use crate::checkpoint::Checkpoints;
use crate::codec::Codec;
use crate::codec::decoder::Decoder;
use crate::codec::json::Json;
use crate::codec::reject::{Reason, RejectLog};
use crate::intake::{Clock, Intake};
use crate::journal::files::{Files, MemoryFiles};
use crate::journal::log::Log;
use crate::journal::recovery::Recovered;
use crate::keeper::{Durability, Keeper};
use crate::notify::receivers::{AllRunning, Place, Receivers};
use crate::notify::silence::Silences;
use crate::outbox::Outbox;
use crate::recovery::{self, Recovery, Restorer};
use crate::rollups::RollupBook;
use crate::rulebook::{RuleBook, RuleControl};
use crate::rules::store::RuleStore;
use crate::settings::Settings;
use crate::telemetry::Telemetry;

/// Everything that turns samples into windows, alerts and stored rows.
pub struct Consumer {
    /// The engine.
    pub engine: Arc<Engine>,
    /// The door.
    pub intake: Arc<Intake>,
    /// The catalog.
    pub catalog: Arc<Catalog>,
    /// Rejects.
    pub rejects: Arc<RejectLog>,
    /// Own counters.
    pub telemetry: Arc<Telemetry>,
    /// Alerts.
    pub board: Arc<AlertBoard>,
    /// The rules as they are written, which can be changed.
    pub written: Arc<RuleStore>,
    /// The rollups.
    pub rollups: Arc<RollupBook>,
    /// The journal.
    pub keeper: Arc<Keeper>,
    /// The storages.
    pub storages: Arc<Storages>,
    /// Checkpoints, and what is deleted when.
    pub upkeep: Arc<Upkeep>,
    /// What the start found.
    pub recovery: Arc<Recovery>,
    /// Who is told of alerts.
    pub receivers: Arc<Receivers>,
    /// What nobody is told of.
    pub silences: Arc<Silences>,
    /// What the alerts' edge calls now.
    pub clock: Clock,
    outbox: Arc<Outbox>,
    notifying: AllRunning,
    threads: Threads,
}

/// Each ends when what feeds it has ended.
struct Threads {
    sealer: JoinHandle<()>,
    committer: JoinHandle<()>,
    outbox: JoinHandle<()>,
    upkeep: JoinHandle<()>,
}

/// Where journal, outbox, checkpoints, cursors and dead letters are.
pub struct Places {
    files: Arc<dyn Files>,
    dir: PathBuf,
    durability: Durability,
}

impl Places {
    /// As the settings say, on `files`. A producer keeps what little it has in memory.
    pub fn new(settings: &Settings, files: Arc<dyn Files>) -> Places {
        let kept = settings.journal().map(wiring::durability).filter(|d| *d != Durability::Memory);
        let files: Arc<dyn Files> = if kept.is_some() { files } else { Arc::new(MemoryFiles::default()) };
        let dir = PathBuf::from(&settings.journal.path);
        Places { files, dir, durability: kept.unwrap_or(Durability::Memory) }
    }

    /// The directory of cursors and dead letters, if anything is kept.
    fn kept_dir(&self) -> Option<&Path> {
        (self.durability != Durability::Memory).then_some(&self.dir)
    }

    /// Where receivers of alerts keep their positions.
    pub(super) fn cursors(&self) -> Place {
        Place(self.kept_dir().map(|dir| dir.join("cursors")))
    }
}

impl Consumer {
    /// Restores what the journal holds, and starts engine, storages and receivers. Must be called within a tokio
    /// runtime.
    ///
    /// # Errors
    /// If one of them can't start.
    pub fn start(settings: &Settings, clock: Clock, places: &Places) -> Result<Consumer, StartError> {
        let telemetry = Arc::new(Telemetry::default());
        let catalog = Arc::new(Catalog::new(wiring::catalog_limits(settings)));
        let board = Arc::new(AlertBoard::new(catalog.clone()));
        let book = Mutex::default();
        let rollups = Arc::new(RollupBook::new(wiring::rollups(settings)));
        let Opened { keeper, found, outbox, checkpoints, journal_id } =
            open(settings, places, rollups.clone())?;
        let door = wiring::intake(settings);
        let intake =
            Arc::new(Intake::new(door, catalog.clone(), clock.clone(), keeper.clone(), telemetry.clone()));
        let restorer = Restorer {
            keeper: &keeper,
            checkpoints: checkpoints.as_ref(),
            catalog: &catalog,
            intake: &intake,
            outbox: &outbox,
            board: &board,
            book: &book,
            rollups: &rollups,
        };
        let restored = restorer.restore(wiring::plan(settings), callbacks(&intake, &outbox), &found);
        let (engine, recovery) =
            restored.map(|(e, r)| (Arc::new(e), Arc::new(r))).map_err(StartError::Journal)?;
        name_groups(&engine, &rollups, &board);
        outbox.recall(&board).map_err(|error| StartError::Journal(format!("outbox: {error}")))?;
        let silences = notifying::silences(settings, &places.cursors())?;
        let said =
            notifying::Said { outbox: &outbox, board: &board, checkpoint_epoch: recovery.checkpoint_epoch };
        let (receivers, running) = notifying::start(settings, &places.cursors(), &clock, &silences, &said)?;
        let sources = Sources { keeper: keeper.clone(), outbox: outbox.clone(), catalog: catalog.clone() };
        let storages = Storages::start(settings.storage.used(), &sources, places.kept_dir(), journal_id)?;
        let storages = Arc::new(storages);
        skip_lost(&intake, &recovery, storages.newest_cursor().max(outbox.log().appended()));
        wake_readers(&keeper, &storages, &outbox);
        let written = rules_in_force(settings, book, &board, &intake);
        rollups.apply(&intake);
        let upkeep = Arc::new(Upkeep::new(
            wiring::upkeep(settings),
            checkpoints,
            Kept {
                keeper: keeper.clone(),
                outbox: outbox.clone(),
                storages: storages.clone(),
                intake: intake.clone(),
                catalog: catalog.clone(),
                receivers: receivers.clone(),
            },
            &recovery,
        ));
        let threads = Threads {
            committer: spawn("journal", {
                let keeper = keeper.clone();
                move || keeper.commit_until_closed()
            })?,
            outbox: spawn("outbox", {
                let (outbox, board, receivers) = (outbox.clone(), board.clone(), receivers.clone());
                move || outbox.run(&board, &receivers)
            })?,
            sealer: spawn("intake", {
                let (intake, engine, upkeep) = (intake.clone(), engine.clone(), upkeep.clone());
                move || intake.seal_until_closed(&engine, |epoch| upkeep.between(&engine, epoch))
            })?,
            upkeep: spawn("upkeep", {
                let upkeep = upkeep.clone();
                move || upkeep.run()
            })?,
        };
        let rejects = Arc::new(RejectLog::new(settings.ingest.rejected_kept));
        Ok(Consumer {
            engine,
            intake,
            catalog,
            rejects,
            telemetry,
            board,
            written,
            rollups,
            keeper,
            storages,
            upkeep,
            recovery,
            receivers,
            silences,
            clock,
            outbox,
            notifying: running,
            threads,
        })
    }

    /// Stops in the order of the samples: door, journal, engine, outbox, storages, receivers, and a last checkpoint, so
    /// that the next start has nothing to replay. Blocks; `within` bounds it. Says whether nothing was lost.
    pub async fn stop(self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        let left = move || deadline.saturating_duration_since(Instant::now());
        self.intake.close();
        let Consumer {
            engine,
            keeper,
            outbox,
            storages,
            upkeep,
            telemetry,
            threads,
            notifying,
            receivers,
            ..
        } = self;
        let drained = tokio::task::spawn_blocking(move || {
            let Threads { sealer, committer, outbox: outbox_thread, upkeep: upkeep_thread } = threads;
            // Lets go of a journal that can't be written.
            if keeper.trouble().is_some() {
                keeper.close();
            }
            let _ = sealer.join();
            keeper.close();
            let _ = committer.join();
            upkeep.close();
            let _ = upkeep_thread.join();
            let checkpoint = upkeep.stop_engine(&engine);
            outbox.close();
            let _ = outbox_thread.join();
            let delivered = storages.stop(left().mul_f64(0.5));
            keeper.forget_wakers();
            if !checkpoint.wait() {
                tracing::warn!("no checkpoint at the end; the next start replays the journal");
            }
            let given_up = telemetry.samples_given_up.load(Ordering::Relaxed);
            // What is not delivered is in the journal, if there is one that stays.
            given_up == 0 && (delivered || upkeep.is_kept())
        });
        let drained = tokio::time::timeout(left(), drained).await;
        notifying.stop(left().min(Duration::from_secs(2))).await;
        receivers.store();
        matches!(drained, Ok(Ok(true)))
    }
}

/// Tells who speaks of groups what they are called.
fn name_groups(engine: &Engine, rollups: &RollupBook, board: &AlertBoard) {
    rollups.name_groups(engine.directory().clone());
    board.name_groups(engine.directory().clone());
}

/// Brings the rules of the settings into force, with a store that can change them.
fn rules_in_force(
    settings: &Settings,
    book: Mutex<RuleBook>,
    board: &Arc<AlertBoard>,
    intake: &Arc<Intake>,
) -> Arc<RuleStore> {
    let control = RuleControl::new(book, board.clone(), intake.clone());
    control.apply(wiring::rules(settings));
    let written = Arc::new(RuleStore::new(settings));
    if settings.alerts.enabled {
        let settings = settings.clone();
        written.wire(Box::new(move |wanted| {
            Ok(control.apply(wanted.iter().map(|rule| wiring::rule_in(rule, &settings)).collect()))
        }));
    }
    written
}

/// What is on disk.
struct Opened {
    keeper: Arc<Keeper>,
    found: Recovered,
    outbox: Arc<Outbox>,
    checkpoints: Option<Checkpoints>,
    journal_id: Option<u128>,
}

fn open(settings: &Settings, places: &Places, rollups: Arc<RollupBook>) -> Result<Opened, StartError> {
    let journal = |why: &dyn std::fmt::Display| StartError::Journal(why.to_string());
    let (log, outbox_log) = wiring::logs(settings, &places.dir);
    let config = wiring::keeper(settings, places.durability);
    let (keeper, found) = Keeper::open(places.files.clone(), log, config).map_err(|e| journal(&e))?;
    let keeper = Arc::new(keeper);
    let (outbox_log, _) = Log::open(places.files.clone(), outbox_log).map_err(|e| journal(&e))?;
    let functions = wiring::window_functions(settings);
    let outbox = Arc::new(Outbox::new(outbox_log, keeper.clone(), functions, rollups));
    let (mut checkpoints, mut journal_id) = (None, None);
    if let Some(dir) = places.kept_dir() {
        let place = Checkpoints::open(places.files.clone(), &dir.join("checkpoints"));
        checkpoints = Some(place.map_err(|e| journal(&e))?);
        let watched = dir.to_path_buf();
        keeper.watch_space(Box::new(move || {
            let disk = rustix::fs::statvfs(&watched).ok()?;
            Some(disk.f_bavail.saturating_mul(disk.f_frsize))
        }));
        journal_id = Some(recovery::identity(&*places.files, dir).map_err(|e| journal(&e))?);
    }
    Ok(Opened { keeper, found, outbox, checkpoints, journal_id })
}

/// Goes on behind `known`, the newest epoch that was stored or told, should the journal have lost it.
fn skip_lost(intake: &Intake, recovery: &Recovery, known: u64) {
    if known > recovery.last_epoch {
        tracing::error!(
            journal = recovery.last_epoch,
            known,
            "the journal has lost epochs that were stored or told already; going on behind them"
        );
        intake.skip_to(known);
    }
}

/// Wakes who reads the journal whenever it is safe up to a later epoch.
fn wake_readers(keeper: &Keeper, storages: &Arc<Storages>, outbox: &Arc<Outbox>) {
    let (storages, outbox) = (storages.clone(), outbox.clone());
    keeper.add_waker(Box::new(move || {
        storages.wake();
        outbox.wake();
    }));
}

fn callbacks(intake: &Arc<Intake>, outbox: &Arc<Outbox>) -> Callbacks {
    Callbacks {
        progress: Box::new({
            let (intake, outbox) = (intake.clone(), outbox.clone());
            move |epoch| {
                intake.completed(epoch);
                outbox.completed(epoch);
            }
        }),
        outbox: Arc::new({
            let outbox = outbox.clone();
            move |epoch, transitions| outbox.take(epoch, transitions)
        }),
        closed: Arc::new({
            let outbox = outbox.clone();
            move |epoch, windows| outbox.take_windows(epoch, windows)
        }),
        rolled: Arc::new({
            let outbox = outbox.clone();
            move |epoch, rows| outbox.take_rolled(epoch, &rows)
        }),
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StartError> {
    std::thread::Builder::new().name(name.into()).spawn(run).map_err(|e| StartError::Thread(e.to_string()))
}

/// Feeds what the bus receives to the door, until the receiver ends.
pub struct BusFeed {
    /// The door.
    pub intake: Arc<Intake>,
    /// Rejects.
    pub rejects: Arc<RejectLog>,
    /// Own counters.
    pub telemetry: Arc<Telemetry>,
    /// Decodes, remembering shapes.
    pub decoder: Decoder,
}

impl BusFeed {
    /// Runs until the receiver ends, or the door closes.
    pub async fn run(mut self, mut receiver: Receiver) {
        while let Some(batch) = receiver.recv().await {
            self.decoder.begin(self.intake.now_ns());
            for (topic, payload) in batch.iter() {
                self.decode(topic, payload);
            }
            drop(batch);
            self.rejects.add("bus", self.decoder.arrival_ns, &self.decoder.rejects);
            self.rejects.count(&self.decoder.untold);
            self.telemetry.bus_messages.fetch_add(self.decoder.messages, Ordering::Relaxed);
            // The next batch is likely to be as long; growing a vector step by step costs copies and fresh pages.
            let next = Vec::with_capacity(self.decoder.samples.len());
            let samples = std::mem::replace(&mut self.decoder.samples, next);
            let newest_ns = samples.iter().map(|sample| sample.time_ns).max();
            self.telemetry.accepted(samples.len(), newest_ns);
            let mut samples = Some(samples);
            while let Some(batch) = samples.take() {
                // Full: not reading the socket is how the bus is held back.
                self.intake.room().await;
                samples = self.intake.submit(batch).err().map(|full| full.0);
                if samples.is_some() && !self.intake.is_open() {
                    return;
                }
            }
        }
    }

    fn decode(&mut self, topic: &[u8], payload: &[u8]) {
        let service = topic.strip_prefix(b"metrics.").unwrap_or(topic);
        if self.decoder.default_service.as_bytes() != service {
            self.decoder.default_service.clear();
            self.decoder.default_service.push_str(std::str::from_utf8(service).unwrap_or_default());
        }
        if let Err(malformed) = Json.decode(payload, &mut self.decoder) {
            self.decoder.messages += 1;
            self.decoder.reject(None, Reason::Malformed, malformed.to_string());
        }
    }
}

impl Consumer {
    /// What `/status` says of the journal.
    pub fn journal_report(&self) -> impl Fn() -> serde_json::Value + Send + Sync + 'static {
        let (keeper, upkeep, recovery) = (self.keeper.clone(), self.upkeep.clone(), self.recovery.clone());
        move || {
            let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
            let (log, counters) = (keeper.log(), &upkeep.counters);
            serde_json::json!({
                "status": keeper.trouble().map_or("ok".into(), |why| format!("error: {why}")),
                "durability": format!("{:?}", keeper.config().durability).to_lowercase(),
                "appended_epoch": log.appended(), "durable_epoch": keeper.safe(),
                "bytes": log.bytes(), "bytes_max": keeper.config().bytes_max, "segments": log.segments(),
                "failures": load(&keeper.failures), "given_up_bytes": load(&keeper.given_up_bytes),
                "checkpoint": {
                    "written": load(&counters.checkpoints), "failed": load(&counters.failed),
                    "epoch": load(&counters.epoch), "bytes": load(&counters.bytes),
                    "seconds": load(&counters.micros) as f64 / 1e6,
                },
                "replayed_epochs": recovery.replayed_epochs, "recovery": *recovery,
            })
        }
    }
}
