//! Where samples are stored: the trait every storage backend implements, and the table of them.
//!
//! A sink is blocking and single-threaded: [`crate::delivery`] gives it a thread of its own, never
//! a worker thread. What it can answer about the past it answers through a [`Reader`], which is
//! shared with the query side and works while the sink writes.
//!
//! To add a backend, write `src/sinks/NAME.rs` and one row of [`SINKS`].
//!
//! Nothing here knows the engine: a sink receives [`Message`]s and nothing else.

pub mod file;
pub mod influxdb;
mod none;
pub mod prometheus;
mod status;
pub mod target;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use operators::sample::{DurationNs, TimeNs};

use crate::message::Message;

/// Number of the last epoch that was stored whole; 0 before the first.
pub type Position = u64;

pub use status::{SinkStatus, bytes_text, duration_text};

/// A storage backend that takes raw samples.
pub trait Sink: Send {
    /// Takes `messages` over, all of them or none: after an `Err` of [`SinkError::Retry`] the
    /// caller offers the same messages again, after any other error it gives them up.
    /// What was taken is durable only after the next successful [`Sink::flush`].
    fn write(&mut self, messages: &[Message]) -> Result<(), SinkError>;

    /// Makes everything taken so far durable and readable: with it every epoch up to `upto` is
    /// stored whole. Called regularly, also when nothing was written, so a sink does its
    /// housekeeping here. After an `Err` of [`SinkError::Retry`] everything taken is still held,
    /// and the next call tries again.
    fn flush(&mut self, upto: Position) -> Result<(), SinkError>;

    /// The position that the sink itself keeps beside what it stores, so that both become durable
    /// in one step; asked once, before the first write. `None` for a sink that keeps none: the
    /// delivery remembers its position, and after a crash offers some messages again.
    fn cursor(&self) -> Option<Position> {
        None
    }

    /// How the sink is, without waiting for anything.
    fn status(&self) -> SinkStatus;

    /// Reads back what was stored; `None` where the backend cannot.
    fn reader(&self) -> Option<Arc<dyn Reader>>;
}

/// The reading side of a sink: usable from any thread while the sink writes.
pub trait Reader: Send + Sync {
    /// The newest `query.limit` messages that match, newest first, each with only the metrics
    /// asked for. Blocking: call it where blocking is allowed. Damaged stored data is skipped and
    /// counted; an error means that nothing could be read at all.
    fn read(&self, query: &Query) -> Result<Vec<Message>, SinkError>;

    /// The unit in which times are stored, in nanoseconds: what is finer is gone.
    fn precision_ns(&self) -> DurationNs {
        1
    }
}

/// What to read back. Empty lists and `None` match everything.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// Exactly this service.
    pub service: Option<String>,
    /// Any of these metric names (the caller has resolved aliases).
    pub metrics: Vec<String>,
    /// All of these tags, by name and exact value.
    pub tags: Vec<(String, String)>,
    /// Event times from here on.
    pub start_ns: TimeNs,
    /// Event times before this.
    pub end_ns: TimeNs,
    /// At most this many messages.
    pub limit: usize,
}

impl Default for Query {
    fn default() -> Self {
        Query {
            service: None,
            metrics: Vec::new(),
            tags: Vec::new(),
            start_ns: TimeNs::MIN,
            end_ns: TimeNs::MAX,
            limit: 100,
        }
    }
}

/// Why a sink did not do what it was asked.
#[derive(Clone, Debug, PartialEq)]
pub enum SinkError {
    /// Not now, perhaps later: target down, disk full. Nothing was lost.
    Retry {
        /// What happened.
        why: String,
        /// The earliest moment the target wants to be asked again, from now.
        after: Option<Duration>,
    },
    /// The messages were refused for their content; the same messages will be refused again.
    Poison {
        /// What the target said.
        why: String,
    },
    /// The sink cannot work as configured.
    Unusable {
        /// What is wrong, naming the path or key.
        why: String,
    },
}

impl SinkError {
    /// An error worth trying again, without a wish for when.
    pub fn retry(why: impl fmt::Display) -> Self {
        SinkError::Retry { why: why.to_string(), after: None }
    }

    /// An error of configuration or set-up.
    pub fn unusable(why: impl fmt::Display) -> Self {
        SinkError::Unusable { why: why.to_string() }
    }
}

impl fmt::Display for SinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SinkError::Retry { why, .. } | SinkError::Poison { why } | SinkError::Unusable { why } => {
                f.write_str(why)
            }
        }
    }
}

impl std::error::Error for SinkError {}

/// The validated storage settings: which backend, and one plain struct for each of them.
#[derive(Clone, Debug, PartialEq)]
pub struct SinkConfig {
    /// A name of [`SINKS`].
    pub kind: String,
    /// Settings of `type: file`.
    pub file: file::FileConfig,
    /// Settings of `type: influxdb`.
    pub influxdb: influxdb::InfluxConfig,
    /// Settings of `type: prometheus`.
    pub prometheus: prometheus::PromConfig,
}

impl Default for SinkConfig {
    fn default() -> Self {
        SinkConfig {
            kind: "file".into(),
            file: file::FileConfig::default(),
            influxdb: influxdb::InfluxConfig::default(),
            prometheus: prometheus::PromConfig::default(),
        }
    }
}

/// One storage backend.
pub struct SinkKind {
    /// What `storage.type` says.
    pub name: &'static str,
    /// One sentence for people.
    pub about: &'static str,
    /// Opens the sink; an error names the path or key that is wrong.
    pub open: fn(&SinkConfig) -> Result<Box<dyn Sink>, SinkError>,
}

/// Every storage backend there is.
pub const SINKS: &[SinkKind] = &[
    SinkKind {
        name: "file",
        about: "json, csv or parquet files below storage.path",
        open: |config| Ok(Box::new(file::FileSink::open(config.file.clone())?)),
    },
    SinkKind {
        name: "influxdb",
        about: "line protocol to InfluxDB 1.x, 2.x or 3 at storage.url",
        open: |config| Ok(Box::new(influxdb::InfluxSink::open(config.influxdb.clone())?)),
    },
    SinkKind {
        name: "none",
        about: "no storage; queries are answered from memory only",
        open: |_| Ok(Box::new(none::NoSink)),
    },
    SinkKind {
        name: "prometheus",
        about: "remote write to storage.url; without it, Prometheus scrapes GET /metrics",
        open: |config| prometheus::open(config.prometheus.clone()),
    },
];

/// Opens the sink that `config.kind` names.
pub fn open(config: &SinkConfig) -> Result<Box<dyn Sink>, SinkError> {
    match SINKS.iter().find(|kind| kind.name == config.kind) {
        Some(kind) => (kind.open)(config),
        None => {
            let names: Vec<&str> = SINKS.iter().map(|kind| kind.name).collect();
            Err(SinkError::unusable(format!(
                "storage.type: expected one of {}, found {:?}",
                names.join(", "),
                config.kind
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Laws of every entry: its name is unique, it opens, flushes empty, and says its own name.
    #[test]
    fn every_sink_opens_and_says_its_name() {
        let dir = tempfile::tempdir().unwrap();
        for (at, kind) in SINKS.iter().enumerate() {
            assert!(SINKS[..at].iter().all(|other| other.name != kind.name), "{}", kind.name);
            let mut config = SinkConfig { kind: kind.name.into(), ..SinkConfig::default() };
            config.file.path = dir.path().join(kind.name);
            let mut sink = open(&config).unwrap();
            sink.flush(0).unwrap();
            assert_eq!(sink.status().kind, kind.name);
        }
    }

    #[test]
    fn an_unknown_kind_is_answered_with_the_known_ones() {
        let config = SinkConfig { kind: "tape".into(), ..SinkConfig::default() };
        let error = open(&config).err().map(|e| e.to_string());
        let expected = "storage.type: expected one of file, influxdb, none, prometheus, found \"tape\"";
        assert_eq!(error.as_deref(), Some(expected));
    }
}
