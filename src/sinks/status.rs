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
    /// Which of several this is; empty until a delivery says it.
    pub name: String,
    /// Bytes on disk.
    pub disk_usage_bytes: u64,
    /// Files held.
    pub files: u64,
    /// Samples stored durably since the start.
    pub delivered: u64,
    /// Samples that the sink left out by itself, because it has no form for them.
    pub failed: u64,
    /// Tries that were repeated.
    pub retried: u64,
    /// Samples that the target refused for their content, kept in the dead-letter file.
    pub dead_lettered: u64,
    /// Bytes of the dead-letter files.
    pub dead_letter_bytes: u64,
    /// Dead letters that had to go for the size of their file.
    pub dead_letters_forgotten: u64,
    /// Epochs that the log had lost, or given up for its size, before they were stored here.
    pub missed_epochs: u64,
    /// The last epoch that is stored whole.
    pub cursor: u64,
    /// Epochs of the log behind the cursor.
    pub lag_epochs: u64,
    /// Bytes of the log behind the cursor.
    pub lag_bytes: u64,
    /// How long ago the first epoch behind the cursor arrived, seconds.
    pub lag_seconds: f64,
    /// Samples read from the log and not yet durable.
    pub lag_samples: u64,
    /// Files deleted by retention since the start.
    pub expired_files: u64,
    /// Stored rows that could not be read back.
    pub corrupted_rows: u64,
    /// Bytes of torn writes cut off at the start.
    pub repaired_bytes: u64,
    /// Files in the directory that could not be read at all and were left alone.
    pub unreadable_files: u64,
    /// Starts at which the position kept beside the files was lost or did not fit them, so that samples may
    /// have been stored again.
    pub lost_cursors: u64,
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
            name: String::new(),
            disk_usage_bytes: 0,
            files: 0,
            delivered: 0,
            failed: 0,
            retried: 0,
            dead_lettered: 0,
            dead_letter_bytes: 0,
            dead_letters_forgotten: 0,
            missed_epochs: 0,
            cursor: 0,
            lag_epochs: 0,
            lag_bytes: 0,
            lag_seconds: 0.0,
            lag_samples: 0,
            expired_files: 0,
            corrupted_rows: 0,
            repaired_bytes: 0,
            unreadable_files: 0,
            lost_cursors: 0,
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
