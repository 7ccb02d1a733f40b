//! One line taken apart.
//!
//! A comma, blank or equals sign with a backslash directly before it is an ordinary character; the backslash is left
//! out then. Every other backslash stands for itself, and there is no way to write one before such a character.

use std::borrow::Cow;

use super::lines::text_len;
use crate::codec::reject::Reason;

/// Why a line is not taken.
#[derive(Debug, PartialEq)]
pub(super) struct Wrong {
    pub(super) reason: Reason,
    /// InfluxDB's words for it, as far as it has some.
    pub(super) found: Cow<'static, str>,
}

impl Wrong {
    pub(super) fn new(reason: Reason, found: &'static str) -> Wrong {
        Wrong { reason, found: Cow::Borrowed(found) }
    }
}

fn bad(found: &'static str) -> Wrong {
    Wrong::new(Reason::BadLine, found)
}

/// Key and value.
pub(super) type Tag<'a> = (Cow<'a, str>, Cow<'a, str>);

/// A field of a line.
#[derive(Debug)]
pub(super) struct Field<'a> {
    /// As it is spelled.
    key: &'a str,
    /// None for a text.
    pub(super) value: Option<f64>,
    /// Where the line goes on behind the value: so many bytes before its end.
    pub(super) left: usize,
}

impl<'a> Field<'a> {
    pub(super) fn name(&self) -> Cow<'a, str> {
        plain(self.key, b",= \"")
    }
}

/// As many as `ingest.tags_per_series_max` can allow.
const TAGS_MAX: usize = 1024;

/// Fields of a line.
const FIELDS_MAX: usize = 1 << 16;

/// A line and how far it was read.
pub(super) struct Line<'a> {
    /// Measurement and tags, as they are spelled.
    pub(super) key: &'a str,
    measurement_len: usize,
    rest: &'a str,
}

impl<'a> Line<'a> {
    /// Reads up to the fields.
    pub(super) fn new(text: &'a str) -> Result<Line<'a>, Wrong> {
        let key_len = unescaped(text, |byte| byte == b' ').ok_or_else(|| bad("missing fields"))?;
        let key = &text[..key_len];
        let measurement_len = unescaped(key, |byte| byte == b',').unwrap_or(key_len);
        if measurement_len == 0 {
            return Err(bad("missing measurement"));
        }
        Ok(Line { key, measurement_len, rest: without_blanks(&text[key_len..]) })
    }

    pub(super) fn measurement(&self) -> Cow<'a, str> {
        plain(&self.key[..self.measurement_len], b",= ")
    }

    /// The tags, in the line's order.
    pub(super) fn tags(&self) -> Result<Vec<Tag<'a>>, Wrong> {
        let mut tags = Vec::new();
        let mut rest = &self.key[self.measurement_len..];
        while let Some(from) = rest.strip_prefix(',') {
            let key_len = unescaped(from, |byte| matches!(byte, b',' | b'=')).unwrap_or(from.len());
            if key_len == 0 {
                return Err(bad("missing tag key"));
            }
            let Some(value) = from[key_len..].strip_prefix('=') else { return Err(bad("missing tag value")) };
            let value_len = unescaped(value, |byte| matches!(byte, b',' | b'=')).unwrap_or(value.len());
            rest = &value[value_len..];
            if rest.starts_with('=') {
                return Err(bad("invalid tag format"));
            }
            if value_len == 0 {
                return Err(bad("missing tag value"));
            }
            if tags.len() == TAGS_MAX {
                return Err(Wrong::new(Reason::TooManyTags, "more than 1024 tags"));
            }
            tags.push((plain(&from[..key_len], b",= "), plain(&value[..value_len], b",= ")));
        }
        let mut keys: Vec<&str> = tags.iter().map(|(key, _)| &**key).collect();
        keys.sort_unstable();
        if keys.windows(2).any(|two| two[0] == two[1]) {
            return Err(bad("duplicate tags"));
        }
        Ok(tags)
    }

    /// Reads the fields, at least one.
    pub(super) fn fields(&mut self, fields: &mut Vec<Field<'a>>) -> Result<(), Wrong> {
        loop {
            let key_len = unescaped(self.rest, |byte| matches!(byte, b',' | b'=' | b' '));
            let key_len = key_len.ok_or_else(|| bad("invalid field format"))?;
            let (key, behind) = self.rest.split_at(key_len);
            let value = behind.strip_prefix('=').ok_or_else(|| bad("invalid field format"))?;
            if key.is_empty() {
                return Err(bad("missing field key"));
            }
            if fields.len() == FIELDS_MAX {
                return Err(bad("more than 65536 fields"));
            }
            let value = self.value(value)?;
            fields.push(Field { key, value, left: self.rest.len() });
            match self.rest.strip_prefix(',') {
                Some(next) => self.rest = next,
                None if self.rest.is_empty() || self.rest.starts_with(' ') => return Ok(()),
                None => return Err(bad("invalid field format")),
            }
        }
    }

    /// Reads the value that `text` begins with.
    fn value(&mut self, text: &'a str) -> Result<Option<f64>, Wrong> {
        if let Some(inner) = text.strip_prefix('"') {
            let len = text_len(inner.as_bytes()).ok_or_else(|| bad("unbalanced quotes"))?;
            self.rest = &inner[len + 1..];
            return Ok(None);
        }
        let len = text.bytes().position(|byte| matches!(byte, b',' | b' ')).unwrap_or(text.len());
        let (word, rest) = text.split_at(len);
        self.rest = rest;
        match word {
            "" => Err(bad("missing field value")),
            "t" | "T" | "true" | "True" | "TRUE" => Ok(Some(1.0)),
            "f" | "F" | "false" | "False" | "FALSE" => Ok(Some(0.0)),
            _ => number(word).map(Some),
        }
    }

    /// Reads the time behind the fields, if there is one.
    pub(super) fn time(&self) -> Result<Option<i64>, Wrong> {
        let text = without_blanks(self.rest).trim_end_matches(' ');
        if text.is_empty() {
            return Ok(None);
        }
        if text.contains(' ') {
            return Err(bad("point is invalid"));
        }
        let digits = text.strip_prefix('-').unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Wrong::new(Reason::BadTimestamp, "bad timestamp"));
        }
        let time = text.parse().map_err(|_| Wrong::new(Reason::BadTimestamp, "time out of range"));
        time.map(Some)
    }
}

/// A float, an integer or an unsigned integer; no sign but a minus, and neither infinite nor `NaN`.
fn number(word: &str) -> Result<f64, Wrong> {
    let wrong = |found| Wrong::new(Reason::NotANumber, found);
    let digits = word.strip_prefix('-').unwrap_or(word);
    if !digits.starts_with(|first: char| first.is_ascii_digit() || first == '.') {
        return Err(wrong(if word.starts_with('-') { "invalid number" } else { "invalid boolean" }));
    }
    let whole = word.strip_suffix(['i', 'u']);
    let is_whole = whole.is_some_and(|_| digits[..digits.len() - 1].bytes().all(|b| b.is_ascii_digit()));
    match whole.filter(|_| is_whole) {
        Some(whole) if word.ends_with('i') => {
            whole.parse::<i64>().map(|value| value as f64).map_err(|_| wrong("integer out of range"))
        }
        Some(whole) => {
            whole.parse::<u64>().map(|value| value as f64).map_err(|_| wrong("unsigned integer out of range"))
        }
        None => match word.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(value),
            Ok(_) => Err(Wrong::new(Reason::NotFinite, "invalid float")),
            Err(_) => Err(wrong("invalid number")),
        },
    }
}

/// Where the first byte stands that is looked for and has no backslash before it.
fn unescaped(text: &str, is_wanted: impl Fn(u8) -> bool) -> Option<usize> {
    let bytes = text.as_bytes();
    (0..bytes.len()).find(|at| is_wanted(bytes[*at]) && (*at == 0 || bytes[at - 1] != b'\\'))
}

/// `spelled` without the backslashes before `special`.
fn plain<'a>(spelled: &'a str, special: &[u8]) -> Cow<'a, str> {
    if !spelled.contains('\\') {
        return Cow::Borrowed(spelled);
    }
    let mut text = String::with_capacity(spelled.len());
    let mut rest = spelled;
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if !rest.bytes().next().is_some_and(|next| special.contains(&next)) {
            text.push('\\');
        }
    }
    text.push_str(rest);
    Cow::Owned(text)
}

/// Without the blanks at its beginning.
fn without_blanks(text: &str) -> &str {
    text.trim_start_matches([' ', '\t'])
}
