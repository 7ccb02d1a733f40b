//! Combinations of storages, and of them with the journal, that cannot be.

use std::path::PathBuf;
use std::time::Duration;

use super::report::{Origin, Report};
use super::section::Section;
use super::storage::STORAGE_TYPES;
use super::storages::has_key;
use super::units::{show_duration, show_size};
use super::{InfluxApi, Settings, StorageKind, StorageSettings, Stored};

/// Checks every storage by itself, then all of them together.
pub(super) fn check_storages(settings: &Settings, report: &mut Report) {
    for (path, storage) in settings.storage.with_paths() {
        let key = |key: &str| format!("{path}.{key}");
        if !report.has_problem(&[&key("type"), &key("url")]) {
            check_type(&path, storage, report);
            check_access(&path, storage, report);
        }
        check_content(&path, storage, report);
    }
    check_together(settings, report);
}

fn check_type(path: &str, storage: &StorageSettings, report: &mut Report) {
    let (kind, type_key, url_key) = (storage.kind, format!("{path}.type"), format!("{path}.url"));
    let from = match (report.origins.of(&type_key), report.origins.is_given(&url_key)) {
        (Origin::Default, true) if kind == StorageKind::Influxdb => format!(" (implied by {url_key})"),
        (Origin::Default, _) => String::new(),
        (origin, _) => format!(" ({origin})"),
    };
    if !STORAGE_TYPES.contains(&kind) {
        let built: Vec<&str> = STORAGE_TYPES.iter().map(|kind| kind.word()).collect();
        let text = format!("expected a storage type of this build, {}, found {kind}", built.join(" or "));
        return report.conflict(&[&type_key, &url_key], text);
    }
    for key in StorageSettings::KEYS.iter().filter(|key| !has_key(kind, key)) {
        let written = format!("{path}.{key}");
        if report.origins.is_given(&written) {
            let text = format!("expected no {key}, as {type_key} is {kind}{from}, found one");
            report.conflict(&[&written], text);
        }
    }
    if kind == StorageKind::Influxdb && storage.url.is_none() {
        report.conflict(&[&type_key, &url_key], format!("expected {url_key} for influxdb, found none"));
    }
}

/// Who we are to the server.
fn check_access(path: &str, storage: &StorageSettings, report: &mut Report) {
    let key = |key: &str| format!("{path}.{key}");
    let by_password = storage.username.is_some() || storage.password.is_some();
    if storage.token.is_some() && by_password {
        let text = "expected either a token or username and password, found both";
        report.conflict(&[&key("token"), &key("username"), &key("password")], text);
    }
    if storage.api == InfluxApi::V1 {
        for (name, value) in [("bucket", &storage.bucket), ("org", &storage.org)] {
            if value.is_some() {
                report.conflict(
                    &[&key(name), &key("api")],
                    format!("expected no {name} for api v1, found one"),
                );
            }
        }
    }
}

/// InfluxDB takes no shorter one.
const INFLUXDB_RETENTION_MIN: Duration = Duration::from_secs(3600);

fn check_content(path: &str, storage: &StorageSettings, report: &mut Report) {
    let key = |key: &str| format!("{path}.{key}");
    for (at, stored) in storage.store.iter().enumerate() {
        if storage.store[..at].contains(stored) {
            report.conflict(&[&key("store")], format!("expected each once, found {stored} twice"));
        }
    }
    if storage.store.is_empty() {
        report.conflict(&[&key("store")], "expected raw, windows or both, found neither");
    }
    for (at, function) in storage.window_functions.iter().enumerate() {
        if storage.window_functions[..at].contains(function) {
            report
                .conflict(&[&key("window_functions")], format!("expected each once, found {function} twice"));
        }
    }
    if storage.store.contains(&Stored::Windows) && storage.window_functions.is_empty() {
        let text = "expected at least one function for the windows that are stored, found none";
        report.conflict(&[&key("window_functions"), &key("store")], text);
    }
    let kept = storage.retention.filter(|kept| *kept < INFLUXDB_RETENTION_MIN);
    if let Some(kept) = kept.filter(|_| storage.kind == StorageKind::Influxdb) {
        let text =
            format!("expected at least 1h, which is what InfluxDB allows, found {}", show_duration(kept));
        report.conflict(&[&key("retention")], text);
    }
    if storage.retry_min > storage.retry_max {
        let (min, max) = (show_duration(storage.retry_min), show_duration(storage.retry_max));
        let text = format!("expected retry_min within retry_max, found {min} and {max}");
        report.conflict(&[&key("retry_min"), &key("retry_max")], text);
    }
}

fn check_together(settings: &Settings, report: &mut Report) {
    let storages: Vec<(String, &StorageSettings)> = settings.storage.with_paths().collect();
    for (at, (path, storage)) in storages.iter().enumerate() {
        let before = &storages[..at];
        if let Some((other, _)) = before.iter().find(|(_, other)| other.name == storage.name) {
            let text = format!("expected names that differ, found {:?} here and for {other}", storage.name);
            report.conflict(&[&format!("{path}.name"), &format!("{other}.name")], text);
        }
        let same_place = |other: &StorageSettings| {
            let is_file = |storage: &StorageSettings| storage.kind == StorageKind::File;
            is_file(storage) && is_file(other) && plain(&other.path) == plain(&storage.path)
        };
        if let Some((other, _)) = before.iter().find(|(_, other)| same_place(other)) {
            let text =
                format!("expected a directory of its own, found {} here and for {other}", storage.path);
            report.conflict(&[&format!("{path}.path"), &format!("{other}.path"), path], text);
        }
        let is_scraped =
            |storage: &StorageSettings| storage.kind == StorageKind::Prometheus && storage.url.is_none();
        if let Some((other, _)) = before.iter().find(|(_, other)| is_scraped(storage) && is_scraped(other)) {
            let text = format!("expected one that is scraped, found no url here and none for {other}");
            report.conflict(&[&format!("{path}.type"), path], text);
        }
    }
}

/// Checks the journal's place and sizes.
pub(super) fn check_journal(settings: &Settings, report: &mut Report) {
    let journal = &settings.journal;
    for (key, found) in [
        ("journal.segment_size", journal.segment_bytes),
        ("journal.checkpoint_size", journal.checkpoint_bytes),
    ] {
        let most = journal.bytes_max / 2;
        if found > most {
            let text =
                format!("expected at most half of size_max, {}, found {}", show_size(most), show_size(found));
            report.conflict(&[key, "journal.size_max"], text);
        }
    }
    let ours = plain(&journal.path);
    for (path, storage) in settings.storage.with_paths().filter(|(_, s)| s.kind == StorageKind::File) {
        let key = format!("{path}.path");
        let keys = ["journal.path", &key];
        let files = plain(&storage.path);
        if files.starts_with(&ours) {
            let text = format!("expected a directory without stored files, found {}", storage.path);
            report.conflict(&keys, text);
        } else if ours.starts_with(&files) && ours != files.join("journal") {
            let expected = format!("expected {}/journal, or a place outside of {path}", storage.path);
            report.conflict(&keys, format!("{expected}, found {}", journal.path));
        }
    }
}

/// A path in full, without `.` and doubled slashes: what can be told without asking the disk.
fn plain(path: &str) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| PathBuf::from(path))
}
