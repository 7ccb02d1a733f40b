//! Appending, syncing, reading and releasing at the same time.

use std::sync::atomic::{AtomicU64, Ordering};

use super::super::files::RealFiles;
use super::*;

const NUMBERS: u64 = 1_500;

fn everybody_at_once(files: Arc<dyn Files>, dir: &Path) {
    let config = LogConfig { dir: dir.to_owned(), unsynced_bytes_max: 1 << 20, ..config(20_000) };
    let (log, _) = Log::open(files.clone(), config.clone()).unwrap();
    let read: Vec<AtomicU64> = (0..2).map(|_| AtomicU64::new(0)).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 1;
            while number <= NUMBERS {
                let (one, two) = (payload(1, number, 0), payload(2, number, 0));
                match log.append(&[(2, number, &two), (1, number, &one)]) {
                    Ok(()) => number += 1,
                    Err(e) => assert_eq!(e.kind(), std::io::ErrorKind::WouldBlock),
                }
            }
        });
        scope.spawn(|| {
            while log.durable() < NUMBERS {
                let before = log.appended();
                assert!(log.sync().unwrap() >= before);
                std::thread::yield_now();
            }
        });
        scope.spawn(|| {
            while log.durable() < NUMBERS {
                let upto = read.iter().map(|at| at.load(Ordering::SeqCst)).min().unwrap();
                log.release(upto).unwrap();
                std::thread::yield_now();
            }
        });
        for at in &read {
            let log = &log;
            scope.spawn(move || {
                let mut reader = log.reader(0);
                let mut count = 0;
                while reader.position() < NUMBERS || count < 2 * NUMBERS {
                    while let Some(record) = reader.next(log.durable()).unwrap() {
                        let number = count / 2 + 1;
                        let kind = 2 - (count % 2) as u8;
                        assert_eq!((record.kind, record.number), (kind, number));
                        assert_eq!(record.payload, payload(kind, number, 0));
                        count += 1;
                        at.store(number.saturating_sub(1), Ordering::SeqCst);
                    }
                    std::thread::yield_now();
                }
                assert_eq!((count, reader.missed(), reader.damaged()), (2 * NUMBERS, 0, 0));
            });
        }
        // One who does not read in time: what it does not get, it is told.
        scope.spawn(|| {
            let mut reader = log.reader(0);
            let mut got = 0;
            while reader.position() < NUMBERS {
                if let Some(record) = reader.next(log.durable()).unwrap() {
                    got += u64::from(record.kind == 1);
                    for _ in 0..50 {
                        std::thread::yield_now();
                    }
                }
            }
            while let Some(record) = reader.next(NUMBERS).unwrap() {
                got += u64::from(record.kind == 1);
            }
            assert_eq!(got + reader.missed(), NUMBERS);
        });
    });
    let first = log.first().unwrap();
    drop(log);
    let (log, recovered) = Log::open(files, config).unwrap();
    assert_eq!((recovered.last, recovered.damaged_places, recovered.missing_numbers), (NUMBERS, 0, 0));
    assert_eq!(numbers(&log, first - 1).len() as u64, 2 * (NUMBERS - first + 1));
}

#[test]
fn in_memory() {
    everybody_at_once(Arc::new(MemoryFiles::default()), Path::new("/journal"));
}

#[test]
fn on_real_files() {
    let dir = tempfile::tempdir().unwrap();
    everybody_at_once(Arc::new(RealFiles), dir.path());
}
