//! Queries over the stored files, while the sink writes them.
//!
//! Blocks whose event times cannot matter are skipped by the catalog alone; the others are read
//! newest first, until no block left can hold anything newer than what was found. In memory are one
//! block and the answer.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

use super::catalog::{Block, Catalog};
use super::name::FileName;
use super::newest::{Newest, Targets};
use super::{parquet, text};
use crate::message::Message;
use crate::sinks::{Query, Reader, SinkError};

/// What the sink and its readers share.
pub(super) struct Directory {
    pub path: PathBuf,
    pub catalog: Mutex<Catalog>,
    /// Rows that queries could not read (a parquet row group or a gzip member counts as one).
    pub corrupted: AtomicU64,
}

/// The reading side of [`super::FileSink`].
pub(super) struct FileReader {
    pub directory: Arc<Directory>,
}

/// How often a query starts over because files were merged under it.
const TRIES_MAX: usize = 4;

impl Reader for FileReader {
    fn read(&self, query: &Query) -> Result<Vec<Message>, SinkError> {
        for again in (0..TRIES_MAX).rev() {
            let (merges, blocks) = self.blocks(query);
            let mut newest = Newest::new(query);
            let missing = self.read_blocks(blocks, &mut newest)?;
            // A missing file was either deleted by retention, or its rows are in a merged one now.
            if again > 0 && missing && self.directory.catalog.lock().merges != merges {
                continue;
            }
            self.directory.corrupted.fetch_add(newest.corrupted, Relaxed);
            return Ok(newest.finish());
        }
        Ok(Vec::new())
    }
}

impl FileReader {
    /// The blocks that may matter, the one with the newest event time first.
    fn blocks(&self, query: &Query) -> (u64, Vec<(FileName, Block)>) {
        let any = Newest::new(query);
        let catalog = self.directory.catalog.lock();
        let mut blocks = Vec::new();
        for file in catalog.files.iter().filter(|file| !file.hidden) {
            let matter = file.blocks.iter().filter(|block| any.wants_block(block.min_ns, block.max_ns));
            blocks.extend(matter.map(|block| (file.name.clone(), *block)));
        }
        blocks.sort_by_key(|(_, block)| std::cmp::Reverse(block.max_ns));
        (catalog.merges, blocks)
    }

    /// Reads what still matters; says whether a file was gone.
    fn read_blocks(
        &self,
        blocks: Vec<(FileName, Block)>,
        newest: &mut Newest<'_>,
    ) -> Result<bool, SinkError> {
        let mut targets = Targets::new();
        let mut missing = false;
        for (name, block) in blocks {
            if !newest.wants_block(block.min_ns, block.max_ns) {
                continue;
            }
            match self.read_block(&name, &block, &mut targets, newest) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => missing = true,
                Err(error) => {
                    tracing::warn!(file = %name.text(), offset = block.offset, %error, "stored block is damaged");
                    newest.corrupted += 1;
                }
            }
        }
        if missing && !self.directory.path.is_dir() {
            let path = self.directory.path.display();
            return Err(SinkError::unusable(format!("storage.path: expected a directory, {path} is gone")));
        }
        Ok(missing)
    }

    fn read_block(
        &self,
        name: &FileName,
        block: &Block,
        targets: &mut Targets,
        newest: &mut Newest<'_>,
    ) -> io::Result<()> {
        let path = self.directory.path.join(name.text());
        let Some(format) = text::of(name.format) else {
            return parquet::read(&path, block.offset, name.first, targets, newest);
        };
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(block.offset))?;
        let mut bytes = Vec::new();
        file.take(block.len).read_to_end(&mut bytes)?;
        let mut damaged = (bytes.len() as u64) < block.len;
        if name.gzip {
            let (plain, torn) = text::inflate(&bytes);
            (bytes, damaged) = (plain, damaged || torn);
        }
        // What is behind the last line end of a damaged block is half a row.
        if damaged {
            newest.corrupted += 1;
            bytes.truncate(bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1));
        }
        (format.read)(&bytes, targets, newest);
        Ok(())
    }
}
