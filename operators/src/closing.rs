//! Closed windows: what leaves of the finest panes once a series' clock has passed them, and again when they
//! change (law 4: a row goes out again under the same key with a higher revision).
//!
//! A pane is *closed* in the first epoch at whose end its end is not after the series' clock less the lateness.
//! Then it is given, once. It is given again at the end of each epoch in which a late sample changed it; also
//! if that sample became the last one before it and a function looks at that one (`increase`, `rate`). A late
//! sample may create the pane that it changes.
//!
//! What moves to a coarser tier is given before it moves, and what a series has when it is found to be gone
//! before it is forgotten. No row is given, but `missed` counts
//! - a late sample that fell into a coarser pane, or into one that was forgotten with a series that was gone,
//! - a pane that was given up for memory, or forgotten, before its series' clock had passed it.
//!
//! A series begins with the first sample that a pane takes, and with the finest tier of that moment: what falls into
//! a coarser pane is late from then on, in the same epoch too. A sample that no pane takes is not counted here,
//! whether it comes before that or after: it is one of those that were dropped.
//!
//! A row is a function of its series' own samples and of the arrival clock of the epochs, so neither the
//! number of workers nor how far the sweep has come shows in it, nor a restart: all that must be saved is in
//! [`History`]. `closed_ns` there says that every pane which ends at or before it was given.

mod row;

pub use row::{ClosedWindow, ClosingPlan};

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::ops::Range;

use crate::exchange::Owners;
use crate::history::{History, Placed};
use crate::pane::Obs;
use crate::sample::{SeriesId, TimeNs};
use crate::tier::{WindowPlan, floor_to, series_clock_ns};

/// Timers held beside two a series before those that count no more are dropped.
const TIMERS_SPARE_MAX: usize = 64;

/// Sums over what a shard closed, since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClosingCounts {
    /// Rows given, corrections included.
    pub rows: u64,
    /// Corrections of which, and panes of which, no row could be given (see the module).
    pub missed: u64,
}

/// The epoch that is being applied.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    /// Its number.
    pub(crate) epoch: u64,
    /// Its arrival time.
    pub(crate) arrival_ns: TimeNs,
    /// Panes that begin before it are given up.
    pub(crate) floor_ns: TimeNs,
}

/// What one worker knows of when its series' panes close. Can be made again from their histories.
pub(crate) struct Closing {
    plan: ClosingPlan,
    /// Number of the worker.
    index: usize,
    owners: Owners,
    watches: Vec<Watch>,
    /// Slots to look at when the epoch ends.
    queue: Vec<usize>,
    /// Closed panes that this epoch changed: slot and start.
    changed: BTreeSet<(usize, TimeNs)>,
    /// When, by the arrival clock, a pane of a silent series may close. An entry that is not its slot's
    /// `armed_ns` any more is passed over.
    timers: BinaryHeap<Reverse<(TimeNs, usize)>>,
    rows: Vec<ClosedWindow>,
    counts: ClosingCounts,
}

/// Which samples of a series must be looked at: those outside of `[from_ns, due_ns)`. At first, all.
#[derive(Clone, Copy)]
struct Watch {
    /// Start of the oldest pane that is not closed; the greatest time there is for none.
    from_ns: TimeNs,
    /// Event time that closes the next pane there may be; `QUEUED` when the series is looked at anyway.
    due_ns: TimeNs,
    /// The timer that counts; the greatest time there is for none.
    armed_ns: TimeNs,
}

const QUEUED: TimeNs = TimeNs::MAX;

impl Default for Watch {
    fn default() -> Self {
        Watch { from_ns: TimeNs::MAX, due_ns: TimeNs::MIN, armed_ns: TimeNs::MAX }
    }
}

impl Closing {
    /// Begins to close the panes of worker `index`, of which `series` are there already.
    pub(crate) fn new(
        plan: ClosingPlan,
        windows: &WindowPlan,
        index: usize,
        owners: Owners,
        series: &[History],
    ) -> Closing {
        // Whatever is due by now, the next epoch will find.
        let now = Now { epoch: 0, arrival_ns: TimeNs::MIN, floor_ns: TimeNs::MIN };
        let mut closing = Closing {
            plan,
            index,
            owners,
            watches: Vec::new(),
            queue: Vec::new(),
            changed: BTreeSet::new(),
            timers: BinaryHeap::new(),
            rows: Vec::new(),
            counts: ClosingCounts::default(),
        };
        for (slot, history) in series.iter().enumerate() {
            closing.watch(windows, history, slot, now);
        }
        closing
    }

    /// What was given, and what could not be.
    pub(crate) fn counts(&self) -> ClosingCounts {
        self.counts
    }

    /// Puts an observation into its history, and notes what that closes or corrects.
    #[inline]
    pub(crate) fn insert(
        &mut self,
        plan: &WindowPlan,
        history: &mut History,
        slot: usize,
        obs: Obs,
        now: Now,
    ) -> Placed {
        if obs.time_ns >= history.roll_at_ns() {
            self.close_what_rolls(plan, history, slot, obs.time_ns, now);
        }
        let placed = history.insert(plan, obs, now.epoch, now.arrival_ns, now.floor_ns);
        match self.watches.get_mut(slot) {
            Some(watch) if (watch.from_ns..watch.due_ns).contains(&obs.time_ns) => {}
            _ => self.note(plan, history, slot, obs.time_ns, placed, now.floor_ns),
        }
        placed
    }

    #[cold]
    fn note(
        &mut self,
        plan: &WindowPlan,
        history: &mut History,
        slot: usize,
        time_ns: TimeNs,
        placed: Placed,
        floor_ns: TimeNs,
    ) {
        if slot >= self.watches.len() {
            self.watches.resize_with(slot + 1, Watch::default);
        }
        // What no pane takes begins no series. Were it watched already, nobody would look at the sample that does.
        let Some(newest) = history.newest() else { return };
        // A new series begins with its finest tier: what comes for a coarser one is late from the first.
        if history.closed_ns == TimeNs::MIN {
            history.closed_ns = plan.cutoff_ns(0, newest.time_ns);
        }
        if time_ns >= history.closed_ns {
            let watch = &mut self.watches[slot];
            if watch.due_ns != QUEUED {
                (watch.from_ns, watch.due_ns) = (history.closed_ns, QUEUED);
                self.queue.push(slot);
            }
        } else if placed != Placed::Dropped {
            self.note_late(plan, history, slot, time_ns, floor_ns);
        }
    }

    /// Notes the closed panes that a late sample changed: its own, and the one that it is the last before.
    fn note_late(
        &mut self,
        plan: &WindowPlan,
        history: &History,
        slot: usize,
        time_ns: TimeNs,
        floor_ns: TimeNs,
    ) {
        let (panes, width_ns) = (history.finest(), plan.tiers[0].width_ns);
        let start_ns = floor_to(time_ns, width_ns);
        let own = panes.first_from(width_ns, start_ns) == Some(start_ns);
        if own && start_ns >= history.forgotten_ns() {
            self.changed.insert((slot, start_ns));
        } else {
            self.counts.missed += 1;
        }
        if !self.plan.needs_before() {
            return;
        }
        // What is after a coarser pane is the first of the finest.
        let next_ns = panes.first_from(width_ns, start_ns.saturating_add(1));
        let next_ns = next_ns.filter(|next_ns| (history.forgotten_ns()..history.closed_ns).contains(next_ns));
        let Some(next_ns) = next_ns else { return };
        let before = history.before(plan, next_ns, floor_ns);
        if before.is_some_and(|before| before.time_ns == time_ns) {
            self.changed.insert((slot, next_ns));
        }
    }

    /// Gives what moves to a coarser tier because of a sample at `time_ns`. It is behind the mark: the finest
    /// tier is held for at least the lateness.
    #[cold]
    fn close_what_rolls(
        &mut self,
        plan: &WindowPlan,
        history: &mut History,
        slot: usize,
        time_ns: TimeNs,
        now: Now,
    ) {
        if history.newest().is_none() {
            return;
        }
        let till_ns = plan.cutoff_ns(0, time_ns);
        let moving: Vec<_> = self.changed.range((slot, TimeNs::MIN)..(slot, till_ns)).copied().collect();
        for pane in moving {
            self.changed.remove(&pane);
            self.give(plan, history, slot, pane.1..pane.1.saturating_add(plan.tiers[0].width_ns), now);
        }
        self.close(plan, history, slot, till_ns, now);
        self.advance(plan, history, till_ns, now.floor_ns);
        if let Some(watch) = self.watches.get_mut(slot) {
            watch.from_ns = watch.from_ns.max(till_ns);
        }
    }

    /// Gives what a series has that is about to be forgotten.
    #[cold]
    pub(crate) fn close_what_is_forgotten(
        &mut self,
        plan: &WindowPlan,
        history: &mut History,
        slot: usize,
        now: Now,
    ) {
        self.look(plan, history, slot, now);
        self.count_given_up(plan, history, now.floor_ns);
    }

    /// Counts the panes before `till_ns`, given up and still there, that did not close.
    pub(crate) fn count_given_up(&mut self, plan: &WindowPlan, history: &History, till_ns: TimeNs) {
        if history.closed_ns < till_ns {
            let given_up = history.finest().count_in(plan.tiers[0].width_ns, history.closed_ns..till_ns);
            self.counts.missed += given_up as u64;
        }
    }

    /// Ends the epoch: gives what has become due, and what was corrected. In order of series and start.
    pub(crate) fn end_epoch(
        &mut self,
        plan: &WindowPlan,
        series: &mut [History],
        now: Now,
    ) -> Vec<ClosedWindow> {
        for slot in std::mem::take(&mut self.queue) {
            self.look(plan, &mut series[slot], slot, now);
        }
        self.run_timers(plan, series, now);
        for (slot, start_ns) in std::mem::take(&mut self.changed) {
            let range_ns = start_ns..start_ns.saturating_add(plan.tiers[0].width_ns);
            self.give(plan, &series[slot], slot, range_ns, now);
        }
        let mut rows = std::mem::take(&mut self.rows);
        rows.sort_unstable_by_key(|row| (row.series, row.start_ns));
        self.counts.rows += rows.len() as u64;
        rows
    }

    /// Looks at series that may have fallen silent.
    fn run_timers(&mut self, plan: &WindowPlan, series: &mut [History], now: Now) {
        if self.timers.len() > TIMERS_SPARE_MAX + 2 * self.watches.len() {
            let watches = &self.watches;
            self.timers.retain(|Reverse((wake_ns, slot))| watches[*slot].armed_ns == *wake_ns);
        }
        while let Some(&Reverse((wake_ns, slot))) = self.timers.peek() {
            if wake_ns > now.arrival_ns {
                break;
            }
            self.timers.pop();
            if self.watches[slot].armed_ns == wake_ns {
                self.watches[slot].armed_ns = TimeNs::MAX;
                self.look(plan, &mut series[slot], slot, now);
            }
        }
    }

    /// Gives what the series' clock has passed, and sees to it that it is looked at again in time.
    fn look(&mut self, plan: &WindowPlan, history: &mut History, slot: usize, now: Now) {
        let Some(newest) = history.newest() else { return self.watch(plan, history, slot, now) };
        let width_ns = plan.tiers[0].width_ns;
        let (newest_ns, last_arrival_ns) = (newest.time_ns, history.last_arrival_ns());
        let clock_ns = series_clock_ns(newest_ns, last_arrival_ns, now.arrival_ns, plan.idle_timeout_ns);
        let closed = |clock_ns: TimeNs| floor_to(clock_ns.saturating_sub(plan.lateness_ns), width_ns);
        let last_ns = self.close(plan, history, slot, closed(clock_ns), now);
        // In silence the arrival clock closes the panes that there are, and no others: the series goes on
        // where it was.
        self.advance(plan, history, closed(newest_ns).max(last_ns), now.floor_ns);
        if now.arrival_ns.saturating_sub(last_arrival_ns) > plan.retention_ns() {
            let open = history.closed_ns.max(now.floor_ns)..TimeNs::MAX;
            let shown = history.finest().count_in(width_ns, open) as u64;
            if shown > 0 {
                self.counts.missed += shown;
                let end_ns = floor_to(newest_ns, width_ns).saturating_add(width_ns);
                self.advance(plan, history, end_ns, now.floor_ns);
            }
        }
        self.watch(plan, history, slot, now);
    }

    /// Moves the mark, and counts what was given up before it could close. Of panes that were given up, and
    /// that nothing comes after, the sweep will know: where the mark is must not depend on how far that is.
    fn advance(&mut self, plan: &WindowPlan, history: &mut History, till_ns: TimeNs, floor_ns: TimeNs) {
        if till_ns > history.closed_ns {
            self.count_given_up(plan, history, till_ns.min(floor_ns));
            history.closed_ns = till_ns;
        }
    }

    /// Sets which samples are looked at next, and the timer.
    fn watch(&mut self, plan: &WindowPlan, history: &History, slot: usize, now: Now) {
        if slot >= self.watches.len() {
            self.watches.resize_with(slot + 1, Watch::default);
        }
        let watch = &mut self.watches[slot];
        let width_ns = plan.tiers[0].width_ns;
        let behind_ns = width_ns.saturating_add(plan.lateness_ns);
        let open = history.finest().first_from(width_ns, history.closed_ns.max(now.floor_ns));
        watch.from_ns = open.unwrap_or(TimeNs::MAX);
        watch.due_ns = history.closed_ns.saturating_add(behind_ns).min(QUEUED - 1);
        let Some(from_ns) = open else { return };
        let silent_ns = history.last_arrival_ns().saturating_add(plan.idle_timeout_ns);
        let due_ns = silent_ns.max(from_ns.saturating_add(behind_ns));
        // At the latest when the series is gone, while it still has its panes.
        let gone_ns = history.last_arrival_ns().saturating_add(plan.retention_ns()).saturating_add(1);
        let wake_ns = due_ns.min(gone_ns).max(now.arrival_ns.saturating_add(1));
        if wake_ns < watch.armed_ns {
            watch.armed_ns = wake_ns;
            self.timers.push(Reverse((wake_ns, slot)));
        }
    }

    /// Gives the panes that are not closed and end at or before `till_ns`; returns the end of the last of them,
    /// or the least time there is.
    fn close(
        &mut self,
        plan: &WindowPlan,
        history: &History,
        slot: usize,
        till_ns: TimeNs,
        now: Now,
    ) -> TimeNs {
        let (panes, width_ns) = (history.finest(), plan.tiers[0].width_ns);
        let from = panes.first_from(width_ns, history.closed_ns.max(now.floor_ns));
        let (Some(from_ns), Some(last_ns)) = (from, panes.last_below(width_ns, till_ns)) else {
            return TimeNs::MIN;
        };
        if from_ns > last_ns {
            return TimeNs::MIN;
        }
        self.give(plan, history, slot, from_ns..till_ns, now);
        last_ns.saturating_add(width_ns)
    }

    /// Gives the panes in a range of the finest tier.
    fn give(&mut self, plan: &WindowPlan, history: &History, slot: usize, range_ns: Range<TimeNs>, now: Now) {
        let series: SeriesId = self.owners.series(slot, self.index);
        let (width_ns, with_values) = (plan.tiers[0].width_ns, self.plan.needs_values());
        let rows = &mut self.rows;
        let functions = &self.plan.functions;
        history.windows(plan, range_ns, width_ns, with_values, now.floor_ns, |start_ns, window| {
            let values = functions.iter().map(|(_, function)| function.finish(window).unwrap_or(f64::NAN));
            rows.push(ClosedWindow {
                series,
                start_ns,
                width_ns,
                revision: now.epoch,
                count: window.count(),
                values: values.collect(),
            });
        });
    }
}

#[cfg(test)]
#[path = "closing_tests.rs"]
mod tests;
