//! Every key by its variable, the documented variables, and secrets.

use plantd_metric::settings::env::{DOCUMENTED, PREFIX, keys, variable_of};
use plantd_metric::settings::storages::has_key;
use plantd_metric::settings::{
    self, Application, Flags, Level, LogFormat, Mode, Origin, Settings, StorageKind,
};

use crate::{load, load_flagged, loaded, seconds};

/// A value for every key, other than the default: for the environment, and as `--print-config` writes it where that
/// differs.
const EVERY_KEY: &[(&str, &str, &str)] = &[
    ("service.type", "standalone", ""),
    ("service.name", "host", ""),
    ("service.host", "server-01", ""),
    ("service.tags", "a=b", ""),
    ("service.interval", "90s", "1m30s"),
    ("service.batch_size", "7", ""),
    ("service.stop_timeout", "3s", ""),
    ("logging.level", "trace", ""),
    ("logging.format", "json", ""),
    ("bus.endpoint", "tcp://a:1,tcp://b:2", r#"["tcp://a:1", "tcp://b:2"]"#),
    ("bus.bind", "tcp://*:3", r#"["tcp://*:3"]"#),
    ("bus.publish_endpoint", "tcp://c:4", r#"["tcp://c:4"]"#),
    ("bus.publish_bind", "tcp://0.0.0.0:5", r#"["tcp://0.0.0.0:5"]"#),
    ("bus.topics", "a, b.*", r#"[a, "b.*"]"#),
    ("bus.kind", "pull", ""),
    ("bus.framing", "envelope", ""),
    ("bus.envelope", "org.plantd.Other", ""),
    ("bus.transport", "zeromq", ""),
    ("bus.frame_max", "1048576", "1MiB"),
    ("bus.queue_len_max", "9", ""),
    ("bus.heartbeat", "off", ""),
    ("bus.reconnect_max", "1s", ""),
    ("bus.embedded.enabled", "true", ""),
    ("bus.embedded.frontend", "tcp://127.0.0.1:6", r#""tcp://127.0.0.1:6""#),
    ("bus.embedded.backend", "tcp://127.0.0.1:7", r#""tcp://127.0.0.1:7""#),
    ("http.enabled", "true", ""),
    ("http.listen", "[::1]:81", r#""[::1]:81""#),
    ("http.external_url", "https://metrics/m", r#""https://metrics/m""#),
    ("http.body_max", "1GiB", ""),
    ("http.header_timeout", "11s", ""),
    ("http.request_timeout", "31s", ""),
    ("http.connections_max", "2", ""),
    ("http.results_max", "3", ""),
    ("ingest.tags_per_series_max", "0", ""),
    ("ingest.name_len_max", "100", ""),
    ("ingest.tag_len_max", "101", ""),
    ("ingest.future_max", "0", "0s"),
    ("ingest.rejected_kept", "0", ""),
    ("ingest.ack_timeout", "2s", ""),
    ("ingest.idempotency_keys_max", "0", ""),
    ("ingest.idempotency_retention", "1d", ""),
    ("ingest.dedup.json", "true", ""),
    ("ingest.dedup.line", "false", ""),
    ("ingest.dedup.otlp", "false", ""),
    ("ingest.dedup.remote_write", "false", ""),
    ("ingest.dedup.prometheus_text", "true", ""),
    ("statsd.enabled", "true", ""),
    ("statsd.listen", ":8126", r#""0.0.0.0:8126""#),
    ("statsd.service", "apps", ""),
    ("statsd.flush_interval", "1s", ""),
    ("statsd.expire_after", "5m", ""),
    ("statsd.series_max", "8", ""),
    ("statsd.set_values_max", "9", ""),
    ("statsd.datagram_max", "8KiB", ""),
    ("statsd.receive_buffer", "1MiB", ""),
    ("windows.pane", "5s", ""),
    ("windows.tiers", "10s for 2h,30s for 2d", r#"["10s for 2h", "30s for 2d"]"#),
    ("windows.lateness", "0s", ""),
    ("windows.correction_horizon", "60m", "1h"),
    ("windows.idle_timeout", "1h", ""),
    ("windows.memory_budget", "1.5GB", "1500MB"),
    ("windows.recent", "0", "0B"),
    ("windows.series_max", "300000", ""),
    ("windows.series_per_service_max", "8", ""),
    ("windows.rollup_groups_max", "9", ""),
    ("windows.rollup_members_max", "10", ""),
    ("journal.path", "/journal", ""),
    ("journal.durability", "os", ""),
    ("journal.fsync_interval", "0", "0s"),
    ("journal.segment_size", "1MiB", ""),
    ("journal.size_max", "10GB", ""),
    ("journal.when_full", "refuse", ""),
    ("journal.checkpoint_interval", "5m", ""),
    ("journal.checkpoint_size", "1GiB", ""),
    ("journal.free_space_min", "0", "0B"),
    ("storage.type", "none", ""),
    ("storage.name", "first", ""),
    ("storage.path", "/var/lib/plantd/metrics", ""),
    ("storage.url", "https://influx:8086", r#""https://influx:8086""#),
    ("storage.username", "me", ""),
    ("storage.password", "hush", r#""********""#),
    ("storage.token", "hush", r#""********""#),
    ("storage.timeout", "3s", ""),
    ("storage.ca_file", "/ca.pem", ""),
    ("storage.api", "v2", ""),
    ("storage.database", "other", ""),
    ("storage.org", "us", ""),
    ("storage.bucket", "pail", ""),
    ("storage.precision", "ns", ""),
    ("storage.gzip", "false", ""),
    ("storage.measurement", "metrics", ""),
    ("storage.tags", "a=b", ""),
    ("storage.read_url", "http://prometheus:9090", r#""http://prometheus:9090""#),
    ("storage.protocol", "2.0", r#""2.0""#),
    ("storage.prefix", "plantd_", ""),
    ("storage.headers", "X-Key=hush", ""),
    ("storage.job_name", "job", ""),
    ("storage.scrape_interval", "1m", ""),
    ("storage.metrics_path", "/m", ""),
    ("storage.format", "parquet", ""),
    ("storage.rotation", "100MB", ""),
    ("storage.compression", "false", ""),
    ("storage.size_max", "1TiB", ""),
    ("storage.retention", "forever", ""),
    ("storage.store", "windows,raw", "[windows, raw]"),
    ("storage.window_functions", "sum, p99.9", "[sum, p99.9]"),
    ("storage.batch_size", "3", ""),
    ("storage.flush_interval", "4s", ""),
    ("storage.retry_min", "5ms", ""),
    ("storage.retry_max", "5m", ""),
    ("storage.dead_letter_size_max", "0", "0B"),
    ("collection.system_metrics", "false", ""),
    ("collection.application_metrics", "false", ""),
    ("collection.custom_metrics", "false", ""),
    ("collection.system", "load_average", "[load_average]"),
    ("collection.application", "queue_depth", "[queue_depth]"),
    ("collection.custom", "df", ""),
    ("alerts.enabled", "false", ""),
    ("alerts.webhook_url", "http://receiver/hook", r#""http://receiver/hook""#),
    ("alerts.webhook_timeout", "1s", ""),
    ("alerts.stale", "1d", ""),
    ("alerts.queue_len_max", "5", ""),
    ("alerts.silences_max", "6", ""),
    ("alerts.rules_dir", "config/rules", ""),
    ("alerts.reload_interval", "0s", ""),
    ("alerts.slack", "250ms", ""),
    ("alerts.api_rules", "true", ""),
    ("performance.batch_size", "6", ""),
    ("performance.flush_interval", "2s", ""),
    ("performance.worker_count", "256", ""),
    ("performance.io_threads", "3", ""),
    ("performance.buffer_size", "7", ""),
    ("performance.compression", "true", ""),
];

/// Keys whose values are printed on more than one line.
const BLOCKS: &[&str] = &["service.tags", "storage.tags", "storage.headers", "collection.custom"];

#[test]
fn every_key_has_a_variable() {
    let mut known: Vec<String> = keys().into_iter().map(|key| key.path).collect();
    // The keys of rules and receivers are tested elsewhere; such a list as a whole has no form in the environment.
    let lists = ["alerts.rules", "alerts.receivers", "alerts.silences", "alerts.maintenance", "rollups"];
    known.retain(|path| !path.contains(['[', '*']) && !lists.contains(&path.as_str()));
    let tested: Vec<&str> = EVERY_KEY.iter().map(|(path, ..)| *path).collect();
    assert_eq!(tested, known, "EVERY_KEY is complete and in the order of the print");
    // In producer mode no storage is checked, so that the keys of every type can be set.
    let producer = ("PLANTD_MODULE_METRIC_TYPE".to_string(), "producer".to_string());
    let plain = loaded("service: { type: producer }", &[]);
    for (path, value, shown) in EVERY_KEY {
        let variable = variable_of(path);
        let env = [producer.clone(), (variable.clone(), value.to_string())];
        let (settings, origins) = match settings::load_traced(&Flags::default(), env) {
            Ok(loaded) => loaded,
            // These two must agree, so one of them alone can only be told.
            Err(told) => panic!("{path}: {told}"),
        };
        assert_eq!(origins.of(path), Origin::Variable(variable.as_str().into()));
        assert_ne!(settings, plain, "{path} has an effect");
        if !BLOCKS.contains(path) {
            let key = path.rsplit('.').next().unwrap_or_default();
            let shown = if shown.is_empty() { value } else { shown };
            let line = format!("{key}: {shown}  # {variable}");
            let printed = settings::print(&settings, &origins);
            assert!(printed.lines().any(|printed| printed.trim() == line), "{line}\nis not in\n{printed}");
        }
    }
}

/// Each type takes the keys that it has, and no other.
#[test]
fn every_key_of_every_type_of_storage() {
    for kind in StorageKind::WORDS {
        let kind = StorageKind::from_word(kind).expect("it is one of its words");
        for (path, value, _) in EVERY_KEY.iter().filter(|(path, ..)| path.starts_with("storage.")) {
            let key = &path["storage.".len()..];
            if key == "type" {
                continue;
            }
            let mut env = vec![("PLANTD_MODULE_METRIC_STORAGE_TYPE".to_string(), kind.word().to_string())];
            if kind == StorageKind::Influxdb {
                env.push(("PLANTD_MODULE_METRIC_STORAGE_URL".into(), "http://i:1".into()));
            }
            env.push((variable_of(path), value.to_string()));
            let told = settings::load(&Flags::default(), env).map_err(|errors| errors.to_string());
            match (told, has_key(kind, key)) {
                (Ok(_), true) => {}
                (Err(told), false) => {
                    let why = format!("expected no {key}, as storage.type is {kind}");
                    assert!(told.contains(&why) && !told.contains('\n'), "{told}");
                }
                (told, has) => panic!("{kind}, {key}, which it has: {has}: {told:?}"),
            }
        }
    }
}

#[test]
fn every_documented_variable() {
    type Holds = fn(&Settings) -> bool;
    let cases: &[(&str, &str, Holds)] = &[
        ("TYPE", "producer", |s| s.mode() == Mode::Producer),
        ("INTERVAL", "30s", |s| s.service.interval == seconds(30)),
        ("LOG_LEVEL", "debug", |s| s.logging.level == Level::Debug),
        ("LOG_FORMAT", "json", |s| s.logging.format == LogFormat::Json),
        ("BUS_ENDPOINT", "tcp://a:1,tcp://b:2", |s| s.bus.endpoints == ["tcp://a:1", "tcp://b:2"]),
        ("STORAGE_TYPE", "none", |s| s.storage.primary().is_none()),
        ("STORAGE_URL", "http://influxdb:8086", |s| {
            let storage = &s.storage.0[0];
            let url = storage.url.as_ref().map(|url| url.as_str());
            storage.kind == StorageKind::Influxdb && url == Some("http://influxdb:8086")
        }),
        ("RETENTION", "7d", |s| s.storage.0[0].retention == Some(seconds(7 * 86_400))),
        ("BATCH_SIZE", "50", |s| s.service.batch_size == 50 && s.performance.batch_size == 50),
        ("FLUSH_INTERVAL", "30s", |s| s.performance.flush_interval == seconds(30)),
    ];
    let tested: Vec<&str> = cases.iter().map(|(name, ..)| *name).collect();
    assert_eq!(tested, DOCUMENTED.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    for (name, value, holds) in cases {
        let env = [(format!("{PREFIX}{name}"), value.to_string())];
        let settings = settings::load(&Flags::default(), env).unwrap_or_else(|told| panic!("{told}"));
        assert!(holds(&settings), "{name}: {settings:?}");
        assert!(!holds(&Settings::default()), "{name} has an effect");
    }
    let folder = tempfile::tempdir().expect("a folder for the test");
    let path = folder.path().join("metric.yaml");
    std::fs::write(&path, "service: { name: here }").expect("a file for the test");
    let env = [("PLANTD_MODULE_METRIC_CONFIG".to_string(), path.display().to_string())];
    let settings = settings::load(&Flags::default(), env).unwrap_or_else(|told| panic!("{told}"));
    assert_eq!(settings.service.name, "here");
}

/// Kubernetes adds such variables for a service called plantd-module-metric; what is empty is not set.
#[test]
fn variables_that_are_not_ours() {
    let env = [
        ("PLANTD_MODULE_METRIC_SERVICE_HOST", "10.0.0.1"),
        ("PLANTD_MODULE_METRIC_SERVICE_PORT", "8080"),
        ("PLANTD_MODULE_METRIC_SERVICE_PORT_HTTP", "8080"),
        ("PLANTD_MODULE_METRIC_PORT", "tcp://10.0.0.1:8080"),
        ("PLANTD_MODULE_METRIC_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
        ("PLANTD_MODULE_METRIC_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ("PLANTD_MODULE_METRIC_STORAGE_URL", ""),
        ("PLANTD_BROKER_PORT", "9797"),
        ("HOME", "/root"),
    ];
    assert_eq!(load("", &env), Ok(Settings::default()));
}

#[test]
fn lists_and_entries_by_variable() {
    let yaml = "bus: { topics: [ a, b ] }\n\
                alerts:\n  rules:\n    - { name: r, metric: m, operator: \">\", threshold: 1 }\n";
    let env = [
        ("PLANTD_MODULE_METRIC__BUS__TOPICS__1", "c"),
        ("PLANTD_MODULE_METRIC__BUS__TOPICS__2", "d"),
        ("PLANTD_MODULE_METRIC__ALERTS__RULES__0__THRESHOLD", "2.5"),
        ("PLANTD_MODULE_METRIC__ALERTS__RULES__0__TAGS__HOST", "a*"),
        ("PLANTD_MODULE_METRIC__SERVICE__TAGS", "rack=12, zone=b"),
        ("PLANTD_MODULE_METRIC__COLLECTION__APPLICATION", "queue_depth,http://a:1/metrics"),
        ("PLANTD_MODULE_METRIC__COLLECTION__CUSTOM__0", "echo a,b"),
    ];
    let settings = loaded(yaml, &env);
    assert_eq!(settings.bus.topics, ["a", "c", "d"]);
    let rule = &settings.alerts.rules[0];
    assert_eq!(
        (rule.threshold, rule.tags["host"].as_str(), rule.message.as_str()),
        (2.5.into(), "a*", "m > 2.5")
    );
    let tags: Vec<_> = settings.service.tags.into_iter().collect();
    assert_eq!(tags, [("rack".into(), "12".into()), ("zone".into(), "b".into())]);
    assert_eq!(settings.collection.own_metrics().collect::<Vec<_>>(), ["queue_depth"]);
    assert_eq!(settings.collection.scrapes().next().map(|s| s.url.as_str()), Some("http://a:1/metrics"));
    assert_eq!(settings.collection.custom[0].command, ["/bin/sh", "-c", "echo a,b"]);
}

/// Eleven entries: positions are numbers, `10` comes after `2`.
#[test]
fn positions_are_numbers() {
    let env: Vec<(String, String)> =
        (0..11).map(|at| (format!("PLANTD_MODULE_METRIC__BUS__TOPICS__{at}"), format!("t{at}"))).collect();
    let settings = settings::load(&Flags::default(), env).unwrap_or_else(|told| panic!("{told}"));
    assert_eq!(settings.bus.topics, (0..11).map(|at| format!("t{at}")).collect::<Vec<_>>());
}

#[test]
fn secrets_are_never_shown() {
    let yaml = "service: { type: producer }\n\
                storage:\n  url: http://user:hush1@host:8086/x?token=hush2\n  password: 4711hush3\n  token: hush5\n  headers: { X-Key: hush6 }\n\
                alerts: { webhook_url: \"https://hush4@hooks.example/in\" }\n";
    let (settings, origins) =
        load_flagged(yaml, &[], Flags::default()).unwrap_or_else(|told| panic!("{told}"));
    for shown in [settings::print(&settings, &origins), format!("{settings:?}")] {
        assert!(!shown.contains("hush"), "{shown}");
        assert!(shown.contains("http://********@host:8086/x?********"), "{shown}");
        assert!(shown.contains("https://********@hooks.example/in"), "{shown}");
    }
    assert_eq!(settings.storage.0[0].password.as_ref().map(|secret| secret.reveal()), Some("4711hush3"));
    let url = settings.storage.0[0].url.as_ref().map(|url| url.as_str());
    assert_eq!(url, Some("http://user:hush1@host:8086/x?token=hush2"));
    for yaml in ["storage: { url: \"user:hush@host\" }", "storage: { password: [ hush ] }"] {
        let told = load(yaml, &[]).expect_err("it is wrong");
        assert!(!told.contains("hush"), "{told}");
    }
}

#[test]
fn secrets_from_files() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let path = folder.path().join("secret");
    let file = path.display().to_string();
    std::fs::write(&path, "http://hush@host:1/hush\r\n").expect("a file for the test");
    let password = "PLANTD_MODULE_METRIC__STORAGE__PASSWORD";
    let from_files = [
        (format!("{password}_FILE"), file.clone()),
        ("PLANTD_MODULE_METRIC_STORAGE_URL_FILE".into(), file.clone()),
        ("PLANTD_MODULE_METRIC__ALERTS__WEBHOOK_URL_FILE".into(), file.clone()),
        ("PLANTD_MODULE_METRIC__COLLECTION__APPLICATION__0__URL_FILE".into(), file.clone()),
        ("PLANTD_MODULE_METRIC_TYPE".into(), "producer".into()),
    ];
    let loaded = settings::load_traced(&Flags::default(), from_files);
    let (settings, origins) = loaded.unwrap_or_else(|told| panic!("{told}"));
    let expected = "http://hush@host:1/hush";
    let shown = settings::print(&settings, &origins);
    assert!(!shown.contains("hush"), "{shown}");
    assert_eq!(shown.matches("\"http://********@host:1/********\"").count(), 3, "{shown}");
    assert_eq!(settings.storage.0[0].password.as_ref().map(|secret| secret.reveal()), Some(expected));
    let urls = [&settings.storage.0[0].url, &settings.alerts.webhook_url];
    assert_eq!(urls.map(|url| url.as_ref().map(|url| url.as_str())), [Some(expected); 2]);
    assert!(
        matches!(&settings.collection.application[0], Application::Scrape(s) if s.url.as_str() == expected)
    );
    let second = [
        ("PLANTD_MODULE_METRIC__STORAGE__0__PATH".to_string(), "/data".to_string()),
        ("PLANTD_MODULE_METRIC__STORAGE__1__URL".into(), "http://i:1".into()),
        ("PLANTD_MODULE_METRIC__STORAGE__1__TOKEN_FILE".into(), file.clone()),
    ];
    let settings = settings::load(&Flags::default(), second).unwrap_or_else(|told| panic!("{told}"));
    let token = settings.storage.0[1].token.as_ref().map(|secret| secret.reveal());
    assert_eq!(token, Some(expected));
    let both = [(format!("{password}_FILE"), file), (password.to_string(), "x".into())];
    let told = settings::load(&Flags { mode: Some(Mode::Producer), ..Flags::default() }, both)
        .map_err(|errors| errors.to_string());
    assert_eq!(told, Err(format!("{password}_FILE: expected either this or {password}, found both")));
}
