//! What `GET /storage/status` says of one sink: the documented fields, and more beside them.

use operators::sample::{DurationNs, HOUR, MINUTE, MS, SECOND};
use serde::{Serialize, Serializer};

/// The state of a sink at one moment. Serializes to the documented shape
/// `{"type", "status", "database", "retention", "disk_usage", ...}`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SinkStatus {
    /// A name of [`super::SINKS`].
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// `connected`, or `error: ` and what is wrong now.
    pub status: String,
    /// Database name, or the directory of `type: file`.
    pub database: Option<String>,
    /// How long samples are kept, nanoseconds; shown as `30d`.
    #[serde(serialize_with = "retention_as_text")]
    pub retention: Option<DurationNs>,
    /// The same as `disk_usage_bytes`, for people: `2.5GB`.
    pub disk_usage: String,
    /// Bytes on disk.
    pub disk_usage_bytes: u64,
    /// Files held.
    pub files: u64,
    /// Samples stored durably since the start.
    pub delivered: u64,
    /// Samples given up because the sink refused their content.
    pub failed: u64,
    /// Samples turned away because the queue before the sink was full.
    pub dropped: u64,
    /// Tries that were repeated.
    pub retried: u64,
    /// Samples taken but not yet durable.
    pub lag_samples: u64,
    /// Bytes waiting in the queue, estimated.
    pub lag_bytes: u64,
    /// Age of the oldest sample that is not yet durable, seconds.
    pub lag_seconds: f64,
    /// Files deleted by retention since the start.
    pub expired_files: u64,
    /// Stored rows that could not be read back.
    pub corrupted_rows: u64,
    /// Bytes of torn writes cut off at the start.
    pub repaired_bytes: u64,
    /// Files in the directory that could not be read at all and were left alone.
    pub unreadable_files: u64,
}

impl SinkStatus {
    /// A sink of `kind` that is well and has done nothing yet.
    pub fn connected(kind: &'static str) -> Self {
        SinkStatus {
            kind,
            status: "connected".into(),
            database: None,
            retention: None,
            disk_usage: bytes_text(0),
            disk_usage_bytes: 0,
            files: 0,
            delivered: 0,
            failed: 0,
            dropped: 0,
            retried: 0,
            lag_samples: 0,
            lag_bytes: 0,
            lag_seconds: 0.0,
            expired_files: 0,
            corrupted_rows: 0,
            repaired_bytes: 0,
            unreadable_files: 0,
        }
    }

    /// Says what is wrong now.
    pub fn error(&mut self, why: &str) {
        self.status = format!("error: {why}");
    }
}

fn retention_as_text<S: Serializer>(retention: &Option<DurationNs>, to: S) -> Result<S::Ok, S::Error> {
    retention.map(duration_text).serialize(to)
}

/// A duration in its largest whole unit, `30d`, `90m`, `250ms`, as the configuration writes it.
pub fn duration_text(duration: DurationNs) -> String {
    const UNITS: [(DurationNs, &str); 6] =
        [(24 * HOUR, "d"), (HOUR, "h"), (MINUTE, "m"), (SECOND, "s"), (MS, "ms"), (1, "ns")];
    let whole = |unit: DurationNs| duration != 0 && duration % unit == 0;
    let (unit, name) = UNITS.into_iter().find(|(unit, _)| whole(*unit)).unwrap_or((1, "ns"));
    format!("{}{name}", duration / unit)
}

/// A size for people, decimal units, one digit: `2.5GB`, `512B`.
pub fn bytes_text(bytes: u64) -> String {
    const UNITS: [(u64, &str); 4] =
        [(1_000_000_000_000, "TB"), (1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    match UNITS.into_iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{:.1}{name}", bytes as f64 / unit as f64),
        None => format!("{bytes}B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_as_people_write_them() {
        for (bytes, text) in [(0, "0B"), (999, "999B"), (1_000, "1.0kB"), (2_500_000_000, "2.5GB")] {
            assert_eq!(bytes_text(bytes), text);
        }
        for (ns, text) in [(30 * 24 * HOUR, "30d"), (90 * MINUTE, "90m"), (250 * MS, "250ms"), (0, "0ns")] {
            assert_eq!(duration_text(ns), text);
        }
    }

    #[test]
    fn the_documented_fields_are_there() {
        let mut status = SinkStatus::connected("file");
        status.retention = Some(30 * 24 * HOUR);
        status.database = Some("data".into());
        let shown = serde_json::to_value(&status).unwrap();
        for (field, value) in [
            ("type", "file"),
            ("status", "connected"),
            ("database", "data"),
            ("retention", "30d"),
            ("disk_usage", "0B"),
        ] {
            assert_eq!(shown[field], value, "{field}");
        }
    }
}
