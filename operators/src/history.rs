//! The history of one series: its clock, its panes in tiers, and what came too late for them.
//!
//! Panes grow old by the series' own newest event time, so a replayed or buffered past is held as long as
//! a live one. All movement between tiers happens when a sample arrives; nothing depends on who looks when.

use std::collections::VecDeque;
use std::ops::Range;

use crate::aggregate::Aggregate;
use crate::pane::{Obs, Pane};
use crate::sample::{DurationNs, TimeNs};
use crate::tier::{WindowPlan, floor_to};

/// Panes and clock of one series.
#[derive(Clone, Debug, Default)]
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
    /// Number of alert rules bound to the series.
    pub watchers: u32,
    /// Bytes when last measured.
    pub measured_bytes: u32,
    tiers: Vec<VecDeque<Pane>>,
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
                pane.insert(obs);
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
        pane.insert(obs);
        pane.revision = epoch;
        self.taken += 1;
        if start_ns.saturating_add(width_ns) <= self.newest_ns.saturating_sub(plan.lateness_ns) {
            self.late += 1;
            return Placed::Late;
        }
        Placed::InTime
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
                    append_coarser(&mut self.tiers[at + 1], pane, coarser.width_ns);
                }
            }
            let step_ns = plan.tiers.get(at + 1).map_or(plan.tiers[at].width_ns, |next| next.width_ns);
            let due_ns = cutoff_ns.saturating_add(step_ns).saturating_add(plan.tiers[at].retention_ns);
            next_at_ns = next_at_ns.min(due_ns);
        }
        self.roll_at_ns = next_at_ns;
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
    fn before(&self, plan: &WindowPlan, time_ns: TimeNs, floor_ns: TimeNs) -> Option<Obs> {
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

fn append_coarser(panes: &mut VecDeque<Pane>, pane: Pane, width_ns: DurationNs) {
    let start_ns = floor_to(pane.start_ns, width_ns);
    if panes.back().is_none_or(|last| last.start_ns < start_ns) {
        panes.push_back(Pane::new(start_ns, pane.raw().len()));
    }
    // A coarse pane is never newer than a pane of the finer tier: cut-offs are multiples of its width.
    if let Some(last) = panes.back_mut() {
        last.append(pane);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{HOUR, MINUTE, SECOND};

    fn insert_all(plan: &WindowPlan, samples: &[(i64, f64)]) -> History {
        let mut history = History::default();
        for (s, value) in samples {
            history.insert(plan, Obs { time_ns: s * SECOND, value: *value }, 1, 0, TimeNs::MIN);
        }
        history
    }

    fn counts(
        history: &History,
        plan: &WindowPlan,
        start_s: i64,
        end_s: i64,
        window_s: i64,
    ) -> Vec<(i64, u64)> {
        let mut found = Vec::new();
        let range = start_s * SECOND..end_s * SECOND;
        history.windows(plan, range, window_s * SECOND, false, TimeNs::MIN, |at, window| {
            found.push((at / SECOND, window.count()));
        });
        found
    }

    #[test]
    fn samples_fall_into_their_panes_in_any_order() {
        let plan = WindowPlan::default();
        let history = insert_all(&plan, &[(5, 1.0), (25, 1.0), (9, 1.0), (10, 1.0), (30, 1.0), (29, 1.0)]);
        assert_eq!(counts(&history, &plan, 0, 60, 10), [(0, 2), (10, 1), (20, 2), (30, 1)]);
        assert_eq!(counts(&history, &plan, 0, 60, 20), [(0, 3), (20, 3)]);
    }

    #[test]
    fn old_panes_become_coarse_and_then_go() {
        let plan = WindowPlan::default();
        let seconds = 13 * 3600;
        let samples: Vec<(i64, f64)> = (0..seconds).step_by(5).map(|s| (s, s as f64)).collect();
        let history = insert_all(&plan, &samples);
        let fine_from = (plan.cutoff_ns(0, (seconds - 5) * SECOND)) / SECOND;
        assert_eq!(fine_from % 60, 0);
        let all = counts(&history, &plan, 0, seconds, 60);
        assert!(all.iter().all(|(_, count)| *count == 12));
        assert_eq!(all.first().map(|(at, _)| *at), Some(plan.cutoff_ns(1, (seconds - 5) * SECOND) / SECOND));
        assert_eq!(history.coarsest_ns(&plan, 0..fine_from * SECOND, TimeNs::MIN), Some(MINUTE));
        assert_eq!(
            history.coarsest_ns(&plan, fine_from * SECOND..seconds * SECOND, TimeNs::MIN),
            Some(10 * SECOND)
        );
        // A straggler for a coarse pane still counts, one for a pane that is gone does not.
        let mut history = history;
        let straggler = Obs { time_ns: fine_from * SECOND - 30 * SECOND, value: 0.0 };
        assert_eq!(history.insert(&plan, straggler, 2, 0, TimeNs::MIN), Placed::Late);
        let ancient = Obs { time_ns: SECOND, value: 0.0 };
        assert_eq!(history.insert(&plan, ancient, 2, 0, TimeNs::MIN), Placed::Dropped);
        assert_eq!(history.counts().1, 1);
        assert_eq!(history.counts().2, 1);
    }

    #[test]
    fn a_counter_grows_across_panes_and_tiers() {
        let plan = WindowPlan::default();
        let samples: Vec<(i64, f64)> = (0..7200).map(|s| (s, (s % 1000) as f64)).collect();
        let history = insert_all(&plan, &samples);
        let mut total = 0.0;
        history.windows(&plan, 0..2 * HOUR, MINUTE, false, TimeNs::MIN, |_, window| {
            total += window.increase.unwrap_or(0.0);
        });
        // 7,199 steps of one, but the seven resets go from 999 to 0: nothing grew there.
        assert_eq!(total, 7199.0 - 7.0);
    }

    #[test]
    fn times_at_both_ends_fall_into_panes_of_their_own() {
        let plan = WindowPlan::default();
        // The first whole minute begins 16.85 s after the first moment there is; the last pane is cut short.
        let (first_ns, last_ns) = (floor_to(TimeNs::MIN, MINUTE), floor_to(TimeNs::MAX, 10 * SECOND));
        let times = [TimeNs::MIN, first_ns - 1, first_ns, first_ns + 9 * SECOND, first_ns + 10 * SECOND];
        let mut history = History::default();
        let mut placed = Vec::new();
        for time_ns in times {
            placed.push(history.insert(&plan, Obs { time_ns, value: 1.0 }, 1, 0, TimeNs::MIN));
        }
        assert_eq!(placed[..2], [Placed::Dropped, Placed::Dropped], "there is no pane for them");
        assert_eq!(placed[2..], [Placed::InTime; 3]);
        let found = |history: &History| {
            let mut found = Vec::new();
            history.windows(
                &plan,
                TimeNs::MIN..TimeNs::MAX,
                10 * SECOND,
                false,
                TimeNs::MIN,
                |at, window| {
                    found.push((at, window.count()));
                },
            );
            found
        };
        assert_eq!(found(&history), [(first_ns, 2), (first_ns + 10 * SECOND, 1)]);
        for time_ns in [last_ns - 1, last_ns, TimeNs::MAX - 1, TimeNs::MAX, TimeNs::MAX, TimeNs::MIN, last_ns]
        {
            history.insert(&plan, Obs { time_ns, value: 1.0 }, 2, 0, TimeNs::MIN);
        }
        assert_eq!(found(&history), [(last_ns - 10 * SECOND, 1), (last_ns, 5)]);
        assert_eq!(history.counts(), (9, 0, 3));
    }

    #[test]
    fn a_floor_hides_and_frees_what_lies_before_it() {
        let plan = WindowPlan::default();
        let samples: Vec<(i64, f64)> = (0..600).map(|s| (s, 1.0)).collect();
        let mut history = insert_all(&plan, &samples);
        let floor_ns = 300 * SECOND;
        let mut seen = 0;
        history.windows(&plan, 0..600 * SECOND, 10 * SECOND, false, floor_ns, |at, _| {
            assert!(at >= floor_ns);
            seen += 1;
        });
        assert_eq!(seen, 30);
        let before = history.bytes();
        assert_eq!(history.trim(floor_ns), 30);
        assert!(history.bytes() < before);
        let old = Obs { time_ns: 10 * SECOND, value: 1.0 };
        assert_eq!(history.insert(&plan, old, 9, 0, floor_ns), Placed::Dropped);
    }

    #[test]
    fn a_floor_inside_a_pane_takes_the_pane_whether_it_was_freed_or_not() {
        let plan = WindowPlan::default();
        let floor_ns = 595 * SECOND;
        let mut answers = Vec::new();
        for trims in [false, true] {
            let mut history = insert_all(&plan, &[(580, 1.0), (590, 2.0), (598, 3.0)]);
            if trims {
                assert_eq!(history.trim(floor_ns), 2);
            }
            let mut answer = Vec::new();
            for s in [599, 596, 600] {
                let obs = Obs { time_ns: s * SECOND, value: 4.0 };
                answer.push((history.insert(&plan, obs, 2, 0, floor_ns), 0, 0));
            }
            history.windows(&plan, 0..HOUR, 10 * SECOND, false, floor_ns, |at, window| {
                answer.push((Placed::InTime, at / SECOND, window.count()));
            });
            answers.push(answer);
        }
        let (gone, held) = ((Placed::Dropped, 0, 0), (Placed::InTime, 0, 0));
        assert_eq!(answers[0], [gone, gone, held, (Placed::InTime, 600, 1)]);
        assert_eq!(answers[1], answers[0]);
    }
}
