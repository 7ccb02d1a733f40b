//! Decimal numbers as text -> doubles, always correctly rounded.
//!
//! The common form, a few digits around a point, is read eight bytes at a time and without a branch on its length: where
//! its digits end is found by arithmetic on all of them at once (Lamport 1975, "Multiple byte processing with full-word
//! instructions"), and their value by three multiplications. A whole number that a double holds exactly, divided by a
//! power of ten that a double holds exactly, is correctly rounded (Clinger 1990, "How to read floating point numbers
//! accurately"). Everything else is the standard library's.

/// Reads `-?(0|[1-9][0-9]*)(\.[0-9]+)?` at `at`: the value, and where the text ends. `None` if something else stands
/// there, or more digits than can be read exactly. What follows is not looked at, be it an exponent.
#[inline(always)]
pub fn plain(bytes: &[u8], at: usize) -> Option<(f64, usize)> {
    let chunk = bytes.get(at..).and_then(|rest| rest.first_chunk());
    match chunk.and_then(short) {
        Some((value, len)) => Some((value, at + len)),
        None => odd(bytes, at),
    }
}

/// A number with a sign, one that is longer, or one at the end of the text.
#[inline(never)]
fn odd(bytes: &[u8], at: usize) -> Option<(f64, usize)> {
    if *bytes.get(at)? != b'-' {
        return long(bytes, at);
    }
    let first = at + 1;
    let chunk = bytes.get(first..).and_then(|rest| rest.first_chunk());
    let (magnitude, end) = match chunk.and_then(short) {
        Some((value, len)) => (value, first + len),
        None => long(bytes, first)?,
    };
    Some((-magnitude, end))
}

/// Reads a number by JSON's grammar, which may be infinite: the value, and where it ends.
#[inline(always)]
pub fn json(bytes: &[u8], at: usize) -> Option<(f64, usize)> {
    match plain(bytes, at) {
        Some((value, end)) if !matches!(bytes.get(end), Some(b'e' | b'E')) => Some((value, end)),
        _ => by_grammar(bytes, at),
    }
}

/// The same, and not infinite.
#[inline(always)]
pub fn finite_json(bytes: &[u8], at: usize) -> Option<(f64, usize)> {
    match plain(bytes, at) {
        Some((value, end)) if !matches!(bytes.get(end), Some(b'e' | b'E')) => Some((value, end)),
        _ => by_grammar(bytes, at).filter(|(value, _)| value.is_finite()),
    }
}

/// Reads `[0-9]{1,19}` at `at`: the number, and where it ends. `None` if there are no digits, or more.
#[inline]
pub fn whole(bytes: &[u8], at: usize) -> Option<(u64, usize)> {
    let (number, end) = digits(bytes, at, 0);
    (1..=19).contains(&(end - at)).then_some((number, end))
}

const ONES: u64 = u64::from_le_bytes([1; 8]);

/// A number that ends within eight bytes, and its length.
#[inline(always)]
fn short(chunk: &[u8; 8]) -> Option<(f64, usize)> {
    let digits = u64::from_le_bytes(*chunk) ^ (ONES * u64::from(b'0'));
    let stops = stops(digits);
    let whole_bits = stops.trailing_zeros() & !7;
    if stops == 0 || whole_bits == 0 || whole_bits > 8 && digits & 0xff == 0 {
        return None;
    }
    if (digits >> whole_bits) & 0xff != u64::from(b'.' ^ b'0') {
        let value = eight(digits << (64 - whole_bits));
        return Some((value as f64, whole_bits as usize / 8));
    }
    let end_bits = (stops & (stops - 1)).trailing_zeros() & !7;
    if !(whole_bits + 16..64).contains(&end_bits) {
        return None;
    }
    // The digits move up to the word's end; those of the whole part one byte further, over the point.
    let up = digits << (64 - end_bits);
    let point = 64 - end_bits + whole_bits;
    let (below, above) = (up & ((1 << point) - 1), up & (u64::MAX << point << 8));
    let fraction_len = (end_bits - whole_bits) as usize / 8 - 1;
    Some((eight(below << 8 | above) as f64 / POWERS_OF_TEN[fraction_len], end_bits as usize / 8))
}

/// The top bit of every byte that is no digit. A byte that is not ASCII may carry into the next one; those below are right.
#[inline]
fn stops(digits: u64) -> u64 {
    (digits.wrapping_add(ONES * 0x76) | digits) & (ONES * 0x80)
}

/// The value of eight digits, the first in the lowest byte.
#[inline(always)]
fn eight(digits: u64) -> u64 {
    const PAIRS: u64 = 0x0000_00ff_0000_00ff;
    let pairs = digits.wrapping_mul(10).wrapping_add(digits >> 8);
    let outer = (pairs & PAIRS).wrapping_mul(100 + (1_000_000 << 32));
    let inner = ((pairs >> 16) & PAIRS).wrapping_mul(1 + (10_000 << 32));
    outer.wrapping_add(inner) >> 32
}

/// A number without a sign, however long.
fn long(bytes: &[u8], first: usize) -> Option<(f64, usize)> {
    let (whole, whole_end) = digits(bytes, first, 0);
    let whole_len = whole_end - first;
    if whole_len == 0 || whole_len > 1 && bytes[first] == b'0' {
        return None;
    }
    if bytes.get(whole_end) != Some(&b'.') {
        // Nineteen digits fit the word, and its conversion rounds.
        return (whole_len <= 19).then_some((whole as f64, whole_end));
    }
    let (mantissa, end) = digits(bytes, whole_end + 1, whole);
    let fraction_len = end - whole_end - 1;
    let is_exact = fraction_len > 0 && whole_len + fraction_len <= 19 && mantissa <= 1 << 53;
    is_exact.then(|| (mantissa as f64 / POWERS_OF_TEN[fraction_len], end))
}

/// Any number of JSON's grammar.
#[cold]
fn by_grammar(bytes: &[u8], start: usize) -> Option<(f64, usize)> {
    let digits_end = |at: usize| digits(bytes, at, 0).1;
    let first = start + usize::from(*bytes.get(start)? == b'-');
    let mut at = digits_end(first);
    if at == first || at > first + 1 && bytes[first] == b'0' {
        return None;
    }
    if bytes.get(at) == Some(&b'.') {
        let fraction = at + 1;
        at = digits_end(fraction);
        if at == fraction {
            return None;
        }
    }
    if let Some(b'e' | b'E') = bytes.get(at) {
        let exponent = at + 1 + usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        at = digits_end(exponent);
        if at == exponent {
            return None;
        }
    }
    // JSON's numbers are a part of what the standard library reads.
    let value = std::str::from_utf8(&bytes[start..at]).ok()?.parse().ok()?;
    Some((value, at))
}

/// Digits from `at` on, appended to `number`, which may overflow; and where they end.
#[inline]
pub fn digits(bytes: &[u8], mut at: usize, mut number: u64) -> (u64, usize) {
    while let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk()) {
        let digits = u64::from_le_bytes(*chunk) ^ (ONES * u64::from(b'0'));
        let bits = stops(digits).trailing_zeros() & !7;
        if bits == 0 {
            return (number, at);
        }
        number =
            number.wrapping_mul(WHOLE_POWERS[bits as usize / 8]).wrapping_add(eight(digits << (64 - bits)));
        at += bits as usize / 8;
        if bits < 64 {
            return (number, at);
        }
    }
    while let Some(digit) = bytes.get(at).map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit < 10) {
        number = number.wrapping_mul(10).wrapping_add(u64::from(digit));
        at += 1;
    }
    (number, at)
}

const WHOLE_POWERS: [u64; 9] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];

const POWERS_OF_TEN: [f64; 20] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
    1e19,
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reads `text` before several ends, and compares with the standard library.
    fn check(text: &str, is_plain: Option<bool>) {
        let expected = text.parse::<f64>().expect("a number");
        for rest in ["", ",", "}", " \"name\": 1", ",\u{e9}\u{e9}\u{e9}\u{e9}", "/////////", ":::::::::"] {
            let bytes = format!("x{text}{rest}");
            let got = json(bytes.as_bytes(), 1).map(|(value, end)| (value.to_bits(), end));
            assert_eq!(got, Some((expected.to_bits(), text.len() + 1)), "{bytes}");
            let plain = plain(bytes.as_bytes(), 1);
            assert!(is_plain.is_none_or(|is_plain| plain.is_some() == is_plain), "{bytes}");
            if let Some((value, end)) = plain.filter(|(_, end)| *end == text.len() + 1) {
                assert_eq!((value.to_bits(), end), (expected.to_bits(), text.len() + 1), "{bytes}");
            }
        }
    }

    #[test]
    fn numbers_of_all_lengths() {
        for text in [
            "0",
            "-0",
            "7",
            "-7",
            "0.5",
            "-0.0",
            "12.345",
            "1.5",
            "123.456",
            "1234567",
            "12345678",
            "1234.5678",
            "9999999",
            "99999999",
            "0.000001",
            "8589934592",
            "9007199254740993",
            "9999999999999999999",
            "1234567890123.5",
            "0.1234567890123456",
        ] {
            check(text, Some(true));
        }
        for text in ["99999999999999999999", "1.0000000000000000000001", "9007199254740993.5"] {
            check(text, Some(false));
        }
        for text in ["1e3", "1.5E-3", "-2e+308", "1e999", "0e0"] {
            check(text, None);
        }
    }

    #[test]
    fn what_is_no_number_is_none() {
        for text in [
            "",
            "-",
            "01",
            "00",
            "-01.5",
            "01.5",
            "1.",
            "1.,234567",
            ".5",
            "+1",
            "e3",
            "1e",
            "1e+",
            "1.5e-",
            "NaN",
            "\u{e9}",
            " 1",
        ] {
            for rest in ["", ",", "}        ", ",aaaaaaaa"] {
                let bytes = format!("{text}{rest}");
                assert_eq!(json(bytes.as_bytes(), 0), None, "{bytes}");
            }
        }
        assert_eq!(plain(b"1", 5), None);
    }

    #[test]
    fn whole_numbers_have_at_most_nineteen_digits() {
        for len in 0..25 {
            for rest in ["", "i", "i,aaaaaaaaaaaa", "\n\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}", "//////////"] {
                let text = &"9081726354678912345678901"[..len];
                let expected = text.parse().ok().filter(|_| len < 20).map(|number: u64| (number, len));
                assert_eq!(whole(format!("{text}{rest}").as_bytes(), 0), expected, "{text}{rest}");
            }
        }
    }

    proptest! {
        #![proptest_config(crate::codec::cases(2_000))]

        #[test]
        fn numbers_are_correctly_rounded(text in "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?") {
            check(&text, None);
        }

        #[test]
        fn short_numbers_are_correctly_rounded(text in "-?(0|[1-9][0-9]{0,7})(\\.[0-9]{1,6})?") {
            check(&text, Some(true));
        }

        #[test]
        fn any_bytes_are_survived_and_read_as_the_library_does(bytes in prop::collection::vec(prop_oneof![4 => b'-'..=b'9', 1 => any::<u8>()], 0..24), digits in "[-0-9.eE]{0,24}") {
            let _ = json(&bytes, 0);
            if let Some((value, end)) = json(digits.as_bytes(), 0) {
                prop_assert_eq!(value.to_bits(), digits[..end].parse::<f64>().unwrap().to_bits());
            }
        }
    }
}
