//! A section: a mapping whose keys are known. One table per section says all about its keys.

use super::env::variable_of;
use super::kinds::Shown;
use super::report::{Origin, Report, closest};
use super::written::{Entry, Node, Value};

/// A key that there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its path: `bus.topics`; entries of lists are `[]`, free names are `*`.
    pub path: String,
    /// Whether the variable `..._FILE` may name a file that holds its value.
    pub may_be_secret: bool,
}

/// What a table of keys gives.
pub(super) trait Section: Default {
    /// Keys in the order in which they are shown.
    const KEYS: &'static [&'static str];
    /// Keys without a default.
    const REQUIRED: &'static [&'static str];

    /// The key that `written` stands for, itself or another spelling of it.
    fn canonical(written: &str) -> Option<&'static str>;
    /// Reads `node` into the field of `key`, which stands at `path`.
    fn read_field(&mut self, key: &str, node: &Node, path: &str, report: &mut Report);
    /// Shows the field of every key, in their order.
    fn show_fields(&self) -> Vec<Shown>;
    /// Adds every key below `path`.
    fn keys(path: &str, keys: &mut Vec<Key>);
}

/// Declares the keys of a section: `"key" | "other spelling" => field: kind,`.
macro_rules! section {
    ($section:ident requires [$($required:literal),*] {
        $($key:literal $(| $other:literal)* => $field:ident: $kind:expr,)+
    }) => {
        impl $crate::settings::section::Section for $section {
            const KEYS: &'static [&'static str] = &[$($key),+];
            const REQUIRED: &'static [&'static str] = &[$($required),*];

            fn canonical(written: &str) -> Option<&'static str> {
                match written { $($key $(| $other)* => Some($key),)+ _ => None }
            }

            fn read_field(
                &mut self,
                key: &str,
                node: &$crate::settings::written::Node,
                path: &str,
                report: &mut $crate::settings::report::Report,
            ) {
                use $crate::settings::kinds::Kind as _;
                match key { $($key => ($kind).read(node, &mut self.$field, path, report),)+ _ => {} }
            }

            fn show_fields(&self) -> Vec<$crate::settings::kinds::Shown> {
                use $crate::settings::kinds::Kind as _;
                vec![$(($kind).show(&self.$field)),+]
            }

            fn keys(path: &str, keys: &mut Vec<$crate::settings::section::Key>) {
                $($crate::settings::section::keys_of(&$kind, |section: &Self| &section.$field, path, $key, keys);)+
            }
        }
    };
}
pub(super) use section;

/// The keys of one field; `_field` ties the kind to the field's type.
pub(super) fn keys_of<S, T, K: super::kinds::Kind<T>>(
    kind: &K,
    _field: fn(&S) -> &T,
    path: &str,
    key: &str,
    keys: &mut Vec<Key>,
) {
    kind.keys(&joined(path, key), keys);
}

/// Reads a mapping over the defaults in `into`.
pub(super) fn read_section<S: Section>(node: &Node, into: &mut S, path: &str, report: &mut Report) {
    let entries = match &node.value {
        Value::Map(entries) => entries,
        Value::Null if S::REQUIRED.is_empty() => return,
        _ => {
            let keys = S::KEYS.join(", ");
            return report.problem(
                &node.origin,
                path,
                format!("expected a mapping with the keys {keys}, found {node}"),
            );
        }
    };
    let mut given: Vec<(&str, &Entry)> = Vec::new();
    for entry in entries {
        let Some(key) = S::canonical(&entry.key) else {
            unrecognised::<S>(entry, path, report);
            continue;
        };
        let path = joined(path, key);
        if let Some((_, first)) = given.iter().find(|(other, _)| *other == key)
            && matches!((&first.origin, &entry.origin), (Origin::File { .. }, Origin::File { .. }))
        {
            let text = format!("expected one of {} and {}, found both", first.key, entry.key);
            report.problem(&entry.origin, &path, text);
        }
        given.push((key, entry));
        if !matches!(entry.node.value, Value::Null) {
            report.given(&path, &entry.node.origin);
            into.read_field(key, &entry.node, &path, report);
        }
    }
    for key in S::REQUIRED {
        let present =
            |(other, entry): &(&str, &Entry)| other == key && !matches!(entry.node.value, Value::Null);
        if !given.iter().any(present) {
            report.problem(&node.origin, &joined(path, key), "expected this key, found none");
        }
    }
}

fn unrecognised<S: Section>(entry: &Entry, path: &str, report: &mut Report) {
    let proposal = match (closest(&entry.key, S::KEYS.iter().copied()), &entry.origin) {
        (Some(key), Origin::Variable(_)) => format!("did you mean {}?", variable_of(&joined(path, key))),
        (Some(key), _) => format!("did you mean {key}?"),
        (None, _) => format!("expected one of {}", S::KEYS.join(", ")),
    };
    report.problem(&entry.origin, &joined(path, &entry.key), format!("unrecognised key; {proposal}"));
}

/// Shows every key of a section.
pub(super) fn show_section<S: Section>(section: &S) -> Shown {
    let keys = S::KEYS.iter().map(|key| key.to_string());
    Shown::Map(keys.zip(section.show_fields()).collect())
}

pub(super) fn joined(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_string() } else { format!("{path}.{key}") }
}
