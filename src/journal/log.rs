//! The log: numbered records in segment files, appended in groups, synced together, read while they are written.
//!
//! # Promises
//! 1. What [`Log::sync`] said is durable is read again after any crash, once, in order; a damaged byte costs the
//!    record in which it stands, and that is counted and named.
//! 2. An append that failed is not in the log, and may be repeated.
//! 3. A sync that failed is never trusted again: what was not durable is kept in memory (at most
//!    `unsynced_bytes_max`) and written once more, into a new segment.
//! 4. Opening writes no old segment, and no damage keeps it from opening.
//!
//! The one thing that an append that failed can leave is a whole record behind the end of a segment that could not be
//! cut, and only if the process ends before the next append: as with any write that was not acknowledged, it may be there.

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::files::{File, Files};
use super::reader::Reader;
use super::record::{Found, Frames, Header, KIND_SEGMENT, Place};
use super::recovery::{Met, Recovered, Seen, find, survey};
use super::segment::{Chain, Extent, Segment};
use super::writer::{Group, Writer};

/// Settings of a log.
#[derive(Clone, Debug, PartialEq)]
pub struct LogConfig {
    /// Where its segments are; nothing else should be there.
    pub dir: PathBuf,
    /// A segment that is as long is closed and another begun.
    pub segment_bytes: u64,
    /// Size above which [`Log::excess_bytes`] tells that something must go. The log itself deletes nothing unasked.
    pub bytes_max: u64,
    /// Bytes appended and not yet synced; beyond, appends are refused with `WouldBlock`.
    pub unsynced_bytes_max: usize,
    /// Longest payload.
    pub record_bytes_max: u32,
    /// The kind of which there is a record of every number, so that one that is missing is noticed by its number.
    pub every_number_of: Option<u8>,
}

impl Default for LogConfig {
    fn default() -> Self {
        LogConfig {
            dir: PathBuf::from("journal"),
            segment_bytes: 64 << 20,
            bytes_max: 4 << 30,
            unsynced_bytes_max: 64 << 20,
            record_bytes_max: 64 << 20,
            every_number_of: Some(1),
        }
    }
}

/// Why a log can't be opened.
#[derive(Debug)]
pub enum JournalError {
    /// Another process has it.
    Locked(PathBuf),
    /// A newer version of the program has written it.
    Newer {
        /// The segment.
        path: PathBuf,
        /// The format version found.
        version: u8,
    },
    /// The disk refuses.
    Io {
        /// To do what.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl fmt::Display for JournalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JournalError::Locked(dir) => write!(f, "{}: in use by another process", dir.display()),
            JournalError::Newer { path, version } => write!(
                f,
                "{}: expected format version {} or older, found {version}",
                path.display(),
                super::record::VERSION
            ),
            JournalError::Io { what, path, source } => {
                write!(f, "{}: can't {what}: {source}", path.display())
            }
        }
    }
}

impl std::error::Error for JournalError {}

/// A log. Clones are the same log.
#[derive(Clone)]
pub struct Log {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) files: Arc<dyn Files>,
    pub(super) config: LogConfig,
    /// Oldest first. Held only for moments, never during a call to the disk.
    pub(super) segments: Mutex<Vec<Arc<Segment>>>,
    /// Taken before `segments`.
    pub(super) writer: Mutex<Writer>,
    /// One sync at a time; taken before `writer`.
    pub(super) syncing: Mutex<()>,
    /// One release at a time; whether a removed name was not synced yet.
    pub(super) releasing: Mutex<bool>,
    pub(super) appended: AtomicU64,
    pub(super) durable: AtomicU64,
    _lock: Box<dyn Send + Sync>,
}

impl Log {
    /// Opens the log in `config.dir`, a new one if there is none. What an unclean end left unproven is made durable
    /// again; should the disk refuse that, the log is open all the same and the next [`Log::sync`] tries again.
    ///
    /// # Errors
    /// If another process has it, a newer version wrote it, or it can't be read at all.
    pub fn open(files: Arc<dyn Files>, config: LogConfig) -> Result<(Log, Recovered), JournalError> {
        let dir = config.dir.clone();
        let io = |what: &'static str| {
            let path = dir.clone();
            move |source: io::Error| JournalError::Io { what, path, source }
        };
        files.create_dir(&dir).map_err(io("create"))?;
        let lock = files.lock(&dir.join("lock")).map_err(|e| match e.kind() {
            io::ErrorKind::WouldBlock => JournalError::Locked(dir.clone()),
            _ => io("lock")(e),
        })?;
        let mut found = find(files.as_ref(), &dir)?;
        let segments: Vec<Arc<Segment>> =
            found.iter().map(|s| Arc::new(Segment::new(&dir, s.first, s.serial, 0))).collect();
        let mut seen = Seen::default();
        let recovered = survey(files.as_ref(), &config, &mut found, |index, met: Met<'_>| {
            seen.take(&met.header);
            let record = (met.header.number, met.place.offset);
            segments[index].grow([record], met.place.offset + met.header.frame_len());
        })?;
        let mut total = 0;
        for segment in &segments {
            segment.ordinal.store(total, Ordering::Relaxed);
            segment.set_durable(&segment.extent());
            total += segment.extent().records;
        }
        // A leftover without a whole record is not chained to, nor what it is chained to.
        let filled = segments.iter().rfind(|segment| segment.extent().records > 0);
        let before = filled.map_or((0, 0), |segment| (segment.serial, segment.end()));
        let serial_next = found.last().map_or(1, |s| s.serial + 1);
        let log = Log {
            inner: Arc::new(Inner {
                files,
                config,
                segments: Mutex::new(segments),
                writer: Mutex::new(Writer::new(seen, before, serial_next, total)),
                syncing: Mutex::new(()),
                releasing: Mutex::new(false),
                appended: AtomicU64::new(recovered.last),
                durable: AtomicU64::new(recovered.durable),
                _lock: lock,
            }),
        };
        log.prove(recovered)
    }

    /// Makes durable what was whole but not proven to be durable.
    fn prove(self, mut recovered: Recovered) -> Result<(Log, Recovered), JournalError> {
        if recovered.durable < recovered.last {
            self.inner.load_unproven(recovered.durable)?;
            // If it fails now, it is tried again with the next.
            let _ = self.sync();
            recovered.durable = self.durable();
        }
        Ok((self, recovered))
    }

    /// Appends records as a group, in one write: all of them or none. Each is a kind (1 to 63), a number and a
    /// payload. Numbers ascend; records of different kinds may have the same.
    ///
    /// # Errors
    /// `InvalidInput` if a record can't follow, `WouldBlock` if too much waits for a sync, or whatever the disk says.
    /// Nothing was appended then, and the same call may be made again.
    pub fn append(&self, records: &[(u8, u64, &[u8])]) -> io::Result<()> {
        self.inner.append(records)
    }

    /// Makes all durable that was appended before the call; gives the last durable number. Others may append
    /// meanwhile.
    ///
    /// # Errors
    /// Whatever the disk says. Nothing new is durable then; the next call writes it again.
    pub fn sync(&self) -> io::Result<u64> {
        self.inner.sync()
    }

    /// Number of the last record appended; 0 for none.
    pub fn appended(&self) -> u64 {
        self.inner.appended.load(Ordering::Acquire)
    }

    /// Number up to which everything is durable.
    pub fn durable(&self) -> u64 {
        self.inner.durable.load(Ordering::Acquire)
    }

    /// Number of the oldest record.
    pub fn first(&self) -> Option<u64> {
        let segments = self.inner.segments.lock();
        segments.iter().map(|s| s.extent()).find(|e| e.records > 0).map(|e| e.first)
    }

    /// Bytes of all segments.
    pub fn bytes(&self) -> u64 {
        self.inner.segments.lock().iter().map(|s| s.end()).sum()
    }

    /// Bytes above `bytes_max`.
    pub fn excess_bytes(&self) -> u64 {
        self.bytes().saturating_sub(self.inner.config.bytes_max)
    }

    /// Number of segments.
    pub fn segments(&self) -> usize {
        self.inner.segments.lock().len()
    }

    /// The last number of the oldest segment, if that is not the current one: released up to here, the log is a
    /// segment shorter.
    pub fn oldest_segment_end(&self) -> Option<u64> {
        let segments = self.inner.segments.lock();
        let (_, closed) = segments.split_last()?;
        closed.iter().map(|s| s.extent()).find(|e| e.records > 0).map(|e| e.last)
    }

    /// Records and bytes behind the number `after`, give or take what stands in 256 KiB.
    pub fn behind(&self, after: u64) -> (u64, u64) {
        let segments = self.inner.segments.lock().clone();
        let mut behind = (0, 0);
        for segment in segments {
            let Extent { end, last, records, .. } = segment.extent();
            if records > 0 && last > after {
                let mark = segment.mark(after);
                behind.0 += records.saturating_sub(mark.map_or(0, |m| m.records));
                behind.1 += end.saturating_sub(mark.map_or(0, |m| m.offset));
            }
        }
        behind
    }

    /// Reads what comes after the number `after`.
    pub fn reader(&self, after: u64) -> Reader {
        Reader::new(self.inner.clone(), after)
    }

    /// Deletes the oldest segments as long as they hold only durable numbers up to `upto`, never the current one.
    /// Gives the bytes that became free.
    ///
    /// # Errors
    /// Whatever the disk says; what is gone is gone, and the rest may be tried again.
    pub fn release(&self, upto: u64) -> io::Result<u64> {
        self.inner.release(upto)
    }
}

impl Inner {
    /// Takes into memory what was not proven to be durable, to be written again.
    fn load_unproven(&self, durable: u64) -> Result<(), JournalError> {
        let mut unproven = Unproven::default();
        for segment in self.segments.lock().clone() {
            let extent = segment.extent();
            if extent.records == 0 || extent.last <= durable {
                continue;
            }
            let io = |source| JournalError::Io { what: "read", path: segment.path.clone(), source };
            let file = self.files.open(&segment.path).map_err(io)?;
            unproven.load(&segment, file.as_ref(), extent.end, durable).map_err(io)?;
            unproven.touched.push((segment, file));
            if unproven.bytes > self.config.unsynced_bytes_max {
                return self.prove_in_place();
            }
        }
        let Some(mut again) = unproven.first else { return self.prove_in_place() };
        if again.offset <= Chain::BYTES {
            // No record stands between the last proven one and this place: it may be earlier still.
            let segments = self.segments.lock();
            let older = segments.iter().rfind(|s| s.serial < again.serial && s.extent().records > 0);
            again = older.map_or_else(Place::default, |s| Place { serial: s.serial, offset: s.end() });
        }
        let mut group = Group::default();
        // There may be two ragged copies of the same stretch.
        unproven.records.sort_by_key(|(header, _)| header.number);
        for (header, payload) in &unproven.records {
            group.push(header, payload);
        }
        self.writer.lock().distrust_loaded(group, again, unproven.touched);
        Ok(())
    }

    /// There is more than is held in memory: what the files have must do.
    fn prove_in_place(&self) -> Result<(), JournalError> {
        for segment in self.segments.lock().clone() {
            let io = |source| JournalError::Io { what: "sync", path: segment.path.clone(), source };
            if segment.extent().records > 0 {
                self.files.open(&segment.path).and_then(|file| file.sync_data()).map_err(io)?;
            }
            segment.set_durable(&segment.extent());
        }
        let io = |source| JournalError::Io { what: "sync", path: self.config.dir.clone(), source };
        self.files.sync_dir(&self.config.dir).map_err(io)?;
        self.durable.store(self.appended.load(Ordering::Acquire), Ordering::Release);
        Ok(())
    }
}

/// Records that were not proven to be durable.
#[derive(Default)]
struct Unproven {
    records: Vec<(Header, Vec<u8>)>,
    known: HashSet<(u64, u8)>,
    bytes: usize,
    /// Where the last proven record before the first of them ends.
    first: Option<Place>,
    touched: Vec<Touched>,
}

impl Unproven {
    /// Loads those of `segment`; the others of it are proven.
    fn load(&mut self, segment: &Segment, file: &dyn File, end: u64, durable: u64) -> io::Result<()> {
        let mut frames = Frames::new(Place { serial: segment.serial, offset: 0 }, 1 << 20, u32::MAX);
        let (mut proven, mut proven_end, mut cut) = (0, 0, false);
        loop {
            let Place { serial, offset } = frames.place();
            let Some(found) = frames.next(file, end)? else { return Ok(()) };
            let Found::Whole(header, payload) = found else { continue };
            if header.kind == KIND_SEGMENT || header.number <= durable {
                proven += u64::from(header.kind != KIND_SEGMENT);
                proven_end = offset + header.frame_len();
                continue;
            }
            if !cut {
                segment.set_durable_upto(proven_end, proven, durable);
                self.first.get_or_insert(Place { serial, offset: proven_end });
                cut = true;
            }
            if self.known.insert((header.number, header.kind)) {
                self.bytes += payload.len();
                self.records.push((header, payload.to_vec()));
            }
        }
    }
}

/// A segment with its open file.
pub(super) type Touched = (Arc<Segment>, Arc<dyn File>);
