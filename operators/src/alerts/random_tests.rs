//! Random values against the definition.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::alert::{Interval, Timing, Verdict, intervals};
use crate::condition::Bounds;
use crate::rule::Rule;

/// What a run does: epochs that arrive so many milliseconds after the one before, with samples so far from the time
/// of arrival, of a value.
type Script = Vec<(u16, Vec<(i32, u8)>)>;

fn script() -> impl Strategy<Value = Script> {
    let offset = prop_oneof![6 => Just(0), 3 => -3_000..1_000_i32, 2 => -40_000..0_i32, 1 => -200_000..0_i32];
    let samples = prop::collection::vec((offset, 0..12_u8), 0..4);
    let step = prop_oneof![8 => 1..3_000_u16, 1 => Just(1_000), 1 => 20_000..50_000_u16];
    prop::collection::vec((step, samples), 1..60)
}

fn rules() -> impl Strategy<Value = Rule> {
    let seconds = |most: i64| prop_oneof![Just(0), Just(1_000), 0..most].prop_map(|ms| ms * SECOND / 1000);
    let operator = prop_oneof![Just(">"), Just("<="), Just("!="), Just("outside"), Just("inside")];
    let level = (operator, 2..10_u8, 0..3_u8, prop::option::of(1..3_u8));
    let level = level.prop_map(|(symbol, threshold, width, resolve)| {
        let operator: crate::condition::Operator = symbol.parse().unwrap();
        let lower = f64::from(threshold);
        let upper = if operator.is_of_range() { lower + f64::from(width) } else { lower };
        let moved = |by: f64| match symbol {
            ">" => Bounds { lower: lower - by, upper: upper - by },
            "<=" => Bounds { lower: lower + by, upper: upper + by },
            "outside" => Bounds { lower: lower + by / 4.0, upper: upper - by / 4.0 },
            _ => Bounds { lower, upper },
        };
        Level { operator, bounds: Bounds { lower, upper }, resolve: resolve.map(|by| moved(f64::from(by))) }
    });
    let signal = prop_oneof![4 => Just(Signal::Sample), 1 => (1..20_000_i64).prop_map(|ms| Signal::Absent { for_ns: ms * SECOND / 1000 })];
    let keep = prop_oneof![2 => Just(0), 1 => seconds(10_000)];
    (level, signal, seconds(15_000), prop_oneof![Just(300 * SECOND), seconds(20_000)], keep).prop_map(
        |(level, signal, duration_ns, stale_ns, keep_ns)| Rule {
            level,
            signal,
            timing: Timing { duration_ns, stale_ns, keep_ns },
            ..rule(0.0, 0)
        },
    )
}

/// The samples that count, by the definition: those not further than the lateness behind what had come in earlier
/// epochs.
fn accepted(script: &Script, lateness_ns: DurationNs) -> (Vec<(TimeNs, f64)>, u64) {
    let (mut arrival_ns, mut newest_ns, mut late) = (0, TimeNs::MIN, 0);
    let mut taken: Vec<(TimeNs, f64)> = Vec::new();
    for (step, samples) in script {
        arrival_ns += i64::from(*step) * SECOND / 1000;
        let mut of_epoch: Vec<_> =
            samples.iter().map(|(offset, value)| at(arrival_ns, *offset, *value)).collect();
        of_epoch.sort_by_key(|(time_ns, _)| *time_ns);
        let oldest_ns = newest_ns.saturating_sub(lateness_ns);
        for sample in of_epoch {
            if sample.0 < oldest_ns {
                late += 1;
            } else {
                taken.push(sample);
                newest_ns = newest_ns.max(sample.0);
            }
        }
    }
    taken.sort_by_key(|(time_ns, _)| *time_ns);
    (taken, late)
}

/// Samples of one time have one value: which of several counts first is told by the cases of `alert`.
fn at(arrival_ns: TimeNs, offset_ms: i32, value: u8) -> (TimeNs, f64) {
    let time_ms = (arrival_ns + i64::from(offset_ms) * SECOND / 1000) / (SECOND / 1000);
    let round = time_ms % 100 == 0;
    // Two may fall on a round time: one and the same value there.
    let time_ms = if round { time_ms } else { time_ms / 12 * 12 + i64::from(value) };
    (time_ms * SECOND / 1000, if round { (time_ms / 100 % 12) as f64 } else { f64::from(value) })
}

/// The firings of a rule, from all samples at once.
fn expected(rule: &Rule, samples: &[(TimeNs, f64)], clock_ns: TimeNs) -> Vec<Interval> {
    let fired = |found: Vec<Interval>| found.into_iter().filter(|i| i.fire_ns.is_some()).collect();
    let Signal::Absent { for_ns } = rule.signal else {
        return fired(intervals(samples, rule.timing, |value| rule.level.verdict(value), clock_ns));
    };
    // Breaches between samples that lie too far apart, as samples of their own.
    let mut gaps: Vec<(TimeNs, f64)> = Vec::new();
    for pair in samples.windows(2) {
        gaps.push((pair[0].0, 0.0));
        if pair[1].0 - pair[0].0 > for_ns {
            gaps.push((pair[0].0 + for_ns, 1.0));
        }
    }
    if let Some((last_ns, _)) = samples.last() {
        gaps.push((*last_ns, 0.0));
        if clock_ns - last_ns > for_ns {
            gaps.push((last_ns + for_ns, 1.0));
        }
    }
    let timing = Timing { stale_ns: DurationNs::MAX, ..rule.timing };
    let judge = |value: f64| if value > 0.0 { Verdict::Breach } else { Verdict::Quiet };
    fired(intervals(&gaps, timing, judge, clock_ns))
}

/// The firings that are told and not taken back: what a receiver knows in the end.
#[derive(Default)]
struct Known(BTreeMap<(u32, TimeNs), Firing>);

/// When a firing began, and when it ended, if it has, and whether in silence.
type Firing = (TimeNs, Option<(TimeNs, bool)>);

impl Known {
    fn learn(&mut self, moved: &AlertTransition) {
        let Transition { kind, at_ns, since_ns, .. } = moved.transition;
        let key = (moved.rule, since_ns);
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

    fn of(&self, rule: u32) -> Vec<Interval> {
        let of_rule = self.0.range((rule, TimeNs::MIN)..=(rule, TimeNs::MAX));
        let interval = |((_, start_ns), (fired_ns, end)): (&(u32, TimeNs), &Firing)| Interval {
            start_ns: *start_ns,
            fire_ns: Some(*fired_ns),
            end_ns: end.map(|(end_ns, _)| end_ns),
            no_data: end.is_some_and(|(_, no_data)| no_data),
        };
        of_rule.map(interval).collect()
    }
}

fn check(rules: &[Rule], script: &Script, slack: Slack, cuts: &[bool]) -> Result<(), TestCaseError> {
    let patience = Patience { slack, ..Patience::default() };
    let mut machines = bound(rules, patience);
    let (mut known, mut arrival_ns) = (Known::default(), 0);
    for (number, (step, samples)) in (1..).zip(script) {
        arrival_ns += i64::from(*step) * SECOND / 1000;
        if cuts.get(number as usize).copied().unwrap_or_default() {
            machines = reloaded(&mut machines);
        }
        let samples: Vec<_> = samples.iter().map(|(offset, value)| at(arrival_ns, *offset, *value)).collect();
        epoch(&mut machines, number, arrival_ns, &samples).iter().for_each(|moved| known.learn(moved));
    }
    // Silence, until everything is settled.
    arrival_ns += 60 * SECOND;
    epoch(&mut machines, 1000, arrival_ns, &[]).iter().for_each(|moved| known.learn(moved));
    let (samples, late) = accepted(script, patience.lateness_ns);
    prop_assert_eq!(machines.counters.late.load(Ordering::Relaxed), late);
    for (number, rule) in (0..).zip(rules) {
        // The machines look when they have a reason to; what the clock proves is what it proved then.
        let clock_ns = arrival_ns.max(samples.last().map_or(0, |s| s.0));
        prop_assert_eq!(known.of(number), expected(rule, &samples, clock_ns), "{:?}", rule);
        let firing =
            machines.live().filter(|(of, _, machine, _)| *of == number && machine.fired_ns().is_some());
        let open = known.of(number).iter().filter(|i| i.end_ns.is_none()).count();
        prop_assert_eq!(firing.count(), open);
    }
    Ok(())
}

fn slack() -> impl Strategy<Value = Slack> {
    prop_oneof![
        Just(Slack::Auto(SECOND)),
        Just(Slack::Fixed(0)),
        (0..5_000_i64).prop_map(|ms| Slack::Fixed(ms * SECOND / 1000))
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(3000) })]

    #[test]
    fn firings_are_those_of_all_samples_at_once(
        rules in prop::collection::vec(rules(), 1..4),
        script in script(),
        slack in slack(),
        cuts in prop::collection::vec(prop::bool::weighted(0.1), 60),
    ) {
        check(&rules, &script, slack, &cuts)?;
    }
}
