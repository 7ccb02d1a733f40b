//! What alert rules cost: 100,000 series without rules, and with 10,000 rules that match 100 of them each.
//!
//! Prints CPU nanoseconds of the process per sample, submission included, for runs in turn, the least disturbed of each;
//! and how long one rule among 10,000 takes to change, from its epoch's submission until it is in force everywhere.
//! `cargo bench -p dataflows --bench rules -- 2` runs 2 workers.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dataflows::engine::{Callbacks, Engine};
use dataflows::epoch::{Epoch, SharedEpoch};
use dataflows::plan::Plan;
use operators::catalog::Entry;
use operators::rule::{Level, Rule, RuleChange};
use operators::sample::{SECOND, Sample, TimeNs};
use operators::series::{SeriesKey, Target};

/// That of the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const START_NS: TimeNs = 1_700_000_000 * SECOND;
const SERIES: u32 = 100_000;
const METRICS: u32 = 1_000;
const RULES: u32 = 10_000;
const EPOCH_LEN: u32 = 20_000;
/// Rounds before what is measured: until sources hold as many values as they will.
const WARM_UP: i64 = 70;
const ROUNDS: i64 = 30;
const TURNS: usize = 3;
/// Ticks a second in `/proc/self/stat`, on every usual Linux.
const TICKS_PER_SECOND: f64 = 100.0;

fn main() {
    let workers = std::env::args().filter_map(|argument| argument.parse().ok()).next().unwrap_or(1);
    let samples = i64::from(SERIES) * ROUNDS;
    println!(
        "{SERIES} series, {RULES} rules of {} series each, {samples} samples, {workers} worker(s)",
        SERIES / METRICS
    );
    for (name, late) in [("in order", false), ("one in 20 up to 5 s late", true)] {
        let epochs = epochs(late);
        let (mut without, mut with) = (Vec::new(), Vec::new());
        for _ in 0..TURNS {
            without.push(run(workers, 0, &epochs));
            with.push(run(workers, RULES, &epochs));
        }
        without.sort_by(|a, b| a.cpu_ns.total_cmp(&b.cpu_ns));
        with.sort_by(|a, b| a.cpu_ns.total_cmp(&b.cpu_ns));
        let (base, rules) = (&without[0], &with[0]);
        println!(
            "{name}: {:.1} CPU ns a sample without rules, {:.1} with ({:+.0} %), {} transitions; a changed rule in force \
             after {:.1} ms",
            base.cpu_ns,
            rules.cpu_ns,
            (rules.cpu_ns / base.cpu_ns - 1.0) * 100.0,
            rules.transitions,
            rules.changed.as_secs_f64() * 1e3,
        );
    }
}

struct Run {
    cpu_ns: f64,
    transitions: u64,
    changed: Duration,
}

fn rule(number: u32, threshold: f64) -> Rule {
    let level = Level::new(">".parse().expect("an operator"), threshold);
    Rule {
        name: format!("rule {number}").into(),
        metric: format!("m{}", number % METRICS),
        level,
        ..Rule::default()
    }
}

fn run(workers: usize, rules: u32, epochs: &[SharedEpoch]) -> Run {
    let transitions = Arc::new(AtomicU64::new(0));
    let counted = transitions.clone();
    let outbox = move |_, some: &[_]| {
        counted.fetch_add(some.len() as u64, Ordering::Relaxed);
    };
    let callbacks = Callbacks { outbox: Arc::new(outbox), ..Callbacks::default() };
    let plan = Plan { workers, ..Plan::default() };
    let engine = Engine::start(plan, callbacks).expect("the plan is sound");
    let added: Vec<_> = (0..rules).map(|n| (n, rule(n, 99.9 + f64::from(n / METRICS) / 100.0))).collect();
    let entries = (0..SERIES).map(|id| {
        let target = Target::new("bench", [("n", (id / METRICS).to_string().as_str())]);
        Entry { id, key: SeriesKey { target: Arc::new(target), metric: format!("m{}", id % METRICS).into() } }
    });
    let first = Epoch {
        number: 1,
        arrival_ns: START_NS,
        entries: entries.collect(),
        rules: Some(Arc::new(RuleChange { removed: Vec::new(), added })),
        ..Epoch::default()
    };
    engine.submit(Arc::new(first));
    engine.wait_for(1);
    let (warm_up, measured) = epochs.split_at(WARM_UP as usize * (SERIES / EPOCH_LEN) as usize);
    for epoch in warm_up {
        engine.submit(epoch.clone());
    }
    engine.wait_for(warm_up.len() as u64 + 1);
    let cpu_before_s = cpu_s();
    for epoch in measured {
        engine.submit(epoch.clone());
    }
    let last = epochs.len() as u64 + 1;
    engine.wait_for(last);
    let cpu_ns = (cpu_s() - cpu_before_s) * 1e9 / (i64::from(SERIES) * ROUNDS) as f64;
    let change = RuleChange { removed: vec![7], added: vec![(RULES, rule(7, 99.8))] };
    let arrival_ns = START_NS + (WARM_UP + ROUNDS) * SECOND;
    let began = Instant::now();
    engine.submit(Arc::new(Epoch {
        number: last + 1,
        arrival_ns,
        rules: Some(Arc::new(change)),
        ..Epoch::default()
    }));
    engine.wait_for(last + 1);
    let changed = began.elapsed();
    let bound: u64 = engine.loads().iter().map(|load| load.alerts_bound.load(Ordering::Relaxed)).sum();
    let of_rules = u64::from(rules) * u64::from(SERIES / METRICS);
    assert!(rules == 0 || bound == of_rules, "expected {of_rules} pairs of rules and series, found {bound}");
    engine.stop();
    Run { cpu_ns, transitions: transitions.load(Ordering::Relaxed), changed }
}

/// A sample a second of every series.
fn epochs(late: bool) -> Vec<SharedEpoch> {
    let sample = |round: i64, series: u32| {
        let draw =
            (round as u64 * u64::from(SERIES) + u64::from(series)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let late_ns =
            if late && draw.is_multiple_of(20) { (draw % 5_000) as i64 * SECOND / 1_000 } else { 0 };
        let time_ns = START_NS + round * SECOND - late_ns;
        Sample { series, seq: 0, time_ns, value: (draw % 100_003) as f64 / 1000.0 }
    };
    let in_a_round = SERIES / EPOCH_LEN;
    (0..WARM_UP + ROUNDS)
        .flat_map(|round| (0..in_a_round).map(move |part| (round, part)))
        .map(|(round, part)| {
            // In no order of memory.
            let series = (part * EPOCH_LEN..(part + 1) * EPOCH_LEN)
                .map(|n| (u64::from(n) * 7919 % u64::from(SERIES)) as u32);
            let samples: Vec<Sample> = series.map(|series| sample(round, series)).collect();
            Arc::new(Epoch {
                number: (round * i64::from(in_a_round)) as u64 + u64::from(part) + 2,
                arrival_ns: START_NS + round * SECOND,
                floor_ns: TimeNs::MIN,
                batches: samples.chunks(1_000).map(<[Sample]>::to_vec).collect(),
                ..Epoch::default()
            })
        })
        .collect()
}

fn cpu_s() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").expect("Linux says how much CPU was used");
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().skip(11).take(2);
    fields.filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / TICKS_PER_SECOND
}
