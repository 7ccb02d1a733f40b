//! Event times: RFC 3339 with any offset and fraction, Go's `time.String()`, Unix numbers by magnitude.
//!
//! The common forms of RFC 3339 are read by hand (half the time of the library); everything unusual goes
//! to the library, and the two are tested against each other.

use operators::sample::{SECOND, TimeNs};

use super::number;

/// Reads a time given as text.
pub fn parse_text(text: &str) -> Option<TimeNs> {
    // After a space between date and time, as Go prints it, a zone's name and a monotonic reading may follow.
    let as_go = text.as_bytes().get(10) == Some(&b' ');
    let by_hand = parse_prefix(text.as_bytes());
    by_hand
        .filter(|(_, rest)| rest.is_empty() || as_go && rest[0] == b' ')
        .map(|(ns, _)| ns)
        .or_else(|| library(text))
}

/// Reads times as text, most of which are of the same minute as the one before.
#[derive(Default)]
pub struct Minute {
    /// `YYYY-MM-DDTHH:MM:`, or zeros.
    text: [u8; MINUTE_LEN],
    start_ns: TimeNs,
}

const MINUTE_LEN: usize = 17;

impl Minute {
    /// Reads the time that `bytes` begin with, up to a quote, if it is of the minute of the last one and in UTC: the time,
    /// and its length.
    #[inline]
    pub fn read(&self, bytes: &[u8]) -> Option<(TimeNs, usize)> {
        let (minute, rest) = bytes.split_first_chunk::<MINUTE_LEN>()?;
        let [s0, s1, point, ..] = rest else { return None };
        let second = pair(*s0, *s1).filter(|second| *second < 60)?;
        let (fraction, end) = if *point == b'.' { number::digits(rest, 3, 0) } else { (0, 2) };
        // Of no digits the number is nothing.
        let unit_ns = FRACTION_UNITS.get(end.saturating_sub(3))?;
        let is_at_end = rest.get(end..).is_some_and(|rest| rest.starts_with(b"Z\""));
        if *minute != self.text || !is_at_end {
            return None;
        }
        let time_ns = self.start_ns.checked_add(second * SECOND + fraction as i64 * unit_ns)?;
        Some((time_ns, MINUTE_LEN + end + 1))
    }

    /// Reads a time as [`parse_text`] does.
    #[inline]
    pub fn parse(&mut self, text: &[u8]) -> Option<TimeNs> {
        let (minute, rest) = text.split_first_chunk()?;
        match within_minute(rest) {
            Some(ns) if *minute == self.text => self.start_ns.checked_add(ns),
            Some(ns) if minute[10] == b'T' => {
                let time_ns = parse_text(std::str::from_utf8(text).ok()?)?;
                if let Some(start_ns) = time_ns.checked_sub(ns) {
                    *self = Minute { text: *minute, start_ns };
                }
                Some(time_ns)
            }
            _ => parse_text(std::str::from_utf8(text).ok()?),
        }
    }
}

/// What the last digit of a fraction of so many digits means.
const FRACTION_UNITS: [i64; 10] =
    [SECOND, 100_000_000, 10_000_000, 1_000_000, 100_000, 10_000, 1_000, 100, 10, 1];

/// Reads `SS[.fraction]Z`.
#[inline]
fn within_minute(text: &[u8]) -> Option<TimeNs> {
    let [s0, s1, rest @ ..] = text else { return None };
    let second = pair(*s0, *s1).filter(|second| *second < 60)?;
    let (fraction_ns, rest) = fraction(rest);
    (rest == b"Z").then_some(second * SECOND + fraction_ns)
}

/// What the hand-written reader does not know: lower case, leap seconds, zone annotations.
fn library(text: &str) -> Option<TimeNs> {
    let timestamp: jiff::Timestamp = text.parse().ok()?;
    timestamp.as_nanosecond().try_into().ok()
}

/// Reads `YYYY-MM-DD[T ]HH:MM:SS[.fraction][ ](Z|+hh:mm|+hhmm)`, and gives what follows.
fn parse_prefix(text: &[u8]) -> Option<(TimeNs, &[u8])> {
    let [y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1, b'T' | b' ', rest @ ..] = text else {
        return library_only(text);
    };
    let [h0, h1, b':', i0, i1, b':', s0, s1, rest @ ..] = rest else { return library_only(text) };
    let year = pair(*y0, *y1)? * 100 + pair(*y2, *y3)?;
    let (month, day) = (pair(*m0, *m1)?, pair(*d0, *d1)?);
    let (hour, minute, second) = (pair(*h0, *h1)?, pair(*i0, *i1)?, pair(*s0, *s1)?);
    if !(1..=12).contains(&month)
        || day < 1
        || day > days_in(year, month)
        || hour > 23
        || minute > 59
        || second > 59
    {
        return library_only(text);
    }
    let (fraction_ns, rest) = fraction(rest);
    let rest = if let [b' ', after @ ..] = rest { after } else { rest };
    let (offset_s, rest) = offset(rest)?;
    let seconds = days_since_epoch(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset_s;
    Some((seconds.checked_mul(SECOND)?.checked_add(fraction_ns)?, rest))
}

fn library_only(text: &[u8]) -> Option<(TimeNs, &[u8])> {
    Some((library(std::str::from_utf8(text).ok()?)?, &[]))
}

fn pair(tens: u8, ones: u8) -> Option<i64> {
    let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
    (tens < 10 && ones < 10).then(|| i64::from(tens) * 10 + i64::from(ones))
}

/// Fraction of a second in nanoseconds; digits beyond the ninth are cut off.
#[inline]
fn fraction(text: &[u8]) -> (TimeNs, &[u8]) {
    let [b'.', rest @ ..] = text else { return (0, text) };
    let (mut ns, mut unit_ns) = (0, SECOND);
    let mut len = 0;
    while let Some(digit) = rest.get(len).map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit < 10) {
        unit_ns /= 10;
        ns += i64::from(digit) * unit_ns;
        len += 1;
    }
    (ns, &rest[len..])
}

/// Offset from UTC in seconds.
fn offset(text: &[u8]) -> Option<(i64, &[u8])> {
    let (sign, digits) = match text {
        [b'Z', rest @ ..] => return Some((0, rest)),
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => return None,
    };
    let (hours, minutes, rest) = match digits {
        [h0, h1, b':', m0, m1, rest @ ..] | [h0, h1, m0, m1, rest @ ..] => {
            (pair(*h0, *h1)?, pair(*m0, *m1)?, rest)
        }
        _ => return None,
    };
    (hours < 24 && minutes < 60).then_some((sign * (hours * 3600 + minutes * 60), rest))
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 in the proleptic Gregorian calendar, counting years from March.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + day_of_year - 719_468
}

/// Reads a Unix number, its unit recognised by magnitude: below 1e11 seconds (to the year 5138), below
/// 1e14 milliseconds, below 1e17 microseconds, else nanoseconds. Fractions count; integers are exact.
pub fn parse_number(text: &str) -> Option<TimeNs> {
    if let Ok(whole) = text.parse::<i64>() {
        return whole.checked_mul(unit_ns(whole.unsigned_abs() as f64));
    }
    let number: f64 = text.parse().ok()?;
    let unit = unit_ns(number.abs()) as f64;
    // The whole and the fractional part apart, so that a fraction keeps its digits.
    let whole = number.trunc();
    let ns = (number - whole) * unit;
    let total = whole * unit;
    (total.abs() < 9.2e18).then(|| total as i64 + ns.round() as i64)
}

fn unit_ns(magnitude: f64) -> i64 {
    match magnitude {
        m if m < 1e11 => SECOND,
        m if m < 1e14 => 1_000_000,
        m if m < 1e17 => 1_000,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_as_text() {
        let noon = 1_704_110_400 * SECOND;
        for (text, expected) in [
            ("2024-01-01T12:00:00Z", Some(noon)),
            ("2024-01-01T12:00:00.5Z", Some(noon + SECOND / 2)),
            ("2024-01-01T12:00:00.123456789Z", Some(noon + 123_456_789)),
            ("2024-01-01T12:00:00.1234567891Z", Some(noon + 123_456_789)),
            ("2024-01-01T14:30:00+02:30", Some(noon)),
            ("2024-01-01T07:00:00-05:00", Some(noon)),
            ("2024-01-01T12:00:00z", Some(noon)),
            ("2024-01-01 12:00:00 +0000 UTC m=+0.000012345", Some(noon)),
            ("2024-01-01 13:00:00.25 +0100 CET", Some(noon + SECOND / 4)),
            ("2024-02-30T12:00:00Z", None),
            ("2024-01-01T12:00:00", None),
            ("2024-01-01T12:00:00Zebra", None),
            ("2024-01-01", None),
            ("yesterday", None),
            ("", None),
        ] {
            assert_eq!(parse_text(text), expected, "{text}");
        }
    }

    #[test]
    fn times_as_numbers() {
        let noon = 1_704_110_400 * SECOND;
        for (text, expected) in [
            ("1704110400", Some(noon)),
            ("1704110400000", Some(noon)),
            ("1704110400000000", Some(noon)),
            ("1704110400000000001", Some(noon + 1)),
            ("1704110400.25", Some(noon + SECOND / 4)),
            ("1.7041104e9", Some(noon)),
            ("-1", Some(-SECOND)),
            ("0", Some(0)),
            ("1e300", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(parse_number(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn the_hand_written_reader_agrees_with_the_library(
            seconds in -9_000_000_000i64..9_000_000_000, ns in 0i64..SECOND, digits in 0usize..10, east in -1439i64..1440,
        ) {
            let ns = if digits == 0 { 0 } else { ns - ns % 10i64.pow(9 - digits as u32) };
            let at = jiff::Timestamp::new(seconds, ns as i32).unwrap();
            let zone = jiff::tz::Offset::from_seconds((east * 60) as i32).unwrap();
            let text = at.display_with_offset(zone).to_string();
            prop_assert_eq!(parse_text(&text), library(&text), "{}", text);
            prop_assert_eq!(parse_text(&text), Some(at.as_nanosecond() as i64));
        }

        #[test]
        fn a_remembered_minute_changes_nothing(
            texts in prop::collection::vec("(2024|1677|2262)-0[49]-(21|11)[Tt ](00:12|23:47|25:00):[0-6][0-9](\\.[0-9]{0,11})?(Z|z|\\+01:00| Z)?", 1..8),
        ) {
            let mut minute = Minute::default();
            for text in texts {
                if let Some((time_ns, len)) = minute.read(format!("{text}\",").as_bytes()) {
                    prop_assert_eq!((Some(time_ns), len), (parse_text(&text), text.len()), "{}", text);
                }
                prop_assert_eq!(minute.parse(text.as_bytes()), parse_text(&text), "{}", text);
            }
        }

        #[test]
        fn no_text_panics(text in ".{0,40}", digits in "[0-9TZ:.+ -]{0,40}") {
            parse_text(&text);
            parse_text(&digits);
            parse_number(&digits);
        }
    }
}
