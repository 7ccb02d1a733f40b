//! One observation: what travels through the dataflow, and its units.

/// Event or arrival time: nanoseconds since the Unix epoch, UTC. Covers the years 1678 to 2262.
pub type TimeNs = i64;

/// A duration in nanoseconds.
pub type DurationNs = i64;

/// Nanoseconds in a millisecond.
pub const MS: DurationNs = 1_000_000;
/// Nanoseconds in a second.
pub const SECOND: DurationNs = 1_000_000_000;
/// Nanoseconds in a minute.
pub const MINUTE: DurationNs = 60 * SECOND;
/// Nanoseconds in an hour.
pub const HOUR: DurationNs = 60 * MINUTE;

/// Dense number of a series, given by the catalog in order of first appearance.
pub type SeriesId = u32;

/// One observation of one series. 24 bytes, `Copy`; the exchange moves nothing else.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Sample {
    /// The series observed.
    pub series: SeriesId,
    /// Position within the epoch, by which an epoch's samples have one order on any number of workers.
    pub seq: u32,
    /// Event time.
    pub time_ns: TimeNs,
    /// The value; always finite.
    pub value: f64,
}
