//! Restoring: parts of a checkpoint become the shards and machines of any number of workers.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use operators::alert::Machine;
use operators::alerts::{AlertCounters, Machines, Source};
use operators::catalog::{Entry, ID_GAP_MAX};
use operators::packed::{Reader, Unreadable};
use operators::rollup::saved::{Notes, SavedGroup, SavedRollups};
use operators::rollup::{Groups, Sliced};
use operators::rule::{Rule, RuleChange};
use operators::sample::TimeNs;
use operators::window::saved::{Origin, load_series};
use operators::window::{Repeats, Resumption, Shard, ShardCounts};

use crate::checkpoint::{Head, Kind};
use crate::plan::Plan;

/// Why a snapshot can't be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotError(String);

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SnapshotError {}

/// What a snapshot held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Series with samples.
    pub series: u64,
    /// Their panes.
    pub panes: u64,
    /// Pairs of a rule and a source that it watches.
    pub alerts: u64,
}

/// A snapshot as it is read: state for the workers of `plan`.
///
/// Catalog entries first, then every part, in any order; then [`Engine::start_from`](crate::engine::Engine::start_from).
pub struct Snapshot {
    pub(crate) plan: Plan,
    pub(crate) entries: Arc<[Entry]>,
    pub(crate) shards: Vec<Shard>,
    pub(crate) groups: Vec<Groups>,
    pub(crate) machines: Vec<Machines>,
    pub(crate) group_machines: Vec<Machines>,
    /// The rules there were, or those of the plan where there is no part.
    pub(crate) rules: RuleChange,
    pub(crate) counters: Vec<AlertCounters>,
    pub(crate) restored: Restored,
    /// Series numbers are below it.
    series_end: u64,
    /// Of whom the parts are, once there is one.
    origin: Option<Origin>,
    arrival_ns: TimeNs,
    floor_ns: TimeNs,
    /// By old worker.
    workers: Vec<OldWorker>,
    /// Samples that were sent again while it was written.
    repeats: HashSet<(u64, u32)>,
    /// What stands before the groups in each part, and they themselves.
    saved_rollups: Vec<SavedRollups>,
    saved_groups: Vec<SavedGroup>,
    /// What rollups were given while it was written.
    sliced: Vec<(u64, Sliced)>,
}

/// What is known of a worker that wrote parts.
#[derive(Default)]
struct OldWorker {
    places: HashSet<u64>,
    /// Place of its last part, the epoch it ended at, its sums.
    end: Option<(u64, u64, ShardCounts)>,
}

impl Snapshot {
    /// Nothing yet. `entries` are those that epochs up to the snapshot's carried.
    ///
    /// # Errors
    /// If the plan is not sound.
    pub fn new(plan: Plan, entries: Vec<Entry>) -> Result<Snapshot, String> {
        plan.check()?;
        let windows = Arc::new(plan.windows.clone());
        let shards =
            (0..plan.workers).map(|worker| Shard::new(windows.clone(), worker, plan.workers)).collect();
        let counters: Vec<AlertCounters> = (0..plan.workers).map(|_| AlertCounters::default()).collect();
        let machines =
            counters.iter().map(|c| Machines::new(plan.patience(), plan.workers, c.clone())).collect();
        let with_groups = |c: &AlertCounters| {
            Machines::new(
                plan.patience_with_groups(),
                plan.workers,
                AlertCounters { bound: c.bound.clone(), ..AlertCounters::default() },
            )
        };
        let group_machines = counters.iter().map(with_groups).collect();
        let known_end = entries.iter().map(|entry| u64::from(entry.id) + 1).max().unwrap_or(0);
        let groups = (0..plan.workers).map(|_| Groups::new(windows.clone())).collect();
        Ok(Snapshot {
            plan,
            entries: entries.into(),
            shards,
            groups,
            machines,
            group_machines,
            rules: RuleChange::default(),
            counters,
            restored: Restored::default(),
            // Entries may have been lost with a record of the log, but not many more than there are.
            series_end: known_end + u64::from(ID_GAP_MAX),
            origin: None,
            arrival_ns: TimeNs::MIN,
            floor_ns: TimeNs::MIN,
            workers: Vec::new(),
            repeats: HashSet::new(),
            saved_rollups: Vec::new(),
            saved_groups: Vec::new(),
            sliced: Vec::new(),
        })
    }

    /// Reads the bytes of one part.
    ///
    /// # Errors
    /// If they are no part, or not of this snapshot; it can't be used then.
    pub fn add(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        let (head, reader) = Head::read(bytes).map_err(|error| SnapshotError(format!("part: {error}")))?;
        let Origin { worker, epoch, .. } = head.origin;
        self.add_part(head, reader).map_err(|error| {
            SnapshotError(format!("epoch {epoch}, worker {worker}, part {}: {error}", head.place))
        })
    }

    /// The epoch it belongs to; 0 while there is no part.
    pub fn epoch(&self) -> u64 {
        self.origin.map_or(0, |origin| origin.epoch)
    }

    /// The epoch from which on its answers are right: the log must reach at least as far.
    ///
    /// # Errors
    /// If a part is missing.
    pub fn end_epoch(&self) -> Result<u64, SnapshotError> {
        for (number, worker) in self.workers.iter().enumerate() {
            let found = worker.places.len() as u64;
            let missing = match worker.end {
                None => format!("the last part, found {found} others"),
                Some((last, ..)) if found != last + 1 => format!("{} parts, found {found}", last + 1),
                Some(_) => continue,
            };
            return Err(SnapshotError(format!(
                "epoch {}, worker {number}: expected {missing}",
                self.epoch()
            )));
        }
        Ok(self.ends().max().unwrap_or(0))
    }

    /// What it holds so far.
    pub fn restored(&self) -> Restored {
        self.restored
    }

    /// Alerts in it that are pending or firing: rule, source, state, and the value of the last transition.
    pub fn alerts(&self) -> impl Iterator<Item = (u32, Source, Machine, f64)> + '_ {
        self.machines.iter().chain(&self.group_machines).flat_map(Machines::live)
    }

    /// The rules that it has, by number.
    pub fn rules(&self) -> &[(u32, Rule)] {
        &self.rules.added
    }

    fn ends(&self) -> impl Iterator<Item = u64> {
        self.workers.iter().filter_map(|worker| worker.end.map(|(_, epoch, _)| epoch))
    }

    fn add_part(&mut self, head: Head, mut reader: Reader<'_>) -> Result<(), Unreadable> {
        let Head { kind, origin, place } = head;
        match self.origin {
            None => {
                if origin.workers > WORKERS_MAX {
                    return Err(
                        reader.wrong(format!("at most {WORKERS_MAX} workers, found {}", origin.workers))
                    );
                }
                self.origin = Some(origin);
                self.workers.resize_with(origin.workers as usize, OldWorker::default);
            }
            Some(before) if (before.workers, before.epoch) == (origin.workers, origin.epoch) => {}
            Some(before) => {
                let expected = format!("a part of {} workers at epoch {}", before.workers, before.epoch);
                return Err(reader.wrong(expected));
            }
        }
        let worker = &mut self.workers[origin.worker as usize];
        if worker.end.is_some_and(|(last, ..)| place > last) || !worker.places.insert(place) {
            return Err(reader.wrong("a part that was not read yet"));
        }
        match kind {
            Kind::Begin => self.begin(origin, &mut reader),
            Kind::Series => self.series(origin, &mut reader),
            Kind::Rollups => {
                let saved_groups = &mut self.saved_groups;
                let saved = Groups::load(&mut reader, |group| {
                    saved_groups.push(group);
                    Ok(())
                })?;
                self.saved_rollups.push(saved);
                Ok(())
            }
            Kind::End => {
                let end_epoch = origin.epoch.saturating_add(reader.varint()?);
                let counts = ShardCounts::load(&mut reader)?;
                Repeats::load(origin.epoch, &mut reader)?.add_to(&mut self.repeats);
                self.sliced.extend(Notes::load(origin.epoch, &mut reader)?);
                self.workers[origin.worker as usize].end = Some((place, end_epoch, counts));
                reader.end()
            }
        }
    }

    fn begin(&mut self, origin: Origin, reader: &mut Reader<'_>) -> Result<(), Unreadable> {
        let Snapshot { machines, group_machines, restored, plan, .. } = self;
        self.floor_ns = reader.signed()?;
        let twice = reader.wrong("a source whose alerts were not read yet");
        let saved = Machines::load(reader, self.series_end, |source| {
            restored.alerts += source.len() as u64;
            let workers = plan.workers as u64;
            let machines = match source.source {
                Source::Series(series) => &mut machines[(u64::from(series) % workers) as usize],
                Source::Group { group, .. } => &mut group_machines[(group % workers) as usize],
            };
            machines.restore(source).map_err(|_| twice.clone())
        })?;
        if self.rules.added.is_empty() {
            self.rules.added = saved.rules;
        }
        self.arrival_ns = saved.arrival_ns;
        let late = &self.counters[origin.worker as usize % plan.workers].late;
        late.fetch_add(saved.late, Ordering::Relaxed);
        Ok(())
    }

    fn series(&mut self, origin: Origin, reader: &mut Reader<'_>) -> Result<(), Unreadable> {
        let Snapshot { shards, restored, plan, series_end, .. } = self;
        let twice = reader.wrong("series that were not read yet");
        load_series(&plan.windows, origin, *series_end, reader, |series, stamp, history| {
            restored.series += 1;
            restored.panes += history.pane_count() as u64;
            let shard = &mut shards[series as usize % plan.workers];
            shard.restore(series, stamp, history).then_some(()).ok_or_else(|| twice.clone())
        })
    }

    /// Makes the shards and machines ready to go on behind [`Self::epoch`].
    pub(crate) fn resume(&mut self) -> Result<u64, SnapshotError> {
        let exact_from = self.end_epoch()?;
        if self.origin.is_none() {
            self.rules = self.plan.initial_rules();
        }
        let ends: Arc<[u64]> = self.ends().collect();
        let mut counts = vec![ShardCounts::default(); self.plan.workers];
        for (number, worker) in self.workers.iter().enumerate() {
            let (Some((.., more)), share) = (worker.end, number % self.plan.workers) else { continue };
            let sums = &mut counts[share];
            sums.samples = sums.samples.saturating_add(more.samples);
            sums.late = sums.late.saturating_add(more.late);
            sums.dropped = sums.dropped.saturating_add(more.dropped);
            sums.duplicates = sums.duplicates.saturating_add(more.duplicates);
            sums.duplicates_unsure = sums.duplicates_unsure.saturating_add(more.duplicates_unsure);
            sums.panes_given_up = sums.panes_given_up.saturating_add(more.panes_given_up);
        }
        let repeats = Arc::new(std::mem::take(&mut self.repeats));
        let (epoch, arrival_ns, floor_ns) = (self.epoch(), self.arrival_ns, self.floor_ns);
        for (index, (shard, counts)) in self.shards.iter_mut().zip(counts).enumerate() {
            let (ends, repeats) = (ends.clone(), repeats.clone());
            shard.resume(Resumption { index, epoch, arrival_ns, floor_ns, ends, repeats, counts });
            if let Some(closing) = &self.plan.closing {
                shard.close_windows(closing.clone(), index);
            }
            self.machines[index].resume(&self.rules, arrival_ns);
            self.group_machines[index].resume(&self.rules, arrival_ns);
        }
        self.resume_rollups()?;
        Ok(exact_from)
    }

    /// Makes the groups ready to go on, and the shards to give them what they gave before.
    fn resume_rollups(&mut self) -> Result<(), SnapshotError> {
        let (epoch, workers) = (self.epoch(), self.plan.workers);
        // Every worker knew the same rollups.
        let rollups = self.saved_rollups.first().map(|saved| saved.rollups.clone()).unwrap_or_default();
        for (index, shard) in self.shards.iter_mut().enumerate() {
            shard.resume_rollups(index, &rollups, &self.sliced);
            if let Some(saved) = self.saved_rollups.first() {
                self.groups[index].resume(epoch, saved, index == 0);
            }
        }
        for more in self.saved_rollups.iter().skip(1) {
            self.groups[0].add(more);
        }
        for saved in std::mem::take(&mut self.saved_groups) {
            let (rollup, group) = (saved.rollup, saved.group);
            if !self.groups[(group % workers as u64) as usize].put_back(saved) {
                let expected = "expected each group of a rollup once";
                return Err(SnapshotError(format!("epoch {epoch}: {expected}, found {group} of {rollup}")));
            }
        }
        self.sliced = Vec::new();
        Ok(())
    }
}

/// As many as a plan may have.
const WORKERS_MAX: u32 = 1024;
