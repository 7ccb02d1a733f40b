//! The files in `config/`.

use std::collections::BTreeSet;

use plantd_metric::settings::env::{DOCUMENTED, PREFIX, keys};
use plantd_metric::settings::{Flags, Mode, Settings, StorageKind};

use crate::{load_flagged, loaded, repository};

/// `metric.yaml` with the keys switched on that are switched off: `#key:` and `#- entry` become `key:`, `- entry`.
pub fn switched_on(yaml: &str) -> String {
    let is_key = |rest: &&str| rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '-');
    let line = |line: &str| {
        let bare = line.trim_start();
        let indent = &line[..line.len() - bare.len()];
        let off = bare.strip_prefix('#').filter(is_key);
        off.map_or(line.to_string(), |rest| format!("{indent}{rest}")) + "\n"
    };
    yaml.lines().map(line).collect()
}

#[test]
fn the_shipped_file_runs_as_it_is() {
    let yaml = std::fs::read_to_string(repository("config/metric.yaml")).expect("it is there");
    let mut settings = loaded(&yaml, &[]);
    assert_eq!(settings.alerts.rules.len(), 2);
    settings.alerts.rules.clear();
    assert_eq!(settings, Settings::default(), "it says what the defaults are");
    for mode in Mode::WORDS {
        loaded(&yaml, &[("PLANTD_MODULE_METRIC_TYPE", mode)]);
    }
}

/// Whoever gives an address, in the environment or in the file itself, has InfluxDB.
#[test]
fn the_shipped_file_needs_one_line_for_another_storage() {
    let yaml = std::fs::read_to_string(repository("config/metric.yaml")).expect("it is there");
    let url = ("PLANTD_MODULE_METRIC_STORAGE_URL", "http://influxdb:8086");
    let edited = yaml.replacen("  #url: \"http://localhost:8086\"", "  url: \"http://localhost:8086\"", 1);
    assert_ne!(edited, yaml);
    for settings in [loaded(&yaml, &[url]), loaded(&edited, &[])] {
        let found: Vec<_> = settings.storage.used().map(|s| (s.kind, s.batch_size, s.retention)).collect();
        assert_eq!(found, [(StorageKind::Influxdb, 5000, None)]);
    }
    for (word, stores) in [("file", true), ("prometheus", true), ("none", false)] {
        let settings = loaded(&yaml, &[("PLANTD_MODULE_METRIC_STORAGE_TYPE", word)]);
        assert_eq!(settings.storage.primary().is_some(), stores, "{word}");
    }
}

#[test]
fn the_shipped_file_shows_every_key() {
    let yaml = std::fs::read_to_string(repository("config/metric.yaml")).expect("it is there");
    let env = [("PLANTD_MODULE_METRIC_TYPE", "producer")];
    let all = load_flagged(&switched_on(&yaml), &env, Flags::default());
    let (settings, origins) = all.unwrap_or_else(|told| panic!("{told}"));
    let shown: BTreeSet<String> = origins.keys().map(without_positions).collect();
    let mut missing: Vec<String> = keys().into_iter().map(|key| key.path).collect();
    // What stands for a list of entries is shown for one of them.
    let of_list = |path: &str| path.starts_with("windows.tiers[]") || path.starts_with("storage[]");
    missing.retain(|path| !path.ends_with('*') && !of_list(path) && !shown.contains(path));
    assert_eq!(missing, Vec::<String>::new());
    assert_eq!((settings.collection.scrapes().count(), settings.collection.custom.len()), (2, 2));
    for (name, _) in DOCUMENTED {
        assert!(yaml.contains(&format!("{PREFIX}{name} ")), "{name}");
    }
}

/// `alerts.rules[0].name` -> `alerts.rules[].name`.
fn without_positions(path: &str) -> String {
    let parts = path.split('[').map(|part| part.split_once(']').map_or(part, |(_, rest)| rest).to_string());
    let mut parts = parts.collect::<Vec<_>>();
    let first = parts.remove(0);
    parts.iter().fold(first, |path, part| format!("{path}[]{part}"))
}

#[test]
fn the_examples() {
    use StorageKind::{File, Influxdb, Prometheus};
    type Expected<'a> = (&'a str, Mode, &'a [(StorageKind, &'a str)]);
    let consumer = Mode::Consumer;
    let expected: &[Expected] = &[
        ("alerts-receivers", consumer, &[(File, "file")]),
        ("producer", Mode::Producer, &[(File, "file")]),
        ("standalone", Mode::Standalone, &[(File, "file")]),
        ("storage-file", consumer, &[(File, "file")]),
        ("storage-influxdb-1", consumer, &[(Influxdb, "influxdb")]),
        ("storage-influxdb-2", consumer, &[(Influxdb, "influxdb")]),
        ("storage-influxdb-3", consumer, &[(Influxdb, "influxdb")]),
        ("storage-none", consumer, &[]),
        ("storage-prometheus-scrape", consumer, &[(Prometheus, "prometheus")]),
        ("storage-prometheus-write", consumer, &[(Prometheus, "prometheus")]),
        (
            "storage-several",
            consumer,
            &[(File, "archive"), (Influxdb, "influxdb"), (Prometheus, "prometheus")],
        ),
    ];
    let entries = std::fs::read_dir(repository("config/examples")).expect("it is there");
    let names = entries.map(|entry| entry.expect("it can be read").file_name().into_string().expect("UTF-8"));
    let names: BTreeSet<String> = names.collect();
    let listed: BTreeSet<String> = expected.iter().map(|(name, ..)| format!("{name}.yaml")).collect();
    assert_eq!(names, listed);
    for (name, mode, storages) in expected {
        let path = repository(&format!("config/examples/{name}.yaml"));
        let settings = loaded(&std::fs::read_to_string(path).expect("it can be read"), &[]);
        let found: Vec<_> = settings.storage.used().map(|s| (s.kind, s.name.as_str())).collect();
        assert_eq!((settings.mode(), found.as_slice()), (*mode, *storages), "{name}");
    }
}
