//! What people do with a journal: inspect, verify, repair.

use dataflows::epoch::Epoch;
use operators::catalog::Entry;
use operators::sample::{SECOND, Sample};
use operators::series::{SeriesKey, Target};

use super::super::epochs::{KIND_ENTRIES, KIND_EPOCH, encode, encode_entries};
use super::super::inspect::{inspect, verify};
use super::super::log::JournalError;
use super::super::repair::repair;
use super::*;

const START_NS: i64 = 1_700_000_000 * SECOND;

fn epochs(files: &MemoryFiles, numbers: std::ops::RangeInclusive<u64>) {
    let (log, _) = open(files, &config(600));
    for number in numbers {
        let time_ns = START_NS + number as i64 * SECOND;
        let batch = (0..5).map(|series| Sample { series, seq: 0, time_ns, value: number as f64 }).collect();
        let target = Arc::new(Target::new("service", [("host", "a")]));
        let entry = Entry { id: 0, key: SeriesKey { target, metric: "m".into() } };
        let entries = if number == 1 { vec![entry] } else { vec![] };
        let epoch = Epoch { number, arrival_ns: time_ns, batches: vec![batch], entries, ..Epoch::default() };
        let (mut one, mut two) = (Vec::new(), Vec::new());
        encode(&epoch, &mut one);
        encode_entries(&epoch.entries, &mut two);
        match number {
            1 => log.append(&[(KIND_ENTRIES, 1, &two), (KIND_EPOCH, 1, &one)]).unwrap(),
            _ => log.append(&[(KIND_EPOCH, number, &one)]).unwrap(),
        }
        log.sync().unwrap();
    }
}

fn segment_names(files: &MemoryFiles) -> Vec<String> {
    let mut names = files.list(Path::new("/journal")).unwrap();
    names.retain(|name| name.ends_with(".log"));
    names.sort_by_key(|name| name[21..].to_owned());
    names
}

fn flip(files: &MemoryFiles, name: &str, byte: u64) {
    let file = files.open(&Path::new("/journal").join(name)).unwrap();
    let mut bytes = [0];
    file.read_at(byte, &mut bytes).unwrap();
    file.write_at(byte, &[bytes[0] ^ 4]).unwrap();
}

#[test]
fn an_inspection_tells_what_is_there() {
    let files = MemoryFiles::default();
    epochs(&files, 1..=10);
    let report = inspect(&files, &config(600)).unwrap();
    let sum =
        |of: fn(&super::super::inspect::SegmentReport) -> u64| report.segments.iter().map(of).sum::<u64>();
    assert_eq!((sum(|s| s.epochs), sum(|s| s.entries), sum(|s| s.samples)), (10, 1, 50));
    assert_eq!((report.total.records, report.segments[0].numbers.unwrap().0), (11, 1));
    let text = report.to_string();
    for expected in [
        "segment  ",
        "00000000000000000001-0000000001.log",
        "2023-11-14T22:13:21.000Z to 2023-11-14T22:13:2",
        "11 records, numbers 1..10, 50 samples\nwhole; 0 bytes of unfinished writes\n",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
    let empty = inspect(&MemoryFiles::default(), &config(600)).unwrap().to_string();
    assert!(empty.ends_with(
        "0 segments, 0 bytes, 0 records, numbers none, 0 samples\nwhole; 0 bytes of unfinished writes\n"
    ));
}

#[test]
fn damage_is_named_and_repaired() {
    let files = MemoryFiles::default();
    epochs(&files, 1..=12);
    let names = segment_names(&files);
    let torn = files.open(&Path::new("/journal").join(names.last().unwrap())).unwrap();
    torn.write_at(torn.length().unwrap(), &[1; 33]).unwrap();
    assert_eq!(verify(&files, &config(600)).unwrap().exit_status(), 0, "a torn tail is no damage");
    // A payload in the middle of the second segment, and the first's own record.
    let second = inspect(&files, &config(600)).unwrap().segments[1].clone();
    let lost = second.numbers.unwrap().0;
    flip(&files, &second.name, super::super::segment::Chain::BYTES + 40);
    flip(&files, &names[0], 3);
    let found = verify(&files, &config(600)).unwrap();
    assert_eq!((found.exit_status(), found.found.damaged_places), (1, 2));
    assert_eq!(found.found.missing, [lost..=lost]);
    let text = found.to_string();
    assert!(text.contains(&format!("damaged: {} bytes 152..", second.name)), "{text}");
    assert!(text.contains(&format!(": record {lost} of kind 1\n")), "{text}");
    assert!(text.contains("bytes 0..76: a segment's own record, nothing is lost\n"), "{text}");

    let shared: Arc<dyn Files> = Arc::new(files.clone());
    let (held, _) = open(&files, &config(600));
    assert!(matches!(repair(&shared, &config(600)), Err(JournalError::Locked(_))));
    let before = read_all(&held, 0);
    drop(held);
    let done = repair(&shared, &config(600)).unwrap();
    assert_eq!(done.rewritten.len(), 2, "{done}");
    assert_eq!((done.after.found.damaged_places, done.after.found.torn_bytes), (0, 0), "{done}");
    assert_eq!(done.after.found.missing, [lost..=lost], "what is gone is gone");
    let kept = files.open(&Path::new("/journal").join(format!("{}.damaged", second.name))).unwrap();
    assert_eq!(kept.length().unwrap(), second.bytes);
    let (log, recovered) = open(&files, &config(600));
    assert_eq!((read_all(&log, 0), recovered.damaged), (before, vec![]));
    drop(log);
    let again = repair(&shared, &config(600)).unwrap();
    assert!(again.to_string().starts_with("nothing to repair\n"), "{again}");
}

#[test]
fn a_repair_of_any_damage_keeps_what_can_be_read() {
    for seed in 0..runs(60).min(2_000) {
        let mut dice = Dice(seed);
        let files = MemoryFiles::default();
        for life in 0..3 {
            epochs(&files, life * 8 + 1..=life * 8 + 8);
        }
        let flips = 1 + dice.below(6);
        for _ in 0..flips {
            let names = segment_names(&files);
            let name = &names[dice.below(names.len() as u64) as usize];
            let len = files.open(&Path::new("/journal").join(name)).unwrap().length().unwrap();
            flip(&files, name, dice.below(len));
        }
        let (log, recovered) = open(&files, &config(600));
        let readable = read_all(&log, 0);
        drop(log);
        let done = repair(&(Arc::new(files.clone()) as Arc<dyn Files>), &config(600)).unwrap();
        assert_eq!(done.after.found.damaged_places, 0, "seed {seed}: {done}");
        let (log, _) = open(&files, &config(600));
        assert_eq!(read_all(&log, 0), readable, "seed {seed}");
        assert!(readable.len() as u64 >= 25 - flips, "seed {seed}: {recovered:?}");
    }
}
