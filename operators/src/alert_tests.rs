//! The life cycle: tables of cases, and thousands of random series against the definition.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::series::Target;

/// A step of a case: a sample that breaches (its value), one that does not, or a clock.
#[derive(Clone, Copy, Debug)]
enum Step {
    Bad(TimeNs, f64),
    Good(TimeNs),
    Clock(TimeNs),
}
use Step::{Bad, Clock, Good};

fn run(timing: Timing, steps: &[Step]) -> (Machine, Vec<Transition>) {
    let mut machine = Machine::new();
    let mut said = Vec::new();
    for step in steps {
        let out = &mut |transition| said.push(transition);
        match *step {
            Bad(time_ns, value) => machine.sample(timing, time_ns, Verdict::Breach, value, out),
            Good(time_ns) => machine.sample(timing, time_ns, Verdict::Quiet, 0.0, out),
            Clock(clock_ns) => machine.advance(timing, clock_ns, out),
        }
    }
    (machine, said)
}

const NO_DATA: Kind = Kind::Resolved { no_data: true };
const RESOLVED: Kind = Kind::Resolved { no_data: false };

/// (kind, at, since, value, decided by)
type Expect = (Kind, TimeNs, TimeNs, f64, TimeNs);

/// `duration` 30, `stale` 20.
fn check(name: &str, steps: &[Step], expect: &[Expect]) {
    let timing = Timing::new(30, 20);
    let expect: Vec<Transition> = expect
        .iter()
        .map(|&(kind, at_ns, since_ns, value, decided_by_ns)| Transition {
            kind,
            at_ns,
            since_ns,
            value,
            decided_by_ns,
        })
        .collect();
    assert_eq!(run(timing, steps).1, expect, "{name}");
}

#[test]
fn a_breach_fires_when_it_has_lasted() {
    let start = (Kind::Pending, 100, 100, 1.0, 100);
    let hold = [Bad(100, 1.0), Bad(110, 2.0), Bad(125, 3.0)];
    let with = |step: Step| [hold.as_slice(), &[step]].concat();
    check("not yet", &hold, &[start]);
    check("clock at the deadline", &with(Clock(130)), &[start]);
    check("clock past the deadline", &with(Clock(131)), &[start, (Kind::Firing, 130, 100, 3.0, 131)]);
    check("breach at the deadline", &with(Bad(130, 4.0)), &[start, (Kind::Firing, 130, 100, 4.0, 130)]);
    check("breach behind it", &with(Bad(140, 4.0)), &[start, (Kind::Firing, 130, 100, 3.0, 140)]);
    check("good at the deadline", &with(Good(130)), &[start, (Kind::Cancelled, 130, 100, 3.0, 130)]);
    check("good before it", &with(Good(129)), &[start, (Kind::Cancelled, 129, 100, 3.0, 129)]);
    check(
        "good behind it",
        &with(Good(131)),
        &[start, (Kind::Firing, 130, 100, 3.0, 131), (RESOLVED, 131, 100, 3.0, 131)],
    );
}

#[test]
fn silence_ends_a_breach() {
    let start = (Kind::Pending, 100, 100, 1.0, 100);
    check("pending, clock at the end", &[Bad(100, 1.0), Clock(120)], &[start]);
    check(
        "pending, clock past",
        &[Bad(100, 1.0), Clock(121)],
        &[start, (Kind::Cancelled, 120, 100, 1.0, 121)],
    );
    check("sample exactly at the end goes on", &[Bad(100, 1.0), Bad(120, 2.0), Clock(130)], &[start]);
    check(
        "a gap starts a new breach",
        &[Bad(100, 1.0), Bad(121, 2.0)],
        &[start, (Kind::Cancelled, 120, 100, 1.0, 121), (Kind::Pending, 121, 121, 2.0, 121)],
    );
    check(
        "data that ends exactly at the deadline does not fire",
        &[Bad(100, 1.0), Bad(110, 2.0), Clock(500)],
        &[start, (Kind::Cancelled, 130, 100, 2.0, 500)],
    );
    check(
        "one later does, and one clock says both",
        &[Bad(100, 1.0), Bad(111, 2.0), Clock(500)],
        &[start, (Kind::Firing, 130, 100, 2.0, 500), (NO_DATA, 131, 100, 2.0, 500)],
    );
    check(
        "a good sample long after the silence says the silence",
        &[Bad(100, 1.0), Bad(115, 2.0), Bad(130, 3.0), Good(500)],
        &[start, (Kind::Firing, 130, 100, 3.0, 130), (NO_DATA, 150, 100, 3.0, 500)],
    );
}

#[test]
fn a_flapping_alert_starts_anew_each_time() {
    check(
        "flap",
        &[Bad(0, 1.0), Good(10), Bad(20, 2.0), Bad(40, 3.0), Good(51), Good(60), Bad(60, 4.0)],
        &[
            (Kind::Pending, 0, 0, 1.0, 0),
            (Kind::Cancelled, 10, 0, 1.0, 10),
            (Kind::Pending, 20, 20, 2.0, 20),
            (Kind::Firing, 50, 20, 3.0, 51),
            (RESOLVED, 51, 20, 3.0, 51),
            (Kind::Pending, 60, 60, 4.0, 60),
        ],
    );
}

#[test]
fn no_duration_fires_at_the_first_sample() {
    for duration_ns in [0, -5] {
        let timing = Timing::new(duration_ns, 20);
        let (_, said) = run(timing, &[Good(1), Bad(5, 1.0), Bad(6, 2.0), Good(6)]);
        let kinds: Vec<_> = said.iter().map(|t| (t.kind, t.at_ns, t.since_ns, t.value)).collect();
        assert_eq!(kinds, [(Kind::Firing, 5, 5, 1.0), (RESOLVED, 6, 5, 2.0)]);
    }
}

#[test]
fn times_at_the_end_of_the_world_are_never() {
    let forever = Timing::new(DurationNs::MAX, DurationNs::MAX);
    let (machine, said) = run(forever, &[Bad(5, 1.0), Clock(TimeNs::MAX)]);
    assert_eq!((said.len(), machine.next_deadline(forever)), (1, None));
    let keeps = Timing::new(10, DurationNs::MAX);
    let (machine, said) = run(keeps, &[Bad(5, 1.0), Clock(TimeNs::MAX)]);
    assert_eq!((said.len(), machine.fired_ns(), machine.next_deadline(keeps)), (2, Some(15), None));
    // Extremes in every place do not panic.
    for time in [TimeNs::MIN, -1, 0, TimeNs::MAX] {
        for timing in [forever, keeps, Timing::new(-1, TimeNs::MIN)] {
            run(
                timing,
                &[Bad(time, 1.0), Clock(time), Bad(TimeNs::MAX, 1.0), Good(time), Clock(TimeNs::MIN)],
            );
            intervals(
                &[(TimeNs::MIN, 1.0), (time, 1.0), (TimeNs::MAX, 1.0)],
                timing,
                |_| Verdict::Breach,
                time,
            );
        }
    }
}

#[test]
fn the_machine_is_small_and_comes_back() {
    assert!(size_of::<Machine>() <= 40, "{} bytes", size_of::<Machine>());
    let timing = Timing::new(30, 20);
    for steps in [&[][..], &[Bad(1, 0.1 + 0.2)], &[Bad(1, 1.0), Bad(20, 1e-300), Clock(35)]] {
        let (machine, _) = run(timing, steps);
        let json = serde_json::to_string(&machine).unwrap();
        assert_eq!(serde_json::from_str::<Machine>(&json).unwrap(), machine, "{json}");
    }
}

#[test]
fn an_alert_is_named_by_rule_and_series() {
    let series = |service, metric: &str, tags: &[(&'static str, &'static str)]| SeriesKey {
        target: Arc::new(Target::new(service, tags.iter().copied())),
        metric: metric.into(),
    };
    let base = series("org.plantd.Broker", "cpu_usage", &[("host", "a"), ("zone", "b")]);
    let id = alert_id("high_cpu", &base);
    // A changed number here would rename every alert in every receiver.
    assert_eq!(id, PINNED_ID);
    assert_eq!(
        id,
        alert_id("high_cpu", &series("org.plantd.Broker", "cpu_usage", &[("zone", "b"), ("host", "a")]))
    );
    let others = [
        alert_id("high_cpu2", &base),
        alert_id("high_cpu", &series("org.plantd.Broker", "cpu_usage", &[("host", "a")])),
        alert_id("high_cpu", &series("org.plantd.Broker", "cpu_usage", &[("host", "az"), ("one", "b")])),
        alert_id("high_cpu", &series("org.plantd.Brokerc", "pu_usage", &[("host", "a"), ("zone", "b")])),
        occurrence_id(id, 0),
        occurrence_id(id, 1),
    ];
    for (i, one) in others.iter().enumerate() {
        assert!(*one != id && others[..i].iter().all(|other| other != one), "{i}");
    }
}

/// FNV-1a 128 of the fields, computed apart from this crate.
const PINNED_ID: u128 = 0xd9ee_0b0e_21f3_cc20_d7d5_cb86_bfac_f68d;

/// Samples in order of time, with gaps that meet durations and staleness exactly now and then, equal times
/// among them.
fn series() -> impl Strategy<Value = Vec<(TimeNs, f64)>> {
    let gap = prop_oneof![6 => 1..8_i64, 1 => Just(0), 1 => Just(10), 2 => 8..30_i64];
    // A run of the same verdict is likely, so that breaches last.
    proptest::collection::vec((gap, 0..10_u8), 0..60).prop_map(|steps| {
        let (mut time_ns, mut bad) = (0, false);
        let mut samples = Vec::new();
        for (i, (gap, turn)) in steps.into_iter().enumerate() {
            time_ns += gap;
            bad ^= turn < 3;
            samples.push((time_ns, if bad { 100.0 } else { 0.0 } + i as f64));
        }
        samples
    })
}

fn timing() -> impl Strategy<Value = Timing> {
    let stale = prop_oneof![Just(10), 0..30_i64, Just(DurationNs::MAX)];
    (
        prop_oneof![Just(0), Just(10), 1..40_i64],
        stale,
        prop_oneof![2 => Just(0), 1 => Just(10), 1 => 1..30_i64],
    )
        .prop_map(|(duration_ns, stale_ns, keep_ns)| Timing { duration_ns, stale_ns, keep_ns })
}

fn judge(value: f64) -> Verdict {
    match value {
        100.0.. => Verdict::Breach,
        _ if value % 5.0 == 1.0 => Verdict::Keep,
        _ if value % 7.0 == 1.0 => Verdict::Nothing,
        _ => Verdict::Quiet,
    }
}

/// Everything said, with clocks given in between where `clocks` has them (none beyond the next sample), and
/// one at the end.
fn said(
    samples: &[(TimeNs, f64)],
    timing: Timing,
    clocks: &[Vec<u8>],
    end_clock_ns: TimeNs,
) -> (Machine, Vec<Transition>) {
    let mut machine = Machine::new();
    let mut all = Vec::new();
    let mut before_ns = samples.first().map_or(0, |(time_ns, _)| time_ns - 10);
    for (i, (time_ns, value)) in samples.iter().enumerate() {
        for part in clocks.get(i).into_iter().flatten() {
            let clock_ns = before_ns + (time_ns - before_ns) * i64::from(*part) / 255;
            let due = machine.next_deadline(timing).is_some_and(|due_ns| due_ns <= clock_ns);
            let length = all.len();
            machine.advance(timing, clock_ns, &mut |t| all.push(t));
            assert_eq!(due, all.len() > length, "next_deadline is when advance has something to say");
        }
        machine.sample(timing, *time_ns, judge(*value), *value, &mut |t| all.push(t));
        before_ns = *time_ns;
    }
    machine.advance(timing, end_clock_ns, &mut |t| all.push(t));
    (machine, all)
}

/// What the machine said, as breaches.
fn as_intervals(said: &[Transition], duration_ns: DurationNs) -> Vec<Interval> {
    let mut found: Vec<Interval> = Vec::new();
    for transition in said {
        let opens = Interval { start_ns: transition.since_ns, fire_ns: None, end_ns: None, no_data: false };
        match transition.kind {
            Kind::Pending => found.push(opens),
            Kind::Firing if duration_ns == 0 => {
                found.push(Interval { fire_ns: Some(transition.at_ns), ..opens })
            }
            kind => {
                let open = found.last_mut().expect("a breach is open");
                assert_eq!((open.start_ns, open.end_ns), (transition.since_ns, None));
                match kind {
                    Kind::Firing => assert_eq!(open.fire_ns.replace(transition.at_ns), None),
                    kind => {
                        assert_eq!(open.fire_ns.is_some(), matches!(kind, Kind::Resolved { .. }));
                        open.end_ns = Some(transition.at_ns);
                        open.no_data = kind == NO_DATA;
                    }
                }
            }
        }
    }
    found
}

/// The value that `at_ns` has by the definition, for a breach from `since_ns`: what a transition has to
/// carry.
fn value_at(samples: &[(TimeNs, f64)], transition: &Transition) -> f64 {
    // Of what keeps an alert firing the machine takes the value, too; before it fires there is none in a breach.
    let of_breach = |(time_ns, value): &&(TimeNs, f64)| {
        let fired = matches!(transition.kind, Kind::Resolved { .. });
        let counts = judge(*value) == Verdict::Breach || (fired && judge(*value) == Verdict::Keep);
        *time_ns >= transition.since_ns && counts
    };
    let at = |time_ns: TimeNs| samples.iter().filter(of_breach).find(|s| s.0 == time_ns).map(|s| s.1);
    let before = samples.iter().filter(of_breach).rfind(|s| s.0 < transition.at_ns).map(|s| s.1);
    match transition.kind {
        Kind::Pending | Kind::Firing => at(transition.at_ns).or(before),
        Kind::Cancelled | Kind::Resolved { .. } => before.or(at(transition.at_ns)),
        Kind::Retracted => unreachable!("a machine takes nothing back"),
    }
    .expect("a breach has a sample")
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn the_machine_says_what_the_definition_says(samples in series(), timing in timing(), more in 0..60_i64) {
        let end_clock_ns = samples.last().map_or(0, |s| s.0) + more;
        let (machine, all) = said(&samples, timing, &[], end_clock_ns);
        let expect: Vec<Interval> = intervals(&samples, timing, judge, end_clock_ns)
            .into_iter()
            .map(|i| Interval { no_data: i.no_data && i.fire_ns.is_some(), ..i })
            .collect();
        prop_assert_eq!(as_intervals(&all, timing.duration_ns), expect.clone());
        let open = expect.last().filter(|i| i.end_ns.is_none());
        prop_assert_eq!(machine.since_ns(), open.map(|i| i.start_ns));
        prop_assert_eq!(machine.fired_ns(), open.and_then(|i| i.fire_ns));
    }

    #[test]
    fn clocks_in_between_change_nothing(
        samples in series(),
        timing in timing(),
        clocks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..3), 60),
        more in 0..60_i64,
    ) {
        let end_clock_ns = samples.last().map_or(0, |s| s.0) + more;
        let sorted: Vec<Vec<u8>> = clocks.into_iter().map(|mut c| { c.sort_unstable(); c }).collect();
        let undecided = |all: Vec<Transition>| all.into_iter().map(|t| Transition { decided_by_ns: 0, ..t }).collect::<Vec<_>>();
        let (one, without) = said(&samples, timing, &[], end_clock_ns);
        let (other, with) = said(&samples, timing, &sorted, end_clock_ns);
        prop_assert_eq!(one, other);
        prop_assert_eq!(undecided(without), undecided(with));
    }

    #[test]
    fn times_and_values_are_those_of_the_samples(samples in series(), timing in timing(), more in 0..60_i64) {
        let mut samples = samples;
        samples.dedup_by_key(|s| s.0); // which of several at one time counted is told by the tables above
        let end_clock_ns = samples.last().map_or(0, |s| s.0) + more;
        let (_, all) = said(&samples, timing, &[], end_clock_ns);
        prop_assert!(all.is_sorted_by_key(|t| t.at_ns), "{:?}", all);
        prop_assert!(all.is_sorted_by_key(|t| t.decided_by_ns), "{:?}", all);
        for transition in &all {
            prop_assert!(transition.at_ns <= transition.decided_by_ns);
            prop_assert_eq!(transition.value, value_at(&samples, transition), "{:?}", transition);
        }
    }
}
