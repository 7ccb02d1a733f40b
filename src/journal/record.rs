//! Framing of a record, and reading frames in sequence past whatever is damaged.
//!
//! A frame is a header of [`HEADER_LEN`] bytes and the payload; integers are little-endian:
//!
//! | bytes | what |
//! |---|---|
//! | 0..4 | magic |
//! | 4 | format version |
//! | 5 | kind; 0 is the log's own |
//! | 6..8 | zero |
//! | 8..12 | length of the payload |
//! | 12..16 | CRC32C of the payload |
//! | 16..24 | number |
//! | 24..32 | number up to which everything was durable when this was written |
//! | 32..36 | CRC32C of the segment's serial number, the header's offset, and bytes 0..32 |
//!
//! The header's CRC knows where the header stands, so neither old content of a disk block nor a payload that looks
//! like a frame is taken for one.

use std::io;
use std::ops::Range;

use super::files::File;

/// Length of a header.
pub const HEADER_LEN: usize = 36;
/// The version written.
pub const VERSION: u8 = 1;
/// The kind of the log's own records.
pub const KIND_SEGMENT: u8 = 0;

const MAGIC: [u8; 4] = [0xf3, b'J', b'r', 0xa6];

/// Where a header stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Serial number of the segment.
    pub serial: u64,
    /// Offset in it.
    pub offset: u64,
}

/// A header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Format version.
    pub version: u8,
    /// Kind of record.
    pub kind: u8,
    /// Length of the payload.
    pub length: u32,
    /// CRC32C of the payload.
    pub payload_crc: u32,
    /// Its number.
    pub number: u64,
    /// Number up to which everything was durable when it was written.
    pub durable: u64,
}

impl Header {
    /// The header of a payload.
    pub fn of(kind: u8, number: u64, durable: u64, payload: &[u8]) -> Header {
        let payload_crc = crc32c::crc32c(payload);
        // Longer payloads are refused before they come here.
        Header { version: VERSION, kind, length: payload.len() as u32, payload_crc, number, durable }
    }

    /// Its bytes at `place`.
    pub fn encode(&self, place: Place) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = self.version;
        bytes[5] = self.kind;
        bytes[8..12].copy_from_slice(&self.length.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.payload_crc.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.number.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.durable.to_le_bytes());
        let crc = header_crc(&bytes, place);
        bytes[32..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The header at `place`; `None` if that is none.
    pub fn decode(bytes: &[u8], place: Place) -> Option<Header> {
        let bytes: &[u8; HEADER_LEN] = bytes.first_chunk()?;
        if bytes[..4] != MAGIC || u32_at(bytes, 32) != header_crc(bytes, place) {
            return None;
        }
        Some(Header {
            version: bytes[4],
            kind: bytes[5],
            length: u32_at(bytes, 8),
            payload_crc: u32_at(bytes, 12),
            number: u64_at(bytes, 16),
            durable: u64_at(bytes, 24),
        })
    }

    /// Length of the whole frame.
    pub fn frame_len(&self) -> u64 {
        HEADER_LEN as u64 + u64::from(self.length)
    }
}

fn header_crc(bytes: &[u8; HEADER_LEN], place: Place) -> u32 {
    let mut seeded = [0; 48];
    seeded[..8].copy_from_slice(&place.serial.to_le_bytes());
    seeded[8..16].copy_from_slice(&place.offset.to_le_bytes());
    seeded[16..].copy_from_slice(&bytes[..32]);
    crc32c::crc32c(&seeded)
}

fn u32_at(bytes: &[u8; HEADER_LEN], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8; HEADER_LEN], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

/// Appends a frame that will stand at `place`.
pub fn push_frame(into: &mut Vec<u8>, place: Place, header: &Header, payload: &[u8]) {
    into.extend_from_slice(&header.encode(place));
    into.extend_from_slice(payload);
}

/// Gives the frames in `bytes` the place that they will have: the first stands at `place`. `bytes` are frames that
/// this process made.
pub fn move_frames(bytes: &mut [u8], from: Place, to: Place) {
    let mut at = 0;
    while at < bytes.len() {
        let ahead = |place: Place| Place { serial: place.serial, offset: place.offset + at as u64 };
        let Some(header) = Header::decode(&bytes[at..], ahead(from)) else { return };
        bytes[at..at + HEADER_LEN].copy_from_slice(&header.encode(ahead(to)));
        at += header.frame_len() as usize;
    }
}

/// What stands at a place of a segment.
#[derive(Debug)]
pub enum Found<'a> {
    /// A whole record.
    Whole(Header, &'a [u8]),
    /// No record; the next one, if there is one, stands at the end of the range.
    Bad {
        /// The bytes that are no record.
        bytes: Range<u64>,
        /// The header of the first record in it, where it can be read.
        header: Option<Header>,
    },
}

/// Reads the frames of a segment in sequence.
pub struct Frames {
    /// Where the next frame stands.
    place: Place,
    /// Bytes of the file from `start` on.
    buffer: Vec<u8>,
    start: u64,
    read_ahead: usize,
    payload_max: u32,
}

impl Frames {
    /// Reads from `place` on, `read_ahead` bytes at a time; a payload longer than `payload_max` is none.
    pub fn new(place: Place, read_ahead: usize, payload_max: u32) -> Frames {
        Frames { place, buffer: Vec::new(), start: place.offset, read_ahead, payload_max }
    }

    /// Where the next frame stands.
    pub fn place(&self) -> Place {
        self.place
    }

    /// Goes on at another place.
    pub fn seek(&mut self, place: Place) {
        if place.serial != self.place.serial {
            self.buffer.clear();
        }
        self.place = place;
    }

    /// The header of the next frame, if it is one that fits before `end`, without moving on.
    pub fn peek(&mut self, file: &dyn File, end: u64) -> io::Result<Option<Header>> {
        let Place { serial, offset } = self.place;
        if offset + HEADER_LEN as u64 > end || !self.fill(file, HEADER_LEN, end)? {
            return Ok(None);
        }
        let header = Header::decode(self.ahead(), Place { serial, offset });
        Ok(header.filter(|h| h.length <= self.payload_max && offset + h.frame_len() <= end))
    }

    /// Steps over the frame that `peek` gave.
    pub fn skip(&mut self, header: &Header) {
        self.place.offset += header.frame_len();
    }

    /// What stands before `end`, of which everything is written already; `None` at the end.
    pub fn next(&mut self, file: &dyn File, end: u64) -> io::Result<Option<Found<'_>>> {
        let from = self.place.offset;
        if from >= end {
            return Ok(None);
        }
        let mut seen = None;
        if let Some(header) = self.peek(file, end)? {
            let len = header.frame_len() as usize;
            if self.fill(file, len, end)? && self.payload_is_whole(&header) {
                self.place.offset += len as u64;
                let at = (from - self.start) as usize;
                return Ok(Some(Found::Whole(header, &self.buffer[at + HEADER_LEN..at + len])));
            }
            seen = Some(header);
        } else if from + HEADER_LEN as u64 <= end && self.fill(file, HEADER_LEN, end)? {
            // It may be whole but longer than the segment.
            seen = Header::decode(self.ahead(), self.place);
        }
        match self.resume(file, end) {
            Ok(()) => Ok(Some(Found::Bad { bytes: from..self.place.offset, header: seen })),
            Err(e) => {
                self.place.offset = from;
                Err(e)
            }
        }
    }

    /// The payload of the frame that `next` just gave.
    pub fn payload(&self, header: &Header) -> &[u8] {
        let end = (self.place.offset - self.start) as usize;
        &self.buffer[end - header.length as usize..end]
    }

    fn payload_is_whole(&self, header: &Header) -> bool {
        let payload = &self.ahead()[HEADER_LEN..header.frame_len() as usize];
        crc32c::crc32c(payload) == header.payload_crc
    }

    /// What is in memory from the next frame on.
    fn ahead(&self) -> &[u8] {
        let at = self.place.offset.checked_sub(self.start).map(|at| at as usize);
        at.and_then(|at| self.buffer.get(at..)).unwrap_or_default()
    }

    /// Moves to the next place behind this one where a header stands, or to `end`.
    fn resume(&mut self, file: &dyn File, end: u64) -> io::Result<()> {
        self.place.offset += 1;
        loop {
            if self.place.offset + HEADER_LEN as u64 > end || !self.fill(file, HEADER_LEN, end)? {
                self.place.offset = end;
                return Ok(());
            }
            let ahead = self.ahead();
            let candidates = ahead.len() - HEADER_LEN + 1;
            let Some(at) = ahead[..candidates].iter().position(|byte| *byte == MAGIC[0]) else {
                self.place.offset += candidates as u64;
                continue;
            };
            let place = Place { offset: self.place.offset + at as u64, ..self.place };
            let header = Header::decode(&ahead[at..], place);
            self.place = place;
            if header.is_some_and(|h| h.length <= self.payload_max && place.offset + h.frame_len() <= end) {
                return Ok(());
            }
            self.place.offset += 1;
        }
    }

    /// Sees to it that at least `need` bytes from the next frame on are in memory; false if the file ends before.
    fn fill(&mut self, file: &dyn File, need: usize, end: u64) -> io::Result<bool> {
        if self.ahead().len() >= need {
            return Ok(true);
        }
        let offset = self.place.offset;
        let held = self.ahead().len();
        let at = self.buffer.len() - held;
        self.buffer.drain(..at);
        self.start = offset;
        if self.buffer.capacity() > self.read_ahead.max(need) * 4 {
            // A giant has passed.
            self.buffer.shrink_to(self.read_ahead.max(need));
        }
        // Never past `end`: what stands there may still change.
        let wanted = self.read_ahead.max(need).min(usize::try_from(end - offset).unwrap_or(usize::MAX));
        self.buffer.resize(wanted.max(held), 0);
        let got = match file.read_at(offset + held as u64, &mut self.buffer[held..]) {
            Ok(got) => got,
            Err(e) => {
                self.buffer.truncate(held);
                return Err(e);
            }
        };
        self.buffer.truncate(held + got);
        Ok(self.buffer.len() >= need)
    }
}

#[cfg(test)]
mod tests {
    use super::super::files::{Files, MemoryFiles};
    use super::*;
    use std::path::Path;

    const SERIAL: u64 = 3;

    fn segment(payloads: &[&[u8]]) -> (Vec<u8>, Vec<u64>) {
        let (mut bytes, mut starts) = (Vec::new(), Vec::new());
        for (i, payload) in payloads.iter().enumerate() {
            starts.push(bytes.len() as u64);
            let place = Place { serial: SERIAL, offset: bytes.len() as u64 };
            push_frame(&mut bytes, place, &Header::of(1, i as u64 + 1, 0, payload), payload);
        }
        (bytes, starts)
    }

    /// Numbers of whole records, ranges of bad bytes.
    fn read(bytes: &[u8], read_ahead: usize) -> (Vec<u64>, Vec<Range<u64>>) {
        let file = MemoryFiles::default().create(Path::new("f")).unwrap();
        file.write_at(0, bytes).unwrap();
        let mut frames = Frames::new(Place { serial: SERIAL, offset: 0 }, read_ahead, 1 << 20);
        let (mut whole, mut bad) = (Vec::new(), Vec::new());
        while let Some(found) = frames.next(file.as_ref(), bytes.len() as u64).unwrap() {
            match found {
                Found::Whole(header, payload) => {
                    assert_eq!(header.length as usize, payload.len());
                    whole.push(header.number);
                }
                Found::Bad { bytes, .. } => bad.push(bytes),
            }
        }
        (whole, bad)
    }

    #[test]
    fn any_single_flip_costs_one_record() {
        let (bytes, starts) = segment(&[b"first", b"", &[7; 100], b"last"]);
        assert_eq!(read(&bytes, 16), (vec![1, 2, 3, 4], vec![]));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let hit = starts.iter().rposition(|start| *start <= bit as u64 / 8).unwrap();
            let end = starts.get(hit + 1).copied().unwrap_or(bytes.len() as u64);
            let rest: Vec<u64> = (1..5).filter(|n| *n != hit as u64 + 1).collect();
            let lost = starts[hit]..end;
            assert_eq!(read(&flipped, 50), (rest, vec![lost]), "bit {bit}");
        }
    }

    #[test]
    fn a_cut_costs_what_is_behind_it() {
        let (bytes, starts) = segment(&[b"first", b"", &[7; 100], b"last"]);
        for cut in 0..bytes.len() {
            let whole = starts.iter().skip(1).filter(|start| **start <= cut as u64).count();
            let (numbers, bad) = read(&bytes[..cut], 4096);
            assert_eq!(numbers, (1..=whole as u64).collect::<Vec<_>>(), "cut at {cut}");
            assert_eq!(bad.len(), usize::from(!starts.contains(&(cut as u64))), "cut at {cut}");
        }
    }

    #[test]
    fn a_frame_at_another_place_is_none() {
        let (inner, _) = segment(&[b"inner"]);
        let (mut bytes, _) = segment(&[&inner, b"last"]);
        bytes[20] ^= 1;
        assert_eq!(read(&bytes, 4096).0, [2], "the frame inside of the damaged one is not read");
        let moved = [&bytes[..8], &bytes[..]].concat();
        assert_eq!(read(&moved, 4096).0, [0; 0]);
    }

    #[test]
    fn frames_can_be_given_another_place() {
        let (mut bytes, _) = segment(&[b"first", b"", b"last"]);
        let from = Place { serial: SERIAL, offset: 0 };
        let to = Place { serial: 9, offset: 77 };
        move_frames(&mut bytes, from, to);
        assert_eq!(Header::decode(&bytes, to).unwrap().number, 1);
        move_frames(&mut bytes, to, from);
        assert_eq!(read(&bytes, 64).0, [1, 2, 3]);
    }

    #[test]
    fn an_absurd_length_takes_no_memory() {
        let place = Place { serial: SERIAL, offset: 0 };
        let mut header = Header::of(1, 1, 0, b"abc");
        header.length = u32::MAX;
        let mut bytes = header.encode(place).to_vec();
        bytes.extend_from_slice(b"abc");
        let (whole, bad) = read(&bytes, 16);
        assert_eq!((whole.len(), bad.len()), (0, 1));
    }
}
