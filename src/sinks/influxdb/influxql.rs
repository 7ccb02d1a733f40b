//! InfluxQL: statements with everything quoted, and their answers as tables.
//!
//! Identifiers and strings escape their quote, the backslash and the line break, and nothing else is special
//! inside them (InfluxQL specification, "Literals").

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Visitor};

use super::config::Api;
use super::server::{Server, said};
use crate::sinks::SinkError;
use crate::sinks::target::{percent_encode, with_query};

/// One table of an answer.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Series {
    /// The measurement, where the answer is about one.
    #[serde(default)]
    pub(super) name: String,
    /// Tags, where the answer groups by them.
    #[serde(default)]
    pub(super) tags: std::collections::BTreeMap<String, String>,
    pub(super) columns: Vec<String>,
    #[serde(default)]
    pub(super) values: Vec<Vec<Cell>>,
}

/// One value of a table.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cell {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
}

impl<'de> Deserialize<'de> for Cell {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct CellVisitor;
        impl Visitor<'_> for CellVisitor {
            type Value = Cell;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("null, a truth value, a number or a text")
            }
            fn visit_unit<E>(self) -> Result<Cell, E> {
                Ok(Cell::Null)
            }
            fn visit_bool<E>(self, value: bool) -> Result<Cell, E> {
                Ok(Cell::Bool(value))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Cell, E> {
                Ok(Cell::Int(value))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Cell, E> {
                Ok(i64::try_from(value).map_or(Cell::Float(value as f64), Cell::Int))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Cell, E> {
                Ok(Cell::Float(value))
            }
            fn visit_str<E>(self, value: &str) -> Result<Cell, E> {
                Ok(Cell::Text(value.into()))
            }
            fn visit_string<E>(self, value: String) -> Result<Cell, E> {
                Ok(Cell::Text(value))
            }
        }
        from.deserialize_any(CellVisitor)
    }
}

/// Runs `statements`, divided by semicolons. Returns the tables of each, or what the server says of a statement
/// that it does not run.
///
/// # Errors
/// The server is not there, is busy, or does not know us.
pub(super) fn ask(server: &Server, statements: &str) -> Result<Result<Vec<Vec<Series>>, String>, SinkError> {
    #[derive(Deserialize)]
    struct Answers {
        #[serde(default)]
        results: Vec<One>,
        error: Option<String>,
    }
    #[derive(Deserialize)]
    struct One {
        #[serde(default)]
        series: Vec<Series>,
        error: Option<String>,
    }
    let api = server.api()?;
    let path = with_query("/query", &[("db", server.database(api)), ("epoch", "ns")]);
    let mut form = String::from("q=");
    percent_encode(statements, &mut form);
    let headers = [("content-type", "application/x-www-form-urlencoded"), ("accept", "application/json")];
    let answer = server.target.post(&path, &headers, form.into())?;
    if matches!(answer.status, 400 | 403 | 404 | 422) {
        return Ok(Err(said(&answer).unwrap_or_else(|| answer.told())));
    }
    let answer = answer.check()?;
    let parsed: Answers = match serde_json::from_str(&answer.body) {
        Ok(parsed) => parsed,
        Err(error) => return Ok(Err(format!("expected the answer of a query: {error}"))),
    };
    let errors = parsed.results.iter().filter_map(|one| one.error.as_ref()).chain(&parsed.error);
    if let Some(error) = errors.into_iter().next() {
        return Ok(Err(error.clone()));
    }
    Ok(Ok(parsed.results.into_iter().map(|one| one.series).collect()))
}

/// Statements in one request: 3 is asked them one by one.
pub(super) fn statements_max(api: Api) -> usize {
    if api == Api::V3 { 1 } else { 20 }
}

/// `name` as a quoted identifier.
pub(super) fn identifier(name: &str) -> String {
    quoted(name, '"')
}

/// `text` as a string.
pub(super) fn string(text: &str) -> String {
    quoted(text, '\'')
}

fn quoted(text: &str, quote: char) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push(quote);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\\' => out.push_str("\\\\"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out.push(quote);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_cannot_be_left() {
        for (text, as_string, as_identifier) in [
            ("plain", "'plain'", "\"plain\""),
            ("a'; DROP DATABASE x; --", "'a\\'; DROP DATABASE x; --'", "\"a'; DROP DATABASE x; --\""),
            ("a\"b", "'a\"b'", "\"a\\\"b\""),
            ("a\\' OR 1=1", "'a\\\\\\' OR 1=1'", "\"a\\\\' OR 1=1\""),
            ("a\nb", "'a\\nb'", "\"a\\nb\""),
        ] {
            assert_eq!((string(text).as_str(), identifier(text).as_str()), (as_string, as_identifier));
        }
    }

    #[test]
    fn cells_keep_every_digit() {
        let json = "[null, true, 1704110400123456789, 45.2, 1e+300, -0, 123456789012345680000, \"a\\\"b\"]";
        let cells: Vec<Cell> = serde_json::from_str(json).unwrap();
        let expect = [
            Cell::Null,
            Cell::Bool(true),
            Cell::Int(1_704_110_400_123_456_789),
            Cell::Float(45.2),
            Cell::Float(1e300),
            Cell::Float(-0.0),
            Cell::Float(123_456_789_012_345_680_000.0),
            Cell::Text("a\"b".into()),
        ];
        assert_eq!(cells, expect);
        assert!(matches!(cells[5], Cell::Float(zero) if zero.is_sign_negative()));
    }
}
