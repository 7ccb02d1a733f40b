//! What a series with Prometheus's labels is called here.
//!
//! `__name__` is the metric. The service is the label `service`, or else `job`, or else [`DEFAULT_SERVICE`]; the
//! label so used is no tag, all others are. A label without a value is as absent. So does a scrape
//! (`collectors/scrape.rs`), and so what our own storage `prometheus` wrote is the same series again when it comes
//! back: for that, beside a label `service` the label `job="plantd"`, which that storage adds, is no tag, and the
//! label `original_names`, in which it keeps the names that Prometheus would not take, is read. A prefix or another
//! job name that was set for the storage stays.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::reject::{Reason, excerpt};

/// Service of series that have neither a label `service` nor a label `job`.
pub const DEFAULT_SERVICE: &str = "prometheus";
/// The label of the metric name.
pub const NAME: &str = "__name__";

const SERVICE: &str = "service";
const JOB: &str = "job";
/// What our own storage says as its job, unless it is told otherwise.
const OWN_JOB: &str = "plantd";
/// Where our own storage keeps names that were changed: a JSON object from label name to name.
const ORIGINAL_NAMES: &str = "original_names";
/// Longest such object that is read, in bytes.
const ORIGINAL_NAMES_LEN_MAX: usize = 16 << 10;

/// A series by our names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Called<'a> {
    /// Never empty.
    pub service: &'a str,
    /// Never empty.
    pub metric: Cow<'a, str>,
    /// In the order of their labels.
    pub tags: Vec<(Cow<'a, str>, &'a str)>,
}

/// What the series with these labels is called. They may stand in any order.
///
/// # Errors
/// If there is no metric name, a label has no name, or a name comes twice.
pub fn called<'a>(labels: &[(&'a str, &'a str)]) -> Result<Called<'a>, (Reason, String)> {
    let mut sorted = labels.to_vec();
    sorted.sort_unstable();
    if let Some(("", value)) = sorted.first() {
        return Err((Reason::EmptyName, format!("label with the value {}", excerpt(value.as_bytes()))));
    }
    if let Some(twice) = sorted.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err((Reason::TagTwice, excerpt(twice[0].0.as_bytes())));
    }
    let of = |name: &str| sorted.binary_search_by(|(n, _)| (*n).cmp(name)).map_or("", |at| sorted[at].1);
    let (name, service, job) = (of(NAME), of(SERVICE), of(JOB));
    let originals = originals(of(ORIGINAL_NAMES));
    let original = |label: &'a str| match originals.get(label) {
        Some(name) => Cow::Owned(name.clone()),
        None => Cow::Borrowed(label),
    };
    let metric = originals.get(NAME).map_or(Cow::Borrowed(name), |name| Cow::Owned(name.clone()));
    if name.is_empty() || metric.is_empty() {
        return Err((Reason::EmptyName, format!("no label {NAME}")));
    }
    let is_tag = |label: &str, value: &str| match label {
        NAME | SERVICE => false,
        JOB => !service.is_empty() && job != OWN_JOB,
        ORIGINAL_NAMES => originals.is_empty(),
        _ => !value.is_empty(),
    };
    let tags = sorted.iter().filter(|(label, value)| is_tag(label, value) && !value.is_empty());
    let tags = tags.map(|(label, value)| (original(label), *value)).collect();
    let service = [service, job, DEFAULT_SERVICE].into_iter().find(|name| !name.is_empty());
    Ok(Called { service: service.unwrap_or(DEFAULT_SERVICE), metric, tags })
}

/// Names by the labels that they became; none if the text is not what our own storage writes.
fn originals(text: &str) -> BTreeMap<String, String> {
    match text.len() {
        0 => BTreeMap::new(),
        1..=ORIGINAL_NAMES_LEN_MAX => serde_json::from_str(text).unwrap_or_default(),
        _ => BTreeMap::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(labels: &[(&str, &str)]) -> String {
        match called(labels) {
            Ok(Called { service, metric, tags }) => {
                let tags: Vec<_> = tags.iter().map(|(name, value)| format!(" {name}={value}")).collect();
                format!("{service} {metric}{}", tags.concat())
            }
            Err((reason, found)) => format!("{}: {found}", reason.word()),
        }
    }

    #[test]
    fn labels_say_what_a_series_is() {
        for (labels, expected) in [
            (&[("__name__", "up")][..], "prometheus up"),
            (&[("__name__", "up"), ("instance", "h:1"), ("job", "node")], "node up instance=h:1"),
            (&[("__name__", "up"), ("job", "node"), ("service", "s")], "s up job=node"),
            (&[("__name__", "up"), ("job", "node"), ("service", "")], "node up"),
            (&[("__name__", "up"), ("job", ""), ("a", "")], "prometheus up"),
            (&[("b", "2"), ("__name__", "up"), ("A", "1")], "prometheus up A=1 b=2"),
            // What our own storage writes.
            (&[("__name__", "m"), ("host", "h"), ("job", "plantd"), ("service", "s")], "s m host=h"),
            (&[("__name__", "m"), ("job", "plantd")], "plantd m"),
            (
                &[
                    ("__name__", "cpu_usage"),
                    ("a_b", "1"),
                    ("job", "plantd"),
                    ("original_names", r#"{"__name__":"cpu.usage","a_b":"a.b"}"#),
                    ("service", "s"),
                ],
                "s cpu.usage a.b=1",
            ),
            (&[("__name__", "m"), ("original_names", "mine")], "prometheus m original_names=mine"),
            // What is wrong.
            (&[("a", "b")], "empty_name: no label __name__"),
            (&[], "empty_name: no label __name__"),
            (&[("__name__", "")], "empty_name: no label __name__"),
            (&[("__name__", "m"), ("", "x")], "empty_name: label with the value x"),
            (&[("__name__", "m"), ("a", "1"), ("a", "1")], "tag_twice: a"),
            (&[("__name__", "m"), ("__name__", "n")], "tag_twice: __name__"),
        ] {
            assert_eq!(shown(labels), expected, "{labels:?}");
        }
    }
}
