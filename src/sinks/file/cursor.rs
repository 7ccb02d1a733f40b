//! The journal position that the files cover, kept beside them in the hidden file `.cursor`.
//!
//! ```text
//! plantd-metric cursor 1
//! journal 0123456789abcdef0123456789abcdef
//! epoch 8710
//! next 43
//! file 20240101T120000Z-0000000042.json.gz 918273 4096 01234567
//! crc32 89abcdef
//! ```
//! It says: with the files it names taken up to these lengths, and all other files as they are, every
//! epoch of that journal up to `epoch` is stored, and none behind it. It names the text file that is
//! being written and the files that still had their `.part` name; behind the length stand how many
//! bytes before it a checksum covers, and the checksum, by which a file is known again. The cursor is replaced whole (written
//! beside, synced, renamed, directory synced), so what a crash leaves is the old or the new one;
//! a checksum (CRC-32) that does not match is damage and never a torn write.

use std::fmt::Write;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use super::disk::Disk;
use super::name::FileName;
use crate::sinks::Position;

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    /// Which journal the position is one of.
    pub journal: u128,
    /// The last epoch stored whole.
    pub upto: Position,
    /// Number of the next file.
    pub next: u64,
    /// Files that may have grown since.
    pub files: Vec<Extent>,
}

/// How much of a file counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub name: FileName,
    pub len: u64,
    pub tail: Tail,
}

/// Checksum of the last bytes that count; of none where they are not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tail {
    pub len: u64,
    pub crc: u32,
}

impl Tail {
    const LEN_MAX: usize = 4_096;

    /// The tail of a file that ends with `bytes`.
    pub fn of(bytes: &[u8]) -> Tail {
        let tail = &bytes[bytes.len().saturating_sub(Self::LEN_MAX)..];
        Tail { len: tail.len() as u64, crc: crc32(tail) }
    }

    /// Whether the bytes before `end` are these.
    pub fn stands_before(&self, end: u64, path: &Path) -> io::Result<bool> {
        let (Some(begin), true) = (end.checked_sub(self.len), self.len <= Self::LEN_MAX as u64) else {
            return Ok(false);
        };
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(begin))?;
        let mut tail = Vec::new();
        file.take(self.len).read_to_end(&mut tail)?;
        Ok(Tail::of(&tail) == *self)
    }
}

/// What stands in a directory.
pub(super) enum Kept {
    /// No such file.
    Missing,
    /// A file that is not one of ours, or not whole.
    Damaged,
    /// A whole one.
    Whole(Cursor),
}

/// The file's name in the directory.
pub(super) const CURSOR: &str = ".cursor";
const PART: &str = ".cursor.part";
const HEADER: &str = "plantd-metric cursor 1\n";

impl Cursor {
    /// How much of `name` counts, where this must be said.
    pub fn extent(&self, name: &FileName) -> Option<&Extent> {
        self.files.iter().find(|file| file.name == *name)
    }

    fn text(&self) -> String {
        let Cursor { journal, upto, next, files } = self;
        let mut text = format!("{HEADER}journal {journal:032x}\nepoch {upto}\nnext {next}\n");
        for Extent { name, len, tail } in files {
            // Cannot fail: a string takes everything.
            let _ = writeln!(text, "file {} {len} {} {:08x}", name.text(), tail.len, tail.crc);
        }
        let sum = crc32(text.as_bytes());
        text + &format!("crc32 {sum:08x}\n")
    }

    fn parse(text: &str) -> Option<Cursor> {
        let (body, sum) = text.split_at_checked(text.len().checked_sub("crc32 01234567\n".len())?)?;
        if sum != format!("crc32 {:08x}\n", crc32(body.as_bytes())) {
            return None;
        }
        let mut lines = body.strip_prefix(HEADER)?.lines();
        let journal = u128::from_str_radix(lines.next()?.strip_prefix("journal ")?, 16).ok()?;
        let upto = lines.next()?.strip_prefix("epoch ")?.parse().ok()?;
        let next = lines.next()?.strip_prefix("next ")?.parse().ok()?;
        let files = lines.map(Extent::parse).collect::<Option<_>>()?;
        Some(Cursor { journal, upto, next, files })
    }
}

impl Extent {
    fn parse(line: &str) -> Option<Extent> {
        let mut fields = line.strip_prefix("file ")?.split(' ');
        let name = FileName::parse(fields.next()?)?;
        let len = fields.next()?.parse().ok()?;
        let tail =
            Tail { len: fields.next()?.parse().ok()?, crc: u32::from_str_radix(fields.next()?, 16).ok()? };
        fields.next().is_none().then_some(Extent { name, len, tail })
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// Reads the cursor of `dir`.
pub(super) fn load(dir: &Path) -> io::Result<Kept> {
    match std::fs::read(dir.join(CURSOR)) {
        Ok(bytes) => {
            let cursor = std::str::from_utf8(&bytes).ok().and_then(Cursor::parse);
            Ok(cursor.map_or(Kept::Damaged, Kept::Whole))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Kept::Missing),
        Err(error) => Err(io::Error::new(error.kind(), format!("{CURSOR}: {error}"))),
    }
}

/// Replaces the cursor of `dir`: durable when it returns `Ok`; after an `Err` it is the old or the
/// new one.
pub(super) fn save(disk: &dyn Disk, dir: &Path, cursor: &Cursor) -> io::Result<()> {
    disk.append(&dir.join(PART), 0, cursor.text().as_bytes())?;
    disk.rename(&dir.join(PART), &dir.join(CURSOR))?;
    disk.sync_dir(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_and_every_damage_to_it_is_seen() {
        let names = ["20240101T120000Z-0000000042.json.gz", "20240101T120000Z-0000000043-0000000043.parquet"];
        let extent = |name: &&str| Extent {
            name: FileName::parse(name).unwrap(),
            len: 918_273,
            tail: Tail::of(name.as_bytes()),
        };
        let files: Vec<_> = names.iter().map(extent).collect();
        let cursor = Cursor { journal: 0xfeed << 100, upto: 8_710, next: 44, files };
        let empty = Cursor { journal: 0, upto: 0, next: 1, files: Vec::new() };
        for cursor in [cursor, empty] {
            let text = cursor.text();
            assert_eq!(Cursor::parse(&text).as_ref(), Some(&cursor), "{text}");
            for at in 0..text.len() {
                assert_eq!(Cursor::parse(&text[..at]), None, "cut at {at}");
                for bit in 0..7 {
                    let mut bytes = text.clone().into_bytes();
                    bytes[at] ^= 1 << bit;
                    assert_eq!(Cursor::parse(std::str::from_utf8(&bytes).unwrap()), None, "at {at}");
                }
            }
        }
    }
}
