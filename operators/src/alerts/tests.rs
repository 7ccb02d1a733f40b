//! Alerts of a worker: cases by hand.

#[path = "random_tests.rs"]
mod random;

use super::*;
use crate::alert::{Kind, Timing};
use crate::packed::Reader;
use crate::rule::{Level, Rule, RuleChange, Signal};

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
    let mut machines = Machines::new(patience, 1, AlertCounters::default());
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

#[test]
fn a_strange_sample_fires_and_says_what_was_expected() {
    let level = Level::new(">=".parse().unwrap(), 0.5);
    let strange = Rule { signal: Signal::Anomaly { method: Default::default() }, level, ..rule(0.0, 0) };
    let patience = Patience { slack: Slack::Fixed(0), ..Patience::default() };
    let mut machines = bound(&[strange], patience);
    let mut said = Vec::new();
    for number in 0..600_u64 {
        let time_ns = number as i64 * SECOND;
        let value = if number == 500 { 400.0 } else { 50.0 + (number * 7919 % 13) as f64 };
        if number % 100 == 50 {
            machines = reloaded(&mut machines);
        }
        said.extend(epoch(&mut machines, number + 1, time_ns, &[(time_ns, value)]));
        // What comes late is not judged, and takes nothing back.
        said.extend(epoch(&mut machines, number + 1, time_ns, &[(time_ns - SECOND / 2, -1e9)]));
    }
    let kinds: Vec<_> =
        said.iter().map(|t| (t.transition.kind, t.transition.at_ns / SECOND, t.transition.value)).collect();
    assert_eq!(kinds, [(Kind::Firing, 500, 400.0), (RESOLVED, 501, 400.0)]);
    let expected = said[0].expected.unwrap();
    assert!(expected.score >= 0.5 && expected.lower > 0.0 && expected.upper < 120.0, "{expected:?}");
}

/// Machines as they come out of what they were written as.
fn reloaded(machines: &mut Machines) -> Machines {
    let mut loaded = Machines::new(machines.patience, 1, AlertCounters::default());
    let mut parts = Vec::new();
    machines.save(1, None, |part| parts.push(part.to_vec()));
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
