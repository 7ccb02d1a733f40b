//! Housekeeping after a flush: small parquet files are merged, old files deleted.
//!
//! None of this ever fails a flush: what could not be done is logged and tried again later.

use std::io;
use std::path::Path;

use operators::sample::TimeNs;

use super::catalog::FileEntry;
use super::name::FileName;
use super::parquet::{self, Table};
use super::{FileFormat, FileSink};

/// So many neighbours of one size make one of the next size; each row is rewritten a few times at
/// most, and a day of flushes stays a handful of files.
pub(super) const FAN_IN: usize = 16;

/// Rows in a merged file at most, so that a merge stays small in memory.
const MERGED_ROWS_MAX: u64 = 1 << 20;

impl FileSink {
    /// Merges the newest files of the period that is being written, when enough of one size stand
    /// side by side.
    pub(super) fn merge_level(&mut self) {
        let period = self.config.rotation.period(self.now_ns());
        loop {
            let files: Vec<(FileName, u64)> = self.mergeable(|name| self.period_of(name) == period);
            let fan_in = self.limits.fan_in;
            let Some(newest) = files.last().map(|(name, _)| level(name, fan_in)) else { return };
            let run = files.iter().rev().take_while(|(name, _)| level(name, fan_in) == newest).count();
            let run = &files[files.len() - run..];
            let samples: u64 = run.iter().map(|(_, samples)| samples).sum();
            if run.len() < fan_in || samples > MERGED_ROWS_MAX || !self.merge(run) {
                return;
            }
        }
    }

    /// Merges what is left of all periods but the one being written.
    pub(super) fn merge_past(&mut self) {
        let period = self.config.rotation.period(self.now_ns());
        let files = self.mergeable(|name| self.period_of(name) != period);
        let mut run: Vec<(FileName, u64)> = Vec::new();
        for (name, samples) in files {
            let sum: u64 = run.iter().map(|(_, samples)| samples).sum();
            let same = run.last().is_none_or(|(last, _)| self.period_of(last) == self.period_of(&name));
            if !same || sum + samples > MERGED_ROWS_MAX {
                self.merge(&run);
                run.clear();
            }
            run.push((name, samples));
        }
        self.merge(&run);
    }

    fn mergeable(&self, wanted: impl Fn(&FileName) -> bool) -> Vec<(FileName, u64)> {
        let catalog = self.directory.catalog.lock();
        let parquet = catalog.files.iter().filter(|file| {
            file.name.format == FileFormat::Parquet
                && !file.hidden
                && file.name.first >= self.merge_from
                && wanted(&file.name)
        });
        parquet.map(|file| (file.name.clone(), file.samples())).collect()
    }

    fn period_of(&self, name: &FileName) -> i64 {
        self.config.rotation.period(name.begun_ns)
    }

    /// Replaces a run of files by one; says whether it did.
    fn merge(&mut self, run: &[(FileName, u64)]) -> bool {
        let [(first, _), .., (last, _)] = run else { return false };
        let name = FileName { last: last.last, ..first.clone() };
        match self.write_merged(run, name.clone()) {
            Ok(merged) => {
                let parts: Vec<FileName> = run.iter().map(|(name, _)| name.clone()).collect();
                self.replace(&parts, merged);
                true
            }
            Err(error) => {
                tracing::warn!(file = %first.text(), %error, "stored files could not be merged");
                // The parts stand for themselves: what was begun must not take their place later.
                self.remove(&self.directory.path.join(name.text()));
                self.remove(&self.directory.path.join(name.part()));
                self.merge_from = last.last + 1;
                false
            }
        }
    }

    fn write_merged(&self, run: &[(FileName, u64)], name: FileName) -> io::Result<FileEntry> {
        let dir = &self.directory.path;
        let mut table = Table::default();
        for (part, _) in run {
            parquet::load(&dir.join(part.text()), &mut table)?;
        }
        self.write_table(&table, name)
    }

    /// Writes a parquet file so that it is there complete or not at all.
    pub(super) fn write_table(&self, table: &Table, name: FileName) -> io::Result<FileEntry> {
        let dir = &self.directory.path;
        let file = self.write_part(table, FileEntry::new(name))?;
        self.disk.rename(&dir.join(file.name.part()), &dir.join(file.name.text()))?;
        self.disk.sync_dir(dir)?;
        Ok(file)
    }

    /// Writes a parquet file under its `.part` name.
    pub(super) fn write_part(&self, table: &Table, file: FileEntry) -> io::Result<FileEntry> {
        let (bytes, blocks) = table.encode(self.config.compression).map_err(io::Error::other)?;
        self.disk.append(&self.directory.path.join(file.name.part()), 0, &bytes)?;
        Ok(FileEntry { bytes: bytes.len() as u64, blocks, ..file })
    }

    fn replace(&mut self, parts: &[FileName], merged: FileEntry) {
        {
            let mut catalog = self.directory.catalog.lock();
            let at = catalog.files.iter().position(|file| file.name == parts[0]).unwrap_or(0);
            catalog.files.retain(|file| !parts.contains(&file.name));
            catalog.files.insert(at, merged);
            catalog.merges += 1;
        }
        // Parts that stay behind after a crash here are known by their numbers, see `name`.
        for part in parts {
            self.remove(&self.directory.path.join(part.text()));
        }
    }

    /// Deletes files beyond `retention_ns`, then the oldest until `retention_bytes` is kept.
    pub(super) fn expire(&mut self, now_ns: TimeNs) {
        for name in self.expired(now_ns) {
            if self.remove(&self.directory.path.join(name.text())) {
                self.remove(&self.directory.path.join(name.index()));
                self.directory.catalog.lock().files.retain(|file| file.name != name);
                self.expired_files += 1;
                tracing::info!(file = %name.text(), "stored file deleted by retention");
            }
        }
    }

    fn expired(&self, now_ns: TimeNs) -> Vec<FileName> {
        let catalog = self.directory.catalog.lock();
        let oldest_ns = self.config.retention_ns.map_or(TimeNs::MIN, |keep| now_ns.saturating_sub(keep));
        let bytes_max = self.config.retention_bytes.unwrap_or(u64::MAX);
        let mut bytes = catalog.bytes();
        let mut expired = Vec::new();
        for (at, file) in catalog.files.iter().enumerate() {
            if file.hidden || Some(file.name.first) == self.current {
                continue;
            }
            // A file is as old as its newest sample; one from the future as when it was ended.
            let ended_ns = catalog.files.get(at + 1).map_or(TimeNs::MAX, |next| next.name.begun_ns);
            if file.max_ns().min(ended_ns) < oldest_ns || bytes > bytes_max {
                bytes -= file.bytes;
                expired.push(file.name.clone());
            }
        }
        expired
    }

    fn remove(&self, path: &Path) -> bool {
        let removed = self.disk.remove(path);
        if let Err(error) = &removed {
            tracing::warn!(file = %path.display(), %error, "stored file could not be deleted");
        }
        removed.is_ok()
    }
}

/// How often the rows of a file have been merged: its span of numbers in powers of `fan_in`.
fn level(name: &FileName, fan_in: usize) -> u32 {
    (name.last - name.first + 1).ilog(fan_in as u64)
}
