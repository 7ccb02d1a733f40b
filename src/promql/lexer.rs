//! Characters -> tokens, each with its place.

use std::time::Duration;

use super::Refused;

/// A token.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    Name(String),
    Number(f64),
    Duration(Duration),
    Text(String),
    /// An operator or a sign: one of [`SIGNS`].
    Sign(&'static str),
    End,
}

/// Longer ones first.
const SIGNS: &[&str] = &[
    "=~", "!~", "==", "!=", ">=", "<=", ">", "<", "=", "+", "-", "*", "/", "%", "^", "(", ")", "{", "}", "[",
    "]", ",", ":", "@",
];

/// Nanoseconds of the units of durations, those of two letters first.
const UNITS: &[(&str, u128)] = &[
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
    ("w", 604_800_000_000_000),
    ("y", 31_536_000_000_000_000),
];

/// All tokens of `text`, with the characters where they begin; the last is [`Token::End`].
pub(super) fn tokens(text: &str) -> Result<Vec<(usize, Token)>, Refused> {
    let chars: Vec<char> = text.chars().collect();
    let mut found = Vec::new();
    let mut at = 0;
    // Within brackets `:` is a sign, elsewhere it may begin a name.
    let mut brackets = 0;
    while let Some(first) = chars.get(at).copied() {
        if first.is_whitespace() {
            at += 1;
            continue;
        }
        if first == '#' {
            at = end_of(&chars, at, |c| c != '\n');
            continue;
        }
        let column = at + 1;
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || (c == ':' && brackets == 0);
        let next_is_digit = chars.get(at + 1).is_some_and(char::is_ascii_digit);
        if first.is_ascii_digit() || (first == '.' && next_is_digit) {
            let (token, end) = number(&chars, at)?;
            found.push((column, token));
            at = end;
        } else if is_name(first) {
            let end = end_of(&chars, at, is_name);
            found.push((column, Token::Name(chars[at..end].iter().collect())));
            at = end;
        } else if matches!(first, '"' | '\'' | '`') {
            let (text, end) = quoted(&chars, at)?;
            found.push((column, Token::Text(text)));
            at = end;
        } else {
            let is_next = |sign: &&&str| sign.chars().enumerate().all(|(n, c)| chars.get(at + n) == Some(&c));
            let Some(sign) = SIGNS.iter().find(is_next) else {
                return Refused::new(column, format!("expected an expression, found {first:?}"));
            };
            brackets += i32::from(*sign == "[") - i32::from(*sign == "]");
            found.push((column, Token::Sign(sign)));
            at += sign.len();
        }
    }
    found.push((chars.len() + 1, Token::End));
    Ok(found)
}

fn end_of(chars: &[char], from: usize, is_part: impl Fn(char) -> bool) -> usize {
    (from..chars.len()).find(|at| !is_part(chars[*at])).unwrap_or(chars.len())
}

/// A number such as `1.5e3`, `0x1F`, or a duration such as `1h30m`.
fn number(chars: &[char], from: usize) -> Result<(Token, usize), Refused> {
    let mut end = end_of(chars, from, |c| c.is_ascii_alphanumeric() || c == '.' || c == '_');
    let exponent = |c: char| c == 'e' || c == 'E';
    let is_hex = chars.get(from + 1).is_some_and(|c| *c == 'x' || *c == 'X');
    if !is_hex && exponent(chars[end - 1]) && chars.get(end).is_some_and(|c| *c == '-' || *c == '+') {
        end = end_of(chars, end + 1, |c| c.is_ascii_digit());
    }
    let text: String = chars[from..end].iter().collect();
    if let Some(duration) = duration(&text) {
        return Ok((Token::Duration(duration), end));
    }
    let value = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u64::from_str_radix(digits, 16).ok().map(|number| number as f64),
        None => text.replace('_', "").parse().ok(),
    };
    match value {
        Some(value) => Ok((Token::Number(value), end)),
        None => Refused::new(from + 1, format!("expected a number or a duration such as 5m, found {text:?}")),
    }
}

/// Reads a duration as Prometheus writes it: `5m`, `1h30m`, `1y`; units from long to short, each once.
pub fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let (mut total_ns, mut last_ns) = (0u128, u128::MAX);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).filter(|digits| *digits > 0)?;
        let number: u128 = rest[..digits].parse().ok()?;
        let (unit, unit_ns) = UNITS.iter().find(|(unit, _)| rest[digits..].starts_with(unit))?;
        if *unit_ns >= last_ns {
            return None;
        }
        total_ns = total_ns.checked_add(number.checked_mul(*unit_ns)?)?;
        last_ns = *unit_ns;
        rest = &rest[digits + unit.len()..];
    }
    (last_ns != u128::MAX).then_some(Duration::from_nanos(u64::try_from(total_ns).ok()?))
}

/// A text in quotes; between backticks nothing is escaped.
fn quoted(chars: &[char], from: usize) -> Result<(String, usize), Refused> {
    let quote = chars[from];
    let mut text = String::new();
    let mut at = from + 1;
    loop {
        match chars.get(at) {
            None => {
                return Refused::new(from + 1, format!("expected {quote} at the end of a text, found none"));
            }
            Some(c) if *c == quote => return Ok((text, at + 1)),
            Some('\\') if quote != '`' => {
                let (c, end) = escaped(chars, at + 1)?;
                text.push(c);
                at = end;
            }
            Some(c) => {
                text.push(*c);
                at += 1;
            }
        }
    }
}

fn escaped(chars: &[char], at: usize) -> Result<(char, usize), Refused> {
    let of_code = |digits: usize| {
        let code: String = chars.iter().skip(at + 1).take(digits).collect();
        let c = u32::from_str_radix(&code, 16).ok().and_then(char::from_u32);
        c.filter(|_| code.len() == digits).map(|c| (c, at + 1 + digits))
    };
    let found = match chars.get(at) {
        Some('n') => Some(('\n', at + 1)),
        Some('t') => Some(('\t', at + 1)),
        Some('r') => Some(('\r', at + 1)),
        Some('x') => of_code(2),
        Some('u') => of_code(4),
        Some('U') => of_code(8),
        Some(c @ ('\\' | '"' | '\'')) => Some((*c, at + 1)),
        _ => None,
    };
    found.map_or_else(|| Refused::new(at, "expected an escape such as \\n or \\\", found another"), Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_have_their_places() {
        let of = |text: &str| tokens(text).unwrap();
        assert_eq!(
            of("a:b >= 1.5e-3 # rest\n{x=~\"ü\\\"\"}[1h30m]"),
            [
                (1, Token::Name("a:b".into())),
                (5, Token::Sign(">=")),
                (8, Token::Number(0.0015)),
                (22, Token::Sign("{")),
                (23, Token::Name("x".into())),
                (24, Token::Sign("=~")),
                (26, Token::Text("ü\"".into())),
                (31, Token::Sign("}")),
                (32, Token::Sign("[")),
                (33, Token::Duration(Duration::from_secs(5400))),
                (38, Token::Sign("]")),
                (39, Token::End),
            ]
        );
        let subquery: Vec<Token> = of("[5m:1m]").into_iter().map(|(_, token)| token).collect();
        assert!(subquery.contains(&Token::Sign(":")), "{subquery:?}");
        assert_eq!(of("0x1F .5")[..2], [(1, Token::Number(31.0)), (6, Token::Number(0.5))]);
    }

    #[test]
    fn what_is_no_token_is_told() {
        for (text, expected) in [
            ("a & b", "character 3: expected an expression, found '&'"),
            ("a > 5x", "character 5: expected a number or a duration such as 5m, found \"5x\""),
            ("a{b=\"c}", "character 5: expected \" at the end of a text, found none"),
            ("a{b=\"\\q\"}", "character 6: expected an escape such as \\n or \\\", found another"),
        ] {
            assert_eq!(tokens(text).map(|_| ()).map_err(|e| e.to_string()), Err(expected.into()), "{text}");
        }
    }

    #[test]
    fn durations() {
        for (text, seconds) in [
            ("5m", Some(300.0)),
            ("1h30m", Some(5400.0)),
            ("1d12h", Some(129_600.0)),
            ("250ms", Some(0.25)),
            ("1y", Some(31_536_000.0)),
            ("30m1h", None),
            ("5", None),
            ("", None),
            ("m", None),
        ] {
            assert_eq!(duration(text).map(|d| d.as_secs_f64()), seconds, "{text}");
        }
    }
}
