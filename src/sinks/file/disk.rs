//! Every change the file sink makes to a directory goes through this small trait, so that tests can
//! fail any of them, before, in the middle of, or after the write, and lose what was not synced.
//! (Only the lock is taken beside it.)

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;

/// Changes to files. After an `Err` the same call may be repeated, and repeats the same bytes at the
/// same place.
pub(super) trait Disk: Send + Sync {
    /// Makes the directory if it is not there, durably.
    fn make_dir(&self, path: &Path) -> io::Result<()>;

    /// Writes `bytes` at offset `at`, cutting whatever a failed try left beyond `at`, and syncs. A
    /// file written from offset 0 is made if needed, its name not yet durable.
    fn append(&self, path: &Path, at: u64, bytes: &[u8]) -> io::Result<()>;

    /// Writes a whole file without a sync: it may be lost, or torn.
    fn put(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;

    /// Cuts the file to `len` bytes and syncs all of it.
    fn cut(&self, path: &Path, len: u64) -> io::Result<()>;

    /// Gives a finished file its name, in the place of one that has it; not yet durable.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Makes names made, changed and removed in `dir` durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Deletes a file, not yet durably; one that is gone already is no error.
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

    fn sync_parent(&self, path: &Path) -> io::Result<()> {
        match path.parent() {
            Some(parent) if parent.as_os_str().is_empty() => self.sync_dir(Path::new(".")),
            Some(parent) => self.sync_dir(parent),
            None => Ok(()),
        }
    }
}

impl Disk for RealDisk {
    fn make_dir(&self, path: &Path) -> io::Result<()> {
        let missing = |dir: &&Path| !dir.as_os_str().is_empty() && !dir.exists();
        let made: Vec<&Path> = path.ancestors().take_while(missing).collect();
        fs::create_dir_all(path)?;
        for dir in &made {
            self.sync_parent(dir)?;
        }
        if made.is_empty() {
            // Perhaps made a moment ago by a process that was killed. Not ours to read, perhaps.
            let _ = self.sync_parent(path);
        }
        Ok(())
    }

    fn append(&self, path: &Path, at: u64, bytes: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(at == 0).truncate(false).open(path)?;
        let len = file.metadata()?.len();
        if len < at {
            let why = format!("expected at least {at} bytes, found {len}");
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, why));
        }
        if len > at {
            file.set_len(at)?;
        }
        file.seek(SeekFrom::Start(at))?;
        file.write_all(bytes)?;
        self.sync(&file)
    }

    fn put(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        fs::write(path, bytes)
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
