//! The reading side of the log: records in order, while the log is written and its oldest segments are deleted.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::files::File;
use super::log::Inner;
use super::record::{Found, Frames, Header, KIND_SEGMENT, Place};
use super::recovery::Seen;
use super::segment::Segment;

/// Bytes read at once, and held as long as records are shorter.
const READ_AHEAD: usize = 256 << 10;

/// A record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its kind.
    pub kind: u8,
    /// Its number.
    pub number: u64,
    /// Its payload.
    pub payload: &'a [u8],
}

/// Reads a log from a number on. Holds a quarter of a megabyte and an open file, more only while a record is longer.
pub struct Reader {
    log: Arc<Inner>,
    at: Option<At>,
    frames: Frames,
    seen: Seen,
    missed: u64,
    damaged: u64,
}

/// Where it reads.
struct At {
    segment: Arc<Segment>,
    file: Arc<dyn File>,
    /// Where what is surely written ends, as far as was asked.
    end: u64,
    /// Records read or skipped in the segment.
    records: u64,
}

impl Reader {
    pub(super) fn new(log: Arc<Inner>, after: u64) -> Reader {
        let frames = Frames::new(Place { serial: 0, offset: 0 }, READ_AHEAD, log.config.record_bytes_max);
        Reader { log, at: None, frames, seen: Seen::upto(after), missed: 0, damaged: 0 }
    }

    /// The next record with a number up to `upto`, which should not be above [`super::log::Log::appended`]; `None`
    /// if there is none yet. Waits for nothing but the disk.
    ///
    /// # Errors
    /// The segment can't be read now; to be tried again.
    pub fn next(&mut self, upto: u64) -> io::Result<Option<Record<'_>>> {
        let Some(header) = self.advance(upto)? else { return Ok(None) };
        let payload = self.frames.payload(&header);
        Ok(Some(Record { kind: header.kind, number: header.number, payload }))
    }

    /// Numbers missing between the records read so far, of the kind that has every number; in a log without one, the
    /// records lost with segments that were deleted before they were read, and damaged places.
    pub fn missed(&self) -> u64 {
        self.missed
    }

    /// Damaged places met so far.
    pub fn damaged(&self) -> u64 {
        self.damaged
    }

    /// Number of the last record read.
    pub fn position(&self) -> u64 {
        self.seen.last
    }

    fn advance(&mut self, upto: u64) -> io::Result<Option<Header>> {
        loop {
            if !self.stand()? {
                return Ok(None);
            }
            let Some(At { file, end, records, .. }) = &mut self.at else { return Ok(None) };
            if let Some(header) = self.frames.peek(file.as_ref(), *end)? {
                if header.kind == KIND_SEGMENT {
                    self.frames.skip(&header);
                    continue;
                }
                if !self.seen.admits(header.kind, header.number) {
                    *records += 1;
                    self.frames.skip(&header);
                    continue;
                }
                if header.number > upto {
                    return Ok(None);
                }
            }
            match self.frames.next(file.as_ref(), *end)? {
                Some(Found::Whole(header, _)) => {
                    *records += 1;
                    self.count(&header);
                    return Ok(Some(header));
                }
                Some(Found::Bad { .. }) => {
                    self.damaged += 1;
                    if self.log.config.every_number_of.is_none() {
                        self.missed += 1;
                    }
                }
                None => {}
            }
        }
    }

    fn count(&mut self, header: &Header) {
        self.seen.note(header.kind, header.number);
        if self.log.config.every_number_of == Some(header.kind)
            && let Some(gap) = self.seen.gap(header.number)
        {
            self.missed += gap.end() - gap.start() + 1;
        }
    }

    /// Sees to it that there is something to read where it stands; false if there is nothing more yet.
    fn stand(&mut self) -> io::Result<bool> {
        loop {
            let Some(at) = &mut self.at else {
                let Some((segment, offset, records)) = self.start() else { return Ok(false) };
                self.enter(segment, offset, records)?;
                continue;
            };
            if !at.segment.is_removed() {
                if self.frames.place().offset < at.end {
                    return Ok(true);
                }
                let next = self.log.after(at.segment.serial);
                // Asked in this order: a segment with another behind it grows no more.
                at.end = at.segment.end();
                if self.frames.place().offset < at.end {
                    return Ok(true);
                }
                let Some(next) = next else { return Ok(false) };
                self.enter(next, 0, 0)?;
                continue;
            }
            let Some(next) = self.log.after(at.segment.serial) else {
                self.at = None;
                return Ok(false);
            };
            let read = at.segment.ordinal.load(Ordering::Relaxed) + at.records;
            if self.log.config.every_number_of.is_none() {
                self.missed += next.ordinal.load(Ordering::Relaxed).saturating_sub(read);
            }
            self.enter(next, 0, 0)?;
        }
    }

    /// The segment to start with, and where in it.
    fn start(&self) -> Option<(Arc<Segment>, u64, u64)> {
        let segments = self.log.segments.lock();
        // A record of another kind may have the number of the last one.
        let after = self.seen.last - u64::from(self.seen.kinds != u64::MAX && self.seen.last > 0);
        let mut there = segments.iter().filter(|segment| !segment.is_removed());
        let with_more = there.find(|segment| {
            let extent = segment.extent();
            extent.records > 0 && extent.last > after
        });
        let segment = with_more.or(segments.last().filter(|last| !last.is_removed()))?;
        let mark = segment.mark(after).map_or((0, 0), |mark| (mark.offset, mark.records));
        Some((segment.clone(), mark.0, mark.1))
    }

    fn enter(&mut self, segment: Arc<Segment>, offset: u64, records: u64) -> io::Result<()> {
        match self.log.files.open(&segment.path) {
            Ok(file) => {
                self.frames.seek(Place { serial: segment.serial, offset });
                self.at = Some(At { end: segment.end(), segment, file, records });
                Ok(())
            }
            // It was deleted just now, by the log or by somebody else.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                segment.removed.store(true, Ordering::Release);
                Ok(())
            }
            Err(e) => Err(e),
        }
    }
}

impl Inner {
    /// The segment behind `serial`.
    fn after(&self, serial: u64) -> Option<Arc<Segment>> {
        let segments = self.segments.lock();
        let behind = segments.partition_point(|segment| segment.serial <= serial);
        segments[behind..].iter().find(|segment| !segment.is_removed()).cloned()
    }
}
