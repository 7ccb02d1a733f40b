//! The history of one series: its clock, its panes in tiers, and what came too late for them.
//!
//! Panes grow old by the series' own newest event time, so a replayed or buffered past is held as long as
//! a live one. All movement between tiers happens when a sample arrives; nothing depends on who looks when.

pub mod observed;
mod quiet;
mod saved;
#[cfg(test)]
mod tests;

use std::ops::Range;

use crate::aggregate::Aggregate;
use crate::pane::run::Run;
use crate::pane::{Obs, Pane, Seen};
use crate::sample::{DurationNs, TimeNs};
use crate::tier::{WindowPlan, floor_to};

/// Panes and clock of one series. What a sample in time order needs stands in front, in one line of a cache.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub struct History {
    /// Newest event time; meaningless while nothing came.
    newest_ns: TimeNs,
    /// Event times from the newest up to here fall into the newest pane, and move none to a coarser tier. Below every
    /// time while there is no pane.
    run_up_to_ns: TimeNs,
    last_arrival_ns: TimeNs,
    /// The latest value in event time.
    last_value: f64,
    /// Observations ever taken in.
    taken: u64,
    /// Number of alert rules bound to the series.
    pub watchers: u32,
    /// Place among the members of rollups, from one on; zero for none.
    pub(crate) member: u32,
    /// From the first to the second, both included, nothing happens in its alerts. See [`Self::hush`].
    quiet: (f32, f32),
    /// The epoch, its lower half, of the newest value that alerts were given or that is owed to them.
    watched_in: u32,
    /// How many of the newest observations are owed to alerts.
    owed: u16,
    /// How many of them came before that epoch.
    owed_before: u16,
    /// Panes of the finest tier.
    finest: Run,
    /// Those of the others; none until there are any.
    coarser: Option<Box<[Run]>>,
    /// When `newest_ns` reaches this, panes move to a coarser tier.
    roll_at_ns: TimeNs,
    /// Samples that changed a pane after it was final.
    late: u32,
    /// Samples that were too old for any pane.
    dropped: u32,
    /// Up to where final windows have been sent out; the least time there is for none.
    pub closed_ns: TimeNs,
    /// Panes that begin before it were forgotten when the series was gone; the least time there is for none.
    forgotten_ns: TimeNs,
    /// Bytes when last measured.
    pub measured_bytes: u32,
    /// Whether a sample ever came.
    known: bool,
    /// Whether event times outlast the fold: samples came that may be sent again.
    keeps_times: bool,
    /// Whether what is owed are all the values that alerts need, and may stand in more than the newest pane.
    lent: bool,
}

impl Default for History {
    fn default() -> Self {
        History {
            newest_ns: 0,
            run_up_to_ns: TimeNs::MIN,
            last_arrival_ns: 0,
            last_value: 0.0,
            taken: 0,
            watchers: 0,
            member: 0,
            quiet: quiet::AWAKE,
            watched_in: 0,
            owed: 0,
            owed_before: 0,
            finest: Run::default(),
            coarser: None,
            roll_at_ns: 0,
            late: 0,
            dropped: 0,
            closed_ns: TimeNs::MIN,
            forgotten_ns: TimeNs::MIN,
            measured_bytes: 0,
            known: false,
            keeps_times: false,
            lent: false,
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
    /// Reads the places that [`Self::insert`] will write to.
    #[inline]
    pub(crate) fn touch(&self) -> TimeNs {
        self.newest_ns ^ self.finest.touch()
    }

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
        if self.follows(obs.time_ns, floor_ns) {
            let pane = self.finest.newest_mut();
            pane.append(obs, self.keeps_times);
            pane.revision = epoch;
            self.newest_ns = obs.time_ns;
            self.last_value = obs.value;
            self.taken += 1;
            return Placed::InTime;
        }
        self.insert_slowly(plan, obs, epoch, floor_ns)
    }

    /// Whether what has this event time is the next observation of the newest pane.
    #[inline]
    fn follows(&self, time_ns: TimeNs, floor_ns: TimeNs) -> bool {
        time_ns >= self.newest_ns && time_ns < self.run_up_to_ns && self.finest.newest().start_ns >= floor_ns
    }

    /// What is not simply the next observation of the newest pane.
    #[inline(never)]
    fn insert_slowly(&mut self, plan: &WindowPlan, obs: Obs, epoch: u64, floor_ns: TimeNs) -> Placed {
        let begins = self.taken == 0;
        if begins || obs.time_ns >= self.newest_ns {
            self.known = true;
            self.newest_ns = obs.time_ns;
            self.last_value = obs.value;
            if begins || obs.time_ns >= self.roll_at_ns {
                self.roll(plan);
            }
        }
        let placed = self.place(plan, obs, epoch, floor_ns);
        self.set_run(plan);
        placed
    }

    /// Finds out up to where observations fall into the newest pane of the finest tier.
    fn set_run(&mut self, plan: &WindowPlan) {
        let end_ns = |start_ns: TimeNs| start_ns.saturating_add(plan.tiers[0].width_ns);
        let newest = self.finest.newest_start().filter(|start_ns| *start_ns <= self.newest_ns);
        self.run_up_to_ns = newest.map_or(TimeNs::MIN, |start_ns| end_ns(start_ns).min(self.roll_at_ns));
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
            self.dropped = self.dropped.saturating_add(1);
            return Placed::Dropped;
        };
        let times = self.keeps_times;
        let pane = self.run_mut(plan, tier).pane_mut(width_ns, start_ns);
        pane.insert_keeping(obs, times);
        pane.revision = epoch;
        self.taken += 1;
        if start_ns.saturating_add(width_ns) <= self.newest_ns.saturating_sub(plan.lateness_ns) {
            self.late = self.late.saturating_add(1);
            return Placed::Late;
        }
        Placed::InTime
    }

    /// The tier that holds `time_ns`, `finest` or a coarser one: where a tier was held for less time when the
    /// state was saved, the coarser panes that were made then stay.
    #[inline]
    fn tier_of(&self, plan: &WindowPlan, finest: usize, time_ns: TimeNs) -> usize {
        let newest = |at: usize| self.run(at).and_then(Run::newest_start);
        let coarse = |at: usize| {
            newest(at).is_some_and(|start_ns| start_ns.saturating_add(plan.tiers[at].width_ns) > time_ns)
        };
        // What comes behind a pane of the finest tier can't lie in a coarser one.
        if newest(finest).is_some_and(|start_ns| start_ns <= time_ns) {
            finest
        } else {
            (finest + 1..plan.tiers.len()).rfind(|at| coarse(*at)).unwrap_or(finest)
        }
    }

    /// The panes of a tier, if there ever were any.
    fn run(&self, tier: usize) -> Option<&Run> {
        if tier == 0 { Some(&self.finest) } else { self.coarser.as_ref()?.get(tier - 1) }
    }

    fn run_mut(&mut self, plan: &WindowPlan, tier: usize) -> &mut Run {
        if tier == 0 {
            return &mut self.finest;
        }
        let coarser =
            self.coarser.get_or_insert_with(|| vec![Run::default(); plan.tiers.len() - 1].into_boxed_slice());
        &mut coarser[tier - 1]
    }

    /// Moves panes that have grown too old for their tier into the next; the last tier's go.
    #[cold]
    fn roll(&mut self, plan: &WindowPlan) {
        let mut next_at_ns = TimeNs::MAX;
        let times = self.keeps_times;
        for (at, tier) in plan.tiers.iter().enumerate() {
            let cutoff_ns = plan.cutoff_ns(at, self.newest_ns);
            if self.run(at).is_some() {
                while let Some(pane) = self.run_mut(plan, at).pop_before(tier.width_ns, cutoff_ns) {
                    if let Some(coarser) = plan.tiers.get(at + 1) {
                        append_coarser(self.run_mut(plan, at + 1), pane, coarser.width_ns, times);
                    }
                }
            }
            let step_ns = plan.tiers.get(at + 1).map_or(tier.width_ns, |next| next.width_ns);
            let due_ns = cutoff_ns.saturating_add(step_ns).saturating_add(tier.retention_ns);
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
        let seen = self.tiers(plan).find_map(|(panes, width_ns)| {
            let start_ns = floor_to(time_ns, width_ns);
            let shown = start_ns >= floor_ns;
            panes.at(width_ns, start_ns, |pane| if shown { pane.seen(time_ns) } else { Seen::No })
        });
        match seen.unwrap_or(Seen::No) {
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
        (self.taken, self.late.into(), self.dropped.into())
    }

    /// The panes of every tier with their width, the finest first.
    fn tiers<'a>(&'a self, plan: &'a WindowPlan) -> impl Iterator<Item = (&'a Run, DurationNs)> {
        std::iter::once(&self.finest)
            .chain(self.coarser.iter().flatten())
            .zip(&plan.tiers)
            .map(|(run, tier)| (run, tier.width_ns))
    }

    /// Starts of the panes of a width that overlap `range` and do not begin before `floor_ns`.
    fn starts(range: &Range<TimeNs>, width_ns: DurationNs, floor_ns: TimeNs) -> Range<TimeNs> {
        // The first that ends behind the range's start; nothing overflows.
        let first = i128::from(range.start) - i128::from(width_ns) + 1;
        (first.max(floor_ns.into()) as TimeNs)..range.end
    }

    /// Calls `look` with the panes that overlap `range` and do not begin before `floor_ns`, in time order.
    fn visit(&self, plan: &WindowPlan, range: Range<TimeNs>, floor_ns: TimeNs, mut look: impl FnMut(&Pane)) {
        for (at, tier) in plan.tiers.iter().enumerate().rev() {
            if let Some(panes) = self.run(at) {
                panes.visit(tier.width_ns, Self::starts(&range, tier.width_ns, floor_ns), &mut look);
            }
        }
    }

    /// Width of the coarsest pane that overlaps `range` and does not begin before `floor_ns`.
    pub fn coarsest_ns(
        &self,
        plan: &WindowPlan,
        range: Range<TimeNs>,
        floor_ns: TimeNs,
    ) -> Option<DurationNs> {
        let overlaps = |(panes, width_ns): &(&Run, DurationNs)| {
            let starts = Self::starts(&range, *width_ns, floor_ns);
            panes.first_from(*width_ns, starts.start).is_some_and(|start_ns| start_ns < starts.end)
        };
        self.tiers(plan).filter(overlaps).map(|(_, width_ns)| width_ns).last()
    }

    /// The last observation before `time_ns` in panes that begin at or after `floor_ns`.
    pub(crate) fn before(&self, plan: &WindowPlan, time_ns: TimeNs, floor_ns: TimeNs) -> Option<Obs> {
        self.tiers(plan).find_map(|(panes, width_ns)| {
            let ends_by_ns = time_ns.checked_sub(width_ns)?.saturating_add(1);
            let start_ns = panes.last_below(width_ns, ends_by_ns).filter(|start_ns| *start_ns >= floor_ns)?;
            panes.at(width_ns, start_ns, Pane::last)?
        })
    }

    /// Values of the panes that reach to `from_ns` or beyond, and begin at or after `floor_ns`, by event time; at least the
    /// newest. See [`Backlog::values`](crate::alerts::Backlog::values) for those that are folded.
    pub fn values_from(&self, plan: &WindowPlan, from_ns: TimeNs, floor_ns: TimeNs) -> Vec<(TimeNs, f64)> {
        let mut values = Vec::new();
        let from_ns = from_ns.min(self.newest_ns);
        self.visit(plan, from_ns..TimeNs::MAX, floor_ns, |pane| {
            if let Some(moments) = pane.folded().map(|folded| folded.moments) {
                let (first, last) = (moments.first, moments.last);
                let at_last = |value| (last.time_ns, value);
                values.push((first.time_ns, first.value));
                values.extend([at_last(moments.min), at_last(moments.max), at_last(last.value)]);
            }
            values.extend(pane.raw().iter().map(|obs| (obs.time_ns, obs.value)));
        });
        values
    }

    /// Start of the first pane that begins at or after `time_ns`, in any tier.
    pub(crate) fn first_from(&self, plan: &WindowPlan, time_ns: TimeNs) -> Option<TimeNs> {
        self.tiers(plan).filter_map(|(panes, width_ns)| panes.first_from(width_ns, time_ns)).min()
    }

    /// What lies in `range`, slice by slice in time order: start and aggregate, not closed, of every slice of width
    /// `slice_ns` that has samples in panes from `floor_ns` on. Bounds and width must be multiples of the panes'.
    pub(crate) fn slices(
        &self,
        plan: &WindowPlan,
        range: Range<TimeNs>,
        slice_ns: DurationNs,
        with_values: bool,
        floor_ns: TimeNs,
    ) -> Vec<(TimeNs, Aggregate)> {
        let mut found: Vec<(TimeNs, Aggregate)> = Vec::new();
        self.visit(plan, range, floor_ns, |pane| {
            let start_ns = floor_to(pane.start_ns, slice_ns);
            if found.last().is_none_or(|(at, _)| *at != start_ns) {
                found.push((start_ns, Aggregate::new(with_values)));
            }
            if let Some((_, slice)) = found.last_mut() {
                slice.append_pane(pane);
            }
        });
        found
    }

    /// Calls `found` with the start and the aggregate of every window of width `window_ns` that has
    /// samples in `range` and panes from `floor_ns` on, in time order. Bounds and width must be multiples of the pane width.
    /// What `found` leaves of a window is the room of the next.
    pub fn windows(
        &self,
        plan: &WindowPlan,
        range: Range<TimeNs>,
        window_ns: DurationNs,
        with_values: bool,
        floor_ns: TimeNs,
        mut found: impl FnMut(TimeNs, &mut Aggregate),
    ) {
        let mut window = Aggregate::new(with_values);
        let mut open: Option<TimeNs> = None;
        let mut before = self.before(plan, range.start, floor_ns);
        let mut last = before;
        self.visit(plan, range, floor_ns, |pane| {
            // Mostly the same window or the next, which need no division.
            let start_ns = match open {
                Some(at) if pane.start_ns.saturating_sub(at) < window_ns => at,
                Some(at) if pane.start_ns.saturating_sub(at).saturating_sub(window_ns) < window_ns => {
                    at + window_ns
                }
                _ => floor_to(pane.start_ns, window_ns),
            };
            if open != Some(start_ns) {
                if let Some(at) = open {
                    window.close(before);
                    found(at, &mut window);
                    window.clear(with_values);
                }
                before = last;
                open = Some(start_ns);
            }
            window.append_pane(pane);
            last = pane.last().or(last);
        });
        if let Some(at) = open {
            window.close(before);
            found(at, &mut window);
        }
    }

    /// Start of the oldest pane.
    pub fn oldest_ns(&self, plan: &WindowPlan) -> Option<TimeNs> {
        self.tiers(plan).filter_map(|(panes, width_ns)| panes.oldest_start(width_ns)).min()
    }

    /// Number of panes held.
    pub fn pane_count(&self) -> usize {
        self.finest.len() + self.coarser.iter().flatten().map(Run::len).sum::<usize>()
    }

    /// Panes of the finest tier.
    pub(crate) fn finest(&self) -> &Run {
        &self.finest
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

    /// Gives up panes that begin before `floor_ns`, and packs those that are not expected to grow. Returns how many
    /// panes went, and how much work the packing was, in observations.
    pub fn trim(&mut self, plan: &WindowPlan, floor_ns: TimeNs) -> (u64, usize) {
        let (mut gone, mut work) = (0, 0);
        for (panes, tier) in
            std::iter::once(&mut self.finest).chain(self.coarser.iter_mut().flatten()).zip(&plan.tiers)
        {
            gone += panes.drop_before(tier.width_ns, floor_ns);
            work += panes.pack(tier.width_ns);
        }
        if gone > 0 {
            self.set_run(plan);
        }
        (gone, work)
    }

    /// Forgets all panes of a series that is gone.
    pub fn forget(&mut self) -> u64 {
        debug_assert!(!self.owes(), "alerts know all of it");
        let gone = self.pane_count() as u64;
        if self.taken > 0 {
            self.forgotten_ns = self.newest_ns.saturating_add(1);
        }
        self.finest = Run::default();
        self.coarser = None;
        self.run_up_to_ns = TimeNs::MIN;
        gone
    }

    /// Bytes held, the history itself included.
    pub fn bytes(&self) -> usize {
        size_of::<History>()
            + self.finest.heap_bytes()
            + self.coarser.iter().flatten().map(|run| size_of::<Run>() + run.heap_bytes()).sum::<usize>()
    }
}

fn append_coarser(panes: &mut Run, pane: Pane, width_ns: DurationNs, times: bool) {
    // A coarse pane is never newer than a pane of the finer tier: cut-offs are multiples of its width.
    panes.pane_mut(width_ns, floor_to(pane.start_ns, width_ns)).append_pane(pane, times);
}
