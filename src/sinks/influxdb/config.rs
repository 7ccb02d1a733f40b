//! The validated settings of `type: influxdb`.

use std::path::PathBuf;
use std::time::Duration;

use operators::sample::{DurationNs, MS, SECOND, TimeNs};

use crate::sinks::target::Auth;

/// How to speak with the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// As its `/ping` says.
    Auto,
    /// 1.x: `/write`, and InfluxQL.
    V1,
    /// 2.x: `/api/v2/write`, and Flux.
    V2,
    /// 3 Core: `/api/v2/write`, and InfluxQL.
    V3,
}

/// Unit of the times that are sent. Of two samples of a series within one unit the later one stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// Nanoseconds.
    Nanoseconds,
    /// Microseconds.
    Microseconds,
    /// Milliseconds.
    Milliseconds,
    /// Seconds.
    Seconds,
}

impl Precision {
    /// One unit.
    pub(super) fn unit_ns(self) -> DurationNs {
        match self {
            Precision::Nanoseconds => 1,
            Precision::Microseconds => 1_000,
            Precision::Milliseconds => MS,
            Precision::Seconds => SECOND,
        }
    }

    /// `time_ns` in this unit, rounded down.
    pub(super) fn of(self, time_ns: TimeNs) -> i64 {
        time_ns.div_euclid(self.unit_ns())
    }

    /// As a query parameter: `/write` of 1.x knows `u`, `/api/v2/write` knows `us`.
    pub(super) fn word(self, api: Api) -> &'static str {
        match self {
            Precision::Nanoseconds => "ns",
            Precision::Microseconds if api == Api::V1 => "u",
            Precision::Microseconds => "us",
            Precision::Milliseconds => "ms",
            Precision::Seconds => "s",
        }
    }
}

/// Settings of `type: influxdb`.
#[derive(Clone, Debug, PartialEq)]
pub struct InfluxConfig {
    /// Address of the server.
    pub url: String,
    /// How to speak with it.
    pub api: Api,
    /// Who we are: user and password for 1.x, a token for 2.x and 3.
    pub auth: Auth,
    /// PEM file with certificates that are trusted beside those of the system.
    pub ca_file: Option<PathBuf>,
    /// Time for one request.
    pub timeout: Duration,
    /// 1.x, 3: the database; made if it is not there.
    pub database: String,
    /// 2.x: the organisation; `None` where the token says it.
    pub org: Option<String>,
    /// 2.x: the bucket, made if it is not there; `None`: it is called as `database` says.
    pub bucket: Option<String>,
    /// How long the server keeps samples, at least an hour; `None` leaves what the database has.
    pub retention_ns: Option<DurationNs>,
    /// Unit of the times that are sent.
    pub precision: Precision,
    /// Compress what is sent.
    pub gzip: bool,
    /// Lines in one request, at most.
    pub batch_lines: usize,
    /// Name of the measurement: text with `{service}`, `{metric}` and `{tag.NAME}` in it. What was written is
    /// read back only where `{service}` is the one thing that varies.
    pub measurement: String,
    /// Tags that every line gets, unless it has them.
    pub tags: Vec<(String, String)>,
}

impl Default for InfluxConfig {
    fn default() -> Self {
        InfluxConfig {
            url: "http://127.0.0.1:8086".into(),
            api: Api::Auto,
            auth: Auth::None,
            ca_file: None,
            timeout: Duration::from_secs(10),
            database: "plantd_metrics".into(),
            org: None,
            bucket: None,
            retention_ns: None,
            precision: Precision::Milliseconds,
            gzip: true,
            batch_lines: 5_000,
            // `FROM system_metrics`, as the document's dashboard has it, for the service `system`.
            measurement: "{service}_metrics".into(),
            tags: Vec::new(),
        }
    }
}

impl InfluxConfig {
    /// The bucket of 2.x.
    pub(super) fn bucket(&self) -> &str {
        self.bucket.as_deref().unwrap_or(&self.database)
    }
}
