//! Checkpoints on disk: the state at one epoch as a file of framed records, so that a start need not replay the
//! whole journal.
//!
//! A checkpoint is written under a name that no start looks at, synced, and renamed: it is there whole or not at
//! all. The last record says how many there are; one that is damaged makes the start take the one before it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::journal::files::{File, Files};
use crate::journal::record::{Found, Frames, Header, Place, push_frame};

/// Kind of the last record: how many were before it.
const END: u8 = u8::MAX;
/// Bytes gathered before they are written.
const BUFFER_LEN: usize = 1 << 20;
/// Longest record, in bytes.
const RECORD_LEN_MAX: u32 = 256 << 20;
const READ_AHEAD: usize = 1 << 20;

/// Where checkpoints are.
#[derive(Clone)]
pub struct Checkpoints {
    files: Arc<dyn Files>,
    dir: PathBuf,
}

impl Checkpoints {
    /// Checkpoints in `dir`, which is created if it is missing.
    ///
    /// # Errors
    /// The directory can't be used.
    pub fn open(files: Arc<dyn Files>, dir: &Path) -> io::Result<Checkpoints> {
        files.create_dir(dir)?;
        Ok(Checkpoints { files, dir: dir.into() })
    }

    /// The epochs of which there is a checkpoint, newest first.
    ///
    /// # Errors
    /// The directory can't be read.
    pub fn epochs(&self) -> io::Result<Vec<u64>> {
        let mut epochs: Vec<u64> =
            self.files.list(&self.dir)?.iter().filter_map(|name| parse(name)).collect();
        epochs.sort_unstable_by(|a, b| b.cmp(a));
        Ok(epochs)
    }

    /// Begins to write the checkpoint of `epoch`.
    ///
    /// # Errors
    /// The file can't be created.
    pub fn write(&self, epoch: u64) -> io::Result<Writer> {
        let part = self.dir.join(format!("{}.part", name(epoch)));
        match self.files.remove(&part) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = self.files.create(&part)?;
        Ok(Writer { place: self.clone(), part, epoch, file, buffer: Vec::new(), offset: 0, records: 0 })
    }

    /// Reads the checkpoint of `epoch`: calls `record` with kind and content of each record, in order.
    ///
    /// # Errors
    /// What is wrong with it, naming the file.
    pub fn read(
        &self,
        epoch: u64,
        mut record: impl FnMut(u8, &[u8]) -> Result<(), String>,
    ) -> Result<(), String> {
        let path = self.dir.join(name(epoch));
        let wrong = |what: String| format!("{}: {what}", path.display());
        let file = self.files.open(&path).map_err(|e| wrong(e.to_string()))?;
        let end = file.length().map_err(|e| wrong(e.to_string()))?;
        let mut frames = Frames::new(Place { serial: epoch, offset: 0 }, READ_AHEAD, RECORD_LEN_MAX);
        let mut records = 0_u64;
        loop {
            match frames.next(&*file, end).map_err(|e| wrong(e.to_string()))? {
                Some(Found::Whole(header, payload)) if header.kind == END => {
                    return match <[u8; 8]>::try_from(payload).map(u64::from_le_bytes) {
                        Ok(expected) if expected == records => Ok(()),
                        _ => Err(wrong(format!("expected another number of records than {records}"))),
                    };
                }
                Some(Found::Whole(header, payload)) => {
                    record(header.kind, payload).map_err(wrong)?;
                    records += 1;
                }
                Some(Found::Bad { .. }) => return Err(wrong("a record is damaged".into())),
                None => return Err(wrong("it is cut off".into())),
            }
        }
    }

    /// Keeps the newest `count` checkpoints, and deletes the others and what was never finished.
    ///
    /// # Errors
    /// A file can't be deleted.
    pub fn keep(&self, count: usize) -> io::Result<()> {
        let old = self.epochs()?.into_iter().skip(count).map(name);
        let parts = self.files.list(&self.dir)?.into_iter().filter(|name| name.ends_with(".part"));
        for name in old.chain(parts).collect::<Vec<_>>() {
            self.files.remove(&self.dir.join(name))?;
        }
        Ok(())
    }
}

fn name(epoch: u64) -> String {
    format!("{epoch:020}.checkpoint")
}

fn parse(name: &str) -> Option<u64> {
    name.strip_suffix(".checkpoint").filter(|digits| digits.len() == 20)?.parse().ok()
}

/// A checkpoint that is being written. Dropped without [`Writer::finish`] it never was.
pub struct Writer {
    place: Checkpoints,
    part: PathBuf,
    epoch: u64,
    file: Arc<dyn File>,
    buffer: Vec<u8>,
    offset: u64,
    records: u64,
}

impl Writer {
    /// Appends a record; `kind` is the caller's, below 255.
    ///
    /// # Errors
    /// The file can't be written, or the record is too long.
    pub fn put(&mut self, kind: u8, content: &[u8]) -> io::Result<()> {
        if content.len() > RECORD_LEN_MAX as usize {
            let text =
                format!("expected a record of at most {RECORD_LEN_MAX} bytes, found {}", content.len());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        self.push(kind, content);
        self.records += 1;
        if self.buffer.len() >= BUFFER_LEN { self.flush() } else { Ok(()) }
    }

    fn push(&mut self, kind: u8, content: &[u8]) {
        let place = Place { serial: self.epoch, offset: self.offset + self.buffer.len() as u64 };
        push_frame(&mut self.buffer, place, &Header::of(kind, self.epoch, 0, content), content);
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_at(self.offset, &self.buffer)?;
        self.offset += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Makes it durable and gives it its name; returns its bytes.
    ///
    /// # Errors
    /// The disk refuses; the checkpoint then is not there, or not for sure.
    pub fn finish(mut self) -> io::Result<u64> {
        let records = self.records.to_le_bytes();
        self.push(END, &records);
        self.flush()?;
        self.file.sync_data()?;
        let Checkpoints { files, dir } = &self.place;
        files.rename(&self.part, &dir.join(name(self.epoch)))?;
        files.sync_dir(dir)?;
        Ok(self.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::files::MemoryFiles;

    fn contents(checkpoints: &Checkpoints, epoch: u64) -> Result<Vec<(u8, Vec<u8>)>, String> {
        let mut found = Vec::new();
        checkpoints.read(epoch, |kind, content| {
            found.push((kind, content.to_vec()));
            Ok(())
        })?;
        Ok(found)
    }

    #[test]
    fn a_checkpoint_is_there_whole_or_not_at_all() {
        let files: Arc<dyn Files> = Arc::new(MemoryFiles::default());
        let checkpoints = Checkpoints::open(files.clone(), Path::new("c")).unwrap();
        let records: Vec<(u8, Vec<u8>)> = (1..50).map(|at| (at, vec![at; 50_000 + at as usize])).collect();
        for epoch in [7, 9] {
            let mut writer = checkpoints.write(epoch).unwrap();
            records.iter().for_each(|(kind, content)| writer.put(*kind, content).unwrap());
            assert!(!checkpoints.epochs().unwrap().contains(&epoch));
            writer.finish().unwrap();
        }
        drop(checkpoints.write(10).unwrap());
        assert_eq!(checkpoints.epochs().unwrap(), [9, 7]);
        assert_eq!(contents(&checkpoints, 9).unwrap(), records);
        // Any damage is noticed.
        let file = files.open(&Path::new("c").join(name(9))).unwrap();
        let len = file.length().unwrap();
        for at in [0, 20, 60, len / 2, len - 1] {
            let mut byte = [0];
            file.read_at(at, &mut byte).unwrap();
            file.write_at(at, &[byte[0] ^ 4]).unwrap();
            assert!(contents(&checkpoints, 9).is_err(), "{at}");
            file.write_at(at, &byte).unwrap();
        }
        file.truncate(len - 44).unwrap();
        assert!(contents(&checkpoints, 9).unwrap_err().contains("cut off"));
        checkpoints.keep(1).unwrap();
        assert_eq!(files.list(Path::new("c")).unwrap(), [name(9)]);
    }
}
