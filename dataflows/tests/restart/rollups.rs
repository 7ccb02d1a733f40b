//! Rollups that come with some epochs and go with others.

use std::sync::Arc;

use dataflows::epoch::Epoch;
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
