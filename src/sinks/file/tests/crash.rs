//! Torn tails, failing disks, kills: what was flushed is there once, and nothing trips over the rest.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::super::*;
use super::*;

#[test]
fn a_tail_torn_at_any_byte_is_cut_and_all_flushed_before_stays() {
    for (format, compression) in KINDS {
        if format == FileFormat::Parquet {
            continue;
        }
        let place = Place::new(format, compression);
        let mut sink = place.open();
        let (kept, torn) =
            (awkward(), message(NOON + 7, "t,\"\n", &[("a", "\"\n")], &[("m", 1.0), ("n", 2.0)]));
        sink.write(&kept).unwrap();
        sink.flush(0).unwrap();
        let file = place.files().remove(0);
        let begins = fs::metadata(&file).unwrap().len() as usize;
        sink.write(std::slice::from_ref(&torn)).unwrap();
        sink.flush(0).unwrap();
        drop(sink);
        let whole = fs::read(&file).unwrap();
        for len in begins..whole.len() {
            for garbage in [&b""[..], &[0; 512]] {
                fs::write(&file, [&whole[..len], garbage].concat()).unwrap();
                // An index is only written after what it covers was synced.
                let name = FileName::parse(file.file_name().unwrap().to_str().unwrap()).unwrap();
                let _ = fs::remove_file(place.hide(&name.index()));
                let mut sink = place.open();
                let found = rows(&read(&sink, &all()));
                let flushed = rows(&kept);
                assert!(flushed.iter().all(|row| found.contains(row)), "{format:?} {compression} at {len}");
                assert!(found.len() <= flushed.len() + torn.metrics.len());
                // What is written next is readable together with it, and so it is after a restart.
                sink.write(&kept[..1]).unwrap();
                sink.flush(0).unwrap();
                let more = rows(&read(&sink, &all()));
                assert_eq!(more.len(), found.len() + 2, "{format:?} {compression} at {len}");
                assert_eq!(sink.status().corrupted_rows, 0, "{format:?} {compression} at {len}");
                drop(sink);
                assert_eq!(rows(&read(&place.open(), &all())), more);
            }
        }
    }
}

/// A disk that fails from the call `fail_at` on for `fail_calls` calls, doing `done` of it: nothing,
/// half, or everything.
struct Faulty {
    calls: AtomicUsize,
    fail_at: usize,
    fail_calls: usize,
    done: Done,
}

#[derive(Clone, Copy, Debug)]
enum Done {
    Nothing,
    Half,
    Everything,
}

impl Faulty {
    fn call(&self, half: impl FnOnce(), whole: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let call = self.calls.fetch_add(1, Relaxed);
        if !(self.fail_at..self.fail_at + self.fail_calls).contains(&call) {
            return whole();
        }
        match self.done {
            Done::Nothing => {}
            Done::Half => half(),
            Done::Everything => whole()?,
        }
        Err(io::Error::from(io::ErrorKind::StorageFull))
    }
}

impl Disk for Faulty {
    fn make_dir(&self, path: &Path) -> io::Result<()> {
        self.call(|| {}, || QUICK.make_dir(path))
    }

    fn put(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let half = || QUICK.put(path, &bytes[..bytes.len() / 2]).unwrap();
        self.call(half, || QUICK.put(path, bytes))
    }

    fn append(&self, path: &Path, at: u64, bytes: &[u8]) -> io::Result<()> {
        let half = || QUICK.append(path, at, &bytes[..bytes.len() / 2]).unwrap();
        self.call(half, || QUICK.append(path, at, bytes))
    }

    fn cut(&self, path: &Path, len: u64) -> io::Result<()> {
        self.call(|| {}, || QUICK.cut(path, len))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call(|| {}, || QUICK.rename(from, to))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.call(|| {}, || QUICK.sync_dir(dir))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.call(|| {}, || QUICK.remove(path))
    }
}

/// Twenty flushes with a change of day in between, each repeated until it succeeds: every row is there
/// once, wherever the disk fails; killed at the first failure, everything flushed before is there.
#[test]
fn a_disk_that_fails_at_any_call_loses_nothing_and_doubles_nothing() {
    let messages: Vec<Message> =
        (0..20).map(|at| message(NOON + at * SECOND, "s", &[], &[("m", at as f64)])).collect();
    for (format, compression) in KINDS {
        for done in [Done::Nothing, Done::Half, Done::Everything] {
            // Parquet files are slow to make here, and the disk is asked the same either way.
            if format == FileFormat::Parquet && (compression || matches!(done, Done::Nothing)) {
                continue;
            }
            // The start takes four calls.
            for fail_at in 4.. {
                let place = Place::new(format, compression);
                let disk = Faulty { calls: AtomicUsize::new(0), fail_at, fail_calls: 2, done };
                let disk = Arc::new(disk);
                let mut sink = place.open_on(disk.clone());
                for (at, one) in messages.iter().enumerate() {
                    let mut tries = 0;
                    while sink.write(std::slice::from_ref(one)).is_err() {
                        tries += 1;
                        assert!(tries < 5);
                    }
                    while sink.flush(0).is_err() {
                        assert!(sink.status().status.starts_with("error: "), "{}", sink.status().status);
                        tries += 1;
                        assert!(tries < 5);
                    }
                    assert_eq!(sink.status().status, "connected");
                    place.wait(if at == 16 { 24 * HOUR } else { SECOND });
                }
                let what = format!("{format:?} {compression} {done:?} call {fail_at}");
                assert_eq!(rows(&read(&sink, &all())), rows(&messages), "{what}");
                drop(sink);
                assert_eq!(rows(&read(&place.open(), &all())), rows(&messages), "{what}, restarted");
                if disk.calls.load(Relaxed) < fail_at {
                    break;
                }
            }
        }
    }
}

#[test]
fn a_kill_at_any_call_keeps_what_was_flushed() {
    let messages: Vec<Message> =
        (0..20).map(|at| message(NOON + at * SECOND, "s", &[], &[("m", at as f64)])).collect();
    for (format, compression) in KINDS {
        for done in [Done::Nothing, Done::Half, Done::Everything] {
            // Parquet files are slow to make here, and the disk is asked the same either way.
            if format == FileFormat::Parquet && (compression || matches!(done, Done::Nothing)) {
                continue;
            }
            for fail_at in 4.. {
                let place = Place::new(format, compression);
                let disk = Faulty { calls: AtomicUsize::new(0), fail_at, fail_calls: usize::MAX / 2, done };
                let disk = Arc::new(disk);
                let mut sink = place.open_on(disk.clone());
                let mut flushed = 0;
                for one in &messages {
                    if sink.write(std::slice::from_ref(one)).is_err() || sink.flush(0).is_err() {
                        break;
                    }
                    flushed += 1;
                    place.wait(SECOND);
                }
                drop(sink);
                let sink = place.open();
                let found = rows(&read(&sink, &all()));
                let what = format!("{format:?} {compression} {done:?} call {fail_at}");
                // The last flush may have become durable before its failure was told.
                assert!(
                    found == rows(&messages[..flushed])
                        || found == rows(&messages[..(flushed + 1).min(messages.len())]),
                    "{what}: {flushed} flushed, {} found",
                    found.len()
                );
                assert_eq!(sink.status().unreadable_files, 0, "{what}");
                if disk.calls.load(Relaxed) < fail_at {
                    break;
                }
            }
        }
    }
}

#[test]
fn leftovers_of_a_crash_are_removed_and_foreign_files_left_alone() {
    let place = Place::new(FileFormat::Parquet, true);
    let mut sink = place.open();
    let mut kept = Vec::new();
    let mut parts = Vec::new();
    for at in 0..16 {
        let one = message(NOON + at, "s", &[], &[("m", at as f64)]);
        sink.write(std::slice::from_ref(&one)).unwrap();
        kept.push(one);
        if at == 15 {
            parts = place.files().iter().map(|file| (file.clone(), fs::read(file).unwrap())).collect();
        }
        sink.flush(0).unwrap();
    }
    assert_eq!(place.files().len(), 1, "sixteen of one size are merged");
    drop(sink);
    // As if killed before the merged parts were deleted, and in the middle of writing files.
    for (file, bytes) in &parts {
        fs::write(file, bytes).unwrap();
    }
    for name in [".20240101T120000Z-0000000099-0000000099.parquet.part", ".x.index.part", ".x.index"] {
        fs::write(place.hide(name), b"half").unwrap();
    }
    fs::write(place.hide("notes.txt"), b"mine").unwrap();
    fs::write(place.hide("20240101T120000Z-0000000098-0000000098.parquet"), b"PAR1 not really").unwrap();
    fs::write(place.hide("20240101T120000Z-0000000097.json"), b"some text\nof mine\n").unwrap();
    let sink = place.open();
    check(&sink, &kept);
    assert_eq!(sink.status().unreadable_files, 2);
    assert_eq!(sink.next, 99, "a number is never used again");
    assert_eq!(place.files().len(), 4);
    let hidden: Vec<String> = fs::read_dir(place.dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with('.'))
        .collect();
    assert_eq!(hidden, [".lock"]);
}
