//! Section `storage`: where messages are stored, and for how long.

use std::time::Duration;

use super::compounds::{Optional, OrWord};
use super::kinds::{BOOL, Hidden, Scalar, Shown, TEXT, Url, choice as word, count, duration, form, size};
use super::section::section;
use super::units::{parse_size, show_size};
use super::words::{HttpUrl, Secret, choice};

choice! {
    /// Which storage. Those that this build has are in [`STORAGE_TYPES`].
    pub enum StorageKind {
        /// Nothing is stored; queries reach as far back as the windows do.
        "none" => None,
        /// Files below a directory.
        "file" => File,
        /// InfluxDB.
        "influxdb" => Influxdb,
        /// Prometheus.
        "prometheus" => Prometheus,
    }
}

/// The storage types that this build has. A new backend in `src/sinks` adds its row here.
pub const STORAGE_TYPES: &[StorageKind] = &[StorageKind::File, StorageKind::None];

choice! {
    /// Unit of the times sent to InfluxDB.
    pub enum Precision {
        /// Nanoseconds.
        "ns" => Nanoseconds,
        /// Microseconds.
        "us" | "u" => Microseconds,
        /// Milliseconds.
        "ms" => Milliseconds,
        /// Seconds: of two samples of a series within a second the later one stays.
        "s" => Seconds,
    }
}

choice! {
    /// What a file holds.
    pub enum FileFormat {
        /// One JSON object a line, in the documented message shape.
        "json" => Json,
        /// One sample a line.
        "csv" => Csv,
        /// Apache Parquet.
        "parquet" => Parquet,
    }
}

/// When a new file is begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// At each UTC day.
    Daily,
    /// At each UTC hour.
    Hourly,
    /// When a file has this many bytes.
    Size(u64),
}

/// Section `storage`. Which keys count depends on `kind`.
#[derive(Clone, Debug, PartialEq)]
pub struct StorageSettings {
    /// `type`. Default: influxdb where `url` is given, else file.
    pub kind: StorageKind,
    /// influxdb, prometheus: address of the server.
    pub url: Option<HttpUrl>,
    /// influxdb: database. Default `plantd_metrics`.
    pub database: String,
    /// influxdb: user.
    pub username: Option<String>,
    /// influxdb: password.
    pub password: Option<Secret>,
    /// influxdb: unit of the times sent. Default ms.
    pub precision: Precision,
    /// prometheus: job name. Default `plantd`.
    pub job_name: String,
    /// prometheus: how often it scrapes us, for the configuration that we print. Default 15 s.
    pub scrape_interval: Duration,
    /// prometheus: where it scrapes us. Default `/metrics`.
    pub metrics_path: String,
    /// file: directory. Default `./data`.
    pub path: String,
    /// file: default json.
    pub format: FileFormat,
    /// file: `daily`, `hourly` or a size. Default daily.
    pub rotation: Rotation,
    /// file: compress finished files. Default on.
    pub compression: bool,
    /// file: `size_max`: bytes of all files; beyond it the oldest go first. Default 4 GiB.
    pub bytes_max: u64,
    /// influxdb, file: how long samples are kept; `None` (`forever`): no limit. Default 30 d.
    pub retention: Option<Duration>,
    /// Messages that wait for the storage before more of them are dropped and counted. Default 10,000.
    pub queue_len_max: usize,
}

impl Default for StorageSettings {
    fn default() -> Self {
        StorageSettings {
            kind: StorageKind::File,
            url: None,
            database: "plantd_metrics".into(),
            username: None,
            password: None,
            precision: Precision::Milliseconds,
            job_name: "plantd".into(),
            scrape_interval: Duration::from_secs(15),
            metrics_path: "/metrics".into(),
            path: "./data".into(),
            format: FileFormat::Json,
            rotation: Rotation::Daily,
            compression: true,
            bytes_max: 4 << 30,
            retention: Some(Duration::from_secs(30 * 86_400)),
            queue_len_max: 10_000,
        }
    }
}

section! { StorageSettings requires [] {
    "type" => kind: word(),
    "url" => url: Optional(Url),
    "database" => database: TEXT,
    "username" => username: Optional(TEXT),
    "password" => password: Optional(Hidden),
    "precision" => precision: word(),
    "job_name" => job_name: TEXT,
    "scrape_interval" => scrape_interval: duration("100ms", "1d"),
    "metrics_path" => metrics_path: METRICS_PATH,
    "path" => path: TEXT,
    "format" => format: word(),
    "rotation" => rotation: ROTATION,
    "compression" => compression: BOOL,
    "size_max" => bytes_max: size(1 << 20, 1 << 60),
    "retention" => retention: OrWord("forever", duration("1m", "36500d")),
    "queue_len_max" => queue_len_max: count(1, 100_000_000),
} }

/// `daily`, `hourly`, or a size.
const ROTATION: Scalar<Rotation, &str> = form(
    |text, _| match text {
        "daily" => Some(Rotation::Daily),
        "hourly" => Some(Rotation::Hourly),
        _ => parse_size(text).filter(|bytes| *bytes >= ROTATION_BYTES_MIN).map(Rotation::Size),
    },
    |rotation| match rotation {
        Rotation::Daily => Shown::Word("daily".into()),
        Rotation::Hourly => Shown::Word("hourly".into()),
        Rotation::Size(bytes) => Shown::Word(show_size(*bytes)),
    },
    "daily, hourly or a size of at least 4KiB such as 64MiB",
);

/// Smallest file that is worth its name.
const ROTATION_BYTES_MIN: u64 = 4 << 10;

/// The path of a URL.
const METRICS_PATH: Scalar<String, &str> = form(
    |text, _| (text.starts_with('/') && !text.contains(char::is_whitespace)).then(|| text.to_string()),
    |path| Shown::Text(path.clone()),
    "a path such as /metrics",
);
