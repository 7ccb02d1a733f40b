//! A small file that remembers how far a sink has come, for sinks that don't remember it themselves.
//!
//! The position is written to a file beside it, made durable, and renamed over the old one: after a crash
//! the one or the other is there. A file that can't be understood means starting from the oldest epoch
//! that there is, so sinks that use it must take the same sample twice without harm.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use flate2::Crc;
use serde::{Deserialize, Serialize};

use crate::sinks::Position;

/// Where a position is kept.
#[derive(Clone, Debug)]
pub struct CursorStore {
    path: Option<PathBuf>,
}

/// What was found in it.
#[derive(Clone, Debug, PartialEq)]
pub enum Stored {
    /// Nothing: no file yet.
    Nothing,
    /// A position.
    At(Position),
    /// A file that makes no sense, and why.
    Damaged(String),
}

const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Written {
    version: u32,
    position: Position,
    /// CRC-32 of version and position, as eight bytes and four, little endian.
    crc32: u32,
}

impl CursorStore {
    /// Keeps positions in the file `path`; its directory is made with the first one.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        CursorStore { path: Some(path.into()) }
    }

    /// Keeps nothing: for sinks with a cursor of their own, and for logs that don't outlive the process.
    pub fn none() -> Self {
        CursorStore { path: None }
    }

    /// The position kept.
    ///
    /// # Errors
    /// There is a file, and it can't be read.
    pub fn load(&self) -> io::Result<Stored> {
        let Some(path) = &self.path else { return Ok(Stored::Nothing) };
        match fs::read(path) {
            Ok(text) => Ok(understand(&text)
                .map_or_else(|why| Stored::Damaged(format!("{}: {why}", path.display())), Stored::At)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Stored::Nothing),
            Err(error) => Err(of(path, &error)),
        }
    }

    /// Keeps `position`, durably.
    ///
    /// # Errors
    /// The file can't be written; the old one still counts, or already the new one.
    pub fn store(&mut self, position: Position) -> io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let text =
            serde_json::to_vec(&Written { version: VERSION, position, crc32: crc(VERSION, position) })?;
        replace(path, &text).map_err(|error| of(path, &error))
    }
}

fn understand(text: &[u8]) -> Result<Position, String> {
    let written: Written = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let Written { version, position, crc32 } = written;
    if version != VERSION {
        return Err(format!("expected version {VERSION}, found {version}"));
    }
    let expected = crc(version, position);
    if crc32 != expected {
        return Err(format!("expected crc32 {expected}, found {crc32}"));
    }
    Ok(position)
}

fn crc(version: u32, position: Position) -> u32 {
    let mut crc = Crc::new();
    crc.update(&position.to_le_bytes());
    crc.update(&version.to_le_bytes());
    crc.sum()
}

/// Puts `text` in the place of what the file `path` holds, durably; its directory is made where it is missing.
///
/// # Errors
/// The file can't be written; then it holds the one or the other.
pub(crate) fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    fs::create_dir_all(super::directory_of(path))?;
    overwrite(path, text)
}

/// The same where the directory has to be there.
pub(crate) fn overwrite(path: &Path, text: &[u8]) -> io::Result<()> {
    let dir = super::directory_of(path);
    let beside = path.with_extension("new");
    let mut file = File::create(&beside)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    File::open(dir)?.sync_all()
}

fn of(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cursor {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cursors/influx.json");
        let mut store = CursorStore::at(&path);
        assert_eq!(store.load().unwrap(), Stored::Nothing);
        for position in [0, 7, 6, u64::MAX] {
            store.store(position).unwrap();
            assert_eq!(CursorStore::at(&path).load().unwrap(), Stored::At(position));
        }
        // What a crash left beside it is in nobody's way.
        fs::write(path.with_extension("new"), "{\"vers").unwrap();
        assert_eq!(store.load().unwrap(), Stored::At(u64::MAX));
        store.store(8).unwrap();
        assert_eq!(store.load().unwrap(), Stored::At(8));

        let mut none = CursorStore::none();
        none.store(5).unwrap();
        assert_eq!(none.load().unwrap(), Stored::Nothing);
    }

    /// Every cut and every flipped bit is seen, or changes nothing.
    #[test]
    fn a_damaged_file_is_never_taken_for_another_position() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.json");
        let mut store = CursorStore::at(&path);
        store.store(1_234_567).unwrap();
        let whole = fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            assert!(matches!(store.load().unwrap(), Stored::Damaged(_)), "cut at {cut}");
        }
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, &flipped).unwrap();
            let found = store.load().unwrap();
            assert!(matches!(found, Stored::Damaged(_) | Stored::At(1_234_567)), "bit {bit}: {found:?}");
        }
    }

    #[test]
    fn an_error_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.json");
        fs::create_dir(&path).unwrap();
        let mut store = CursorStore::at(&path);
        for error in [store.load().unwrap_err(), store.store(1).unwrap_err()] {
            assert!(error.to_string().contains("c.json"), "{error}");
        }
    }
}
