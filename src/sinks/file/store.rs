//! From memory into the files, and the position beside them.
//!
//! What is stored between two flushes is not covered by a position yet and comes again after a crash.
//! So it lies behind the length that the cursor gives for the file being written, or in a file under
//! its `.part` name, where a start finds it and takes it away (see `recover`). A flush replaces the
//! cursor, and then gives new files their names.
//!
//! Syncs of a flush: the data, the cursor, the directory; one more of the directory before the
//! cursor where a file is new (each flush for parquet, each rotation for text). A flush with nothing
//! to store but a new position: the cursor and the directory.

use std::borrow::Cow;
use std::fs;
use std::io;

use operators::sample::TimeNs;

use super::catalog::{Block, FileEntry, save_index};
use super::cursor::{self, Cursor, Extent, Tail};
use super::name::FileName;
use super::parquet::Table;
use super::pending::PendingRows;
use super::text::{self, TextFormat};
use super::{FileSink, Position, SinkError};

/// The index beside a file is written again after so many new blocks.
const INDEX_EVERY_BLOCKS: usize = 16;

impl FileSink {
    /// Makes everything pending durable; not yet covered by a position.
    pub(super) fn store(&mut self) -> Result<(), SinkError> {
        let Some(since_ns) = self.pending.since_ns else { return Ok(()) };
        let stored = self.mark().and_then(|()| match &self.pending.rows {
            PendingRows::Text { format, text, block } => self.store_text(format, text, *block, since_ns),
            PendingRows::Table(table) => self.store_table(table, since_ns),
        });
        if stored.is_err() {
            self.give_up_cut_file();
        }
        let current = self.told(stored)?;
        if self.current.is_none() {
            self.next += 1;
            self.names_unsynced = true;
        }
        self.current = current;
        self.uncovered = true;
        self.pending.clear();
        self.end_full_file();
        Ok(())
    }

    /// Keeps an error for the status.
    fn told<T>(&mut self, result: io::Result<T>) -> Result<T, SinkError> {
        match result {
            Ok(value) => {
                self.wrong = None;
                Ok(value)
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
        let file = self.current_end().unwrap_or_else(|| self.next_file(since_ns));
        let (name, at) = (&file.name, file.bytes);
        let text = if at == 0 { Cow::from([format.header, text].concat()) } else { Cow::from(text) };
        let bytes = if name.gzip { Cow::from(text::deflate(&text, &block)?) } else { text };
        let dir = &self.directory.path;
        self.disk.append(&file.path(dir), at, &bytes)?;
        if at == 0 && !file.hidden {
            self.disk.sync_dir(dir)?;
        }
        block.len = bytes.len() as u64;
        let number = name.first;
        let mut catalog = self.directory.catalog.lock();
        if at == 0 {
            catalog.files.push(file);
        }
        if let Some(file) = catalog.file_mut(number) {
            file.push(block);
            file.tail = Tail::of(&bytes);
        }
        Ok(Some(number))
    }

    /// The file being written, without its blocks.
    fn current_end(&self) -> Option<FileEntry> {
        let mut catalog = self.directory.catalog.lock();
        let FileEntry { name, bytes, hidden, .. } = catalog.file_mut(self.current?)?;
        Some(FileEntry { bytes: *bytes, hidden: *hidden, ..FileEntry::new(name.clone()) })
    }

    fn store_table(&self, table: &Table, since_ns: TimeNs) -> io::Result<Option<u64>> {
        let file = self.next_file(since_ns);
        let file = match file.hidden {
            true => self.write_part(table, file)?,
            false => self.write_table(table, file.name)?,
        };
        self.directory.catalog.lock().files.push(file);
        Ok(None)
    }

    fn next_file(&self, begun_ns: TimeNs) -> FileEntry {
        let format = self.config.format;
        let gzip = self.config.compression && text::of(format).is_some();
        let name = FileName { begun_ns, first: self.next, last: self.next, format, gzip };
        FileEntry { hidden: self.config.journal_id.is_some(), ..FileEntry::new(name) }
    }

    /// A file that somebody has deleted or cut while it was written is ended, or nothing could be
    /// stored any more.
    fn give_up_cut_file(&mut self) {
        let Some(file) = self.current_end() else { return };
        let found = match fs::metadata(file.path(&self.directory.path)) {
            Ok(found) => found.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(_) => return,
        };
        if found < file.bytes {
            tracing::warn!(file = %file.name.text(), expected = file.bytes, found, "the file being written was cut");
            self.current = None;
        }
    }

    /// Ends the file being written when it is large enough.
    fn end_full_file(&mut self) {
        // Files must be small beside what is kept, or nothing could be deleted.
        let kept = self.config.retention_bytes.map_or(u64::MAX, |bytes| bytes / 4);
        let file_bytes_max = self.config.file_bytes_max.min(kept);
        if self.current_end().is_some_and(|file| file.bytes >= file_bytes_max) {
            self.end_file();
        }
    }

    pub(super) fn end_file(&mut self) {
        self.ended.extend(self.current.take());
    }

    /// Where there is no position of our journal yet, keeps one before the first row: the files as
    /// they are now are from before the journal.
    fn mark(&mut self) -> io::Result<()> {
        match self.config.journal_id {
            Some(journal) if self.cursor.is_none() => self.replace_cursor(journal, 0),
            _ => Ok(()),
        }
    }

    /// Covers everything stored by the position `upto`.
    pub(super) fn cover(&mut self, upto: Position) -> Result<(), SinkError> {
        let Some(journal) = self.config.journal_id else { return Ok(()) };
        let known = self.cursor.as_ref().is_some_and(|cursor| cursor.upto == upto);
        if self.uncovered || !known {
            let replaced = self.replace_cursor(journal, upto);
            self.told(replaced)?;
            self.uncovered = false;
        }
        let named = self.name_files();
        self.told(named)
    }

    fn replace_cursor(&mut self, journal: u128, upto: Position) -> io::Result<()> {
        let dir = &self.directory.path;
        if self.names_unsynced {
            // The cursor must not name a file whose name may be lost.
            self.disk.sync_dir(dir)?;
            self.names_unsynced = false;
        }
        let open = |file: &&FileEntry| file.hidden || Some(file.name.first) == self.current;
        let catalog = self.directory.catalog.lock();
        let extent = |file: &FileEntry| Extent { name: file.name.clone(), len: file.bytes, tail: file.tail };
        let files = catalog.files.iter().filter(open).map(extent).collect();
        drop(catalog);
        let cursor = Cursor { journal, upto, next: self.next, files };
        cursor::save(&*self.disk, dir, &cursor)?;
        self.cursor = Some(cursor);
        Ok(())
    }

    /// Gives files that are covered now their names.
    fn name_files(&mut self) -> io::Result<()> {
        let dir = &self.directory.path;
        loop {
            let hidden = |file: &&FileEntry| file.hidden;
            let next = self.directory.catalog.lock().files.iter().find(hidden).map(|file| file.name.clone());
            let Some(name) = next else { return Ok(()) };
            self.names_unsynced = true;
            let path = dir.join(name.text());
            let gone = match self.disk.rename(&dir.join(name.part()), &path) {
                // A rename may have been done although it was said to fail.
                Err(error) if error.kind() == io::ErrorKind::NotFound => !path.try_exists()?,
                named => named.map(|()| false)?,
            };
            let mut catalog = self.directory.catalog.lock();
            if gone {
                tracing::warn!(file = %name.text(), "a stored file was deleted before it had its name");
                catalog.files.retain(|file| file.name != name);
                self.current = self.current.filter(|number| *number != name.first);
            } else if let Some(file) = catalog.file_mut(name.first) {
                file.hidden = false;
            }
        }
    }

    /// Writes the indexes that are due. Only after a flush: an index must not reach beyond what is
    /// covered, since what is behind it may be cut off and written otherwise.
    pub(super) fn index_files(&mut self) {
        for number in std::mem::take(&mut self.ended) {
            self.index_file(number);
        }
        let Some(number) = self.current else { return };
        let due = self
            .directory
            .catalog
            .lock()
            .file_mut(number)
            .is_some_and(|file| file.blocks.len() >= file.indexed + INDEX_EVERY_BLOCKS);
        if due {
            self.index_file(number);
        }
    }

    /// Writes the index beside a file. It only makes a start fast.
    pub(super) fn index_file(&self, number: u64) {
        let Some(mut file) = self.directory.catalog.lock().file_mut(number).cloned() else { return };
        file.indexed = file.blocks.len();
        match save_index(&*self.disk, &self.directory.path, &file) {
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
