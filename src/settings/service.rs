//! Sections `service` and `logging`: what this process is and how it speaks.

use std::collections::BTreeMap;
use std::time::Duration;

use super::compounds::{Optional, Tags};
use super::kinds::{TEXT, choice as word, count, duration};
use super::section::section;
use super::words::choice;

choice! {
    /// What this process does.
    pub enum Mode {
        /// Subscribes, aggregates, alerts, stores and answers queries.
        "consumer" => Consumer,
        /// Measures this host and publishes.
        "producer" => Producer,
        /// Embedded bus, producer, consumer and HTTP API in one process.
        "standalone" => Standalone,
    }
}

choice! {
    /// The least severe log line that is written.
    pub enum Level {
        /// Nothing is written.
        "off" => Off,
        /// What went wrong and was given up.
        "error" => Error,
        /// What went wrong and is retried, counted or repaired.
        "warn" | "warning" => Warn,
        /// Start, stop and changes of state.
        "info" => Info,
        /// Decisions.
        "debug" => Debug,
        /// Every message.
        "trace" => Trace,
    }
}

choice! {
    /// How a log line is written.
    pub enum LogFormat {
        /// For people.
        "text" => Text,
        /// One JSON object a line.
        "json" => Json,
    }
}

/// Section `service`.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceSettings {
    /// `type`: the mode. Default consumer; a subcommand stands above it.
    pub mode: Mode,
    /// Service under which a producer publishes what it measures of its host. Default `system`.
    pub name: String,
    /// Value of the tag `host` on everything a producer measures; `None`: the name of this machine.
    pub host: Option<String>,
    /// More tags on everything a producer measures. Default none.
    pub tags: BTreeMap<String, String>,
    /// Time between two measurements of a producer. Default 10 s.
    pub interval: Duration,
    /// Metrics in one published message, at most; more of them go out as several messages. Default 100.
    pub batch_size: usize,
    /// Time for draining on the first signal to stop. Default 5 s.
    pub stop_timeout: Duration,
}

impl Default for ServiceSettings {
    fn default() -> Self {
        ServiceSettings {
            mode: Mode::Consumer,
            name: "system".into(),
            host: None,
            tags: BTreeMap::new(),
            interval: Duration::from_secs(10),
            batch_size: 100,
            stop_timeout: Duration::from_secs(5),
        }
    }
}

/// Section `logging`.
#[derive(Clone, Debug, PartialEq)]
pub struct LoggingSettings {
    /// Default info.
    pub level: Level,
    /// Default text.
    pub format: LogFormat,
}

impl Default for LoggingSettings {
    fn default() -> Self {
        LoggingSettings { level: Level::Info, format: LogFormat::Text }
    }
}

section! { ServiceSettings requires [] {
    "type" => mode: word(),
    "name" => name: TEXT,
    "host" => host: Optional(TEXT),
    "tags" => tags: Tags,
    "interval" => interval: duration("10ms", "1d"),
    "batch_size" => batch_size: count(1, 100_000),
    "stop_timeout" => stop_timeout: duration("0s", "10m"),
} }

section! { LoggingSettings requires [] {
    "level" => level: word(),
    "format" => format: word(),
} }
