//! What is observed: targets (a service with tags), metric names, series keys, and matchers over them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A service with its tags: everything of a documented message that names its origin.
/// Tags are sorted by name, names are unique.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Target {
    /// The service, such as `org.plantd.Broker`.
    pub service: Box<str>,
    /// Tag names and values, sorted by name.
    pub tags: Box<[(Box<str>, Box<str>)]>,
}

impl Target {
    /// A target of `service` with `tags` in any order; of a tag given twice the last value stays.
    pub fn new<'a>(service: &str, tags: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut sorted: Vec<(Box<str>, Box<str>)> = Vec::new();
        for (name, value) in tags {
            match sorted.binary_search_by(|(n, _)| n.as_ref().cmp(name)) {
                Ok(at) => sorted[at].1 = value.into(),
                Err(at) => sorted.insert(at, (name.into(), value.into())),
            }
        }
        Target { service: service.into(), tags: sorted.into() }
    }

    /// The value of the tag `name`.
    pub fn tag(&self, name: &str) -> Option<&str> {
        let at = self.tags.binary_search_by(|(n, _)| n.as_ref().cmp(name)).ok()?;
        Some(&self.tags[at].1)
    }
}

/// What one series is: a metric of a target.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SeriesKey {
    /// Service and tags.
    pub target: Arc<Target>,
    /// Metric name.
    pub metric: Arc<str>,
}

/// Which targets something is about: an optional service and tags that must be present.
/// A trailing `*` in the service or a tag's value matches any rest; anything else is compared whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TargetMatcher {
    /// The service, or a prefix of it followed by `*`; absent matches every service.
    pub service: Option<String>,
    /// Tag names with the value, or the prefix and `*`, each must have.
    pub tags: Vec<(String, String)>,
}

impl TargetMatcher {
    /// Whether `target` is meant.
    pub fn matches(&self, target: &Target) -> bool {
        self.service.as_deref().is_none_or(|wanted| text_matches(wanted, &target.service))
            && self.tags.iter().all(|(n, wanted)| target.tag(n).is_some_and(|v| text_matches(wanted, v)))
    }
}

/// Whether `text` is `wanted`, or begins with what precedes a trailing `*` of `wanted`.
pub fn text_matches(wanted: &str, text: &str) -> bool {
    match wanted.strip_suffix('*') {
        Some(prefix) => text.starts_with(prefix),
        None => wanted == text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_sorted_and_the_last_of_a_name_stays() {
        let target = Target::new("s", [("b", "1"), ("a", "2"), ("b", "3")]);
        let tags: Vec<_> = target.tags.iter().map(|(n, v)| (n.as_ref(), v.as_ref())).collect();
        assert_eq!(tags, [("a", "2"), ("b", "3")]);
        assert_eq!((target.tag("a"), target.tag("c")), (Some("2"), None));
    }

    #[test]
    fn matchers_compare_whole_or_by_prefix() {
        let target = Target::new("org.plantd.Broker", [("host", "broker-01")]);
        for (service, tags, expected) in [
            (None, vec![], true),
            (Some("org.plantd.Broker"), vec![], true),
            (Some("org.plantd"), vec![], false),
            (Some("org.plantd.*"), vec![("host", "broker-*")], true),
            (Some("*"), vec![("host", "broker-02")], false),
            (None, vec![("rack", "*")], false),
        ] {
            let matcher = TargetMatcher {
                service: service.map(String::from),
                tags: tags.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect(),
            };
            assert_eq!(matcher.matches(&target), expected, "{matcher:?}");
        }
    }
}
