//! All groups that a worker owns, and the operator that keeps them.
//!
//! Readers see whole epochs only: the worker is the one writer and locks once an epoch.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;

use parking_lot::RwLock;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Exchange;

use super::group::{At, Group, Said};
use super::update::Sliced;
use super::{Rollup, RollupChange, RollupRow, Scheme};
use crate::sample::{DurationNs, TimeNs};
use crate::stash::each_epoch;
use crate::tier::WindowPlan;
use crate::window::Control;

/// Timers held beside two a group before those that count no more are dropped.
const TIMERS_SPARE_MAX: usize = 64;

/// Sums over a worker's groups, for telemetry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupCounts {
    /// Rows given since the start, corrections included.
    pub rows: u64,
    /// Slices that came too late for a window of their group.
    pub missed: u64,
    /// Groups there are.
    pub groups: u64,
    /// Their members, those of each rollup by themselves.
    pub members: u64,
    /// Slices held.
    pub slices: u64,
    /// Windows held.
    pub windows: u64,
}

/// The groups of one worker.
pub struct Groups {
    plan: Arc<WindowPlan>,
    /// The last epoch applied.
    pub epoch: u64,
    /// Its arrival time.
    pub arrival_ns: TimeNs,
    rollups: BTreeMap<u32, Kept>,
    /// When, by the arrival clock, a group may have something to say. An entry that is not its group's `armed_ns`
    /// any more is passed over.
    timers: BinaryHeap<Reverse<(TimeNs, u32, u64)>>,
    groups_len: usize,
    rows: u64,
    missed: u64,
}

struct Kept {
    scheme: Scheme,
    groups: BTreeMap<u64, Group>,
}

impl Groups {
    /// No groups yet.
    pub fn new(plan: Arc<WindowPlan>) -> Groups {
        Groups {
            plan,
            epoch: 0,
            arrival_ns: TimeNs::MIN,
            rollups: BTreeMap::new(),
            timers: BinaryHeap::new(),
            groups_len: 0,
            rows: 0,
            missed: 0,
        }
    }

    /// Applies one epoch, and gives its rows in order of rollup, group and end.
    pub fn apply(&mut self, epoch: u64, controls: &[Control], sliced: Vec<Sliced>) -> Vec<RollupRow> {
        let before_ns = self.arrival_ns;
        let mut is_sealed = false;
        for control in controls {
            match control {
                Control::Seal { arrival_ns, .. } => {
                    (self.arrival_ns, is_sealed) = (*arrival_ns, true);
                }
                Control::Rollups(change) => self.change(change),
                Control::Bind { .. } | Control::Rules(_) | Control::Member { .. } => {}
            }
        }
        let mut rows = Vec::new();
        let mut dirty: BTreeSet<(u32, u64)> = BTreeSet::new();
        let mut updates = Vec::new();
        for sliced in sliced {
            match sliced {
                // A rollup that was taken away meanwhile has nothing more to say.
                Sliced::Row(row) if self.rollups.contains_key(&row.rollup) => rows.push(row),
                Sliced::Row(_) => {}
                Sliced::Member(update) => updates.push(update),
            }
        }
        // What an update says of time holds for the slices of all.
        for update in &updates {
            let key = (update.rollup, update.group);
            let Some(kept) = self.rollups.get_mut(&key.0) else { continue };
            let group = kept.groups.entry(key.1).or_insert_with(|| {
                self.groups_len += 1;
                Group::default()
            });
            if dirty.insert(key) {
                let before = At { plan: &self.plan, epoch: self.epoch, arrival_ns: before_ns };
                group.settle(&kept.scheme, before);
            }
            group.hold(&kept.scheme, update);
        }
        for update in updates {
            let kept = self.rollups.get_mut(&update.rollup);
            let Some(kept) = kept else { continue };
            if let Some(group) = kept.groups.get_mut(&update.group) {
                self.missed += group.update(&kept.scheme, update);
            }
        }
        self.epoch = epoch;
        if is_sealed {
            self.drop_old_timers();
            while let Some(&Reverse((wake_ns, rollup, group))) = self.timers.peek() {
                if wake_ns > self.arrival_ns {
                    break;
                }
                self.timers.pop();
                let held = self.rollups.get_mut(&rollup).and_then(|kept| kept.groups.get_mut(&group));
                if let Some(held) = held.filter(|held| held.armed_ns == wake_ns) {
                    held.armed_ns = TimeNs::MAX;
                    dirty.insert((rollup, group));
                }
            }
            for (rollup, group) in dirty {
                self.end_epoch(rollup, group, &mut rows);
            }
        }
        self.rows += rows.len() as u64;
        rows.sort_unstable_by_key(|row| (row.rollup, row.group, row.end_ns));
        rows
    }

    fn end_epoch(&mut self, rollup: u32, number: u64, rows: &mut Vec<RollupRow>) {
        let at = At { plan: &self.plan, epoch: self.epoch, arrival_ns: self.arrival_ns };
        let Some(kept) = self.rollups.get_mut(&rollup) else { return };
        let Some(group) = kept.groups.get_mut(&number) else { return };
        let width_ns = kept.scheme.rollup.width_ns;
        group.end_epoch(&kept.scheme, at, |end_ns, said| {
            rows.push(said.row(rollup, number, end_ns, width_ns));
        });
        if let Some(wake_ns) =
            group.next_wake_ns(&kept.scheme, at).filter(|wake_ns| *wake_ns < group.armed_ns)
        {
            group.armed_ns = wake_ns;
            self.timers.push(Reverse((wake_ns, rollup, number)));
        }
    }

    fn change(&mut self, change: &RollupChange) {
        for number in &change.removed {
            if let Some(gone) = self.rollups.remove(number) {
                self.groups_len -= gone.groups.len();
            }
        }
        for (number, rollup) in &change.added {
            // Who let it in has checked it.
            if let Ok(scheme) = Scheme::new(rollup.clone()) {
                self.rollups.entry(*number).or_insert(Kept { scheme, groups: BTreeMap::new() });
            }
        }
    }

    /// Keeps the timers to a few a group.
    fn drop_old_timers(&mut self) {
        if self.timers.len() <= TIMERS_SPARE_MAX + 2 * self.groups_len {
            return;
        }
        let rollups = &self.rollups;
        self.timers.retain(|Reverse((wake_ns, rollup, group))| {
            let held = rollups.get(rollup).and_then(|kept| kept.groups.get(group));
            held.is_some_and(|held| held.armed_ns == *wake_ns)
        });
    }

    /// The rollups there are, with their numbers.
    pub fn rollups(&self) -> impl Iterator<Item = (u32, &Arc<Rollup>)> {
        self.rollups.iter().map(|(number, kept)| (*number, &kept.scheme.rollup))
    }

    /// What is held of the groups of a rollup that this worker owns: group, and what was said by the ends of the
    /// windows. Series that stand for themselves are not among them: their windows are read off their panes.
    pub fn said(&self, rollup: u32) -> impl Iterator<Item = (u64, &BTreeMap<TimeNs, Said>)> {
        let groups = self.rollups.get(&rollup).map(|kept| &kept.groups);
        groups.into_iter().flatten().map(|(number, group)| (*number, group.said()))
    }

    /// Width of a rollup's windows.
    pub fn width_ns(&self, rollup: u32) -> Option<DurationNs> {
        self.rollups.get(&rollup).map(|kept| kept.scheme.rollup.width_ns)
    }

    /// What was given, and what is held.
    pub fn counts(&self) -> GroupCounts {
        let mut counts = GroupCounts { rows: self.rows, missed: self.missed, ..GroupCounts::default() };
        for group in self.rollups.values().flat_map(|kept| kept.groups.values()) {
            let (members, slices, windows) = group.held();
            counts.groups += 1;
            counts.members += members as u64;
            counts.slices += slices as u64;
            counts.windows += windows as u64;
        }
        counts
    }

    /// Makes the state one that depends on the epochs alone, and not on when which group was looked at. To be called
    /// before it is saved.
    pub fn settle(&mut self) {
        let at = At { plan: &self.plan, epoch: self.epoch, arrival_ns: self.arrival_ns };
        for kept in self.rollups.values_mut() {
            kept.groups.values_mut().for_each(|group| group.settle(&kept.scheme, at));
        }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (u32, u64, &Group)> {
        self.rollups
            .iter()
            .flat_map(|(number, kept)| kept.groups.iter().map(|(group, held)| (*number, *group, held)))
    }

    pub(super) fn sums(&self) -> (u64, u64) {
        (self.rows, self.missed)
    }

    /// Goes on behind an epoch, with the rollups that there were.
    pub(super) fn resume_with(&mut self, epoch: u64, arrival_ns: TimeNs, rollups: &RollupChange) {
        (self.epoch, self.arrival_ns) = (epoch, arrival_ns);
        self.change(rollups);
    }

    pub(super) fn add_sums(&mut self, rows: u64, missed: u64) {
        self.rows += rows;
        self.missed += missed;
    }

    /// Puts a saved group in its place; says whether the place was free.
    pub(super) fn restore(&mut self, rollup: u32, number: u64, group: Group) -> bool {
        let at = At { plan: &self.plan, epoch: self.epoch, arrival_ns: self.arrival_ns };
        let Some(kept) = self.rollups.get_mut(&rollup) else { return false };
        let mut group = group.restored();
        if let Some(wake_ns) = group.next_wake_ns(&kept.scheme, at) {
            group.armed_ns = wake_ns;
            self.timers.push(Reverse((wake_ns, rollup, number)));
        }
        self.groups_len += 1;
        kept.groups.insert(number, group).is_none()
    }
}

/// Keeps rollups.
pub trait Rollups<'scope> {
    /// Brings what shards give to the owners of the groups, and gives the rows of every epoch. `controls` are those
    /// of [`Windows::windows`](crate::window::Windows::windows). All rows of a group come from the same worker, and
    /// those of a series that stands for itself from the worker of the series. Between two epochs others may look at
    /// the groups.
    fn rollups(
        self,
        controls: StreamVec<'scope, u64, Control>,
        groups: Arc<RwLock<Groups>>,
    ) -> StreamVec<'scope, u64, RollupRow>;
}

impl<'scope> Rollups<'scope> for StreamVec<'scope, u64, Sliced> {
    fn rollups(
        self,
        controls: StreamVec<'scope, u64, Control>,
        groups: Arc<RwLock<Groups>>,
    ) -> StreamVec<'scope, u64, RollupRow> {
        let route = Exchange::new(Sliced::route);
        each_epoch("Rollups", self, route, controls, move |epoch, controls, chunks, out| {
            let rows = groups.write().apply(epoch, controls, chunks.into_iter().flatten().collect());
            rows.into_iter().for_each(out);
        })
    }
}
