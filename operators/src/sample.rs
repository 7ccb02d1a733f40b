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

/// Bit of [`Sample::seq`]: its format gives a series one value a time, so another of the same series and event
/// time is the same one sent again. Set by who decodes; the rest of `seq` is set when the epoch is fed.
pub const DEDUP: u32 = 1 << 31;

/// Samples that one epoch may have: their positions stay below [`DEDUP`].
pub const EPOCH_LEN_MAX: usize = DEDUP as usize;

/// One observation of one series. 24 bytes, `Copy`; the exchange moves nothing else.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Sample {
    /// The series observed.
    pub series: SeriesId,
    /// Position within the epoch, by which an epoch's samples have one order on any number of workers; and [`DEDUP`].
    pub seq: u32,
    /// Event time.
    pub time_ns: TimeNs,
    /// The value; always finite.
    pub value: f64,
}

impl Sample {
    /// Position within the epoch.
    #[inline]
    pub fn position(&self) -> u32 {
        self.seq & !DEDUP
    }

    /// Whether another one of its series and event time is the same sample sent again.
    #[inline]
    pub fn is_dedup(&self) -> bool {
        self.seq & DEDUP != 0
    }
}
