//! Alerts of a worker: cases by hand, and random values against the definition.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::alert::{Interval, Kind, Timing, Verdict, intervals};
use crate::condition::Bounds;
use crate::packed::Reader;
use crate::rule::{Level, Signal};

fn rule(threshold: f64, seconds: i64) -> Rule {
    Rule {
        name: "r".into(),
        metric: "m".into(),
        level: Level::new(">".parse().unwrap(), threshold),
        timing: Timing::new(seconds * SECOND, 300 * SECOND),
        ..Rule::default()
    }
}

const SERIES: SeriesId = 7;

/// Machines to which these rules are bound for one series.
fn bound(rules: &[Rule], patience: Patience) -> Machines {
    let mut machines = Machines::new(patience, AlertCounters::default());
    let change = RuleChange { removed: Vec::new(), added: (0..).zip(rules.iter().cloned()).collect() };
    let mut controls = vec![Control::Rules(Arc::new(change))];
    controls.extend((0..rules.len() as u32).map(|rule| Control::Bind { series: SERIES, rule, diff: 1 }));
    machines.apply(0, &controls, Vec::new(), |t| panic!("{t:?} when it was bound"));
    machines
}

/// One epoch, its times and those of its samples in nanoseconds.
fn epoch(
    machines: &mut Machines,
    number: u64,
    arrival_ns: TimeNs,
    samples: &[(TimeNs, f64)],
) -> Vec<AlertTransition> {
    let seal = Control::Seal { arrival_ns, floor_ns: TimeNs::MIN };
    let sample = |(time_ns, value): &(TimeNs, f64)| Sample {
        series: SERIES,
        seq: 0,
        time_ns: *time_ns,
        value: *value,
    };
    let mut said = Vec::new();
    machines.apply(number, &[seal], vec![samples.iter().map(sample).collect()], |t| said.push(t));
    said
}

type Epochs<'a> = &'a [(i64, &'a [(i64, f64)])];

/// Epochs of (arrival second, samples as (second, value)); gives kinds with seconds.
fn run(rules: &[Rule], epochs: Epochs<'_>) -> (Vec<(u32, Kind, i64)>, u64) {
    run_with(Slack::default(), rules, epochs)
}

fn run_with(slack: Slack, rules: &[Rule], epochs: Epochs<'_>) -> (Vec<(u32, Kind, i64)>, u64) {
    let mut machines = bound(rules, Patience { slack, ..Patience::default() });
    let mut seen = Vec::new();
    for (number, (arrival_s, samples)) in (1..).zip(epochs) {
        let samples: Vec<_> = samples.iter().map(|(s, value)| (s * SECOND, *value)).collect();
        let said = epoch(&mut machines, number, arrival_s * SECOND, &samples);
        seen.extend(said.iter().map(|t| (t.rule, t.transition.kind, t.transition.at_ns / SECOND)));
        let timers_max = TIMERS_SPARE_MAX + 2 * machines.places.len() + 1;
        assert!(machines.timers.len() <= timers_max, "{} timers", machines.timers.len());
    }
    (seen, machines.counters.late.load(Ordering::Relaxed))
}

const RESOLVED: Kind = Kind::Resolved { no_data: false };

#[test]
fn an_alert_fires_when_event_time_proves_it_whatever_the_batches() {
    let expected = vec![(0, Kind::Pending, 10), (0, Kind::Firing, 40), (0, RESOLVED, 60)];
    let samples: Vec<(i64, f64)> =
        (0..70).map(|s| (s, if (10..60).contains(&s) { 90.0 } else { 1.0 })).collect();
    assert_eq!(run(&[rule(80.0, 30)], &[(0, &samples)]).0, expected);
    let singles: Vec<(i64, &[(i64, f64)])> = samples.chunks(1).map(|one| (one[0].0, one)).collect();
    assert_eq!(run(&[rule(80.0, 30)], &singles).0, expected);
}

#[test]
fn a_silent_series_goes_by_the_arrival_clock() {
    let (seen, _) =
        run(&[rule(80.0, 30)], &[(0, &[(0, 90.0)]), (29, &[]), (31, &[]), (299, &[]), (301, &[])]);
    let expected = [(0, Kind::Pending, 0), (0, Kind::Firing, 30), (0, Kind::Resolved { no_data: true }, 300)];
    assert_eq!(seen, expected);
}

#[test]
fn a_new_breach_does_not_wait_for_the_timer_of_the_one_before() {
    // It fires in silence, so its timer is set for the end of its data, at 300 s; then it is resolved by a
    // sample, and the next breach is due at 90 s.
    let (seen, _) = run(
        &[rule(80.0, 30)],
        &[(0, &[(0, 90.0)]), (31, &[]), (50, &[(50, 1.0)]), (60, &[(60, 90.0)]), (89, &[]), (91, &[])],
    );
    assert_eq!(seen[3..], [(0, Kind::Pending, 60), (0, Kind::Firing, 90)], "{seen:?}");
}

#[test]
fn a_flapping_alert_does_not_gather_timers() {
    let epochs: Vec<(i64, [(i64, f64); 2])> =
        (0..2000).map(|at| (at * 100, [(at * 100, 1.0), (at * 100 + 1, 90.0)])).collect();
    // Each is followed by silence, in which it fires and sets a timer for an end that never comes.
    let mut all: Vec<(i64, &[(i64, f64)])> = Vec::new();
    for (arrival_s, samples) in &epochs {
        all.extend([(*arrival_s, &samples[..]), (arrival_s + 40, &[][..])]);
    }
    let mut long = rule(80.0, 30);
    long.timing.stale_ns = 1_000_000 * SECOND;
    let (seen, _) = run(&[long], &all);
    assert_eq!(seen.iter().filter(|(_, kind, _)| *kind == Kind::Firing).count(), 2000);
}

#[test]
fn a_late_sample_takes_a_reason_away_and_another_supplies_one() {
    let (seen, late) = run_with(
        Slack::Fixed(0),
        &[rule(80.0, 30)],
        &[
            (0, &[(0, 90.0), (10, 90.0), (25, 90.0), (31, 90.0)]),
            // It did not breach at 20: what fired had no reason, and what is now begins at 25.
            (32, &[(20, 1.0)]),
            (56, &[(56, 90.0)]),
            // Nor at 40.
            (57, &[(40, 1.0)]),
            (60, &[(60, 1.0)]),
            (61, &[(29, 1.0)]),
        ],
    );
    let (pending, firing) = (Kind::Pending, Kind::Firing);
    let expected = [
        (pending, 0),
        (firing, 30),
        (Kind::Retracted, 30),
        (pending, 25),
        (firing, 55),
        (Kind::Retracted, 55),
        (pending, 56),
        (Kind::Cancelled, 60),
    ];
    assert_eq!(seen, expected.map(|(kind, at)| (0, kind, at)));
    assert_eq!(late, 1, "29 is more than 30 seconds behind 60");
    let (seen, _) = run_with(
        Slack::Fixed(0),
        &[rule(80.0, 30)],
        &[
            (0, &[(0, 90.0), (5, 1.0), (29, 90.0)]),
            (30, &[(20, 90.0)]),
            (55, &[(45, 90.0)]),
            (56, &[(55, 90.0)]),
        ],
    );
    let expected = [(pending, 29), (Kind::Cancelled, 29), (pending, 20), (firing, 50)];
    assert_eq!(seen[2..], expected.map(|(kind, at)| (0, kind, at)), "{seen:?}");
}

#[test]
fn slack_waits_for_stragglers_and_what_it_waits_for_is_no_correction() {
    let mut machines =
        bound(&[rule(80.0, 0)], Patience { slack: Slack::Fixed(2 * SECOND), ..Patience::default() });
    let mut said = Vec::new();
    let epochs: Epochs<'_> =
        &[(10, &[(10, 90.0)]), (11, &[(11, 1.0)]), (12, &[(9, 1.0)]), (13, &[(13, 1.0)]), (15, &[])];
    for (number, (arrival_s, samples)) in (1..).zip(epochs) {
        let samples: Vec<_> = samples.iter().map(|(s, value)| (s * SECOND, *value)).collect();
        let some = epoch(&mut machines, number, arrival_s * SECOND, &samples);
        said.extend(some.iter().map(|t| (*arrival_s, t.transition.kind, t.transition.at_ns / SECOND)));
    }
    assert_eq!(said, [(13, Kind::Firing, 10), (13, RESOLVED, 11)]);
}

#[test]
fn a_source_that_was_out_of_order_is_waited_for() {
    let (seen, _) = run(
        &[rule(80.0, 0)],
        // Half a second late: from then on, breaches of this source are said half a second later.
        &[(1, &[(1, 1.0)]), (2, &[(3, 1.0)]), (3, &[(2, 1.0)]), (4, &[(4, 90.0)]), (5, &[])],
    );
    assert_eq!(seen, [(0, Kind::Firing, 4)]);
    let mut machines = bound(&[rule(80.0, 0)], Patience::default());
    let tenths = |s: i64| s * SECOND / 10;
    for (number, time) in [(1, 10), (2, 30), (3, 25)] {
        assert_eq!(epoch(&mut machines, number, tenths(time), &[(tenths(time), 1.0)]), []);
    }
    assert_eq!(epoch(&mut machines, 4, tenths(40), &[(tenths(40), 90.0)]), []);
    assert_eq!(epoch(&mut machines, 5, tenths(44), &[]), []);
    assert_eq!(epoch(&mut machines, 6, tenths(45), &[]).len(), 1, "half a second after it came");
}

#[test]
fn what_is_missing_and_what_is_old() {
    let absent = Rule {
        signal: Signal::Absent { for_ns: 20 * SECOND },
        timing: Timing::new(10 * SECOND, 0),
        ..rule(0.0, 0)
    };
    let stale =
        Rule { signal: Signal::Stale { for_ns: 60 * SECOND }, timing: Timing::new(0, 0), ..rule(0.0, 0) };
    let (seen, _) = run(
        &[absent, stale],
        &[
            (0, &[(0, 1.0)]),
            (40, &[]),
            (45, &[(15, 1.0)]),
            (50, &[(50, 1.0)]),
            (70, &[(10, 1.0)]),
            (111, &[]),
            (112, &[(112, 1.0)]),
        ],
    );
    let expected = [
        // Silent since 0: absent from 20 on, firing from 30 on; then it was not.
        (0, Kind::Pending, 20),
        (0, Kind::Firing, 30),
        (0, Kind::Retracted, 30),
        (0, Kind::Pending, 35),
        (0, Kind::Firing, 45),
        (0, RESOLVED, 50),
    ];
    assert_eq!(seen[..6], expected, "{seen:?}");
    let of_stale: Vec<_> =
        seen.iter().filter(|(rule, ..)| *rule == 1).map(|(_, kind, at)| (*kind, *at)).collect();
    assert_eq!(of_stale, [(Kind::Firing, 110), (RESOLVED, 112)]);
}

#[test]
fn a_removed_rule_takes_back_what_it_said() {
    let mut machines = bound(&[rule(80.0, 0), rule(85.0, 60), rule(10.0, 0)], Patience::default());
    assert_eq!(epoch(&mut machines, 1, SECOND, &[(SECOND, 90.0)]).len(), 3);
    let change = RuleChange { removed: vec![0, 1], added: Vec::new() };
    let unbind = |rule| Control::Bind { series: SERIES, rule, diff: -1 };
    let controls = [
        Control::Rules(Arc::new(change)),
        unbind(0),
        unbind(1),
        Control::Seal { arrival_ns: 2 * SECOND, floor_ns: TimeNs::MIN },
    ];
    let mut said = Vec::new();
    machines.apply(2, &controls, Vec::new(), |t| said.push((t.rule, t.transition.kind)));
    assert_eq!(said, [(0, Kind::Retracted), (1, Kind::Cancelled)]);
    assert_eq!((machines.live().count(), machines.rules().all().len()), (1, 1));
}

#[test]
fn a_source_keeps_a_bounded_number_of_values() {
    let mut machines = bound(&[rule(80.0, 0), rule(60.0, 0)], Patience::default());
    let mut firing = 0;
    for number in 0..20_000_u64 {
        let time_ns = number as i64 * SECOND / 1000;
        let said = epoch(
            &mut machines,
            number + 1,
            time_ns,
            &[(time_ns, if number % 7 == 0 { 90.0 } else { 70.0 })],
        );
        firing += said.iter().filter(|t| t.transition.kind == Kind::Firing).count();
        assert!(machines.sources[0].1.kept_len() <= KEPT_LEN_MAX);
    }
    assert_eq!(firing, 1 + 20_000_usize.div_ceil(7));
    // A second back is further than what is kept.
    assert_eq!(epoch(&mut machines, 30_000, 20 * SECOND, &[(18 * SECOND, 1.0)]), []);
    assert_eq!(machines.counters.late.load(Ordering::Relaxed), 1);
}

/// Machines as they come out of what they were written as.
fn reloaded(machines: &Machines) -> Machines {
    let mut loaded = Machines::new(machines.patience, AlertCounters::default());
    let mut parts = Vec::new();
    machines.save(1, |part| parts.push(part));
    for part in parts {
        let mut sources = Vec::new();
        let saved = Machines::load(&mut Reader::new(&part), 8, |source| {
            sources.push(source);
            Ok(())
        });
        let saved = saved.unwrap();
        sources.into_iter().for_each(|source| assert!(loaded.restore(source).is_ok()));
        loaded.resume(&RuleChange { removed: Vec::new(), added: saved.rules }, saved.arrival_ns);
        loaded.counters.late.fetch_add(saved.late, Ordering::Relaxed);
    }
    loaded
}

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
struct Known(BTreeMap<(u32, TimeNs), (TimeNs, Option<(TimeNs, bool)>)>);

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
        let interval =
            |((_, start_ns), (fired_ns, end)): (&(u32, TimeNs), &(TimeNs, Option<(TimeNs, bool)>))| {
                Interval {
                    start_ns: *start_ns,
                    fire_ns: Some(*fired_ns),
                    end_ns: end.map(|(end_ns, _)| end_ns),
                    no_data: end.is_some_and(|(_, no_data)| no_data),
                }
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
            machines = reloaded(&machines);
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
