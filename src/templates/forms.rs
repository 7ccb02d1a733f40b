//! How numbers are written in texts: the shortest form that reads back, with so many decimals, or for people.

use std::fmt;
use std::fmt::Write;

use operators::sample::DurationNs;

/// Decimals, at most.
const DECIMALS_MAX: usize = 17;

/// A form of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// The shortest that reads back as the same number.
    Plain,
    /// With so many decimals.
    Decimals(usize),
    /// Four digits and a prefix for thousands, such as `1.235k`.
    Humanize,
    /// A ratio as a percentage.
    Percentage,
    /// Seconds as `1h 2m 3s`.
    Duration,
}

impl Form {
    /// The form that `text` names; the plain one if it is empty.
    pub(super) fn named(text: &str) -> Option<Form> {
        Some(match text {
            "" => Form::Plain,
            "humanize" => Form::Humanize,
            "humanizePercentage" => Form::Percentage,
            "humanizeDuration" => Form::Duration,
            digits => Form::Decimals(digits.parse().ok().filter(|decimals| *decimals <= DECIMALS_MAX)?),
        })
    }

    /// What is said where a form is not known.
    pub(super) fn unknown(text: &str) -> String {
        format!(
            "expected a number of decimals from 0 to {DECIMALS_MAX}, humanize, humanizePercentage or humanizeDuration \
             behind |, found {text:?}"
        )
    }

    pub(super) fn write(self, number: f64, out: &mut String) {
        // Writing into a text does not fail.
        let _ = match self {
            Form::Plain => return write_number(number, out),
            Form::Decimals(decimals) => write!(out, "{number:.decimals$}"),
            Form::Humanize => return write_scaled(number, out),
            Form::Percentage => {
                write_digits(number * 100.0, out);
                out.push('%');
                Ok(())
            }
            Form::Duration => return write_duration((number * 1e9) as DurationNs, out),
        };
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Form::Plain => Ok(()),
            Form::Decimals(decimals) => write!(f, "{decimals}"),
            Form::Humanize => f.write_str("humanize"),
            Form::Percentage => f.write_str("humanizePercentage"),
            Form::Duration => f.write_str("humanizeDuration"),
        }
    }
}

/// The shortest form that reads back as the same number.
pub(super) fn write_number(number: f64, out: &mut String) {
    let size = number.abs();
    let exponent = number.is_finite() && size != 0.0 && !(1e-6..1e17).contains(&size);
    let _ = if exponent { write!(out, "{number:e}") } else { write!(out, "{number}") };
}

/// At most four significant digits.
fn write_digits(number: f64, out: &mut String) {
    if number == 0.0 || !number.is_finite() {
        return write_number(number, out);
    }
    let decimals = (3 - number.abs().log10().floor() as i64).clamp(0, DECIMALS_MAX as i64) as usize;
    let text = format!("{number:.decimals$}");
    let shown = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    out.push_str(shown);
}

fn write_scaled(number: f64, out: &mut String) {
    const LARGE: &[&str] = &["", "k", "M", "G", "T", "P", "E", "Z", "Y"];
    const SMALL: &[&str] = &["", "m", "u", "n", "p", "f", "a", "z", "y"];
    let (mut scaled, mut at) = (number, 0);
    let prefixes = if number.abs() >= 1.0 || number == 0.0 { LARGE } else { SMALL };
    if !number.is_finite() {
        return write_number(number, out);
    }
    while at + 1 < prefixes.len() && scaled.abs() >= 1000.0 {
        (scaled, at) = (scaled / 1000.0, at + 1);
    }
    while at + 1 < prefixes.len() && scaled != 0.0 && scaled.abs() < 1.0 {
        (scaled, at) = (scaled * 1000.0, at + 1);
    }
    write_digits(scaled, out);
    out.push_str(prefixes[at]);
}

/// A duration as the configuration writes it, from days down to milliseconds.
pub(super) fn write_duration(duration_ns: DurationNs, out: &mut String) {
    const UNITS: &[(&str, i128)] =
        &[("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
    let mut left_ms = (i128::from(duration_ns).abs() + 500_000) / 1_000_000;
    if left_ms == 0 {
        return out.push_str("0s");
    }
    if duration_ns < 0 {
        out.push('-');
    }
    for (unit, ms) in UNITS {
        if left_ms >= *ms {
            let _ = write!(out, "{}{unit}", left_ms / ms);
            left_ms %= ms;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_every_form() {
        for (form, number, expected) in [
            ("", 80.0, "80"),
            ("", 0.1, "0.1"),
            ("", -0.5, "-0.5"),
            ("", 1e300, "1e300"),
            ("", 5e-9, "5e-9"),
            ("", f64::NAN, "NaN"),
            ("2", 1.005, "1.00"),
            ("0", 2.5, "2"),
            ("humanize", 1234.5, "1.234k"),
            ("humanize", 0.00123, "1.23m"),
            ("humanize", 12_345_678.0, "12.35M"),
            ("humanize", 0.0, "0"),
            ("humanize", 999.0, "999"),
            ("humanizePercentage", 0.12345, "12.35%"),
            ("humanizePercentage", 1.0, "100%"),
            ("humanizeDuration", 3723.0, "1h2m3s"),
            ("humanizeDuration", 0.25, "250ms"),
            ("humanizeDuration", -90.0, "-1m30s"),
        ] {
            let mut text = String::new();
            Form::named(form).unwrap().write(number, &mut text);
            assert_eq!(text, expected, "{form} of {number}");
            assert_eq!(Form::named(form).unwrap().to_string(), form);
        }
    }

    #[test]
    fn the_shortest_form_reads_back() {
        for number in [0.1 + 0.2, 1.0 / 3.0, f64::MAX, f64::MIN_POSITIVE, 1e17, 123_456.789] {
            let mut text = String::new();
            write_number(number, &mut text);
            assert_eq!(text.parse::<f64>().unwrap().to_bits(), number.to_bits(), "{text}");
        }
    }
}
