//! Alerts: the operator that runs the rules over the values of their sources, in event time.
//!
//! It sees only samples of watched series. A source, see [`watched`], keeps what came for as long as corrections
//! follow, so that late samples change what was said; one that falls silent goes by the arrival clock, for which a
//! timer per source is kept.

mod front;
mod judge;
mod life;
mod operator;
mod prepare;
mod rules;
pub mod saved;
mod sleep;
mod watched;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rapidhash::RapidHashMap as HashMap;
use serde::{Deserialize, Serialize};

use crate::alert::{Machine, Transition};
use crate::anomaly::Reason;
use crate::exchange::Owners;
use crate::pane::Obs;
use crate::rollup::RollupRow;
use crate::rule::ROLLUP_OF_RULE;
use crate::sample::{DurationNs, SECOND, Sample, SeriesId, TimeNs};
use crate::window::Control;

pub use operator::{Alerts, AlertsOfRows};
pub use prepare::Backlog;
use prepare::Prepared;
pub use rules::Rules;
pub use watched::KEPT_LEN_MAX;
use watched::Watched;

/// What a rule watches: a series, or a group of a rollup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Source {
    /// A series.
    Series(SeriesId),
    /// A group of a rollup.
    Group {
        /// The rollup's number.
        rollup: u32,
        /// The group's.
        group: u64,
    },
}

impl Source {
    /// The series, if it is one.
    pub fn series(self) -> Option<SeriesId> {
        match self {
            Source::Series(series) => Some(series),
            Source::Group { .. } => None,
        }
    }
}

/// A transition of the alert of one rule and source.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AlertTransition {
    /// The rule's number.
    pub rule: u32,
    /// What it watches.
    pub source: Source,
    /// What happened.
    pub transition: Transition,
    /// What a detector thought of the sample that a breach is about.
    pub expected: Option<Expected>,
}

/// What a detector thought of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Expected {
    /// How strange it is, from 0 to 1.
    pub score: f64,
    /// Lower end of the band that was expected.
    pub lower: f64,
    /// Upper end.
    pub upper: f64,
    /// What is strangest about it.
    pub reason: Reason,
}

/// How long evaluations wait for stragglers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slack {
    /// As long as the source has needed so far, at most this.
    Auto(DurationNs),
    /// So long.
    Fixed(DurationNs),
}

impl Default for Slack {
    fn default() -> Slack {
        Slack::Auto(SECOND)
    }
}

/// How alerts treat what comes late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// How long an evaluation waits.
    pub slack: Slack,
    /// How far behind the newest a value still corrects what was said.
    pub lateness_ns: DurationNs,
    /// Arrival time without a value after which a source goes by the arrival clock.
    pub idle_timeout_ns: DurationNs,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience { slack: Slack::default(), lateness_ns: 30 * SECOND, idle_timeout_ns: 30 * SECOND }
    }
}

/// Timers that are held beside two a source before those that count no more are dropped.
const TIMERS_SPARE_MAX: usize = 64;
/// Samples whose places are looked at together before they are put there.
const TOUCHED_TOGETHER: usize = 32;
/// Of a series that is not watched.
const NO_PLACE: u32 = u32::MAX;

/// All alerts of one worker.
pub struct Machines {
    rules: Rules,
    patience: Patience,
    arrival_ns: TimeNs,
    /// Sources, each in its place; a place whose source is gone waits for another in `free`.
    sources: Vec<(Source, Watched)>,
    free: Vec<u32>,
    places: HashMap<Source, u32>,
    owners: Owners,
    /// The same for series, by their slot.
    series_places: Vec<u32>,
    /// When, by the arrival clock, a source has something to do on its own. An entry that is not its source's
    /// `armed_ns` any more is passed over.
    timers: BinaryHeap<Reverse<(TimeNs, u32)>>,
    /// What is held of series that rules begin to watch in an epoch.
    prepared: Vec<(u64, SeriesId, Prepared)>,
    /// The last epoch applied.
    epoch: u64,
    /// Places of series that may have fallen asleep, where somebody asks.
    drowsy: Option<Vec<u32>>,
    counters: AlertCounters,
}

/// What machines count, for others to read.
#[derive(Clone, Debug, Default)]
pub struct AlertCounters {
    /// Samples that came too late for their alerts.
    pub late: Arc<AtomicU64>,
    /// Pairs of a rule and a source that it watches.
    pub bound: Arc<AtomicU64>,
}

impl Machines {
    /// No alerts yet, of one of `workers` workers.
    pub fn new(patience: Patience, workers: usize, counters: AlertCounters) -> Machines {
        Machines {
            owners: Owners::new(workers),
            series_places: Vec::new(),
            rules: Rules::default(),
            patience,
            arrival_ns: TimeNs::MIN,
            sources: Vec::new(),
            free: Vec::new(),
            places: HashMap::default(),
            timers: BinaryHeap::new(),
            prepared: Vec::new(),
            epoch: 0,
            drowsy: None,
            counters,
        }
    }

    /// The rules there are.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Applies one epoch, whose samples are in its order.
    pub(crate) fn apply(
        &mut self,
        epoch: u64,
        controls: &[Control],
        chunks: Vec<Vec<Sample>>,
        mut out: impl FnMut(AlertTransition),
    ) {
        self.epoch = epoch;
        self.control(epoch, controls, true, &mut out);
        // However a series' samples lie in the epoch, they are one step: of what it says nothing hangs on others.
        if !chunks.iter().flatten().is_sorted_by_key(|sample| sample.time_ns) {
            self.look_through(epoch, &chunks);
        }
        let mut rest = Vec::new();
        for few in chunks.iter().flat_map(|chunk| chunk.chunks(TOUCHED_TOGETHER)) {
            self.touch(few);
            few.iter().for_each(|sample| self.take_quietly(sample, &mut rest));
        }
        rest.sort_by_key(|(place, sample)| (*place, sample.time_ns));
        let late = rest.chunk_by(|a, b| a.0 == b.0).map(|of_source| self.step(of_source, &mut out)).sum();
        self.run_timers(&mut out);
        self.counters.late.fetch_add(late, Ordering::Relaxed);
    }

    /// Applies the rows that an epoch made of the windows of rules.
    fn apply_rows(
        &mut self,
        epoch: u64,
        controls: &[Control],
        mut rows: Vec<RollupRow>,
        mut out: impl FnMut(AlertTransition),
    ) {
        // Groups are bound by their rows.
        self.control(epoch, controls, false, &mut out);
        rows.sort_by_key(|row| (row.rollup, row.group, row.end_ns));
        let mut late = 0;
        for of_group in rows.chunk_by(|a, b| (a.rollup, a.group) == (b.rollup, b.group)) {
            let RollupRow { rollup, group, .. } = of_group[0];
            let source = Source::Group { rollup, group };
            // A row is the first that is heard of its group.
            self.bind(epoch, source, rollup & !ROLLUP_OF_RULE, &mut out);
            let Some(place) = self.places.get(&source).copied() else { continue };
            let value = |row: &RollupRow| row.values.first().copied().unwrap_or(f64::NAN);
            let values: Vec<Obs> =
                of_group.iter().map(|row| Obs { time_ns: row.end_ns, value: value(row) }).collect();
            let Machines { rules, patience, arrival_ns, sources, .. } = self;
            let watched = &mut sources[place as usize].1;
            late +=
                watched.take(rules, patience, *arrival_ns, &values, true, &mut |said| out(said.of(source)));
            self.arm(place);
        }
        self.run_timers(&mut out);
        self.counters.late.fetch_add(late, Ordering::Relaxed);
    }

    fn control(
        &mut self,
        epoch: u64,
        controls: &[Control],
        of_series: bool,
        out: &mut impl FnMut(AlertTransition),
    ) {
        let mut gone = Vec::new();
        for control in controls {
            match control {
                Control::Seal { arrival_ns, .. } => self.arrival_ns = *arrival_ns,
                Control::Rules(change) => {
                    self.rules.add(change);
                    gone.extend_from_slice(&change.removed);
                }
                Control::Bind { .. } | Control::Rollups(_) | Control::Member { .. } => {}
            }
        }
        // Those that cease first: a rule that was changed begins where its old self ended.
        let binds = || {
            controls.iter().filter_map(|control| match *control {
                Control::Bind { series, rule, diff } if of_series => {
                    Some((Source::Series(series), rule, diff))
                }
                _ => None,
            })
        };
        for (source, rule, _) in binds().filter(|(.., diff)| *diff < 0) {
            self.unbind(source, rule, out);
        }
        // Groups of a rule's own rollup go with it.
        let of_gone = |source: &Source| match source {
            Source::Group { rollup, .. } => gone.contains(&(rollup & !ROLLUP_OF_RULE)),
            Source::Series(_) => false,
        };
        let mut groups: Vec<Source> =
            if gone.is_empty() { Vec::new() } else { self.places.keys().copied().filter(of_gone).collect() };
        groups.sort_unstable();
        for source in groups {
            if let Source::Group { rollup, .. } = source {
                self.unbind(source, rollup & !ROLLUP_OF_RULE, out);
            }
        }
        for (source, rule, _) in binds().filter(|(.., diff)| *diff > 0) {
            self.bind(epoch, source, rule, out);
        }
        gone.into_iter().for_each(|number| self.rules.forget(number));
        self.prepared.retain(|(of_epoch, ..)| *of_epoch > epoch);
    }

    fn place_of(&mut self, source: Source) -> u32 {
        if let Some(place) = self.places.get(&source) {
            return *place;
        }
        let place = self.free.pop().unwrap_or(self.sources.len() as u32);
        let fresh = (source, Watched::default());
        match self.sources.get_mut(place as usize) {
            Some(free) => *free = fresh,
            None => self.sources.push(fresh),
        }
        self.places.insert(source, place);
        self.set_place(source, place);
        place
    }

    fn set_place(&mut self, source: Source, place: u32) {
        let Source::Series(series) = source else { return };
        let slot = self.owners.slot(series) as usize;
        if slot >= self.series_places.len() {
            self.series_places.resize(slot + 1, NO_PLACE);
        }
        self.series_places[slot] = place;
    }

    fn bind(&mut self, epoch: u64, source: Source, rule: u32, out: &mut impl FnMut(AlertTransition)) {
        if self.rules.get(rule).is_none() {
            return;
        }
        let place = self.place_of(source);
        let Machines { rules, sources, prepared, .. } = self;
        let at =
            prepared.binary_search_by_key(&(epoch, source.series()), |(of, series, _)| (*of, Some(*series)));
        let prepared = at.ok().map(|at| &prepared[at].2);
        let watched = &mut sources[place as usize].1;
        let before = watched.len();
        watched.bind(rules, rule, prepared, &mut |said| out(said.of(source)));
        self.counters.bound.fetch_add((watched.len() - before) as u64, Ordering::Relaxed);
        self.arm(place);
        self.see_asleep(place);
    }

    fn unbind(&mut self, source: Source, rule: u32, out: &mut impl FnMut(AlertTransition)) {
        let Some(place) = self.places.get(&source).copied() else { return };
        let watched = &mut self.sources[place as usize].1;
        let before = watched.len();
        watched.unbind(&self.rules, rule, &mut |said| out(said.of(source)));
        self.counters.bound.fetch_sub((before - watched.len()) as u64, Ordering::Relaxed);
        if watched.is_unwatched() {
            *watched = Watched::default();
            self.places.remove(&source);
            self.set_place(source, NO_PLACE);
            self.free.push(place);
        }
    }

    /// The place of a series that is watched.
    #[inline]
    fn place(&self, series: SeriesId) -> Option<u32> {
        let place = *self.series_places.get(self.owners.slot(series) as usize)?;
        (place != NO_PLACE).then_some(place)
    }

    /// Looks at the places that samples will be put in, so that they come out of memory side by side.
    #[inline]
    fn touch(&self, few: &[Sample]) {
        let fronts = few.iter().filter_map(|sample| {
            let place = self.place(sample.series)?;
            Some(&self.sources[place as usize].1.front)
        });
        // What is pointed to only when all that points there is on its way.
        std::hint::black_box(fronts.clone().fold(0, |sum, front| sum ^ front.touch()));
        std::hint::black_box(fronts.fold(0, |sum, front| sum ^ front.touch_newest()));
    }

    /// Finds the sources whose samples are not in the order of their event times, and has them wait for each other.
    fn look_through(&mut self, epoch: u64, chunks: &[Vec<Sample>]) {
        for few in chunks.iter().flat_map(|chunk| chunk.chunks(TOUCHED_TOGETHER)) {
            self.touch(few);
            for sample in few {
                if let Some(place) = self.place(sample.series) {
                    self.sources[place as usize].1.front.look(epoch as u32, sample.time_ns);
                }
            }
        }
    }

    /// Takes a sample with which nothing happens; others go to `rest`, with the place of their source.
    #[inline]
    fn take_quietly(&mut self, sample: &Sample, rest: &mut Vec<(u32, Sample)>) {
        let Some(place) = self.place(sample.series) else { return };
        let watched = &mut self.sources[place as usize].1;
        let obs = Obs { time_ns: sample.time_ns, value: sample.value };
        if watched.take_quietly(&self.rules, &self.patience, self.arrival_ns, obs) {
            self.see_asleep(place);
        } else {
            watched.front.gather();
            rest.push((place, *sample));
        }
    }

    /// Steps the alerts of one source through its samples, which are in event-time order.
    fn step(&mut self, samples: &[(u32, Sample)], out: &mut impl FnMut(AlertTransition)) -> u64 {
        let place = samples[0].0;
        let Machines { rules, patience, arrival_ns, sources, .. } = self;
        let (source, watched) = &mut sources[place as usize];
        let values: Vec<Obs> =
            samples.iter().map(|(_, s)| Obs { time_ns: s.time_ns, value: s.value }).collect();
        let late =
            watched.take(rules, patience, *arrival_ns, &values, false, &mut |said| out(said.of(*source)));
        self.arm(place);
        self.see_asleep(place);
        late
    }

    /// Sees to it that a source is woken when it has something to do. A timer is pushed only where there is none as
    /// early: values mostly move deadlines to later times, and then the old timer sets the new one.
    fn arm(&mut self, place: u32) {
        let Machines { rules, patience, sources, timers, .. } = self;
        let watched = &mut sources[place as usize].1;
        let wake_ns = watched.wake_at_ns(rules, patience);
        if wake_ns < watched.armed_ns {
            timers.push(Reverse((wake_ns, place)));
            watched.armed_ns = wake_ns;
        }
    }

    /// Moves sources on whose time has come, by the arrival clock.
    fn run_timers(&mut self, out: &mut impl FnMut(AlertTransition)) {
        self.drop_old_timers();
        while let Some(&Reverse((wake_ns, place))) = self.timers.peek() {
            if wake_ns > self.arrival_ns {
                break;
            }
            self.timers.pop();
            let Machines { rules, patience, arrival_ns, sources, timers, .. } = self;
            let (source, watched) = &mut sources[place as usize];
            if watched.armed_ns != wake_ns {
                continue;
            }
            watched.wake(rules, patience, *arrival_ns, &mut |said| out(said.of(*source)));
            // Later than now in any case: what was due is done.
            watched.armed_ns = TimeNs::MAX;
            let again_ns = watched.wake_at_ns(rules, patience);
            if again_ns < TimeNs::MAX {
                watched.armed_ns = again_ns.max(arrival_ns.saturating_add(1));
                timers.push(Reverse((watched.armed_ns, place)));
            }
        }
    }

    /// Keeps the timers to a few a source, however often an earlier one replaced a later one.
    fn drop_old_timers(&mut self) {
        if self.timers.len() <= TIMERS_SPARE_MAX + 2 * self.places.len() {
            return;
        }
        let sources = &self.sources;
        self.timers.retain(|Reverse((wake_ns, place))| {
            sources.get(*place as usize).is_some_and(|(_, watched)| watched.armed_ns == *wake_ns)
        });
    }

    /// Alerts that are pending or firing, or keep on firing: rule, source, machine, and the value last told.
    pub fn live(&self) -> impl Iterator<Item = (u32, Source, Machine, f64)> + '_ {
        self.sources.iter().flat_map(|(source, watched)| {
            let alive = watched.alerts().filter_map(|(rule, life)| Some((rule, life?)));
            let live = alive.filter(|(_, life)| *life.machine() != Machine::Inactive);
            live.map(|(rule, life)| (rule, *source, *life.machine(), life.said))
        })
    }
}

#[cfg(test)]
#[path = "alerts/tests.rs"]
mod tests;
