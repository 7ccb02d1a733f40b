//! The definition of rollups, told slowly: all samples that count, and a look at every window of every group at the
//! end of every epoch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dataflows::epoch::Epoch;
use operators::rollup::Rollup;
use operators::rollup::binding::group_id;
use operators::rule::Grouping;
use operators::sample::{SECOND, SeriesId, TimeNs};
use operators::series::{SeriesKey, TargetMatcher};
use operators::tier::WindowPlan;

/// A row: rollup, group, end of the window, revision, whether it is final, count, the bits of the values.
pub type Row = (u32, u64, TimeNs, u64, bool, u64, Vec<u64>);

/// What the epochs give.
pub struct Model {
    plan: WindowPlan,
    keys: BTreeMap<SeriesId, SeriesKey>,
    series: BTreeMap<SeriesId, Series>,
    rollups: BTreeMap<u32, Arc<Rollup>>,
    groups: BTreeMap<(u32, u64), Group>,
    order: u64,
    pub rows: Vec<Row>,
}

#[derive(Default)]
struct Series {
    /// Time, order of arrival, value.
    taken: BTreeMap<(TimeNs, u64), f64>,
    newest_ns: Option<TimeNs>,
    last_arrival_ns: TimeNs,
    forgotten_ns: Option<TimeNs>,
    /// What was taken in this epoch.
    fresh: Vec<TimeNs>,
}

#[derive(Default)]
struct Group {
    members: BTreeMap<(u8, SeriesId), Member>,
    said: BTreeMap<TimeNs, (bool, u64, Vec<u64>)>,
    closed_ns: Option<TimeNs>,
    /// The clock at the end of the epoch before, of a series that stands for itself.
    clock_ns: Option<TimeNs>,
}

/// Event time and value.
type Observed = (TimeNs, f64);

/// What was given of a member: by the start of the slice the sample before it, and its own.
#[derive(Default)]
struct Member {
    /// Slices up to here were complete at the end of the epoch before.
    complete_ns: Option<TimeNs>,
    given: BTreeMap<TimeNs, (Option<Observed>, Vec<Observed>)>,
}

fn floor(time_ns: TimeNs, width_ns: i64) -> TimeNs {
    time_ns.div_euclid(width_ns) * width_ns
}

/// The last moment up to a clock at which a window may end, or become final.
fn step(rollup: &Rollup, plan: &WindowPlan, clock_ns: TimeNs) -> TimeNs {
    let (slice_ns, pane_ns) = (gcd(rollup.width_ns, rollup.hop_ns), plan.tiers[0].width_ns);
    let late_ns = -floor(-plan.lateness_ns, pane_ns);
    floor(clock_ns, slice_ns).max(floor(clock_ns - late_ns, slice_ns) + late_ns)
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

impl Model {
    pub fn new(plan: &WindowPlan) -> Model {
        Model {
            plan: plan.clone(),
            keys: BTreeMap::new(),
            series: BTreeMap::new(),
            rollups: BTreeMap::new(),
            groups: BTreeMap::new(),
            order: 0,
            rows: Vec::new(),
        }
    }

    pub fn of(plan: &WindowPlan, epochs: &[Arc<Epoch>]) -> Model {
        let mut model = Model::new(plan);
        epochs.iter().for_each(|epoch| model.apply(epoch));
        model.rows.sort_unstable();
        model
    }

    fn apply(&mut self, epoch: &Epoch) {
        for number in &epoch.rollups.removed {
            self.rollups.remove(number);
            self.groups.retain(|(rollup, _), _| rollup != number);
        }
        self.rollups.extend(epoch.rollups.added.iter().cloned());
        self.keys.extend(epoch.entries.iter().map(|entry| (entry.id, entry.key.clone())));
        self.series.values_mut().for_each(|series| series.fresh.clear());
        for sample in epoch.batches.iter().flatten() {
            self.order += 1;
            let series = self.series.entry(sample.series).or_default();
            series.take(&self.plan, sample.time_ns, self.order, sample.value, epoch.arrival_ns);
        }
        let rollups: Vec<_> = self.rollups.iter().map(|(n, rollup)| (*n, rollup.clone())).collect();
        for (number, rollup) in rollups {
            self.give(number, &rollup, epoch);
            let groups: Vec<u64> =
                self.groups.range((number, 0)..=(number, u64::MAX)).map(|((_, group), _)| *group).collect();
            for group in groups {
                self.say(number, &rollup, group, epoch);
            }
        }
    }

    /// The clock of a series in whole panes, and whether it is silent.
    fn clock(&self, series: SeriesId, arrival_ns: TimeNs) -> Option<(TimeNs, bool)> {
        let series = self.series.get(&series)?;
        let newest_ns = series.newest_ns?;
        let is_silent = arrival_ns - series.last_arrival_ns >= self.plan.idle_timeout_ns;
        let clock_ns = if is_silent { newest_ns.max(arrival_ns) } else { newest_ns };
        Some((floor(clock_ns, self.plan.tiers[0].width_ns), is_silent))
    }

    /// Gives every group the complete slices of its members.
    fn give(&mut self, number: u32, rollup: &Rollup, epoch: &Epoch) {
        let slice_ns = gcd(rollup.width_ns, rollup.hop_ns);
        let over = rollup.over.as_ref().map(|over| (1, &over.metric, &over.matcher));
        let scopes: Vec<(u8, &String, &TargetMatcher)> =
            std::iter::once((0, &rollup.metric, &rollup.matcher)).chain(over).collect();
        for (id, key) in &self.keys {
            for (part, metric, matcher) in &scopes {
                if key.metric.as_ref() != metric.as_str() || !matcher.matches(&key.target) {
                    continue;
                }
                let Some((clock_ns, _)) = self.clock(*id, epoch.arrival_ns) else { continue };
                let is_each = rollup.grouping == Grouping::Series && rollup.over.is_none();
                let group =
                    if is_each { u64::from(*id) } else { group_id(&rollup.grouping.group_of(&key.target)) };
                let group = self.groups.entry((number, group)).or_default();
                let member = group.members.entry((*part, *id)).or_default();
                let series = &self.series[id];
                let mut slices: BTreeMap<TimeNs, Vec<(TimeNs, f64)>> = BTreeMap::new();
                for ((time_ns, _), value) in &series.taken {
                    slices.entry(floor(*time_ns, slice_ns)).or_default().push((*time_ns, *value));
                }
                let complete_ns = floor(clock_ns, slice_ns);
                let before_ns = member.complete_ns.replace(complete_ns);
                let cutoff_ns = self.plan.cutoff_ns(self.plan.tiers.len() - 1, series.newest_ns.unwrap_or(0));
                let held_ns = series.forgotten_ns.unwrap_or(cutoff_ns).max(cutoff_ns);
                for (start_ns, samples) in slices {
                    let end_ns = start_ns + slice_ns;
                    let is_new = before_ns.is_none_or(|before_ns| end_ns > before_ns);
                    let is_news = is_each || is_new || series.touches(&self.plan, slice_ns, start_ns..end_ns);
                    if is_news && end_ns <= complete_ns && start_ns >= held_ns {
                        let before = series.taken.range(..(start_ns, 0)).next_back();
                        let before = before.map(|((time_ns, _), value)| (*time_ns, *value));
                        member.given.insert(start_ns, (before, samples));
                    }
                }
            }
        }
    }

    /// Says what is due of a group.
    fn say(&mut self, number: u32, rollup: &Rollup, id: u64, epoch: &Epoch) {
        let plan = &self.plan;
        let is_each = rollup.grouping == Grouping::Series && rollup.over.is_none();
        let members: BTreeSet<SeriesId> =
            self.groups[&(number, id)].members.keys().map(|(_, series)| *series).collect();
        let clocks = members.iter().filter_map(|series| self.clock(*series, epoch.arrival_ns));
        let Some(clock_ns) = clocks.map(|(clock_ns, _)| clock_ns).min() else { return };
        let mut clock_ns = step(rollup, plan, clock_ns);
        let newest = members.iter().filter_map(|series| self.series.get(series)?.newest_ns);
        if !is_each && let Some(newest_ns) = newest.max() {
            let newest_ns = step(rollup, plan, newest_ns);
            clock_ns = clock_ns.max(step(rollup, plan, newest_ns - rollup.correct_ns));
        }
        let forgotten_ns =
            if is_each { self.series.get(&(id as SeriesId)).and_then(|s| s.forgotten_ns) } else { None };
        let Some(group) = self.groups.get_mut(&(number, id)) else { return };
        let starts: BTreeSet<TimeNs> = group.members.values().flat_map(|m| m.given.keys().copied()).collect();
        let mut ends: BTreeSet<TimeNs> = BTreeSet::new();
        let slice_ns = gcd(rollup.width_ns, rollup.hop_ns);
        for start_ns in starts {
            let mut end_ns = floor(start_ns, rollup.hop_ns) + rollup.hop_ns;
            while end_ns <= start_ns + rollup.width_ns + rollup.hop_ns {
                ends.insert(end_ns);
                end_ns += rollup.hop_ns;
            }
        }
        let before_ns = group.clock_ns.replace(clock_ns);
        for end_ns in ends.into_iter().filter(|end_ns| *end_ns <= clock_ns) {
            let is_due = if is_each {
                let is_new = before_ns.is_none();
                let before_ns = before_ns.unwrap_or(TimeNs::MIN / 2);
                let lateness_ns = plan.lateness_ns;
                let is_passed = end_ns > before_ns;
                let is_final = end_ns > before_ns - lateness_ns && end_ns <= clock_ns - lateness_ns;
                let slice_ns = gcd(rollup.width_ns, rollup.hop_ns);
                let reach_ns = end_ns - rollup.width_ns - rollup.hop_ns..end_ns;
                let is_touched = self.series[&(id as SeriesId)].touches(plan, slice_ns, reach_ns);
                let is_corrected = is_touched && end_ns > before_ns - rollup.correct_ns;
                is_passed || (!is_new && (is_final || is_corrected))
            } else {
                group.closed_ns.is_none_or(|closed_ns| end_ns > closed_ns)
            };
            if !is_due || forgotten_ns.is_some_and(|forgotten_ns| end_ns - rollup.width_ns < forgotten_ns) {
                continue;
            }
            let is_final = end_ns + plan.lateness_ns <= clock_ns;
            let (count, values) = group.window(rollup, slice_ns, end_ns);
            let bits: Vec<u64> = values.iter().map(|value| value.to_bits()).collect();
            let before = group.said.get(&end_ns);
            if before.is_none_or(|(was_final, was_count, was)| {
                *was_count != count || *was != bits || (is_final && !was_final)
            }) {
                self.rows.push((number, id, end_ns, epoch.number, is_final, count, bits.clone()));
                group.said.insert(end_ns, (is_final, count, bits));
            }
        }
        let closed_ns = clock_ns - rollup.correct_ns;
        group.closed_ns = Some(group.closed_ns.map_or(closed_ns, |before_ns| before_ns.max(closed_ns)));
    }
}

impl Series {
    /// Whether a sample of this epoch is in a slice that begins in a range, or was the last before a pane there.
    fn touches(&self, plan: &WindowPlan, slice_ns: i64, range: std::ops::Range<TimeNs>) -> bool {
        let pane_ns = plan.tiers[0].width_ns;
        let reaches = |time_ns: TimeNs| range.contains(&floor(time_ns, slice_ns));
        self.fresh.iter().any(|time_ns| {
            let behind_ns = floor(*time_ns, pane_ns) + pane_ns;
            let next = self.taken.range((behind_ns, 0)..).next().map(|((time_ns, _), _)| *time_ns);
            let is_last = self.taken.range((*time_ns + 1, 0)..(behind_ns, 0)).next().is_none();
            reaches(*time_ns) || (is_last && next.is_some_and(reaches))
        })
    }

    fn take(&mut self, plan: &WindowPlan, time_ns: TimeNs, order: u64, value: f64, arrival_ns: TimeNs) {
        if self.newest_ns.is_some() && arrival_ns - self.last_arrival_ns > plan.retention_ns() {
            self.forgotten_ns = self.newest_ns.map(|newest_ns| newest_ns + 1);
            self.taken.clear();
        }
        self.last_arrival_ns = arrival_ns;
        let newest_ns = self.newest_ns.map_or(time_ns, |newest_ns| newest_ns.max(time_ns));
        self.newest_ns = Some(newest_ns);
        let cutoff_ns = plan.cutoff_ns(plan.tiers.len() - 1, newest_ns);
        if newest_ns - time_ns <= plan.correction_horizon_ns && time_ns >= cutoff_ns {
            self.taken.insert((time_ns, order), value);
            self.fresh.push(time_ns);
        }
        self.taken.retain(|(time_ns, _), _| *time_ns >= cutoff_ns);
    }
}

/// What the functions of a window look at.
#[derive(Default)]
struct Sums {
    values: Vec<f64>,
    latest: Option<(TimeNs, f64)>,
    increase: Option<f64>,
    rate: Option<f64>,
}

impl Group {
    fn window(&self, rollup: &Rollup, slice_ns: i64, end_ns: TimeNs) -> (u64, Vec<f64>) {
        let mut halves = [Sums::default(), Sums::default()];
        for ((part, _), member) in &self.members {
            let slices: Vec<_> = member.given.range(end_ns - rollup.width_ns..end_ns).collect();
            assert!(slices.iter().all(|(start_ns, _)| **start_ns + slice_ns <= end_ns));
            let samples: Vec<(TimeNs, f64)> =
                slices.iter().flat_map(|(_, (_, s))| s.iter().copied()).collect();
            let Some((_, (before, _))) = slices.first() else { continue };
            halves[usize::from(*part)].add(*before, &samples);
        }
        let value = |half: &Sums, name: &str| {
            let enough = half.values.len() as u64 >= rollup.samples_min;
            half.value(name).filter(|_| enough).unwrap_or(f64::NAN)
        };
        let mut values: Vec<f64> = rollup.functions.iter().map(|name| value(&halves[0], name)).collect();
        if let Some(over) = &rollup.over {
            let below = value(&halves[1], &over.function);
            values[0] = if below == 0.0 { f64::NAN } else { values[0] / below };
        }
        (halves[0].values.len() as u64, values)
    }
}

impl Sums {
    /// Adds a member: its samples in time order, and the one before them.
    fn add(&mut self, before: Option<(TimeNs, f64)>, samples: &[(TimeNs, f64)]) {
        self.values.extend(samples.iter().map(|(_, value)| *value));
        let Some(last) = samples.last() else { return };
        if self.latest.is_none_or(|latest| last.0 >= latest.0) {
            self.latest = Some(*last);
        }
        let steps: Vec<(TimeNs, f64)> = before.into_iter().chain(samples.iter().copied()).collect();
        if steps.len() < 2 {
            return;
        }
        let step = |pair: &[(TimeNs, f64)]| match pair[1].1 >= pair[0].1 {
            true => pair[1].1 - pair[0].1,
            false => pair[1].1,
        };
        let increase: f64 = steps.windows(2).map(step).sum();
        self.increase = Some(self.increase.unwrap_or(0.0) + increase);
        let seconds = (last.0 - steps[0].0) as f64 / SECOND as f64;
        if seconds > 0.0 {
            self.rate = Some(self.rate.map_or(increase / seconds, |rate| rate + increase / seconds));
        }
    }

    fn value(&self, name: &str) -> Option<f64> {
        if self.values.is_empty() {
            return None;
        }
        let sum: f64 = self.values.iter().sum();
        match name {
            "count" => Some(self.values.len() as f64),
            "sum" => Some(sum),
            "avg" => Some(sum / self.values.len() as f64),
            "min" => self.values.iter().copied().reduce(f64::min),
            "max" => self.values.iter().copied().reduce(f64::max),
            "last" => self.latest.map(|latest| latest.1),
            "increase" => self.increase,
            "rate" => self.rate,
            "p90" => {
                let mut sorted = self.values.clone();
                sorted.sort_unstable_by(f64::total_cmp);
                let rank = 0.9 * (sorted.len() - 1) as f64;
                let (low, share) = (sorted[rank as usize], rank.fract());
                let high = sorted.get(rank as usize + 1);
                Some(high.filter(|_| share > 0.0).map_or(low, |high| low + (high - low) * share))
            }
            _ => panic!("{name} is not in the model"),
        }
    }
}
