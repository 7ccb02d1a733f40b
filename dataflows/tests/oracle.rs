//! The oracle: random out-of-order, late and duplicated samples, against a recomputation from scratch.
//!
//! What the engine answers must equal what the definitions give on the samples kept, and must be the same,
//! bit for bit, for 1, 2 and 4 workers.
//!
//! A long run: `ORACLE_CASES=2000 nice cargo test -p dataflows --test oracle`.

mod workload;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use dataflows::engine::{Callbacks, Engine};
use dataflows::epoch::Epoch;
use dataflows::plan::Plan;
use dataflows::view::{self, WindowQuery};
use operators::alert::intervals;
use operators::alerts::{AlertTransition, Source};
use operators::function::Function;
use operators::sample::{MINUTE, SECOND, SeriesId, TimeNs};
use proptest::prelude::*;
use workload::{Script, epochs, key, rules, script, window_plan};

/// Answers of one run for each width, as bits, and the alert transitions in a canonical order.
fn run(workers: usize, epochs: &[Arc<Epoch>], widths: &[i64]) -> (Vec<Answers>, Vec<AlertTransition>) {
    let transitions: Arc<Mutex<Vec<AlertTransition>>> = Arc::default();
    let outbox = transitions.clone();
    let plan = Plan { workers, windows: window_plan(), rules: rules(), ..Plan::default() };
    let callbacks = Callbacks {
        outbox: Arc::new(move |_, some| outbox.lock().unwrap().extend_from_slice(some)),
        ..Callbacks::default()
    };
    let engine = Engine::start(plan, callbacks).unwrap();
    for epoch in epochs {
        engine.submit(epoch.clone());
    }
    engine.wait_for(epochs.len() as u64);
    let newest = newest(epochs);
    let answers =
        widths.iter().map(|width_ns| ask(&engine, &newest, epochs.len() as u64, *width_ns)).collect();
    engine.stop();
    let mut transitions = transitions.lock().unwrap().clone();
    // Transitions of one alert come in order; alerts of different workers interleave.
    transitions.sort_by_key(|t| (t.rule, t.source));
    (answers, transitions)
}

fn ask(engine: &Engine, newest: &BTreeMap<SeriesId, TimeNs>, epochs: u64, window_ns: i64) -> Answers {
    let mut answers = Answers::new();
    for (series, newest_ns) in newest {
        let range_ns = oldest_ns(*newest_ns, window_ns)..(newest_ns / window_ns + 1) * window_ns;
        let query = WindowQuery { range_ns, window_ns, with_values: true };
        let (as_of, groups) = view::windows(engine, &[vec![*series]], &query).unwrap();
        assert_eq!(as_of, epochs);
        for window in &groups[0].windows {
            let results =
                FUNCTIONS.map(|f| Function::parse(f).unwrap().finish(&window.aggregate).map(f64::to_bits));
            answers.insert((*series, window.start_ns), results);
        }
    }
    answers
}

const FUNCTIONS: [&str; 11] =
    ["count", "sum", "avg", "min", "max", "first", "last", "increase", "stddev", "median", "p90"];
type Answers = BTreeMap<(SeriesId, TimeNs), [Option<u64>; 11]>;

fn newest(epochs: &[Arc<Epoch>]) -> BTreeMap<SeriesId, TimeNs> {
    let mut newest = BTreeMap::new();
    for sample in epochs.iter().flat_map(|e| e.batches.iter().flatten()) {
        let held = newest.entry(sample.series).or_insert(sample.time_ns);
        *held = sample.time_ns.max(*held);
    }
    newest
}

/// Where the tier that can answer windows of this width begins.
fn oldest_ns(newest_ns: TimeNs, window_ns: i64) -> TimeNs {
    window_plan().cutoff_ns(usize::from(window_ns >= MINUTE), newest_ns)
}

/// The same from the definitions: which samples count, and each function of each window's samples.
fn recompute(epochs: &[Arc<Epoch>], window_ns: i64) -> Answers {
    let plan = window_plan();
    let mut kept: BTreeMap<SeriesId, Vec<(TimeNs, usize, f64)>> = BTreeMap::new();
    let mut clock: BTreeMap<SeriesId, TimeNs> = BTreeMap::new();
    for (order, sample) in epochs.iter().flat_map(|e| e.batches.iter().flatten()).enumerate() {
        let newest_ns = clock.entry(sample.series).or_insert(sample.time_ns);
        *newest_ns = sample.time_ns.max(*newest_ns);
        let young = *newest_ns - sample.time_ns <= plan.correction_horizon_ns;
        if young && sample.time_ns >= plan.cutoff_ns(1, *newest_ns) {
            kept.entry(sample.series).or_default().push((sample.time_ns, order, sample.value));
        }
    }
    let mut answers = Answers::new();
    for (series, mut samples) in kept {
        samples.sort_by_key(|sample| (sample.0, sample.1));
        // What is older than the coarsest tier now is gone, also as the sample before a window.
        samples.retain(|s| s.0 >= plan.cutoff_ns(1, clock[&series]));
        let from_ns = oldest_ns(clock[&series], window_ns);
        let mut at = samples.partition_point(|s| s.0 < from_ns);
        while at < samples.len() {
            let start_ns = samples[at].0.div_euclid(window_ns) * window_ns;
            let end = samples.partition_point(|s| s.0 < start_ns + window_ns);
            answers.insert(
                (series, start_ns),
                naive(&samples[at..end], at.checked_sub(1).map(|b| samples[b].2)),
            );
            at = end;
        }
    }
    answers
}

fn naive(samples: &[(TimeNs, usize, f64)], before: Option<f64>) -> [Option<u64>; 11] {
    let values: Vec<f64> = samples.iter().map(|s| s.2).collect();
    let count = values.len() as f64;
    let sum: f64 = values.iter().sum();
    let mut sorted = values.clone();
    sorted.sort_by(f64::total_cmp);
    let quantile = |q: f64| {
        let rank = q * (count - 1.0);
        let (low, high) = (sorted[rank.floor() as usize], sorted[rank.ceil() as usize]);
        low + (high - low) * rank.fract()
    };
    let chain: Vec<f64> = before.into_iter().chain(values.iter().copied()).collect();
    let grown: f64 = chain.windows(2).map(|w| if w[1] >= w[0] { w[1] - w[0] } else { w[1] }).sum();
    let mean = sum / count;
    let stddev = (values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / count).sqrt();
    [
        Some(count),
        Some(sum),
        Some(mean),
        Some(sorted[0]),
        Some(sorted[sorted.len() - 1]),
        Some(values[0]),
        Some(values[values.len() - 1]),
        (chain.len() > 1).then_some(grown),
        Some(stddev),
        Some(quantile(0.5)),
        Some(quantile(0.9)),
    ]
    .map(|result| result.map(f64::to_bits))
}

/// Compares exactly, but for the standard deviation, whose last bits depend on how panes were merged.
fn assert_equal(engine: &Answers, oracle: &Answers) {
    assert_eq!(engine.keys().collect::<Vec<_>>(), oracle.keys().collect::<Vec<_>>(), "windows");
    for (window, results) in oracle {
        for (at, name) in FUNCTIONS.iter().enumerate() {
            let (found, expected) = (engine[window][at].map(f64::from_bits), results[at].map(f64::from_bits));
            let close = match (found, expected) {
                (Some(f), Some(e)) if *name == "stddev" => (f - e).abs() <= 1e-9 * e.abs().max(1.0),
                (f, e) => f == e,
            };
            assert!(close, "{name} of {window:?}: {found:?}, expected {expected:?}");
        }
    }
}

fn cases() -> u32 {
    std::env::var("ORACLE_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(48)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn windows_equal_a_recomputation_for_any_number_of_workers(script in script(), step_s in 1i64..60) {
        let epochs = epochs(&script, step_s, 1.0);
        let widths = [10 * SECOND, 30 * SECOND, MINUTE, 5 * MINUTE];
        let oracles = widths.map(|width_ns| recompute(&epochs, width_ns));
        for workers in [1, 2, 4] {
            for (found, oracle) in run(workers, &epochs, &widths).0.iter().zip(&oracles) {
                assert_equal(found, oracle);
            }
        }
    }

    #[test]
    fn answers_are_the_same_bits_for_any_number_of_workers(script in script(), step_s in 1i64..60) {
        // Values that are no dyadic fractions: sums depend on their order.
        let epochs = epochs(&script, step_s, 0.1);
        let one = run(1, &epochs, &[MINUTE]);
        for workers in [2, 4] {
            prop_assert_eq!(&run(workers, &epochs, &[MINUTE]), &one);
        }
    }

    #[test]
    fn alerts_equal_the_intervals_of_their_samples(script in script(), step_s in 1i64..40) {
        // In order: what a straggler does to an alert is another test's matter.
        let script: Script = script.iter().map(|e| e.iter().map(|b| b.iter().map(|s| (s.0, 0, s.2, false)).collect()).collect()).collect();
        let epochs = epochs(&script, step_s, 1.0);
        let end_ns = epochs[epochs.len() - 1].arrival_ns;
        let (_, transitions) = run(2, &epochs, &[MINUTE]);
        for (number, rule) in rules().iter().enumerate() {
            for series in (0..7).filter(|s| *key(*s).metric == *rule.metric) {
                let samples: Vec<(TimeNs, f64)> = epochs.iter().flat_map(|e| e.batches.iter().flatten())
                    .filter(|s| s.series == series).map(|s| (s.time_ns, s.value)).collect();
                let Some((newest_ns, _)) = samples.last().copied() else { continue };
                let silent = end_ns - newest_ns >= window_plan().idle_timeout_ns;
                let clock_ns = if silent { end_ns } else { newest_ns };
                let holds = |value: f64| rule.level.verdict(value);
                let expected: Vec<TimeNs> = intervals(&samples, rule.timing, holds, clock_ns)
                    .iter().filter_map(|i| i.fire_ns).collect();
                let fired: Vec<TimeNs> = transitions.iter()
                    .filter(|t| t.rule == number as u32 && t.source == Source::Series(series))
                    .filter(|t| t.transition.kind == operators::alert::Kind::Firing)
                    .map(|t| t.transition.at_ns).collect();
                prop_assert_eq!(fired, expected, "rule {} series {}", number, series);
            }
        }
    }
}
