//! `storage.type: file`: samples in files below one directory, as JSON lines, CSV or parquet.
//!
//! **Files** follow each other in the order of *arrival*; their names (see `name`) sort that way.
//! One is ended when the UTC day or hour of arrival ends (`rotation`) or at `file_bytes_max`. Rows
//! of any event time may be in any file: a straggler never opens an old file again. Queries by event
//! time stay cheap because of *blocks* (see `catalog`): stretches of about a megabyte whose first and
//! last event time are known.
//!
//! **Text** (`json`, `csv`) is appended; with `compression` each flush is a gzip member of its own.
//! **Parquet** cannot grow: each flush makes one file, and small ones are merged (see `tidy`).
//!
//! **A failure** (disk full, I/O error) costs nothing: rows are held in memory until they are synced,
//! so that a failed write is repeated with the same bytes at the same place.
//!
//! **A crash** neither loses nor doubles a row, where there is a journal to read it from again.
//! [`Sink::flush`] ends with replacing one small hidden file (see `cursor`) that holds the journal
//! position and how far each file belongs to it; [`Sink::cursor`] says that position, and a start takes
//! away what lies behind it, since the journal gives it again (see `store`, `recover`). The position
//! stands in no data file, so any reader takes these as they are. A new file has a hidden `.part`
//! name until a flush covers it; nothing under its own name is ever deleted but by merging and
//! retention.
//!
//! - If the cursor is lost or damaged, or the journal is another one, nothing is taken away and
//!   positions start over: what a journal still holds may be stored twice, but nothing is lost.
//!   (`lost_cursors` counts the first two; a journal that is new brings nothing twice.)
//! - A cursor ahead of its journal (whose end was lost, with `durability: os`) is the caller's to see:
//!   it calls `flush` with the journal's end, which may go backwards, before it writes.
//! - Without a journal no position is kept, and what was flushed is what survives.
//! - A file that is edited or cut by hand while the service is down is left as it is, and counted too.
//!
//! # Layout
//! - `config`, `pending`: settings; what was taken and not yet synced
//! - `time`, `newest`: times as text; the answer of a query while it is collected
//! - `text`, `json`, `csv`: the text formats and gzip members
//! - `parquet`: tables and row groups
//! - `name`, `catalog`: file names; files and blocks
//! - `disk`: changes to the directory
//! - `store`, `cursor`: from memory into the files; the position beside them
//! - `recover`, `whole`: the start
//! - `tidy`: merging and retention
//! - `read`: queries; `stored`: whole files, for others

mod catalog;
mod config;
mod csv;
mod cursor;
mod disk;
mod json;
mod name;
mod newest;
mod parquet;
mod pending;
mod read;
mod recover;
mod store;
mod stored;
#[cfg(test)]
mod tests;
mod text;
mod tidy;
mod time;
mod whole;

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

use operators::sample::TimeNs;
use parking_lot::Mutex;

use self::catalog::FileEntry;
pub use self::config::{FileConfig, FileFormat, Rotation};
use self::cursor::Cursor;
use self::disk::{Disk, RealDisk};
use self::pending::Pending;
use self::read::{Directory, FileReader};
pub use self::stored::read_stored;
use self::text::Scratch;
use super::{Position, Reader, Sink, SinkError, SinkStatus, bytes_text};
use crate::file_lock;
use crate::message::Message;

/// Arrival time, nanoseconds since the epoch: what decides rotation and retention.
pub type Clock = Arc<dyn Fn() -> TimeNs + Send + Sync>;

/// The sink.
pub struct FileSink {
    config: FileConfig,
    clock: Clock,
    disk: Arc<dyn Disk>,
    directory: Arc<Directory>,
    /// Number of the text file being written.
    current: Option<u64>,
    /// Number of the next file.
    next: u64,
    /// The period being written; `None` until the first turn.
    period: Option<i64>,
    pending: Pending,
    scratch: Scratch,
    /// The position last kept; `None` without a journal, and until the first row of a new one.
    cursor: Option<Cursor>,
    /// Rows were stored that no position covers yet.
    uncovered: bool,
    /// Names of data files were made or changed since the directory was synced.
    names_unsynced: bool,
    /// Numbers of text files that were ended and get their index with the next flush.
    ended: Vec<u64>,
    /// A period ended, and what is left of it is merged with the next flush.
    past_unmerged: bool,
    limits: Limits,
    /// Files with lower numbers are not merged: one of them could not be read.
    merge_from: u64,
    wrong: Option<String>,
    refused: u64,
    expired_files: u64,
    repaired_bytes: u64,
    unreadable_files: u64,
    lost_cursors: u64,
    /// Held as long as the sink lives, so that no second process writes here.
    _lock: File,
}

/// Sizes that tests make smaller.
struct Limits {
    /// So much text is held before it is written without waiting for a flush, bytes.
    pending_bytes: usize,
    /// So many parquet rows are held.
    pending_rows: usize,
    /// So many neighbours of one size are merged.
    fan_in: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { pending_bytes: 8 << 20, pending_rows: parquet::ROW_GROUP_ROWS, fan_in: tidy::FAN_IN }
    }
}

impl FileSink {
    /// Opens the directory, puts right what a crash left, and goes on with its newest file.
    pub fn open(config: FileConfig) -> Result<Self, SinkError> {
        let now =
            || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as TimeNs);
        Self::open_at(config, Arc::new(now))
    }

    /// The same with a clock of one's own.
    pub fn open_at(config: FileConfig, clock: Clock) -> Result<Self, SinkError> {
        Self::open_on(config, clock, Arc::new(RealDisk { sync: true }))
    }

    fn open_on(config: FileConfig, clock: Clock, disk: Arc<dyn Disk>) -> Result<Self, SinkError> {
        let path = config.path.clone();
        let wrong =
            |error: io::Error| SinkError::unusable(format!("storage.path: {}: {error}", path.display()));
        disk.make_dir(&path).map_err(wrong)?;
        let lock = lock(&path)?;
        let found = recover::open(&path, &*disk, config.journal_id).map_err(wrong)?;
        let now_ns = clock();
        let goes_on = |file: &&FileEntry| {
            file.name.format == config.format
                && file.name.gzip == config.compression
                && config.rotation.period(file.name.begun_ns) == config.rotation.period(now_ns)
                && file.bytes < config.file_bytes_max
                && text::of(config.format).is_some()
                // What the cursor does not give the length of is not cut at a start, and must not grow.
                && found.cursor.as_ref().is_none_or(|cursor| {
                    cursor.extent(&file.name).is_some_and(|extent| extent.len == file.bytes)
                })
        };
        let current = found.catalog.files.last().filter(goes_on).map(|file| file.name.first);
        let directory = Directory { path, catalog: Mutex::new(found.catalog), corrupted: AtomicU64::new(0) };
        let mut sink = FileSink {
            pending: Pending::of(config.format),
            config,
            clock,
            disk,
            directory: Arc::new(directory),
            current,
            next: found.next,
            period: None,
            scratch: Scratch::default(),
            cursor: found.cursor,
            uncovered: false,
            names_unsynced: false,
            ended: Vec::new(),
            past_unmerged: true,
            limits: Limits::default(),
            merge_from: 0,
            wrong: None,
            refused: 0,
            expired_files: 0,
            repaired_bytes: found.repaired_bytes,
            unreadable_files: found.unreadable,
            lost_cursors: found.lost_cursor.into(),
            _lock: lock,
        };
        sink.expire(now_ns);
        Ok(sink)
    }

    fn now_ns(&self) -> TimeNs {
        (self.clock)()
    }

    /// Ends the file when its period is over.
    fn turn(&mut self, now_ns: TimeNs) -> Result<(), SinkError> {
        let period = self.config.rotation.period(now_ns);
        if self.period == Some(period) {
            return Ok(());
        }
        self.store()?;
        if self.period.replace(period).is_some() {
            self.end_file();
        }
        self.past_unmerged = true;
        Ok(())
    }

    /// Merges, and writes indexes; never fails.
    fn tidy(&mut self) {
        self.index_files();
        if std::mem::take(&mut self.past_unmerged) {
            self.merge_past();
        }
        self.merge_level();
    }
}

impl Sink for FileSink {
    fn write(&mut self, messages: &[Message]) -> Result<(), SinkError> {
        let now_ns = self.now_ns();
        self.turn(now_ns)?;
        if self.pending.is_full(&self.limits) {
            self.store()?;
        }
        for message in messages {
            let finite = message.metrics.iter().filter(|(_, value)| value.is_finite()).count();
            self.refused += (message.metrics.len() - finite) as u64;
            match finite {
                0 => {}
                _ if finite == message.metrics.len() => self.pending.push(message, &mut self.scratch, now_ns),
                _ => {
                    let mut message = message.clone();
                    message.metrics.retain(|(_, value)| value.is_finite());
                    self.pending.push(&message, &mut self.scratch, now_ns);
                }
            }
        }
        Ok(())
    }

    /// `upto` may be lower than before: a caller whose journal ends before [`Sink::cursor`] says so
    /// with it, before it writes.
    fn flush(&mut self, upto: Position) -> Result<(), SinkError> {
        let now_ns = self.now_ns();
        let stored = self.turn(now_ns).and_then(|()| self.store()).and_then(|()| self.cover(upto));
        // Also on a full disk, where it makes room.
        self.expire(now_ns);
        stored?;
        self.tidy();
        Ok(())
    }

    /// 0 where nothing of the journal was stored here yet; `None` without a journal.
    fn cursor(&self) -> Option<Position> {
        self.config.journal_id?;
        Some(self.cursor.as_ref().map_or(0, |cursor| cursor.upto))
    }

    fn status(&self) -> SinkStatus {
        let mut status = SinkStatus::connected("file");
        if let Some(why) = &self.wrong {
            status.error(why);
        }
        let catalog = self.directory.catalog.lock();
        status.database = Some(self.directory.path.display().to_string());
        status.retention = self.config.retention_ns;
        status.disk_usage_bytes = catalog.bytes();
        status.disk_usage = bytes_text(status.disk_usage_bytes);
        status.files = catalog.files.len() as u64;
        status.failed = self.refused;
        status.expired_files = self.expired_files;
        status.corrupted_rows = self.directory.corrupted.load(Relaxed);
        status.repaired_bytes = self.repaired_bytes;
        status.unreadable_files = self.unreadable_files;
        status.lost_cursors = self.lost_cursors;
        status
    }

    fn reader(&self) -> Option<Arc<dyn Reader>> {
        Some(Arc::new(FileReader { directory: self.directory.clone() }))
    }
}

impl Drop for FileSink {
    fn drop(&mut self) {
        // With a journal, what no flush has covered comes again.
        if self.config.journal_id.is_none() {
            if let Err(error) = self.store() {
                tracing::warn!(%error, "samples taken last could not be stored");
            }
            self.uncovered = false;
        }
        if let Some(number) = self.current
            && !self.uncovered
        {
            self.index_file(number);
        }
    }
}

/// Takes the directory for this process.
fn lock(path: &Path) -> Result<File, SinkError> {
    let wrong = |why: String| SinkError::unusable(format!("storage.path: {}: {why}", path.display()));
    let file = File::create(path.join(".lock")).map_err(|error| wrong(error.to_string()))?;
    match file_lock::lock(&file) {
        Ok(()) => Ok(file),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(wrong("another process is writing there".into()))
        }
        Err(error) => Err(wrong(error.to_string())),
    }
}
