//! A disk in memory that fails on command, for tests: what was not synced is dropped or torn by a power loss, names
//! are lost unless their directory was synced, space runs out, and any call can be made to fail.
//!
//! It is harsher than disks are: what was not synced may survive in any subset of its 512-byte sectors, or up to any
//! byte; and a sync that fails may have dropped what it should have written, while later syncs say that all is well.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::files::{File, Files, Locks, names_in, read_from, write_into};

const SECTOR: usize = 512;

/// Kinds of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "named as the calls are")]
pub enum Call {
    Create,
    Open,
    List,
    Lock,
    Read,
    Write,
    Sync,
    Truncate,
    Length,
    Remove,
    Rename,
    SyncDir,
}

/// All kinds of calls.
pub const CALLS: [Call; 12] = [
    Call::Create,
    Call::Open,
    Call::List,
    Call::Lock,
    Call::Read,
    Call::Write,
    Call::Sync,
    Call::Truncate,
    Call::Length,
    Call::Remove,
    Call::Rename,
    Call::SyncDir,
];

/// Makes calls of one kind fail.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// Which.
    pub call: Call,
    /// The first one, counted from the start of the disk.
    pub from: u64,
    /// How many.
    pub times: u64,
    /// With what.
    pub error: io::ErrorKind,
}

/// The disk. Clones are the same disk.
#[derive(Clone)]
pub struct SimulatedDisk {
    state: Arc<Mutex<State>>,
    locks: Locks,
}

struct State {
    seed: u64,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    name_changes: Vec<NameChange>,
    contents: Vec<Content>,
    /// Bytes that all files may have together.
    space: Option<u64>,
    faults: Vec<Fault>,
    calls: BTreeMap<Call, u64>,
}

#[derive(Clone, Default)]
struct Content {
    seen: Vec<u8>,
    durable: Vec<u8>,
    changes: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Write(u64, Vec<u8>),
    Truncate(u64),
}

#[derive(Clone)]
enum NameChange {
    Add(PathBuf, usize),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf),
}

impl SimulatedDisk {
    /// An empty disk; `seed` decides how what fails fails.
    pub fn new(seed: u64) -> SimulatedDisk {
        let state = State {
            seed: seed ^ 0x9e37_79b9_7f4a_7c15,
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            name_changes: Vec::new(),
            contents: Vec::new(),
            space: None,
            faults: Vec::new(),
            calls: BTreeMap::new(),
        };
        SimulatedDisk { state: Arc::new(Mutex::new(state)), locks: Locks::default() }
    }

    /// Lets calls fail. Faults add up.
    pub fn fail(&self, fault: Fault) {
        self.state.lock().faults.push(fault);
    }

    /// Lets nothing fail any more.
    pub fn heal(&self) {
        let mut state = self.state.lock();
        state.faults.clear();
        state.space = None;
    }

    /// Bytes that all files may have together; `None` for no limit.
    pub fn set_space(&self, bytes: Option<u64>) {
        self.state.lock().space = bytes;
    }

    /// Bytes that all files have together.
    pub fn used(&self) -> u64 {
        self.state.lock().used()
    }

    /// Calls of a kind so far.
    pub fn calls(&self, call: Call) -> u64 {
        self.state.lock().calls.get(&call).copied().unwrap_or(0)
    }

    /// Turns one bit of the file `path` around, where it can be seen and on the medium.
    pub fn flip(&self, path: &Path, bit: u64) {
        let mut state = self.state.lock();
        let Some(content) = state.names.get(path).copied() else { return };
        let content = &mut state.contents[content];
        for bytes in [&mut content.seen, &mut content.durable] {
            if let Some(byte) = bytes.get_mut((bit / 8) as usize) {
                *byte ^= 1 << (bit % 8);
            }
        }
    }

    /// The disk as it is when the power comes back. This one goes on as if nothing had happened.
    pub fn power_loss(&self, seed: u64) -> SimulatedDisk {
        let old = self.state.lock();
        let after = SimulatedDisk::new(seed);
        let mut state = after.state.lock();
        let mut names = old.durable_names.clone();
        // Each seed has a temper: disks lose everything, nothing, or anything.
        let temper = state.below(4);
        for change in &old.name_changes {
            if state.survives(temper) {
                change.apply(&mut names);
            }
        }
        for (path, content) in names {
            let content = &old.contents[content];
            let mut durable = content.durable.clone();
            for change in &content.changes {
                state.apply_some(&mut durable, change, temper);
            }
            let at = state.contents.len();
            state.contents.push(Content { seen: durable.clone(), durable, changes: Vec::new() });
            state.names.insert(path.clone(), at);
            state.durable_names.insert(path, at);
        }
        drop(state);
        after
    }

    /// Counts a call and lets it fail if it should.
    fn call(&self, call: Call) -> (parking_lot::MutexGuard<'_, State>, io::Result<()>) {
        let mut state = self.state.lock();
        let count = state.calls.entry(call).or_default();
        let index = *count;
        *count += 1;
        let hit = |f: &&Fault| f.call == call && index >= f.from && index - f.from < f.times;
        let result = match state.faults.iter().find(hit) {
            Some(fault) => Err(io::Error::new(fault.error, format!("simulated, {call:?} {index}"))),
            None => Ok(()),
        };
        (state, result)
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            NameChange::Add(path, content) => drop(names.insert(path.clone(), *content)),
            NameChange::Remove(path) => drop(names.remove(path)),
            NameChange::Rename(from, to) => {
                if let Some(content) = names.remove(from) {
                    names.insert(to.clone(), content);
                }
            }
        }
    }

    fn in_dir(&self, dir: &Path) -> bool {
        let (NameChange::Add(path, _) | NameChange::Remove(path) | NameChange::Rename(_, path)) = self;
        path.parent() == Some(dir)
    }
}

impl State {
    /// A number below `n`. SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
    fn below(&mut self, n: u64) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }

    fn survives(&mut self, temper: u64) -> bool {
        match temper {
            0 => false,
            1 => self.below(8) != 0,
            _ => self.below(2) == 0,
        }
    }

    /// Applies what survives of a change that was never synced.
    fn apply_some(&mut self, content: &mut Vec<u8>, change: &Change, temper: u64) {
        match change {
            Change::Truncate(len) => {
                if self.survives(temper) {
                    content.resize(*len as usize, 0);
                }
            }
            Change::Write(offset, bytes) if temper == 3 => {
                // Torn at any byte.
                let upto = self.below(bytes.len() as u64 + 1) as usize;
                write_into(content, *offset, &bytes[..upto]);
            }
            Change::Write(offset, bytes) => {
                let mut from = 0;
                while from < bytes.len() {
                    let at = *offset as usize + from;
                    let till = bytes.len().min(from + SECTOR - at % SECTOR);
                    if self.survives(temper) {
                        write_into(content, at as u64, &bytes[from..till]);
                    }
                    from = till;
                }
            }
        }
    }

    fn used(&self) -> u64 {
        self.names.values().map(|at| self.contents[*at].seen.len() as u64).sum()
    }

    fn rename(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.name_changes.push(change);
    }
}

impl Files for SimulatedDisk {
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        self.call(Call::Lock).1?;
        self.locks.take(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let (state, result) = self.call(Call::List);
        result.map(|()| names_in(dir, state.names.keys()))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let (mut state, result) = self.call(Call::Create);
        result?;
        if state.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if state.space.is_some_and(|space| state.used() >= space) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let content = state.contents.len();
        state.contents.push(Content::default());
        state.rename(NameChange::Add(path.to_owned(), content));
        Ok(Arc::new(SimulatedFile { disk: self.clone(), content }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let (state, result) = self.call(Call::Open);
        result?;
        let content = *state.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(SimulatedFile { disk: self.clone(), content }))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let (mut state, result) = self.call(Call::Remove);
        result?;
        if !state.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.rename(NameChange::Remove(path.to_owned()));
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (mut state, result) = self.call(Call::Rename);
        result?;
        if !state.names.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.rename(NameChange::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let (mut state, result) = self.call(Call::SyncDir);
        result?;
        let State { durable_names, name_changes, .. } = &mut *state;
        name_changes.retain(|change| {
            let synced = change.in_dir(dir);
            if synced {
                change.apply(durable_names);
            }
            !synced
        });
        Ok(())
    }
}

struct SimulatedFile {
    disk: SimulatedDisk,
    content: usize,
}

impl File for SimulatedFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let (mut state, mut result) = self.disk.call(Call::Write);
        let mut upto = bytes.len();
        if result.is_err() {
            // A short write before the error, or a whole one.
            upto = state.below(bytes.len() as u64 + 1) as usize;
        }
        if let Some(space) = state.space {
            let len = state.contents[self.content].seen.len() as u64;
            let room = space.saturating_sub(state.used()) + len.saturating_sub(offset);
            if upto as u64 > room {
                upto = room as usize;
                result = Err(io::ErrorKind::StorageFull.into());
            }
        }
        if upto > 0 {
            let content = &mut state.contents[self.content];
            write_into(&mut content.seen, offset, &bytes[..upto]);
            content.changes.push(Change::Write(offset, bytes[..upto].to_vec()));
        }
        result
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let (state, result) = self.disk.call(Call::Read);
        result?;
        Ok(read_from(&state.contents[self.content].seen, offset, into))
    }

    fn sync_data(&self) -> io::Result<()> {
        let (mut state, result) = self.disk.call(Call::Sync);
        let changes = std::mem::take(&mut state.contents[self.content].changes);
        let mut durable = std::mem::take(&mut state.contents[self.content].durable);
        let temper = state.below(4);
        for change in &changes {
            match (&result, change) {
                (Ok(()), Change::Write(offset, bytes)) => write_into(&mut durable, *offset, bytes),
                (Ok(()), Change::Truncate(len)) => durable.resize(*len as usize, 0),
                (Err(_), change) => state.apply_some(&mut durable, change, temper),
            }
        }
        state.contents[self.content].durable = durable;
        result
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        let (mut state, result) = self.disk.call(Call::Truncate);
        result?;
        let content = &mut state.contents[self.content];
        content.seen.resize(len as usize, 0);
        content.changes.push(Change::Truncate(len));
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        let (state, result) = self.disk.call(Call::Length);
        result.map(|()| state.contents[self.content].seen.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(disk: &SimulatedDisk, path: &Path) -> Option<Vec<u8>> {
        let file = disk.open(path).ok()?;
        let mut bytes = vec![0; file.length().ok()? as usize];
        file.read_at(0, &mut bytes).ok()?;
        Some(bytes)
    }

    #[test]
    fn only_what_was_synced_surely_survives() {
        let (dir, path) = (Path::new("/d"), Path::new("/d/f"));
        let (mut torn, mut unnamed, mut whole) = (0, 0, 0);
        for seed in 0..200 {
            let disk = SimulatedDisk::new(seed);
            let file = disk.create(path).unwrap();
            file.write_at(0, b"synced").unwrap();
            file.sync_data().unwrap();
            unnamed += usize::from(read(&disk.power_loss(seed), path).is_none());
            disk.sync_dir(dir).unwrap();
            file.write_at(6, &[1; 2000]).unwrap();
            let after = read(&disk.power_loss(seed), path).expect("its name was synced");
            assert_eq!(after[..6], *b"synced", "seed {seed}");
            match after[6..].iter().filter(|b| **b == 1).count() {
                0 => {}
                2000 => whole += 1,
                _ => torn += 1,
            }
            disk.remove(path).unwrap();
        }
        assert!(torn > 50 && unnamed > 50 && whole > 5, "{torn} {unnamed} {whole}");
    }

    #[test]
    fn a_sync_that_fails_may_have_dropped_what_it_should_have_written() {
        let path = Path::new("/d/f");
        let mut dropped = 0;
        for seed in 0..50 {
            let disk = SimulatedDisk::new(seed);
            let file = disk.create(path).unwrap();
            disk.sync_dir(Path::new("/d")).unwrap();
            file.write_at(0, b"abc").unwrap();
            disk.fail(Fault { call: Call::Sync, from: 0, times: 1, error: io::ErrorKind::Other });
            assert!(file.sync_data().is_err());
            file.sync_data().unwrap();
            assert_eq!(read(&disk, path).unwrap(), b"abc", "it can still be seen");
            dropped += usize::from(read(&disk.power_loss(seed), path).unwrap() != b"abc");
        }
        assert!(dropped > 10, "{dropped}");
    }

    #[test]
    fn space_runs_out_in_the_middle_of_a_write() {
        let disk = SimulatedDisk::new(1);
        disk.set_space(Some(4));
        let file = disk.create(Path::new("/d/f")).unwrap();
        assert_eq!(file.write_at(0, b"abcdef").unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!((file.length().unwrap(), disk.used()), (4, 4));
        file.truncate(0).unwrap();
        file.write_at(0, b"ab").unwrap();
        file.write_at(0, b"cdef").unwrap();
    }
}
