//! How much of a data file is whole: the rows or gzip members up to a torn end, and a parquet file's
//! row groups. What the index beside a file covers is not looked through again.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use super::catalog::{Block, FileEntry, load_index};
use super::disk::Disk;
use super::name::FileName;
use super::parquet;
use super::text::{self, MEMBER_HEADER, TextFormat};

/// Reads what is in a file, and cuts off a torn end, whose bytes are added to `repaired_bytes`.
pub(super) fn load(
    dir: &Path,
    name: FileName,
    disk: &dyn Disk,
    repaired_bytes: &mut u64,
) -> io::Result<FileEntry> {
    let path = dir.join(name.text());
    let len = fs::metadata(&path)?.len();
    let Some(format) = text::of(name.format) else {
        let blocks = parquet::row_groups(&path)?;
        return Ok(FileEntry { bytes: len, blocks, ..FileEntry::new(name) });
    };
    let mut file = load_index(dir, &name, len);
    if !name.gzip && !ends_a_row(&path, file.bytes)? {
        // Somebody has been at the file since: everything is looked through again.
        file = FileEntry::new(name.clone());
    }
    if file.bytes < len {
        let data = File::open(&path)?;
        match name.gzip {
            true => find_members(data, len, &mut file)?,
            false => find_rows(data, format, &mut file)?,
        }
        if file.bytes == 0 && !name.gzip && holds_lines(&path)? {
            return Err(io::Error::other("expected rows of our own, found other text"));
        }
    }
    if file.bytes < len {
        tracing::warn!(file = %name.text(), bytes = len - file.bytes, "cut a torn write off a stored file");
        disk.cut(&path, file.bytes)?;
        *repaired_bytes += len - file.bytes;
    }
    Ok(file)
}

/// Whether the first `len` bytes of a file that is longer end with a row or a member, as they do
/// unless somebody has been at the file.
pub(super) fn is_end(dir: &Path, path: &Path, name: &FileName, len: u64) -> io::Result<bool> {
    if text::of(name.format).is_none() {
        return Ok(false);
    }
    if !name.gzip {
        return ends_a_row(path, len);
    }
    let mut data = File::open(path)?;
    let mut at = load_index(dir, name, len).bytes;
    while at < len {
        let Some(block) = member_at(&mut data, at)? else { return Ok(false) };
        at += block.len;
    }
    Ok(at == len)
}

/// How much of a text file is looked at at a time. A row is far shorter.
const WINDOW_BYTES: u64 = 16 << 20;

/// Looks through the rows beyond `file.bytes`, up to the last whole one.
fn find_rows(mut data: File, format: &TextFormat, file: &mut FileEntry) -> io::Result<()> {
    // Damage is kept as part of the next block that has a row.
    let mut damaged = 0;
    loop {
        let mut window = Vec::new();
        data.seek(SeekFrom::Start(file.bytes + damaged))?;
        data.by_ref().take(WINDOW_BYTES).read_to_end(&mut window)?;
        let mut block = text::scan(format, &window);
        let more = window.len() as u64 == WINDOW_BYTES;
        if block.len == 0 {
            damaged += window.len() as u64;
        } else {
            block.len += std::mem::take(&mut damaged);
            file.push(block);
        }
        if !more {
            return Ok(());
        }
    }
}

/// Goes from member to member beyond `file.bytes`, up to the last whole one. A member that another
/// one follows is whole, since each was synced before the next was begun; the last is checked.
fn find_members(mut data: File, len: u64, file: &mut FileEntry) -> io::Result<()> {
    let mut next = member_at(&mut data, 0)?;
    if file.bytes > 0 {
        next = member_at(&mut data, file.bytes)?;
    } else if next.is_none() && starts_as_gzip(&mut data)? {
        return Err(io::Error::other("expected gzip members of our own, found another gzip file"));
    }
    while let Some(block) = next {
        let end = file.bytes.saturating_add(block.len);
        if end > len {
            break;
        }
        next = member_at(&mut data, end)?;
        if next.is_none() && !is_whole(&mut data, file.bytes, block.len)? {
            break;
        }
        file.push(block);
    }
    Ok(())
}

/// The member whose header stands at `at`, if one of ours does.
fn member_at(data: &mut File, at: u64) -> io::Result<Option<Block>> {
    let mut header = Vec::with_capacity(MEMBER_HEADER);
    data.seek(SeekFrom::Start(at))?;
    data.by_ref().take(MEMBER_HEADER as u64).read_to_end(&mut header)?;
    Ok(header.first_chunk().and_then(text::member))
}

/// Whether a whole gzip header stands at the beginning.
fn starts_as_gzip(data: &mut File) -> io::Result<bool> {
    let mut header = Vec::with_capacity(MEMBER_HEADER);
    data.seek(SeekFrom::Start(0))?;
    data.by_ref().take(MEMBER_HEADER as u64).read_to_end(&mut header)?;
    Ok(header.len() == MEMBER_HEADER && header.starts_with(&[0x1f, 0x8b]))
}

/// Whether the first `bytes` bytes end with a line end.
fn ends_a_row(path: &Path, bytes: u64) -> io::Result<bool> {
    let mut last = [b'\n'];
    if bytes > 0 {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(bytes - 1))?;
        file.read_exact(&mut last)?;
    }
    Ok(last == [b'\n'])
}

/// Whether a file without a single row of ours is text all the same, and so not a torn write.
fn holds_lines(path: &Path) -> io::Result<bool> {
    let mut head = Vec::new();
    File::open(path)?.take(64 << 10).read_to_end(&mut head)?;
    Ok(head.contains(&b'\n') && std::str::from_utf8(&head).is_ok() && !head.contains(&0))
}

fn is_whole(data: &mut File, at: u64, len: u64) -> io::Result<bool> {
    let mut packed = Vec::new();
    data.seek(SeekFrom::Start(at))?;
    data.take(len).read_to_end(&mut packed)?;
    Ok(packed.len() as u64 == len && !text::inflate(&packed).1)
}
