//! One segment file: its name, its first record, which chains it to the one before, and what the log knows of it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::record::{HEADER_LEN, Header, KIND_SEGMENT, Place, push_frame};

/// Bytes of a chain.
const CHAIN_LEN: usize = 40;
/// Bytes between two marks.
const MARK_BYTES: u64 = 256 << 10;

/// The name of a segment file: `FIRST-SERIAL.log`. Serial numbers give the order; the first record's number is for people.
pub fn name(first: u64, serial: u64) -> String {
    format!("{first:020}-{serial:010}.log")
}

/// First number and serial number from a segment file's name; `None` if it is none.
pub fn parse_name(name: &str) -> Option<(u64, u64)> {
    let (first, serial) = name.strip_suffix(".log")?.split_once('-')?;
    let digits = |text: &str, len| text.len() == len && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(first, 20) || !digits(serial, 10) {
        return None;
    }
    Some((first.parse().ok()?, serial.parse().ok()?))
}

/// The payload of a segment's first record, which is there twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain {
    /// The segment before this one; 0 for none. Those between are leftovers of failed writes.
    pub before: u64,
    /// Where the segment before this one ends. What stands behind was never counted as appended.
    pub before_end: u64,
    /// Everything that stands in earlier segments from here on is repeated at the beginning of this one.
    pub again: Option<Place>,
    /// Bytes of that.
    pub again_bytes: u64,
}

impl Chain {
    /// Length of what it takes: it is there twice, so that a flip in one costs nothing.
    pub const BYTES: u64 = 2 * (HEADER_LEN + CHAIN_LEN) as u64;

    /// Appends it to `into`, which is empty.
    pub fn push(&self, into: &mut Vec<u8>, serial: u64, first: u64, durable: u64) {
        let again = self.again.unwrap_or(Place { serial: u64::MAX, offset: u64::MAX });
        let fields = [self.before, self.before_end, again.serial, again.offset, self.again_bytes];
        let mut payload = [0; CHAIN_LEN];
        for (chunk, field) in payload.chunks_exact_mut(8).zip(fields) {
            chunk.copy_from_slice(&field.to_le_bytes());
        }
        let header = Header::of(KIND_SEGMENT, first, durable, &payload);
        push_frame(into, Place { serial, offset: 0 }, &header, &payload);
        push_frame(into, Place { serial, offset: into.len() as u64 }, &header, &payload);
    }

    /// Reads it back.
    pub fn parse(payload: &[u8]) -> Option<Chain> {
        let payload: &[u8; CHAIN_LEN] = payload.try_into().ok()?;
        let mut fields = [0; 5];
        for (field, chunk) in fields.iter_mut().zip(payload.as_chunks::<8>().0) {
            *field = u64::from_le_bytes(*chunk);
        }
        let [before, before_end, serial, offset, again_bytes] = fields;
        let again = (serial != u64::MAX).then_some(Place { serial, offset });
        Some(Chain { before, before_end, again, again_bytes })
    }
}

/// What is in a segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// Where it ends. Everything before is written and does not change.
    pub end: u64,
    /// Number of its first and last record; of no meaning without records.
    pub first: u64,
    /// See `first`.
    pub last: u64,
    /// Records, without the log's own.
    pub records: u64,
}

/// A place in a segment that a reader may start at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Number of the record there.
    pub number: u64,
    /// Its offset.
    pub offset: u64,
    /// Records before it in the segment.
    pub records: u64,
}

/// A segment that the log has.
pub struct Segment {
    /// Its place in the order.
    pub serial: u64,
    /// Its file.
    pub path: PathBuf,
    /// Records in the segments before it, those that are gone included.
    pub ordinal: AtomicU64,
    /// Whether the file is gone, or about to be.
    pub removed: AtomicBool,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    extent: Extent,
    /// What is surely on the medium.
    durable: Extent,
    marks: Vec<Mark>,
}

impl Segment {
    /// One without records.
    pub fn new(dir: &Path, first: u64, serial: u64, ordinal: u64) -> Segment {
        let inner = Inner { extent: Extent { first, last: first, ..Extent::default() }, ..Inner::default() };
        let path = dir.join(name(first, serial));
        Segment {
            serial,
            path,
            ordinal: AtomicU64::new(ordinal),
            removed: AtomicBool::new(false),
            inner: Mutex::new(inner),
        }
    }

    /// What is in it.
    pub fn extent(&self) -> Extent {
        self.inner.lock().extent.clone()
    }

    /// Where it ends.
    pub fn end(&self) -> u64 {
        self.inner.lock().extent.end
    }

    /// Notes records of one or several appends that end at `end`: number and offset of each.
    pub fn grow(&self, records: impl IntoIterator<Item = (u64, u64)>, end: u64) {
        let inner = &mut *self.inner.lock();
        for (number, offset) in records {
            if inner.extent.records == 0 {
                inner.extent.first = number;
            }
            if inner.marks.last().is_none_or(|mark| offset >= mark.offset + MARK_BYTES) {
                inner.marks.push(Mark { number, offset, records: inner.extent.records });
            }
            inner.extent.last = number;
            inner.extent.records += 1;
        }
        inner.extent.end = end;
    }

    /// What was there when `extent` was taken is on the medium.
    pub fn set_durable(&self, extent: &Extent) {
        self.inner.lock().durable = extent.clone();
    }

    /// What is surely on the medium.
    pub fn durable(&self) -> Extent {
        self.inner.lock().durable.clone()
    }

    /// What is there up to `end` is on the medium: `records` records, the last of them numbered `last`.
    pub fn set_durable_upto(&self, end: u64, records: u64, last: u64) {
        let inner = &mut *self.inner.lock();
        inner.durable = Extent { end, records, last, first: inner.extent.first };
    }

    /// Takes back what may not be on the medium.
    pub fn cut_to_durable(&self) {
        let inner = &mut *self.inner.lock();
        inner.extent = inner.durable.clone();
        let end = inner.extent.end;
        inner.marks.retain(|mark| mark.offset < end);
    }

    /// The last mark from which on no record up to `after` is needed, if there is one.
    pub fn mark(&self, after: u64) -> Option<Mark> {
        let inner = self.inner.lock();
        // Records of one number may stand on both sides of a mark.
        let behind = inner.marks.partition_point(|mark| mark.number <= after);
        inner.marks[..behind].last().copied()
    }

    /// Whether it is gone.
    pub fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::Header;
    use super::*;

    #[test]
    fn names_and_first_records_read_back() {
        assert_eq!(parse_name(&name(42, 7)), Some((42, 7)));
        assert_eq!(parse_name(&name(u64::MAX, 1)), Some((u64::MAX, 1)));
        for other in ["lock", "1-2.log", "00000000000000000042-0000000007.log.damaged", "-.log", "é-.log"] {
            assert_eq!(parse_name(other), None, "{other}");
        }
        for again in [None, Some(Place { serial: 3, offset: 9 })] {
            let chain = Chain { before: 1, before_end: 2, again, again_bytes: 4 };
            let mut bytes = Vec::new();
            chain.push(&mut bytes, 5, 42, 41);
            let header = Header::decode(&bytes, Place { serial: 5, offset: 0 }).unwrap();
            assert_eq!((header.kind, header.number, header.durable), (KIND_SEGMENT, 42, 41));
            assert_eq!(bytes.len() as u64, Chain::BYTES);
            assert_eq!(Chain::parse(&bytes[HEADER_LEN..HEADER_LEN + CHAIN_LEN]), Some(chain));
        }
        assert_eq!(Chain::parse(b"short"), None);
    }

    #[test]
    fn marks_lead_near_and_a_cut_forgets_what_was_not_durable() {
        let segment = Segment::new(Path::new("/d"), 1, 1, 0);
        segment.grow((1..=8).map(|n| (n, n * 200_000)), 1_800_000);
        let durable = segment.extent();
        segment.set_durable(&durable);
        segment.grow((9..=16).map(|n| (n, n * 200_000)), 3_400_000);
        assert_eq!(segment.mark(0), None);
        assert_eq!(segment.mark(6), Some(Mark { number: 5, offset: 1_000_000, records: 4 }));
        assert_eq!(segment.extent(), Extent { end: 3_400_000, first: 1, last: 16, records: 16 });
        segment.cut_to_durable();
        assert_eq!((segment.extent(), segment.mark(100).unwrap().number), (durable, 7));
    }
}
