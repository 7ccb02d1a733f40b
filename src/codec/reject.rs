//! Why samples are turned away: reasons, their counters, and the last rejects for `GET /api/v1/rejected`.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use operators::sample::TimeNs;
use parking_lot::Mutex;

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $word:literal, $text:literal;)+) => {
        /// Why a sample, or a whole message, was turned away.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Reason { $($(#[$doc])* $name,)+ }

        impl Reason {
            /// All reasons.
            pub const ALL: &'static [Reason] = &[$(Reason::$name),+];

            /// The reason as a label value.
            pub fn word(self) -> &'static str {
                match self { $(Reason::$name => $word),+ }
            }

            /// The reason for people.
            pub fn text(self) -> &'static str {
                match self { $(Reason::$name => $text),+ }
            }
        }
    };
}

reasons! {
    /// No JSON, cut off, or not of a shape we know.
    Malformed = "malformed", "not a message of a known shape";
    /// The service is missing, empty, or no string.
    BadService = "bad_service", "expected a service name";
    /// The event time can't be read.
    BadTimestamp = "bad_timestamp", "expected an RFC 3339 time or a Unix number";
    /// The event time is too far ahead of the arrival clock.
    TooFarAhead = "too_far_ahead", "event time too far in the future";
    /// A metric's value is no number.
    NotANumber = "not_a_number", "expected a number as value";
    /// A metric's value overflows to infinity.
    NotFinite = "not_finite", "expected a finite value";
    /// A metric without a name.
    EmptyName = "empty_name", "expected a metric name, found an empty one";
    /// A service, metric or tag name too long.
    NameTooLong = "name_too_long", "name longer than ingest.name_len_max";
    /// A tag value too long.
    TagTooLong = "tag_too_long", "tag value longer than ingest.tag_len_max";
    /// Too many tags.
    TooManyTags = "too_many_tags", "more tags than ingest.tags_per_series_max";
    /// Tags that are not an object of strings.
    BadTags = "bad_tags", "expected tags to be an object of strings";
    /// A tag that comes twice.
    TagTwice = "tag_twice", "expected each tag once";
    /// A control character in a name or tag.
    ControlCharacter = "control_character", "control character in a name or tag";
    /// `windows.series_max` is reached.
    SeriesLimit = "series_limit", "no room for a new series: windows.series_max is reached";
    /// `windows.series_per_service_max` is reached.
    ServiceLimit = "service_limit", "no room for a new series of this service: windows.series_per_service_max is reached";
    /// Nothing to observe in a message.
    NoMetrics = "no_metrics", "expected metrics, found none";
    /// A line that is not `measurement,tags fields time`.
    BadLine = "bad_line", "expected a line of InfluxDB's protocol";
    /// A field that holds text: no sample, and no error.
    TextField = "text_field", "a field that holds text is passed over";
    /// A point that lacks something, or contradicts itself.
    BadPoint = "bad_point", "expected a point of the format's data model";
    /// A point that says that there is no value at its time: counted, and no error of the sender's.
    NoValue = "no_value", "a point that says that it has no value";
    /// A histogram with too many buckets, or a summary with too many quantiles.
    TooManyBuckets = "too_many_buckets", "more buckets or quantiles than a point may have";
    /// A StatsD line of a type that there is not.
    UnknownType = "unknown_type", "expected a type of StatsD: c, g, ms, h, d or s";
    /// A StatsD sample rate that is none.
    BadSampleRate = "bad_sample_rate", "expected a sample rate above 0 and at most 1";
    /// A StatsD counter that is to go down.
    NegativeStep = "negative_step", "expected a counter to go up";
    /// `statsd.series_max` or `statsd.set_values_max` is reached.
    StatsdLimit = "statsd_limit", "no room to count it: a limit of statsd is reached";
    /// A datagram is over the limit.
    DatagramTooLong = "datagram_too_long", "datagram longer than statsd.datagram_max";
    /// Prometheus's mark that a series ends: no sample, and no error.
    StaleMarker = "stale_marker", "a stale marker is no sample";
    /// A native histogram of Prometheus: no sample, and no error.
    NativeHistogram = "native_histogram", "a native histogram is passed over";
    /// An exemplar: no sample, and no error.
    Exemplar = "exemplar", "an exemplar is passed over";
    /// A description of a metric: no sample, and no error.
    Metadata = "metadata", "metadata are passed over";
    /// A request's body is over the limit.
    BodyTooLarge = "body_too_large", "body larger than http.body_max";
    /// A request's body is cut off, or not packed as it says.
    BodyUnreadable = "body_unreadable", "body cut off, or not packed as it says";
}

impl Reason {
    /// Whether something was turned away; if not, it was passed over, as its format has it.
    pub fn is_error(self) -> bool {
        use Reason::{Exemplar, Metadata, NativeHistogram, NoValue, StaleMarker, TextField};
        !matches!(self, TextField | StaleMarker | NativeHistogram | Exemplar | Metadata | NoValue)
    }

    /// Whether it is told by what was found: the reason's own text says no more.
    pub fn is_of_syntax(self) -> bool {
        matches!(self, Reason::BadLine | Reason::BadTimestamp | Reason::NotANumber | Reason::NotFinite)
    }
}

/// One reject: of a sample, or of a whole message where `metric` is absent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// Place of the message in its body.
    pub index: usize,
    /// The metric, where it is one.
    pub metric: Option<String>,
    /// Why.
    pub reason: Reason,
    /// What was found, shortened.
    pub found: String,
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason.text())?;
        if self.found.is_empty() { Ok(()) } else { write!(f, ": {}", self.found) }
    }
}

/// A body that stops making sense at a byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// Byte offset in the body.
    pub byte: usize,
    /// What was expected and found.
    pub detail: String,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {}: {}", self.byte, self.detail)
    }
}

impl std::error::Error for Malformed {}

/// Longest excerpt of bad input that is kept.
const FOUND_LEN_MAX: usize = 80;

/// A short, printable excerpt of bad input.
pub fn excerpt(bytes: &[u8]) -> String {
    let cut = &bytes[..bytes.len().min(FOUND_LEN_MAX)];
    let text: String =
        String::from_utf8_lossy(cut).chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if cut.len() < bytes.len() { format!("{text}...") } else { text }
}

/// A reject that was kept.
#[derive(Clone, Debug)]
pub struct Kept {
    /// When it arrived.
    pub arrival_ns: TimeNs,
    /// Where from: `bus`, `http`.
    pub source: &'static str,
    /// What.
    pub reject: Reject,
}

/// Counters of all rejects, and the last few of them.
pub struct RejectLog {
    counts: Vec<AtomicU64>,
    kept_max: usize,
    kept: Mutex<VecDeque<Kept>>,
}

impl RejectLog {
    /// Keeps the last `kept_max`.
    pub fn new(kept_max: usize) -> RejectLog {
        let counts = Reason::ALL.iter().map(|_| AtomicU64::new(0)).collect();
        RejectLog { counts, kept_max, kept: Mutex::default() }
    }

    /// Counts and keeps `rejects`.
    pub fn add(&self, source: &'static str, arrival_ns: TimeNs, rejects: &[Reject]) {
        for reject in rejects {
            self.counts[reject.reason as usize].fetch_add(1, Ordering::Relaxed);
        }
        let mut kept = self.kept.lock();
        for reject in rejects.iter().rev().take(self.kept_max).rev() {
            if kept.len() == self.kept_max {
                kept.pop_front();
            }
            kept.push_back(Kept { arrival_ns, source, reject: reject.clone() });
        }
    }

    /// Counts what is not told one by one.
    pub fn count(&self, reasons: &[Reason]) {
        for reason in reasons {
            self.counts[*reason as usize].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many there were of each reason.
    pub fn counts(&self) -> impl Iterator<Item = (Reason, u64)> {
        Reason::ALL.iter().map(|reason| (*reason, self.counts[*reason as usize].load(Ordering::Relaxed)))
    }

    /// How many there were.
    pub fn total(&self) -> u64 {
        self.counts().map(|(_, count)| count).sum()
    }

    /// The last rejects, newest first.
    pub fn last(&self, len_max: usize) -> Vec<Kept> {
        self.kept.lock().iter().rev().take(len_max).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_are_counted_and_the_last_are_kept() {
        let log = RejectLog::new(2);
        let reject = |index| Reject { index, metric: None, reason: Reason::BadTags, found: String::new() };
        log.add("http", 0, &[reject(0), reject(1), reject(2)]);
        log.add("bus", 1, &[reject(3)]);
        let last: Vec<_> = log.last(10).iter().map(|kept| (kept.source, kept.reject.index)).collect();
        assert_eq!(last, [("bus", 3), ("http", 2)]);
        assert_eq!(log.total(), 4);
        assert_eq!(log.counts().find(|(_, count)| *count > 0), Some((Reason::BadTags, 4)));
    }

    #[test]
    fn excerpts_are_short_and_printable() {
        assert_eq!(excerpt(b"a\nb\xff"), "a\u{fffd}b\u{fffd}");
        assert!(excerpt(&[b'x'; 500]).len() < 100);
    }
}
