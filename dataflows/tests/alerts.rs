//! Alerts against a recomputation from scratch: random rules over random late, out-of-order and duplicated samples.
//!
//! What is told and not taken back must be what the definition gives on all samples that count, for 1, 2 and 4 workers;
//! every tenth case crashes in the middle and goes on from a checkpoint and the log.
//!
//! A long run: `ALERT_SEEDS=1000 cargo test --release -p dataflows --test alerts`.

#[path = "alerts/model.rs"]
mod model;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use dataflows::checkpoint::{Part, queue};
use dataflows::engine::{Callbacks, Engine};
use dataflows::epoch::Epoch;
use dataflows::plan::Plan;
use dataflows::restore::Snapshot;
use model::{Case, Known, Random, expected, windows};
use operators::alerts::AlertTransition;

type Said = Arc<Mutex<BTreeMap<u64, Vec<AlertTransition>>>>;

fn plan(workers: usize, case: &Case) -> Plan {
    Plan { workers, windows: windows(), slack: case.slack, ..Plan::default() }
}

fn callbacks(said: &Said, from: u64) -> Callbacks {
    let said = said.clone();
    let outbox = move |epoch: u64, some: &[AlertTransition]| {
        // As the outbox does: what an epoch said before a crash is not said again.
        if epoch > from {
            said.lock().unwrap().entry(epoch).or_default().extend_from_slice(some);
        }
    };
    Callbacks { outbox: Arc::new(outbox), ..Callbacks::default() }
}

/// Runs a case, with a crash behind an epoch if one is given; gives what receivers know behind each epoch.
fn run(workers: usize, case: &Case, crash: Option<(u64, u64, usize)>) -> Known {
    let (said, last) = (Said::default(), case.epochs.len() as u64);
    let mut engine = Engine::start(plan(workers, case), callbacks(&said, 0)).unwrap();
    if let Some((checkpoint_at, crash_at, workers_after)) = crash {
        case.epochs[..checkpoint_at as usize].iter().for_each(|epoch| engine.submit(epoch.clone()));
        let (sink, parts) = queue(10_000);
        assert_eq!(engine.checkpoint(sink), Some(checkpoint_at));
        engine.wait_for(checkpoint_at);
        let mut ended = 0;
        let parts: Vec<Part> = std::iter::from_fn(|| {
            let part = (ended < workers).then(|| parts.recv().ok()).flatten()?;
            ended += usize::from(part.end_epoch.is_some());
            Some(part)
        })
        .collect();
        case.epochs[checkpoint_at as usize..crash_at as usize]
            .iter()
            .for_each(|epoch| engine.submit(epoch.clone()));
        engine.wait_for(crash_at);
        engine.stop();
        let entries = case.epochs[..checkpoint_at as usize].iter().flat_map(|epoch| epoch.entries.clone());
        let mut snapshot = Snapshot::new(plan(workers_after, case), entries.collect()).unwrap();
        parts.iter().for_each(|part| snapshot.add(&part.bytes).unwrap());
        engine = Engine::start_from(snapshot, callbacks(&said, crash_at), last).unwrap();
        case.epochs[checkpoint_at as usize..].iter().for_each(|epoch| engine.submit(epoch.clone()));
    } else {
        case.epochs.iter().for_each(|epoch: &Arc<Epoch>| engine.submit(epoch.clone()));
    }
    engine.wait_for(last);
    engine.stop();
    let mut known = Known::default();
    for (_, mut some) in std::mem::take(&mut *said.lock().unwrap()) {
        // Those of one alert are in order; alerts of different workers interleave.
        some.sort_by_key(|moved| (moved.source, moved.rule));
        some.iter().for_each(|moved| known.learn(moved));
    }
    known
}

fn seeds() -> u64 {
    std::env::var("ALERT_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(60)
}

#[test]
fn alerts_are_those_of_all_samples_at_once() {
    let (mut firings, mut crashes) = (0, 0);
    for seed in 0..seeds() {
        let case = Case::random(seed);
        let expected = expected(&case);
        let mut random = Random(seed ^ 0x5eed);
        for workers in [1, 2, 4] {
            let last = case.epochs.len() as u64;
            let crash = (seed % 10 == 0).then(|| {
                let at = random.below(last - 1) + 1;
                (random.below(at) + 1, at, [1, 2, 4][random.below(3) as usize])
            });
            crashes += usize::from(crash.is_some());
            let known = run(workers, &case, crash);
            for of in &expected {
                let found = known.of(of.rule, of.series);
                firings += found.len();
                let context =
                    || format!("seed {seed}, {workers} workers, crash {crash:?}, {of:?}, found {found:?}");
                assert!(found.iter().all(|one| of.firings.contains(one)), "too much: {}", context());
                let missing = of.firings.iter().find(|one| !found.contains(one) && !of.over.contains(one));
                assert_eq!(missing, None, "{}", context());
            }
            assert_eq!(
                known.len(),
                expected.iter().map(|of| known.of(of.rule, of.series).len()).sum::<usize>()
            );
        }
    }
    println!("{} cases, {firings} firings, {crashes} crashes", seeds());
    assert!(firings > 100, "{firings} firings");
}

/// Windows of groups, as a rule has them: what is known of them hangs neither on the workers nor on a crash.
#[test]
fn alerts_of_windows_are_the_same_for_any_number_of_workers_and_after_a_crash() {
    let mut firings = 0;
    for seed in 0..seeds() / 3 {
        let mut case = Case::random(seed);
        case.rule_of_windows(&mut Random(seed ^ 0xface));
        let last = case.epochs.len() as u64;
        let mut random = Random(seed);
        let at = random.below(last - 1) + 1;
        let crash = (random.below(at) + 1, at, 2);
        let reference = run(1, &case, None);
        for (workers, crash) in [(2, None), (4, None), (1, Some(crash)), (4, Some(crash))] {
            let known = run(workers, &case, crash);
            assert_eq!(known.of_groups(), reference.of_groups(), "seed {seed}, {workers} workers, {crash:?}");
        }
        firings += reference.of_groups().len();
    }
    assert!(firings > 20, "{firings} firings");
}
