//! Closed windows against their definition, told slowly, for random out-of-order, late, duplicated and silent
//! input, with series that are gone and panes that are given up, for 1, 2 and 4 workers.
//!
//! A long run: `ORACLE_CASES=2000 nice cargo test -p dataflows --test closing`.

#[path = "closing/model.rs"]
mod model;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use dataflows::engine::{Callbacks, Engine};
use dataflows::epoch::Epoch;
use dataflows::plan::Plan;
use dataflows::view::{self, WindowQuery};
use operators::closing::{ClosedWindow, ClosingPlan};
use operators::function::Function;
use operators::sample::{MINUTE, SECOND, Sample, SeriesId, TimeNs};
use operators::tier::{Tier, WindowPlan};
use proptest::prelude::*;

use model::{Model, Row};

const START: TimeNs = 1_700_000_000 * SECOND / MINUTE * MINUTE;
const FUNCTIONS: [&str; 5] = ["count", "sum", "increase", "last", "p90"];

fn window_plans() -> [WindowPlan; 3] {
    let tiers = vec![
        Tier { width_ns: 10 * SECOND, retention_ns: 5 * MINUTE },
        Tier { width_ns: MINUTE, retention_ns: 30 * MINUTE },
    ];
    let plan = WindowPlan {
        tiers,
        lateness_ns: 20 * SECOND,
        correction_horizon_ns: 25 * MINUTE,
        idle_timeout_ns: 30 * SECOND,
    };
    let one_tier = vec![Tier { width_ns: 10 * SECOND, retention_ns: 10 * MINUTE }];
    [
        WindowPlan { lateness_ns: 100 * SECOND, idle_timeout_ns: 10 * SECOND, ..plan.clone() },
        WindowPlan { tiers: one_tier, lateness_ns: 0, ..plan.clone() },
        plan,
    ]
}

/// What comes in: epochs of seconds since the one before, how far behind it panes are given up, and batches of
/// (series, offset from the running second in seconds, value, copies).
type Script = Vec<(i64, Option<i64>, Vec<Vec<(u32, i64, u32, bool)>>)>;

fn script() -> impl Strategy<Value = Script> {
    let offset = prop_oneof![
        6 => Just(0i64), 2 => -15i64..5, 2 => -100i64..0, 1 => -400i64..0, 1 => -2400i64..0, 1 => 0i64..400
    ];
    let sample = (0u32..7, offset, 0u32..100, prop::bool::weighted(0.05));
    let batch = prop::collection::vec(sample, 0..8);
    let gap = prop_oneof![12 => 1i64..30, 2 => 30i64..120, 1 => 200i64..600, 1 => 1700i64..2500];
    let floor = prop::option::weighted(0.2, 0i64..1000);
    prop::collection::vec((gap, floor, prop::collection::vec(batch, 0..3)), 1..60)
}

fn epochs(script: &Script, with_floors: bool) -> Vec<Arc<Epoch>> {
    let (mut now_s, mut floor_ns) = (0, TimeNs::MIN);
    let mut epochs = Vec::new();
    // At last all is silent, and then gone.
    let end = [(1000, None, vec![]), (3000, None, vec![])];
    for (gap_s, floor_s, batches) in script.iter().chain(&end) {
        now_s += gap_s;
        if let Some(behind_s) = floor_s.filter(|_| with_floors) {
            floor_ns = floor_ns.max(START + (now_s - behind_s) * SECOND);
        }
        let mut decoded = Vec::new();
        for batch in batches {
            let mut samples = Vec::new();
            for (series, offset_s, value, twice) in batch {
                let time_ns = START + (now_s + offset_s) * SECOND;
                let sample = Sample { series: *series, seq: 0, time_ns, value: f64::from(*value) };
                samples.extend(std::iter::repeat_n(sample, 1 + usize::from(*twice)));
            }
            decoded.push(samples);
        }
        epochs.push(Arc::new(Epoch {
            number: epochs.len() as u64 + 1,
            arrival_ns: START + now_s * SECOND,
            floor_ns,
            batches: decoded,
            ..Epoch::default()
        }));
    }
    epochs
}

/// An engine and the rows that it gave, in order.
struct Run {
    engine: Engine,
    rows: Arc<Mutex<Vec<ClosedWindow>>>,
}

impl Run {
    fn new(plan: &WindowPlan, workers: usize, epochs: &[Arc<Epoch>]) -> Run {
        let rows: Arc<Mutex<Vec<ClosedWindow>>> = Arc::default();
        let given = rows.clone();
        let closing = Some(ClosingPlan::parse(FUNCTIONS).unwrap());
        let plan = Plan { workers, windows: plan.clone(), closing, ..Plan::default() };
        let callbacks = Callbacks {
            closed: Arc::new(move |epoch, some| {
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

    fn rows(&self) -> Vec<Row> {
        let rows = self.rows.lock().unwrap();
        let mut rows: Vec<Row> = rows
            .iter()
            .map(|row| {
                assert_eq!((row.width_ns, row.values[0]), (10 * SECOND, row.count as f64));
                let bits = [row.values[1], row.values[2], row.values[3]].map(f64::to_bits);
                (row.revision, row.series, row.start_ns, row.count, bits)
            })
            .collect();
        rows.sort_unstable();
        rows
    }

    fn missed(&self) -> u64 {
        self.engine.shards().iter().map(|shard| shard.read().closing_counts().missed).sum()
    }

    /// The last row of each pane; checks that revisions rise.
    fn last_rows(&self) -> HashMap<(SeriesId, TimeNs), Vec<ClosedWindow>> {
        let mut last: HashMap<_, Vec<ClosedWindow>> = HashMap::new();
        for row in self.rows.lock().unwrap().iter() {
            let of_pane = last.entry((row.series, row.start_ns)).or_default();
            assert!(of_pane.last().is_none_or(|before| before.revision < row.revision));
            of_pane.push(row.clone());
        }
        last
    }
}

/// What the engine says of each finest pane now, the values as bits.
fn ask(engine: &Engine, series: SeriesId) -> BTreeMap<TimeNs, Vec<u64>> {
    let found = view::with_history(engine, series, |shard, history| {
        let plan = shard.plan();
        let newest_ns = history.newest().unwrap().time_ns;
        plan.cutoff_ns(0, newest_ns)..(newest_ns / (10 * SECOND) + 1) * 10 * SECOND
    });
    let Some(range_ns) = found else { return BTreeMap::new() };
    let query = WindowQuery { range_ns, window_ns: 10 * SECOND, with_values: true };
    let (_, groups) = view::windows(engine, &[vec![series]], &query).unwrap();
    let finish = |f: &str, w: &view::WindowAnswer| {
        Function::parse(f).unwrap().finish(&w.aggregate).unwrap_or(f64::NAN).to_bits()
    };
    groups[0].windows.iter().map(|w| (w.start_ns, FUNCTIONS.map(|f| finish(f, w)).to_vec())).collect()
}

fn cases() -> u32 {
    std::env::var("ORACLE_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(24)
}

fn config() -> ProptestConfig {
    ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() }
}

/// Whether the engine gives and misses what the definition says, with any number of workers; says how much it missed.
fn as_defined(script: &Script, with_floors: bool, plan: &WindowPlan) -> Result<u64, TestCaseError> {
    let epochs = epochs(script, with_floors);
    let model = Model::of(plan, &epochs);
    for workers in [1, 2, 4] {
        let run = Run::new(plan, workers, &epochs);
        run.last_rows();
        prop_assert_eq!(run.rows(), model.rows.clone(), "{} workers", workers);
        prop_assert_eq!(run.missed(), model.missed);
    }
    Ok(model.missed)
}

#[test]
fn a_sample_for_a_coarser_pane_is_missed_though_the_first_of_its_series_was_dropped() {
    let samples = vec![(5, -51, 0, false), (5, 310, 0, false), (5, 0, 0, false)];
    let script = vec![(20, Some(20), vec![]), (15, None, vec![]), (15, None, vec![samples])];
    assert_eq!(as_defined(&script, true, &window_plans()[2]).unwrap(), 1);
}

#[test]
fn a_sample_just_before_the_finest_tier_is_missed_though_one_before_the_floor_came_first() {
    let batches = vec![vec![(3, -602, 0, false)], vec![(3, 0, 0, false), (3, -302, 0, false)]];
    let script = vec![(1, Some(601), batches)];
    assert_eq!(as_defined(&script, true, &window_plans()[0]).unwrap(), 1);
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn rows_are_those_of_the_definition_for_any_number_of_workers(
        script in script(),
        with_floors in any::<bool>(),
        plan in 0usize..3,
    ) {
        as_defined(&script, with_floors, &window_plans()[plan])?;
    }

    #[test]
    fn the_last_row_of_a_pane_is_what_a_query_says(script in script(), plan in 0usize..3) {
        let plan = &window_plans()[plan];
        let mut epochs = epochs(&script, false);
        // Without the end, at which all is gone.
        epochs.pop();
        let model = Model::of(plan, &epochs);
        let run = Run::new(plan, 2, &epochs);
        let rows = run.last_rows();
        let end_ns = epochs[epochs.len() - 1].arrival_ns;
        for (series, of_series) in &model.series {
            for (start_ns, answer) in ask(&run.engine, *series) {
                prop_assert!(start_ns + 10 * SECOND + plan.lateness_ns <= end_ns + 400 * SECOND);
                // A pane that was forgotten with its series and began again gives no row: that counts as missed, and the
                // other test holds the count to the definition.
                if start_ns < of_series.forgotten_ns() {
                    continue;
                }
                let Some(of_pane) = rows.get(&(*series, start_ns)) else {
                    // In a future that the arrival clock has not reached.
                    prop_assert!(start_ns + 10 * SECOND > end_ns - plan.lateness_ns, "no row of {}", start_ns);
                    continue;
                };
                let row = &of_pane[of_pane.len() - 1];
                let found: Vec<u64> = row.values.iter().map(|value| value.to_bits()).collect();
                // The increase also says what was before, which may be gone since.
                let same = |at: &usize| FUNCTIONS[*at] != "increase" || of_series.before(start_ns).is_some();
                for at in (0..FUNCTIONS.len()).filter(same) {
                    prop_assert_eq!(found[at], answer[at], "{} of {:?} at {}", FUNCTIONS[at], series, start_ns);
                }
            }
        }
        // A row again has a reason: something came for its series, before its end, in that epoch.
        for ((series, start_ns), of_pane) in &rows {
            for row in &of_pane[1..] {
                let epoch = &epochs[row.revision as usize - 1];
                let mut samples = epoch.batches.iter().flatten();
                prop_assert!(samples.any(|s| s.series == *series && s.time_ns < start_ns + 10 * SECOND));
            }
        }
    }
}
