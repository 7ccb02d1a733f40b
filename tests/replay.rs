//! A journal played again says the same, bit for bit, whatever the number of workers.
//!
//! `REPLAY_SECONDS=3600 cargo test --release --test replay -- --nocapture` is the hour at 10,000 samples a second.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use dataflows::epoch::Epoch;
use dataflows::plan::Plan;
use operators::alert::Timing;
use operators::catalog::{Catalog, CatalogLimits};
use operators::rule::{Level, Rule};
use operators::sample::{MS, SECOND, Sample, TimeNs};
use operators::series::{Target, TargetMatcher};
use plantd_metric::journal::epochs::{self, KIND_EPOCH};
use plantd_metric::journal::files::{Files, RealFiles};
use plantd_metric::journal::log::{Log, LogConfig};
use plantd_metric::replay::{Summary, replay};

/// 2024-01-01T12:00:00Z.
const NOON: TimeNs = 1_704_110_400 * SECOND;
/// Samples a second, at least.
const RATE: u64 = 10_000;
/// One sample a second each, but for the tenth of them that is silent.
const SERIES: u64 = 11_250;
/// Epochs in a second.
const EPOCHS: u64 = 10;

/// Numbers that only look random.
struct Noise(u64);

impl Noise {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

/// Writes a journal: most samples in order, some late by up to two minutes, some twice, some series silent at times.
fn write(files: &Arc<dyn Files>, dir: &Path, seconds: u64) -> u64 {
    let (log, _) =
        Log::open(files.clone(), LogConfig { dir: dir.into(), ..LogConfig::default() }).expect("a log");
    let catalog = Catalog::new(CatalogLimits::default());
    let series: Vec<u32> = (0..SERIES)
        .map(|at| {
            let target =
                Arc::new(Target::new(&format!("service{}", at % 100), [("host", &*format!("h{at}"))]));
            catalog.resolve(&target, "cpu_usage_percent").expect("room")
        })
        .collect();
    let (mut noise, mut bytes, mut samples) = (Noise(7), Vec::new(), 0);
    for number in 1..=seconds * EPOCHS {
        let arrival_ns = NOON + number as i64 * SECOND / EPOCHS as i64;
        let mut batch = Vec::new();
        for at in 0..SERIES / EPOCHS {
            let series = series[((number % EPOCHS) * (SERIES / EPOCHS) + at) as usize];
            let late_ns = match noise.next(50) {
                0 => noise.next(120_000) as i64 * MS,
                1 => noise.next(2_000) as i64 * MS,
                _ => 0,
            };
            // Each minute another tenth of the series says nothing.
            if u64::from(series) % 10 == number / EPOCHS / 60 % 10 {
                continue;
            }
            let value = noise.next(10_000) as f64 / 100.0;
            let sample = Sample { series, seq: 0, time_ns: arrival_ns - late_ns, value };
            batch.extend(std::iter::repeat_n(sample, 1 + usize::from(noise.next(200) == 0)));
        }
        samples += batch.len() as u64;
        let entries = catalog.take_fresh();
        let epoch = Epoch {
            number,
            arrival_ns,
            floor_ns: TimeNs::MIN,
            batches: vec![batch],
            entries,
            ..Epoch::default()
        };
        bytes.clear();
        epochs::encode(&epoch, &mut bytes);
        log.append(&[(KIND_EPOCH, number, &bytes)]).expect("the disk takes it");
        if number % 100 == 0 {
            log.sync().expect("the disk syncs");
        }
    }
    log.sync().expect("the disk syncs");
    samples
}

fn plan(workers: usize) -> Plan {
    let rule = |name: &str, threshold, seconds| Rule {
        name: name.into(),
        metric: "cpu_usage".into(),
        matcher: TargetMatcher::default(),
        level: Level::new(">".parse().expect("an operator"), threshold),
        timing: Timing::new(seconds * SECOND, 30 * SECOND),
        ..Rule::default()
    };
    Plan { workers, rules: vec![rule("high", 70.0, 3), rule("any", 99.0, 0)], ..Plan::default() }
}

#[test]
fn a_replay_says_the_same_for_any_number_of_workers() {
    let seconds = std::env::var("REPLAY_SECONDS").map_or(15, |text| text.parse().expect("a number"));
    let folder = tempfile::tempdir().expect("a folder");
    let files: Arc<dyn Files> = Arc::new(RealFiles);
    let began = Instant::now();
    let written = write(&files, folder.path(), seconds);
    println!("{written} samples of {seconds} s written in {:?}", began.elapsed());
    assert!(written >= seconds * RATE, "{written} samples in {seconds} s");
    let mut before: Option<(Summary, Vec<u8>)> = None;
    for workers in [1, 2, 4] {
        let (began, mut said) = (Instant::now(), Vec::new());
        let summary = replay(files.clone(), folder.path(), plan(workers), None, &mut said).expect("a replay");
        let (took, lines) = (began.elapsed(), said.iter().filter(|byte| **byte == b'\n').count());
        println!(
            "{workers} workers, {took:?}, {lines} lines on alerts that fire or are resolved:\n{summary}"
        );
        assert_eq!((summary.samples, summary.missing), (written, 0));
        // In a run of less than a minute, a tenth of the series is silent all along.
        assert!(summary.series >= SERIES * 9 / 10 && summary.windows >= summary.series, "{summary}");
        assert!(summary.transitions > 100, "{summary}");
        let now = (summary, said);
        if let Some(before) = before.replace(now.clone()) {
            assert_eq!(now.0, before.0);
            assert!(now.1 == before.1, "what is said of alerts differs");
        }
    }
}
