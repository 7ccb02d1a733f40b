//! Cutting out of a journal what is damaged, so that later starts don't meet it again. The log opens without it; this
//! is for people who want the complaint to end. What is replaced is kept as `.damaged`.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::files::{File, Files};
use super::inspect::{Verification, verify};
use super::log::{JournalError, Log, LogConfig};
use super::record::{Found, Frames, Header, KIND_SEGMENT, Place, push_frame};
use super::recovery::{Surveyed, find, survey};
use super::segment::Chain;

/// Bytes read and written at once.
const BLOCK: usize = 1 << 20;

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repair {
    /// Segments whose tail was cut: file name and bytes.
    pub cut: Vec<(String, u64)>,
    /// Segments that were written anew without what was damaged: file name, the name of what it was, bytes left out.
    pub rewritten: Vec<(String, String, u64)>,
    /// What was found.
    pub before: Verification,
    /// What is found now.
    pub after: Verification,
}

/// Repairs the journal in `config.dir`, which nobody else may have open. What is missing stays missing, and is still
/// told.
///
/// # Errors
/// If it is in use, or the disk refuses; no record is lost then, and it may be tried again.
pub fn repair(files: &Arc<dyn Files>, config: &LogConfig) -> Result<Repair, JournalError> {
    // Opening writes again what was not proven to be durable, and keeps everybody else out.
    let (log, before) = Log::open(files.clone(), config.clone())?;
    log.sync().map_err(|source| JournalError::Io { what: "sync", path: config.dir.clone(), source })?;
    let files = files.as_ref();
    let mut found = find(files, &config.dir)?;
    survey(files, config, &mut found, |_, _| {})?;
    let mut done = Repair { before: Verification { found: before }, ..Repair::default() };
    let mut last = (0, 0);
    // What has no limit is the leftover of a failed write: nothing of it is ever read.
    for segment in found.iter().filter(|segment| segment.limit > 0) {
        let failed = |source| JournalError::Io { what: "repair", path: segment.path.clone(), source };
        let mut end = segment.whole_end;
        if segment.bad.iter().any(|(bytes, _)| bytes.start < end) {
            end = rewrite(files, config, segment, last).map_err(failed)?;
            let left_out = segment.length.saturating_sub(end);
            done.rewritten.push((segment.name.clone(), format!("{}.damaged", segment.name), left_out));
        } else if segment.length > end {
            cut(files, &segment.path, end).map_err(failed)?;
            done.cut.push((segment.name.clone(), segment.length - end));
        }
        last = (segment.serial, end);
    }
    done.after = verify(files, config)?;
    Ok(done)
}

fn cut(files: &dyn Files, path: &Path, len: u64) -> io::Result<()> {
    let file = files.open(path)?;
    file.truncate(len)?;
    file.sync_data()
}

/// Writes the whole records of `segment` into a new file that takes its place; gives its length.
fn rewrite(files: &dyn Files, config: &LogConfig, segment: &Surveyed, before: (u64, u64)) -> io::Result<u64> {
    let old = files.open(&segment.path)?;
    copy(files, old.as_ref(), segment.length, &with_suffix(&segment.path, ".damaged"))?;
    let part = with_suffix(&segment.path, ".part");
    let new = fresh(files, &part)?;
    let unknown = Chain { before: before.0, before_end: before.1, again: None, again_bytes: 0 };
    // What it repeats of earlier segments counts here, whole or not.
    let chain = Chain { again_bytes: 0, ..segment.chain.unwrap_or(unknown) };
    let (mut bytes, mut written) = (Vec::new(), 0);
    chain.push(&mut bytes, segment.serial, segment.first, segment.durable);
    let mut frames = Frames::new(Place { serial: segment.serial, offset: 0 }, BLOCK, config.record_bytes_max);
    while let Some(found) = frames.next(old.as_ref(), segment.limit)? {
        let Found::Whole(header, payload) = found else { continue };
        if header.kind == KIND_SEGMENT {
            continue;
        }
        push_moved(&mut bytes, segment.serial, written, &header, payload);
        if bytes.len() >= BLOCK {
            new.write_at(written, &bytes)?;
            written += bytes.len() as u64;
            bytes.clear();
        }
    }
    new.write_at(written, &bytes)?;
    new.sync_data()?;
    // The names of the copy and of this one in one step: whenever the power goes, the segment is the old or the new.
    files.sync_dir(&config.dir)?;
    files.rename(&part, &segment.path)?;
    files.sync_dir(&config.dir)?;
    Ok(written + bytes.len() as u64)
}

fn push_moved(bytes: &mut Vec<u8>, serial: u64, written: u64, header: &Header, payload: &[u8]) {
    let place = Place { serial, offset: written + bytes.len() as u64 };
    push_frame(bytes, place, header, payload);
}

/// Keeps what is replaced.
fn copy(files: &dyn Files, from: &dyn File, length: u64, to: &Path) -> io::Result<()> {
    let to = fresh(files, to)?;
    let mut block = vec![0; BLOCK];
    let mut at = 0;
    while at < length {
        let n = from.read_at(at, &mut block)?;
        if n == 0 {
            break;
        }
        to.write_at(at, &block[..n])?;
        at += n as u64;
    }
    to.sync_data()
}

/// An empty file, in the place of one that an earlier attempt may have left.
fn fresh(files: &dyn Files, path: &Path) -> io::Result<Arc<dyn File>> {
    match files.remove(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    files.create(path)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

impl fmt::Display for Repair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for damage in &self.before.found.damaged {
            writeln!(f, "found: {damage}")?;
        }
        for (name, bytes) in &self.cut {
            writeln!(f, "cut: {name}, {bytes} bytes of unfinished writes")?;
        }
        for (name, kept, bytes) in &self.rewritten {
            writeln!(f, "rewritten: {name} without {bytes} bytes, kept as {kept}")?;
        }
        if self.cut.is_empty() && self.rewritten.is_empty() {
            writeln!(f, "nothing to repair")?;
        }
        write!(f, "{}", self.after)
    }
}
