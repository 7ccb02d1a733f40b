//! The start: the newest good checkpoint, and behind it the journal, become the state again.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use dataflows::engine::{Callbacks, Engine};
use dataflows::epoch::Epoch;
use dataflows::plan::Plan;
use dataflows::restore::Snapshot;
use operators::catalog::{Catalog, Entry};
use operators::rule::RuleChange;
use operators::sample::TimeNs;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::alerts::AlertBoard;
use crate::checkpoint::Checkpoints;
use crate::intake::Intake;
use crate::journal::epochs::{self, KIND_EPOCH};
use crate::journal::files::Files;
use crate::journal::recovery::Recovered;
use crate::keeper::Keeper;
use crate::outbox::Outbox;
use crate::requests::RememberedRequest;
use crate::rollups::RollupBook;
use crate::rulebook::RuleBook;

/// Record kind of a checkpoint's head.
pub const HEAD: u8 = 1;
/// Record kind of catalog entries.
pub const ENTRIES: u8 = 2;
/// Record kind of remembered requests.
pub const REQUESTS: u8 = 3;
/// Record kind of a worker's part.
pub const PART: u8 = 4;

/// What a checkpoint begins with.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Head {
    /// The epoch that it is of.
    pub epoch: u64,
    /// Its arrival time.
    pub arrival_ns: TimeNs,
    /// Its floor.
    pub floor_ns: TimeNs,
}

/// What a start found and did.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Recovery {
    /// The epoch of the checkpoint that was loaded; 0 for none.
    pub checkpoint_epoch: u64,
    /// Checkpoints that could not be loaded.
    pub damaged_checkpoints: u64,
    /// Epochs of the journal behind it that were taken in again.
    pub replayed_epochs: u64,
    /// Samples in them.
    pub replayed_samples: u64,
    /// Epochs that are not in the journal any more: damaged.
    pub missing_epochs: u64,
    /// Records of the journal that are damaged, and bytes of torn writes at its end.
    pub damaged_records: u64,
    /// Bytes of a write that had not been finished, and of which nobody had been told.
    pub torn_bytes: u64,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// The last epoch.
    pub last_epoch: u64,
}

/// Everything that is filled again.
pub struct Restorer<'a> {
    /// The journal.
    pub keeper: &'a Keeper,
    /// Where checkpoints are, unless the journal is in memory.
    pub checkpoints: Option<&'a Checkpoints>,
    /// The catalog.
    pub catalog: &'a Catalog,
    /// The door.
    pub intake: &'a Intake,
    /// The outbox.
    pub outbox: &'a Outbox,
    /// The alerts.
    pub board: &'a AlertBoard,
    /// The rollups.
    pub rollups: &'a RollupBook,
    /// The rules.
    pub book: &'a Mutex<RuleBook>,
}

/// A checkpoint in memory.
struct Loaded {
    head: Head,
    entries: Vec<Entry>,
    requests: Vec<RememberedRequest>,
    snapshot: Snapshot,
}

impl Restorer<'_> {
    /// Starts an engine with the state that checkpoint and journal hold.
    ///
    /// # Errors
    /// The engine can't start, or the journal can't be read. Damage is none: it is counted and told.
    pub fn restore(
        &self,
        plan: Plan,
        callbacks: Callbacks,
        found: &Recovered,
    ) -> Result<(Engine, Recovery), String> {
        let began = Instant::now();
        let mut recovery = Recovery {
            damaged_records: found.damaged.len() as u64,
            torn_bytes: found.torn_bytes,
            ..Recovery::default()
        };
        for damage in &found.damaged {
            tracing::error!(?damage, "a record of the journal is damaged");
        }
        let loaded = self.newest(&plan, &mut recovery);
        let mut last = Epoch::default();
        let (engine, requests) = match loaded {
            None => (Engine::start(plan, callbacks)?, Vec::new()),
            Some(Loaded { head, entries, requests, snapshot }) => {
                recovery.checkpoint_epoch = head.epoch;
                last = Epoch {
                    number: head.epoch,
                    arrival_ns: head.arrival_ns,
                    floor_ns: head.floor_ns,
                    ..Epoch::default()
                };
                for misplaced in self.catalog.restore(&entries) {
                    tracing::error!(%misplaced, "a catalog entry of the checkpoint");
                }
                self.outbox.resume(head.epoch);
                self.learn(&RuleChange { removed: Vec::new(), added: snapshot.rules().to_vec() });
                for (rule, source, machine, said) in snapshot.alerts() {
                    self.board.restore(rule, source, &machine, said);
                }
                let engine = Engine::start_from(snapshot, callbacks, self.keeper.log().appended())?;
                self.rollups.note(&engine.rollups());
                (engine, requests)
            }
        };
        self.intake.resume(&last, requests.into_iter());
        let last = self.replay(&engine, last, &mut recovery).map_err(|e| e.to_string())?;
        engine.wait_for(last.number);
        self.intake.resume(&last, std::iter::empty());
        recovery.last_epoch = last.number;
        recovery.seconds = began.elapsed().as_secs_f64();
        if last.number > 0 {
            tracing::info!(
                checkpoint = recovery.checkpoint_epoch,
                epochs = recovery.replayed_epochs,
                samples = recovery.replayed_samples,
                missing = recovery.missing_epochs,
                seconds = recovery.seconds,
                "restored"
            );
        }
        Ok((engine, recovery))
    }

    /// The newest checkpoint that can be read.
    fn newest(&self, plan: &Plan, recovery: &mut Recovery) -> Option<Loaded> {
        let checkpoints = self.checkpoints?;
        let epochs = checkpoints.epochs().inspect_err(|error| {
            tracing::error!(%error, "checkpoints can't be listed; replaying the whole journal");
        });
        for epoch in epochs.unwrap_or_default() {
            match load(checkpoints, epoch, plan) {
                Ok(loaded) => return Some(loaded),
                Err(why) => {
                    recovery.damaged_checkpoints += 1;
                    tracing::error!(epoch, why, "a checkpoint can't be used; taking the one before");
                }
            }
        }
        None
    }

    /// Takes in again what the journal holds behind `last`; gives the last epoch of it.
    fn replay(&self, engine: &Engine, mut last: Epoch, recovery: &mut Recovery) -> io::Result<Epoch> {
        let log = self.keeper.log();
        let upto = log.appended();
        let mut reader = log.reader(last.number);
        while let Some(record) = reader.next(upto)? {
            if record.kind != KIND_EPOCH {
                // The same entries once more, for an epoch whose record is damaged.
                self.name(&epochs::decode_entries(record.payload).unwrap_or_default());
                continue;
            }
            let epoch = match epochs::decode(record.payload) {
                Ok(epoch) => epoch,
                Err(error) => {
                    tracing::error!(epoch = record.number, %error, "an epoch can't be decoded");
                    continue;
                }
            };
            self.fill(engine, &mut last, epoch.number, recovery);
            self.name(&epoch.entries);
            // A series whose entry was lost keeps its number, nameless: no other may get it.
            if let Some(id) = epoch.batches.iter().flatten().map(|sample| sample.series).max()
                && let Err(misplaced) = self.catalog.reserve(id)
            {
                tracing::error!(epoch = epoch.number, %misplaced, "an epoch speaks of a series far out");
            }
            let remembered =
                |request| RememberedRequest { arrival_ns: epoch.arrival_ns, epoch: epoch.number, request };
            let meta = Epoch {
                number: epoch.number,
                arrival_ns: epoch.arrival_ns,
                floor_ns: epoch.floor_ns,
                ..Epoch::default()
            };
            self.rollups.note(&epoch.rollups);
            if let Some(rules) = &epoch.rules {
                self.learn(rules);
            }
            self.intake.resume(&meta, epoch.requests.iter().copied().map(remembered));
            self.keeper.recent().push(&epoch, record.payload);
            recovery.replayed_epochs += 1;
            recovery.replayed_samples += epoch.len() as u64;
            engine.submit(Arc::new(epoch));
            last = meta;
        }
        // Numbers at the end that were given out but whose records are damaged.
        let end = last.number.max(upto);
        self.fill(engine, &mut last, end + 1, recovery);
        Ok(last)
    }

    fn learn(&self, rules: &RuleChange) {
        self.board.learn(rules);
        self.book.lock().note(rules);
    }

    fn name(&self, entries: &[Entry]) {
        for misplaced in self.catalog.restore(entries) {
            tracing::error!(%misplaced, "a catalog entry of the journal");
        }
    }

    /// Empty epochs in the place of those before `next` that are missing: the engine counts without gaps.
    fn fill(&self, engine: &Engine, last: &mut Epoch, next: u64, recovery: &mut Recovery) {
        while last.number + 1 < next {
            last.number += 1;
            recovery.missing_epochs += 1;
            let Epoch { number, arrival_ns, floor_ns, .. } = *last;
            engine.submit(Arc::new(Epoch { number, arrival_ns, floor_ns, ..Epoch::default() }));
        }
    }
}

/// Reads a checkpoint.
fn load(checkpoints: &Checkpoints, epoch: u64, plan: &Plan) -> Result<Loaded, String> {
    let (mut head, mut entries, mut requests) = (None, Vec::new(), Vec::new());
    let mut snapshot: Option<Snapshot> = None;
    checkpoints.read(epoch, |kind, content| {
        let unreadable = |error: &dyn std::fmt::Display| format!("a record of kind {kind}: {error}");
        match kind {
            HEAD => head = Some(postcard::from_bytes::<Head>(content).map_err(|e| unreadable(&e))?),
            ENTRIES => entries.append(&mut epochs::decode_entries(content).map_err(|e| unreadable(&e))?),
            REQUESTS => {
                let mut some: Vec<RememberedRequest> =
                    postcard::from_bytes(content).map_err(|e| unreadable(&e))?;
                requests.append(&mut some);
            }
            PART => {
                // Entries stand before the first part.
                let snapshot = match &mut snapshot {
                    Some(snapshot) => snapshot,
                    none => none.insert(Snapshot::new(plan.clone(), entries.clone())?),
                };
                snapshot.add(content).map_err(|e| unreadable(&e))?;
            }
            _ => return Err(format!("expected a known kind of record, found {kind}")),
        }
        Ok(())
    })?;
    let head: Head = head.ok_or("expected a head, found none")?;
    let snapshot = snapshot.ok_or("expected parts of workers, found none")?;
    snapshot.end_epoch().map_err(|e| e.to_string())?;
    Ok(Loaded { head, entries, requests, snapshot })
}

/// The identity of the journal in `dir`: a number drawn when it was begun. A storage that keeps its own position
/// knows by it whether the position is one of this journal.
///
/// # Errors
/// The file can't be read or written.
pub fn identity(files: &dyn Files, dir: &Path) -> io::Result<u128> {
    files.create_dir(dir)?;
    let path = dir.join("identity");
    let mut text = [0; 32];
    match files.open(&path) {
        Ok(file) => {
            let len = file.read_at(0, &mut text)?;
            let known = std::str::from_utf8(&text[..len]).ok().filter(|_| len == text.len());
            if let Some(id) = known.and_then(|hex| u128::from_str_radix(hex, 16).ok()) {
                return Ok(id);
            }
            // Torn by a crash at the very first start.
            files.remove(&path)?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    // Two keys of the hash tables' defence, which the system draws at random.
    let draw = || u128::from(RandomState::new().hash_one(0_u64));
    let id = draw() << 64 | draw();
    let file = files.create(&path)?;
    file.write_at(0, format!("{id:032x}").as_bytes())?;
    file.sync_data()?;
    files.sync_dir(dir)?;
    Ok(id)
}
