//! Samples sent again, against a set of series and event times: whole batches, in any epoch, out of order, into
//! panes of many samples, for 1, 2 and 4 workers and through a restart.
//!
//! A long run: `ORACLE_CASES=2000 nice cargo test -p dataflows --test dedup`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dataflows::checkpoint::queue;
use dataflows::engine::{Callbacks, Engine};
use dataflows::epoch::Epoch;
use dataflows::plan::Plan;
use dataflows::restore::Snapshot;
use dataflows::view::{self, WindowQuery};
use operators::sample::{DEDUP, MINUTE, MS, SECOND, Sample, SeriesId, TimeNs};
use operators::tier::{Tier, WindowPlan};
use operators::window::ShardCounts;
use proptest::prelude::*;

const START: TimeNs = 1_700_000_000 * SECOND / MINUTE * MINUTE;
/// Its format says nothing about two samples of one time.
const PLAIN: SeriesId = 3;

fn window_plan() -> WindowPlan {
    WindowPlan {
        tiers: vec![
            Tier { width_ns: 10 * SECOND, retention_ns: 3 * MINUTE },
            Tier { width_ns: MINUTE, retention_ns: 10 * MINUTE },
        ],
        lateness_ns: 20 * SECOND,
        correction_horizon_ns: 8 * MINUTE,
        idle_timeout_ns: 30 * SECOND,
    }
}

/// What one batch is.
#[derive(Clone, Debug)]
enum Send {
    /// Samples of a series: how many seconds behind, how many, how many milliseconds apart.
    New { series: SeriesId, behind_s: i64, len: i64, step_ms: i64 },
    /// One that was sent before, from its end to its beginning if turned.
    Again { which: prop::sample::Index, turned: bool },
}

fn sends() -> impl Strategy<Value = Vec<Vec<Send>>> {
    let behind_s = prop_oneof![4 => Just(0i64), 1 => 0i64..30, 1 => 30i64..400, 1 => 400i64..900];
    let new = (0u32..4, behind_s, 1i64..150, prop::sample::select(vec![10i64, 40, 50, 100, 1000]))
        .prop_map(|(series, behind_s, len, step_ms)| Send::New { series, behind_s, len, step_ms });
    let again = (any::<prop::sample::Index>(), any::<bool>())
        .prop_map(|(which, turned)| Send::Again { which, turned });
    prop::collection::vec(prop::collection::vec(prop_oneof![3 => new, 2 => again], 0..4), 1..40)
}

/// Of a sample sent again the value is another: only the first may count.
fn epochs(sends: &[Vec<Send>]) -> Vec<Arc<Epoch>> {
    let mut sent: Vec<Vec<Sample>> = Vec::new();
    let mut epochs = Vec::new();
    for (at, of_epoch) in sends.iter().enumerate() {
        let now_ns = START + at as i64 * 7 * SECOND;
        let first = sent.len();
        for send in of_epoch {
            let batch = match send {
                Send::New { series, behind_s, len, step_ms } => {
                    let from_ns = now_ns - behind_s * SECOND;
                    let seq = if *series == PLAIN { 0 } else { DEDUP };
                    let sample = |i: i64| Sample {
                        series: *series,
                        seq,
                        time_ns: from_ns + i * step_ms * MS,
                        value: (i % 50) as f64,
                    };
                    (0..*len).map(sample).collect()
                }
                Send::Again { .. } if sent.is_empty() => Vec::new(),
                Send::Again { which, turned } => {
                    let mut batch = sent[which.index(sent.len())].clone();
                    batch.iter_mut().for_each(|sample| sample.value += 100.0);
                    if *turned {
                        batch.reverse();
                    }
                    batch
                }
            };
            sent.push(batch);
        }
        epochs.push(Arc::new(Epoch {
            number: at as u64 + 1,
            arrival_ns: now_ns,
            floor_ns: TimeNs::MIN,
            batches: sent[first..].to_vec(),
            ..Epoch::default()
        }));
    }
    epochs
}

/// Count and sum of each minute.
type Minutes = BTreeMap<(SeriesId, TimeNs), (u64, u64)>;

/// What must come of it: minutes, duplicates, samples too old.
fn expected(epochs: &[Arc<Epoch>]) -> (Minutes, u64, u64) {
    let plan = window_plan();
    let mut seen: BTreeSet<(SeriesId, TimeNs)> = BTreeSet::new();
    let mut newest: BTreeMap<SeriesId, TimeNs> = BTreeMap::new();
    let (mut minutes, mut duplicates, mut dropped) = (Minutes::new(), 0, 0);
    for sample in epochs.iter().flat_map(|epoch| epoch.batches.iter().flatten()) {
        let newest_ns = newest.entry(sample.series).or_insert(sample.time_ns);
        *newest_ns = sample.time_ns.max(*newest_ns);
        let age_ns = *newest_ns - sample.time_ns;
        if age_ns > plan.correction_horizon_ns || sample.time_ns < plan.cutoff_ns(1, *newest_ns) {
            // Held or not, it counts no more.
            let again = seen.contains(&(sample.series, sample.time_ns))
                && sample.time_ns >= plan.cutoff_ns(1, *newest_ns)
                && sample.series != PLAIN;
            if again {
                duplicates += 1
            } else {
                dropped += 1
            }
            continue;
        }
        if !seen.insert((sample.series, sample.time_ns)) && sample.series != PLAIN {
            duplicates += 1;
            continue;
        }
        let minute_ns = sample.time_ns / MINUTE * MINUTE;
        let (count, sum) = minutes.entry((sample.series, minute_ns)).or_default();
        (*count, *sum) = (*count + 1, *sum + sample.value as u64);
    }
    minutes.retain(|(series, minute_ns), _| *minute_ns >= plan.cutoff_ns(1, newest[series]));
    (minutes, duplicates, dropped)
}

fn ask(engine: &Engine) -> Minutes {
    let mut minutes = Minutes::new();
    for series in 0..=PLAIN {
        let query = WindowQuery {
            range_ns: START - 30 * MINUTE..START + 30 * MINUTE,
            window_ns: MINUTE,
            with_values: false,
        };
        let (_, groups) = view::windows(engine, &[vec![series]], &query).unwrap();
        for window in &groups[0].windows {
            let moments = window.aggregate.moments.unwrap();
            minutes.insert((series, window.start_ns), (moments.count, moments.sum() as u64));
        }
    }
    minutes
}

fn counts(engine: &Engine) -> ShardCounts {
    engine.shards().iter().map(|shard| shard.read().counts).fold(ShardCounts::default(), |sum, counts| {
        ShardCounts {
            samples: sum.samples + counts.samples,
            dropped: sum.dropped + counts.dropped,
            duplicates: sum.duplicates + counts.duplicates,
            duplicates_unsure: sum.duplicates_unsure + counts.duplicates_unsure,
            ..sum
        }
    })
}

fn plan(workers: usize) -> Plan {
    Plan { workers, windows: window_plan(), ..Plan::default() }
}

fn feed(engine: &Engine, epochs: &[Arc<Epoch>]) {
    epochs.iter().for_each(|epoch| engine.submit(epoch.clone()));
    engine.wait_for(epochs.last().map_or(0, |epoch| epoch.number));
}

/// The engine stops after some epochs, and another goes on.
fn with_restart(epochs: &[Arc<Epoch>], at: usize, workers: [usize; 2]) -> Engine {
    let engine = Engine::start(plan(workers[0]), Callbacks::default()).unwrap();
    feed(&engine, &epochs[..at]);
    let (sink, parts) = queue(1000);
    engine.stop_with_checkpoint(sink);
    let entries = (0..=PLAIN).map(|id| operators::catalog::Entry { id, key: key(id) }).collect();
    let mut snapshot = Snapshot::new(plan(workers[1]), entries).unwrap();
    parts.iter().for_each(|part| snapshot.add(&part.bytes).unwrap());
    let engine = Engine::start_from(snapshot, Callbacks::default(), at as u64).unwrap();
    feed(&engine, &epochs[at..]);
    engine
}

fn key(id: SeriesId) -> operators::series::SeriesKey {
    let target = operators::series::Target::new("s", [("n", id.to_string().as_str())]);
    operators::series::SeriesKey { target: Arc::new(target), metric: "m".into() }
}

fn cases() -> u32 {
    std::env::var("ORACLE_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(32)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_sample_counts_once_however_often_it_is_sent(
        sends in sends(),
        stop_at in any::<prop::sample::Index>(),
    ) {
        let epochs = epochs(&sends);
        let (minutes, duplicates, dropped) = expected(&epochs);
        let total: u64 = epochs.iter().map(|epoch| epoch.len() as u64).sum();
        let mut engines = Vec::new();
        for workers in [1, 2, 4] {
            let engine = Engine::start(plan(workers), Callbacks::default()).unwrap();
            feed(&engine, &epochs);
            engines.push(engine);
        }
        engines.push(with_restart(&epochs, stop_at.index(epochs.len()), [2, 1]));
        for engine in &engines {
            let counts = counts(engine);
            prop_assert_eq!(
                (counts.samples, counts.duplicates, counts.duplicates_unsure, counts.dropped),
                (total, duplicates, 0, dropped)
            );
            prop_assert_eq!(ask(engine), minutes.clone());
        }
    }
}

#[test]
fn what_a_pane_no_longer_knows_is_not_counted_twice() {
    const LEN: i64 = 5000;
    let batch = |from_ms: i64| -> Vec<Sample> {
        let sample = |i: i64| Sample {
            series: 0,
            seq: DEDUP,
            time_ns: START + (2 * i) * MS + from_ms * MS,
            value: 1.0,
        };
        (0..LEN).map(sample).collect()
    };
    let epoch = |number: u64, batch| Arc::new(Epoch { number, batches: vec![batch], ..Epoch::default() });
    let engine = Engine::start(plan(1), Callbacks::default()).unwrap();
    let count = |engine: &Engine| ask(engine).values().map(|(count, _)| *count).sum::<u64>();
    feed(&engine, &[epoch(1, batch(0)), epoch(2, batch(0))]);
    assert_eq!(count(&engine), LEN as u64, "all of it again, and none counts");
    assert_eq!(counts(&engine).duplicates, LEN as u64);
    // Of times in between the pane knows the newest to be new; of the others it can't tell.
    let unsure_before = counts(&engine).duplicates_unsure;
    assert!((2500..LEN as u64).contains(&unsure_before), "{unsure_before}");
    feed(&engine, &[epoch(3, batch(1))]);
    let unsure = counts(&engine).duplicates_unsure - unsure_before;
    assert_eq!(count(&engine), 2 * LEN as u64 - unsure);
    assert!((2500..LEN as u64 - 500).contains(&unsure), "{unsure}");
}
