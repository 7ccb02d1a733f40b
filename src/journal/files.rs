//! The file operations that the journal needs, as a small trait: real files, files in memory (`durability: memory`),
//! and in [`super::simulated`] a disk that fails on command.
//!
//! What a caller may rely on is what POSIX promises and no more: what was written is durable after
//! [`File::sync_data`] said so, a name (of a new, renamed or removed file) after [`Files::sync_dir`].

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

/// A place where files are.
pub trait Files: Send + Sync {
    /// Creates `dir` and what is missing above it, durably.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// Takes the lock file `path` until the answer is dropped or the process ends; `WouldBlock` if it is taken.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>>;
    /// Names of the files in `dir`, in any order.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// A new, empty file; `AlreadyExists` if there is one.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// An existing file, to read and write.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Removes a file. Who has it open may go on reading.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Renames a file; one that has the new name is replaced.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Makes the names in `dir` durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

/// An open file.
pub trait File: Send + Sync {
    /// Writes all of `bytes` at `offset`. After an error any part of them may be there.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Reads at most `into.len()` bytes; fewer, or none, at the end.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize>;
    /// Makes content and length durable. After an error what was not durable before may be gone, and a
    /// later call may say that all is well: it must be written again.
    fn sync_data(&self) -> io::Result<()>;
    /// Cuts the file, or extends it by zeros.
    fn truncate(&self, len: u64) -> io::Result<()>;
    /// Its length.
    fn length(&self) -> io::Result<u64>;
}

/// Files of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealFiles;

impl Files for RealFiles {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        if dir.is_dir() {
            return Ok(());
        }
        let parent = match dir.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        self.create_dir(parent)?;
        match fs::create_dir(dir) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
        self.sync_dir(parent)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        let file = fs::OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
        crate::file_lock::lock(&file)?;
        Ok(Box::new(file))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            // The names that matter are ASCII.
            names.extend(entry?.file_name().into_string().ok());
        }
        Ok(names)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = fs::OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        Ok(Arc::new(RealFile(file)))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(RealFile(fs::OpenOptions::new().read(true).write(true).open(path)?)))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::File::open(dir)?.sync_all()
    }
}

struct RealFile(fs::File);

impl File for RealFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let mut got = 0;
        while got < into.len() {
            match self.0.read_at(&mut into[got..], offset + got as u64) {
                Ok(0) => break,
                Ok(n) => got += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(got)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

/// Files that live as long as this value and its clones. Nothing but memory can fail here, so everything is
/// durable at once, as far as it goes.
#[derive(Clone, Default)]
pub struct MemoryFiles {
    named: Arc<Mutex<BTreeMap<PathBuf, Arc<MemoryFile>>>>,
    locks: Locks,
}

#[derive(Default)]
struct MemoryFile(RwLock<Vec<u8>>);

impl MemoryFiles {
    fn find(&self, path: &Path) -> io::Result<Arc<MemoryFile>> {
        self.named.lock().get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Files for MemoryFiles {
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        self.locks.take(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        Ok(names_in(dir, self.named.lock().keys()))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let mut named = self.named.lock();
        if named.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = Arc::new(MemoryFile::default());
        named.insert(path.to_owned(), file.clone());
        Ok(file)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(self.find(path)?)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.named.lock().remove(path).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut named = self.named.lock();
        let file = named.remove(from).ok_or(io::ErrorKind::NotFound)?;
        named.insert(to.to_owned(), file);
        Ok(())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
}

impl File for MemoryFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        write_into(&mut self.0.write(), offset, bytes);
        Ok(())
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        Ok(read_from(&self.0.read(), offset, into))
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.0.write().resize(len as usize, 0);
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.0.read().len() as u64)
    }
}

/// Lock files of a place in memory.
#[derive(Clone, Default)]
pub(super) struct Locks(Arc<Mutex<Vec<PathBuf>>>);

struct Taken(Locks, PathBuf);

impl Locks {
    pub(super) fn take(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        let mut taken = self.0.lock();
        if taken.iter().any(|other| other == path) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        taken.push(path.to_owned());
        Ok(Box::new(Taken(self.clone(), path.to_owned())))
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.0.lock().retain(|path| *path != self.1);
    }
}

/// Names of the files directly in `dir`.
pub(super) fn names_in<'a>(dir: &Path, paths: impl Iterator<Item = &'a PathBuf>) -> Vec<String> {
    let inside = paths.filter(|path| path.parent() == Some(dir));
    inside.filter_map(|path| path.file_name()?.to_str().map(String::from)).collect()
}

/// Writes as into a file: a hole before `offset` is zeros.
pub(super) fn write_into(content: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let (from, till) = (offset as usize, offset as usize + bytes.len());
    if from == content.len() {
        return content.extend_from_slice(bytes);
    }
    if till > content.len() {
        content.resize(till, 0);
    }
    content[from..till].copy_from_slice(bytes);
}

/// Reads as from a file.
pub(super) fn read_from(content: &[u8], offset: u64, into: &mut [u8]) -> usize {
    let rest = content.get(offset as usize..).unwrap_or_default();
    let n = rest.len().min(into.len());
    into[..n].copy_from_slice(&rest[..n]);
    n
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(files: &dyn Files, dir: &Path) {
        files.create_dir(dir).unwrap();
        files.create_dir(dir).unwrap();
        let (one, two) = (dir.join("one"), dir.join("two"));
        let file = files.create(&one).unwrap();
        assert_eq!(files.create(&one).err().unwrap().kind(), io::ErrorKind::AlreadyExists);
        file.write_at(0, b"abcdef").unwrap();
        file.write_at(8, b"x").unwrap();
        file.truncate(9).unwrap();
        file.sync_data().unwrap();
        assert_eq!(file.length().unwrap(), 9);
        files.rename(&one, &two).unwrap();
        files.sync_dir(dir).unwrap();
        assert_eq!(files.open(&one).err().unwrap().kind(), io::ErrorKind::NotFound);
        let mut bytes = [9; 12];
        assert_eq!(files.open(&two).unwrap().read_at(4, &mut bytes).unwrap(), 5);
        assert_eq!(bytes[..6], *b"ef\0\0x\x09");
        assert_eq!(files.list(dir).unwrap(), ["two"]);
        let lock = files.lock(&dir.join("lock")).unwrap();
        assert_eq!(files.lock(&dir.join("lock")).err().unwrap().kind(), io::ErrorKind::WouldBlock);
        drop(lock);
        assert!(files.lock(&dir.join("lock")).is_ok());
        files.remove(&two).unwrap();
        assert_eq!(file.read_at(0, &mut bytes).unwrap(), 9, "an open file outlives its name");
        assert_eq!(files.remove(&two).err().unwrap().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn all_places_behave_alike() {
        let dir = tempfile::tempdir().unwrap();
        check(&RealFiles, &dir.path().join("a/b"));
        check(&MemoryFiles::default(), Path::new("/a/b"));
        check(&super::super::simulated::SimulatedDisk::new(0), Path::new("/a/b"));
    }
}
