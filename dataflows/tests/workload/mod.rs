//! Random epochs: samples out of order, late and twice, of series that fall silent, and rules that watch them.

use std::sync::Arc;

use dataflows::epoch::Epoch;
use operators::alert::Timing;
use operators::catalog::Entry;
use operators::rule::{Level, Rule};
use operators::sample::{MINUTE, SECOND, Sample, SeriesId, TimeNs};
use operators::series::{SeriesKey, Target, TargetMatcher};
use operators::tier::{Tier, WindowPlan};
use proptest::prelude::*;

const START: TimeNs = 1_700_000_000 * SECOND / MINUTE * MINUTE;

pub fn window_plan() -> WindowPlan {
    WindowPlan {
        tiers: vec![
            Tier { width_ns: 10 * SECOND, retention_ns: 5 * MINUTE },
            Tier { width_ns: MINUTE, retention_ns: 30 * MINUTE },
        ],
        lateness_ns: 20 * SECOND,
        correction_horizon_ns: 25 * MINUTE,
        idle_timeout_ns: 30 * SECOND,
    }
}

pub fn rules() -> Vec<Rule> {
    let rule = |metric: &str, symbol: &str, threshold, seconds| Rule {
        name: format!("{metric} {symbol} {threshold}").into(),
        metric: metric.into(),
        matcher: TargetMatcher::default(),
        level: Level::new(symbol.parse().unwrap(), threshold),
        timing: Timing::new(seconds * SECOND, 90 * SECOND),
        ..Rule::default()
    };
    vec![rule("m0", ">", 50.0, 20), rule("m1", "<=", 30.0, 0)]
}

pub fn key(series: SeriesId) -> SeriesKey {
    let target = Target::new("s", [("n", series.to_string().as_str())]);
    SeriesKey { target: Arc::new(target), metric: format!("m{}", series % 3).into() }
}

/// What comes in: epochs of batches of (series, offset from the running second in seconds, value, copies).
pub type Script = Vec<Vec<Vec<(u32, i64, u32, bool)>>>;

pub fn script() -> impl Strategy<Value = Script> {
    let offset = prop_oneof![6 => Just(0i64), 2 => -15i64..5, 1 => -400i64..0, 1 => -2400i64..0];
    let sample = (0u32..7, offset, 0u32..100, prop::bool::weighted(0.05));
    let batch = prop::collection::vec(sample, 0..12);
    prop::collection::vec(prop::collection::vec(batch, 0..4), 1..60)
}

pub fn epochs(script: &Script, step_s: i64, scale: f64) -> Vec<Arc<Epoch>> {
    let mut known = std::collections::HashSet::new();
    let mut epochs = Vec::new();
    for (at, batches) in script.iter().enumerate() {
        let now_ns = START + at as i64 * step_s * SECOND;
        let mut entries = Vec::new();
        let mut decoded = Vec::new();
        for batch in batches {
            let mut samples = Vec::new();
            for (series, offset_s, value, twice) in batch {
                if known.insert(*series) {
                    entries.push(Entry { id: *series, key: key(*series) });
                }
                let value = f64::from(*value) * scale;
                let sample = Sample { series: *series, seq: 0, time_ns: now_ns + offset_s * SECOND, value };
                samples.extend(std::iter::repeat_n(sample, 1 + usize::from(*twice)));
            }
            decoded.push(samples);
        }
        let number = at as u64 + 1;
        epochs.push(Arc::new(Epoch {
            number,
            arrival_ns: now_ns,
            floor_ns: TimeNs::MIN,
            batches: decoded,
            entries,
            ..Epoch::default()
        }));
    }
    epochs
}
