//! What the log does on a good day.

use super::super::files::RealFiles;
use super::super::log::JournalError;
use super::*;

#[test]
fn an_empty_directory_starts_at_nothing() {
    let (log, recovered) = open(&MemoryFiles::default(), &config(1000));
    assert_eq!(recovered, Recovered::default());
    assert_eq!((log.appended(), log.durable(), log.first(), log.segments()), (0, 0, None, 0));
    assert_eq!((log.sync().unwrap(), log.behind(0), log.oldest_segment_end()), (0, (0, 0), None));
    let mut reader = log.reader(0);
    assert_eq!(reader.next(u64::MAX).unwrap(), None);
    log.append(&[(1, 1, b"a")]).unwrap();
    assert_eq!(reader.next(u64::MAX).unwrap().unwrap().payload, b"a", "it comes when there is something");
}

#[test]
fn what_was_appended_is_read_and_read_again_after_a_start() {
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig { dir: dir.path().join("a/journal"), ..config(2000) };
    let mut expected: Vec<Owned> = Vec::new();
    for life in 0..4u64 {
        let (log, recovered) = open(&RealFiles, &config);
        assert_eq!((recovered.last, recovered.records), (life * 20, expected.len() as u64));
        assert!(recovered.damaged.is_empty() && recovered.missing.is_empty() && recovered.torn_bytes == 0);
        assert_eq!((log.durable(), recovered.durable), (life * 20, life * 20));
        assert_eq!(read_all(&log, 0), expected);
        for number in life * 20 + 1..=life * 20 + 20 {
            let (one, two) = (payload(1, number, life), payload(2, number, life));
            let mut records = vec![(1, number, &one[..])];
            if number % 3 == 0 {
                records.insert(0, (2, number, &two));
            }
            expected.extend(records.iter().map(|(k, n, p)| (*k, *n, p.to_vec())));
            log.append(&records).unwrap();
            assert_eq!(log.appended(), number);
            assert!(log.durable() < number);
            if number % 7 == 0 || number % 20 == 0 {
                assert_eq!(log.sync().unwrap(), number);
            }
        }
        assert_eq!(read_all(&log, 0), expected);
        let held = Log::open(Arc::new(RealFiles), config.clone()).err().unwrap();
        assert!(matches!(&held, JournalError::Locked(at) if *at == config.dir), "{held}");
    }
    let (log, _) = open(&RealFiles, &config);
    assert!(log.segments() > 5);
    for after in 0..=80 {
        let rest: Vec<Owned> = expected.iter().filter(|r| r.1 > after).cloned().collect();
        assert_eq!(read_all(&log, after), rest, "after {after}");
    }
}

#[test]
fn a_reader_stops_at_upto_and_goes_on() {
    let (log, _) = open(&MemoryFiles::default(), &config(500));
    for number in 1..=50 {
        log.append(&[(2, number, b"two"), (1, number, &payload(1, number, 0))]).unwrap();
    }
    let mut reader = log.reader(10);
    for upto in [5, 10, 11, 11, 30, 50] {
        while let Some(record) = reader.next(upto).unwrap() {
            assert!(record.number <= upto && record.number > 10);
        }
        assert_eq!(reader.position(), upto.max(10));
    }
    assert_eq!(reader.missed(), 0);
}

#[test]
fn records_that_can_not_follow_are_refused() {
    let (log, _) = open(&MemoryFiles::default(), &config(1000));
    log.append(&[(1, 5, b"")]).unwrap();
    let long = vec![0; (1 << 20) + 1];
    for records in [
        &[(1, 5, &b""[..])][..],
        &[(1, 4, b"")],
        &[(0, 6, b"")],
        &[(64, 6, b"")],
        &[(1, 6, b""), (1, 6, b"")],
        &[(1, 7, b""), (2, 6, b"")],
        &[(1, 6, &long)],
    ] {
        assert_eq!(log.append(records).unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
    }
    log.append(&[(2, 5, b""), (1, 9, b"")]).unwrap();
    assert_eq!(numbers(&log, 0), [5, 5, 9]);
}

#[test]
fn what_waits_for_a_sync_is_bounded() {
    let (log, _) = open(&MemoryFiles::default(), &config(10_000));
    let mut refused = None;
    for number in 1..200 {
        if let Err(e) = log.append(&[(1, number, &[0; 1000])]) {
            refused = Some((number, e.kind()));
            break;
        }
    }
    assert_eq!(refused, Some((64, std::io::ErrorKind::WouldBlock)));
    assert_eq!(log.sync().unwrap(), 63);
    log.append(&[(1, 64, &[0; 1000])]).unwrap();
}

#[test]
fn released_segments_are_gone_and_a_reader_left_behind_is_told() {
    for every_number_of in [Some(1), None] {
        let files = MemoryFiles::default();
        let config = LogConfig { every_number_of, bytes_max: 3000, ..config(1000) };
        let (log, _) = open(&files, &config);
        let mut reader = log.reader(0);
        for number in 1..=100 {
            log.append(&[(1, number, &[7; 64])]).unwrap();
        }
        assert_eq!(reader.next(100).unwrap().map(|r| r.number), Some(1));
        assert_eq!(log.release(100).unwrap(), 0, "nothing is durable yet");
        log.sync().unwrap();
        let (segments, bytes) = (log.segments(), log.bytes());
        let end = log.oldest_segment_end().unwrap();
        assert_eq!(log.release(end - 1).unwrap(), 0);
        let freed = log.release(end).unwrap();
        assert_eq!((log.segments(), log.bytes()), (segments - 1, bytes - freed));
        assert_eq!(log.first(), Some(end + 1));
        while log.excess_bytes() > 0 {
            log.release(log.oldest_segment_end().unwrap()).unwrap();
        }
        let first = log.first().unwrap();
        let mut read = Vec::new();
        while let Some(record) = reader.next(100).unwrap() {
            read.push(record.number);
        }
        assert_eq!(read, (first..=100).collect::<Vec<_>>());
        assert_eq!(reader.missed(), first - 2, "all but the first one and those left");
        log.release(u64::MAX).unwrap();
        assert_eq!(log.segments(), 1, "the current one stays");
        drop((log, reader));
        let (log, recovered) = open(&files, &config);
        assert_eq!((recovered.last, log.durable()), (100, 100));
        assert!(recovered.damaged.is_empty() && recovered.missing.is_empty(), "{recovered:?}");
        log.append(&[(1, 101, b"")]).unwrap();
    }
}

#[test]
fn lag_is_right_within_a_mark() {
    let (log, _) =
        open(&MemoryFiles::default(), &LogConfig { unsynced_bytes_max: 1 << 30, ..config(4 << 20) });
    for number in 1..=1000 {
        log.append(&[(1, number, &[1; 10_000])]).unwrap();
    }
    for after in [0, 1, 17, 500, 999, 1000, 2000] {
        let (records, bytes) = log.behind(after);
        let exact = 1000_u64.saturating_sub(after);
        assert!(records >= exact && records <= exact + 27, "{records} behind {after}");
        assert!(bytes >= exact * 10_036 && bytes <= exact * 10_036 + (300 << 10), "{bytes} behind {after}");
    }
}

#[test]
fn numbers_may_have_gaps_where_no_kind_has_them_all() {
    let config = LogConfig { every_number_of: None, ..config(400) };
    let files = MemoryFiles::default();
    let (log, _) = open(&files, &config);
    for number in (1..50).map(|n| n * n) {
        log.append(&[(1, number, b"x")]).unwrap();
    }
    drop(log);
    let (log, recovered) = open(&files, &config);
    assert!(recovered.missing.is_empty() && recovered.damaged.is_empty());
    assert_eq!(numbers(&log, 100)[0], 121);
    assert_eq!(numbers(&log, 101)[0], 121);
}

#[test]
fn a_log_of_a_newer_version_is_left_alone() {
    let files = MemoryFiles::default();
    let (log, _) = open(&files, &config(1000));
    log.append(&[(1, 1, b"x")]).unwrap();
    drop(log);
    let mut files = contents(&files, Path::new("/journal"));
    let bytes = &mut files[0].1;
    let place = super::super::record::Place { serial: 1, offset: 0 };
    let mut header = super::super::record::Header::decode(bytes, place).unwrap();
    header.version = 2;
    bytes[..36].copy_from_slice(&header.encode(place));
    let error = Log::open(Arc::new(in_memory(&files)), config(1000)).err().unwrap();
    assert!(error.to_string().ends_with("expected format version 1 or older, found 2"), "{error}");
}
