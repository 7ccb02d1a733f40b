//! Which alerts something is about: a receiver, a silence, a maintenance window.

use std::collections::BTreeMap;

use operators::series::Target;
use serde::{Deserialize, Serialize};

/// What of an alert is compared.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Name of the rule.
    pub rule: &'a str,
    /// Severity.
    pub severity: &'a str,
    /// Service and tags of the series.
    pub target: &'a Target,
}

/// Alerts that fit every key that is given. Texts are exact, or globs in which each `*` stands for any text, also
/// none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AlertMatcher {
    /// Names of rules, of which one has to fit; none: every rule.
    #[serde(rename = "rule", with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<String>,
    /// Severities, of which one has to fit; none: every one.
    #[serde(rename = "severity", with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub severities: Vec<String>,
    /// Service of the series.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Tags that the series has.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
}

impl AlertMatcher {
    /// Whether `alert` is meant.
    pub fn matches(&self, alert: &Subject<'_>) -> bool {
        let one_of = |globs: &[String], text: &str| globs.is_empty() || globs.iter().any(|g| fits(g, text));
        one_of(&self.rules, alert.rule)
            && one_of(&self.severities, alert.severity)
            && self.service.as_deref().is_none_or(|glob| fits(glob, &alert.target.service))
            && self.tags.iter().all(|(name, glob)| alert.target.tag(name).is_some_and(|v| fits(glob, v)))
    }

    /// Whether no key is given, so that every alert is meant.
    pub fn is_open(&self) -> bool {
        *self == AlertMatcher::default()
    }
}

/// Whether `text` is what `glob` says. Takes at most the product of both lengths.
pub fn fits(glob: &str, text: &str) -> bool {
    let Some((first, rest)) = glob.split_once('*') else { return glob == text };
    let Some(mut text) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    // What splitting gives has at least one part.
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        // The first place is as good as any later one: it leaves the most for the parts behind it.
        let Some(at) = text.find(part) else { return false };
        text = &text[at + part.len()..];
    }
    text.ends_with(last)
}

/// A text, or a list of them.
mod one_or_many {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a text or a list of texts")]
    enum Written {
        One(String),
        Many(Vec<String>),
    }

    pub fn serialize<S: Serializer>(texts: &[String], to: S) -> Result<S::Ok, S::Error> {
        texts.serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
        Ok(match Written::deserialize(from)? {
            Written::One(text) => vec![text],
            Written::Many(texts) => texts,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn globs() {
        for (glob, text, expected) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("a*", "ab", true),
            ("a*", "a", true),
            ("*b", "ab", true),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("*_disk_*", "db_disk_full", true),
            ("*_disk_*", "db_disc_full", false),
            ("a**b", "ab", true),
            ("é*ü", "éxü", true),
        ] {
            assert_eq!(fits(glob, text), expected, "{glob} {text}");
        }
    }

    /// By the definition: a star stands for nothing, or for one character and again a star.
    fn naive(glob: &[u8], text: &[u8]) -> bool {
        match (glob.first(), text.first()) {
            (None, None) => true,
            (Some(b'*'), _) => naive(&glob[1..], text) || !text.is_empty() && naive(glob, &text[1..]),
            (Some(g), Some(t)) => g == t && naive(&glob[1..], &text[1..]),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(glob in "[ab*]{0,7}", text in "[ab]{0,9}") {
            prop_assert_eq!(fits(&glob, &text), naive(glob.as_bytes(), text.as_bytes()));
        }
    }

    #[test]
    fn every_key_that_is_given_has_to_fit() {
        let target = Target::new("org.plantd.Broker", [("host", "db-1"), ("zone", "a")]);
        let alert = Subject { rule: "disk_full", severity: "critical", target: &target };
        for (json, expected) in [
            ("{}", true),
            (r#"{"rule": "disk_*"}"#, true),
            (r#"{"rule": ["cpu", "disk_full"], "severity": "critical"}"#, true),
            (r#"{"rule": "disk_*", "severity": ["warning", "info"]}"#, false),
            (r#"{"service": "org.plantd.*", "tags": {"host": "db-*", "zone": "a"}}"#, true),
            (r#"{"tags": {"rack": "*"}}"#, false),
        ] {
            let matcher: AlertMatcher = serde_json::from_str(json).unwrap();
            assert_eq!(matcher.matches(&alert), expected, "{json}");
            let again = serde_json::to_string(&matcher).unwrap();
            assert_eq!(serde_json::from_str::<AlertMatcher>(&again).unwrap(), matcher);
        }
        assert!(serde_json::from_str::<AlertMatcher>(r#"{"host": "a"}"#).is_err());
    }
}
