//! A look at one series: what rollups have been told of it, and what of its panes is news to them.

use std::collections::BTreeSet;
use std::ops::Range;

use super::slice::Slice;
use super::{Scheme, ceil_to};
use crate::aggregate::Aggregate;
use crate::closing::Now;
use crate::history::History;
use crate::sample::{DurationNs, TimeNs};
use crate::tier::{WindowPlan, floor_to, series_clock_ns};

/// What rollups have been told of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) clock_ns: TimeNs,
    pub(super) is_silent: bool,
}

impl Binding {
    /// What a group is told of the clock: of a silent member its newest event time, in steps as well.
    pub(super) fn clock(&self, scheme: &Scheme, plan: &WindowPlan, history: &History, told: Told) -> Told {
        let clock_ns = if told.is_silent { newest_ns(plan, history) } else { told.clock_ns };
        Told { clock_ns: scheme.step(clock_ns, plan), ..told }
    }
}

impl Told {
    /// What was told by an arrival time at which nothing had come since: in silence, the clock goes on.
    pub(super) fn until(self, arrival_ns: TimeNs, plan: &WindowPlan) -> Told {
        let clock_ns = floor_to(arrival_ns, plan.tiers[0].width_ns);
        if self.is_silent { Told { clock_ns: self.clock_ns.max(clock_ns), ..self } } else { self }
    }
}

/// A look at a series.
pub(super) struct Look<'a> {
    pub(super) plan: &'a WindowPlan,
    pub(super) history: &'a History,
    pub(super) epoch: u64,
    pub(super) floor_ns: TimeNs,
    pub(super) clock_ns: TimeNs,
}

/// A series as a member of one rollup.
pub(super) struct Binding {
    pub(super) rollup: u32,
    /// 1 for what a ratio is divided by, else 0.
    pub(super) part: u8,
    pub(super) group: u64,
    /// Nothing was told of it yet.
    pub(super) is_new: bool,
    /// Its clock when it became a member, if it had samples then.
    pub(super) since_ns: Option<TimeNs>,
    /// The clock that its group has been told.
    pub(super) sent: Option<Told>,
}

/// What is to be told of a series at the end of an epoch; nothing before its first sample.
pub(super) fn told_now(plan: &WindowPlan, history: &History, now: Now) -> Option<Told> {
    let newest_ns = history.newest()?.time_ns;
    let last_arrival_ns = history.last_arrival_ns();
    let clock_ns = series_clock_ns(newest_ns, last_arrival_ns, now.arrival_ns, plan.idle_timeout_ns);
    let is_silent = now.arrival_ns.saturating_sub(last_arrival_ns) >= plan.idle_timeout_ns;
    Some(Told { clock_ns: floor_to(clock_ns, plan.tiers[0].width_ns), is_silent })
}

pub(super) fn newest_ns(plan: &WindowPlan, history: &History) -> TimeNs {
    history.newest().map_or(TimeNs::MIN, |obs| floor_to(obs.time_ns, plan.tiers[0].width_ns))
}

impl Look<'_> {
    pub(super) fn pane_ns(&self) -> DurationNs {
        self.plan.tiers[0].width_ns
    }

    /// Whether what lies in `range` is held as it was, in panes that fit into slices.
    pub(super) fn is_whole(&self, range: Range<TimeNs>, slice_ns: DurationNs) -> bool {
        let (plan, history) = (self.plan, self.history);
        let newest_ns = history.newest().map_or(TimeNs::MIN, |obs| obs.time_ns);
        let held_ns = plan.cutoff_ns(plan.tiers.len() - 1, newest_ns).max(self.floor_ns);
        let fits =
            history.coarsest_ns(plan, range.clone(), self.floor_ns).is_none_or(|ns| slice_ns % ns == 0);
        range.start >= held_ns && (range.start >= history.forgotten_ns()) && fits
    }

    pub(super) fn slices(&self, scheme: &Scheme, part: u8, range: Range<TimeNs>) -> Vec<(TimeNs, Aggregate)> {
        let with_values = scheme.part(part).needs_values;
        self.history.slices(self.plan, range, scheme.slice_ns, with_values, self.floor_ns)
    }

    /// Slices of a member that its group does not have as they are; and since when they are all there, of a new one
    /// that had samples.
    pub(super) fn news(
        &self,
        scheme: &Scheme,
        binding: &Binding,
        before: Option<Told>,
        touched: &[TimeNs],
        missed: &mut u64,
    ) -> (Option<TimeNs>, Vec<Slice>) {
        let slice_ns = scheme.slice_ns;
        let complete_ns = floor_to(self.clock_ns, slice_ns);
        let mut starts: BTreeSet<TimeNs> = BTreeSet::new();
        let (from_ns, held_ns) = match before {
            Some(told) => (floor_to(told.clock_ns, slice_ns), None),
            None if binding.since_ns.is_some() => {
                let from_ns = self.backfill_ns(scheme);
                (from_ns, Some(from_ns))
            }
            None => (ceil_to(self.floor_ns, slice_ns), None),
        };
        for time_ns in touched {
            let start_ns = floor_to(*time_ns, slice_ns);
            starts.insert(start_ns);
            let behind_ns = start_ns.saturating_add(slice_ns);
            if scheme.part(binding.part).needs_before
                && let Some(pane_ns) = self.history.first_from(self.plan, behind_ns)
            {
                let next_ns = floor_to(pane_ns, slice_ns);
                let last = self.history.before(self.plan, next_ns, self.floor_ns);
                if last.is_some_and(|last| last.time_ns == *time_ns) {
                    starts.insert(next_ns);
                }
            }
        }
        let mut next = Some(from_ns);
        while let Some(pane_ns) =
            next.and_then(|ns| self.history.first_from(self.plan, ns.max(self.floor_ns)))
        {
            let start_ns = floor_to(pane_ns, slice_ns);
            if start_ns >= complete_ns {
                break;
            }
            starts.insert(start_ns);
            next = start_ns.checked_add(slice_ns);
        }
        let mut slices = Vec::new();
        for start_ns in starts.into_iter().take_while(|start_ns| *start_ns < complete_ns) {
            match self.slice(scheme, binding.part, start_ns) {
                Ok(slice) => slices.extend(slice),
                Err(NotWhole) => *missed += 1,
            }
        }
        (held_ns, slices)
    }

    fn slice(&self, scheme: &Scheme, part: u8, start_ns: TimeNs) -> Result<Option<Slice>, NotWhole> {
        let range = start_ns..start_ns.saturating_add(scheme.slice_ns);
        if !self.is_whole(range.clone(), scheme.slice_ns) {
            return Err(NotWhole);
        }
        let needs_before = scheme.part(part).needs_before;
        let before = needs_before.then(|| self.history.before(self.plan, start_ns, self.floor_ns)).flatten();
        let found = self.slices(scheme, part, range).pop();
        Ok(found.and_then(|(start_ns, aggregate)| Slice::new(start_ns, before, aggregate)))
    }

    /// From where on a new rollup gets the slices of a series that has samples: all in the finest tier, and in others
    /// as far as its first windows reach.
    fn backfill_ns(&self, scheme: &Scheme) -> TimeNs {
        let (plan, rollup) = (self.plan, &scheme.rollup);
        let needed_ns = rollup.width_ns.saturating_add(rollup.hop_ns).saturating_add(rollup.correct_ns);
        let newest_ns = self.history.newest().map_or(TimeNs::MIN, |obs| obs.time_ns);
        let finest_ns = plan.cutoff_ns(0, newest_ns);
        let from_ns = finest_ns.min(self.clock_ns.saturating_sub(needed_ns));
        let last_ns = plan.cutoff_ns(plan.tiers.len() - 1, newest_ns).max(self.floor_ns);
        let from_ns = from_ns.max(last_ns).max(self.history.forgotten_ns());
        let fits = self
            .history
            .coarsest_ns(plan, from_ns..finest_ns.max(from_ns), self.floor_ns)
            .is_none_or(|ns| scheme.slice_ns % ns == 0);
        ceil_to(if fits { from_ns } else { finest_ns.max(from_ns) }, scheme.slice_ns)
    }
}

/// Part of a slice is held in coarser panes only, or no more.
struct NotWhole;
