//! The documented message: metrics of one target at one event time, and its JSON.

use std::io::Write;
use std::sync::Arc;

use operators::sample::TimeNs;
use operators::series::Target;

/// One message of the documented shape `{"timestamp", "service", "metrics": {..}, "tags": {..}}`,
/// decoded. What collectors produce, sinks store and `GET /api/v1/metrics` returns.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Event time of all its samples.
    pub time_ns: TimeNs,
    /// Service and tags.
    pub target: Arc<Target>,
    /// Metric names and their finite values, in the order they came.
    pub metrics: Vec<(Arc<str>, f64)>,
}

impl Message {
    /// Appends the documented JSON object to `out`, without a line break.
    ///
    /// The event time is RFC 3339 in UTC with no, three, six or nine fractional digits, as few as
    /// tell it exactly; values read back as the same `f64`; `tags` is left out when there are none;
    /// a value that is not finite is left out, since JSON has no word for it.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"timestamp\":\"");
        write_rfc3339(self.time_ns, out);
        out.extend_from_slice(b"\",\"service\":");
        write_json_str(&self.target.service, out);
        out.extend_from_slice(b",\"metrics\":{");
        let finite = self.metrics.iter().filter(|(_, value)| value.is_finite());
        for (at, (name, value)) in finite.enumerate() {
            if at > 0 {
                out.push(b',');
            }
            write_json_str(name, out);
            out.push(b':');
            write_json_f64(*value, out);
        }
        out.push(b'}');
        if !self.target.tags.is_empty() {
            out.extend_from_slice(b",\"tags\":");
            write_json_tags(&self.target.tags, out);
        }
        out.push(b'}');
    }
}

/// Appends `tags` as a JSON object.
pub fn write_json_tags(tags: &[(Box<str>, Box<str>)], out: &mut Vec<u8>) {
    out.push(b'{');
    for (at, (name, value)) in tags.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write_json_str(name, out);
        out.push(b':');
        write_json_str(value, out);
    }
    out.push(b'}');
}

/// Appends `time_ns` as RFC 3339 in UTC: `2024-01-01T12:00:00Z`, `2024-01-01T12:00:00.250Z`.
pub fn write_rfc3339(time_ns: TimeNs, out: &mut Vec<u8>) {
    let second = time_ns.div_euclid(1_000_000_000);
    let nano = time_ns.rem_euclid(1_000_000_000);
    let (year, month, day) = civil_from_days(second.div_euclid(86_400));
    let of_day = second.rem_euclid(86_400);
    push_digits(year, 4, out);
    out.push(b'-');
    push_digits(month, 2, out);
    out.push(b'-');
    push_digits(day, 2, out);
    out.push(b'T');
    push_digits(of_day / 3600, 2, out);
    out.push(b':');
    push_digits(of_day / 60 % 60, 2, out);
    out.push(b':');
    push_digits(of_day % 60, 2, out);
    if nano != 0 {
        out.push(b'.');
        if nano % 1_000_000 == 0 {
            push_digits(nano / 1_000_000, 3, out);
        } else if nano % 1000 == 0 {
            push_digits(nano / 1000, 6, out);
        } else {
            push_digits(nano, 9, out);
        }
    }
    out.push(b'Z');
}

/// Appends `text` as a JSON string with its quotes.
pub fn write_json_str(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(&mut *out, text).expect("a string always serialises, and a Vec takes every byte");
}

/// Appends a finite `value` as a JSON number that reads back as the same `f64`; whole numbers that
/// an `f64` counts exactly are written without a fraction, as the document shows them.
/// A value that is not finite becomes `null`.
pub fn write_json_f64(value: f64, out: &mut Vec<u8>) {
    const EXACT_BELOW: f64 = 9_007_199_254_740_992.0; // 2^53
    let whole =
        value.trunc() == value && value.abs() < EXACT_BELOW && !(value == 0.0 && value.is_sign_negative());
    let written = if whole {
        write!(out, "{}", value as i64)
    } else {
        serde_json::to_writer(&mut *out, &value).map_err(std::io::Error::from)
    };
    written.expect("a number always serialises, and a Vec takes every byte");
}

/// Year, month and day of the proleptic Gregorian calendar, `days` after 1970-01-01
/// (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`).
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Appends `number` (not negative) in `width` decimal digits.
fn push_digits(number: i64, width: u32, out: &mut Vec<u8>) {
    for place in (0..width).rev() {
        out.push(b'0' + (number / 10_i64.pow(place) % 10) as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn json(message: &Message) -> String {
        let mut out = Vec::new();
        message.write_json(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn writes_the_documented_shape() {
        let mut message = Message {
            time_ns: 1_704_110_400_000_000_000,
            target: Arc::new(Target::new("system", [])),
            metrics: vec![("cpu_usage_percent".into(), 45.2), ("memory_usage_bytes".into(), 1_073_741_824.0)],
        };
        let plain = r#"{"timestamp":"2024-01-01T12:00:00Z","service":"system","metrics":{"cpu_usage_percent":45.2,"memory_usage_bytes":1073741824}}"#;
        assert_eq!(json(&message), plain);

        message.target = Arc::new(Target::new("a\"b", [("zone", "ü\n"), ("host", "h")]));
        message.metrics = vec![("n".into(), f64::NAN), ("i".into(), f64::INFINITY), ("x\\".into(), -0.5)];
        let escaped = r#"{"timestamp":"2024-01-01T12:00:00Z","service":"a\"b","metrics":{"x\\":-0.5},"tags":{"host":"h","zone":"ü\n"}}"#;
        assert_eq!(json(&message), escaped);
    }

    #[test]
    fn times_have_as_few_groups_of_digits_as_tell_them() {
        for (time_ns, expect) in [
            (0, "1970-01-01T00:00:00Z"),
            (1_704_110_400_250_000_000, "2024-01-01T12:00:00.250Z"),
            (1_704_110_400_000_250_000, "2024-01-01T12:00:00.000250Z"),
            (1_704_110_400_000_000_001, "2024-01-01T12:00:00.000000001Z"),
            (951_827_696_000_000_000, "2000-02-29T12:34:56Z"),
            (-1, "1969-12-31T23:59:59.999999999Z"),
            (i64::MAX, "2262-04-11T23:47:16.854775807Z"),
            (i64::MIN, "1677-09-21T00:12:43.145224192Z"),
        ] {
            let mut out = Vec::new();
            write_rfc3339(time_ns, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expect);
        }
    }

    proptest! {
        #[test]
        fn times_and_values_read_back_exactly(time_ns: i64, bits: u64) {
            let value = f64::from_bits(bits);
            prop_assume!(value.is_finite());
            let target = Arc::new(Target::new("s", []));
            let written = json(&Message { time_ns, target, metrics: vec![("v".into(), value)] });
            let read: serde_json::Value = serde_json::from_str(&written).unwrap();
            let time: jiff::Timestamp = read["timestamp"].as_str().unwrap().parse().unwrap();
            prop_assert_eq!(time.as_nanosecond(), i128::from(time_ns));
            prop_assert_eq!(read["metrics"]["v"].as_f64().unwrap().to_bits(), bits);
        }

        #[test]
        fn whole_numbers_read_back_exactly(number: i64) {
            let value = number as f64;
            let mut out = Vec::new();
            write_json_f64(value, &mut out);
            let read: f64 = serde_json::from_slice(&out).unwrap();
            prop_assert_eq!(read.to_bits(), value.to_bits());
        }
    }
}
