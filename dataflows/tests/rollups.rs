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
use operators::catalog::Entry;
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
        let mut said: BTreeMap<(u32, u64, TimeNs), (bool, u64, Vec<u64>)> = BTreeMap::new();
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
}
