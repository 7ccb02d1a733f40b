//! Durations and sizes: as people write them, and back.

use std::time::Duration;

/// Longest duration: 100 years, so that nanoseconds since the epoch have room for it.
pub const DURATION_MAX: Duration = Duration::from_secs(36_500 * 86_400);

/// Units of durations in nanoseconds, longest first.
const DURATION_UNITS: &[(&str, u128)] = &[
    ("w", 604_800_000_000_000),
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Units of sizes in bytes.
const SIZE_UNITS: &[(&str, u64)] = &[
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("kB", 1_000),
    ("B", 1),
];

/// Reads `10s`, `5m`, `30d`, `1h30m`, `250ms`, `1.5h`; units are w, d, h, m, s, ms, us and ns. A plain `0` is
/// zero. `None`: not a duration, or more than 100 years.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    let mut total_ns: u128 = 0;
    let mut last_unit_ns = u128::MAX;
    while !rest.is_empty() {
        let (number, unit, after) = amount(rest)?;
        let &(_, unit_ns) = DURATION_UNITS.iter().find(|(name, _)| *name == unit)?;
        if unit_ns >= last_unit_ns {
            return None;
        }
        total_ns = total_ns.checked_add(scaled(number, unit_ns)?)?;
        last_unit_ns = unit_ns;
        rest = after;
    }
    let duration = Duration::from_nanos(u64::try_from(total_ns).ok()?);
    (last_unit_ns != u128::MAX && duration <= DURATION_MAX).then_some(duration)
}

/// The shortest way to write `duration` that reads back as the same: `1h30m`, `30d`, `0s`.
pub fn show_duration(duration: Duration) -> String {
    let mut rest_ns = duration.as_nanos();
    let mut shown = String::new();
    for &(unit, unit_ns) in DURATION_UNITS.iter().filter(|(unit, _)| *unit != "w") {
        if rest_ns >= unit_ns {
            shown += &format!("{}{unit}", rest_ns / unit_ns);
            rest_ns %= unit_ns;
        }
    }
    if shown.is_empty() { "0s".into() } else { shown }
}

/// Reads `64MiB`, `2.5GB`, `1024`: bytes. Units are B, KB, MB, GB, TB (powers of 1000) and KiB, MiB, GiB, TiB.
pub fn parse_size(text: &str) -> Option<u64> {
    let (number, unit, after) = amount(text.trim())?;
    if !after.is_empty() {
        return None;
    }
    if unit.is_empty() {
        return number.parse().ok();
    }
    let &(_, unit_bytes) = SIZE_UNITS.iter().find(|(name, _)| *name == unit)?;
    u64::try_from(scaled(number, u128::from(unit_bytes))?).ok()
}

/// The shortest way to write `bytes` that reads back as the same: `64MiB`, `2500MB`, `1000B`.
pub fn show_size(bytes: u64) -> String {
    let whole = SIZE_UNITS.iter().filter(|(_, unit_bytes)| bytes > 0 && bytes.is_multiple_of(*unit_bytes));
    let shown = whole.map(|(unit, unit_bytes)| format!("{}{unit}", bytes / unit_bytes));
    shown.min_by_key(String::len).unwrap_or_else(|| "0B".into())
}

/// Splits `12.5ms6...` into number, unit and the rest; a space may stand between number and unit.
fn amount(text: &str) -> Option<(&str, &str, &str)> {
    let (number, rest) = split_while(text, |c| c.is_ascii_digit() || c == '.');
    let (unit, after) = split_while(rest.trim_start(), |c| c.is_ascii_alphabetic());
    (!number.is_empty()).then_some((number, unit, after.trim_start()))
}

fn split_while(text: &str, keep: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !keep(c)).unwrap_or(text.len()))
}

/// `number` (decimal, perhaps with a fraction) times `unit`, exact; `None` where that is no whole number.
fn scaled(number: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = u32::try_from(fraction.len()).ok().filter(|digits| *digits <= 15)?;
    let parts: u128 = format!("{whole}{fraction}").parse().ok()?;
    let product = parts.checked_mul(unit)?;
    let divisor = 10_u128.pow(digits);
    product.is_multiple_of(divisor).then_some(product / divisor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, expected_ns, shown) in [
            ("10s", 10_000_000_000, "10s"),
            ("5m", 300_000_000_000, "5m"),
            ("30d", 2_592_000_000_000_000, "30d"),
            ("2w", 1_209_600_000_000_000, "14d"),
            ("1h30m", 5_400_000_000_000, "1h30m"),
            ("1.5h", 5_400_000_000_000, "1h30m"),
            ("250ms", 250_000_000, "250ms"),
            ("90s", 90_000_000_000, "1m30s"),
            ("1 h 30 m", 5_400_000_000_000, "1h30m"),
            ("7ns", 7, "7ns"),
            ("0", 0, "0s"),
            ("0s", 0, "0s"),
        ] {
            let duration = parse_duration(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(duration.as_nanos(), expected_ns, "{text}");
            assert_eq!(show_duration(duration), shown, "{text}");
            assert_eq!(parse_duration(shown), Some(duration), "{text}");
        }
        for text in
            ["", "10", "s", "10x", "-5s", "5s1h", "5s5s", "1.5ns", "1..5s", "101y", "36501d", "∞s", "1e3s"]
        {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes, shown) in [
            ("64MiB", 67_108_864, "64MiB"),
            ("2.5GB", 2_500_000_000, "2500MB"),
            ("1024", 1024, "1KiB"),
            ("1000", 1000, "1KB"),
            ("8 MiB", 8_388_608, "8MiB"),
            ("1025", 1025, "1025B"),
            ("0", 0, "0B"),
            ("0.5KiB", 512, "512B"),
            ("3kB", 3000, "3KB"),
        ] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
            assert_eq!(show_size(bytes), shown, "{text}");
            assert_eq!(parse_size(shown), Some(bytes), "{text}");
        }
        for text in ["", "MiB", "-1", "1.5", "1.5B", "10s", "1MiB2", "99999999999TiB", "1 000"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }
}
