//! The environment over the file: documented variables, one for every key, and files that hold secrets.
//!
//! Never reads the process's environment itself: it is given pairs.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Settings;
use super::report::{Origin, Report, closest};
use super::section::{Key, Section, joined};
use super::storages::settled;
use super::written::Node;

/// What every variable of this program begins with.
pub const PREFIX: &str = "PLANTD_MODULE_METRIC_";

/// The variable that names the configuration file.
pub const CONFIG: &str = "PLANTD_MODULE_METRIC_CONFIG";

/// The variable for how long samples are kept.
pub(super) const RETENTION: &str = "PLANTD_MODULE_METRIC_RETENTION";

/// The documented variables, without [`PREFIX`], and the keys that each sets. Every other key has the variable
/// that [`variable_of`] gives, which also stands above these. Of several storages they are about the first.
pub const DOCUMENTED: &[(&str, &[&str])] = &[
    ("TYPE", &["service.type"]),
    ("INTERVAL", &["service.interval"]),
    ("LOG_LEVEL", &["logging.level"]),
    ("LOG_FORMAT", &["logging.format"]),
    ("BUS_ENDPOINT", &["bus.endpoint"]),
    ("STORAGE_TYPE", &["storage.type"]),
    ("STORAGE_URL", &["storage.url"]),
    ("RETENTION", &["storage.retention"]),
    ("BATCH_SIZE", &["service.batch_size", "performance.batch_size"]),
    ("FLUSH_INTERVAL", &["performance.flush_interval"]),
];

/// The variable for the key at `path`: `alerts.rules[0].name` is `PLANTD_MODULE_METRIC__ALERTS__RULES__0__NAME`.
pub fn variable_of(path: &str) -> String {
    let segments = path.replace('[', ".").replace(']', "").replace('.', "__");
    format!("{PREFIX}_{}", segments.to_ascii_uppercase())
}

/// Every key of the configuration.
pub fn keys() -> Vec<Key> {
    let mut keys = Vec::new();
    Settings::keys("", &mut keys);
    keys
}

/// The variables that concern this program; what is set but empty counts as not set.
pub(super) fn ours(pairs: impl IntoIterator<Item = (String, String)>) -> BTreeMap<String, String> {
    let concerns = |(name, value): &(String, String)| {
        name.starts_with(PREFIX) && !value.is_empty() && !is_service_link(&name[PREFIX.len()..])
    };
    pairs.into_iter().filter(concerns).collect()
}

/// Kubernetes gives every container such variables for a service called `plantd-module-metric`.
fn is_service_link(rest: &str) -> bool {
    let tail = rest.strip_prefix("PORT").unwrap_or("-");
    rest.starts_with("SERVICE_HOST")
        || rest.starts_with("SERVICE_PORT")
        || tail.is_empty()
        || tail.strip_prefix('_').is_some_and(|port| port.starts_with(|c: char| c.is_ascii_digit()))
}

/// Puts `variables` over what the file says in `root`.
pub(super) fn overlay(root: &mut Node, variables: &BTreeMap<String, String>, report: &mut Report) {
    let keys = keys();
    let mut nested = Vec::new();
    for (name, value) in variables {
        let origin = Origin::Variable(Arc::from(name.as_str()));
        match target(&name[PREFIX.len()..], &keys) {
            Target::Config => {}
            Target::Paths(paths, from_file) => {
                let Some(text) = content(value, from_file, &origin, paths[0], report) else { continue };
                for path in paths {
                    put(root, &path.split('.').collect::<Vec<_>>(), &origin, &text, report);
                }
            }
            Target::Nested(segments, from_file) => nested.push((segments, from_file, value, origin)),
            Target::Unknown => unrecognised(name, &keys, report),
        }
        if let Some(base) = name.strip_suffix("_FILE").filter(|base| variables.contains_key(*base)) {
            let origin = Origin::Variable(Arc::from(name.as_str()));
            report.problem(&origin, "", format!("expected either this or {base}, found both"));
        }
    }
    nested.sort_by_key(|(segments, ..)| {
        segments.iter().map(|s| (s.parse::<usize>().ok(), s.clone())).collect::<Vec<_>>()
    });
    for (segments, from_file, value, origin) in nested {
        let path: Vec<&str> = segments.iter().map(String::as_str).collect();
        let Some(text) = content(value, from_file, &origin, &key_of(&path), report) else { continue };
        put(root, &path, &origin, &text, report);
    }
}

/// What a variable is about.
enum Target {
    Config,
    /// Keys of a documented variable; the flag says that its value names a file.
    Paths(&'static [&'static str], bool),
    /// The segments of a key's path; the flag says that its value names a file.
    Nested(Vec<String>, bool),
    Unknown,
}

fn target(rest: &str, keys: &[Key]) -> Target {
    if rest == "CONFIG" {
        return Target::Config;
    }
    let documented =
        |name: &str| DOCUMENTED.iter().find(|(other, _)| *other == name).map(|(_, paths)| *paths);
    if let Some(paths) = documented(rest) {
        return Target::Paths(paths, false);
    }
    let base = rest.strip_suffix("_FILE");
    if let Some(paths) =
        base.and_then(documented).filter(|paths| is_secret(&paths[0].split('.').collect::<Vec<_>>(), keys))
    {
        return Target::Paths(paths, true);
    }
    let segments = |rest: &str| -> Option<Vec<String>> {
        Some(rest.strip_prefix('_')?.split("__").map(str::to_ascii_lowercase).collect())
    };
    if let Some(secret) = base.and_then(segments).filter(|path| is_secret(path, keys)) {
        return Target::Nested(secret, true);
    }
    segments(rest).map_or(Target::Unknown, |path| Target::Nested(path, false))
}

fn is_secret(segments: &[impl AsRef<str>], keys: &[Key]) -> bool {
    let is_it = |path: &str| {
        let path = path.replace("[]", ".[]");
        let mut expected = path.split('.');
        let mut found = segments.iter().map(AsRef::as_ref);
        loop {
            match (expected.next(), found.next()) {
                (None, None) => return true,
                (Some("[]"), Some(at)) if at.parse::<usize>().is_ok() => {}
                (Some(key), Some(segment)) if key == segment => {}
                _ => return false,
            }
        }
    };
    keys.iter().any(|key| key.may_be_secret && is_it(&key.path))
}

/// The value itself, or what is in the file that it names, without the line end.
fn content(value: &str, from_file: bool, origin: &Origin, key: &str, report: &mut Report) -> Option<String> {
    if !from_file {
        return Some(value.to_string());
    }
    match std::fs::read_to_string(value) {
        Ok(text) => Some(text.trim_end_matches(['\r', '\n']).to_string()),
        Err(error) => {
            report.problem(origin, key, format!("expected a file that can be read, found {value}: {error}"));
            None
        }
    }
}

fn put(root: &mut Node, path: &[&str], origin: &Origin, text: &str, report: &mut Report) {
    let path = &settled(root, path);
    if let Err(why) = root.put(path, Node::raw(origin.clone(), text)) {
        report.problem(origin, &key_of(path), why);
    }
}

/// `["bus", "topics", "2"]` -> `bus.topics[2]`.
fn key_of(path: &[&str]) -> String {
    path.iter().fold(String::new(), |key, segment| match segment.parse::<usize>() {
        Ok(at) => format!("{key}[{at}]"),
        Err(_) => joined(&key, segment),
    })
}

fn unrecognised(name: &str, keys: &[Key], report: &mut Report) {
    let documented = DOCUMENTED.iter().map(|(name, _)| format!("{PREFIX}{name}"));
    let nested = keys.iter().filter(|key| !key.path.contains(['[', '*'])).map(|key| variable_of(&key.path));
    let known: Vec<String> = documented.chain([CONFIG.to_string()]).chain(nested).collect();
    // Written without underscores, `STORAGE_PASSWORD` and `_STORAGE__PASSWORD` are the same.
    let plain = |name: &str| name[PREFIX.len()..].replace('_', "");
    let plain_known: Vec<String> = known.iter().map(|name| plain(name)).collect();
    let near = closest(&plain(name), plain_known.iter().map(String::as_str));
    let near = near.and_then(|near| plain_known.iter().position(|other| other == near));
    let proposal = match near {
        Some(at) => format!("did you mean {}?", known[at]),
        None => format!("expected a documented one, or {PREFIX}_SECTION__KEY"),
    };
    let origin = Origin::Variable(Arc::from(name));
    report.problem(&origin, "", format!("unrecognised variable; {proposal}"));
}
