//! Every change the file sink makes to a directory goes through this small trait, so that tests can
//! fail any of them, before, in the middle of, or after the write.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;

/// Durable changes to files. Each call is complete and on disk when it returns `Ok`; after an
/// `Err` the same call may be repeated, and repeats the same bytes at the same place.
pub(super) trait Disk: Send + Sync {
    /// Writes `bytes` at offset `at`, creating the file if needed, cutting whatever a failed try
    /// left beyond `at`, and syncs.
    fn append(&self, path: &Path, at: u64, bytes: &[u8]) -> io::Result<()>;

    /// Cuts the file to `len` bytes and syncs.
    fn cut(&self, path: &Path, len: u64) -> io::Result<()>;

    /// Gives a finished file its name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Makes names made and removed in `dir` durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Deletes a file; one that is gone already is no error.
    fn remove(&self, path: &Path) -> io::Result<()>;
}

/// The operating system's files.
pub(super) struct RealDisk {
    /// Whether to wait for the device; off only where a test makes thousands of files.
    pub sync: bool,
}

impl RealDisk {
    fn sync(&self, file: &File) -> io::Result<()> {
        if self.sync { file.sync_all() } else { Ok(()) }
    }
}

impl Disk for RealDisk {
    fn append(&self, path: &Path, at: u64, bytes: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
        let len = file.metadata()?.len();
        if len < at {
            let why = format!("expected at least {at} bytes, found {len}");
            return Err(io::Error::other(why));
        }
        if len > at {
            file.set_len(at)?;
        }
        file.seek(SeekFrom::Start(at))?;
        file.write_all(bytes)?;
        self.sync(&file)
    }

    fn cut(&self, path: &Path, len: u64) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(path)?;
        file.set_len(len)?;
        self.sync(&file)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.sync(&File::open(dir)?)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}
