//! Section `storage` as a whole: one storage, or a list of them. Which keys each type has.

use super::StorageKind::{self, File, Influxdb, Prometheus};
use super::env;
use super::kinds::{Kind, Shown};
use super::report::{Origin, Report};
use super::section::{Key, Section, read_section};
use super::storage::StorageSettings;
use super::written::{Entry, Node, Value};

/// The storages, as written. One mapping and a list of one are the same.
#[derive(Clone, Debug, PartialEq)]
pub struct Storages(pub Vec<StorageSettings>);

impl Default for Storages {
    fn default() -> Self {
        Storages(vec![StorageSettings::default()])
    }
}

impl Storages {
    /// Those that store: all but the ones of type none.
    pub fn used(&self) -> impl Iterator<Item = &StorageSettings> {
        self.0.iter().filter(|storage| storage.kind != StorageKind::None)
    }

    /// The first one that stores.
    pub fn primary(&self) -> Option<&StorageSettings> {
        self.used().next()
    }

    /// The path of the entry at `at`: `storage`, or `storage[1]` where there are several.
    pub(super) fn path_of(&self, at: usize) -> String {
        if self.0.len() == 1 { "storage".into() } else { format!("storage[{at}]") }
    }

    /// Every entry with its path.
    pub(super) fn with_paths(&self) -> impl Iterator<Item = (String, &StorageSettings)> {
        self.0.iter().enumerate().map(|(at, storage)| (self.path_of(at), storage))
    }
}

/// Keys that not every type has, and the types that have them.
const KEYS_OF_TYPES: &[(&[&str], &[StorageKind])] = &[
    (&["url", "username", "password", "token", "timeout", "ca_file"], &[Influxdb, Prometheus]),
    (&["api", "database", "org", "bucket", "precision", "gzip", "measurement", "tags"], &[Influxdb]),
    (&["read_url", "protocol", "prefix", "headers"], &[Prometheus]),
    (&["job_name", "scrape_interval", "metrics_path"], &[Prometheus]),
    (&["format", "rotation", "compression", "size_max"], &[File]),
    (&["retention"], &[File, Influxdb]),
    (&["store", "window_functions", "batch_size", "flush_interval"], &[File, Influxdb, Prometheus]),
    (&["retry_min", "retry_max", "dead_letter_size_max"], &[File, Influxdb, Prometheus]),
];

/// Whether a storage of this type has this key.
pub fn has_key(kind: StorageKind, key: &str) -> bool {
    KEYS_OF_TYPES.iter().all(|(keys, kinds)| !keys.contains(&key) || kinds.contains(&kind))
}

/// A mapping, or a list of them.
pub(super) struct OneOrMany;

impl Kind<Storages> for OneOrMany {
    fn read(&self, node: &Node, into: &mut Storages, key: &str, report: &mut Report) {
        let entries = match &node.value {
            Value::List(entries) => entries.as_slice(),
            _ => std::slice::from_ref(node),
        };
        into.0 = vec![StorageSettings::default(); entries.len()];
        for (at, entry) in entries.iter().enumerate() {
            let path = if entries.len() == 1 { key.to_string() } else { format!("{key}[{at}]") };
            report.given(&path, &entry.origin);
            read_storage(entry, &mut into.0[at], &path, report);
        }
    }

    fn show(&self, value: &Storages) -> Shown {
        match value.0.as_slice() {
            [storage] => show_storage(storage),
            storages => Shown::List(storages.iter().map(show_storage).collect()),
        }
    }

    fn keys(&self, key: &str, keys: &mut Vec<Key>) {
        StorageSettings::keys(key, keys);
        StorageSettings::keys(&format!("{key}[]"), keys);
    }
}

fn read_storage(node: &Node, into: &mut StorageSettings, path: &str, report: &mut Report) {
    let mut node = node.clone();
    let as_typed = set_type_aside(&mut node);
    read_section(&node, into, path, report);
    if let Some(kind) = as_typed {
        into.kind = kind;
    }
}

/// Takes away what a type given above it sets aside: the file's `format` where a variable says `influxdb`. Returns the
/// type that a `url` implies where none is given.
fn set_type_aside(node: &mut Node) -> Option<StorageKind> {
    let Value::Map(entries) = &mut node.value else { return None };
    let given =
        |key: &str| entries.iter().find(|e| e.key == key && !matches!(e.node.value, Value::Null)).cloned();
    let (kind, layer, implied) = match (given("type"), given("url")) {
        (Some(written), _) => (StorageKind::from_word(written.node.text()?)?, layer(&written), None),
        (None, Some(url)) => (Influxdb, layer(&url), Some(Influxdb)),
        (None, None) => return None,
    };
    let is_set_aside = |entry: &Entry| self::layer(entry) < layer || is_general(entry);
    entries.retain(|entry| has_key(kind, &entry.key) || !is_set_aside(entry));
    implied
}

fn layer(entry: &Entry) -> u8 {
    entry.node.origin.rank().0
}

/// The document's variable for the retention is about any storage that has one.
fn is_general(entry: &Entry) -> bool {
    matches!(&entry.node.origin, Origin::Variable(name) if **name == *env::RETENTION)
}

/// The keys that its type has, and others where they are not as by default: what is printed reads back as the same.
fn show_storage(storage: &StorageSettings) -> Shown {
    let keys = StorageSettings::KEYS.iter();
    let shown = storage.show_fields().into_iter().zip(StorageSettings::default().show_fields());
    let told =
        keys.zip(shown).filter(|(key, (shown, default))| has_key(storage.kind, key) || shown != default);
    Shown::Map(told.map(|(key, (shown, _))| (key.to_string(), shown)).collect())
}

/// The node that a variable for `path` is about: of a list it is the first entry where no position is given, and one
/// mapping becomes a list where one is.
pub(super) fn settled<'a>(root: &mut Node, path: &[&'a str]) -> Vec<&'a str> {
    let ["storage", rest @ ..] = path else { return path.to_vec() };
    let has_position = rest.first().is_some_and(|first| first.parse::<usize>().is_ok());
    let Value::Map(sections) = &mut root.value else { return path.to_vec() };
    let Some(storage) = sections.iter_mut().find(|entry| entry.key == "storage") else {
        return path.to_vec();
    };
    match (&storage.node.value, has_position) {
        (Value::List(_), false) => [&["storage", "0"], rest].concat(),
        (Value::Map(_), true) => {
            let one = storage.node.clone();
            storage.node = Node { origin: one.origin.clone(), value: Value::List(vec![one]) };
            path.to_vec()
        }
        _ => path.to_vec(),
    }
}
