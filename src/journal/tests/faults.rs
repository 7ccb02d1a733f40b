//! A disk that is full, or refuses any one call: appends are refused while it lasts, nothing acknowledged is lost,
//! nothing is there twice.

use std::io::ErrorKind;

use super::super::simulated::{CALLS, Call, Fault, SimulatedDisk};
use super::*;

const NUMBERS: u64 = 32;

/// Opens a log and appends, syncs and releases; whatever is refused is tried again. Gives what was refused.
fn work(disk: &SimulatedDisk, mut refusal: impl FnMut(&Log)) -> (Log, u64) {
    let config = config(1500);
    let mut refused = 0;
    let log = loop {
        match Log::open(Arc::new(disk.clone()), config.clone()) {
            Ok((log, _)) => break log,
            Err(_) => refused += 1,
        }
    };
    for number in 1..=NUMBERS {
        let (one, two) = (payload(1, number, 0), payload(2, number, 0));
        while log.append(&[(2, number, &two), (1, number, &one)]).is_err() {
            assert!(log.appended() < number);
            refused += 1;
            refusal(&log);
        }
        while number % 3 == 0 && log.sync().map(|durable| assert_eq!(durable, number)).is_err() {
            assert!(log.durable() < number);
            refused += 1;
            refusal(&log);
        }
        while number == 27 && log.release(10).is_err() {
            refused += 1;
        }
    }
    while log.sync().is_err() {
        refused += 1;
        refusal(&log);
    }
    (log, refused)
}

fn check(log: &Log, what: &str) {
    let all = read_all(log, 12);
    let expected: Vec<Owned> =
        (13..=NUMBERS).flat_map(|n| [(2, n, payload(2, n, 0)), (1, n, payload(1, n, 0))]).collect();
    assert_eq!(all, expected, "{what}");
}

#[test]
fn any_call_may_fail_at_any_time() {
    let clean = SimulatedDisk::new(0);
    drop(work(&clean, |_| {}));
    let mut felt = 0;
    for call in CALLS {
        let calls = clean.calls(call);
        for from in 0..calls + 2 {
            for times in [1, 4] {
                let what = format!("{call:?} {from}, {times} times");
                let disk = SimulatedDisk::new(from);
                disk.fail(Fault { call, from, times, error: ErrorKind::Other });
                let (log, refused) = work(&disk, |_| {});
                felt += u64::from(refused > 0);
                disk.heal();
                check(&log, &what);
                drop(log);
                let (log, recovered) = open(&disk, &config(1500));
                check(&log, &what);
                assert_eq!(recovered.missing, [], "{what}");
                drop(log);
                let disk = disk.power_loss(from);
                let (log, recovered) = open(&disk, &config(1500));
                check(&log, &what);
                assert_eq!((recovered.damaged, recovered.missing), (vec![], vec![]), "{what}");
                drop(log);
            }
        }
    }
    let counts = [Call::Write, Call::Sync, Call::SyncDir, Call::Create].map(|call| clean.calls(call));
    assert!(counts[0] >= 32 && counts[1..].iter().all(|calls| *calls >= 5), "{counts:?}");
    assert!(felt > 100, "{felt}");
}

/// A sync that fails while another thread would append: both what was to be synced and what came since is kept.
#[test]
fn a_failed_sync_is_made_good_in_a_new_segment() {
    for seed in 0..runs(30).min(1_000) {
        let disk = SimulatedDisk::new(seed);
        let (log, _) = open(&disk, &config(100_000));
        log.append(&[(1, 1, b"one")]).unwrap();
        log.sync().unwrap();
        log.append(&[(1, 2, b"two")]).unwrap();
        for attempt in 0..3 {
            disk.fail(Fault {
                call: Call::Sync,
                from: disk.calls(Call::Sync),
                times: 1,
                error: ErrorKind::Other,
            });
            log.sync().unwrap_err();
            assert_eq!((log.durable(), log.appended()), (1, 2 + attempt));
            log.append(&[(1, 3 + attempt, b"more")]).unwrap();
        }
        assert_eq!(log.sync().unwrap(), 5);
        assert_eq!(log.segments(), 2, "attempts between are gone");
        assert_eq!(numbers(&log, 0), [1, 2, 3, 4, 5]);
        drop(log);
        let disk = disk.power_loss(seed);
        let (log, recovered) = open(&disk, &config(100_000));
        assert_eq!(numbers(&log, 0), [1, 2, 3, 4, 5], "seed {seed}");
        assert_eq!(recovered.damaged, [], "seed {seed}");
    }
}

#[test]
fn a_full_disk_refuses_and_goes_on_when_there_is_room() {
    let clean = SimulatedDisk::new(0);
    let mut most = 0;
    drop(work(&clean, |_| {}));
    most = most.max(clean.used());
    for space in (0..most + 500).step_by(if std::env::var("JOURNAL_SEEDS").is_ok() { 7 } else { 211 }) {
        let disk = SimulatedDisk::new(space);
        disk.set_space(Some(space));
        let mut refusals = 0;
        let (log, _) = work(&disk, |log| {
            refusals += 1;
            // What is there can be read while the disk is full.
            assert_eq!(numbers(log, log.appended().saturating_sub(1)).len() % 2, 0);
            if refusals == 3 {
                disk.set_space(None);
            }
        });
        disk.set_space(None);
        check(&log, &format!("{space} bytes"));
        drop(log);
        let (log, recovered) = open(&disk.power_loss(space), &config(1500));
        check(&log, &format!("{space} bytes"));
        assert_eq!((recovered.damaged, recovered.missing), (vec![], vec![]), "{space} bytes");
    }
}
