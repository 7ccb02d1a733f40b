//! The query API: selectors that say exactly what was meant, and raw samples out of answers.
//!
//! Raw samples come from an instant query for a range selector, `m{...}[60000ms]` at the range's end (Prometheus HTTP
//! API, "Instant queries" and "Range vectors"). Up to version 2 the range has both ends, from version 3 on it lacks
//! its beginning; so a millisecond more is asked for, and left out here.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::names::{JOB, NAME, Naming, ORIGINAL_NAMES, SERVICE, keeps_its_name};
use crate::sinks::target::{Target, percent_encode};
use crate::sinks::{Query, SinkError};

/// Where queries are asked.
const PATH: &str = "/api/v1/query";

/// A longer answer is too long.
pub const ANSWER_BYTES_MAX: usize = 16 << 20;

/// One series of an answer: labels, and its samples as milliseconds and value.
pub type Found = (BTreeMap<String, String>, Vec<(i64, f64)>);

/// Asks a server's query API.
pub struct Asker {
    target: Target,
}

impl Asker {
    /// Asks `target`, whose address is that before `/api/v1`.
    pub fn new(target: Target) -> Self {
        Asker { target }
    }

    /// The raw samples of `selector` in `[start_ms, end_ms)`.
    ///
    /// # Errors
    /// [`SinkError::Poison`]: the server does not answer such a query, or not with less than [`ANSWER_BYTES_MAX`]
    /// bytes. [`SinkError::Retry`]: it does not answer now.
    pub fn samples(&self, selector: &str, start_ms: i64, end_ms: i64) -> Result<Vec<Found>, SinkError> {
        let query = format!("{selector}[{}ms]", end_ms - start_ms);
        let series: Vec<Series<Vec<(f64, String)>>> = self.ask(&query, end_ms - 1)?;
        let inside = |(seconds, value): (f64, String)| {
            let time_ms = (seconds * 1000.0).round() as i64;
            let value = value.parse::<f64>().ok()?;
            (time_ms >= start_ms && time_ms < end_ms).then_some((time_ms, value))
        };
        let found = series.into_iter().map(|s| (s.metric, s.found.into_iter().filter_map(inside).collect()));
        Ok(found.collect())
    }

    /// How many series `selector` has in `[start_ms, end_ms)`, or a millisecond before.
    ///
    /// # Errors
    /// As of [`Asker::samples`].
    pub fn count_series(&self, selector: &str, start_ms: i64, end_ms: i64) -> Result<u64, SinkError> {
        // Of all functions over a range, this one keeps names: without them, series of one target would be the same.
        let query = format!("count(last_over_time({selector}[{}ms]))", end_ms - start_ms);
        let series: Vec<Series<(f64, String)>> = self.ask(&query, end_ms - 1)?;
        let counts = series.iter().filter_map(|series| series.found.1.parse::<f64>().ok());
        Ok(counts.map(|count| count as u64).sum())
    }

    fn ask<T: DeserializeOwned>(&self, query: &str, time_ms: i64) -> Result<Vec<T>, SinkError> {
        // A form, since a query may be longer than an address. `nocache` is VictoriaMetrics's.
        let mut form = String::from("nocache=1&query=");
        percent_encode(query, &mut form);
        // A String takes every text.
        let _ = write!(form, "&time={}.{:03}", time_ms.div_euclid(1000), time_ms.rem_euclid(1000));
        let headers = [("Content-Type", "application/x-www-form-urlencoded")];
        let answer = self.target.post(PATH, &headers, form.into_bytes()).map_err(|error| match error {
            SinkError::Retry { why, .. } if why.ends_with("bytes, found more") => SinkError::Poison { why },
            error => error,
        })?;
        if matches!(answer.status, 400 | 404 | 405 | 422) {
            return Err(SinkError::Poison { why: answer.told() });
        }
        let body = answer.check()?.body;
        let wrong = |why: String| {
            SinkError::retry(format!("{}{PATH}: expected the answer to a query: {why}", self.target.shown()))
        };
        let envelope: Envelope<T> = serde_json::from_str(&body).map_err(|error| wrong(error.to_string()))?;
        match envelope.data {
            Some(data) if envelope.status == "success" => Ok(data.result),
            _ => Err(wrong(format!("found status {:?}", envelope.status))),
        }
    }
}

#[derive(Deserialize)]
struct Envelope<T> {
    status: String,
    data: Option<Data<T>>,
}

#[derive(Deserialize)]
struct Data<T> {
    result: Vec<T>,
}

#[derive(Deserialize)]
struct Series<V> {
    #[serde(default)]
    metric: BTreeMap<String, String>,
    #[serde(alias = "value", alias = "values")]
    found: V,
}

/// A selector that has everything `query` wants. It may have more: what is found is looked at again under its own
/// names, since changed names can't be told apart here.
pub fn selector(naming: &Naming, query: &Query) -> String {
    let mut matchers = vec![(JOB, naming.job_name.clone())];
    if let Some(service) = &query.service {
        matchers.push((SERVICE, service.clone()));
    }
    let mut contained = Vec::new();
    for (name, value) in &query.tags {
        if keeps_its_name(name) {
            matchers.push((name, value.clone()));
        } else if !value.is_empty() {
            contained.push(format!(":{}", json_string(name)));
        }
    }
    let mut out = names_matcher(naming, &query.metrics);
    for (label, value) in matchers {
        // A String takes every text.
        let _ = write!(out, ",{label}=");
        quote(&value, &mut out);
    }
    for text in contained {
        let _ = write!(out, ",{ORIGINAL_NAMES}=~");
        quote(&format!(".*{}.*", regex_quoted(&text)), &mut out);
    }
    format!("{{{out}}}")
}

/// A selector for the series of these metric names (as they are there) that this program wrote.
pub fn selector_of_names<'a>(naming: &Naming, names: impl IntoIterator<Item = &'a str>) -> String {
    // Valid names have nothing that a regular expression would take for more than itself.
    let names: Vec<&str> = names.into_iter().collect();
    let mut out = format!("{NAME}=~\"{}\",{JOB}=", names.join("|"));
    quote(&naming.job_name, &mut out);
    format!("{{{out}}}")
}

fn names_matcher(naming: &Naming, metrics: &[String]) -> String {
    let mut names: Vec<String> = metrics.iter().map(|metric| naming.name(metric)).collect();
    names.sort_unstable();
    names.dedup();
    match names.as_slice() {
        [] => format!("{NAME}=~\"{}.+\"", naming.prefix),
        [one] => format!("{NAME}=\"{one}\""),
        several => format!("{NAME}=~\"{}\"", several.join("|")),
    }
}

/// Appends `text` as a PromQL string.
fn quote(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            // As Go writes it; a line break may not stand in a string.
            c if c.is_control() => {
                // A String takes every text.
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// `text` for a regular expression (RE2) that matches just it.
fn regex_quoted(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if c.is_ascii_punctuation() && c != '_' && c != '"' && c != ':' {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

fn json_string(text: &str) -> String {
    serde_json::to_string(text).expect("a string always serialises")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_say_what_was_meant_and_nothing_else() {
        let naming = Naming { job_name: "j\"}".into(), prefix: "p_".into() };
        let ask = |service: Option<&str>, metrics: &[&str], tags: &[(&str, &str)]| {
            let query = Query {
                service: service.map(String::from),
                metrics: metrics.iter().map(|m| m.to_string()).collect(),
                tags: tags.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect(),
                ..Query::default()
            };
            selector(&naming, &query)
        };
        for (found, expected) in [
            (ask(None, &[], &[]), r#"{__name__=~"p_.+",job="j\"}"}"#),
            (ask(Some("a\\\n"), &["m"], &[]), r#"{__name__="p_m",job="j\"}",service="a\\\u000a"}"#),
            (
                ask(None, &["b.b", "b_b", "a\"} or vector(1)"], &[]),
                r#"{__name__=~"p_a___or_vector_1_|p_b_b",job="j\"}"}"#,
            ),
            (
                ask(None, &["m"], &[("host", "h\"} or up{x=\""), ("gone", "")]),
                r#"{__name__="p_m",job="j\"}",host="h\"} or up{x=\"",gone=""}"#,
            ),
            (
                ask(None, &["m"], &[("a.b\"", "not compared there"), ("job", "j2"), ("z.z", "")]),
                r#"{__name__="p_m",job="j\"}",original_names=~".*:\"a\\.b\\\\\"\".*",original_names=~".*:\"job\".*"}"#,
            ),
        ] {
            assert_eq!(found, expected);
        }
        assert_eq!(selector_of_names(&naming, ["a", "b"]), r#"{__name__=~"a|b",job="j\"}"}"#);
    }
}
