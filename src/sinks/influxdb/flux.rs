//! Flux, for 2.x: one script with everything quoted, and its answer, annotated CSV.
//!
//! (InfluxDB 2, "Annotated CSV"; Flux specification, "String literals".)

use operators::sample::TimeNs;
use serde_json::json;

use super::read::Row;
use super::server::{Server, said};
use crate::sinks::SinkError;
use crate::sinks::target::with_query;

/// What rows are asked for, by stored names.
pub(super) struct Selection<'a> {
    pub(super) bucket: &'a str,
    pub(super) measurement: Option<String>,
    /// What measurements begin and end with.
    pub(super) around: (&'a str, &'a str),
    pub(super) tags: Vec<(String, String)>,
    /// None: all.
    pub(super) fields: Vec<String>,
    pub(super) start_ns: TimeNs,
    pub(super) end_ns: TimeNs,
    pub(super) limit: usize,
}

/// The rows of `selection`.
///
/// # Errors
/// The server is not there, or does not run the script.
pub(super) fn ask(server: &Server, selection: &Selection<'_>) -> Result<Vec<Row>, SinkError> {
    let org = server.config.org.as_deref().unwrap_or_default();
    let body = json!({
        "query": script(selection),
        "type": "flux",
        "dialect": {"header": true, "annotations": ["datatype", "group", "default"]},
    });
    let headers = [("content-type", "application/json"), ("accept", "application/csv")];
    let path = with_query("/api/v2/query", &[("org", org)]);
    let answer = server.target.post(&path, &headers, body.to_string().into())?;
    if matches!(answer.status, 400 | 422) {
        return Err(SinkError::retry(said(&answer).unwrap_or_else(|| answer.told())));
    }
    rows(&answer.check()?.body).map_err(SinkError::retry)
}

/// The script: rows of one message each, newest first.
fn script(selection: &Selection<'_>) -> String {
    let measurements = match &selection.measurement {
        Some(name) => vec![format!("r._measurement == {}", quoted(name))],
        None => around(selection.around),
    };
    let mut out = String::new();
    if measurements.iter().any(|condition| condition.starts_with("strings.")) {
        out.push_str("import \"strings\"\n");
    }
    out.push_str(&format!("from(bucket: {})", quoted(selection.bucket)));
    let mut then = |step: String| out.push_str(&format!("\n  |> {step}"));
    let (start, end) = (selection.start_ns, selection.end_ns);
    then(format!("range(start: time(v: {start}), stop: time(v: {end}))"));
    let all = |conditions: Vec<String>, word: &str| {
        format!("filter(fn: (r) => {})", conditions.join(&format!(" {word} ")))
    };
    if !measurements.is_empty() {
        then(all(measurements, "and"));
    }
    if !selection.tags.is_empty() {
        let equal = |(key, value): &(String, String)| format!("r[{}] == {}", quoted(key), quoted(value));
        then(all(selection.tags.iter().map(equal).collect(), "and"));
    }
    if !selection.fields.is_empty() {
        let equal = |field: &String| format!("r._field == {}", quoted(field));
        then(all(selection.fields.iter().map(equal).collect(), "or"));
    }
    let newest = format!("limit(n: {})", selection.limit);
    then("drop(columns: [\"_start\", \"_stop\"])".into());
    then("pivot(rowKey: [\"_time\"], columnKey: [\"_field\"], valueColumn: \"_value\")".into());
    // First of each series, which is cheap, then of all.
    for _ in 0..2 {
        then("sort(columns: [\"_time\"], desc: true)".into());
        then(newest.clone());
        then("group()".into());
    }
    out
}

/// Conditions for a measurement that begins and ends with these.
fn around((before, behind): (&str, &str)) -> Vec<String> {
    let begins = format!("strings.hasPrefix(v: r._measurement, prefix: {})", quoted(before));
    let ends = format!("strings.hasSuffix(v: r._measurement, suffix: {})", quoted(behind));
    let conditions = [(before, begins), (behind, ends)].into_iter().filter(|(text, _)| !text.is_empty());
    conditions.map(|(_, condition)| condition).collect()
}

/// `text` as a string literal; `${` would begin an expression.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '$' if rest.peek() == Some(&'{') => out.push_str("\\$"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// What a column holds.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Number,
    Text,
    Time,
    Other,
}

/// The columns of the table that is being read.
#[derive(Default)]
struct Header {
    kinds: Vec<Kind>,
    defaults: Vec<String>,
    names: Vec<String>,
}

/// The rows of annotated CSV. Tables that say nothing of a measurement and a time are left out.
fn rows(csv: &str) -> Result<Vec<Row>, String> {
    let mut found = Vec::new();
    let mut header = Header::default();
    for mut record in (Records { rest: csv }) {
        match record.first().map_or("", String::as_str) {
            _ if record.len() <= 1 => header.names.clear(),
            "#datatype" => {
                header =
                    Header { kinds: record.iter().map(|text| kind(text)).collect(), ..Header::default() };
            }
            "#default" => header.defaults = std::mem::take(&mut record),
            note if note.starts_with('#') => {}
            _ if header.names.is_empty() => header.names = record,
            _ if header.names.get(1).is_some_and(|name| name == "error") => {
                return Err(record.swap_remove(1));
            }
            _ => found.extend(row(&header, &record)),
        }
    }
    Ok(found)
}

fn kind(datatype: &str) -> Kind {
    match datatype {
        "double" | "long" | "unsignedLong" => Kind::Number,
        "string" => Kind::Text,
        time if time.starts_with("dateTime") => Kind::Time,
        _ => Kind::Other,
    }
}

fn row(header: &Header, record: &[String]) -> Option<Row> {
    let mut row = Row::default();
    let mut time_ns = None;
    // The first three are the annotation's column, the result's name and the table's number.
    for (at, value) in record.iter().enumerate().skip(3) {
        let (Some(name), Some(kind)) = (header.names.get(at), header.kinds.get(at)) else { continue };
        let value = match value.as_str() {
            "" => header.defaults.get(at).map_or("", String::as_str),
            value => value,
        };
        match (kind, name.as_str()) {
            _ if value.is_empty() => {}
            (Kind::Time, "_time") => {
                time_ns = value.parse().ok().map(|time: jiff::Timestamp| time.as_nanosecond());
            }
            (Kind::Text, "_measurement") => row.measurement = value.into(),
            (Kind::Text, _) => row.tags.push((name.clone(), value.into())),
            (Kind::Number, _) => row.fields.extend(value.parse().ok().map(|number| (name.clone(), number))),
            (Kind::Time | Kind::Other, _) => {}
        }
    }
    row.time_ns = TimeNs::try_from(time_ns?).ok()?;
    (!row.measurement.is_empty()).then_some(row)
}

/// The records of CSV (RFC 4180).
struct Records<'a> {
    rest: &'a str,
}

impl Iterator for Records<'_> {
    type Item = Vec<String>;

    fn next(&mut self) -> Option<Vec<String>> {
        if self.rest.is_empty() {
            return None;
        }
        let mut record = vec![String::new()];
        let mut in_quotes = false;
        let mut rest = self.rest.chars().peekable();
        let mut len = 0;
        while let Some(c) = rest.next() {
            len += c.len_utf8();
            let field = record.last_mut()?;
            match c {
                '"' if in_quotes && rest.peek() == Some(&'"') => {
                    rest.next();
                    len += 1;
                    field.push('"');
                }
                '"' => in_quotes = !in_quotes,
                c if in_quotes => field.push(c),
                ',' => record.push(String::new()),
                '\n' => break,
                '\r' => {}
                c => field.push(c),
            }
        }
        self.rest = &self.rest[len..];
        Some(record)
    }
}
