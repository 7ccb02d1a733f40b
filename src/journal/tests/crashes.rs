//! Power loss and kill, at any moment, on a disk that keeps what it likes of what was not synced.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;

use super::super::simulated::{CALLS, Fault, SimulatedDisk};
use super::*;

/// What is known from outside.
#[derive(Default)]
struct Oracle {
    /// Every payload that an append was ever tried with.
    tried: BTreeMap<(u64, u8), BTreeSet<Vec<u8>>>,
    /// What was appended and not acknowledged yet.
    open: BTreeMap<(u64, u8), Vec<u8>>,
    /// What must be there.
    acknowledged: BTreeMap<(u64, u8), Vec<u8>>,
    /// Numbers that may be gone.
    released: u64,
    nonce: u64,
}

impl Oracle {
    fn acknowledge(&mut self, upto: u64) {
        let later = self.open.split_off(&(upto + 1, 0));
        self.acknowledged.append(&mut std::mem::replace(&mut self.open, later));
    }

    /// Compares what was recovered, and takes it as what there is.
    fn check(&mut self, log: &Log, recovered: &Recovered, seed: u64) {
        let surely: Vec<_> = recovered.damaged.iter().filter(|damage| damage.was_durable).collect();
        assert!(surely.is_empty(), "seed {seed}: nothing durable was damaged, found {surely:?}");
        let mut found = BTreeMap::new();
        let mut last = (0, 0);
        for (kind, number, payload) in read_all(log, 0) {
            assert!(number >= last.0, "seed {seed}: {number} after {last:?}");
            last = (number, kind);
            let tried = self.tried.get(&(number, kind));
            assert!(tried.is_some_and(|t| t.contains(&payload)), "seed {seed}: {number} was invented");
            assert!(found.insert((number, kind), payload).is_none(), "seed {seed}: {number} twice");
        }
        for (at, payload) in self.acknowledged.range((self.released + 1, 0)..) {
            assert_eq!(found.get(at), Some(payload), "seed {seed}: {at:?} was acknowledged");
        }
        self.open = found;
        self.acknowledge(log.durable());
    }

    fn append(&mut self, log: &Log, dice: &mut Dice, next: &mut u64) {
        self.nonce += 1;
        let mut records: Vec<Owned> = Vec::new();
        for number in *next..=*next + dice.below(3) {
            if dice.below(4) == 0 {
                records.push((2, number, payload(2, number, self.nonce)));
            }
            records.push((1, number, payload(1, number, self.nonce)));
        }
        for (kind, number, payload) in &records {
            self.tried.entry((*number, *kind)).or_default().insert(payload.clone());
        }
        let borrowed: Vec<(u8, u64, &[u8])> = records.iter().map(|(k, n, p)| (*k, *n, &p[..])).collect();
        if log.append(&borrowed).is_ok() {
            *next = records.last().map_or(*next, |record| record.1 + 1);
            self.open.extend(records.into_iter().map(|(kind, number, payload)| ((number, kind), payload)));
        }
    }
}

fn live_and_die(seed: u64) {
    let mut dice = Dice(seed);
    let mut disk = SimulatedDisk::new(seed);
    let mut oracle = Oracle::default();
    let config = config(500 + dice.below(3000));
    for _ in 0..2 + dice.below(4) {
        let (log, recovered) = open(&disk, &config);
        oracle.check(&log, &recovered, seed);
        let mut next = log.appended() + 1;
        for _ in 0..dice.below(40) {
            match dice.below(20) {
                0..=10 => oracle.append(&log, &mut dice, &mut next),
                11..=15 => {
                    if let Ok(durable) = log.sync() {
                        assert_eq!(durable, log.durable(), "seed {seed}");
                        oracle.acknowledge(durable);
                    }
                }
                16 => {
                    let upto = dice.below(log.durable() + 1);
                    oracle.released = oracle.released.max(upto);
                    let _ = log.release(upto);
                }
                17 | 18 => {
                    let call = CALLS[dice.below(CALLS.len() as u64) as usize];
                    let from = disk.calls(call) + dice.below(3);
                    disk.fail(Fault { call, from, times: 1 + dice.below(3), error: ErrorKind::Other });
                }
                _ => disk.set_space((dice.below(2) == 0).then(|| disk.used() + dice.below(1500))),
            }
        }
        drop(log);
        disk.heal();
        if dice.below(4) != 0 {
            disk = disk.power_loss(dice.below(u64::MAX));
        }
    }
    let (log, recovered) = open(&disk, &config);
    oracle.check(&log, &recovered, seed);
    let all = read_all(&log, 0);
    let durable = log.durable() == log.appended();
    drop(log);
    if durable && !all.is_empty() {
        flip(&disk, &config, &mut dice, all, seed);
    }
}

/// A bit turns in what many lives have left, copies and leftovers included: one record at most is lost.
fn flip(disk: &SimulatedDisk, config: &LogConfig, dice: &mut Dice, all: Vec<Owned>, seed: u64) {
    let files = contents(disk, &config.dir);
    let (path, bytes) = &files[dice.below(files.len() as u64) as usize];
    if bytes.is_empty() {
        return;
    }
    let bit = dice.below(bytes.len() as u64 * 8);
    disk.flip(path, bit);
    let (log, recovered) = open(disk, config);
    let left = read_all(&log, 0);
    let lost: Vec<_> = all.iter().filter(|record| !left.contains(record)).collect();
    assert!(lost.len() <= 1, "seed {seed}: bit {bit} of {path:?} costs {:?}", lost.len());
    assert_eq!(left.len() + lost.len(), all.len(), "seed {seed}: bit {bit} of {path:?} adds something");
    let named = recovered.damaged.len() + recovered.torn.len();
    assert!(named >= lost.len(), "seed {seed}: bit {bit} of {path:?} is not named");
}

#[test]
fn what_was_acknowledged_outlives_any_crash() {
    let base = std::env::var("JOURNAL_SEED").ok().and_then(|text| text.parse().ok());
    match base {
        Some(seed) => live_and_die(seed),
        None => (0..runs(300)).for_each(live_and_die),
    }
}

/// Two crashes in a row: the second while the first is made good.
#[test]
fn a_crash_during_a_start_costs_nothing() {
    for seed in 0..runs(60).min(2_000) {
        let disk = SimulatedDisk::new(seed);
        let (log, _) = open(&disk, &config(1000));
        for number in 1..=20 {
            log.append(&[(1, number, &payload(1, number, 0))]).unwrap();
            log.sync().unwrap();
        }
        let mut once = disk.power_loss(seed);
        for again in 0..3 {
            // The log is opened, writes what was not proven, and the power goes.
            let (log, _) = open(&once, &config(1000));
            assert_eq!(numbers(&log, 0), (1..=20).collect::<Vec<_>>(), "seed {seed}, start {again}");
            let call = CALLS[(seed % CALLS.len() as u64) as usize];
            drop(log);
            let next = once.power_loss(seed + again);
            next.fail(Fault { call, from: seed / 12 % 8, times: 2, error: ErrorKind::Other });
            drop(Log::open(Arc::new(next.clone()), config(1000)));
            next.heal();
            once = next.power_loss(seed ^ again);
        }
        let (log, _) = open(&once, &config(1000));
        assert_eq!(numbers(&log, 0), (1..=20).collect::<Vec<_>>(), "seed {seed}");
    }
}
