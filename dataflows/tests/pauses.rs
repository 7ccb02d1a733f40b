//! Figures of a checkpoint of many series: bytes and time of a pane, and how long epochs wait while it is written.
//!
//! `SERIES=10000 cargo test --release -p dataflows --test pauses -- --ignored --nocapture`; a machine that does nothing
//! else shows the least.

use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dataflows::checkpoint::{Part, queue};
use dataflows::engine::{Callbacks, Engine};
use dataflows::epoch::Epoch;
use dataflows::plan::Plan;
use dataflows::restore::Snapshot;
use operators::alert::Timing;
use operators::catalog::Entry;
use operators::rule::{Level, Rule};
use operators::sample::{SECOND, Sample, SeriesId, TimeNs};
use operators::series::{SeriesKey, Target, TargetMatcher};

fn key(series: SeriesId) -> SeriesKey {
    let target = Target::new("s", [("n", series.to_string().as_str())]);
    SeriesKey { target: Arc::new(target), metric: "m".into() }
}

/// Watches every series.
fn rule() -> Rule {
    Rule {
        name: "high".into(),
        metric: "m".into(),
        matcher: TargetMatcher::default(),
        level: Level::new(">".parse().unwrap(), 50.0),
        timing: Timing::new(20 * SECOND, 90 * SECOND),
        ..Rule::default()
    }
}

/// Epochs of one sample of each of `series`, and the entries.
fn steady(number: u64, series: u32, every_ns: i64) -> Arc<Epoch> {
    let time_ns = 1_700_000_000 * SECOND + number as i64 * every_ns;
    let value = |id: u32| f64::from((id * 7 + number as u32 * 13) % 1000) / 10.0;
    let sample = |id| Sample { series: id, seq: 0, time_ns: time_ns + i64::from(id % 997), value: value(id) };
    Arc::new(Epoch {
        number,
        arrival_ns: time_ns,
        floor_ns: TimeNs::MIN,
        batches: vec![(0..series).map(sample).collect()],
        entries: if number == 1 {
            (0..series).map(|id| Entry { id, key: key(id) }).collect()
        } else {
            Vec::new()
        },
        ..Epoch::default()
    })
}

/// Feeds an epoch of a thousand samples a millisecond for a while; the longest time between two that were complete.
fn pauses(
    engine: &Engine,
    completed: &Mutex<Vec<Instant>>,
    number: &mut u64,
    going: impl Fn() -> bool,
) -> Duration {
    completed.lock().unwrap().clear();
    while going() {
        *number += 1;
        engine.submit(steady(*number, 1000, SECOND / 1000));
        std::thread::sleep(Duration::from_millis(1));
    }
    let times = std::mem::take(&mut *completed.lock().unwrap());
    times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
}

#[test]
#[ignore = "figures, of a release build"]
fn figures() {
    let series: u32 = std::env::var("SERIES").ok().and_then(|text| text.parse().ok()).unwrap_or(10_000);
    for workers in [1, 2] {
        let rules = vec![rule()];
        let new_plan = || Plan { workers, rules: rules.clone(), ..Plan::default() };
        let completed: Arc<Mutex<Vec<Instant>>> = Arc::default();
        let seen = completed.clone();
        let callbacks = Callbacks {
            progress: Box::new(move |_| seen.lock().unwrap().push(Instant::now())),
            ..Callbacks::default()
        };
        let engine = Engine::start(new_plan(), callbacks).unwrap();
        let mut number = 0;
        for _ in 0..300 {
            number += 1;
            engine.submit(steady(number, series, 10 * SECOND));
        }
        engine.wait_for(number);
        let until = Instant::now() + Duration::from_secs(1);
        let usual = pauses(&engine, &completed, &mut number, || Instant::now() < until);
        let (sink, queue_of_parts) = queue(4);
        let (whole, is_whole) = sync_channel(1);
        let reader = std::thread::spawn(move || {
            let parts: Vec<Part> = queue_of_parts.iter().collect();
            let _ = whole.send(());
            parts
        });
        let began = Instant::now();
        engine.checkpoint(sink).unwrap();
        let during = pauses(&engine, &completed, &mut number, || is_whole.try_recv().is_err());
        let took = began.elapsed();
        reader.join().unwrap();

        let (sink, queue_of_parts) = queue(4);
        let reader = std::thread::spawn(move || queue_of_parts.iter().collect::<Vec<Part>>());
        engine.wait_for(number);
        let began = Instant::now();
        engine.stop_with_checkpoint(sink).unwrap();
        let save = began.elapsed();
        let parts = reader.join().unwrap();
        let bytes: usize = parts.iter().map(|part| part.bytes.len()).sum();
        let began = Instant::now();
        let mut snapshot = Snapshot::new(new_plan(), steady(1, series, 0).entries.clone()).unwrap();
        parts.iter().for_each(|part| snapshot.add(&part.bytes).unwrap());
        assert!(snapshot.end_epoch().is_ok());
        let load = began.elapsed();
        let restored = snapshot.restored();
        let each = |total: Duration| total.as_nanos() as f64 / restored.panes as f64;
        println!(
            "{workers} workers, {} series, {} panes, {} alerts: {:.2} bytes a pane; save {:.1} ns, load {:.1} ns a pane; \
             longest time between epochs {usual:?} usually, {during:?} during a checkpoint of {took:?}",
            restored.series,
            restored.panes,
            restored.alerts,
            bytes as f64 / restored.panes as f64,
            each(save) * workers as f64,
            each(load),
        );
        assert!(during < Duration::from_millis(50), "{during:?}");
    }
}
