//! File names, which sort in the order of writing and say everything the directory needs to know.
//!
//! `20240101T120000Z-0000000042.json.gz`: when it was begun (arrival time, UTC), its number, its
//! format. A parquet file carries the first and last number of the files it was merged from:
//! `20240101T120000Z-0000000042-0000000057.parquet`. So whatever a crash leaves between making a
//! merged file and deleting its parts is recognised by the names alone.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use operators::sample::{SECOND, TimeNs};

use super::FileFormat;

/// A data file's name, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileName {
    /// Arrival time at which the file was begun, whole seconds.
    pub begun_ns: TimeNs,
    /// Number of the file, or of the first file merged into it.
    pub first: u64,
    /// Number of the last file merged into it.
    pub last: u64,
    /// What is in it.
    pub format: FileFormat,
    /// Text in gzip members.
    pub gzip: bool,
}

impl FileName {
    /// The name as it stands in the directory.
    pub fn text(&self) -> String {
        let second =
            Timestamp::from_second(self.begun_ns.div_euclid(SECOND)).unwrap_or(Timestamp::UNIX_EPOCH);
        let begun = second.to_zoned(TimeZone::UTC).strftime("%Y%m%dT%H%M%SZ").to_string();
        let ending = self.format.ending();
        match self.format {
            FileFormat::Parquet => format!("{begun}-{:010}-{:010}.{ending}", self.first, self.last),
            _ if self.gzip => format!("{begun}-{:010}.{ending}.gz", self.first),
            _ => format!("{begun}-{:010}.{ending}", self.first),
        }
    }

    /// Takes a name apart; `None` for anything that [`FileName::text`] would not have written.
    pub fn parse(text: &str) -> Option<FileName> {
        let (stem, ending) = text.split_once('.')?;
        let (ending, gzip) = match ending.strip_suffix(".gz") {
            Some(ending) => (ending, true),
            None => (ending, false),
        };
        let format = FileFormat::ALL.into_iter().find(|format| format.ending() == ending)?;
        let mut parts = stem.split('-');
        let begun = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", parts.next()?).ok()?;
        let begun = begun.to_zoned(TimeZone::UTC).ok()?.timestamp().as_nanosecond();
        let first = parts.next()?.parse().ok()?;
        let last = match parts.next() {
            Some(last) => last.parse().ok()?,
            None => first,
        };
        let name = FileName { begun_ns: TimeNs::try_from(begun).ok()?, first, last, format, gzip };
        (name.text() == text).then_some(name)
    }

    /// Where the list of its blocks lies: hidden, so that nobody takes it for data.
    pub fn index(&self) -> String {
        format!(".{}.index", self.text())
    }

    /// What it is called until it is complete.
    pub fn part(&self) -> String {
        format!(".{}.part", self.text())
    }

    /// Whether `other` was merged into this file.
    pub fn covers(&self, other: &FileName) -> bool {
        let both = self.format == FileFormat::Parquet && other.format == FileFormat::Parquet;
        both && self != other && self.first <= other.first && other.last <= self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_foreign_ones_do_not() {
        for text in [
            "20240101T120000Z-0000000042.json",
            "20240101T120000Z-0000000042.json.gz",
            "20240101T120000Z-0000000042.csv.gz",
            "20240101T120000Z-0000000042-0000000057.parquet",
        ] {
            let name = FileName::parse(text).expect(text);
            assert_eq!((name.begun_ns, name.first), (1_704_110_400 * SECOND, 42), "{text}");
            assert_eq!(name.text(), text);
        }
        for text in [
            "",
            "notes.json",
            "20240101T120000Z-42.json",
            "20240101T120000Z-0000000042.xml",
            "20240101T120000Z-0000000042-0000000057.json",
            "20240101T120000Z-0000000042.parquet",
            ".20240101T120000Z-0000000042.json.part",
            "20241301T120000Z-0000000042.json",
        ] {
            assert_eq!(FileName::parse(text), None, "{text}");
        }
    }
}
