//! Rollups against their definition, told slowly, for random out-of-order, late, duplicated and silent input, random
//! groupings and ratios, for 1, 2 and 4 workers.
//!
//! A long run: `ORACLE_CASES=2000 nice cargo test -p dataflows --test rollups`.

#[path = "rollups/model.rs"]
mod model;

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};

use dataflows::engine::{Callbacks, Engine};
use dataflows::epoch::Epoch;
use dataflows::plan::Plan;
use dataflows::view::{self, WindowQuery};
use operators::catalog::Entry;
use operators::function::Function;
use operators::rollup::binding::RollupLimits;
use operators::rollup::{Rollup, RollupChange, RollupRow};
use operators::rule::{Grouping, Over};
use operators::sample::{MINUTE, SECOND, Sample, SeriesId, TimeNs};
use operators::series::{SeriesKey, Target, TargetMatcher};
use operators::tier::{Tier, WindowPlan};
use proptest::prelude::*;

use model::{Model, Row};

const START: TimeNs = 1_700_000_000 * SECOND / (10 * MINUTE) * 10 * MINUTE;

/// One whose panes are all fine, and one whose older panes are as wide as the slices of its rollups.
fn window_plans() -> [WindowPlan; 2] {
    let plan = WindowPlan {
        tiers: vec![Tier { width_ns: 10 * SECOND, retention_ns: 60 * MINUTE }],
        lateness_ns: 20 * SECOND,
        correction_horizon_ns: 25 * MINUTE,
        idle_timeout_ns: 30 * SECOND,
    };
    let tiers = vec![
        Tier { width_ns: 10 * SECOND, retention_ns: 5 * MINUTE },
        Tier { width_ns: MINUTE, retention_ns: 60 * MINUTE },
    ];
    [plan.clone(), WindowPlan { tiers, lateness_ns: 45 * SECOND, ..plan }]
}

/// Rollups with slices of at least `unit_s` seconds.
fn rollups(unit_s: i64) -> Vec<Arc<Rollup>> {
    let matcher = TargetMatcher::default();
    let rollup = |metric: &str, grouping: Grouping, width: i64, hop: i64, functions: &[&str]| Rollup {
        name: format!("{metric} {grouping:?}").into(),
        metric: metric.into(),
        matcher: matcher.clone(),
        over: None,
        grouping,
        width_ns: width * unit_s * SECOND,
        hop_ns: hop * unit_s * SECOND,
        functions: functions.iter().map(|name| name.to_string()).collect(),
        samples_min: 0,
        correct_ns: 8 * MINUTE,
        keep_ns: 0,
    };
    let by = |names: &[&str]| Grouping::By(names.iter().map(|name| name.to_string()).collect());
    let ratio = Rollup {
        over: Some(Over { metric: "m1".into(), matcher: matcher.clone(), function: "max".into() }),
        samples_min: 2,
        ..rollup("m0", by(&["g"]), 2, 2, &["increase"])
    };
    let of_service = Rollup {
        matcher: TargetMatcher { service: Some("s0".into()), tags: vec![("h".into(), "*".into())] },
        ..rollup("m1", Grouping::Without(vec!["n".into()]), 4, 2, &["rate", "last", "min"])
    };
    [
        rollup("m0", by(&[]), 3, 3, &["count", "sum", "avg", "min", "max", "last", "p90"]),
        rollup("m0", by(&["g"]), 3, 1, &["p90", "increase", "rate"]),
        rollup("m1", Grouping::Series, 3, 2, &["increase", "last", "sum", "p90"]),
        rollup("m0", Grouping::Series, 2, 2, &["rate", "count"]),
        ratio.clone(),
        of_service,
        Rollup { grouping: Grouping::Series, functions: vec!["sum".into()], ..ratio },
        Rollup { correct_ns: MINUTE, ..rollup("m1", by(&["service"]), 1, 1, &["sum", "max"]) },
    ]
    .map(Arc::new)
    .to_vec()
}

fn key(series: SeriesId) -> SeriesKey {
    let (n, g, h) = (series.to_string(), (series / 2 % 2).to_string(), (series % 3).to_string());
    let tags = [("n", n.as_str()), ("g", g.as_str()), ("h", h.as_str())];
    // Two metrics of one target stand beside each other, for ratios of series.
    let tags = if series < 4 { vec![("n", "0"), tags[1]] } else { tags.to_vec() };
    let target = Target::new(&format!("s{}", series / 4 % 2), tags);
    SeriesKey { target: Arc::new(target), metric: format!("m{}", series % 2).into() }
}

/// What comes in: epochs of seconds since the one before, and batches of (series, offset from the running second in
/// seconds, value, copies).
type Script = Vec<(i64, Vec<Vec<(u32, i64, u32, bool)>>)>;

fn script() -> impl Strategy<Value = Script> {
    let offset = prop_oneof![
        8 => -3i64..1, 2 => -25i64..5, 1 => -100i64..0, 1 => -400i64..0, 1 => -1400i64..0, 1 => 0i64..200
    ];
    let sample = (0u32..9, offset, 0u32..100, prop::bool::weighted(0.05));
    let batch = prop::collection::vec(sample, 0..10);
    let gap = prop_oneof![16 => 1i64..20, 2 => 30i64..120, 1 => 200i64..600];
    prop::collection::vec((gap, prop::collection::vec(batch, 0..3)), 1..60)
}

/// The rollups come with epoch `rollups_at`, counted from zero.
fn epochs(script: &Script, rollups: &[Arc<Rollup>], rollups_at: usize, scale: f64) -> Vec<Arc<Epoch>> {
    let (mut now_s, mut known) = (0, HashSet::new());
    let mut epochs = Vec::new();
    // At last all is silent.
    let end = [(29, vec![]), (300, vec![]), (1000, vec![])];
    for (gap_s, batches) in script.iter().chain(&end) {
        now_s += gap_s;
        let (mut decoded, mut entries) = (Vec::new(), Vec::new());
        for batch in batches {
            let mut samples = Vec::new();
            for (series, offset_s, value, twice) in batch {
                if known.insert(*series) {
                    entries.push(Entry { id: *series, key: key(*series) });
                }
                let time_ns = START + (now_s + offset_s) * SECOND;
                let sample = Sample { series: *series, seq: 0, time_ns, value: f64::from(*value) * scale };
                samples.extend(std::iter::repeat_n(sample, 1 + usize::from(*twice)));
            }
            decoded.push(samples);
        }
        let added = if epochs.len() == rollups_at { rollups } else { &[] };
        let added = (0u32..).zip(added.iter().cloned()).collect();
        epochs.push(Arc::new(Epoch {
            number: epochs.len() as u64 + 1,
            arrival_ns: START + now_s * SECOND,
            floor_ns: TimeNs::MIN,
            batches: decoded,
            entries,
            rollups: RollupChange { removed: Vec::new(), added },
            ..Epoch::default()
        }));
    }
    epochs
}

/// What was said of windows last: whether they were final, counts, the bits of the values.
type Told = BTreeMap<(u32, u64, TimeNs), (bool, u64, Vec<u64>)>;

/// An epoch by hand: arrival second, samples as (series, second, value).
type ByHand<'a> = (i64, &'a [(SeriesId, i64, f64)]);

/// An engine and the rows that it gave, in order.
struct Run {
    engine: Engine,
    rows: Arc<Mutex<Vec<RollupRow>>>,
}

impl Run {
    fn new(plan: &WindowPlan, workers: usize, epochs: &[Arc<Epoch>]) -> Run {
        let rows: Arc<Mutex<Vec<RollupRow>>> = Arc::default();
        let given = rows.clone();
        let plan = Plan { workers, windows: plan.clone(), ..Plan::default() };
        let callbacks = Callbacks {
            rolled: Arc::new(move |epoch, some| {
                assert!(!some.is_empty() && some.iter().all(|row| row.revision == epoch));
                given.lock().unwrap().extend(some);
            }),
            ..Callbacks::default()
        };
        let engine = Engine::start(plan, callbacks).unwrap();
        for epoch in epochs {
            engine.submit(epoch.clone());
        }
        engine.wait_for(epochs.len() as u64);
        Run { engine, rows }
    }

    /// The rows, without those that say nothing new: a series that stands for itself has no memory of what was said.
    fn rows(&self) -> Vec<Row> {
        let mut said = Told::new();
        let mut rows = Vec::new();
        for row in self.rows.lock().unwrap().iter() {
            let key = (row.rollup, row.group, row.end_ns);
            let bits: Vec<u64> = row.values.iter().map(|value| value.to_bits()).collect();
            let is_news = said.get(&key).is_none_or(|(was_final, count, was)| {
                (*count, was) != (row.count, &bits) || (row.is_final && !was_final)
            });
            if is_news {
                said.insert(key, (row.is_final, row.count, bits.clone()));
                rows.push((key.0, key.1, key.2, row.revision, row.is_final, row.count, bits));
            } else {
                assert!(row.rollup == 2 || row.rollup == 3, "a group said the same again: {row:?}");
            }
        }
        rows.sort_unstable();
        rows
    }
}

fn cases() -> u32 {
    std::env::var("ORACLE_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(24)
}

fn config() -> ProptestConfig {
    ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() }
}

/// The first difference, which says more than two long lists.
fn differ(found: &[Row], expected: &[Row]) -> Option<String> {
    let extra = found.iter().find(|row| expected.binary_search(row).is_err());
    let missing = expected.iter().find(|row| found.binary_search(row).is_err());
    let told = |row: Option<&Row>| {
        row.map(|(rollup, group, end_ns, revision, is_final, count, bits)| {
            let values: Vec<f64> = bits.iter().map(|bits| f64::from_bits(*bits)).collect();
            let end_s = (end_ns - START) / SECOND;
            format!(
                "rollup {rollup} group {group} end {end_s} s, epoch {revision}, {is_final} {count} {values:?}"
            )
        })
    };
    (extra.is_some() || missing.is_some())
        .then(|| format!("not in the model: {:?}\nnot given: {:?}", told(extra), told(missing)))
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn rows_are_those_of_the_definition_for_any_number_of_workers(script in script(), plan in 0usize..2) {
        let rollups = rollups(if plan == 0 { 10 } else { 60 });
        let plan = &window_plans()[plan];
        rollups.iter().for_each(|rollup| assert_eq!(rollup.check(plan), Ok(())));
        let epochs = epochs(&script, &rollups, 0, 1.0);
        let expected = Model::of(plan, &epochs).rows;
        for workers in [1, 2, 4] {
            let found = Run::new(plan, workers, &epochs).rows();
            prop_assert_eq!(differ(&found, &expected), None, "{} workers", workers);
        }
    }

    #[test]
    fn rows_are_the_same_bits_for_any_number_of_workers(script in script(), plan in 0usize..2, at in 0usize..30) {
        let rollups = rollups(if plan == 0 { 10 } else { 60 });
        let plan = &window_plans()[plan];
        let epochs = epochs(&script, &rollups, at.min(script.len()), 0.1);
        let [one, two, four] = [1, 2, 4].map(|workers| Run::new(plan, workers, &epochs).rows());
        prop_assert_eq!(differ(&two, &one), None);
        prop_assert_eq!(differ(&four, &one), None);
    }

    /// What is said of the last four minutes before a rollup comes, and of all after, is what it would have said had
    /// it been there from the start.
    #[test]
    fn a_rollup_that_comes_late_begins_with_the_panes_there_are(
        script in script_within(-100), at in 1usize..40, workers in prop::sample::select(vec![1, 2, 4]),
    ) {
        let (mut rollups, plan, at) = (rollups(10), &window_plans()[0], at.min(script.len()));
        // Without the last, which is not corrected for as long.
        rollups.pop();
        let [early, late] = [0, at].map(|at| {
            let epochs = epochs(&script, &rollups, at, 0.1);
            let since_ns = epochs[at].arrival_ns - 4 * MINUTE;
            let mut last: BTreeMap<(u32, u64, TimeNs), (u64, Vec<u64>)> = BTreeMap::new();
            let mut rows = Run::new(plan, workers, &epochs).rows();
            rows.sort_by_key(|row| row.3);
            for (rollup, group, end_ns, _, _, count, bits) in rows {
                last.insert((rollup, group, end_ns), (count, bits));
            }
            (since_ns, last)
        });
        let since_ns = late.0;
        let of = |last: BTreeMap<(u32, u64, TimeNs), (u64, Vec<u64>)>| -> Vec<_> {
            last.into_iter().filter(|((_, _, end_ns), _)| *end_ns > since_ns).collect()
        };
        prop_assert_eq!(of(late.1), of(early.1));
    }

    /// A window that is as wide as its hop says what a query says.
    #[test]
    fn the_last_row_is_what_a_query_says(script in script_within(-100)) {
        // What is gone shows no panes.
        prop_assume!(script.iter().map(|(gap_s, _)| gap_s).sum::<i64>() < 2000);
        let (plan, mut rollups) = (&window_plans()[0], rollups(10));
        rollups.truncate(1);
        let functions: Vec<_> =
            rollups[0].functions.iter().map(|name| Function::parse(name).unwrap()).collect();
        let epochs = epochs(&script, &rollups, 0, 0.1);
        let run = Run::new(plan, 2, &epochs);
        let known: HashSet<SeriesId> =
            epochs.iter().flat_map(|epoch| &epoch.entries).map(|entry| entry.id).collect();
        let members: Vec<SeriesId> = (0..9).filter(|id| id % 2 == 0 && known.contains(id)).collect();
        let range_ns = START - 10 * MINUTE..START + 200 * MINUTE;
        let query = WindowQuery { range_ns, window_ns: rollups[0].width_ns, with_values: true };
        let (_, answers) = view::windows(&run.engine, &[members], &query).unwrap();
        let group = &run.engine.directory().groups(0);
        let mut asked: BTreeMap<TimeNs, Vec<u64>> = BTreeMap::new();
        for window in &answers[0].windows {
            let value = |function: &Function| function.finish(&window.aggregate).unwrap_or(f64::NAN).to_bits();
            asked.insert(window.start_ns + rollups[0].width_ns, functions.iter().map(value).collect());
        }
        // The groups keep what may still be corrected: of the last of it all, the end of the script is the oldest.
        for groups in run.engine.groups() {
            for (id, said) in groups.read().said(0) {
                prop_assert_eq!(id, group[0].0);
                for (end_ns, said) in said {
                    let bits: Vec<u64> = said.values.iter().map(|value| value.to_bits()).collect();
                    match asked.get(end_ns) {
                        Some(values) => prop_assert_eq!(&bits, values),
                        None => prop_assert_eq!(said.count, 0),
                    }
                }
            }
        }
        let mut last: BTreeMap<TimeNs, Vec<u64>> = BTreeMap::new();
        for row in run.rows.lock().unwrap().iter().filter(|row| row.count > 0) {
            last.insert(row.end_ns, row.values.iter().map(|value| value.to_bits()).collect());
        }
        prop_assert_eq!(last, asked);
    }
}

/// As [`script`], with nothing further behind.
fn script_within(late_s: i64) -> impl Strategy<Value = Script> {
    script().prop_map(move |mut script| {
        let samples = script.iter_mut().flat_map(|(_, batches)| batches).flatten();
        samples.for_each(|sample| sample.1 = sample.1.max(late_s));
        script
    })
}

/// Epochs, with entries as they are needed; the rollups come with the first.
fn by_hand(rollups: Vec<Arc<Rollup>>, epochs: &[ByHand<'_>]) -> Vec<Arc<Epoch>> {
    let mut known = HashSet::new();
    let epoch = |(at, (arrival_s, samples)): (usize, &ByHand<'_>)| {
        let new = samples.iter().filter(|(series, ..)| known.insert(*series));
        let entries = new.map(|(series, ..)| Entry { id: *series, key: key(*series) }).collect();
        let sample = |(series, second, value): &(SeriesId, i64, f64)| Sample {
            series: *series,
            seq: 0,
            time_ns: START + second * SECOND,
            value: *value,
        };
        let added = if at == 0 { (0u32..).zip(rollups.iter().cloned()).collect() } else { Vec::new() };
        Arc::new(Epoch {
            number: at as u64 + 1,
            arrival_ns: START + arrival_s * SECOND,
            floor_ns: TimeNs::MIN,
            batches: vec![samples.iter().map(sample).collect()],
            entries,
            rollups: RollupChange { removed: Vec::new(), added },
            ..Epoch::default()
        })
    };
    epochs.iter().enumerate().map(epoch).collect()
}

/// Ends in seconds, revisions, whether final, counts and first values.
fn told(run: &Run, rollup: u32) -> Vec<(i64, u64, bool, u64, f64)> {
    let rows = run.rows.lock().unwrap();
    let rows = rows.iter().filter(|row| row.rollup == rollup);
    rows.map(|row| {
        let value = if row.values[0].is_nan() { -1.0 } else { row.values[0] };
        ((row.end_ns - START) / SECOND, row.revision, row.is_final, row.count, value)
    })
    .collect()
}

fn sum_of_m0() -> Rollup {
    let functions = vec!["sum".to_owned()];
    let width_ns = 60 * SECOND;
    Rollup { functions, width_ns, hop_ns: width_ns, ..(*rollups(10)[0]).clone() }
}

/// The life of a window: provisional when the last member has passed it, corrected, final, corrected again, empty.
#[test]
fn a_window_waits_for_the_last_member_and_is_corrected_until_its_horizon() {
    let epochs = by_hand(
        vec![Arc::new(sum_of_m0())],
        &[
            (50, &[(0, 50, 1.0), (2, 40, 10.0)]),
            (61, &[(0, 61, 1.0)]),
            (62, &[(2, 62, 10.0)]),
            (63, &[(0, 59, 5.0)]),
            (85, &[(0, 81, 1.0), (2, 80, 10.0)]),
            (86, &[(2, 30, 100.0)]),
            (500, &[]),
            (590, &[(0, 589, 1.0)]),
            (591, &[(0, 20, 7.0)]),
        ],
    );
    let run = Run::new(&window_plans()[0], 2, &epochs);
    let expected = [
        (60, 3, false, 2, 11.0),
        (60, 4, false, 3, 16.0),
        (60, 5, true, 3, 16.0),
        (60, 6, true, 4, 116.0),
        (120, 7, true, 4, 22.0),
        (180, 7, true, 0, -1.0),
        // By the member that is silent, the clock is at 580 s, and at 120 s windows are closed.
        (600, 0, false, 0, 0.0),
    ];
    assert_eq!(told(&run, 0), expected[..6]);
    let counts = run.engine.groups().iter().map(|groups| groups.read().counts());
    assert_eq!(counts.map(|counts| counts.missed).sum::<u64>(), 1, "the sample at 20 s came too late");
}

/// A series that was gone for longer than anything is held begins again.
#[test]
fn what_a_series_has_that_is_forgotten_was_said_before() {
    let each = Rollup { grouping: Grouping::Series, ..sum_of_m0() };
    let epochs = by_hand(
        vec![Arc::new(sum_of_m0()), Arc::new(each)],
        &[(50, &[(0, 50, 1.0)]), (4000, &[(0, 4000, 2.0), (0, 55, 9.0)]), (4100, &[])],
    );
    let run = Run::new(&window_plans()[0], 1, &epochs);
    let expected =
        [(60, 2, true, 1, 1.0), (120, 2, true, 0, -1.0), (4020, 3, true, 1, 2.0), (4080, 3, true, 0, -1.0)];
    assert_eq!(told(&run, 1), expected);
    assert_eq!(told(&run, 0), expected);
}

/// A member whose clock is wrong does not have the others wait for ever.
#[test]
fn a_member_that_is_far_behind_does_not_hold_its_group_back() {
    let hour_behind = |at: i64| [(0, at, 1.0), (2, at - 3600, 10.0)];
    let samples: Vec<[(SeriesId, i64, f64); 2]> = (1..=200).map(|at| hour_behind(at * 10)).collect();
    let epochs: Vec<ByHand<'_>> = (1..).zip(&samples).map(|(at, samples)| (at * 10, &samples[..])).collect();
    let run = Run::new(&window_plans()[0], 2, &by_hand(vec![Arc::new(sum_of_m0())], &epochs));
    let said = told(&run, 0);
    let last = said.iter().rfind(|row| row.3 == 6 && row.4 == 6.0).unwrap();
    assert_eq!(last.0, 2000 / 60 * 60 - 480, "{said:?}");
    let held: u64 = run.engine.groups().iter().map(|groups| groups.read().counts().slices).sum();
    assert!(held <= 20, "{held} slices");
}

/// Of a rollup with more groups than there may be, those of the first series are kept, whatever the workers.
#[test]
fn groups_beyond_the_limit_are_turned_away_and_counted() {
    let by_n = Rollup { grouping: Grouping::By(vec!["n".into()]), ..sum_of_m0() };
    let samples: Vec<(SeriesId, i64, f64)> = (0..20).map(|at| (at * 2, 10, f64::from(at))).collect();
    let later = [(40, 11, 1.0), (4, 70, 0.0), (6, 71, 0.0), (8, 70, 0.0)];
    let epochs = by_hand(vec![Arc::new(by_n)], &[(10, &samples), (71, &later), (200, &[])]);
    for workers in [1, 2, 4] {
        let limits = RollupLimits { groups_max: 3, members_max: 2 };
        let plan = Plan { workers, windows: window_plans()[0].clone(), rollups: limits, ..Plan::default() };
        let engine = Engine::start(plan, Callbacks::default()).unwrap();
        epochs.iter().for_each(|epoch| engine.submit(epoch.clone()));
        engine.wait_for(3);
        let groups = engine.directory().groups(0);
        let names: Vec<_> = groups.iter().map(|(_, texts)| texts.tag("n").unwrap().to_owned()).collect();
        // Series 0 and 2 have one `n` between them.
        assert_eq!(names, ["0", "4", "6"], "{workers} workers");
        assert_eq!(engine.directory().turned_away(), 21 - 4);
        let held: u64 = engine.groups().iter().map(|groups| groups.read().counts().groups).sum();
        assert_eq!(held, 3);
    }
}
