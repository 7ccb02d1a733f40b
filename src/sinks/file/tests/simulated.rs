//! A disk that loses what was not synced.
//!
//! The files really are in the test's directory, as programs see them; beside them the disk keeps
//! what is durable: the bytes of each file as of its last sync, the names as of the last sync of the
//! directory, and what was done since. A power loss puts the directory into one of the states that
//! may be found then: of each file its synced bytes, its newest ones or something between (cut,
//! grown by zeros, half of a write), of the changed names none, all, the last, the first few or any. A kill
//! loses nothing, but makes nothing durable either.

use std::collections::{BTreeMap, HashMap};
use std::fs;

use parking_lot::Mutex;

use super::super::disk::Disk;
use super::*;

/// How far a call comes that fails.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Done {
    Nothing,
    Half,
    /// Everything but the sync.
    Unsynced,
    Everything,
}

impl Done {
    pub const ALL: [Done; 4] = [Done::Nothing, Done::Half, Done::Unsynced, Done::Everything];
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fate {
    Works,
    Fails(Done),
    /// The process or the machine ends in it.
    Ends(Done),
}

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum End {
    Kill,
    /// Power loss, and the least, the most, or anything of what was not synced survives.
    Nothing,
    Everything,
    Anything,
    /// Everything written, but of the names only the one changed last.
    Reordered,
}

impl End {
    pub const ALL: [End; 5] = [End::Nothing, End::Everything, End::Anything, End::Kill, End::Reordered];
}

/// Says what becomes of the call with this number.
pub(super) type Plan = Box<dyn FnMut(usize) -> Fate + Send>;

/// The disk of one directory.
pub(super) struct Simulated {
    dir: PathBuf,
    state: Mutex<State>,
}

struct State {
    plan: Plan,
    calls: usize,
    /// Which of them changed names, or made that durable.
    name_calls: Vec<usize>,
    /// The process has ended; nothing works.
    ended: bool,
    dice: Dice,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    unsynced_names: Vec<Change>,
    files: HashMap<u64, Bytes>,
    next: u64,
}

/// A change of names that is not durable yet.
enum Change {
    Made(PathBuf, u64),
    Renamed(PathBuf, PathBuf, u64),
    Removed(PathBuf, u64),
}

#[derive(Clone, Default)]
struct Bytes {
    now: Vec<u8>,
    durable: Vec<u8>,
    /// What may be found as well, since the last sync.
    between: Vec<Vec<u8>>,
    /// A sync failed: from here on nothing reaches the disk that is not written again.
    forgotten_from: Option<usize>,
}

impl Bytes {
    fn write(&mut self, at: usize, bytes: &[u8]) {
        let before = self.now.clone();
        self.now.truncate(at);
        let cut = self.now.clone();
        self.now.extend_from_slice(bytes);
        let zeros = [&cut[..], &vec![0; bytes.len()]].concat();
        let half = [&cut[..], &bytes[..bytes.len() / 2]].concat();
        let half_and_zeros = [&half[..], &vec![0; bytes.len() - bytes.len() / 2]].concat();
        let over_old = match before.get(at + bytes.len()..) {
            Some(rest) => [&self.now[..], rest].concat(),
            None => self.now.clone(),
        };
        self.between.extend([before, cut, zeros, half, half_and_zeros, over_old, self.now.clone()]);
        if self.forgotten_from.is_some_and(|from| at <= from) {
            self.forgotten_from = None;
        }
    }

    fn sync(&mut self) {
        self.durable.clone_from(&self.now);
        if let Some(from) = self.forgotten_from {
            self.durable.iter_mut().skip(from).for_each(|byte| *byte = 0);
        }
        self.between.clear();
    }
}

impl Simulated {
    pub fn new(dir: &Path, seed: u64) -> Self {
        let state = State {
            plan: Box::new(|_| Fate::Works),
            calls: 0,
            name_calls: Vec::new(),
            ended: false,
            dice: Dice(seed),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            unsynced_names: Vec::new(),
            files: HashMap::new(),
            next: 0,
        };
        Simulated { dir: dir.to_path_buf(), state: Mutex::new(state) }
    }

    /// Takes what is in the directory for durable.
    pub fn adopt(&self) {
        let state = &mut *self.state.lock();
        for entry in fs::read_dir(&self.dir).unwrap() {
            let path = entry.unwrap().path();
            let durable = fs::read(&path).unwrap();
            state.next += 1;
            state.files.insert(state.next, Bytes { now: durable.clone(), durable, ..Bytes::default() });
            state.names.insert(path, state.next);
        }
        state.durable_names.clone_from(&state.names);
    }

    /// From now on calls go as planned, counted from 0.
    pub fn plan(&self, plan: impl FnMut(usize) -> Fate + Send + 'static) {
        let mut state = self.state.lock();
        (state.plan, state.calls) = (Box::new(plan), 0);
        state.name_calls.clear();
    }

    /// Calls since the plan was made.
    pub fn calls(&self) -> usize {
        self.state.lock().calls
    }

    /// Those of them that renamed a file or synced the directory.
    pub fn name_calls(&self) -> Vec<usize> {
        self.state.lock().name_calls.clone()
    }

    /// Whether a call has ended the process.
    pub fn has_ended(&self) -> bool {
        self.state.lock().ended
    }

    /// Nothing works from here on.
    pub fn end(&self) {
        self.state.lock().ended = true;
    }

    /// The next process finds what `end` leaves.
    pub fn restart(&self, end: End) {
        let state = &mut *self.state.lock();
        state.ended = false;
        (state.plan, state.calls) = (Box::new(|_| Fate::Works), 0);
        if end == End::Kill {
            return;
        }
        for path in state.names.keys() {
            fs::remove_file(path).unwrap();
        }
        state.lose_names(end);
        let kept: Vec<u64> = state.durable_names.values().copied().collect();
        state.files.retain(|id, _| kept.contains(id));
        let mut files: Vec<(&u64, &mut Bytes)> = state.files.iter_mut().collect();
        files.sort_by_key(|(id, _)| **id);
        for (_, bytes) in files {
            let choices = bytes.between.len() as u64;
            let found = match end {
                End::Everything | End::Reordered if bytes.forgotten_from.is_none() => bytes.now.clone(),
                End::Anything if choices > 0 && bytes.forgotten_from.is_none() => {
                    bytes.between[state.dice.below(choices) as usize].clone()
                }
                _ => bytes.durable.clone(),
            };
            *bytes = Bytes { now: found.clone(), durable: found, ..Bytes::default() };
        }
        state.names.clone_from(&state.durable_names);
        for (path, id) in &state.names {
            fs::write(path, &state.files[id].now).unwrap();
        }
    }

    /// Runs a call: `half` of it, all of it, and the sync at its end.
    fn call(
        &self,
        half: impl FnOnce(&mut State),
        whole: impl FnOnce(&mut State) -> io::Result<()>,
        sync: impl FnOnce(&mut State, bool),
    ) -> io::Result<()> {
        let state = &mut *self.state.lock();
        if state.ended {
            return Err(io::Error::other("the process has ended"));
        }
        let fate = (state.plan)(state.calls);
        state.calls += 1;
        let (done, ends) = match fate {
            Fate::Works => {
                whole(state)?;
                sync(state, true);
                return Ok(());
            }
            Fate::Fails(done) => (done, false),
            Fate::Ends(done) => (done, true),
        };
        match done {
            Done::Nothing => {}
            Done::Half => half(state),
            Done::Unsynced => {
                whole(state)?;
                if !ends {
                    sync(state, false);
                }
            }
            Done::Everything => {
                whole(state)?;
                sync(state, true);
            }
        }
        state.ended = ends;
        let kind = if state.dice.below(2) == 0 { libc_like(5) } else { libc_like(28) };
        Err(kind)
    }
}

/// EIO and ENOSPC as the system says them.
fn libc_like(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}

impl State {
    fn id(&self, path: &Path) -> io::Result<u64> {
        self.names.get(path).copied().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    /// Writes in memory and to the real file.
    fn write(&mut self, path: &Path, at: usize, bytes: &[u8]) -> io::Result<()> {
        let id = match self.names.get(path) {
            Some(id) => *id,
            None if at > 0 => return Err(io::Error::from(io::ErrorKind::NotFound)),
            None => {
                self.next += 1;
                self.names.insert(path.to_path_buf(), self.next);
                self.unsynced_names.push(Change::Made(path.to_path_buf(), self.next));
                self.next
            }
        };
        let file = self.files.entry(id).or_default();
        assert!(at <= file.now.len(), "a gap in {}", path.display());
        file.write(at, bytes);
        fs::write(path, &file.now)
    }

    /// Syncs a file, or fails to.
    fn sync(&mut self, path: &Path, works: bool, from: usize) {
        let id = self.names[path];
        let Some(file) = self.files.get_mut(&id) else { return };
        match works {
            true => file.sync(),
            false => file.forgotten_from = Some(file.forgotten_from.map_or(from, |known| known.min(from))),
        }
    }

    fn lose_names(&mut self, end: End) {
        let changes = std::mem::take(&mut self.unsynced_names);
        let first = self.dice.below(changes.len() as u64 + 1) as usize;
        let any = self.dice.below(2) == 0;
        let last = changes.len();
        for (at, change) in changes.into_iter().enumerate() {
            let survives = match end {
                End::Nothing => false,
                End::Anything if any => self.dice.below(2) == 0,
                End::Anything => at < first,
                End::Reordered => at + 1 == last,
                _ => true,
            };
            if survives {
                change.apply(&mut self.durable_names);
            }
        }
    }
}

impl Change {
    fn apply(self, names: &mut BTreeMap<PathBuf, u64>) {
        match self {
            Change::Made(path, id) => {
                names.insert(path, id);
            }
            Change::Renamed(from, to, id) => {
                if names.get(&from) == Some(&id) {
                    names.remove(&from);
                }
                names.insert(to, id);
            }
            Change::Removed(path, id) => {
                if names.get(&path) == Some(&id) {
                    names.remove(&path);
                }
            }
        }
    }
}

impl Disk for Simulated {
    fn make_dir(&self, _path: &Path) -> io::Result<()> {
        self.call(|_| {}, |_| Ok(()), |_, _| {})
    }

    fn append(&self, path: &Path, at: u64, bytes: &[u8]) -> io::Result<()> {
        let at = at as usize;
        self.call(
            |state| state.write(path, at, &bytes[..bytes.len() / 2]).unwrap(),
            |state| state.write(path, at, bytes),
            |state, works| state.sync(path, works, at),
        )
    }

    fn put(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.call(
            |state| state.write(path, 0, &bytes[..bytes.len() / 2]).unwrap(),
            |state| state.write(path, 0, bytes),
            |_, _| {},
        )
    }

    fn cut(&self, path: &Path, len: u64) -> io::Result<()> {
        let len = len as usize;
        self.call(
            |_| {},
            |state| {
                state.id(path)?;
                state.write(path, len, &[])
            },
            |state, works| {
                if works {
                    state.sync(path, true, len);
                }
            },
        )
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call(
            |_| {},
            |state| {
                state.name_calls.push(state.calls - 1);
                let id = state.id(from)?;
                fs::rename(from, to)?;
                state.names.remove(from);
                state.names.insert(to.to_path_buf(), id);
                state.unsynced_names.push(Change::Renamed(from.to_path_buf(), to.to_path_buf(), id));
                Ok(())
            },
            |_, _| {},
        )
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        assert_eq!(dir, self.dir);
        let sync = |state: &mut State, works: bool| {
            if works {
                state.unsynced_names.clear();
                state.durable_names.clone_from(&state.names);
            }
        };
        let note = |state: &mut State| {
            state.name_calls.push(state.calls - 1);
            Ok(())
        };
        self.call(|_| {}, note, sync)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.call(
            |_| {},
            |state| {
                let Some(id) = state.names.remove(path) else { return Ok(()) };
                state.unsynced_names.push(Change::Removed(path.to_path_buf(), id));
                fs::remove_file(path)
            },
            |_, _| {},
        )
    }
}
