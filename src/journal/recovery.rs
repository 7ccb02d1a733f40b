//! Reading a whole log directory as it was left: which bytes count, which records are there, what is damaged.
//!
//! Writes nothing. Segments are chained by their first records: each says where the one before it ends, so what an
//! append that failed left behind is never read, even where it could not be cut; and where a segment repeats what a
//! failed sync may have lost, the copy counts as soon as it is whole or proven to be durable.

use std::collections::BTreeSet;
use std::io;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};

use super::files::{File, Files};
use super::log::{JournalError, LogConfig};
use super::record::{Found, Frames, Header, KIND_SEGMENT, Place, VERSION};
use super::segment::{Chain, parse_name};

/// Bytes read at once.
const READ_AHEAD: usize = 1 << 20;
/// Damaged places that are named, each list; more are only counted.
const NAMED_MAX: usize = 1_000;

/// Bytes of a segment that are no record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Name of the segment's file.
    pub file: String,
    /// Where in it.
    pub bytes: Range<u64>,
    /// Kind of the (first) record there, where it is known; 0 is a segment's own first record, which costs nothing.
    pub kind: Option<u8>,
    /// Its number, where it is known.
    pub number: Option<u64>,
    /// All numbers in it are as high as this one or higher.
    pub after: u64,
    /// Whether it was durable once. If not, it may be the rest of a write that was never acknowledged.
    pub was_durable: bool,
}

/// What a log directory holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Number of the first record.
    pub first: Option<u64>,
    /// Number of the last whole record; 0 for an empty log.
    pub last: u64,
    /// Whole records.
    pub records: u64,
    /// Segments.
    pub segments: usize,
    /// Bytes of all segments.
    pub bytes: u64,
    /// Bytes behind the last whole record that are no record: what a crash in the middle of a write leaves.
    pub torn_bytes: u64,
    /// Where they are; at most 1,000 are named.
    pub torn: Vec<Damage>,
    /// Places with damage.
    pub damaged_places: u64,
    /// Which; at most 1,000 are named.
    pub damaged: Vec<Damage>,
    /// Numbers that are missing of a kind that has every number; at most 1,000 ranges are named.
    pub missing: Vec<RangeInclusive<u64>>,
    /// How many numbers these are.
    pub missing_numbers: u64,
    /// Second copies, as they are left where a sync failed and was made good: they are skipped.
    pub copies: u64,
    /// Number up to which everything was surely durable.
    pub durable: u64,
}

/// A segment file as it was found.
#[derive(Clone, Debug)]
pub struct Surveyed {
    /// File name.
    pub name: String,
    /// Its file.
    pub path: PathBuf,
    /// First number, by its name.
    pub first: u64,
    /// Serial number.
    pub serial: u64,
    /// Length of the file.
    pub length: u64,
    /// Where what counts ends; 0 for the leftover of a failed write.
    pub limit: u64,
    /// Its first record, where it can be read.
    pub chain: Option<Chain>,
    /// What that says was durable.
    pub durable: u64,
    /// Whether the one after it names it as the one before, and so where it ends.
    pub closed: bool,
    /// Bytes that are no record, with the header of the first one.
    pub bad: Vec<(Range<u64>, Option<Header>)>,
    /// End of the last whole record.
    pub whole_end: u64,
}

/// A whole record, as a survey meets it.
pub struct Met<'a> {
    /// Its header.
    pub header: Header,
    /// Its payload.
    pub payload: &'a [u8],
    /// Where it stands.
    pub place: Place,
    /// Whether there was one of its kind and number before.
    pub copy: bool,
}

/// Finds the segments in `dir`, in order, and what of them counts.
pub fn find(files: &dyn Files, dir: &Path) -> Result<Vec<Surveyed>, JournalError> {
    let io = |what: &'static str, path: &Path| {
        let path = path.to_owned();
        move |source: io::Error| JournalError::Io { what, path, source }
    };
    let mut found = Vec::new();
    for name in files.list(dir).map_err(io("list", dir))? {
        let Some((first, serial)) = parse_name(&name) else { continue };
        let path = dir.join(&name);
        let file = files.open(&path).map_err(io("open", &path))?;
        let length = file.length().map_err(io("measure", &path))?;
        let chain = read_chain(file.as_ref(), serial, length).map_err(io("read", &path))?;
        found.push(Surveyed {
            name,
            path,
            first,
            serial,
            length,
            limit: 0,
            chain: chain.map(|chain| chain.0),
            durable: chain.map_or(0, |chain| chain.1),
            closed: false,
            bad: Vec::new(),
            whole_end: 0,
        });
    }
    found.sort_by_key(|segment| segment.serial);
    follow_chain(&mut found);
    for at in (0..found.len()).rev() {
        let segment = &found[at];
        let Some((chain, again)) = segment.chain.and_then(|c| Some((c, c.again?))) else { continue };
        if segment.limit > 0 && replaces(files, &found[at..], chain).map_err(io("read", &segment.path))? {
            for old in found[..at].iter_mut().filter(|old| old.serial >= again.serial) {
                let upto = if old.serial == again.serial { again.offset } else { 0 };
                old.limit = old.limit.min(upto);
            }
        }
    }
    Ok(found)
}

/// The first record of a segment, and what it says was durable.
fn read_chain(file: &dyn File, serial: u64, length: u64) -> io::Result<Option<(Chain, u64)>> {
    let mut frames = Frames::new(Place { serial, offset: 0 }, Chain::BYTES as usize, 256);
    while let Some(found) = frames.next(file, length.min(Chain::BYTES))? {
        if let Found::Whole(header, payload) = found
            && header.kind == KIND_SEGMENT
            && let Some(chain) = Chain::parse(payload)
        {
            return Ok(Some((chain, header.durable)));
        }
    }
    Ok(None)
}

/// Whether what `segments[0]` repeats takes the place of what it repeats: it is whole, or it was durable at some time.
fn replaces(files: &dyn Files, segments: &[Surveyed], chain: Chain) -> io::Result<bool> {
    let segment = &segments[0];
    let file = files.open(&segment.path)?;
    let mut frames = Frames::new(Place { serial: segment.serial, offset: 0 }, READ_AHEAD, u32::MAX);
    let copy_end = Chain::BYTES + chain.again_bytes;
    let (mut whole, mut first) = (segment.limit >= copy_end, None);
    let mut durable = segments[1..].iter().map(|later| later.durable).max().unwrap_or(0);
    // The whole segment is read only if the copy is damaged.
    while frames.place().offset < if whole { copy_end } else { segment.limit } {
        match frames.next(file.as_ref(), segment.limit)? {
            Some(Found::Whole(header, _)) => {
                if header.kind != KIND_SEGMENT {
                    first.get_or_insert(header.number);
                }
                durable = durable.max(header.durable);
            }
            Some(Found::Bad { .. }) => whole = false,
            None => break,
        }
    }
    Ok(whole || first.is_some_and(|first| durable >= first))
}

/// From the last segment backwards, each says where the one before it ends.
fn follow_chain(found: &mut [Surveyed]) {
    let Some(mut at) = found.len().checked_sub(1) else { return };
    found[at].limit = found[at].length;
    loop {
        let chain = found[at].chain;
        // Without a first record that can be read, the one before counts whole: repeated records are skipped.
        let upto = chain.map_or(u64::MAX, |chain| chain.before);
        let Some(before) = found[..at].iter().rposition(|s| s.serial <= upto) else { return };
        found[before].limit = found[before].length;
        if let Some(chain) = chain.filter(|chain| chain.before == found[before].serial) {
            found[before].limit = found[before].length.min(chain.before_end);
            found[before].closed = true;
        }
        at = before;
    }
}

/// Reads all that counts, in order, and calls `met` with every whole record.
pub fn survey(
    files: &dyn Files,
    config: &LogConfig,
    segments: &mut [Surveyed],
    mut met: impl FnMut(usize, Met<'_>),
) -> Result<Recovered, JournalError> {
    let mut seen = Seen::default();
    let mut recovered = Recovered::default();
    let mut bad: Vec<(usize, usize, u64)> = Vec::new();
    let mut last_before = Vec::with_capacity(segments.len());
    let mut floor = 0;
    for (index, segment) in segments.iter_mut().enumerate() {
        last_before.push(floor);
        // Whatever is lost of it: its numbers are no lower than its name says.
        floor = floor.max(segment.first.saturating_sub(1));
        recovered.bytes += segment.limit;
        recovered.segments += 1;
        let io = |source| JournalError::Io { what: "read", path: segment.path.clone(), source };
        let file = files.open(&segment.path).map_err(io)?;
        let mut frames =
            Frames::new(Place { serial: segment.serial, offset: 0 }, READ_AHEAD, config.record_bytes_max);
        loop {
            let place = frames.place();
            match frames.next(file.as_ref(), segment.limit).map_err(io)? {
                None => break,
                Some(Found::Whole(header, payload)) => {
                    if header.version > VERSION {
                        return Err(JournalError::Newer {
                            path: segment.path.clone(),
                            version: header.version,
                        });
                    }
                    segment.whole_end = place.offset + header.frame_len();
                    recovered.durable = recovered.durable.max(header.durable);
                    if header.kind == KIND_SEGMENT {
                        continue;
                    }
                    let copy = !seen.take(&header);
                    floor = floor.max(header.number);
                    recovered.note(&header, copy, config.every_number_of, &mut seen);
                    met(index, Met { header, payload, place, copy });
                }
                Some(Found::Bad { bytes, header }) => {
                    if bad.len() < 4 * NAMED_MAX {
                        bad.push((index, segment.bad.len(), floor));
                        segment.bad.push((bytes, header));
                    } else {
                        recovered.damaged_places += 1;
                    }
                }
            }
        }
    }
    recovered.last = seen.last;
    // What was written after it said what was durable.
    recovered.durable = recovered.durable.min(recovered.last);
    missing_segments(segments, &last_before, &mut recovered);
    for (index, nth, after) in bad {
        judge(segments, index, nth, after, &mut recovered);
    }
    Ok(recovered)
}

/// Segments that must be there and are not, in the middle: a log loses its segments from the oldest on.
fn missing_segments(segments: &[Surveyed], last_before: &[u64], recovered: &mut Recovered) {
    let serials: BTreeSet<u64> = segments.iter().map(|s| s.serial).collect();
    for (segment, after) in segments.iter().zip(last_before).skip(1).filter(|(s, _)| s.limit > 0) {
        let Some(chain) = segment.chain.filter(|c| c.before > 0 && !serials.contains(&c.before)) else {
            continue;
        };
        if serials.range(..chain.before).next().is_some() {
            let file = format!("segment {} (missing)", chain.before);
            let damage = Damage {
                file,
                bytes: 0..chain.before_end,
                kind: None,
                number: None,
                after: *after,
                was_durable: recovered.durable > *after,
            };
            recovered.damaged_places += 1;
            if recovered.damaged.len() < NAMED_MAX {
                recovered.damaged.push(damage);
            }
        }
    }
}

/// Whether bad bytes are a torn tail or damage.
fn judge(segments: &[Surveyed], index: usize, nth: usize, after: u64, recovered: &mut Recovered) {
    let segment = &segments[index];
    let (bytes, header) = &segment.bad[nth];
    let place = Place { serial: segment.serial, offset: bytes.start };
    let repeated = segments[index + 1..]
        .iter()
        .filter(|later| later.limit > 0)
        .any(|later| later.chain.and_then(|c| c.again).is_some_and(|again| again <= place));
    let own = bytes.end <= Chain::BYTES;
    let number = header.map(|h| h.number);
    let was_durable = !own && recovered.durable >= number.unwrap_or(after + 1);
    let tail = bytes.end == segment.limit && !segment.closed && !was_durable;
    let kind = if own { Some(KIND_SEGMENT) } else { header.map(|h| h.kind) };
    let damage =
        Damage { file: segment.name.clone(), bytes: bytes.clone(), kind, number, after, was_durable };
    if repeated || tail {
        recovered.torn_bytes += bytes.end - bytes.start;
        if recovered.torn.len() < NAMED_MAX {
            recovered.torn.push(damage);
        }
    } else {
        recovered.damaged_places += 1;
        if recovered.damaged.len() < NAMED_MAX {
            recovered.damaged.push(damage);
        }
    }
}

/// Which records were met already. Numbers ascend; of one number there is at most one record of a kind.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// The last number.
    pub last: u64,
    /// Kinds met of it, a bit each.
    pub kinds: u64,
    /// The last number of the kind that has every number.
    pub every: Option<u64>,
}

impl Seen {
    /// Everything up to `number` was met.
    pub fn upto(number: u64) -> Seen {
        Seen { last: number, kinds: u64::MAX, every: Some(number) }
    }

    /// Whether a record of this kind and number can follow.
    pub fn admits(&self, kind: u8, number: u64) -> bool {
        number > self.last || (number == self.last && self.kinds & (1 << (kind & 63)) == 0)
    }

    /// Notes a record; false if there was one before.
    pub fn take(&mut self, header: &Header) -> bool {
        let new = self.admits(header.kind, header.number);
        if new {
            self.note(header.kind, header.number);
        }
        new
    }

    /// Notes a record that follows.
    pub fn note(&mut self, kind: u8, number: u64) {
        if number > self.last {
            self.kinds = 0;
        }
        self.last = number;
        self.kinds |= 1 << (kind & 63);
    }

    /// Numbers missing before a record of the kind that has every number.
    pub fn gap(&mut self, number: u64) -> Option<RangeInclusive<u64>> {
        let last = self.every.replace(number)?;
        (number > last.saturating_add(1)).then(|| last + 1..=number - 1)
    }
}

impl Recovered {
    fn note(&mut self, header: &Header, copy: bool, every_number_of: Option<u8>, seen: &mut Seen) {
        if copy {
            self.copies += 1;
            return;
        }
        self.records += 1;
        self.first.get_or_insert(header.number);
        if every_number_of == Some(header.kind)
            && let Some(gap) = seen.gap(header.number)
        {
            self.missing_numbers += gap.end() - gap.start() + 1;
            if self.missing.len() < NAMED_MAX {
                self.missing.push(gap);
            }
        }
    }
}
