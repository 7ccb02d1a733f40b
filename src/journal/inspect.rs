//! What people ask of a journal: what is in it, and whether it is whole. Reads only, so a running service may have
//! it; what is being written at the moment then looks torn.

use std::fmt;
use std::path::Path;

use operators::sample::TimeNs;

use super::epochs::{KIND_ENTRIES, KIND_EPOCH, decode};
use super::files::Files;
use super::log::{JournalError, LogConfig};
use super::recovery::{Damage, Recovered, Surveyed, find, survey};

/// What stands in one segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SegmentReport {
    /// File name.
    pub name: String,
    /// Length of the file.
    pub bytes: u64,
    /// Numbers of its first and last record.
    pub numbers: Option<(u64, u64)>,
    /// Epochs; their catalog entries; records of other kinds.
    pub epochs: u64,
    /// See `epochs`.
    pub entries: u64,
    /// See `epochs`.
    pub others: u64,
    /// Records that repeat earlier ones.
    pub copies: u64,
    /// Samples of its epochs.
    pub samples: u64,
    /// Arrival time of its first and last epoch.
    pub arrival_ns: Option<(TimeNs, TimeNs)>,
    /// Whole records of the kind of an epoch that are none.
    pub undecoded: u64,
    /// Places that are no record.
    pub bad_places: u64,
}

/// What stands in a journal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inspection {
    /// Its segments, oldest first.
    pub segments: Vec<SegmentReport>,
    /// All together.
    pub total: Recovered,
}

/// Looks at every record of the journal in `config.dir`.
///
/// # Errors
/// If it can't be read.
pub fn inspect(files: &dyn Files, config: &LogConfig) -> Result<Inspection, JournalError> {
    let mut found = find(files, &config.dir)?;
    let mut segments: Vec<SegmentReport> = found
        .iter()
        .map(|s| SegmentReport { name: s.name.clone(), bytes: s.length, ..SegmentReport::default() })
        .collect();
    let total = survey(files, config, &mut found, |index, met| {
        let segment = &mut segments[index];
        let first = segment.numbers.map_or(met.header.number, |numbers| numbers.0);
        segment.numbers = Some((first, met.header.number));
        match met.header.kind {
            _ if met.copy => segment.copies += 1,
            KIND_EPOCH => segment.add_epoch(met.payload),
            KIND_ENTRIES => segment.entries += 1,
            _ => segment.others += 1,
        }
    })?;
    for (segment, Surveyed { bad, .. }) in segments.iter_mut().zip(&found) {
        segment.bad_places = bad.len() as u64;
    }
    Ok(Inspection { segments, total })
}

impl SegmentReport {
    fn add_epoch(&mut self, payload: &[u8]) {
        self.epochs += 1;
        let Ok(epoch) = decode(payload) else {
            self.undecoded += 1;
            return;
        };
        self.samples += epoch.len() as u64;
        let first = self.arrival_ns.map_or(epoch.arrival_ns, |span| span.0);
        self.arrival_ns = Some((first, epoch.arrival_ns));
    }
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<36} {:>12} {:>24} {:>8} {:>8} {:>7} {:>12}  arrival",
            "segment", "bytes", "numbers", "epochs", "entries", "copies", "samples"
        )?;
        for segment in &self.segments {
            let numbers = segment.numbers.map_or("-".into(), |(first, last)| format!("{first}..{last}"));
            let SegmentReport { name, bytes, epochs, entries, copies, samples, .. } = segment;
            write!(
                f,
                "{name:<36} {bytes:>12} {numbers:>24} {epochs:>8} {entries:>8} {copies:>7} {samples:>12}"
            )?;
            match segment.arrival_ns {
                Some((first, last)) => write!(f, "  {} to {}", time_text(first), time_text(last))?,
                None => write!(f, "  -")?,
            }
            for (count, what) in [
                (segment.others, "records of other kinds"),
                (segment.undecoded, "that are no epochs"),
                (segment.bad_places, "bad places"),
            ] {
                if count > 0 {
                    write!(f, "; {count} {what}")?;
                }
            }
            writeln!(f)?;
        }
        let samples: u64 = self.segments.iter().map(|segment| segment.samples).sum();
        let Recovered { segments, bytes, records, first, last, .. } = &self.total;
        let numbers = first.map_or("none".into(), |first| format!("{first}..{last}"));
        writeln!(
            f,
            "{segments} segments, {bytes} bytes, {records} records, numbers {numbers}, {samples} samples"
        )?;
        write!(f, "{}", Verdict(&self.total))
    }
}

fn time_text(time_ns: TimeNs) -> String {
    match jiff::Timestamp::from_nanosecond(i128::from(time_ns)) {
        Ok(time) => format!("{time:.3}"),
        Err(_) => format!("{time_ns} ns"),
    }
}

/// Whether a journal is whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verification {
    /// What was found.
    pub found: Recovered,
}

impl Verification {
    /// Whether anything is damaged or missing; a torn tail is neither.
    pub fn is_damaged(&self) -> bool {
        self.found.damaged_places > 0 || self.found.missing_numbers > 0
    }

    /// What `journal verify` exits with: 0 for whole, 1 for damaged.
    pub fn exit_status(&self) -> u8 {
        u8::from(self.is_damaged())
    }
}

/// Checks every record of the journal in `config.dir`.
///
/// # Errors
/// If it can't be read.
pub fn verify(files: &dyn Files, config: &LogConfig) -> Result<Verification, JournalError> {
    let mut found = find(files, &config.dir)?;
    Ok(Verification { found: survey(files, config, &mut found, |_, _| {})? })
}

impl fmt::Display for Verification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} records in {} segments", self.found.records, self.found.segments)?;
        write!(f, "{}", Verdict(&self.found))
    }
}

/// The lines that say what is wrong, or that nothing is.
struct Verdict<'a>(&'a Recovered);

impl fmt::Display for Verdict<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = self.0;
        for damage in &found.torn {
            writeln!(f, "torn: {damage}")?;
        }
        for damage in &found.damaged {
            writeln!(f, "damaged: {damage}")?;
        }
        for range in &found.missing {
            writeln!(f, "missing: {}..{}", range.start(), range.end())?;
        }
        if found.damaged_places == 0 && found.missing_numbers == 0 {
            return writeln!(f, "whole; {} bytes of unfinished writes", found.torn_bytes);
        }
        writeln!(
            f,
            "{} damaged places, {} numbers missing; {} bytes of unfinished writes",
            found.damaged_places, found.missing_numbers, found.torn_bytes
        )
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Damage { file, bytes, kind, number, after, was_durable } = self;
        write!(f, "{file} bytes {}..{}: ", bytes.start, bytes.end)?;
        match (kind, number) {
            (Some(0), _) => return write!(f, "a segment's own record, nothing is lost"),
            (Some(kind), Some(number)) => write!(f, "record {number} of kind {kind}")?,
            _ => write!(f, "behind record {after}")?,
        }
        match was_durable {
            true => Ok(()),
            false => write!(f, ", possibly the rest of a write that was never acknowledged"),
        }
    }
}

/// The settings to look at the directory `dir` with.
pub fn config_of(dir: &Path) -> LogConfig {
    LogConfig { dir: dir.to_owned(), ..LogConfig::default() }
}
