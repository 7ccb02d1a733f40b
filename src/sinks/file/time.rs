//! Event times as RFC 3339 in UTC, with 0, 3, 6 or 9 fractional digits: as many as are needed.

use jiff::Timestamp;
use operators::sample::{SECOND, TimeNs};

/// Writes times; keeps the text of the last second, since neighbours mostly share it.
#[derive(Default)]
pub(super) struct TimeText {
    second: Option<i64>,
    text: String,
}

impl TimeText {
    /// Appends `time_ns`, such as `2024-01-01T12:00:00.250Z`.
    pub fn write(&mut self, time_ns: TimeNs, out: &mut Vec<u8>) {
        let second = time_ns.div_euclid(SECOND);
        if self.second != Some(second) {
            // Cannot fail: i64 nanoseconds stay within the years 1677 to 2262.
            let whole = Timestamp::from_second(second).unwrap_or(Timestamp::UNIX_EPOCH);
            self.text = whole.to_string();
            self.text.pop();
            self.second = Some(second);
        }
        out.extend_from_slice(self.text.as_bytes());
        write_fraction(time_ns.rem_euclid(SECOND), out);
        out.push(b'Z');
    }
}

fn write_fraction(ns: i64, out: &mut Vec<u8>) {
    let (digits, mut rest) = match ns {
        0 => return,
        _ if ns % 1_000_000 == 0 => (3, ns / 1_000_000),
        _ if ns % 1_000 == 0 => (6, ns / 1_000),
        _ => (9, ns),
    };
    out.push(b'.');
    let start = out.len();
    out.resize(start + digits, b'0');
    for at in (start..start + digits).rev() {
        out[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
}

/// Reads a time that [`TimeText`] wrote, or any RFC 3339 time that fits; `None` otherwise.
pub(super) fn parse(text: &str) -> Option<TimeNs> {
    let time: Timestamp = text.parse().ok()?;
    TimeNs::try_from(time.as_nanosecond()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_the_digits_they_need_and_read_back() {
        let cases = [
            (0, "1970-01-01T00:00:00Z"),
            (1_704_110_400 * SECOND, "2024-01-01T12:00:00Z"),
            (1_704_110_400 * SECOND + 250_000_000, "2024-01-01T12:00:00.250Z"),
            (1_704_110_400 * SECOND + 1_000, "2024-01-01T12:00:00.000001Z"),
            (1_704_110_400 * SECOND + 1, "2024-01-01T12:00:00.000000001Z"),
            (-1, "1969-12-31T23:59:59.999999999Z"),
            (TimeNs::MAX, "2262-04-11T23:47:16.854775807Z"),
            (TimeNs::MIN, "1677-09-21T00:12:43.145224192Z"),
        ];
        let mut text = TimeText::default();
        for (ns, expected) in cases {
            let mut out = Vec::new();
            text.write(ns, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
            assert_eq!(parse(expected), Some(ns));
        }
    }
}
