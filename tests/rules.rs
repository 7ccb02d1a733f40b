//! Rules before they go live, by the program itself: `rules check`, `import`, `test` and `replay`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use dataflows::epoch::Epoch;
use operators::catalog::{Catalog, CatalogLimits};
use operators::sample::{SECOND, Sample, TimeNs};
use operators::series::Target;
use plantd_metric::journal::epochs::{self, KIND_EPOCH};
use plantd_metric::journal::files::{Files, RealFiles};
use plantd_metric::journal::log::{Log, LogConfig};
use plantd_metric::message::Message;
use plantd_metric::sinks::Sink;
use plantd_metric::sinks::file::{FileConfig, FileFormat, FileSink};

/// 2024-01-01T12:00:00Z.
const NOON: TimeNs = 1_704_110_400 * SECOND;

/// Exit code, standard output and standard error, the folder left out.
fn run(arguments: &[&str], folder: &Path) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_plantd-metric"))
        .args(arguments)
        .env_clear()
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("it runs");
    let text = |bytes: Vec<u8>| {
        let text = String::from_utf8(bytes).expect("it prints UTF-8");
        text.replace(&format!("{}/", folder.display()), "")
    };
    (output.status.code().expect("it ends by itself"), text(output.stdout), text(output.stderr))
}

/// A folder with files.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder for the test");
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).expect("a file for the test");
    }
    folder
}

fn path(folder: &tempfile::TempDir, name: &str) -> String {
    folder.path().join(name).display().to_string()
}

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name)
}

#[test]
fn the_shipped_rules_pass_their_tests() {
    let none = Path::new("/nowhere");
    for entry in std::fs::read_dir(shipped("rules")).expect("it is there") {
        let file = entry.expect("it can be read").path();
        let (code, told, wrong) = run(&["rules", "check", &file.display().to_string()], none);
        assert_eq!((code, wrong.as_str()), (0, ""), "{file:?}");
        assert!(told.ends_with("rules are good\n"), "{told}");
    }
    let tests =
        std::fs::read_dir(shipped("")).expect("it is there").map(|entry| entry.expect("an entry").path());
    let tests: Vec<PathBuf> = tests
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("rules-test")))
        .collect();
    assert!(!tests.is_empty());
    for file in tests {
        let (code, told, wrong) = run(&["rules", "test", &file.display().to_string()], none);
        assert_eq!((code, wrong.as_str()), (0, ""), "{told}");
        assert!(told.ends_with(" tests passed\n"), "{told}");
    }
}

/// What `docs/rules.md` shows runs as it is shown.
#[test]
fn what_is_documented_runs() {
    let text = std::fs::read_to_string(shipped("../docs/rules.md")).expect("it is there");
    let blocks: Vec<&str> = text
        .split("```yaml\n")
        .skip(1)
        .map(|rest| rest.split("```").next().expect("a block has an end"))
        .collect();
    let [config, tests] = blocks.as_slice() else { panic!("expected two blocks, found {}", blocks.len()) };
    let folder = folder(&[("metric.yaml", config), ("t.yaml", tests)]);
    std::fs::create_dir(folder.path().join("rules")).expect("a folder for the rules");
    std::fs::copy(shipped("rules/hosts.yaml"), folder.path().join("rules/hosts.yaml")).expect("it is copied");
    let (code, told, wrong) = run(&["rules", "check", &path(&folder, "metric.yaml")], folder.path());
    assert!(code == 0 && told.ends_with(" rules are good\n"), "{told}{wrong}");
    let (code, told, wrong) = run(&["rules", "test", &path(&folder, "t.yaml")], folder.path());
    assert_eq!((code, told.as_str(), wrong.as_str()), (0, "t.yaml: 1 tests passed\n", ""));
}

/// A test that expects something else fails: each of these changes makes exactly one comparison fail.
#[test]
fn what_is_expected_otherwise_is_told() {
    let rules = std::fs::read_to_string(shipped("rules/hosts.yaml")).expect("it is there");
    let tests = std::fs::read_to_string(shipped("rules-test.yaml")).expect("it is there");
    let tests = tests.replace("rules/hosts.yaml", "hosts.yaml");
    for (right, wrong) in [
        ("since: \"3m\" }", "since: \"4m\" }"),
        ("value: 96", "value: 95"),
        ("state: \"pending\", ", ""),
        ("team: \"infra\" }", "team: \"x\" }"),
        ("disk at 96.0 %", "disk at 96 %"),
        ("runbook: \"https", "runbook: \"http"),
        ("exp_alerts: []", "exp_alerts: [ {} ]"),
        ("fired: \"8m\"", "fired: \"7m\""),
        ("fired: \"8m\", ended: \"12m\"", "fired: \"8m\""),
        ("ended: \"5m\"", "ended: \"3m\""),
        ("started: \"30s\"", "started: \"1m\""),
        ("expect: []", "expect: [ { alert: \"disk_nearly_full\", fired: \"5m\" } ]"),
        ("value: 30.5", "value: 31"),
        ("[ \"59s999ms\", 30.5 ]", "[ \"59s999ms\", 20 ]"),
    ] {
        assert!(tests.contains(right), "{right}");
        let folder = folder(&[("hosts.yaml", &rules), ("t.yaml", &tests.replacen(right, wrong, 1))]);
        let (code, told, why) = run(&["rules", "test", &path(&folder, "t.yaml")], folder.path());
        assert_eq!(
            (code, told.as_str()),
            (1, "t.yaml: 1 failures in 4 tests\n"),
            "{right} as {wrong}: {why}"
        );
        assert!(why.contains("\n    expected:\n      ") && why.contains("\n    found:\n      "), "{why}");
    }
    // The other way round: tests hold a rule to what it should say.
    for (right, wrong) in
        [("threshold: 90", "threshold: 92"), ("keep_firing_for: \"2m\"", "keep_firing_for: \"1m\"")]
    {
        assert!(rules.contains(right), "{right}");
        let folder = folder(&[("hosts.yaml", &rules.replacen(right, wrong, 1)), ("t.yaml", &tests)]);
        assert_eq!(run(&["rules", "test", &path(&folder, "t.yaml")], folder.path()).0, 1, "{wrong}");
    }
}

#[test]
fn a_failure_says_what_was_found() {
    let folder = folder(&[
        (
            "r.yaml",
            "rules:\n  - { name: r, metric: m, operator: \">\", threshold: 1, message: \"{{value}}\" }\n",
        ),
        (
            "t.yaml",
            "rule_files: [ r.yaml ]\n\
             tests:\n  \
             - name: one\n    \
             input_series: [ { service: s, metric: m, tags: { a: b }, values: \"0 5 0\" } ]\n    \
             alert_rule_test:\n      \
             - { eval_time: 1m, alertname: r, exp_alerts: [ { value: 4 } ] }\n    \
             expect: []\n",
        ),
    ]);
    let (code, _, why) = run(&["rules", "test", &path(&folder, "t.yaml")], folder.path());
    let expected = "t.yaml: tests[0] (one): t.yaml:6:9: r at 1m: \n    expected:\n      firing value 4\n    found:\n      \
        firing s m{a=\"b\"} since 1m value 5 labels { a: \"b\", service: \"s\", severity: \"warning\" } message \"5\"\n\
        t.yaml: tests[0] (one): expect: \n    expected:\n      nothing\n    found:\n      \
        r s m{a=\"b\"} started 1m fired 1m ended 2m\n";
    assert_eq!((code, why.as_str()), (1, expected));
}

#[test]
fn wrong_files_are_told_with_their_places() {
    let folder = folder(&[
        ("good.yaml", "rules:\n  - { name: r, metric: m, operator: \">\", threshold: 1 }\n"),
        ("bad.yaml", "rules:\n  - { name: r, metric: m, operator: \">\" }\n"),
        (
            "config.yaml",
            "windows: { pane: 1m }\nalerts:\n  rules:\n    - { name: c, metric: m, stale_for: 1m }\n",
        ),
        ("one.yaml", "rule_files: [ bad.yaml ]\ntests: []\n"),
        (
            "two.yaml",
            "rule_files: [ good.yaml ]\ntests:\n  - input_series:\n      - { metric: m, values: \"1 x\" }\n",
        ),
        ("three.yaml", "rule_files: [ good.yaml ]\ntests:\n  - input_series: []\n    exspect: []\n"),
        (
            "four.yaml",
            "rule_files: [ good.yaml ]\ntests:\n  - input_series: []\n    alert_rule_test:\n      \
             - { eval_time: 1m, alertname: q, exp_alerts: [] }\n",
        ),
        ("five.yaml", "rule_files: [ good.yaml ]\ntests:\n  - input_series: [ { values: \"1\" } ]\n"),
    ]);
    for (task, file, code, told) in [
        ("check", "good.yaml", 0, ""),
        ("check", "config.yaml", 0, ""),
        ("check", "bad.yaml", 78, "bad.yaml:2:5: rules[0].threshold: expected this key, found none\n"),
        ("check", "none.yaml", 78, "none.yaml:1:1: expected a file that can be read, found No such file"),
        ("test", "one.yaml", 78, "bad.yaml:2:5: rules[0].threshold: expected this key, found none\n"),
        (
            "test",
            "two.yaml",
            78,
            "two.yaml:4:30: tests[0].input_series[0].values: expected finite values such as",
        ),
        (
            "test",
            "three.yaml",
            78,
            "three.yaml:4:5: tests[0].exspect: unrecognised key; did you mean expect?\n",
        ),
        (
            "test",
            "four.yaml",
            78,
            "four.yaml:1:1: tests[0]: four.yaml:5:9: q at 1m: expected the name of a rule in",
        ),
        (
            "test",
            "five.yaml",
            78,
            "five.yaml:1:1: tests[0]: five.yaml:3:21: expected either series, or metric with",
        ),
    ] {
        let (found, _, wrong) = run(&["rules", task, &path(&folder, file)], folder.path());
        assert!(
            found == code && wrong.starts_with(told) && (code == 0) == wrong.is_empty(),
            "{file}: {found} {wrong}"
        );
    }
}

#[test]
fn an_import_names_what_it_leaves_out() {
    let text = "groups:\n  - name: g\n    rules:\n      - { alert: a, expr: \"m > 1\" }\n      \
                - { alert: b, expr: \"absent(m)\" }\n      - { alert: c, expr: \"m > n\" }\n";
    let folder = folder(&[("p.yaml", text)]);
    let (code, told, wrong) = run(&["rules", "import", &path(&folder, "p.yaml")], folder.path());
    assert_eq!(code, 1);
    assert!(
        told.starts_with("rules:\n  - name: a\n    metric: m\n    operator: \">\"\n    threshold: 1.0\n"),
        "{told}"
    );
    assert!(told.contains("\n  # absent() asks") && !told.contains("name: c"), "{told}");
    let expected = "p.yaml:5:9: b: absent() asks whether any such series is there; this watches each series that was \
        there once\np.yaml:6:27: groups[0].rules[2] (c).expr: character 5: expected a number to compare with, found series\n";
    assert_eq!(wrong, expected);
    std::fs::write(folder.path().join("ours.yaml"), &told).expect("a file");
    let (code, told, wrong) = run(&["rules", "check", &path(&folder, "ours.yaml")], folder.path());
    let expected = "a: m > 1, warning\nb: absent(m[5m]), warning\nours.yaml: 2 rules are good\n";
    assert_eq!((code, told.as_str(), wrong.as_str()), (0, expected, ""));
}

/// A second of each value.
fn values() -> impl Iterator<Item = (i64, f64)> {
    (0..7200).map(|s| {
        (s, if (600..660).contains(&s) || (6000..6100).contains(&s) || s >= 7190 { 95.0 } else { 20.0 })
    })
}

fn write_journal(dir: &Path) {
    let files: Arc<dyn Files> = Arc::new(RealFiles);
    let config = LogConfig { dir: dir.join("segments"), ..LogConfig::default() };
    let (log, _) = Log::open(files, config).expect("a log");
    let catalog = Catalog::new(CatalogLimits::default());
    let resolve = |metric: &str| {
        catalog.resolve(&Arc::new(Target::new("s", [("host", "a")])), metric).expect("there is room")
    };
    let (cpu, other) = (resolve("cpu_usage_percent"), resolve("other"));
    for (second, value) in values() {
        let (number, time_ns) = (second as u64 + 1, NOON + second * SECOND);
        let sample = |series, value| Sample { series, seq: 0, time_ns, value };
        let batches = vec![vec![sample(cpu, value), sample(other, 1e9)]];
        let entries = catalog.take_fresh();
        let epoch = Epoch { number, arrival_ns: time_ns, batches, entries, ..Epoch::default() };
        let mut bytes = Vec::new();
        epochs::encode(&epoch, &mut bytes);
        log.append(&[(KIND_EPOCH, number, &bytes)]).expect("the disk takes it");
    }
    log.sync().expect("the disk syncs");
}

fn write_stored(dir: &Path, format: FileFormat) {
    let config = FileConfig { path: dir.into(), format, retention_ns: None, ..FileConfig::default() };
    let mut sink = FileSink::open(config).expect("a sink");
    let target = Arc::new(Target::new("s", [("host", "a")]));
    let message = |(second, value): (i64, f64)| Message {
        time_ns: NOON + second * SECOND,
        target: target.clone(),
        metrics: vec![("cpu_usage_percent".into(), value), ("other".into(), 1e9)],
    };
    sink.write(&values().map(message).collect::<Vec<_>>()).expect("the disk takes it");
    sink.flush(1).expect("the disk takes it");
}

#[test]
fn a_replay_says_when_rules_would_have_fired() {
    let folder = folder(&[(
        "r.yaml",
        "rules:\n  - { name: hot, metric: cpu_usage, operator: \">\", threshold: 90, for: 30s }\n  \
         - { name: brief, metric: cpu_usage, operator: \">\", threshold: 90, for: 90s }\n",
    )]);
    let journal = folder.path().join("journal");
    write_journal(&journal);
    let head = "alert  series                         start                 fire                  end\n";
    let rows = [
        "hot    s cpu_usage_percent{host=\"a\"}  2024-01-01T12:10:00Z  2024-01-01T12:10:30Z  2024-01-01T12:11:00Z\n",
        "hot    s cpu_usage_percent{host=\"a\"}  2024-01-01T13:40:00Z  2024-01-01T13:40:30Z  2024-01-01T13:41:40Z\n",
        "brief  s cpu_usage_percent{host=\"a\"}  2024-01-01T13:40:00Z  2024-01-01T13:41:30Z  2024-01-01T13:41:40Z\n",
    ];
    let rest = |fired: usize, not: usize, from: &str| {
        format!(
            "{fired} fired, {not} other breaches had not lasted long enough, from {from} to 2024-01-01T13:59:59Z; 7200 of 14400 \
             samples are of series that these rules watch\n"
        )
    };
    let rules = path(&folder, "r.yaml");
    let journal = journal.display().to_string();
    let mut sources = vec![("--journal", journal)];
    for format in [FileFormat::Json, FileFormat::Csv, FileFormat::Parquet] {
        let dir = folder.path().join(format!("{format:?}"));
        std::fs::create_dir(&dir).expect("a folder for the rows");
        write_stored(&dir, format);
        sources.push(("--file", dir.display().to_string()));
    }
    for (flag, source) in &sources {
        let replay = |since: &[&str]| {
            let arguments = ["rules", "replay", "--rules", &rules, flag, source];
            run(&[&arguments[..], since].concat(), folder.path())
        };
        // Those of the last breach are still pending.
        let all = format!("{head}{}{}", rows.concat(), rest(3, 3, "2023-12-31T13:59:59Z"));
        assert_eq!(replay(&[]), (0, all, String::new()), "{source}");
        let last = format!("{head}{}{}", rows[1..].concat(), rest(2, 2, "2024-01-01T12:59:59Z"));
        assert_eq!(replay(&["--since", "1h"]), (0, last.clone(), String::new()), "{source}");
        let last = last.replace("12:59:59Z", "13:00:00Z");
        assert_eq!(replay(&["--since", "2024-01-01T13:00:00Z"]), (0, last, String::new()), "{source}");
    }
    for (arguments, code, told) in [
        (
            vec!["--since", "soon"],
            2,
            "plantd-metric: --since: expected a duration such as 24h, or an RFC 3339 time",
        ),
        (
            vec!["--journal", "/nowhere"],
            2,
            "plantd-metric: /nowhere/segments: expected a journal, found no such directory",
        ),
        (vec!["--file", "/nowhere/a.csv"], 2, "plantd-metric: /nowhere/a.csv: No such file"),
        (vec!["--rules", "/nowhere/r.yaml"], 78, "/nowhere/r.yaml:1:1: expected a file that can be read"),
    ] {
        let (found, _, wrong) = run(&[&["rules", "replay"], &arguments[..]].concat(), folder.path());
        assert!(found == code && wrong.starts_with(told), "{arguments:?}: {found} {wrong}");
    }
}
