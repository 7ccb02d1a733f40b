//! Kinds made of other kinds: what may be absent, lists, tags, sections within sections.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::Duration;

use super::kinds::{Kind, Scalar, Shown, TEXT};
use super::report::Report;
use super::section::{Key, Section, joined, read_section, show_section};
use super::words::{MASK, Secret};
use super::written::{Node, Value};

/// What may be absent.
pub(super) struct Optional<K>(pub(super) K);

impl<T: Default, K: Kind<T>> Kind<Option<T>> for Optional<K> {
    fn read(&self, node: &Node, into: &mut Option<T>, key: &str, report: &mut Report) {
        let mut value = T::default();
        let before = report.problems.len();
        self.0.read(node, &mut value, key, report);
        if report.problems.len() == before {
            *into = Some(value);
        }
    }

    fn show(&self, value: &Option<T>) -> Shown {
        value.as_ref().map_or(Shown::Null, |value| self.0.show(value))
    }

    fn may_be_secret(&self) -> bool {
        self.0.may_be_secret()
    }

    fn keys(&self, key: &str, keys: &mut Vec<Key>) {
        self.0.keys(key, keys);
    }
}

/// What may be absent, and is so by a word such as `forever`.
pub(super) struct OrWord<K>(pub(super) &'static str, pub(super) K);

impl<E: Display> Kind<Option<Duration>> for OrWord<Scalar<Duration, E>> {
    fn read(&self, node: &Node, into: &mut Option<Duration>, key: &str, report: &mut Report) {
        let OrWord(word, kind) = self;
        match node.text() {
            Some(text) if text == *word => *into = None,
            text => match text.and_then(|text| (kind.parse)(text, &kind.limits)) {
                Some(value) => *into = Some(value),
                None => {
                    let text = format!("expected {word} or {}, found {node}", kind.expected);
                    report.problem(&node.origin, key, text);
                }
            },
        }
    }

    fn show(&self, value: &Option<Duration>) -> Shown {
        match value {
            Some(value) => self.1.show(value),
            None => Shown::Word(self.0.into()),
        }
    }
}

/// A list; one entry may stand alone, and in the environment commas separate them.
pub(super) struct List<K>(pub(super) K);

impl<T: Default, K: Kind<T>> Kind<Vec<T>> for List<K> {
    fn read(&self, node: &Node, into: &mut Vec<T>, key: &str, report: &mut Report) {
        let mut values = Vec::new();
        for (at, entry) in entries(node).iter().enumerate() {
            let key = format!("{key}[{at}]");
            let mut value = T::default();
            let before = report.problems.len();
            report.given(&key, &entry.origin);
            self.0.read(entry, &mut value, &key, report);
            if report.problems.len() == before {
                values.push(value);
            }
        }
        *into = values;
    }

    fn show(&self, value: &Vec<T>) -> Shown {
        Shown::List(value.iter().map(|value| self.0.show(value)).collect())
    }

    fn keys(&self, key: &str, keys: &mut Vec<Key>) {
        keys.push(Key { path: key.to_string(), may_be_secret: false });
        self.0.keys(&format!("{key}[]"), keys);
    }
}

fn entries(node: &Node) -> Cow<'_, [Node]> {
    match &node.value {
        Value::List(entries) => Cow::Borrowed(entries),
        Value::Raw(text) => {
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            parts.map(|part| Node::raw(node.origin.clone(), part)).collect()
        }
        _ => Cow::Borrowed(std::slice::from_ref(node)),
    }
}

/// Names and texts, such as tags; in the environment `name=text,...`.
pub(super) struct Tags;

impl Kind<BTreeMap<String, String>> for Tags {
    fn read(&self, node: &Node, into: &mut BTreeMap<String, String>, key: &str, report: &mut Report) {
        let mut tags = BTreeMap::new();
        match &node.value {
            Value::Map(entries) => {
                for entry in entries {
                    let mut text = String::new();
                    report.given(&joined(key, &entry.key), &entry.node.origin);
                    TEXT.read(&entry.node, &mut text, &joined(key, &entry.key), report);
                    tags.insert(entry.key.clone(), text);
                }
            }
            Value::Raw(text) => {
                for part in text.split(',') {
                    match part.split_once('=') {
                        Some((name, text)) => {
                            report.given(&joined(key, name.trim()), &node.origin);
                            tags.insert(name.trim().into(), text.trim().into());
                        }
                        None => {
                            let text = format!("expected name=text, separated by commas, found {part:?}");
                            report.problem(&node.origin, key, text);
                        }
                    }
                }
            }
            _ => {
                let text = format!("expected a mapping of names to texts, found {node}");
                report.problem(&node.origin, key, text);
            }
        }
        *into = tags;
    }

    fn show(&self, value: &BTreeMap<String, String>) -> Shown {
        Shown::Map(value.iter().map(|(name, text)| (name.clone(), Shown::Text(text.clone()))).collect())
    }

    fn keys(&self, key: &str, keys: &mut Vec<Key>) {
        keys.push(Key { path: key.to_string(), may_be_secret: false });
        keys.push(Key { path: format!("{key}.*"), may_be_secret: false });
    }
}

/// Names and texts that are never shown, such as headers that may hold a key.
pub(super) struct HiddenTags;

impl Kind<BTreeMap<String, Secret>> for HiddenTags {
    fn read(&self, node: &Node, into: &mut BTreeMap<String, Secret>, key: &str, report: &mut Report) {
        let mut tags = BTreeMap::new();
        Tags.read(node, &mut tags, key, report);
        *into = tags.into_iter().map(|(name, text)| (name, Secret::new(text))).collect();
    }

    fn show(&self, value: &BTreeMap<String, Secret>) -> Shown {
        Shown::Map(value.keys().map(|name| (name.clone(), Shown::Text(MASK.into()))).collect())
    }

    fn keys(&self, key: &str, keys: &mut Vec<Key>) {
        Kind::<BTreeMap<String, String>>::keys(&Tags, key, keys);
    }
}

/// A section within a section, or an entry of a list of them.
pub(super) struct Sub;

impl<T: Section> Kind<T> for Sub {
    fn read(&self, node: &Node, into: &mut T, key: &str, report: &mut Report) {
        read_section(node, into, key, report);
    }

    fn show(&self, value: &T) -> Shown {
        show_section(value)
    }

    fn keys(&self, key: &str, keys: &mut Vec<Key>) {
        T::keys(key, keys);
    }
}
