//! Times of lines: whole numbers in the request's precision.

use operators::sample::{HOUR, MINUTE, MS, SECOND, TimeNs};

use super::parse::Wrong;
use crate::codec::reject::Reason;

/// What a time of 1 means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// So many nanoseconds.
    Unit(i64),
    /// It depends on how large it is: InfluxDB 3 takes what is below 5e9 for seconds, below 5e12 for milliseconds,
    /// below 5e15 for microseconds, and the rest for nanoseconds.
    Auto,
}

/// The outermost times that InfluxDB takes.
const TIME_MAX: TimeNs = TimeNs::MAX - 1;

impl Precision {
    /// Nanoseconds, which lines have unless something else is said.
    pub const NANOSECOND: Precision = Precision::Unit(1);

    /// The words of all versions: `ns`, `n`, `nanosecond`, and so on.
    pub fn of_word(word: &str) -> Option<Precision> {
        match word {
            "ns" | "n" | "nanosecond" => Some(Precision::NANOSECOND),
            "us" | "u" | "µ" | "microsecond" => Some(Precision::Unit(1_000)),
            "ms" | "millisecond" => Some(Precision::Unit(MS)),
            "s" | "second" => Some(Precision::Unit(SECOND)),
            "m" => Some(Precision::Unit(MINUTE)),
            "h" => Some(Precision::Unit(HOUR)),
            "auto" => Some(Precision::Auto),
            _ => None,
        }
    }

    /// A time in nanoseconds.
    pub(super) fn nanoseconds(self, time: i64) -> Result<TimeNs, Wrong> {
        let unit_ns = match (self, time.unsigned_abs()) {
            (Precision::Unit(unit_ns), _) => unit_ns,
            (Precision::Auto, 0..5_000_000_000) => SECOND,
            (Precision::Auto, 0..5_000_000_000_000) => MS,
            (Precision::Auto, 0..5_000_000_000_000_000) => 1_000,
            (Precision::Auto, _) => 1,
        };
        let time_ns = time.checked_mul(unit_ns).filter(|ns| (-TIME_MAX..=TIME_MAX).contains(ns));
        time_ns.ok_or_else(|| Wrong::new(Reason::BadTimestamp, "time out of range"))
    }
}
