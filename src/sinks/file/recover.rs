//! The start: what a crash may have left is put right, and the directory is read.
//!
//! Where the position kept beside the files is one of our journal, what lies behind it comes again
//! and is taken away: the file being written is cut to its length, `.part` files that the position
//! does not name are deleted, those that it names get their names. Files under a name of their own
//! are never deleted for it.
//!
//! Without such a position nothing comes again for certain, so everything whole is kept: a torn end
//! is cut behind its last row (or gzip member), and a `.part` file stays if it can be read.
//!
//! Between making a merged file and deleting its parts a crash leaves both, which the names tell.
//! Files that are not ours, or that cannot be read, are left alone and counted.

use std::fs;
use std::io;
use std::path::Path;

use super::catalog::Catalog;
use super::cursor::{self, CURSOR, Cursor, Extent, Kept};
use super::disk::Disk;
use super::name::FileName;
use super::{parquet, text, whole};

/// What was found and put right.
#[derive(Default)]
pub(super) struct Found {
    pub catalog: Catalog,
    /// The position in our journal, if one is kept here.
    pub cursor: Option<Cursor>,
    /// One more than the highest number of any file.
    pub next: u64,
    /// Bytes of torn writes that were cut off.
    pub repaired_bytes: u64,
    /// Files that look like ours and cannot be read.
    pub unreadable: u64,
    /// The position was lost, or did not fit the files.
    pub lost_cursor: bool,
}

/// Reads the directory and repairs it; `journal` is the one that positions belong to. A crash in here
/// leaves a directory for which it does the same again.
pub(super) fn open(dir: &Path, disk: &dyn Disk, journal: Option<u128>) -> io::Result<Found> {
    // Names that a killed process left may not be durable yet, and are built upon from here on.
    disk.sync_dir(dir)?;
    let mut listing = Listing::of(dir)?;
    let mut found = Found { next: 1, ..Found::default() };
    found.cursor = ours(cursor::load(dir)?, journal, &listing, &mut found.lost_cursor);
    for text in &listing.leftovers {
        disk.remove(&dir.join(text))?;
    }
    for name in std::mem::take(&mut listing.parts) {
        if settle(dir, disk, &name, &listing, &mut found)? {
            disk.rename(&dir.join(name.part()), &dir.join(name.text()))?;
            listing.names.push(name);
        } else {
            disk.remove(&dir.join(name.part()))?;
        }
    }
    if let Some(cursor) = &found.cursor {
        found.next = cursor.next;
        for extent in &cursor.files {
            let path = dir.join(extent.name.text());
            found.lost_cursor |= !cut_to(dir, disk, &path, extent)?;
        }
    }
    load(dir, disk, listing, &mut found)?;
    if journal.is_none() {
        // What is stored from now on lies behind it, and must not be taken for what comes again.
        disk.remove(&dir.join(CURSOR))?;
    }
    disk.sync_dir(dir)?;
    Ok(found)
}

/// What stands in the directory.
#[derive(Default)]
struct Listing {
    /// Data files.
    names: Vec<FileName>,
    /// Data files that have their `.part` name.
    parts: Vec<FileName>,
    /// Indexes that belong to a data file or not.
    indexes: Vec<String>,
    /// What was being written when a process ended, and is of no use.
    leftovers: Vec<String>,
}

impl Listing {
    fn of(dir: &Path) -> io::Result<Listing> {
        let mut listing = Listing::default();
        for entry in fs::read_dir(dir)? {
            let Ok(text) = entry?.file_name().into_string() else { continue };
            if let Some(hidden) = text.strip_prefix('.') {
                match hidden.strip_suffix(".part").map(FileName::parse) {
                    Some(Some(name)) => listing.parts.push(name),
                    Some(None) => listing.leftovers.push(text),
                    None if hidden.ends_with(".index") => listing.indexes.push(text),
                    None => {}
                }
            } else if let Some(name) = FileName::parse(&text) {
                listing.names.push(name);
            }
        }
        Ok(listing)
    }
}

/// The cursor, if it is one of `journal`; sets `lost` if there should be one.
fn ours(kept: Kept, journal: Option<u128>, listing: &Listing, lost: &mut bool) -> Option<Cursor> {
    let journal = journal?;
    match kept {
        Kept::Whole(cursor) if cursor.journal == journal => return Some(cursor),
        Kept::Whole(cursor) => tracing::info!(
            epoch = cursor.upto,
            "the stored files come from another journal; they stay as they are, and positions start over"
        ),
        Kept::Missing if listing.names.is_empty() && listing.parts.is_empty() => {}
        Kept::Missing => {
            *lost = true;
            tracing::warn!("no position is kept beside the stored files; samples may be stored again");
        }
        Kept::Damaged => {
            *lost = true;
            tracing::warn!("the position beside the stored files is damaged; samples may be stored again");
        }
    }
    None
}

/// Decides over a file that has its `.part` name: whether it is to have its own.
fn settle(
    dir: &Path,
    disk: &dyn Disk,
    name: &FileName,
    listing: &Listing,
    found: &mut Found,
) -> io::Result<bool> {
    let path = dir.join(name.part());
    if listing.names.contains(name) {
        return Ok(false);
    }
    if let Some(cursor) = &found.cursor {
        let Some(extent) = cursor.extent(name) else { return Ok(false) };
        found.lost_cursor |= !cut_to(dir, disk, &path, extent)?;
        return Ok(true);
    }
    // Text is looked at once it has its name.
    let len = fs::metadata(&path)?.len();
    let keep = len > 0 && (text::of(name.format).is_some() || parquet::row_groups(&path).is_ok());
    if keep {
        disk.cut(&path, len)?;
    }
    Ok(keep)
}

/// Cuts what comes again off a file; says whether the file is the one that `extent` is of.
fn cut_to(dir: &Path, disk: &dyn Disk, path: &Path, extent: &Extent) -> io::Result<bool> {
    let Extent { name, len, tail } = extent;
    let len = *len;
    let bytes = match fs::metadata(path) {
        Ok(file) => file.len(),
        // Deleted by retention, merged, or still to get its name.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error),
    };
    let file = name.text();
    if bytes == len {
        return Ok(true);
    }
    if bytes < len {
        tracing::warn!(file, bytes, expected = len, "a stored file is shorter than it was");
        return Ok(false);
    }
    if !tail.stands_before(len, path)? || !whole::is_end(dir, path, name, len)? {
        tracing::warn!(file, expected = len, "a stored file has been changed and is left as it is");
        return Ok(false);
    }
    tracing::info!(file, bytes = bytes - len, "cut off rows that come again");
    disk.cut(path, len)?;
    Ok(true)
}

/// Reads the data files, and removes what has no use any more.
fn load(dir: &Path, disk: &dyn Disk, listing: Listing, found: &mut Found) -> io::Result<()> {
    let Listing { mut names, indexes, .. } = listing;
    for index in indexes {
        if !names.iter().any(|name| name.index() == index) {
            disk.remove(&dir.join(index))?;
        }
    }
    names.sort_by_key(|name| (name.first, std::cmp::Reverse(name.last)));
    let merged = names.clone();
    for name in names {
        found.next = found.next.max(name.last.saturating_add(1));
        if merged.iter().any(|other| other.covers(&name)) {
            disk.remove(&dir.join(name.text()))?;
            continue;
        }
        match whole::load(dir, name.clone(), disk, &mut found.repaired_bytes) {
            Ok(file) if file.bytes == 0 => disk.remove(&dir.join(name.text()))?,
            Ok(mut file) => {
                let extent = found.cursor.as_ref().and_then(|cursor| cursor.extent(&file.name));
                if let Some(extent) = extent.filter(|extent| extent.len == file.bytes) {
                    file.tail = extent.tail;
                }
                found.catalog.files.push(file);
            }
            Err(error) => {
                tracing::warn!(file = %name.text(), %error, "stored file cannot be read and is left alone");
                found.unreadable += 1;
            }
        }
    }
    // The end of a file that is written further may not be durable yet.
    match found.catalog.files.last() {
        Some(last) if found.cursor.is_none() && text::of(last.name.format).is_some() => {
            disk.cut(&last.path(dir), last.bytes)
        }
        _ => Ok(()),
    }
}
