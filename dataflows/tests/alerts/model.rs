//! Random cases, and what the definition gives for them.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use dataflows::epoch::Epoch;
use operators::alert::{Interval, Kind, Timing, Transition, Verdict, intervals};
use operators::alerts::{AlertTransition, Slack, Source};
use operators::catalog::Entry;
use operators::condition::{Bounds, Operator};
use operators::rule::{Grouping, Level, Rule, RuleChange, Signal, WindowSignal};
use operators::sample::{DurationNs, MINUTE, SECOND, Sample, SeriesId, TimeNs};
use operators::series::{SeriesKey, Target};
use operators::tier::{Tier, WindowPlan};

const START: TimeNs = 1_700_000_000 * SECOND;
const SERIES: u32 = 7;
const MS: i64 = SECOND / 1000;
/// Five seconds, and what an epoch comes behind the newest sample.
const SLACK_MAX_NS: DurationNs = 10 * SECOND;

/// Nothing that a rule could look back for is given up.
pub fn windows() -> WindowPlan {
    WindowPlan {
        tiers: vec![Tier { width_ns: 10 * SECOND, retention_ns: 600 * MINUTE }],
        lateness_ns: 20 * SECOND,
        correction_horizon_ns: 600 * MINUTE,
        idle_timeout_ns: 30 * SECOND,
    }
}

/// Numbers by SplitMix64 (Steele, Lea, Flood 2014).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn between(&mut self, from: i64, till: i64) -> i64 {
        from + self.below((till - from) as u64) as i64
    }

    fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }
}

/// A rule, and the epochs that it comes and goes with.
pub struct Watch {
    pub rule: Rule,
    pub from: u64,
    pub till: Option<u64>,
}

pub struct Case {
    pub slack: Slack,
    pub rules: Vec<Watch>,
    pub epochs: Vec<Arc<Epoch>>,
}

pub fn key(series: SeriesId) -> SeriesKey {
    let target = Target::new("s", [("n", series.to_string().as_str())]);
    SeriesKey { target: Arc::new(target), metric: format!("m{}", series % 3).into() }
}

/// The value of a series at a time, one that stays for some seconds: which of several at one time counts first is told
/// elsewhere.
fn value_at(seed: u64, series: SeriesId, time_ns: TimeNs) -> f64 {
    let slow = Random(seed ^ u64::from(series) << 32 ^ (time_ns / (7 * SECOND)) as u64).below(10);
    let fast = Random(seed ^ u64::from(series) << 32 ^ time_ns as u64).below(4);
    if fast == 0 { Random(time_ns as u64).below(10) as f64 } else { slow as f64 }
}

fn random_rule(random: &mut Random, number: usize) -> Rule {
    let symbol = [">", "<=", "!=", ">=", "outside", "inside"][random.below(6) as usize];
    let operator: Operator = symbol.parse().unwrap();
    let lower = random.between(1, 9) as f64;
    let width = if operator.is_of_range() { random.between(0, 4) as f64 } else { 0.0 };
    let bounds = Bounds { lower, upper: lower + width };
    let moved = match symbol {
        ">" | ">=" => Bounds { lower: lower - 2.0, upper: lower - 2.0 },
        "<=" => Bounds { lower: lower + 2.0, upper: lower + 2.0 },
        _ => bounds,
    };
    let resolve = random.one_in(3).then_some(moved);
    let duration_ns = [0, 5 * SECOND, random.between(0, 30_000) * MS][random.below(3) as usize];
    let stale_ns = [90 * SECOND, random.between(1_000, 40_000) * MS][random.below(2) as usize];
    let keep_ns = if random.one_in(3) { random.between(1, 20_000) * MS } else { 0 };
    let absent = random.one_in(5).then(|| Signal::Absent { for_ns: random.between(1_000, 60_000) * MS });
    Rule {
        name: format!("r{number}").into(),
        metric: format!("m{}", random.below(3)),
        signal: absent.unwrap_or_default(),
        level: Level { operator, bounds, resolve },
        timing: Timing { duration_ns, stale_ns, keep_ns },
        ..Rule::default()
    }
}

impl Case {
    pub fn random(seed: u64) -> Case {
        let random = &mut Random(seed);
        let slack = match random.below(3) {
            0 => Slack::Auto(SECOND),
            1 => Slack::Fixed(0),
            _ => Slack::Fixed(random.between(0, 5_000) * MS),
        };
        let len = random.between(10, 120) as u64;
        let comes_later = random.one_in(2);
        let rules: Vec<Watch> = (0..random.between(1, 5) as usize)
            .map(|number| {
                let from = if comes_later && random.one_in(2) { random.below(len) + 1 } else { 1 };
                let till = random.one_in(5).then(|| from + 1 + random.below(len));
                Watch { rule: random_rule(random, number), from, till: till.filter(|till| *till <= len) }
            })
            .collect();
        // What is too late for alerts is in the panes that a new rule starts from; so only where none comes later.
        let late_s = if comes_later { 19 } else { 300 };
        let (mut arrival_ns, mut known, mut epochs) = (START, HashSet::new(), Vec::new());
        let mut newest: BTreeMap<SeriesId, TimeNs> = BTreeMap::new();
        for number in 1..=len {
            arrival_ns += if random.one_in(12) {
                random.between(20, 60) * SECOND
            } else {
                random.between(1, 3_000) * MS
            };
            let mut epoch = Epoch { number, arrival_ns, floor_ns: TimeNs::MIN, ..Epoch::default() };
            let mut of_epoch = Vec::new();
            for _ in 0..random.below(3) {
                let mut batch = Vec::new();
                for _ in 0..random.below(10) {
                    let series = random.below(u64::from(SERIES)) as SeriesId;
                    let offset_ns = match random.below(8) {
                        0..5 => 0,
                        5 | 6 => random.between(-15_000, 1_000) * MS,
                        _ => random.between(-late_s * 1_000, 0) * MS,
                    };
                    let mut time_ns = (arrival_ns + offset_ns) / (100 * MS) * (100 * MS);
                    if comes_later {
                        let newest_ns = newest.get(&series).copied().unwrap_or(TimeNs::MIN);
                        time_ns = time_ns.max(newest_ns.saturating_sub(late_s * SECOND));
                    }
                    if known.insert(series) {
                        epoch.entries.push(Entry { id: series, key: key(series) });
                    }
                    let sample = Sample { series, seq: 0, time_ns, value: value_at(seed, series, time_ns) };
                    let twice = random.one_in(15);
                    batch.extend(std::iter::repeat_n(sample, 1 + usize::from(twice)));
                    of_epoch.push(sample);
                }
                epoch.batches.push(batch);
            }
            for sample in of_epoch {
                let held_ns = newest.entry(sample.series).or_insert(sample.time_ns);
                *held_ns = sample.time_ns.max(*held_ns);
            }
            epoch.rules = changes(&rules, number).map(Arc::new);
            epochs.push(Arc::new(epoch));
        }
        // Silence, until everything is settled.
        epochs.push(Arc::new(Epoch {
            number: len + 1,
            arrival_ns: arrival_ns + 60 * SECOND,
            floor_ns: TimeNs::MIN,
            ..Epoch::default()
        }));
        Case { slack, rules, epochs }
    }
}

impl Case {
    /// Has a rule about windows come with one of the epochs, and no other.
    pub fn rule_of_windows(&mut self, random: &mut Random) {
        let grouping = match random.below(3) {
            0 => Grouping::Series,
            1 => Grouping::By(vec!["service".into()]),
            _ => Grouping::By(vec!["n".into()]),
        };
        let signal = WindowSignal {
            function: ["avg", "max", "p90", "count"][random.below(4) as usize].into(),
            window_ns: random.between(1, 7) * 10 * SECOND,
            hop_ns: 10 * SECOND,
            grouping,
            over: None,
            samples_min: random.below(4),
        };
        let level = Level::new(">".parse().unwrap(), random.between(2, 8) as f64);
        let timing = Timing::new(random.between(0, 40) * SECOND, 300 * SECOND);
        let metric = format!("m{}", random.below(3));
        let signal = Signal::Window(signal);
        let rule = Rule { name: "windows".into(), metric, signal, level, timing, ..Rule::default() };
        let from = random.below(self.epochs.len() as u64 / 2) as usize;
        self.rules.clear();
        for (at, epoch) in self.epochs.iter_mut().enumerate() {
            // Nobody else has it yet.
            let epoch = Arc::get_mut(epoch).unwrap();
            let added = vec![(0, rule.clone())];
            epoch.rules = (at == from).then(|| Arc::new(RuleChange { removed: Vec::new(), added }));
        }
    }
}

fn changes(rules: &[Watch], epoch: u64) -> Option<RuleChange> {
    let numbered = || (0_u32..).zip(rules);
    let removed =
        numbered().filter(|(_, watch)| watch.till == Some(epoch)).map(|(number, _)| number).collect();
    let added = numbered().filter(|(_, watch)| watch.from == epoch).map(|(n, watch)| (n, watch.rule.clone()));
    Some(RuleChange { removed, added: added.collect() }).filter(|change| !change.is_empty())
}

/// What a receiver must know in the end of one rule and series.
#[derive(Debug)]
pub struct Expected {
    pub rule: u32,
    pub series: SeriesId,
    pub firings: Vec<Interval>,
    /// Of them those that were over when the rule came, or not settled when it went: nobody need be told.
    pub over: Vec<Interval>,
}

pub fn expected(case: &Case) -> Vec<Expected> {
    let last = case.epochs.len() as u64;
    let mut all = Vec::new();
    for (number, watch) in (0..).zip(&case.rules) {
        let series = (0..SERIES).filter(|series| *key(*series).metric == *watch.rule.metric);
        for series in series {
            let mut firings = as_of(case, &watch.rule, series, watch.till.map_or(last, |till| till - 1));
            if watch.till.is_some() {
                // What had a reason only while the rule was there is taken back with it.
                firings.retain(|firing| firing.end_ns.is_some());
            }
            let before = as_of(case, &watch.rule, series, watch.from - 1);
            let over = |firing: &&Interval| {
                before.iter().any(|then| then.start_ns == firing.start_ns && then.end_ns.is_some())
            };
            // What is not settled when a rule goes is not said any more.
            let arrival_ns = watch.till.map(|till| case.epochs[till as usize - 2].arrival_ns);
            let unsettled = |firing: &&Interval| {
                arrival_ns
                    .zip(firing.end_ns)
                    .is_some_and(|(arrival_ns, end_ns)| end_ns > arrival_ns - SLACK_MAX_NS)
            };
            let over = firings.iter().filter(|firing| over(firing) || unsettled(firing)).copied().collect();
            all.push(Expected { rule: number, series, firings, over });
        }
    }
    all
}

/// The firings of a rule and series as they are known behind an epoch.
fn as_of(case: &Case, rule: &Rule, series: SeriesId, epoch: u64) -> Vec<Interval> {
    let WindowPlan { lateness_ns, idle_timeout_ns, .. } = windows();
    let (mut samples, mut newest_ns): (Vec<(TimeNs, f64)>, TimeNs) = (Vec::new(), TimeNs::MIN);
    let (mut arrival_ns, mut last_arrival_ns) = (0, 0);
    for epoch in &case.epochs[..epoch as usize] {
        arrival_ns = epoch.arrival_ns;
        let oldest_ns = newest_ns.saturating_sub(lateness_ns);
        for sample in epoch.batches.iter().flatten().filter(|sample| sample.series == series) {
            last_arrival_ns = arrival_ns;
            if sample.time_ns >= oldest_ns {
                samples.push((sample.time_ns, sample.value));
                newest_ns = newest_ns.max(sample.time_ns);
            }
        }
    }
    samples.sort_by_key(|(time_ns, _)| *time_ns);
    let silent = arrival_ns - last_arrival_ns >= idle_timeout_ns;
    let clock_ns = if silent { arrival_ns.max(newest_ns) } else { newest_ns };
    let found = match rule.signal {
        Signal::Absent { for_ns } => {
            let timing = Timing { stale_ns: DurationNs::MAX, ..rule.timing };
            let judge = |value: f64| if value > 0.0 { Verdict::Breach } else { Verdict::Quiet };
            intervals(&gaps(&samples, for_ns, clock_ns), timing, judge, clock_ns)
        }
        _ => intervals(&samples, rule.timing, |value| rule.level.verdict(value), clock_ns),
    };
    found.into_iter().filter(|interval| interval.fire_ns.is_some()).collect()
}

/// Samples with 0, and where they lie too far apart, with 1 where the absence begins.
fn gaps(samples: &[(TimeNs, f64)], for_ns: DurationNs, clock_ns: TimeNs) -> Vec<(TimeNs, f64)> {
    let nexts = samples.iter().skip(1).map(|(time_ns, _)| *time_ns).chain([clock_ns]);
    let mut gaps = Vec::new();
    for ((time_ns, _), next_ns) in samples.iter().zip(nexts) {
        gaps.push((*time_ns, 0.0));
        if next_ns - time_ns > for_ns {
            gaps.push((time_ns + for_ns, 1.0));
        }
    }
    gaps
}

/// The firings that are told and not taken back.
#[derive(Default)]
pub struct Known(BTreeMap<(u32, Source, TimeNs), Firing>);

/// When a firing began, and when it ended, if it has, and whether in silence.
pub type Firing = (TimeNs, Option<(TimeNs, bool)>);

impl Known {
    pub fn learn(&mut self, moved: &AlertTransition) {
        let Transition { kind, at_ns, since_ns, .. } = moved.transition;
        let key = (moved.rule, moved.source, since_ns);
        match kind {
            Kind::Pending | Kind::Cancelled => {}
            Kind::Firing => {
                let before = self.0.insert(key, (at_ns, None));
                assert!(before.is_none_or(|(_, end)| end.is_some()), "told twice: {moved:?}");
            }
            Kind::Resolved { no_data } => {
                let known = self.0.get_mut(&key).unwrap_or_else(|| panic!("never fired: {moved:?}"));
                assert_ne!(known.1, Some((at_ns, no_data)), "told twice: {moved:?}");
                known.1 = Some((at_ns, no_data));
            }
            Kind::Retracted => {
                let before = self.0.remove(&key);
                assert_eq!(before.map(|(fired_ns, _)| fired_ns), Some(at_ns), "{moved:?}");
            }
        }
    }

    pub fn of(&self, rule: u32, series: SeriesId) -> Vec<Interval> {
        let of = self.0.iter().filter(|((r, source, _), _)| (*r, *source) == (rule, Source::Series(series)));
        of.map(|((.., start_ns), (fired_ns, end))| Interval {
            start_ns: *start_ns,
            fire_ns: Some(*fired_ns),
            end_ns: end.map(|(end_ns, _)| end_ns),
            no_data: end.is_some_and(|(_, no_data)| no_data),
        })
        .collect()
    }

    /// Firings of groups: group, start, when it fired, its end.
    pub fn of_groups(&self) -> Vec<(Source, TimeNs, Firing)> {
        let all = self.0.iter().map(|((_, source, start_ns), firing)| (*source, *start_ns, *firing));
        all.filter(|(source, ..)| matches!(source, Source::Group { .. })).collect()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }
}
