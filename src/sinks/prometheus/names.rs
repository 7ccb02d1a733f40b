//! What a series is called in Prometheus, and back.
//!
//! A metric name keeps `[a-zA-Z0-9_:]`, a label name `[a-zA-Z0-9_]`; any other character becomes `_`, and a name
//! that begins with a digit gets a `_` before it. Tags whose names need no change keep them; one that was
//! changed, or that has a reserved name, gives way: it gets a `_` behind it until its label name is free.
//!
//! Many names become the same, so a series with a changed name carries them all in one more label,
//! [`ORIGINAL_NAMES`], a JSON object from label name to name: two series never become one, whichever of them
//! comes first, and everybody can tell what a name was. Most series have none.

use std::collections::BTreeMap;
use std::sync::Arc;

use operators::series::{SeriesKey, Target};

/// Label name and value pairs, sorted by name, no name twice, no value empty.
pub type Labels = Vec<(Box<str>, Box<str>)>;

/// The label of the metric name.
pub const NAME: &str = "__name__";
/// The label of the service.
pub const SERVICE: &str = "service";
/// The label of the job name.
pub const JOB: &str = "job";
/// The label with the names that were changed.
pub const ORIGINAL_NAMES: &str = "original_names";

/// Label names that no tag gets.
const RESERVED: [&str; 4] = [NAME, SERVICE, JOB, ORIGINAL_NAMES];

/// How series are called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Naming {
    /// Value of the label `job`; empty: no such label.
    pub job_name: String,
    /// Before each metric name.
    pub prefix: String,
}

impl Naming {
    /// The labels of a series.
    pub fn labels(&self, target: &Target, metric: &str) -> Labels {
        let name = self.name(metric);
        let mut originals: BTreeMap<&str, &str> = BTreeMap::new();
        if name.strip_prefix(&self.prefix) != Some(metric) {
            originals.insert(NAME, metric);
        }
        let tag_labels = tag_labels(target);
        let mut labels: Labels = vec![(NAME.into(), name.into())];
        for (label, tag, value) in &tag_labels {
            if label.as_ref() != *tag {
                originals.insert(label, tag);
            }
            labels.push((label.clone(), (*value).into()));
        }
        let json = serde_json::to_string(&originals).expect("a map of strings always serialises");
        let original_names = if originals.is_empty() { "" } else { &json };
        for (label, value) in [
            (SERVICE, target.service.as_ref()),
            (JOB, self.job_name.as_str()),
            (ORIGINAL_NAMES, original_names),
        ] {
            if !value.is_empty() {
                labels.push((label.into(), value.into()));
            }
        }
        labels.sort_unstable();
        labels
    }

    /// The name of a metric, with its prefix.
    pub fn name(&self, metric: &str) -> String {
        let begins = self.prefix.is_empty();
        let name = sanitised(metric, begins, |c| c.is_ascii_alphanumeric() || c == '_' || c == ':');
        format!("{}{name}", self.prefix)
    }

    /// The series that has these labels; `None` if it is not one of ours.
    pub fn series(&self, labels: &BTreeMap<String, String>) -> Option<SeriesKey> {
        let label = |name: &str| labels.get(name).map_or("", String::as_str);
        let originals: BTreeMap<String, String> =
            serde_json::from_str(label(ORIGINAL_NAMES)).unwrap_or_default();
        let metric = match originals.get(NAME) {
            Some(name) => name,
            None => label(NAME).strip_prefix(&self.prefix)?,
        };
        if label(JOB) != self.job_name || metric.is_empty() {
            return None;
        }
        let tags = labels.iter().filter(|(name, _)| !RESERVED.contains(&name.as_str()));
        let tags = tags.map(|(name, value)| (originals.get(name).unwrap_or(name).as_str(), value.as_str()));
        let target = Arc::new(Target::new(label(SERVICE), tags));
        Some(SeriesKey { target, metric: metric.into() })
    }
}

/// Whether a tag has the label of its own name, in whatever company.
pub fn keeps_its_name(tag: &str) -> bool {
    !RESERVED.contains(&tag) && label_name(tag) == tag
}

/// Label name, tag name and value of each tag that has a value.
fn tag_labels(target: &Target) -> Vec<(Box<str>, &str, &str)> {
    let tags = target.tags.iter().filter(|(_, value)| !value.is_empty());
    let (clean, changed): (Vec<_>, Vec<_>) = tags.partition(|(name, _)| keeps_its_name(name));
    let mut found: Vec<(Box<str>, &str, &str)> =
        clean.into_iter().map(|(name, value)| (name.clone(), name.as_ref(), value.as_ref())).collect();
    for (name, value) in changed {
        let mut label = label_name(name);
        while RESERVED.contains(&label.as_str()) || found.iter().any(|(taken, ..)| **taken == *label) {
            label.push('_');
        }
        found.push((label.into(), name, value));
    }
    found
}

/// A name for a label. Two underscores at the beginning are Prometheus's own: one of them is left.
fn label_name(tag: &str) -> String {
    let name = sanitised(tag, true, |c| c.is_ascii_alphanumeric() || c == '_');
    match name.trim_start_matches('_') {
        rest if name.starts_with("__") => format!("_{rest}"),
        _ => name,
    }
}

fn sanitised(name: &str, first: bool, keep: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(name.len() + 1);
    if name.is_empty() || (first && name.starts_with(|c: char| c.is_ascii_digit())) {
        out.push('_');
    }
    out.extend(name.chars().map(|c| if keep(c) { c } else { '_' }));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn naming() -> Naming {
        Naming { job_name: "plantd".into(), prefix: String::new() }
    }

    fn shown(labels: &Labels) -> String {
        let each: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        each.join(" ")
    }

    #[test]
    fn names_become_names_that_prometheus_takes() {
        for (metric, tags, expected) in [
            ("cpu_usage", vec![("host", "h")], "__name__=cpu_usage host=h job=plantd service=s"),
            ("a:b", vec![], "__name__=a:b job=plantd service=s"),
            (
                "cpu.usage",
                vec![],
                r#"__name__=cpu_usage job=plantd original_names={"__name__":"cpu.usage"} service=s"#,
            ),
            (
                "9lives",
                vec![],
                r#"__name__=_9lives job=plantd original_names={"__name__":"9lives"} service=s"#,
            ),
            ("ü", vec![], r#"__name__=_ job=plantd original_names={"__name__":"ü"} service=s"#),
            // The tag that needs no change keeps its name, wherever it stands.
            (
                "m",
                vec![("a.b", "1"), ("a-b", "2"), ("a_b", "3")],
                r#"__name__=m a_b=3 a_b_=2 a_b__=1 job=plantd original_names={"a_b_":"a-b","a_b__":"a.b"} service=s"#,
            ),
            // Reserved names give way.
            (
                "m",
                vec![
                    ("job", "1"),
                    ("service", "2"),
                    ("__name__", "3"),
                    ("original_names", "4"),
                    ("__x", "5"),
                ],
                "__name__=m _name__=3 _x=5 job=plantd job_=1 \
                 original_names={\"_name__\":\"__name__\",\"_x\":\"__x\",\"job_\":\"job\",\
                 \"original_names_\":\"original_names\",\"service_\":\"service\"} original_names_=4 service=s service_=2",
            ),
            // What is empty is no label.
            (
                "m",
                vec![("a", ""), ("a.", "1")],
                r#"__name__=m a_=1 job=plantd original_names={"a_":"a."} service=s"#,
            ),
        ] {
            let labels = naming().labels(&Target::new("s", tags.clone()), metric);
            assert_eq!(shown(&labels), expected, "{metric} {tags:?}");
        }
    }

    #[test]
    fn a_prefix_stands_before_the_name_and_not_in_it() {
        let naming = Naming { job_name: String::new(), prefix: "plantd_".into() };
        let target = Target::new("", [("9", "x")]);
        for (metric, name) in [("9lives", "plantd_9lives"), ("a", "plantd_a"), ("a.b", "plantd_a_b")] {
            let labels = naming.labels(&target, metric);
            assert!(labels.contains(&(NAME.into(), name.into())), "{labels:?}");
            let read = labels.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
            assert_eq!(naming.series(&read).unwrap().metric.as_ref(), metric);
        }
        let other = BTreeMap::from([(NAME.to_string(), "up".to_string())]);
        assert_eq!(naming.series(&other), None);
    }

    proptest! {
        /// Whatever the names are, the labels are valid and tell the series.
        #[test]
        fn labels_are_valid_and_tell_the_series(
            metric in "([a-z_:.]|\\PC){1,6}",
            service in "\\PC{0,6}",
            tags in prop::collection::btree_map("[ab_.\\-]{1,4}|job|service|__name__|original_names|\\PC{0,3}", "\\PC{1,5}", 0..7),
        ) {
            let target = Target::new(&service, tags.iter().map(|(n, v)| (n.as_str(), v.as_str())));
            let labels = naming().labels(&target, &metric);
            for pair in labels.windows(2) {
                prop_assert!(pair[0].0 < pair[1].0, "{:?}", labels);
            }
            for (name, value) in &labels {
                let first = name.chars().next().unwrap();
                prop_assert!(first == '_' || first.is_ascii_alphabetic());
                prop_assert!(name.chars().all(|c| c == '_' || c.is_ascii_alphanumeric()));
                prop_assert!(!value.is_empty());
            }
            let read: BTreeMap<String, String> =
                labels.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
            let series = naming().series(&read).unwrap();
            prop_assert_eq!(&*series.target, &target);
            prop_assert_eq!(series.metric.as_ref(), metric.as_str());
        }
    }
}
