//! One storage or several: names, defaults by type, variables, and what cannot be together.

use plantd_metric::settings::StorageKind::{self, File, Influxdb, None as Nowhere, Prometheus};
use plantd_metric::settings::{Flags, InfluxApi, RemoteWrite, Settings, Stored};

use crate::{Env, load, load_flagged, loaded, seconds};

const TWO: &str = "storage:\n  - path: /data\n  - url: http://influx:8086\n    username: me\n";

fn kinds_and_names(settings: &Settings) -> Vec<(StorageKind, &str)> {
    settings.storage.used().map(|storage| (storage.kind, storage.name.as_str())).collect()
}

#[test]
fn one_a_list_or_none() {
    let cases: &[(&str, &[(StorageKind, &str)])] = &[
        ("{}", &[(File, "file")]),
        ("storage: { url: \"http://i:1\" }", &[(Influxdb, "influxdb")]),
        ("storage: [ { url: \"http://i:1\" } ]", &[(Influxdb, "influxdb")]),
        ("storage: []", &[]),
        ("storage: { type: none }", &[]),
        ("storage: [ { type: none }, { type: file } ]", &[(File, "file")]),
        (TWO, &[(File, "file"), (Influxdb, "influxdb")]),
        (
            "storage: [ { path: a, name: file-2 }, { path: b }, { path: c }, { path: d, name: last } ]",
            &[(File, "file-2"), (File, "file"), (File, "file-3"), (File, "last")],
        ),
        (
            "storage: [ { type: prometheus }, { type: prometheus, url: \"http://p:1\" } ]",
            &[(Prometheus, "prometheus"), (Prometheus, "prometheus-2")],
        ),
    ];
    for (yaml, expected) in cases {
        let settings = loaded(yaml, &[]);
        assert_eq!(kinds_and_names(&settings), *expected, "{yaml}");
        assert_eq!(settings.storage.primary().map(|s| s.kind), expected.first().map(|(kind, _)| *kind));
    }
}

#[test]
fn defaults_follow_the_type_and_the_general_keys() {
    let three = "[ {}, { type: influxdb, url: \"http://i:1\" }, { type: prometheus, flush_interval: 7s } ]";
    let of = |general: &str, env: Env| -> Vec<(usize, u64)> {
        let settings = loaded(&format!("{{ storage: {three}, {general} }}"), env);
        let pair = |storage: &plantd_metric::settings::StorageSettings| {
            (storage.batch_size, storage.flush_interval.as_secs())
        };
        settings.storage.0.iter().map(pair).collect()
    };
    assert_eq!(of("", &[]), [(1000, 1), (5000, 1), (2000, 7)]);
    let general = "performance: { batch_size: 10, flush_interval: 2s }";
    assert_eq!(of(general, &[]), [(10, 2), (10, 2), (10, 7)]);
    assert_eq!(of("", &[("PLANTD_MODULE_METRIC_BATCH_SIZE", "50")]), [(50, 1), (50, 1), (50, 7)]);

    let retention = |yaml: &str, env: Env| loaded(yaml, env).storage.0[0].retention;
    let influx = "storage: { url: \"http://i:1\" }";
    let thirty_days = Some(seconds(30 * 86_400));
    let variable = ("PLANTD_MODULE_METRIC_RETENTION", "30d");
    assert_eq!(retention("{}", &[]), thirty_days);
    assert_eq!(
        retention(influx, &[]),
        None,
        "nobody's data is deleted because nobody said how long to keep it"
    );
    assert_eq!(retention(influx, &[variable]), thirty_days);
    loaded("storage: { type: prometheus }", &[variable]);
    loaded("storage: { type: none }", &[variable]);
}

#[test]
fn keys_of_the_backends() {
    let influx = loaded(
        "storage: { type: influxdb, url: \"http://i:1\", api: v2, org: us, bucket: b, token: t, \
         store: [ windows, raw ], window_functions: [ sum, p99.9 ], measurement: m, gzip: false }",
        &[],
    );
    let storage = &influx.storage.0[0];
    assert_eq!(
        (storage.api, storage.org.as_deref(), storage.bucket.as_deref()),
        (InfluxApi::V2, Some("us"), Some("b"))
    );
    assert_eq!((storage.store.as_slice(), storage.gzip), (&[Stored::Windows, Stored::Raw][..], false));
    assert_eq!(
        (storage.window_functions.join(" ").as_str(), storage.measurement.as_str()),
        ("sum p99.9", "m")
    );
    for (word, protocol) in [
        ("1.0", RemoteWrite::V1),
        ("\"2.0\"", RemoteWrite::V2),
        ("1", RemoteWrite::V1),
        ("auto", RemoteWrite::Auto),
    ] {
        let prometheus = loaded(&format!("storage: {{ type: prometheus, protocol: {word} }}"), &[]);
        assert_eq!(prometheus.storage.0[0].protocol, protocol, "{word}");
    }
}

/// Variables without a position are about the first; a position makes a list of one mapping.
#[test]
fn variables_of_one_and_of_several() {
    let short = ("PLANTD_MODULE_METRIC_STORAGE_TYPE", "none");
    assert_eq!(kinds_and_names(&loaded(TWO, &[short])), [(Influxdb, "influxdb")]);
    let path = ("PLANTD_MODULE_METRIC__STORAGE__PATH", "/other");
    let second = ("PLANTD_MODULE_METRIC__STORAGE__1__USERNAME", "you");
    let settings = loaded(TWO, &[path, second]);
    let [first, other] = settings.storage.0.as_slice() else { panic!("{settings:?}") };
    assert_eq!((first.path.as_str(), other.username.as_deref()), ("/other", Some("you")));
    let added = [
        ("PLANTD_MODULE_METRIC__STORAGE__1__TYPE", "prometheus"),
        ("PLANTD_MODULE_METRIC__STORAGE__1__URL", "http://p:1"),
    ];
    let settings = loaded("storage: { format: csv }", &added);
    assert_eq!(kinds_and_names(&settings), [(File, "file"), (Prometheus, "prometheus")]);
    assert_eq!(settings.storage.0[0].format.word(), "csv");
    let url = ("PLANTD_MODULE_METRIC_STORAGE_URL", "http://i:1");
    assert_eq!(kinds_and_names(&loaded("storage: []", &[url])), [(Influxdb, "influxdb")]);
}

/// A type in the environment sets aside what the file says for another type.
#[test]
fn a_type_above_the_file_sets_keys_aside() {
    let file = "storage: { path: /data, format: csv, rotation: hourly, retention: 7d }";
    let url = ("PLANTD_MODULE_METRIC_STORAGE_URL", "http://i:1");
    let settings = loaded(file, &[url]);
    assert_eq!(kinds_and_names(&settings), [(Influxdb, "influxdb")]);
    assert_eq!(settings.storage.0[0].retention, Some(seconds(7 * 86_400)), "it has that key, too");
    let influx = "storage: { type: influxdb, url: \"http://i:1\", token: t }";
    for kind in [File, Nowhere] {
        let env = [("PLANTD_MODULE_METRIC_STORAGE_TYPE", kind.word())];
        let storage = &loaded(influx, &env).storage.0[0];
        assert_eq!((storage.kind, &storage.url, &storage.token), (kind, &None, &None));
    }
}

#[test]
fn the_journal_is_below_the_first_path() {
    for (yaml, expected) in [
        ("{}", "./data/journal"),
        ("storage: { type: none }", "./data/journal"),
        ("storage: []", "./data/journal"),
        ("storage: { path: /var/lib/m/ }", "/var/lib/m/journal"),
        ("storage: { type: influxdb, url: \"http://i:1\", path: /m }", "/m/journal"),
        ("storage: [ { type: prometheus }, { path: /m } ]", "/m/journal"),
        ("{ storage: { path: /m }, journal: { path: /j } }", "/j"),
    ] {
        assert_eq!(loaded(yaml, &[]).journal.path, expected, "{yaml}");
    }
    let journal = loaded("journal: { size_max: 80MiB }", &[]).journal;
    assert_eq!((journal.segment_bytes, journal.checkpoint_bytes), (10 << 20, 20 << 20));
    for (mode, has_one) in [("consumer", true), ("standalone", true), ("producer", false)] {
        let settings = loaded("{}", &[("PLANTD_MODULE_METRIC_TYPE", mode)]);
        assert_eq!(settings.journal().is_some(), has_one, "{mode}");
    }
    let timeout = loaded("http: { request_timeout: 2s, header_timeout: 1s }", &[]).ingest.ack_timeout;
    assert_eq!(timeout, seconds(2));
}

const MISTAKES: &[(&str, &str)] = &[
    (
        "storage: { type: file, url: \"http://i:1\", gzip: true }",
        "metric.yaml:1:29: storage.url: expected no url, as storage.type is file (metric.yaml:1:18), found one\n\
         metric.yaml:1:49: storage.gzip: expected no gzip, as storage.type is file (metric.yaml:1:18), found one",
    ),
    (
        "storage: { token: t }",
        "metric.yaml:1:19: storage.token: expected no token, as storage.type is file, found one",
    ),
    (
        "storage: { type: none, format: csv }",
        "metric.yaml:1:32: storage.format: expected no format, as storage.type is none (metric.yaml:1:18), found one",
    ),
    (
        "storage: [ {}, { type: prometheus, retention: 1d } ]",
        "metric.yaml:1:47: storage[1].retention: expected no retention, as storage[1].type is prometheus \
         (metric.yaml:1:24), found one",
    ),
    (
        "storage: [ {}, { type: influxdb } ]",
        "metric.yaml:1:24: storage[1].type: expected storage[1].url for influxdb, found none",
    ),
    (
        "storage: [ {}, { tpye: file } ]",
        "metric.yaml:1:18: storage[1].tpye: unrecognised key; did you mean type?",
    ),
    (
        "storage: { queue_len_max: 10 }",
        "metric.yaml:1:12: storage.queue_len_max: unrecognised key; expected one of type, name, path, url, username, \
         password, token, timeout, ca_file, api, database, org, bucket, precision, gzip, measurement, tags, \
         read_url, protocol, prefix, headers, job_name, scrape_interval, metrics_path, format, rotation, compression, size_max, retention, store, \
         window_functions, batch_size, flush_interval, retry_min, retry_max, dead_letter_size_max",
    ),
    (
        "storage: { url: \"http://i:1\", retention: 30m }",
        "metric.yaml:1:42: storage.retention: expected at least 1h, which is what InfluxDB allows, found 30m",
    ),
    (
        "storage: { url: \"http://i:1\", measurement: \"{host}\" }",
        "metric.yaml:1:44: storage.measurement: expected a name such as metrics or {service}_metrics, with {service}, \
         {metric} and {tag.NAME}, found \"{host}\"",
    ),
    (
        "storage: { type: prometheus, prefix: a.b }",
        "metric.yaml:1:38: storage.prefix: expected letters, digits, _ and :, such as plantd_, found a.b",
    ),
    (
        "storage: { name: \"a/b\" }",
        "metric.yaml:1:18: storage.name: expected a name of up to 64 letters, digits, - and _, found \"a/b\"",
    ),
    (
        "storage: [ { name: a, path: /a }, { name: a, path: /b } ]",
        "metric.yaml:1:43: storage[1].name: expected names that differ, found \"a\" here and for storage[0]",
    ),
    (
        "storage: [ { path: ./a }, { path: a/ } ]",
        "metric.yaml:1:35: storage[1].path: expected a directory of its own, found a/ here and for storage[0]",
    ),
    (
        "storage: [ {}, {} ]",
        "metric.yaml:1:16: storage[1]: expected a directory of its own, found ./data here and for storage[0]",
    ),
    (
        "storage: [ { type: prometheus }, { type: prometheus } ]",
        "metric.yaml:1:42: storage[1].type: expected one that is scraped, found no url here and none for storage[0]",
    ),
    (
        "storage: { url: \"http://i:1\", token: t, username: u }",
        "metric.yaml:1:38: storage.token: expected either a token or username and password, found both",
    ),
    (
        "storage: { url: \"http://i:1\", api: v1, bucket: b }",
        "metric.yaml:1:48: storage.bucket: expected no bucket for api v1, found one",
    ),
    (
        "storage: { store: [] }",
        "metric.yaml:1:19: storage.store: expected raw, windows or both, found neither",
    ),
    (
        "storage: { store: [ raw, raw ] }",
        "metric.yaml:1:19: storage.store: expected each once, found raw twice",
    ),
    (
        "storage: { store: [ rows ] }",
        "metric.yaml:1:21: storage.store[0]: expected one of raw, windows, found rows",
    ),
    (
        "storage: { window_functions: [ mean ] }",
        "metric.yaml:1:32: storage.window_functions[0]: expected a window function such as avg, max, count or p95, \
         found mean",
    ),
    (
        "storage: { store: windows, window_functions: [] }",
        "metric.yaml:1:46: storage.window_functions: expected at least one function for the windows that are stored, \
         found none",
    ),
    (
        "storage: { window_functions: [ avg, avg ] }",
        "metric.yaml:1:30: storage.window_functions: expected each once, found avg twice",
    ),
    (
        "storage: { retry_min: 1m }",
        "metric.yaml:1:23: storage.retry_min: expected retry_min within retry_max, found 1m and 30s",
    ),
    (
        "journal: { segment_size: 1GiB, size_max: 1GiB }",
        "metric.yaml:1:26: journal.segment_size: expected at most half of size_max, 512MiB, found 1GiB",
    ),
    (
        "journal: { checkpoint_size: 5GiB }",
        "metric.yaml:1:29: journal.checkpoint_size: expected at most half of size_max, 4GiB, found 5GiB",
    ),
    (
        "journal: { path: data }",
        "metric.yaml:1:18: journal.path: expected a directory without stored files, found ./data",
    ),
    (
        "{ journal: { path: /j }, storage: { path: /j/files } }",
        "metric.yaml:1:20: journal.path: expected a directory without stored files, found /j/files",
    ),
    (
        "journal: { path: data/log }",
        "metric.yaml:1:18: journal.path: expected ./data/journal, or a place outside of storage, found data/log",
    ),
    (
        "journal: { durability: sync }",
        "metric.yaml:1:24: journal.durability: expected one of fsync, os, memory, found sync; did you mean fsync?",
    ),
    (
        "ingest: { ack_timeout: 1m }",
        "metric.yaml:1:24: ingest.ack_timeout: expected at most http.request_timeout, 30s, found 1m",
    ),
    (
        "ingest: { dedup: { jason: true } }",
        "metric.yaml:1:20: ingest.dedup.jason: unrecognised key; did you mean json?",
    ),
];

#[test]
fn mistakes() {
    for (yaml, expected) in MISTAKES {
        assert_eq!(load(yaml, &[]).map(|_| ()), Err(expected.to_string()), "{yaml}");
        // A producer stores nothing; what is about its storage together with other things is no concern of it.
        let producer = load(yaml, &[("PLANTD_MODULE_METRIC_TYPE", "producer")]);
        assert!(producer.is_ok() || producer == load(yaml, &[]), "{yaml}");
    }
    let env =
        [("PLANTD_MODULE_METRIC_STORAGE_TYPE", "file"), ("PLANTD_MODULE_METRIC_STORAGE_URL", "http://i:1")];
    let told = load_flagged("", &env, Flags::default()).map(|_| ());
    let expected = "PLANTD_MODULE_METRIC_STORAGE_URL: storage.url: expected no url, as storage.type is file \
                    (PLANTD_MODULE_METRIC_STORAGE_TYPE), found one";
    assert_eq!(told, Err(expected.to_string()));
}
