//! Rollups that come with some epochs and go with others.

use std::sync::Arc;

use dataflows::checkpoint::queue;
use dataflows::engine::{Callbacks, Engine};
use dataflows::epoch::Epoch;
use dataflows::restore::Snapshot;
use operators::catalog::Entry;
use operators::rollup::{Rollup, RollupChange};
use operators::rule::{Grouping, Over};
use operators::sample::{MINUTE, SECOND};
use operators::series::TargetMatcher;

/// Epoch, number of the rollup, whether it comes.
const CHANGES: [(u64, u32, bool); 8] = [
    (1, 0, true),
    (1, 1, true),
    (1, 2, true),
    (9, 3, true),
    (12, 1, false),
    (12, 4, true),
    (17, 0, false),
    (23, 5, true),
];

fn rollup(number: u32) -> Rollup {
    let (metric, grouping, width_s, hop_s, functions) = match number {
        0 => ("m0", Grouping::By(Vec::new()), 60, 60, vec!["avg", "p90", "increase"]),
        1 => ("m1", Grouping::Series, 30, 10, vec!["rate", "stddev", "p90"]),
        2 => ("m2", Grouping::By(vec!["service".into()]), 40, 20, vec!["sum", "rate"]),
        3 => ("m0", Grouping::Without(vec!["n".into()]), 30, 10, vec!["increase", "median"]),
        4 => ("m2", Grouping::Series, 60, 60, vec!["max", "increase"]),
        _ => ("m1", Grouping::By(Vec::new()), 120, 60, vec!["sum"]),
    };
    let over = Over { metric: "m0".into(), matcher: TargetMatcher::default(), function: "sum".into() };
    Rollup {
        name: metric.into(),
        metric: metric.into(),
        matcher: TargetMatcher::default(),
        over: (number == 5).then_some(over),
        grouping,
        width_ns: width_s * SECOND,
        hop_ns: hop_s * SECOND,
        functions: functions.into_iter().map(String::from).collect(),
        samples_min: 0,
        correct_ns: 3 * MINUTE,
        keep_ns: 5 * MINUTE,
    }
}

/// Puts them into epochs.
pub fn with_rollups(mut epochs: Vec<Arc<Epoch>>) -> Vec<Arc<Epoch>> {
    for (number, rollup_number, comes) in CHANGES {
        let Some(epoch) = epochs.get_mut(number as usize - 1).and_then(Arc::get_mut) else { continue };
        let RollupChange { removed, added } = &mut epoch.rollups;
        match comes {
            true => added.push((rollup_number, Arc::new(rollup(rollup_number)))),
            false => removed.push(rollup_number),
        }
    }
    epochs
}

/// Whoever asks an engine as soon as it has started finds its groups by name: it tells nobody of them later.
#[test]
fn groups_have_their_names_when_an_engine_has_started() {
    let entries: Vec<Entry> = (0..2000).map(|id| Entry { id, key: super::key(id) }).collect();
    let by_n = Rollup { grouping: Grouping::By(vec!["n".into()]), ..rollup(0) };
    let rollups = RollupChange { removed: Vec::new(), added: vec![(7, Arc::new(by_n))] };
    let epoch =
        Epoch { number: 1, arrival_ns: SECOND, entries: entries.clone(), rollups, ..Epoch::default() };
    let engine = Engine::start(super::plan(2, false), Callbacks::default()).unwrap();
    engine.submit(Arc::new(epoch));
    let (sink, parts) = queue(100_000);
    engine.wait_for(1);
    let names = |engine: &Engine| engine.directory().groups(7);
    let before = names(&engine);
    assert_eq!(before.len(), 667, "a third of the series has this metric");
    assert_eq!(engine.stop_with_checkpoint(sink), Some(1));
    let parts: Vec<_> = parts.iter().collect();
    for workers in [1, 2, 4] {
        let mut snapshot = Snapshot::new(super::plan(workers, false), entries.clone()).unwrap();
        assert_eq!(super::add_all(&mut snapshot, &parts), Ok(1));
        let engine = Engine::start_from(snapshot, Callbacks::default(), 1).unwrap();
        assert_eq!(names(&engine), before, "{workers} workers");
    }
}
