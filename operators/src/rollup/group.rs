//! One group of a rollup: its members' slices as they were given last, and what was said of its windows.
//!
//! Everything here is a function of the updates of each epoch as a set and of the arrival clock: not of their order,
//! nor of who sent them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Unbounded};

use serde::{Deserialize, Serialize};

use super::slice::Slice;
use super::update::MemberUpdate;
use super::{Finished, Rollup, RollupRow, Scheme, ceil_to, same_bits};
use crate::aggregate::Aggregate;
use crate::sample::{DurationNs, SeriesId, TimeNs};
use crate::tier::{WindowPlan, floor_to};

/// A member: 1 for what a ratio is divided by, else 0, and the series.
type MemberKey = (u8, SeriesId);

/// The state of a group.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Group {
    members: BTreeMap<MemberKey, Clock>,
    slices: BTreeMap<TimeNs, Slices>,
    /// Ends of windows to be computed, once the clock has passed them.
    pending: BTreeSet<TimeNs>,
    /// What was said last, by the end of the window.
    said: BTreeMap<TimeNs, Said>,
    /// Ends of what was said and is not final.
    open: BTreeSet<TimeNs>,
    /// Windows that end here or before are said no more.
    closed_ns: TimeNs,
    /// The clocks of live members, and of silent ones, with how many have each. They follow from `members`.
    #[serde(skip)]
    live: BTreeMap<TimeNs, u32>,
    #[serde(skip)]
    silent: BTreeMap<TimeNs, u32>,
    /// The timer that counts; the greatest time there is for none.
    #[serde(skip, default = "never")]
    pub(super) armed_ns: TimeNs,
}

/// What the members have in one slice.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Slices {
    of_members: BTreeMap<MemberKey, Slice>,
    /// Their pool, for each half of a ratio, once it was asked for.
    #[serde(skip)]
    pooled: Option<Vec<Aggregate>>,
}

fn never() -> TimeNs {
    TimeNs::MAX
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Clock {
    clock_ns: TimeNs,
    is_silent: bool,
}

/// What was said of a window last.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Said {
    /// The epoch at whose end it was so.
    pub revision: u64,
    /// Whether the group's clock had passed it by the lateness.
    pub is_final: bool,
    /// Number of samples.
    pub count: u64,
    /// A value for each function; NaN where there is none.
    pub values: Vec<f64>,
    /// Relative error of percentiles, at most.
    pub error_bound: f64,
}

/// When a group is looked at.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    pub(super) plan: &'a WindowPlan,
    pub(super) epoch: u64,
    pub(super) arrival_ns: TimeNs,
}

impl At<'_> {
    fn pane_ns(&self) -> DurationNs {
        self.plan.tiers[0].width_ns
    }
}

impl Default for Group {
    fn default() -> Self {
        Group {
            members: BTreeMap::new(),
            slices: BTreeMap::new(),
            pending: BTreeSet::new(),
            said: BTreeMap::new(),
            open: BTreeSet::new(),
            closed_ns: TimeNs::MIN,
            live: BTreeMap::new(),
            silent: BTreeMap::new(),
            armed_ns: never(),
        }
    }
}

impl Group {
    /// Makes what is not saved.
    pub(super) fn restored(mut self) -> Group {
        for clock in self.members.values() {
            let clocks = if clock.is_silent { &mut self.silent } else { &mut self.live };
            *clocks.entry(clock.clock_ns).or_default() += 1;
        }
        self
    }

    /// Closes what is closed by the end of an epoch: in silence the arrival clock goes on, though nothing is said. To be
    /// called before news of the next epoch come in, and before the group is saved.
    pub(super) fn settle(&mut self, scheme: &Scheme, at: At<'_>) {
        if let Some(clock_ns) = self.clock_ns(scheme, at) {
            self.forget_before(scheme, clock_ns);
        }
    }

    /// Takes in since when the slices of a member are all there.
    pub(super) fn hold(&mut self, scheme: &Scheme, update: &MemberUpdate) {
        if let Some(held_ns) = update.held_ns {
            let whole_from_ns = held_ns.saturating_add(scheme.rollup.width_ns);
            self.closed_ns = self.closed_ns.max(whole_from_ns.saturating_sub(1));
        }
    }

    /// Takes news of a member in. Gives how many of its slices came too late for a window.
    pub(super) fn update(&mut self, scheme: &Scheme, update: MemberUpdate) -> u64 {
        let key = (update.part, update.series);
        let clock = Clock { clock_ns: update.clock_ns, is_silent: update.is_silent };
        match self.members.insert(key, clock) {
            Some(before) if before == clock => {}
            before => {
                if let Some(before) = before {
                    let clocks = if before.is_silent { &mut self.silent } else { &mut self.live };
                    forget(clocks, before.clock_ns);
                }
                let clocks = if clock.is_silent { &mut self.silent } else { &mut self.live };
                *clocks.entry(clock.clock_ns).or_default() += 1;
            }
        }
        let oldest_ns = self.oldest_ns(scheme);
        // What a new member has held for longer than it is needed is not late.
        let counts = update.held_ns.is_none();
        let mut missed = 0;
        for slice in update.slices {
            let start_ns = slice.start_ns;
            let first_end_ns = floor_to(start_ns, scheme.rollup.hop_ns).saturating_add(scheme.rollup.hop_ns);
            missed += u64::from(counts && first_end_ns <= self.closed_ns);
            if start_ns >= oldest_ns {
                let slices = self.slices.entry(start_ns).or_default();
                slices.of_members.insert(key, slice);
                slices.pooled = None;
                self.pending.extend(scheme.ends(start_ns).filter(|end_ns| *end_ns > self.closed_ns));
            }
        }
        missed
    }

    /// Start of the first slice that a window which may still be said can hold.
    fn oldest_ns(&self, scheme: &Scheme) -> TimeNs {
        let Rollup { width_ns, hop_ns, .. } = *scheme.rollup;
        self.closed_ns.saturating_sub(width_ns).saturating_sub(hop_ns)
    }

    /// The clock of the member that is furthest behind, in steps, though not further behind the foremost sample
    /// than rows are corrected: else a member whose clock is wrong would have the group wait, and hold slices, for
    /// ever. `None` without members.
    fn clock_ns(&self, scheme: &Scheme, at: At<'_>) -> Option<TimeNs> {
        let now_ns = scheme.step(floor_to(at.arrival_ns, at.pane_ns()), at.plan);
        let silent_ns = self.silent.keys().next().map(|clock_ns| now_ns.max(*clock_ns));
        let last_ns = self.live.keys().next().copied().into_iter().chain(silent_ns).min()?;
        let foremost_ns = self.live.keys().next_back().max(self.silent.keys().next_back())?;
        let waits_from_ns = foremost_ns.saturating_sub(scheme.rollup.correct_ns);
        Some(last_ns.max(scheme.step(waits_from_ns, at.plan)))
    }

    /// Says what is due at the end of an epoch, by the ends of the windows.
    pub(super) fn end_epoch(&mut self, scheme: &Scheme, at: At<'_>, mut out: impl FnMut(TimeNs, &Said)) {
        let Some(clock_ns) = self.clock_ns(scheme, at) else { return };
        let lateness_ns = at.plan.lateness_ns;
        while let Some(end_ns) = self.pending.first().copied().filter(|end_ns| *end_ns <= clock_ns) {
            self.pending.pop_first();
            if end_ns <= self.closed_ns {
                continue;
            }
            let Finished { count, values, error_bound } = scheme.finish(&self.window(scheme, end_ns));
            let is_final = Scheme::is_final(end_ns, clock_ns, lateness_ns);
            let said = Said { revision: at.epoch, is_final, count, values, error_bound };
            let is_news = self.said.get(&end_ns).is_none_or(|before| {
                let changed = before.count != count || !same_bits(&before.values, &said.values);
                changed || (is_final && !before.is_final)
            });
            if is_news {
                out(end_ns, &said);
                if is_final {
                    self.open.remove(&end_ns);
                } else {
                    self.open.insert(end_ns);
                }
                self.said.insert(end_ns, said);
            }
        }
        while let Some(end_ns) = self.open.first().copied() {
            if !Scheme::is_final(end_ns, clock_ns, lateness_ns) {
                break;
            }
            self.open.pop_first();
            if let Some(said) = self.said.get_mut(&end_ns) {
                (said.revision, said.is_final) = (at.epoch, true);
                out(end_ns, said);
            }
        }
        self.forget_before(scheme, clock_ns);
    }

    /// Forgets what no window needs any more that may still be said.
    fn forget_before(&mut self, scheme: &Scheme, clock_ns: TimeNs) {
        let Rollup { correct_ns, keep_ns, .. } = *scheme.rollup;
        self.closed_ns = self.closed_ns.max(clock_ns.saturating_sub(correct_ns));
        let oldest_ns = self.oldest_ns(scheme);
        while self.slices.first_key_value().is_some_and(|(start_ns, _)| *start_ns < oldest_ns) {
            self.slices.pop_first();
        }
        let kept_ns = self.closed_ns.min(clock_ns.saturating_sub(keep_ns));
        while self.said.first_key_value().is_some_and(|(end_ns, _)| *end_ns <= kept_ns) {
            self.said.pop_first();
        }
    }

    /// The window that ends at `end_ns`; one for each half of a ratio.
    fn window(&mut self, scheme: &Scheme, end_ns: TimeNs) -> Vec<Aggregate> {
        if !scheme.pools_slices {
            return self.window_by_member(scheme, end_ns);
        }
        let mut windows = scheme.empty();
        let start_ns = end_ns.saturating_sub(scheme.rollup.width_ns);
        for (_, slices) in self.slices.range_mut(start_ns..end_ns) {
            let of_members = &slices.of_members;
            let pooled = slices.pooled.get_or_insert_with(|| {
                let mut pooled = scheme.empty();
                pool_one_slice(scheme, of_members, &mut pooled);
                pooled
            });
            windows.iter_mut().zip(pooled).for_each(|(window, slice)| window.pool(slice));
        }
        windows
    }

    /// The members' windows that end at `end_ns`, pooled in the order of their numbers.
    fn window_by_member(&self, scheme: &Scheme, end_ns: TimeNs) -> Vec<Aggregate> {
        let mut pooled = scheme.empty();
        let start_ns = end_ns.saturating_sub(scheme.rollup.width_ns);
        let mut slices = self.slices.range(start_ns..end_ns);
        let (first, second) = (slices.next(), slices.next());
        let Some((_, first)) = first else { return pooled };
        let Some(second) = second else {
            // Of one slice, as every window is that is no wider than its hop, nobody needs to wait for the rest.
            pool_one_slice(scheme, &first.of_members, &mut pooled);
            return pooled;
        };
        let mut windows: BTreeMap<MemberKey, (Aggregate, &Slice)> = BTreeMap::new();
        for of_all in
            std::iter::once(first).chain(std::iter::once(second.1)).chain(slices.map(|(_, all)| all))
        {
            for (key, slice) in &of_all.of_members {
                let new = || (Aggregate::new(scheme.part(key.0).needs_values), slice);
                slice.append_to(&mut windows.entry(*key).or_insert_with(new).0);
            }
        }
        for (key, (window, first)) in windows {
            close_and_pool(key, window, first, &mut pooled);
        }
        pooled
    }

    /// When, by the arrival clock, there is something to say although nobody sends anything.
    pub(super) fn next_wake_ns(&self, scheme: &Scheme, at: At<'_>) -> Option<TimeNs> {
        let clock_ns = self.clock_ns(scheme, at)?;
        // A live member that is behind says itself how far it has come.
        let live_ns = self.live.keys().next().copied().unwrap_or(TimeNs::MAX);
        if self.silent.is_empty() || live_ns <= clock_ns {
            return None;
        }
        let pending = self.pending.range((Excluded(clock_ns), Unbounded)).next().copied();
        let open = self.open.first().map(|end_ns| end_ns.saturating_add(at.plan.lateness_ns));
        let open = open.map(|final_ns| ceil_to(final_ns, at.pane_ns()));
        let wake_ns = pending.into_iter().chain(open).min()?;
        Some(wake_ns.max(at.arrival_ns.saturating_add(1)))
    }

    /// What was said, by the end of the window.
    pub(super) fn said(&self) -> &BTreeMap<TimeNs, Said> {
        &self.said
    }

    /// Members, slices and windows held.
    pub(super) fn held(&self) -> (usize, usize, usize) {
        let slices = self.slices.values().map(|slices| slices.of_members.len()).sum();
        (self.members.len(), slices, self.said.len())
    }
}

impl Said {
    /// The row of it.
    pub fn row(&self, rollup: u32, group: u64, end_ns: TimeNs, width_ns: DurationNs) -> RollupRow {
        let Said { revision, is_final, count, error_bound, .. } = *self;
        let values = self.values.clone();
        RollupRow { rollup, group, end_ns, width_ns, revision, is_final, count, values, error_bound }
    }
}

fn pool_one_slice(scheme: &Scheme, of_members: &BTreeMap<MemberKey, Slice>, pooled: &mut [Aggregate]) {
    for (key, slice) in of_members {
        let mut window = Aggregate::new(scheme.part(key.0).needs_values);
        slice.append_to(&mut window);
        close_and_pool(*key, window, slice, pooled);
    }
}

fn close_and_pool((part, _): MemberKey, mut window: Aggregate, first: &Slice, pooled: &mut [Aggregate]) {
    window.close(first.before);
    if let Some(group) = pooled.get_mut(usize::from(part)) {
        group.pool(&window);
    }
}

fn forget(clocks: &mut BTreeMap<TimeNs, u32>, clock_ns: TimeNs) {
    if let Some(count) = clocks.get_mut(&clock_ns) {
        *count -= 1;
        if *count == 0 {
            clocks.remove(&clock_ns);
        }
    }
}
