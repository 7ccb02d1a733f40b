//! What rollups cost: epochs in memory -> windows of groups, on 2 workers.
//!
//! Every series has a sample a second, of which one in two hundred comes up to 30 s late. Prints CPU nanoseconds of the
//! process per sample, and the rows that came out.
//!
//! `cargo bench -p dataflows --bench rollups -- 10000` measures with another number of series.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use dataflows::engine::{Callbacks, Engine};
use dataflows::epoch::{Epoch, SharedEpoch};
use dataflows::plan::Plan;
use operators::catalog::Entry;
use operators::rollup::{Rollup, RollupChange};
use operators::rule::Grouping;
use operators::sample::{SECOND, Sample, TimeNs};
use operators::series::{SeriesKey, Target, TargetMatcher};

const START_NS: TimeNs = 1_700_000_040 * SECOND;
const SAMPLES: usize = 10_000_000;
const EPOCH_LEN: usize = 10_000;
/// Ticks a second in `/proc/self/stat`, on every usual Linux.
const TICKS_PER_SECOND: f64 = 100.0;

fn main() {
    let asked: Vec<usize> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let by = |names: &[&str]| Grouping::By(names.iter().map(|name| name.to_string()).collect());
    for series in if asked.is_empty() { vec![10_000, 100_000] } else { asked } {
        for (what, rollup) in [
            ("nothing", None),
            ("of another metric", Some(rollup("other", by(&[]), 60, 60, &["avg"]))),
            ("one group, 1 min, avg", Some(rollup("m", by(&[]), 60, 60, &["avg"]))),
            ("groups of 100, 1 min, avg", Some(rollup("m", by(&["g"]), 60, 60, &["avg"]))),
            ("groups of 100, 1 min, p95", Some(rollup("m", by(&["g"]), 60, 60, &["p95"]))),
            ("groups of 100, 5 min every 10 s, avg", Some(rollup("m", by(&["g"]), 300, 10, &["avg"]))),
            ("each series, 1 min every 10 s, avg", Some(rollup("m", Grouping::Series, 60, 10, &["avg"]))),
        ] {
            let epochs = epochs(series, rollup);
            let (first, second) = (run(&epochs), run(&epochs));
            let (seconds, cpu_ns, rows) = if first.1 < second.1 { first } else { second };
            println!(
                "{series:>6} series, {what:<36}: {cpu_ns:6.1} CPU ns a sample, {:5.1} M samples/s, {rows} rows",
                SAMPLES as f64 / seconds / 1e6
            );
        }
    }
}

fn rollup(metric: &str, grouping: Grouping, width_s: i64, hop_s: i64, functions: &[&str]) -> Rollup {
    Rollup {
        name: "r".into(),
        metric: metric.into(),
        matcher: TargetMatcher::default(),
        over: None,
        grouping,
        width_ns: width_s * SECOND,
        hop_ns: hop_s * SECOND,
        functions: functions.iter().map(|name| name.to_string()).collect(),
        samples_min: 0,
        correct_ns: 600 * SECOND,
        keep_ns: 0,
    }
}

/// Seconds, CPU nanoseconds a sample, rows.
fn run(epochs: &[SharedEpoch]) -> (f64, f64, u64) {
    let rows = Arc::new(AtomicU64::new(0));
    let counted = rows.clone();
    let callbacks = Callbacks {
        rolled: Arc::new(move |_, rows| {
            counted.fetch_add(rows.len() as u64, Ordering::Relaxed);
        }),
        ..Callbacks::default()
    };
    let plan = Plan { workers: 2, ..Plan::default() };
    let engine = Engine::start(plan, callbacks).expect("the plan is sound");
    engine.submit(epochs[0].clone());
    engine.wait_for(1);
    let (began, cpu_before_s) = (Instant::now(), cpu_s());
    epochs[1..].iter().for_each(|epoch| engine.submit(epoch.clone()));
    engine.wait_for(epochs.len() as u64);
    let (seconds, cpu_s) = (began.elapsed().as_secs_f64(), cpu_s() - cpu_before_s);
    engine.stop();
    (seconds, cpu_s * 1e9 / SAMPLES as f64, rows.load(Ordering::Relaxed))
}

/// First what there is, then samples of every series in turn.
fn epochs(series: usize, rollup: Option<Rollup>) -> Vec<SharedEpoch> {
    let entry = |id: usize| {
        let (n, g) = (id.to_string(), (id / 100).to_string());
        let target = Target::new("s", [("n", n.as_str()), ("g", g.as_str())]);
        Entry { id: id as u32, key: SeriesKey { target: Arc::new(target), metric: "m".into() } }
    };
    let added = rollup.map(|rollup| (0, Arc::new(rollup))).into_iter().collect();
    let first = Epoch {
        number: 1,
        arrival_ns: START_NS,
        floor_ns: TimeNs::MIN,
        entries: (0..series).map(entry).collect(),
        rollups: RollupChange { removed: Vec::new(), added },
        ..Epoch::default()
    };
    let sample = |number: usize| {
        let draw = (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let late_ns = if draw.is_multiple_of(200) { (draw % 30_000) as i64 * SECOND / 1_000 } else { 0 };
        let time_ns = START_NS + (number as f64 / series as f64 * SECOND as f64) as i64 - late_ns;
        let series = (number % series * 7919) % series;
        Sample { series: series as u32, seq: 0, time_ns, value: (draw % 100_003) as f64 / 1000.0 }
    };
    let rest = (0..SAMPLES / EPOCH_LEN).map(|at| Epoch {
        number: at as u64 + 2,
        arrival_ns: START_NS + ((at * EPOCH_LEN) as f64 / series as f64 * SECOND as f64) as i64,
        floor_ns: TimeNs::MIN,
        batches: vec![(at * EPOCH_LEN..(at + 1) * EPOCH_LEN).map(sample).collect()],
        ..Epoch::default()
    });
    std::iter::once(first).chain(rest).map(Arc::new).collect()
}

fn cpu_s() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").expect("Linux says how much CPU was used");
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().skip(11).take(2);
    fields.filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / TICKS_PER_SECOND
}
