//! Attributes -> tags: lists of `KeyValue`, kept as the very bytes that spelled them until somebody needs them.
//!
//! A value that is no text becomes one as the OpenTelemetry specification has it for "non-OTLP protocols":
//! booleans and numbers as in JSON, bytes in base64, lists and maps as JSON, nothing as nothing.

use std::borrow::Cow;
use std::fmt::Write;

use super::json;
use super::protobuf::{Broken, Fields, Value};
use crate::codec::reject::{Reason, excerpt};

/// Bytes of the attributes of a resource or point.
pub const ATTRIBUTES_LEN_MAX: usize = 64 << 10;
/// Lists and maps within each other.
pub const DEPTH_MAX: usize = 16;

/// Why attributes are no tags.
pub type NoTags = (Reason, String);

/// In which form attributes are spelled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// `KeyValue` messages, each behind its length.
    #[default]
    Protobuf,
    /// A JSON array.
    Json,
}

/// The attributes of a resource or point, as they are spelled.
#[derive(Default)]
pub struct Attributes {
    form: Form,
    bytes: Vec<u8>,
}

impl Attributes {
    /// Forgets all.
    pub fn clear(&mut self, form: Form) {
        self.form = form;
        self.bytes.clear();
        self.bytes.push(form as u8);
    }

    /// Adds a `KeyValue` message.
    pub fn push_message(&mut self, message: &[u8]) {
        // What does not fit is too long in any case.
        self.bytes.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_le_bytes());
        self.bytes.extend_from_slice(message);
    }

    /// Takes a JSON array.
    pub fn set_json(&mut self, array: &str) {
        self.bytes.extend_from_slice(array.as_bytes());
    }

    /// The spelling. No two lists of attributes that differ have the same one.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Keeps no more memory than is usual.
    pub fn shrink(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(ATTRIBUTES_LEN_MAX);
    }

    /// Names and texts, in their order.
    ///
    /// # Errors
    /// If there are more than `len_max`, or one of them can't be read.
    pub fn pairs(&self, len_max: usize) -> Result<Vec<(String, String)>, NoTags> {
        if self.bytes.len() > ATTRIBUTES_LEN_MAX {
            return Err((Reason::TagTooLong, format!("{} bytes of attributes", self.bytes.len())));
        }
        let spelled = self.bytes.get(1..).unwrap_or_default();
        match self.form {
            Form::Protobuf => message_pairs(spelled, len_max),
            Form::Json => json::pairs(spelled, len_max),
        }
    }
}

/// Whether a resource's attribute describes the process rather than telling it from others: what it runs with, and
/// how it was started. Such texts are long, change with every version, and many: they are no tags.
pub fn is_description(name: &str) -> bool {
    const PREFIXES: &[&str] = &["telemetry.", "process.command", "process.executable.", "process.runtime."];
    const NAMES: &[&str] = &["process.owner", "process.parent_pid", "os.description", "os.build_id"];
    PREFIXES.iter().any(|prefix| name.starts_with(prefix)) || NAMES.contains(&name)
}

/// Refuses more than `len_max` attributes.
pub(super) fn check_len(len: usize, len_max: usize) -> Result<(), NoTags> {
    if len > len_max { Err((Reason::TooManyTags, format!("more than {len_max} attributes"))) } else { Ok(()) }
}

fn message_pairs(mut spelled: &[u8], len_max: usize) -> Result<Vec<(String, String)>, NoTags> {
    let mut pairs = Vec::new();
    while let Some((len, rest)) = spelled.split_first_chunk::<4>() {
        let (message, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize).unwrap_or((rest, &[]));
        check_len(pairs.len() + 1, len_max)?;
        let (name, value) = key_value(message, DEPTH_MAX)?;
        pairs.push((name.into(), value.into_text()));
        spelled = rest;
    }
    Ok(pairs)
}

/// A value of any type.
#[derive(Debug, PartialEq)]
pub enum Any<'a> {
    /// None.
    Nothing,
    /// Text.
    Text(Cow<'a, str>),
    /// `true` or `false`.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A number.
    Double(f64),
    /// Bytes.
    Bytes(Cow<'a, [u8]>),
    /// A list.
    List(Vec<Any<'a>>),
    /// A map.
    Map(Vec<(Cow<'a, str>, Any<'a>)>),
}

fn broken(found: Broken<'_>) -> NoTags {
    (Reason::BadTags, format!("expected {} in an attribute", found.expected))
}

fn text(bytes: &[u8]) -> Result<&str, NoTags> {
    std::str::from_utf8(bytes)
        .map_err(|_| (Reason::BadTags, format!("expected UTF-8, found {}", excerpt(bytes))))
}

fn key_value<'a>(message: &'a [u8], depth: usize) -> Result<(&'a str, Any<'a>), NoTags> {
    let (mut key, mut value) = ("", Any::Nothing);
    let mut fields = Fields::of(message);
    while let Some(field) = fields.next_field().map_err(broken)? {
        match field {
            (1, Value::Bytes(bytes)) => key = text(bytes)?,
            (2, Value::Bytes(message)) => value = any_value(message, depth)?,
            _ => {}
        }
    }
    Ok((key, value))
}

fn any_value<'a>(message: &'a [u8], depth: usize) -> Result<Any<'a>, NoTags> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err((Reason::BadTags, format!("expected at most {DEPTH_MAX} values within each other")));
    };
    let mut value = Any::Nothing;
    let mut fields = Fields::of(message);
    while let Some(field) = fields.next_field().map_err(broken)? {
        value = match field {
            (1, Value::Bytes(bytes)) => Any::Text(text(bytes)?.into()),
            (2, Value::Varint(number)) => Any::Bool(number != 0),
            (3, Value::Varint(number)) => Any::Int(number as i64),
            (4, Value::Fixed64(bits)) => Any::Double(f64::from_bits(bits)),
            (5, Value::Bytes(message)) => {
                let mut list = Vec::new();
                let mut values = Fields::of(message);
                while let Some(field) = values.next_field().map_err(broken)? {
                    if let (1, Value::Bytes(message)) = field {
                        list.push(any_value(message, depth)?);
                    }
                }
                Any::List(list)
            }
            (6, Value::Bytes(message)) => {
                let mut map = Vec::new();
                let mut entries = Fields::of(message);
                while let Some(field) = entries.next_field().map_err(broken)? {
                    if let (1, Value::Bytes(message)) = field {
                        let (key, value) = key_value(message, depth)?;
                        map.push((key.into(), value));
                    }
                }
                Any::Map(map)
            }
            (7, Value::Bytes(bytes)) => Any::Bytes(bytes.into()),
            _ => continue,
        };
    }
    Ok(value)
}

impl Any<'_> {
    /// The value as a tag's value.
    pub fn into_text(self) -> String {
        match self {
            Any::Text(text) => text.into(),
            Any::Nothing => String::new(),
            Any::Double(number) if !number.is_finite() => not_finite(number).into(),
            Any::Bytes(bytes) => base64(&bytes),
            other => {
                let mut json = String::new();
                other.write_json(&mut json);
                json
            }
        }
    }

    fn write_json(&self, out: &mut String) {
        // Writing to a string does not fail.
        let _ = match self {
            Any::Nothing => write!(out, "null"),
            Any::Text(text) => return write_string(out, text),
            Any::Bool(value) => write!(out, "{value}"),
            Any::Int(number) => write!(out, "{number}"),
            Any::Double(number) if number.is_finite() => write!(out, "{}", number_text(*number)),
            Any::Double(number) => return write_string(out, not_finite(*number)),
            Any::Bytes(bytes) => return write_string(out, &base64(bytes)),
            Any::List(list) => {
                for (at, value) in list.iter().enumerate() {
                    out.push(if at == 0 { '[' } else { ',' });
                    value.write_json(out);
                }
                write!(out, "{}", if list.is_empty() { "[]" } else { "]" })
            }
            Any::Map(map) => {
                for (at, (key, value)) in map.iter().enumerate() {
                    out.push(if at == 0 { '{' } else { ',' });
                    write_string(out, key);
                    out.push(':');
                    value.write_json(out);
                }
                write!(out, "{}", if map.is_empty() { "{}" } else { "}" })
            }
        };
    }
}

fn not_finite(number: f64) -> &'static str {
    match number {
        f64::INFINITY => "Infinity",
        f64::NEG_INFINITY => "-Infinity",
        _ => "NaN",
    }
}

fn write_string(out: &mut String, text: &str) {
    // Text is always JSON.
    out.push_str(&serde_json::to_string(text).unwrap_or_default());
}

/// A number as Go and Prometheus write it: no exponent from 1e-4 up to 1e21.
pub fn number_text(number: f64) -> String {
    let size = number.abs();
    if number == f64::INFINITY {
        return "+Inf".into();
    }
    if size == 0.0 || (1e-4..1e21).contains(&size) || !number.is_finite() {
        return (number + 0.0).to_string();
    }
    let text = format!("{number:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |rest| ('-', rest));
    format!("{digits}e{sign}{exponent:0>2}")
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Base64 with padding (RFC 4648, section 4).
fn base64(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let at = |index: usize| u32::from(three.get(index).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for sextet in 0..4 {
            let letter = ALPHABET[(bits >> (18 - 6 * sextet) & 63) as usize];
            out.push(if sextet > three.len() { '=' } else { letter.into() });
        }
    }
    out
}

/// The bytes that base64 of either alphabet spells, padded or not.
pub(super) fn from_base64(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3 + 3);
    let (mut bits, mut held) = (0u32, 0);
    for byte in text.trim_end_matches('=').bytes() {
        let letter = match byte {
            b'-' => b'+',
            b'_' => b'/',
            other => other,
        };
        let sextet = ALPHABET.iter().position(|known| *known == letter)?;
        (bits, held) = (bits << 6 | sextet as u32, held + 6);
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_become_texts() {
        let list = |values| Any::List(values);
        for (value, text) in [
            (Any::Nothing, ""),
            (Any::Text("a\"b".into()), "a\"b"),
            (Any::Bool(true), "true"),
            (Any::Int(-5), "-5"),
            (Any::Double(1.0), "1"),
            (Any::Double(0.1), "0.1"),
            (Any::Double(f64::NAN), "NaN"),
            (Any::Double(f64::NEG_INFINITY), "-Infinity"),
            (Any::Bytes(b"\x00\xff".as_slice().into()), "AP8="),
            (list(vec![]), "[]"),
            (
                list(vec![Any::Text("a\"".into()), Any::Nothing, Any::Double(f64::NAN)]),
                r#"["a\"",null,"NaN"]"#,
            ),
            (Any::Map(vec![("k".into(), list(vec![Any::Int(1), Any::Bool(false)]))]), r#"{"k":[1,false]}"#),
            (Any::Map(vec![]), "{}"),
        ] {
            assert_eq!(value.into_text(), text);
        }
    }

    #[test]
    fn base64_goes_both_ways() {
        for (bytes, text) in
            [(&b""[..], ""), (b"f", "Zg=="), (b"fo", "Zm8="), (b"foo", "Zm9v"), (b"\xfb\xff", "+/8=")]
        {
            assert_eq!(base64(bytes), text);
            assert_eq!(from_base64(text).as_deref(), Some(bytes));
        }
        assert_eq!(from_base64("-_8").as_deref(), Some(&b"\xfb\xff"[..]));
        assert_eq!(from_base64("a b"), None);
    }

    #[test]
    fn numbers_are_written_as_prometheus_does() {
        for (number, text) in [
            (0.005, "0.005"),
            (10.0, "10"),
            (2.5, "2.5"),
            (-0.0, "0"),
            (1e21, "1e+21"),
            (1.5e300, "1.5e+300"),
            (1e-5, "1e-05"),
            (-2.0, "-2"),
            (f64::INFINITY, "+Inf"),
        ] {
            assert_eq!(number_text(number), text);
        }
    }
}
