//! The journal against crashes, failing disks, damage and threads.
//!
//! `JOURNAL_SEEDS` gives the number of random runs (without it: few enough for every day); `JOURNAL_SEED` repeats one
//! run of the crash test. The whole of it, in about a minute:
//! `JOURNAL_SEEDS=10000 cargo test --release --lib journal::`

mod basics;
mod crashes;
mod damage;
mod faults;
mod people;
mod threads;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::files::{Files, MemoryFiles};
use super::log::{Log, LogConfig};
use super::recovery::Recovered;

/// A record, owned.
type Owned = (u8, u64, Vec<u8>);

fn runs(default: u64) -> u64 {
    std::env::var("JOURNAL_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn config(segment_bytes: u64) -> LogConfig {
    LogConfig {
        dir: PathBuf::from("/journal"),
        segment_bytes,
        unsynced_bytes_max: 64 << 10,
        record_bytes_max: 1 << 20,
        ..LogConfig::default()
    }
}

fn open(files: &(impl Files + Clone + 'static), config: &LogConfig) -> (Log, Recovered) {
    Log::open(Arc::new(files.clone()), config.clone()).expect("a log opens unaided")
}

/// Everything behind `after`.
fn read_all(log: &Log, after: u64) -> Vec<Owned> {
    let mut reader = log.reader(after);
    let mut records = Vec::new();
    while let Some(record) = reader.next(u64::MAX).expect("the disk is well") {
        records.push((record.kind, record.number, record.payload.to_vec()));
    }
    records
}

/// Numbers of the records behind `after`.
fn numbers(log: &Log, after: u64) -> Vec<u64> {
    read_all(log, after).iter().map(|record| record.1).collect()
}

/// The payload of a record, of a length and content of its own.
fn payload(kind: u8, number: u64, nonce: u64) -> Vec<u8> {
    let len = (number.wrapping_mul(0x9e37_79b9).wrapping_add(nonce) % 300) as usize;
    let mut bytes = format!("{kind} {number} {nonce} ").into_bytes();
    bytes.extend((0..len).map(|i| (i as u64).wrapping_mul(number ^ nonce) as u8));
    bytes
}

/// Random numbers. SplitMix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

/// The content of every file in `dir`.
fn contents(files: &dyn Files, dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut names = files.list(dir).unwrap();
    names.sort();
    let read = |name: String| {
        let file = files.open(&dir.join(&name)).unwrap();
        let mut bytes = vec![0; file.length().unwrap() as usize];
        file.read_at(0, &mut bytes).unwrap();
        (dir.join(name), bytes)
    };
    names.into_iter().filter(|name| name != "lock").map(read).collect()
}

/// Files in memory with this content.
fn in_memory(contents: &[(PathBuf, Vec<u8>)]) -> MemoryFiles {
    let files = MemoryFiles::default();
    for (path, bytes) in contents {
        files.create(path).unwrap().write_at(0, bytes).unwrap();
    }
    files
}
