//! What is in the directory: files, and the blocks they consist of.
//!
//! A block is a stretch of a text file that begins and ends with whole rows (a parquet file: a row
//! group), with the first and last event time in it. Queries read blocks and nothing else, so they
//! never see what is not yet durable. The list of a text file's blocks is also kept beside it
//! (`.NAME.index`): only to make a start fast. It may be missing, old or cut; what it does not
//! cover is looked through again. It never reaches beyond what a flush has covered.

use std::fs;
use std::path::{Path, PathBuf};

use operators::sample::TimeNs;

use super::cursor::Tail;
use super::disk::Disk;
use super::name::FileName;

/// A stretch of a file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Block {
    /// Offset of its first byte; of a parquet file the number of the row group.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
    /// Samples in it.
    pub samples: u64,
    /// First event time.
    pub min_ns: TimeNs,
    /// Last event time (inclusive).
    pub max_ns: TimeNs,
}

/// A block grows by what is flushed until it has this size.
const BLOCK_BYTES: u64 = 1 << 20;

impl Block {
    /// Nothing.
    pub const EMPTY: Block =
        Block { offset: 0, len: 0, samples: 0, min_ns: TimeNs::MAX, max_ns: TimeNs::MIN };

    /// Takes samples of one event time in.
    pub fn add(&mut self, time_ns: TimeNs, samples: u64) {
        self.samples += samples;
        self.min_ns = self.min_ns.min(time_ns);
        self.max_ns = self.max_ns.max(time_ns);
    }

    fn join(&mut self, next: &Block) {
        self.len += next.len;
        self.samples += next.samples;
        self.min_ns = self.min_ns.min(next.min_ns);
        self.max_ns = self.max_ns.max(next.max_ns);
    }
}

/// One data file.
#[derive(Clone, Debug)]
pub(super) struct FileEntry {
    pub name: FileName,
    /// Durable bytes.
    pub bytes: u64,
    /// Its blocks, in order.
    pub blocks: Vec<Block>,
    /// How many of them the index beside the file has.
    pub indexed: usize,
    /// By which it is known again.
    pub tail: Tail,
    /// Still under its `.part` name, since no flush has covered it; queries don't see it.
    pub hidden: bool,
}

impl FileEntry {
    /// A file without a byte.
    pub fn new(name: FileName) -> Self {
        FileEntry { name, bytes: 0, blocks: Vec::new(), indexed: 0, tail: Tail::default(), hidden: false }
    }

    /// Where it lies now.
    pub fn path(&self, dir: &Path) -> PathBuf {
        dir.join(if self.hidden { self.name.part() } else { self.name.text() })
    }

    /// Takes a flushed stretch in at the end of a text file; `block.offset` is set here.
    pub fn push(&mut self, mut block: Block) {
        block.offset = self.bytes;
        self.bytes += block.len;
        match self.blocks.last_mut() {
            Some(last) if last.len < BLOCK_BYTES => last.join(&block),
            _ => self.blocks.push(block),
        }
    }

    /// Samples in it.
    pub fn samples(&self) -> u64 {
        self.blocks.iter().map(|block| block.samples).sum()
    }

    /// Its last event time; the smallest time there is if it has none.
    pub fn max_ns(&self) -> TimeNs {
        self.blocks.iter().map(|block| block.max_ns).max().unwrap_or(TimeNs::MIN)
    }
}

/// The files in the order of their numbers.
#[derive(Default)]
pub(super) struct Catalog {
    pub files: Vec<FileEntry>,
    /// Goes up whenever files have been replaced by a merged one, so that a query that met a
    /// missing file knows to look again.
    pub merges: u64,
}

impl Catalog {
    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// The file with the number `first`.
    pub fn file_mut(&mut self, first: u64) -> Option<&mut FileEntry> {
        self.files.iter_mut().find(|file| file.name.first == first)
    }
}

const INDEX_HEADER: &str = "plantd-metric blocks 1";

/// Writes the index of a text file. Without a sync: it may be lost.
pub(super) fn save_index(disk: &dyn Disk, dir: &Path, file: &FileEntry) -> std::io::Result<()> {
    let mut text = format!("{INDEX_HEADER}\n");
    for Block { offset, len, samples, min_ns, max_ns } in &file.blocks {
        text += &format!("{offset} {len} {samples} {min_ns} {max_ns}\n");
    }
    let part = dir.join(format!("{}.part", file.name.index()));
    disk.put(&part, text.as_bytes())?;
    disk.rename(&part, &dir.join(file.name.index()))
}

/// Reads as much of the index of `name` as is sound and lies within the first `len` bytes.
pub(super) fn load_index(dir: &Path, name: &FileName, len: u64) -> FileEntry {
    let mut file = FileEntry::new(name.clone());
    let text = fs::read_to_string(dir.join(name.index())).unwrap_or_default();
    let Some(lines) = text.strip_prefix(INDEX_HEADER) else { return file };
    // The last line counts only with its end.
    let whole = lines.rfind('\n').map_or("", |end| &lines[..end]);
    for line in whole.lines().skip(1) {
        match parse_block(line) {
            Some(block) if block.offset == file.bytes && block.len > 0 && block.len <= len - file.bytes => {
                file.bytes += block.len;
                file.blocks.push(block);
            }
            _ => break,
        }
    }
    file.indexed = file.blocks.len();
    file
}

fn parse_block(line: &str) -> Option<Block> {
    let mut fields = line.split(' ');
    let block = Block {
        offset: fields.next()?.parse().ok()?,
        len: fields.next()?.parse().ok()?,
        samples: fields.next()?.parse().ok()?,
        min_ns: fields.next()?.parse().ok()?,
        max_ns: fields.next()?.parse().ok()?,
    };
    fields.next().is_none().then_some(block)
}
