//! Cut files and turned bits: the log always opens, and a flip costs its record, counted and named.

use super::super::files::RealFiles;
use super::super::record::Place;
use super::super::record::{Found, Frames};
use super::super::segment::parse_name;
use super::*;

/// A log on real files, as its files' contents and the place of each record: file, start, end.
struct Written {
    files: Vec<(PathBuf, Vec<u8>)>,
    records: Vec<(Owned, usize, u64, u64)>,
    config: LogConfig,
}

fn write(numbers: u64, segment_bytes: u64) -> Written {
    let dir = tempfile::tempdir().unwrap();
    let mut config = LogConfig { dir: dir.path().to_owned(), ..config(segment_bytes) };
    let (log, _) = open(&RealFiles, &config);
    for number in 1..=numbers {
        log.append(&[(2, number, &payload(2, number, 0)), (1, number, &payload(1, number, 0))]).unwrap();
        if number % 2 == 0 {
            log.sync().unwrap();
        }
    }
    drop(log);
    let mut files = contents(&RealFiles, dir.path());
    config.dir = PathBuf::from("/journal");
    for (path, _) in &mut files {
        *path = config.dir.join(path.file_name().unwrap());
    }
    files.sort_by_key(|(path, _)| parse_name(path.file_name().unwrap().to_str().unwrap()).unwrap().1);
    let mut records = Vec::new();
    for (at, (path, bytes)) in files.iter().enumerate() {
        let serial = parse_name(path.file_name().unwrap().to_str().unwrap()).unwrap().1;
        let file = MemoryFiles::default().create(path).unwrap();
        file.write_at(0, bytes).unwrap();
        let mut frames = Frames::new(Place { serial, offset: 0 }, 1 << 16, 1 << 20);
        loop {
            let start = frames.place().offset;
            let end = match frames.next(file.as_ref(), bytes.len() as u64).unwrap() {
                None => break,
                Some(Found::Bad { .. }) => panic!("it was written well"),
                Some(Found::Whole(header, payload)) => {
                    let end = start + header.frame_len();
                    records.push(((header.kind, header.number, payload.to_vec()), at, start, end));
                    end
                }
            };
            assert!(end > start);
        }
    }
    Written { files, records, config }
}

/// Records that are the log's own excepted.
fn own(record: &(Owned, usize, u64, u64)) -> bool {
    record.0.0 == 0
}

#[test]
fn a_log_cut_anywhere_opens_with_all_that_is_before_the_cut() {
    let all = std::env::var("JOURNAL_SEEDS").is_ok();
    let (numbers, segment_bytes, tail) = if all { (260, 16 << 10, 64 << 10) } else { (16, 1100, 2200) };
    let written = write(numbers, segment_bytes);
    let total: usize = written.files.iter().map(|(_, bytes)| bytes.len()).sum();
    assert!(total > tail, "{total}");
    let (mut at, mut cut) = (written.files.len() - 1, written.files[written.files.len() - 1].1.len());
    for _ in 0..=tail {
        let mut files = written.files[..=at].to_vec();
        files[at].1.truncate(cut);
        let whole: Vec<_> = written
            .records
            .iter()
            .filter(|(_, file, _, end)| *file < at || (*file == at && *end <= cut as u64))
            .collect();
        let whole_end = whole.iter().filter(|r| r.1 == at).map(|r| r.3).max().unwrap_or(0);
        let expected: Vec<Owned> = whole.iter().filter(|r| !own(r)).map(|r| r.0.clone()).collect();
        let (log, recovered) = open(&in_memory(&files), &written.config);
        assert_eq!(read_all(&log, 0), expected, "file {at} cut at {cut}");
        assert_eq!(recovered.torn_bytes, cut as u64 - whole_end, "file {at} cut at {cut}");
        assert_eq!((recovered.damaged_places, recovered.missing_numbers), (0, 0), "file {at} cut at {cut}");
        let next = recovered.last + 1;
        log.append(&[(1, next, b"goes on")]).unwrap();
        assert_eq!(log.sync().unwrap(), next);
        assert_eq!(read_all(&log, 0).len(), expected.len() + 1, "file {at} cut at {cut}");
        if cut == 0 {
            at -= 1;
            cut = written.files[at].1.len();
        } else {
            cut -= 1;
        }
    }
}

#[test]
fn a_flip_costs_at_most_its_record_and_is_named() {
    let written = write(30, 2000);
    let lens: Vec<u64> = written.files.iter().map(|(_, bytes)| bytes.len() as u64).collect();
    let mut dice = Dice(7);
    for run in 0..runs(1_000) {
        let mut files = written.files.clone();
        let mut bit = dice.below(lens.iter().sum::<u64>() * 8);
        let at = lens.iter().position(|len| {
            let here = bit < len * 8;
            bit -= if here { 0 } else { len * 8 };
            here
        });
        let at = at.unwrap();
        let (byte, what) = (bit / 8, format!("run {run}: file {at} bit {bit}"));
        files[at].1[byte as usize] ^= 1 << (bit % 8);
        let hit = |r: &&(Owned, usize, u64, u64)| r.1 == at && r.2 <= byte && byte < r.3;
        let lost = written.records.iter().find(hit).unwrap();
        let expected: Vec<Owned> =
            written.records.iter().filter(|r| !own(r) && !hit(r)).map(|r| r.0.clone()).collect();
        let places = in_memory(&files);
        let (log, recovered) = open(&places, &written.config);
        let mut reader = log.reader(0);
        let mut read = Vec::new();
        while let Some(record) = reader.next(u64::MAX).unwrap() {
            read.push((record.kind, record.number, record.payload.to_vec()));
        }
        assert_eq!(read, expected, "{what}");
        let named: Vec<_> = recovered.damaged.iter().chain(&recovered.torn).collect();
        assert_eq!(named.len(), 1, "{what}: {named:?}");
        assert_eq!(named[0].bytes, lost.2..lost.3, "{what}");
        assert_eq!(Path::new(&named[0].file), Path::new(files[at].0.file_name().unwrap()), "{what}");
        let in_payload = byte >= lost.2 + 36;
        if in_payload && !own(lost) {
            assert_eq!((named[0].kind, named[0].number), (Some(lost.0.0), Some(lost.0.1)), "{what}");
        }
        let last = written.records.last().unwrap();
        let gap = lost.0.0 == 1 && lost.2 < last.2.max(u64::MAX * u64::from(at < files.len() - 1));
        // The first of all has none before it by which its number could be missed, except for a reader that knows.
        let first = lost.0.1 == 1;
        assert_eq!(recovered.missing_numbers, u64::from(gap && !first), "{what}");
        assert_eq!(reader.missed(), u64::from(gap), "{what}");
    }
}

#[test]
fn noise_instead_of_a_log_opens() {
    let mut dice = Dice(3);
    let whole = write(6, 700);
    for run in 0..runs(50) {
        let mut written =
            Written { files: whole.files.clone(), records: vec![], config: whole.config.clone() };
        for (_, bytes) in &mut written.files {
            let (from, len) = (dice.below(bytes.len() as u64) as usize, dice.below(400) as usize);
            let zeros = dice.below(2) == 0;
            for byte in bytes.iter_mut().skip(from).take(len) {
                *byte = if zeros { 0 } else { dice.below(256) as u8 };
            }
        }
        let (log, recovered) = open(&in_memory(&written.files), &written.config);
        let next = recovered.last + 1;
        log.append(&[(1, next, b"goes on")]).unwrap();
        assert_eq!(log.sync().unwrap(), next, "run {run}");
        assert_eq!(read_all(&log, next - 1), [(1, next, b"goes on".to_vec())], "run {run}");
    }
}
