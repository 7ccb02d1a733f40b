//! The file sink against crashes, failing disks, time and damage; virtual time throughout.

mod crash;
mod exact;
mod position;
mod query;
mod simulated;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use operators::sample::{DurationNs, HOUR, SECOND, TimeNs};
use operators::series::Target;

use super::disk::{Disk, RealDisk};
use super::name::FileName;
use super::*;
use crate::sinks::Query;

/// 2024-01-01T12:00:00Z.
const NOON: TimeNs = 1_704_110_400 * SECOND;

/// Real files without waiting for the device: the tests end processes, not machines.
const QUICK: RealDisk = RealDisk { sync: false };

/// Every format, plain and compressed.
const KINDS: [(FileFormat, bool); 6] = [
    (FileFormat::Json, false),
    (FileFormat::Json, true),
    (FileFormat::Csv, false),
    (FileFormat::Csv, true),
    (FileFormat::Parquet, false),
    (FileFormat::Parquet, true),
];

/// A directory with a clock.
struct Place {
    dir: tempfile::TempDir,
    now: Arc<AtomicI64>,
    config: FileConfig,
}

impl Place {
    fn new(format: FileFormat, compression: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_path_buf();
        let config = FileConfig { path, format, compression, ..FileConfig::default() };
        Place { dir, now: Arc::new(AtomicI64::new(NOON)), config }
    }

    fn open(&self) -> FileSink {
        self.open_on(Arc::new(QUICK))
    }

    fn open_on(&self, disk: Arc<dyn Disk>) -> FileSink {
        let now = self.now.clone();
        FileSink::open_on(self.config.clone(), Arc::new(move || now.load(Relaxed)), disk).unwrap()
    }

    fn wait(&self, duration: DurationNs) {
        self.now.fetch_add(duration, Relaxed);
    }

    /// Data files in order.
    fn files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.dir.path()).unwrap().map(|entry| entry.unwrap().path());
        let visible = |path: &PathBuf| !path.file_name().unwrap().to_str().unwrap().starts_with('.');
        let mut files: Vec<PathBuf> = entries.filter(visible).collect();
        files.sort();
        files
    }

    fn hide(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

fn message(time_ns: TimeNs, service: &str, tags: &[(&str, &str)], metrics: &[(&str, f64)]) -> Message {
    Message {
        time_ns,
        target: Arc::new(Target::new(service, tags.iter().copied())),
        metrics: metrics.iter().map(|(name, value)| ((*name).into(), *value)).collect(),
    }
}

/// Messages with everything that could break a format; all times differ.
fn awkward() -> Vec<Message> {
    let odd = "a,b \"quoted\"\nnew line\r\ttab {\u{1F980}} \\ ' ; =1+1";
    vec![
        message(NOON, "system", &[], &[("cpu", 45.2), ("mem", 1_073_741_824.0)]),
        message(NOON + 1, odd, &[(odd, odd), ("empty", "")], &[(odd, -0.0), ("", 5e-324)]),
        message(NOON + 1_000, "system", &[("host", "a")], &[("cpu", f64::MAX), ("mem", 0.1 + 0.2)]),
        message(NOON + 1_000_000, "", &[], &[("x", f64::MIN_POSITIVE), ("y", -1e300)]),
        message(NOON - 40 * 24 * HOUR, "old", &[], &[("x", 1e21), ("y", 123_456_789.123_456_78)]),
        message(-1, "ancient", &[], &[("x", 1.0 / 3.0)]),
    ]
}

fn all() -> Query {
    Query { limit: 1_000_000, ..Query::default() }
}

fn read(sink: &FileSink, query: &Query) -> Vec<Message> {
    sink.reader().unwrap().read(query).unwrap()
}

/// A sample in a form that compares bit for bit and sorts.
type RowKey = (TimeNs, Target, String, u64);

fn rows(messages: &[Message]) -> Vec<RowKey> {
    let of = |m: &Message| -> Vec<RowKey> {
        let row = |(name, value): &(Arc<str>, f64)| {
            (m.time_ns, (*m.target).clone(), name.to_string(), value.to_bits())
        };
        m.metrics.iter().map(row).collect()
    };
    let mut rows: Vec<RowKey> = messages.iter().flat_map(of).collect();
    rows.sort();
    rows
}

#[track_caller]
fn check(sink: &FileSink, expected: &[Message]) {
    assert_eq!(rows(&read(sink, &all())), rows(expected));
    assert_eq!(sink.status().corrupted_rows, 0);
}

#[test]
fn what_was_flushed_reads_back_bit_for_bit_also_after_a_restart() {
    for (format, compression) in KINDS {
        let place = Place::new(format, compression);
        let mut sink = place.open();
        let messages = awkward();
        sink.write(&messages[..2]).unwrap();
        check(&sink, &[]);
        sink.flush(0).unwrap();
        check(&sink, &messages[..2]);
        sink.write(&messages[2..]).unwrap();
        sink.flush(0).unwrap();
        check(&sink, &messages);
        let newest_first = read(&sink, &all());
        assert!(newest_first.windows(2).all(|pair| pair[0].time_ns >= pair[1].time_ns));
        assert_eq!(newest_first.len(), messages.len(), "one message stays one message");
        drop(sink);
        // Once with the index beside the file, once without.
        check(&place.open(), &messages);
        for file in place.files() {
            let name = FileName::parse(file.file_name().unwrap().to_str().unwrap()).unwrap();
            let _ = fs::remove_file(place.hide(&name.index()));
        }
        let mut sink = place.open();
        check(&sink, &messages);
        sink.write(&messages).unwrap();
        sink.flush(0).unwrap();
        check(&sink, &[messages.clone(), messages].concat());
        let files = if format == FileFormat::Parquet { 3 } else { 1 };
        assert_eq!(place.files().len(), files, "{format:?}");
    }
}

#[test]
fn a_directory_belongs_to_one_sink() {
    let place = Place::new(FileFormat::Json, false);
    let sink = place.open();
    let second = FileSink::open(place.config.clone()).err().map(|error| error.to_string()).unwrap();
    assert!(second.ends_with("another process is writing there"), "{second}");
    drop(sink);
    FileSink::open(place.config.clone()).unwrap();
}

#[test]
fn files_end_with_the_day_the_hour_or_their_size() {
    let cases = [
        (Rotation::Daily, 1 << 30, 24 * HOUR, 3),
        (Rotation::Daily, 1 << 30, 6 * HOUR, 2),
        (Rotation::Hourly, 1 << 30, HOUR, 3),
        (Rotation::Size, 1 << 30, 24 * HOUR, 1),
        (Rotation::Size, 10, 1, 3),
        (Rotation::Daily, 10, 1, 3),
    ];
    for (format, compression) in KINDS {
        for (rotation, file_bytes_max, step, files) in cases {
            let mut place = Place::new(format, compression);
            place.config = FileConfig { rotation, file_bytes_max, ..place.config };
            let mut sink = place.open();
            for at in 0..3 {
                sink.write(&[message(NOON + at, "s", &[], &[("m", at as f64)])]).unwrap();
                sink.flush(0).unwrap();
                place.wait(step);
            }
            // A parquet file is made by each flush, and merged with its neighbours when its period is over.
            let by_period = file_bytes_max > 10 && rotation != Rotation::Size;
            if format != FileFormat::Parquet {
                assert_eq!(place.files().len(), files, "{format:?} {rotation:?} {file_bytes_max}");
            } else if by_period {
                place.wait(48 * HOUR);
                sink.flush(0).unwrap();
                assert_eq!(place.files().len(), files, "{format:?} {rotation:?}");
            }
            assert_eq!(read(&sink, &all()).len(), 3);
        }
    }
}

#[test]
fn retention_deletes_by_age_and_by_size_the_oldest_first() {
    for (format, compression) in KINDS {
        let mut place = Place::new(format, compression);
        place.config.retention_ns = Some(3 * 24 * HOUR);
        let mut sink = place.open();
        for day in 0..6 {
            let time_ns = place.now.load(Relaxed);
            sink.write(&[message(time_ns, "s", &[], &[("day", day as f64)])]).unwrap();
            sink.flush(0).unwrap();
            place.wait(24 * HOUR);
        }
        sink.flush(0).unwrap();
        let days = |sink: &FileSink| -> Vec<f64> {
            read(sink, &all()).iter().map(|message| message.metrics[0].1).collect()
        };
        assert_eq!(days(&sink), [5.0, 4.0, 3.0], "{format:?}");
        assert_eq!(sink.status().expired_files, 3);
        let file_bytes = sink.status().disk_usage_bytes / 3;
        drop(sink);
        place.config.retention_bytes = Some(2 * file_bytes + 8);
        let sink = place.open();
        assert_eq!(days(&sink), [5.0, 4.0], "{format:?}");
        drop(sink);
        // Nothing but data files, their indexes and the lock is left.
        assert_eq!(place.files().len(), 2);
        place.wait(365 * 24 * HOUR);
        assert_eq!(days(&place.open()), [0.0; 0], "{format:?}: a start deletes too");
    }
}

/// A small generator, the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

#[test]
fn damage_is_skipped_and_counted_and_nothing_else_is_lost() {
    for (format, compression) in KINDS {
        let place = Place::new(format, compression);
        let mut sink = place.open();
        let messages: Vec<Message> =
            (0..60).map(|at| message(NOON + at, "s", &[("h", "x")], &[("m", at as f64)])).collect();
        sink.write(&messages).unwrap();
        sink.flush(0).unwrap();
        let file = place.files().remove(0);
        let whole = fs::read(&file).unwrap();
        let mut dice = Dice(11);
        for _ in 0..300 {
            let mut bytes = whole.clone();
            let at = dice.below(bytes.len() as u64) as usize;
            bytes[at] ^= 1 << dice.below(8);
            fs::write(&file, bytes).unwrap();
            let before = sink.status().corrupted_rows;
            let found = read(&sink, &all());
            let counted = sink.status().corrupted_rows - before;
            if format != FileFormat::Parquet && !compression {
                // At most two rows: the one hit, and its neighbour if a line end was hit.
                assert!(found.len() + 2 >= messages.len(), "{format:?} at {at}: {} found", found.len());
                assert!(found.len() + counted as usize + 1 >= messages.len(), "{format:?} at {at}");
            }
            fs::write(&file, &whole).unwrap();
        }
        assert_eq!(read(&sink, &all()).len(), messages.len());
    }
}

#[test]
fn values_that_are_no_numbers_are_refused_and_their_neighbours_stored() {
    let place = Place::new(FileFormat::Json, false);
    let mut sink = place.open();
    sink.write(&[message(NOON, "s", &[], &[("a", f64::NAN), ("b", 1.0), ("c", f64::INFINITY)])]).unwrap();
    sink.flush(0).unwrap();
    check(&sink, &[message(NOON, "s", &[], &[("b", 1.0)])]);
    assert_eq!(sink.status().failed, 2);
}

#[test]
fn a_change_of_format_keeps_the_old_files_readable() {
    let mut place = Place::new(FileFormat::Json, false);
    let mut stored = Vec::new();
    for (at, (format, compression)) in KINDS.into_iter().enumerate() {
        (place.config.format, place.config.compression) = (format, compression);
        let mut sink = place.open();
        let one = message(NOON + at as i64, "s", &[], &[("m", at as f64)]);
        sink.write(std::slice::from_ref(&one)).unwrap();
        sink.flush(0).unwrap();
        stored.push(one);
        check(&sink, &stored);
    }
}

#[test]
fn a_reader_of_a_directory_that_is_gone_says_so() {
    let place = Place::new(FileFormat::Json, false);
    let mut sink = place.open();
    sink.write(&awkward()).unwrap();
    sink.flush(0).unwrap();
    fs::remove_dir_all(place.dir.path()).unwrap();
    let error = sink.reader().unwrap().read(&all()).err().map(|error| error.to_string()).unwrap();
    assert!(error.ends_with("is gone"), "{error}");
}
