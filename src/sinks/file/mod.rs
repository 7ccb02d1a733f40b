//! `storage.type: file`: samples in files below one directory, as JSON lines, CSV or parquet.
//!
//! **Files** follow each other in the order of *arrival*; their names (see `name`) sort that way.
//! One is ended when the UTC day or hour of arrival ends (`rotation`) or at `file_bytes_max`. Rows
//! of any event time may be in any file: a straggler never opens an old file again. Queries by event
//! time stay cheap because of *blocks* (see `catalog`): stretches of about a megabyte whose first and
//! last event time are known.
//!
//! **Text** (`json`, `csv`) is appended; with `compression` each flush is a gzip member of its own.
//! **Parquet** cannot grow: each flush makes one file, under another name until it is complete, and
//! small ones are merged (see `tidy`).
//!
//! **A crash** costs what was not flushed and nothing else. [`Sink::flush`] returns after the bytes and
//! the names are synced; until then the rows are held in memory, so that a failed write (disk full,
//! I/O error) is repeated with the same bytes at the same place and leaves neither a gap nor a
//! duplicate. A start cuts what is torn (see `recover`). Readers only ever look at what was synced.
//! A journal position that a flush covers has its place with the flush: in the file's index, and in
//! a parquet file's key-value metadata.
//!
//! # Layout
//! - `config`, `pending`: settings; what was taken and not yet synced
//! - `time`, `newest`: times as text; the answer of a query while it is collected
//! - `text`, `json`, `csv`: the text formats and gzip members
//! - `parquet`: tables and row groups
//! - `name`, `catalog`: file names; files and blocks
//! - `disk`, `recover`: changes to the directory; the start
//! - `tidy`: merging and retention
//! - `read`: queries

mod catalog;
mod config;
mod csv;
mod disk;
mod json;
mod name;
mod newest;
mod parquet;
mod pending;
mod read;
mod recover;
#[cfg(test)]
mod tests;
mod text;
mod tidy;
mod time;

use std::borrow::Cow;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

use operators::sample::TimeNs;
use parking_lot::Mutex;

use self::catalog::{Block, FileEntry, save_index};
pub use self::config::{FileConfig, FileFormat, Rotation};
use self::disk::{Disk, RealDisk};
use self::name::FileName;
use self::parquet::Table;
use self::pending::{Pending, PendingRows};
use self::read::{Directory, FileReader};
use self::text::{Scratch, TextFormat};
use super::{Position, Reader, Sink, SinkError, SinkStatus, bytes_text};
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
    /// Files with lower numbers are not merged: one of them could not be read.
    merge_from: u64,
    wrong: Option<String>,
    refused: u64,
    expired_files: u64,
    repaired_bytes: u64,
    unreadable_files: u64,
    /// Held as long as the sink lives, so that no second process writes here.
    _lock: File,
}

/// The index beside a file is written again after so many new blocks.
const INDEX_EVERY_BLOCKS: usize = 16;

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
        fs::create_dir_all(&path).map_err(wrong)?;
        let lock = lock(&path)?;
        let found = recover::open(&path, &*disk).map_err(wrong)?;
        let now_ns = clock();
        let goes_on = |file: &&FileEntry| {
            file.name.format == config.format
                && file.name.gzip == config.compression
                && config.rotation.period(file.name.begun_ns) == config.rotation.period(now_ns)
                && file.bytes < config.file_bytes_max
                && text::of(config.format).is_some()
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
            merge_from: 0,
            wrong: None,
            refused: 0,
            expired_files: 0,
            repaired_bytes: found.repaired_bytes,
            unreadable_files: found.unreadable,
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
        self.merge_past();
        self.expire(now_ns);
        Ok(())
    }

    /// Makes everything pending durable and readable.
    fn store(&mut self) -> Result<(), SinkError> {
        let Some(since_ns) = self.pending.since_ns else { return Ok(()) };
        let stored = match &self.pending.rows {
            PendingRows::Text { format, text, block } => self.store_text(format, text, *block, since_ns),
            PendingRows::Table(table) => self.store_table(table, since_ns),
        };
        match stored {
            Ok(current) => {
                self.next += u64::from(self.current.is_none());
                self.current = current;
                self.pending.clear();
                self.wrong = None;
                self.after_store();
                Ok(())
            }
            Err(error) => {
                let why = format!("{}: {error}", self.directory.path.display());
                self.wrong = Some(why.clone());
                Err(SinkError::retry(why))
            }
        }
    }

    /// Appends to the file being written, or begins the next; returns its number.
    fn store_text(
        &self,
        format: &TextFormat,
        text: &[u8],
        mut block: Block,
        since_ns: TimeNs,
    ) -> io::Result<Option<u64>> {
        let (name, at) = self.current_end().unwrap_or_else(|| (self.next_name(since_ns), 0));
        let text = if at == 0 { Cow::from([format.header, text].concat()) } else { Cow::from(text) };
        let bytes = if name.gzip { Cow::from(text::deflate(&text, &block)?) } else { text };
        let dir = &self.directory.path;
        self.disk.append(&dir.join(name.text()), at, &bytes)?;
        if at == 0 {
            self.disk.sync_dir(dir)?;
        }
        block.len = bytes.len() as u64;
        let number = name.first;
        let mut catalog = self.directory.catalog.lock();
        if at == 0 {
            catalog.files.push(FileEntry::new(name));
        }
        if let Some(file) = catalog.file_mut(number) {
            file.push(block);
        }
        Ok(Some(number))
    }

    /// The file being written, and how long it is.
    fn current_end(&self) -> Option<(FileName, u64)> {
        let mut catalog = self.directory.catalog.lock();
        let file = catalog.file_mut(self.current?)?;
        Some((file.name.clone(), file.bytes))
    }

    fn store_table(&self, table: &Table, since_ns: TimeNs) -> io::Result<Option<u64>> {
        let file = self.write_table(table, self.next_name(since_ns))?;
        self.directory.catalog.lock().files.push(file);
        Ok(None)
    }

    fn next_name(&self, begun_ns: TimeNs) -> FileName {
        let format = self.config.format;
        let gzip = self.config.compression && text::of(format).is_some();
        FileName { begun_ns, first: self.next, last: self.next, format, gzip }
    }

    fn after_store(&mut self) {
        let Some(number) = self.current else { return self.merge_level() };
        // Files must be small beside what is kept, or nothing could be deleted.
        let kept = self.config.retention_bytes.map_or(u64::MAX, |bytes| bytes / 4);
        let file_bytes_max = self.config.file_bytes_max.min(kept);
        let (full, index) = {
            let mut catalog = self.directory.catalog.lock();
            let Some(file) = catalog.file_mut(number) else { return };
            let due = file.blocks.len() >= file.indexed + INDEX_EVERY_BLOCKS;
            (file.bytes >= file_bytes_max, due)
        };
        if index || full {
            self.index_file();
        }
        if full {
            self.end_file();
        }
    }

    fn end_file(&mut self) {
        self.index_file();
        self.current = None;
    }

    /// Writes the index beside the file being written. It only makes a start fast.
    fn index_file(&mut self) {
        let number = self.current.unwrap_or(0);
        let Some(mut file) = self.directory.catalog.lock().file_mut(number).cloned() else { return };
        file.indexed = file.blocks.len();
        match save_index(&self.directory.path, &file) {
            Ok(()) => {
                if let Some(known) = self.directory.catalog.lock().file_mut(number) {
                    known.indexed = file.indexed;
                }
            }
            Err(error) => {
                tracing::warn!(file = %file.name.text(), %error, "index of a stored file not written")
            }
        }
    }
}

impl Sink for FileSink {
    fn write(&mut self, messages: &[Message]) -> Result<(), SinkError> {
        let now_ns = self.now_ns();
        self.turn(now_ns)?;
        if self.pending.is_full() {
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

    fn flush(&mut self, _upto: Position) -> Result<(), SinkError> {
        let now_ns = self.now_ns();
        self.store()?;
        self.turn(now_ns)?;
        self.expire(now_ns);
        Ok(())
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
        status
    }

    fn reader(&self) -> Option<Arc<dyn Reader>> {
        Some(Arc::new(FileReader { directory: self.directory.clone() }))
    }
}

impl Drop for FileSink {
    fn drop(&mut self) {
        if let Err(error) = self.store() {
            tracing::warn!(%error, "samples taken last could not be stored");
        }
        if self.current.is_some() {
            self.index_file();
        }
    }
}

/// Takes the directory for this process.
fn lock(path: &Path) -> Result<File, SinkError> {
    let wrong = |why: String| SinkError::unusable(format!("storage.path: {}: {why}", path.display()));
    let file = File::create(path.join(".lock")).map_err(|error| wrong(error.to_string()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(wrong("another process is writing there".into())),
        Err(TryLockError::Error(error)) => Err(wrong(error.to_string())),
    }
}
