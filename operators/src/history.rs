//! The history of one series: its clock, its panes in tiers, and what came too late for them.
//!
//! Panes grow old by the series' own newest event time, so a replayed or buffered past is held as long as
//! a live one. All movement between tiers happens when a sample arrives; nothing depends on who looks when.

mod saved;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::ops::Range;

use crate::aggregate::Aggregate;
use crate::pane::{Obs, Pane, Seen};
use crate::sample::{DurationNs, TimeNs};
use crate::tier::{WindowPlan, floor_to};

/// Panes and clock of one series.
#[derive(Clone, Debug)]
pub struct History {
    /// Newest event time; meaningless while nothing came.
    newest_ns: TimeNs,
    last_arrival_ns: TimeNs,
    /// The latest value in event time.
    last_value: f64,
    /// When `newest_ns` reaches this, panes move to a coarser tier.
    roll_at_ns: TimeNs,
    /// Samples that changed a pane after it was final.
    late: u64,
    /// Samples that were too old for any pane.
    dropped: u64,
    /// Observations ever taken in.
    taken: u64,
    /// Up to where final windows have been sent out; the least time there is for none.
    pub closed_ns: TimeNs,
    /// Panes that begin before it were forgotten when the series was gone; the least time there is for none.
    forgotten_ns: TimeNs,
    /// Whether event times outlast the fold: samples came that may be sent again.
    keeps_times: bool,
    /// Number of alert rules bound to the series.
    pub watchers: u32,
    /// Bytes when last measured.
    pub measured_bytes: u32,
    tiers: Vec<VecDeque<Pane>>,
}

impl Default for History {
    fn default() -> Self {
        History {
            newest_ns: 0,
            last_arrival_ns: 0,
            last_value: 0.0,
            roll_at_ns: 0,
            late: 0,
            dropped: 0,
            taken: 0,
            closed_ns: TimeNs::MIN,
            forgotten_ns: TimeNs::MIN,
            keeps_times: false,
            watchers: 0,
            measured_bytes: 0,
            tiers: Vec::new(),
        }
    }
}

/// What became of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placed {
    /// In an open pane.
    InTime,
    /// In a pane that was final: a correction.
    Late,
    /// In none: too old.
    Dropped,
}

impl History {
    /// Takes in one observation at arrival time `arrival_ns` of epoch `epoch`. Panes that begin before `floor_ns`
    /// were given up for memory: they take nothing and show nothing, whether they have been freed yet or not.
    #[inline]
    pub fn insert(
        &mut self,
        plan: &WindowPlan,
        obs: Obs,
        epoch: u64,
        arrival_ns: TimeNs,
        floor_ns: TimeNs,
    ) -> Placed {
        self.last_arrival_ns = arrival_ns;
        if obs.time_ns < self.newest_ns || self.taken == 0 {
            return self.insert_slowly(plan, obs, epoch, floor_ns);
        }
        self.newest_ns = obs.time_ns;
        self.last_value = obs.value;
        if obs.time_ns >= self.roll_at_ns {
            self.roll(plan);
        }
        let width_ns = plan.tiers[0].width_ns;
        match self.tiers[0].back_mut() {
            // As unsigned numbers a time before the pane is beyond it too, and nothing overflows.
            Some(pane)
                if (obs.time_ns.wrapping_sub(pane.start_ns) as u64) < width_ns as u64
                    && pane.start_ns >= floor_ns =>
            {
                pane.insert_keeping(obs, self.keeps_times);
                pane.revision = epoch;
                self.taken += 1;
                Placed::InTime
            }
            _ => self.place(plan, obs, epoch, floor_ns),
        }
    }

    #[cold]
    fn insert_slowly(&mut self, plan: &WindowPlan, obs: Obs, epoch: u64, floor_ns: TimeNs) -> Placed {
        if self.taken == 0 {
            self.newest_ns = obs.time_ns;
            self.last_value = obs.value;
            self.tiers = vec![VecDeque::new(); plan.tiers.len()];
            self.roll(plan);
        }
        self.place(plan, obs, epoch, floor_ns)
    }

    /// Puts an observation into its pane of the tier its age says.
    fn place(&mut self, plan: &WindowPlan, obs: Obs, epoch: u64, floor_ns: TimeNs) -> Placed {
        let age_ns = self.newest_ns.saturating_sub(obs.time_ns);
        let tier = (0..plan.tiers.len()).find(|at| obs.time_ns >= plan.cutoff_ns(*at, self.newest_ns));
        let pane = tier
            .map(|tier| self.tier_of(plan, tier, obs.time_ns))
            .filter(|_| age_ns <= plan.correction_horizon_ns)
            .map(|tier| (tier, plan.tiers[tier].width_ns, floor_to(obs.time_ns, plan.tiers[tier].width_ns)));
        let Some((tier, width_ns, start_ns)) = pane.filter(|(.., start_ns)| *start_ns >= floor_ns) else {
            self.dropped += 1;
            return Placed::Dropped;
        };
        let panes = &mut self.tiers[tier];
        let at = panes.partition_point(|pane| pane.start_ns < start_ns);
        if panes.get(at).is_none_or(|pane| pane.start_ns != start_ns) {
            let expected_len = panes.back().map_or(1, |before| before.count() as usize + 1);
            panes.insert(at, Pane::new(start_ns, expected_len));
        }
        let pane = &mut panes[at];
        pane.insert_keeping(obs, self.keeps_times);
        pane.revision = epoch;
        self.taken += 1;
        if start_ns.saturating_add(width_ns) <= self.newest_ns.saturating_sub(plan.lateness_ns) {
            self.late += 1;
            return Placed::Late;
        }
        Placed::InTime
    }

    /// The tier that holds `time_ns`, `finest` or a coarser one: where a tier was held for less time when the
    /// state was saved, the coarser panes that were made then stay.
    #[inline]
    fn tier_of(&self, plan: &WindowPlan, finest: usize, time_ns: TimeNs) -> usize {
        let newer = |at: usize| self.tiers[at].back().is_none_or(|pane| pane.start_ns > time_ns);
        let coarse = |at: usize| {
            let end_ns = |pane: &Pane| pane.start_ns.saturating_add(plan.tiers[at].width_ns);
            self.tiers[at].back().is_some_and(|pane| end_ns(pane) > time_ns)
        };
        // What comes behind a pane of the finest tier can't lie in a coarser one.
        if !newer(finest) {
            finest
        } else {
            (finest + 1..self.tiers.len()).rfind(|at| coarse(*at)).unwrap_or(finest)
        }
    }

    /// Moves panes that have grown too old for their tier into the next; the last tier's go.
    #[cold]
    fn roll(&mut self, plan: &WindowPlan) {
        let mut next_at_ns = TimeNs::MAX;
        for at in 0..plan.tiers.len() {
            let cutoff_ns = plan.cutoff_ns(at, self.newest_ns);
            while self.tiers[at].front().is_some_and(|pane| pane.start_ns < cutoff_ns) {
                let Some(pane) = self.tiers[at].pop_front() else { break };
                if let Some(coarser) = plan.tiers.get(at + 1) {
                    append_coarser(&mut self.tiers[at + 1], pane, coarser.width_ns, self.keeps_times);
                }
            }
            let step_ns = plan.tiers.get(at + 1).map_or(plan.tiers[at].width_ns, |next| next.width_ns);
            let due_ns = cutoff_ns.saturating_add(step_ns).saturating_add(plan.tiers[at].retention_ns);
            next_at_ns = next_at_ns.min(due_ns);
        }
        self.roll_at_ns = next_at_ns;
    }

    /// Whether an observation at exactly `time_ns` was taken in, of a series whose observations are never two at
    /// one time; from now on it remembers their times. What lies in panes before `floor_ns` was not seen: they
    /// take nothing anyway.
    #[inline]
    pub fn seen(&mut self, plan: &WindowPlan, time_ns: TimeNs, floor_ns: TimeNs) -> Seen {
        self.keeps_times = true;
        if time_ns > self.newest_ns || self.taken == 0 {
            Seen::No
        } else {
            self.search(plan, time_ns, floor_ns)
        }
    }

    #[cold]
    fn search(&self, plan: &WindowPlan, time_ns: TimeNs, floor_ns: TimeNs) -> Seen {
        let pane = self.tiers.iter().zip(&plan.tiers).find_map(|(panes, tier)| {
            let start_ns = floor_to(time_ns, tier.width_ns);
            let at = panes.binary_search_by_key(&start_ns, |pane| pane.start_ns).ok()?;
            Some(&panes[at])
        });
        match pane.filter(|pane| pane.start_ns >= floor_ns).map_or(Seen::No, |pane| pane.seen(time_ns)) {
            Seen::No if time_ns < self.forgotten_ns => Seen::Unsure,
            seen => seen,
        }
    }

    /// Newest event time and its value; `None` before the first sample.
    pub fn newest(&self) -> Option<Obs> {
        (self.taken > 0).then_some(Obs { time_ns: self.newest_ns, value: self.last_value })
    }

    /// Arrival time of the last sample.
    pub fn last_arrival_ns(&self) -> TimeNs {
        self.last_arrival_ns
    }

    /// Observations taken in, late ones, and those too old for any pane.
    pub fn counts(&self) -> (u64, u64, u64) {
        (self.taken, self.late, self.dropped)
    }

    /// Panes that overlap `range` and do not begin before `floor_ns`, with their width, in time order.
    fn panes<'a>(
        &'a self,
        plan: &'a WindowPlan,
        range: Range<TimeNs>,
        floor_ns: TimeNs,
    ) -> impl Iterator<Item = (&'a Pane, DurationNs)> {
        let Range { start: start_ns, end: end_ns } = range;
        self.tiers.iter().zip(&plan.tiers).rev().flat_map(move |(panes, tier)| {
            let floor = panes.partition_point(|pane| pane.start_ns < floor_ns);
            let from = panes
                .partition_point(|pane| pane.start_ns.saturating_add(tier.width_ns) <= start_ns)
                .max(floor);
            let till = panes.partition_point(|pane| pane.start_ns < end_ns).max(from);
            panes.range(from..till).map(|pane| (pane, tier.width_ns))
        })
    }

    /// Width of the coarsest pane that overlaps `range` and does not begin before `floor_ns`.
    pub fn coarsest_ns(
        &self,
        plan: &WindowPlan,
        range: Range<TimeNs>,
        floor_ns: TimeNs,
    ) -> Option<DurationNs> {
        self.panes(plan, range, floor_ns).map(|(_, width_ns)| width_ns).max()
    }

    /// The last observation before `time_ns` in panes that begin at or after `floor_ns`.
    pub(crate) fn before(&self, plan: &WindowPlan, time_ns: TimeNs, floor_ns: TimeNs) -> Option<Obs> {
        self.tiers.iter().zip(&plan.tiers).find_map(|(panes, tier)| {
            let at = panes.partition_point(|pane| pane.start_ns.saturating_add(tier.width_ns) <= time_ns);
            panes.range(..at).next_back().filter(|pane| pane.start_ns >= floor_ns)?.last()
        })
    }

    /// Calls `found` with the start and the aggregate of every window of width `window_ns` that has
    /// samples in `range` and panes from `floor_ns` on, in time order. Bounds and width must be multiples of the pane width.
    pub fn windows(
        &self,
        plan: &WindowPlan,
        range: Range<TimeNs>,
        window_ns: DurationNs,
        with_values: bool,
        floor_ns: TimeNs,
        mut found: impl FnMut(TimeNs, Aggregate),
    ) {
        let mut open: Option<(TimeNs, Aggregate)> = None;
        let mut before = self.before(plan, range.start, floor_ns);
        let mut last = before;
        for (pane, _) in self.panes(plan, range, floor_ns) {
            let start_ns = floor_to(pane.start_ns, window_ns);
            if open.as_ref().is_none_or(|(at, _)| *at != start_ns) {
                if let Some((at, mut window)) = open.take() {
                    window.close(before);
                    found(at, window);
                }
                before = last;
                open = Some((start_ns, Aggregate::new(with_values)));
            }
            if let Some((_, window)) = &mut open {
                window.append_pane(pane);
            }
            last = pane.last().or(last);
        }
        if let Some((at, mut window)) = open {
            window.close(before);
            found(at, window);
        }
    }

    /// Start of the oldest pane.
    pub fn oldest_ns(&self) -> Option<TimeNs> {
        self.tiers.iter().filter_map(|panes| panes.front()).map(|pane| pane.start_ns).min()
    }

    /// Number of panes held.
    pub fn pane_count(&self) -> usize {
        self.tiers.iter().map(VecDeque::len).sum()
    }

    /// Panes of the finest tier, in time order.
    pub(crate) fn finest(&self) -> Option<&VecDeque<Pane>> {
        self.tiers.first()
    }

    /// Event time from which on panes move to a coarser tier.
    #[inline]
    pub(crate) fn roll_at_ns(&self) -> TimeNs {
        self.roll_at_ns
    }

    /// Panes that begin before it were forgotten when the series was gone.
    pub(crate) fn forgotten_ns(&self) -> TimeNs {
        self.forgotten_ns
    }

    /// Gives up panes that begin before `floor_ns`, and spare memory of closed ones. Returns how many panes went.
    pub fn trim(&mut self, floor_ns: TimeNs) -> u64 {
        let mut gone = 0;
        for panes in &mut self.tiers {
            while panes.front().is_some_and(|pane| pane.start_ns < floor_ns) {
                panes.pop_front();
                gone += 1;
            }
            if panes.capacity() > 4 * panes.len() + 8 {
                panes.shrink_to(2 * panes.len());
            }
            let closed = panes.len().saturating_sub(1);
            panes.range_mut(closed.saturating_sub(4)..closed).for_each(Pane::shrink);
        }
        gone
    }

    /// Forgets all panes of a series that is gone.
    pub fn forget(&mut self) -> u64 {
        let gone = self.pane_count() as u64;
        if self.taken > 0 {
            self.forgotten_ns = self.newest_ns.saturating_add(1);
        }
        self.tiers.iter_mut().for_each(|panes| *panes = VecDeque::new());
        gone
    }

    /// Bytes held, the history itself included.
    pub fn bytes(&self) -> usize {
        let spare = |panes: &VecDeque<Pane>| (panes.capacity() - panes.len()) * size_of::<Pane>();
        let held = |panes: &VecDeque<Pane>| panes.iter().map(Pane::bytes).sum::<usize>() + spare(panes);
        size_of::<History>()
            + self.tiers.capacity() * size_of::<VecDeque<Pane>>()
            + self.tiers.iter().map(held).sum::<usize>()
    }
}

fn append_coarser(panes: &mut VecDeque<Pane>, pane: Pane, width_ns: DurationNs, times: bool) {
    let start_ns = floor_to(pane.start_ns, width_ns);
    if panes.back().is_none_or(|last| last.start_ns < start_ns) {
        panes.push_back(Pane::new(start_ns, pane.raw().len()));
    }
    // A coarse pane is never newer than a pane of the finer tier: cut-offs are multiples of its width.
    if let Some(last) = panes.back_mut() {
        last.append(pane, times);
    }
}
