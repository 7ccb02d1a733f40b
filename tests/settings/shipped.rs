//! The files in `config/`.

use std::collections::BTreeSet;

use plantd_metric::settings::env::{DOCUMENTED, PREFIX, keys};
use plantd_metric::settings::{Flags, Mode, Settings};

use crate::{load, load_flagged, loaded, repository};

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

#[test]
fn the_shipped_file_shows_every_key() {
    let yaml = std::fs::read_to_string(repository("config/metric.yaml")).expect("it is there");
    let env = [("PLANTD_MODULE_METRIC_TYPE", "producer")];
    let all = load_flagged(&switched_on(&yaml), &env, Flags::default());
    let (settings, origins) = all.unwrap_or_else(|told| panic!("{told}"));
    let shown: BTreeSet<String> = origins.keys().map(without_positions).collect();
    let mut missing: Vec<String> = keys().into_iter().map(|key| key.path).collect();
    missing
        .retain(|path| !path.ends_with('*') && !path.starts_with("windows.tiers[]") && !shown.contains(path));
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
    let mut seen = 0;
    for entry in std::fs::read_dir(repository("config/examples")).expect("it is there") {
        let path = entry.expect("it can be read").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let yaml = std::fs::read_to_string(&path).expect("it can be read");
        let refused = |line: usize, kind: &str| {
            let expected = "expected a storage type of this build, file or none";
            Err(format!("metric.yaml:{line}:9: storage.type: {expected}, found {kind}"))
        };
        let expected = match name.as_str() {
            "storage-influxdb.yaml" => refused(4, "influxdb"),
            "storage-prometheus.yaml" => refused(3, "prometheus"),
            "producer.yaml" => Ok(Mode::Producer),
            "standalone.yaml" => Ok(Mode::Standalone),
            _ => Ok(Mode::Consumer),
        };
        assert_eq!(load(&yaml, &[]).map(|settings| settings.mode()), expected, "{name}");
        seen += 1;
    }
    assert_eq!(seen, 6);
}
