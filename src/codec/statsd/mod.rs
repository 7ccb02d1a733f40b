//! StatsD with the extensions of DogStatsD: lines -> what they say. [`table`] makes samples of it.
//!
//! ```text
//! NAME:VALUE[:VALUE ...]|TYPE[|@RATE][|#TAG[:VALUE],...][|TTIME]
//! ```
//! Types: `c` counter, `g` gauge (with a sign: a step), `ms` timer, `h` histogram, `d` distribution, `s` set. Of a set
//! all up to the bar is one value. Other sections, such as DogStatsD's `c:CONTAINER`, are passed over, and so are its
//! events (`_e{`) and service checks (`_sc`).
//!
//! Sources: etsy/statsd, `docs/metric_types.md`; Datadog, "DogStatsD datagram format" (protocol 1.0 to 1.3).

pub mod table;

use super::reject::{Reason, excerpt};

/// Types of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `c`
    Counter,
    /// `g`
    Gauge,
    /// `ms`, `h`, `d`: each value is an observation.
    Timer,
    /// `s`
    Set,
}

/// What a line says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Line<'a> {
    /// The metric.
    pub name: &'a str,
    /// Values between colons; of a set the value.
    pub values: &'a str,
    /// The type.
    pub kind: Kind,
    /// What part of the observations was sent: above 0, at most 1.
    pub rate: f64,
    /// Tags between commas.
    pub tags: &'a str,
    /// Unix time, in seconds.
    pub time_s: Option<i64>,
}

/// Why a line is none, and what was found.
pub type NoLine = (Reason, String);

/// Reads a line; none if it is an event or a service check.
///
/// # Errors
/// If it is no line of StatsD.
pub fn parse(line: &[u8]) -> Result<Option<Line<'_>>, NoLine> {
    if line.starts_with(b"_e{") || line.starts_with(b"_sc|") {
        return Ok(None);
    }
    let malformed = || (Reason::Malformed, excerpt(line));
    let text = std::str::from_utf8(line).map_err(|_| malformed())?;
    let (named, rest) = text.split_once('|').ok_or_else(malformed)?;
    let (name, values) = named.split_once(':').ok_or_else(malformed)?;
    let mut sections = rest.split('|');
    let kind = match sections.next().unwrap_or_default() {
        "c" => Kind::Counter,
        "g" => Kind::Gauge,
        "ms" | "h" | "d" => Kind::Timer,
        "s" => Kind::Set,
        other => return Err((Reason::UnknownType, excerpt(other.as_bytes()))),
    };
    let mut line = Line { name, values, kind, rate: 1.0, tags: "", time_s: None };
    for section in sections {
        if let Some(rate) = section.strip_prefix('@') {
            let found = || (Reason::BadSampleRate, excerpt(rate.as_bytes()));
            line.rate = rate.parse().ok().filter(|rate| *rate > 0.0 && *rate <= 1.0).ok_or_else(found)?;
        } else if let Some(tags) = section.strip_prefix('#') {
            line.tags = tags;
        } else if let Some(time) = section.strip_prefix('T') {
            let found = || (Reason::BadTimestamp, excerpt(time.as_bytes()));
            line.time_s = Some(time.parse().map_err(|_| found())?);
        }
    }
    Ok(Some(line))
}

/// A number as StatsD writes them.
///
/// # Errors
/// If it is none, or not finite.
pub fn number(text: &str) -> Result<f64, NoLine> {
    let found = || excerpt(text.as_bytes());
    // Words such as `inf` are numbers to the library.
    let starts = |c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.');
    let number = text.starts_with(starts).then(|| text.parse::<f64>().ok()).flatten();
    match number {
        Some(number) if number.is_finite() => Ok(number),
        Some(_) => Err((Reason::NotFinite, found())),
        None => Err((Reason::NotANumber, found())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read() {
        let plain = Line { name: "a.b", values: "1", kind: Kind::Counter, rate: 1.0, tags: "", time_s: None };
        for (text, line) in [
            ("a.b:1|c", plain),
            ("a.b:1|c|@0.1", Line { rate: 0.1, ..plain }),
            (
                "a.b:1:2:3|ms|#x:y,z|@0.5",
                Line { values: "1:2:3", kind: Kind::Timer, rate: 0.5, tags: "x:y,z", ..plain },
            ),
            (
                "a.b:+1|g|c:ci-83|e:it-false|T1656581400",
                Line { values: "+1", kind: Kind::Gauge, time_s: Some(1_656_581_400), ..plain },
            ),
            ("a.b:u:1|s|", Line { values: "u:1", kind: Kind::Set, ..plain }),
            ("a.b:1.5|h", Line { values: "1.5", kind: Kind::Timer, ..plain }),
            ("ü:|d", Line { name: "ü", values: "", kind: Kind::Timer, ..plain }),
        ] {
            assert_eq!(parse(text.as_bytes()), Ok(Some(line)), "{text}");
        }
        for text in ["_e{5,4}:title|text|#a:b", "_sc|name|0|m:x"] {
            assert_eq!(parse(text.as_bytes()), Ok(None), "{text}");
        }
    }

    #[test]
    fn what_is_none_is_told() {
        for (text, reason) in [
            (&b"a"[..], Reason::Malformed),
            (b"a:1", Reason::Malformed),
            (b"a|c", Reason::Malformed),
            (b"\xff:1|c", Reason::Malformed),
            (b"a:1|", Reason::UnknownType),
            (b"a:1|x", Reason::UnknownType),
            (b"a:1|c:2|c", Reason::UnknownType),
            (b"a:1|c|@0", Reason::BadSampleRate),
            (b"a:1|c|@1.5", Reason::BadSampleRate),
            (b"a:1|c|@nan", Reason::BadSampleRate),
            (b"a:1|c|@", Reason::BadSampleRate),
            (b"a:1|g|Tx", Reason::BadTimestamp),
        ] {
            assert_eq!(parse(text).map_err(|(reason, _)| reason), Err(reason), "{}", excerpt(text));
        }
    }

    #[test]
    fn numbers_are_finite() {
        for (text, expected) in [
            ("1", Ok(1.0)),
            ("-1.5", Ok(-1.5)),
            ("+2e3", Ok(2000.0)),
            (".5", Ok(0.5)),
            ("", Err(Reason::NotANumber)),
            ("inf", Err(Reason::NotANumber)),
            ("+inf", Err(Reason::NotFinite)),
            ("1e999", Err(Reason::NotFinite)),
            ("1x", Err(Reason::NotANumber)),
        ] {
            assert_eq!(number(text).map_err(|(reason, _)| reason), expected, "{text}");
        }
    }
}
