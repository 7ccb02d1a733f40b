//! The files that storage writes, read by others: Python's json, csv and gzip, and pyarrow.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use operators::sample::{SECOND, TimeNs};
use operators::series::Target;
use plantd_metric::delivery::memory::MemoryLog;
use plantd_metric::delivery::{CursorStore, DeadLetters, Delivery, DeliveryConfig};
use plantd_metric::message::Message;
use plantd_metric::sinks::file::{FileConfig, FileFormat, FileSink, Rotation};
use plantd_metric::sinks::{Query, Sink};

/// 2024-01-01T12:00:00Z.
const NOON: TimeNs = 1_704_110_400 * SECOND;

const KINDS: [(FileFormat, bool); 6] = [
    (FileFormat::Json, false),
    (FileFormat::Json, true),
    (FileFormat::Csv, false),
    (FileFormat::Csv, true),
    (FileFormat::Parquet, false),
    (FileFormat::Parquet, true),
];

#[test]
fn others_read_every_format_bit_for_bit() {
    for (format, compression) in KINDS {
        let dir = tempfile::tempdir().unwrap();
        let mut sink = open(dir.path(), format, compression);
        let messages = messages();
        let (first, second) = messages.split_at(4);
        sink.write(first).unwrap();
        sink.flush(0).unwrap();
        sink.write(second).unwrap();
        sink.flush(0).unwrap();
        // Read while the sink is open and holds more.
        sink.write(first).unwrap();
        check(dir.path(), &messages, &format!("{format:?} {compression}"));
    }
}

#[test]
fn others_read_merged_parquet_files() {
    let dir = tempfile::tempdir().unwrap();
    let mut sink = open(dir.path(), FileFormat::Parquet, true);
    let mut all = Vec::new();
    for _ in 0..40 {
        sink.write(&messages()).unwrap();
        sink.flush(0).unwrap();
        all.extend(messages());
    }
    assert_eq!(data_files(dir.path()).len(), 2 + 8, "two merged of sixteen, and eight");
    check(dir.path(), &all, "merged");
}

#[test]
fn others_read_what_a_restart_repaired() {
    for (format, compression) in KINDS {
        if format == FileFormat::Parquet {
            continue;
        }
        let dir = tempfile::tempdir().unwrap();
        let mut sink = open(dir.path(), format, compression);
        sink.write(&messages()).unwrap();
        sink.flush(0).unwrap();
        let file = data_files(dir.path()).remove(0);
        let flushed = std::fs::metadata(&file).unwrap().len();
        sink.write(&messages()).unwrap();
        sink.flush(0).unwrap();
        drop(sink);
        let whole = std::fs::read(&file).unwrap();
        let len = whole.len() as u64;
        for torn in [flushed + 1, flushed + 20, (flushed + len) / 2, len - 1] {
            std::fs::write(&file, &whole[..torn as usize]).unwrap();
            let repaired = open(dir.path(), format, compression);
            let everything = Query { limit: 1_000, ..Query::default() };
            let found = repaired.reader().unwrap().read(&everything).unwrap();
            assert!(found.len() >= messages().len(), "{format:?} {compression} at {torn}");
            check(dir.path(), &found, &format!("{format:?} {compression} at {torn}"));
        }
    }
}

/// A process that ends between two flushes, again and again: others never find a row twice, and after the
/// last flush all of them; the position stands in no file that they read.
#[test]
fn others_read_each_row_once_after_ends_between_flushes() {
    for (format, compression) in KINDS {
        let dir = tempfile::tempdir().unwrap();
        let what = format!("{format:?} {compression}");
        let config = FileConfig { journal_id: Some(99), ..config(dir.path(), format, compression) };
        let epochs: Vec<Message> = messages();
        for end in [5, 4, 9, 14, epochs.len()] {
            let mut sink = FileSink::open_at(config.clone(), Arc::new(|| NOON)).unwrap();
            let cursor = sink.cursor().unwrap() as usize;
            check(dir.path(), &epochs[..cursor], &what);
            for epoch in cursor..end {
                sink.write(&epochs[epoch..=epoch]).unwrap();
                if epoch % 3 == 2 {
                    sink.flush(epoch as u64 + 1).unwrap();
                }
            }
        }
        let mut sink = FileSink::open_at(config.clone(), Arc::new(|| NOON)).unwrap();
        let cursor = sink.cursor().unwrap() as usize;
        sink.write(&epochs[cursor..]).unwrap();
        sink.flush(epochs.len() as u64).unwrap();
        check(dir.path(), &epochs, &what);
    }
}

/// Through a log and the thread, and read back after its end.
#[test]
fn a_delivery_ends_with_everything_readable() {
    let dir = tempfile::tempdir().unwrap();
    let sink = open(dir.path(), FileFormat::Json, true);
    let log = MemoryLog::new(1_000, 0);
    let (cursor, letters) = (CursorStore::none(), DeadLetters::none());
    let config = DeliveryConfig::default();
    let delivery =
        Delivery::start("file", Box::new(sink), Box::new(log.clone()), cursor, letters, config).unwrap();
    let reader = delivery.reader().unwrap();
    for at in 0..1_000 {
        assert_eq!(log.append(NOON, vec![message(NOON + at, "s", &[], &[("m", at as f64)])]), 0);
        delivery.wake();
    }
    let drained = delivery.stop(Duration::from_secs(30));
    assert!(drained.complete && drained.cursor == 1_000, "{drained:?}");
    let found = reader.read(&Query { limit: 10_000, ..Query::default() }).unwrap();
    assert_eq!((found.len(), found[0].metrics[0].1), (1_000, 999.0));
}

/// Figures: `cargo test --release --test file_formats -- --ignored --nocapture`.
#[test]
#[ignore = "prints figures"]
fn nanoseconds_per_sample() {
    const MESSAGES: usize = 200_000;
    const METRICS: usize = 7;
    let names: Vec<Arc<str>> = (0..METRICS).map(|at| format!("metric_{at}_percent").into()).collect();
    let target = |at| Target::new(&format!("org.plantd.Service{at}"), [("host", "server-01"), ("rack", "b")]);
    let targets: Vec<Arc<Target>> = (0..1_000).map(|at| Arc::new(target(at))).collect();
    let made = |at: usize| Message {
        time_ns: NOON + at as i64 * 10_000_000,
        target: targets[at % targets.len()].clone(),
        metrics: names.iter().map(|name| (name.clone(), (at * 7_919 % 10_007) as f64 / 100.0)).collect(),
    };
    let messages: Vec<Message> = (0..MESSAGES).map(made).collect();
    let samples = (MESSAGES * METRICS) as f64;
    for (format, compression) in KINDS {
        let dir = tempfile::tempdir().unwrap();
        let config = FileConfig {
            rotation: Rotation::Size,
            journal_id: Some(1),
            ..config(dir.path(), format, compression)
        };
        let mut sink = FileSink::open(config).unwrap();
        let begun = Instant::now();
        for batch in messages.chunks(1_000) {
            sink.write(batch).unwrap();
        }
        sink.flush(1).unwrap();
        let write_ns = begun.elapsed().as_nanos() as f64 / samples;
        let bytes = sink.status().disk_usage_bytes as f64 / samples;
        let reader = sink.reader().unwrap();
        let begun = Instant::now();
        let everything = Query { limit: MESSAGES, ..Query::default() };
        let found: usize = reader.read(&everything).unwrap().iter().map(|m| m.metrics.len()).sum();
        assert_eq!(found as f64, samples);
        let read_ns = begun.elapsed().as_nanos() as f64 / samples;
        let begun = Instant::now();
        let newest = Query { service: Some("org.plantd.Service7".into()), ..Query::default() };
        assert_eq!(reader.read(&newest).unwrap().len(), 100);
        let newest_ms = begun.elapsed().as_secs_f64() * 1e3;
        println!(
            "{format:?} compression={compression}: write {write_ns:.0} ns, read {read_ns:.0} ns, \
             {bytes:.1} bytes a sample; newest 100 of one service {newest_ms:.1} ms"
        );
    }
}

fn config(path: &Path, format: FileFormat, compression: bool) -> FileConfig {
    FileConfig { path: path.into(), format, compression, retention_ns: None, ..FileConfig::default() }
}

fn open(path: &Path, format: FileFormat, compression: bool) -> FileSink {
    FileSink::open_at(config(path, format, compression), Arc::new(|| NOON)).unwrap()
}

fn message(time_ns: TimeNs, service: &str, tags: &[(&str, &str)], metrics: &[(&str, f64)]) -> Message {
    Message {
        time_ns,
        target: Arc::new(Target::new(service, tags.iter().copied())),
        metrics: metrics.iter().map(|(name, value)| ((*name).into(), *value)).collect(),
    }
}

/// Names and values that formats get wrong.
fn messages() -> Vec<Message> {
    let odd = "a,b \"quoted\"\nnew line\r\ttab {\u{1F980}} \\ ' ; =1+1 \u{2028}";
    let numbers = [
        45.2,
        -0.0,
        5e-324,
        f64::MAX,
        f64::MIN_POSITIVE,
        0.1 + 0.2,
        1e21,
        1e22,
        1.0 / 3.0,
        9_007_199_254_740_993.0,
    ];
    let tags = [("host", "a"), ("empty", "")];
    let mut messages = vec![
        message(NOON, "system", &tags, &[("cpu", 45.2), ("mem", 1_073_741_824.0)]),
        message(NOON + 1, odd, &[(odd, odd)], &[(odd, 1.0), ("", 2.0)]),
        message(-1, "", &[], &[("x", 1.0)]),
    ];
    for (at, value) in (1..).zip(numbers) {
        messages.push(message(NOON + at * 1_000_000, "numbers", &[], &[("x", value)]));
        messages.push(message(NOON - at * 1_001_000, "system", &[("host", "b")], &[("cpu", -value)]));
    }
    messages
}

fn data_files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| !path.file_name().unwrap().to_str().unwrap().starts_with('.')).collect()
}

/// One sample as `tests/files/rows.py` prints it.
type Row = (TimeNs, String, String, String, Vec<(String, String)>);

/// Whether Python finds exactly these messages in the directory.
#[track_caller]
fn check(dir: &Path, messages: &[Message], what: &str) {
    let mut expected: Vec<Row> = Vec::new();
    for m in messages {
        let tags: Vec<_> = m.target.tags.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
        let service = m.target.service.to_string();
        expected.extend(m.metrics.iter().map(|(name, value)| {
            let bits = format!("{:016x}", value.to_bits());
            (m.time_ns, service.clone(), name.to_string(), bits, tags.clone())
        }));
    }
    expected.sort();
    let mut found = python(&data_files(dir));
    found.sort();
    assert_eq!(found, expected, "{what}");
}

fn python(files: &[PathBuf]) -> Vec<Row> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files/rows.py");
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let ran = Command::new(&python).arg(script).args(files).output();
    let ran = ran.unwrap_or_else(|error| panic!("can't start {python}: {error}"));
    let errors = String::from_utf8_lossy(&ran.stderr);
    assert!(!errors.contains("No module named"), "install pyarrow (pip install pyarrow): {errors}");
    assert!(ran.status.success(), "{errors}");
    let text = String::from_utf8(ran.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
