//! The validated settings of `type: file`.

use std::path::PathBuf;

use operators::sample::{DurationNs, HOUR, TimeNs};

/// What the files look like inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileFormat {
    /// One documented message a line.
    Json,
    /// One sample a row: time, service, metric, value, tags.
    Csv,
    /// The same columns, sorted by series.
    Parquet,
}

impl FileFormat {
    /// Every format.
    pub const ALL: [FileFormat; 3] = [FileFormat::Json, FileFormat::Csv, FileFormat::Parquet];

    /// What `storage.format` says, and how the file names end.
    pub fn ending(self) -> &'static str {
        match self {
            FileFormat::Json => "json",
            FileFormat::Csv => "csv",
            FileFormat::Parquet => "parquet",
        }
    }
}

/// When a file is ended, besides by its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// With the UTC day of arrival.
    Daily,
    /// With the UTC hour of arrival.
    Hourly,
    /// By size alone.
    Size,
}

impl Rotation {
    /// The number of the period that `time_ns` lies in.
    pub(super) fn period(self, time_ns: TimeNs) -> i64 {
        match self {
            Rotation::Daily => time_ns.div_euclid(24 * HOUR),
            Rotation::Hourly => time_ns.div_euclid(HOUR),
            Rotation::Size => 0,
        }
    }
}

/// Settings of `type: file`.
#[derive(Clone, Debug, PartialEq)]
pub struct FileConfig {
    /// The directory; made if it is not there.
    pub path: PathBuf,
    /// What the files look like inside.
    pub format: FileFormat,
    /// When a file is ended.
    pub rotation: Rotation,
    /// A file of this size is ended in any case; also one of a quarter of `retention_bytes`.
    pub file_bytes_max: u64,
    /// Text as gzip, parquet with snappy.
    pub compression: bool,
    /// Files whose newest sample is older than this are deleted, nanoseconds.
    pub retention_ns: Option<DurationNs>,
    /// The oldest files are deleted until the rest is at most this large. The file being written
    /// stays.
    pub retention_bytes: Option<u64>,
    /// The journal that what is stored comes from; kept with the position in it, since a position
    /// in another journal means nothing. `None` where there is no journal: then no position is kept.
    pub journal_id: Option<u128>,
}

impl Default for FileConfig {
    fn default() -> Self {
        FileConfig {
            path: PathBuf::from("data/metrics"),
            format: FileFormat::Json,
            rotation: Rotation::Daily,
            file_bytes_max: 1 << 30,
            compression: true,
            retention_ns: Some(30 * 24 * HOUR),
            retention_bytes: Some(10 << 30),
            journal_id: None,
        }
    }
}
