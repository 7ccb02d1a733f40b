//! One storage of section `storage`: where messages are stored, how, and for how long.

use std::collections::BTreeMap;
use std::time::Duration;

use operators::function::Function;

use super::compounds::{HiddenTags, List, Optional, OrWord, Tags};
use super::kinds::{BOOL, Hidden, Scalar, Shown, TEXT, Url, choice as word, count, duration, form, size};
use super::section::section;
use super::units::{parse_size, show_size};
use super::words::{HttpUrl, Secret, choice};

choice! {
    /// Which storage.
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
pub const STORAGE_TYPES: &[StorageKind] =
    &[StorageKind::File, StorageKind::Influxdb, StorageKind::Prometheus, StorageKind::None];

choice! {
    /// What of the samples is stored.
    pub enum Stored {
        /// The samples themselves.
        "raw" => Raw,
        /// What their windows say, once they are final, and again when they are corrected.
        "windows" => Windows,
    }
}

/// What stands before an entry of the list is read.
impl Default for Stored {
    fn default() -> Self {
        Stored::Raw
    }
}

choice! {
    /// How to speak with InfluxDB.
    pub enum InfluxApi {
        /// As the server says of itself.
        "auto" => Auto,
        /// `/write`: 1.x, with database, user and password.
        "v1" => V1,
        /// `/api/v2/write`: 2.x, with organisation, bucket and token.
        "v2" => V2,
        /// As InfluxDB 3 Core has it: database and token.
        "v3" => V3,
    }
}

choice! {
    /// Version of Prometheus' remote write.
    pub enum RemoteWrite {
        /// 2.0 where the receiver speaks it, else 1.0.
        "auto" => Auto,
        /// 1.0.
        "1.0" | "1" => V1,
        /// 2.0.
        "2.0" | "2" => V2,
    }
}

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

/// One storage. Which keys it may have depends on `kind`: see [`super::storages::has_key`].
#[derive(Clone, Debug, PartialEq)]
pub struct StorageSettings {
    /// `type`. Default: influxdb where `url` is given, else file.
    pub kind: StorageKind,
    /// Tells it from others, in the status and in the names of its files in the journal's folder. Default: the type,
    /// with a number where several have it.
    pub name: String,
    /// file: directory of the files. For others it says where the journal is, below it. Default `./data`.
    pub path: String,

    /// influxdb, prometheus: address of the server. prometheus without it: what is stored is what it scrapes.
    pub url: Option<HttpUrl>,
    /// influxdb, prometheus: user.
    pub username: Option<String>,
    /// influxdb, prometheus: password.
    pub password: Option<Secret>,
    /// influxdb, prometheus: token, in place of user and password.
    pub token: Option<Secret>,
    /// influxdb, prometheus: time for the answer to one request. Default 10 s.
    pub timeout: Duration,
    /// influxdb, prometheus: PEM file with certificates that are trusted beside those of the system.
    pub ca_file: Option<String>,

    /// influxdb: default auto.
    pub api: InfluxApi,
    /// influxdb: database. Default `plantd_metrics`.
    pub database: String,
    /// influxdb 2: organisation.
    pub org: Option<String>,
    /// influxdb 2: bucket; `None`: it is called as `database` says.
    pub bucket: Option<String>,
    /// influxdb: unit of the times sent. Default ms.
    pub precision: Precision,
    /// influxdb: compress what is sent. Default on.
    pub gzip: bool,
    /// influxdb: name of the measurement, in which `{service}`, `{metric}` and `{tag.NAME}` stand for what a sample
    /// has. Default `{service}_metrics`, so that the service `system` has the `system_metrics` of the document's
    /// dashboard.
    pub measurement: String,
    /// influxdb: more tags on everything that is stored. Default none.
    pub tags: BTreeMap<String, String>,

    /// prometheus: where it is asked; `None`: `url`.
    pub read_url: Option<HttpUrl>,
    /// prometheus: default auto.
    pub protocol: RemoteWrite,
    /// prometheus: what stands before every name. Default nothing.
    pub prefix: String,
    /// prometheus: sent with every request, such as `X-Scope-OrgID`. Default none.
    pub headers: BTreeMap<String, Secret>,
    /// prometheus: job name. Default `plantd`.
    pub job_name: String,
    /// prometheus: how often it scrapes us. Default 15 s.
    pub scrape_interval: Duration,
    /// prometheus: where it scrapes us. Default `/metrics`.
    pub metrics_path: String,

    /// file: default json.
    pub format: FileFormat,
    /// file: `daily`, `hourly` or a size. Default daily.
    pub rotation: Rotation,
    /// file: compress finished files. Default on.
    pub compression: bool,
    /// file: `size_max`: bytes of all files; beyond it the oldest go first. Default 4 GiB.
    pub bytes_max: u64,

    /// file, influxdb: how long samples are kept; `None` (`forever`): no limit. Default: file 30 d; influxdb `None`,
    /// which leaves the retention of its database as it is.
    pub retention: Option<Duration>,
    /// What of the samples is stored. Default raw alone.
    pub store: Vec<Stored>,
    /// What a stored window says: names of window functions. Default avg, min, max, count, p95.
    pub window_functions: Vec<String>,
    /// Messages in one write, at most. Default: `performance.batch_size` where that is given, else 5,000 for influxdb,
    /// 2,000 for prometheus, 1,000 for file.
    pub batch_size: usize,
    /// Longest time that a message waits for a fuller batch. Default: `performance.flush_interval`.
    pub flush_interval: Duration,
    /// Pause after a first failure; it doubles with each further one. Default 100 ms.
    pub retry_min: Duration,
    /// The longest pause. Default 30 s.
    pub retry_max: Duration,
    /// `dead_letter_size_max`: bytes of samples that the storage refused for their content, with its answers; beyond
    /// it the oldest go first. Default 64 MiB.
    pub dead_letter_bytes_max: u64,
}

impl Default for StorageSettings {
    fn default() -> Self {
        StorageSettings {
            kind: StorageKind::File,
            name: "file".into(),
            path: DEFAULT_PATH.into(),
            url: None,
            username: None,
            password: None,
            token: None,
            timeout: Duration::from_secs(10),
            ca_file: None,
            api: InfluxApi::Auto,
            database: "plantd_metrics".into(),
            org: None,
            bucket: None,
            precision: Precision::Milliseconds,
            gzip: true,
            measurement: "{service}_metrics".into(),
            tags: BTreeMap::new(),
            read_url: None,
            protocol: RemoteWrite::Auto,
            prefix: String::new(),
            headers: BTreeMap::new(),
            job_name: "plantd".into(),
            scrape_interval: Duration::from_secs(15),
            metrics_path: "/metrics".into(),
            format: FileFormat::Json,
            rotation: Rotation::Daily,
            compression: true,
            bytes_max: 4 << 30,
            retention: Some(Duration::from_secs(30 * 86_400)),
            store: vec![Stored::Raw],
            window_functions: ["avg", "min", "max", "count", "p95"].map(String::from).to_vec(),
            batch_size: 1000,
            flush_interval: Duration::from_secs(1),
            retry_min: Duration::from_millis(100),
            retry_max: Duration::from_secs(30),
            dead_letter_bytes_max: 64 << 20,
        }
    }
}

/// Where data goes when nobody says so.
pub const DEFAULT_PATH: &str = "./data";

section! { StorageSettings requires [] {
    "type" => kind: word(),
    "name" => name: NAME,
    "path" => path: TEXT,
    "url" => url: Optional(Url),
    "username" => username: Optional(TEXT),
    "password" => password: Optional(Hidden),
    "token" => token: Optional(Hidden),
    "timeout" => timeout: duration("10ms", "10m"),
    "ca_file" => ca_file: Optional(TEXT),
    "api" => api: word(),
    "database" => database: TEXT,
    "org" => org: Optional(TEXT),
    "bucket" => bucket: Optional(TEXT),
    "precision" => precision: word(),
    "gzip" => gzip: BOOL,
    "measurement" => measurement: MEASUREMENT,
    "tags" => tags: Tags,
    "read_url" => read_url: Optional(Url),
    "protocol" => protocol: word(),
    "prefix" => prefix: PREFIX,
    "headers" => headers: HiddenTags,
    "job_name" => job_name: TEXT,
    "scrape_interval" => scrape_interval: duration("100ms", "1d"),
    "metrics_path" => metrics_path: METRICS_PATH,
    "format" => format: word(),
    "rotation" => rotation: ROTATION,
    "compression" => compression: BOOL,
    "size_max" => bytes_max: size(1 << 20, 1 << 60),
    "retention" => retention: OrWord("forever", duration("1m", "36500d")),
    "store" => store: List(word()),
    "window_functions" => window_functions: List(WINDOW_FUNCTION),
    "batch_size" => batch_size: count(1, 1_000_000),
    "flush_interval" => flush_interval: duration("1ms", "1h"),
    "retry_min" => retry_min: duration("1ms", "1h"),
    "retry_max" => retry_max: duration("1ms", "1d"),
    "dead_letter_size_max" => dead_letter_bytes_max: size(0, 1 << 50),
} }

/// A name that can be a part of a file's name.
const NAME: Scalar<String, &str> = form(
    |text, _| {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        ((1..=64).contains(&text.len()) && text.chars().all(fits)).then(|| text.to_string())
    },
    |name| Shown::Text(name.clone()),
    "a name of up to 64 letters, digits, - and _",
);

/// A name with placeholders.
const MEASUREMENT: Scalar<String, &str> = form(
    |text, _| {
        let mut rest = text;
        while let Some(open) = rest.find(['{', '}']) {
            let (name, behind) = rest[open..].strip_prefix('{')?.split_once('}')?;
            let tag = name.strip_prefix("tag.").filter(|tag| !tag.is_empty() && !tag.contains('{'));
            (matches!(name, "service" | "metric") || tag.is_some()).then_some(())?;
            rest = behind;
        }
        (!text.is_empty()).then(|| text.to_string())
    },
    |name| Shown::Text(name.clone()),
    "a name such as metrics or {service}_metrics, with {service}, {metric} and {tag.NAME}",
);

/// The beginning of a name in Prometheus.
const PREFIX: Scalar<String, &str> = form(
    |text, _| {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':');
        let begins = !text.starts_with(|c: char| c.is_ascii_digit());
        (begins && text.chars().all(fits)).then(|| text.to_string())
    },
    |prefix| Shown::Text(prefix.clone()),
    "letters, digits, _ and :, such as plantd_",
);

/// A window function as queries name it.
const WINDOW_FUNCTION: Scalar<String, &str> = form(
    |text, _| Function::parse(text).map(|_| text.to_string()),
    |name| Shown::Text(name.clone()),
    "a window function such as avg, max, count or p95",
);

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
    |text, _| {
        let fits = |c: char| !c.is_whitespace() && !matches!(c, '{' | '}' | '?' | '#' | '*');
        (text.starts_with('/') && text.chars().all(fits)).then(|| text.to_string())
    },
    |path| Shown::Text(path.clone()),
    "a path such as /metrics",
);
