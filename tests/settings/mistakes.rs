//! Tables of mistakes with the exact text that tells them.

use plantd_metric::settings::{self, Flags, Settings};

use crate::{Env, load, load_flagged, owned};

#[test]
fn mistakes_in_the_file() {
    for (yaml, expected) in FILE_MISTAKES {
        assert_eq!(load(yaml, &[]).map(|_| ()), Err(expected.to_string()), "{yaml}");
    }
}

const FILE_MISTAKES: &[(&str, &str)] = &[
    // keys
    ("bus:\n  endpont: x\n", "metric.yaml:2:3: bus.endpont: unrecognised key; did you mean endpoint?"),
    ("servce: {}\n", "metric.yaml:1:1: servce: unrecognised key; did you mean service?"),
    (
        "logging: { colour: true }\n",
        "metric.yaml:1:12: logging.colour: unrecognised key; expected one of level, format",
    ),
    (
        "bus:\n  endpoint: tcp://a:1\n  endpoints: [ tcp://b:2 ]\n",
        "metric.yaml:3:3: bus.endpoint: expected one of endpoint and endpoints, found both",
    ),
    (
        "logging:\n  level: info\n  level: debug\n",
        "metric.yaml:3:3: logging.level: expected each key once, found it here and at metric.yaml:2:3",
    ),
    // types
    (
        "logging: info\n",
        "metric.yaml:1:10: logging: expected a mapping with the keys level, format, found info",
    ),
    ("- service\n", "metric.yaml:1:1: expected a mapping of sections, found a list"),
    (
        "logging:\n  level: loud\n",
        "metric.yaml:2:10: logging.level: expected one of off, error, warn, info, debug, trace, found loud",
    ),
    (
        "logging:\n  level: inof\n",
        "metric.yaml:2:10: logging.level: expected one of off, error, warn, info, debug, trace, found inof; \
         did you mean info?",
    ),
    (
        "service:\n  interval: 10\n",
        "metric.yaml:2:13: service.interval: expected a duration from 10ms to 1d, such as 10s, 5m or 1h30m, found 10",
    ),
    (
        "service:\n  interval: \"2d\"\n",
        "metric.yaml:2:13: service.interval: expected a duration from 10ms to 1d, such as 10s, 5m or 1h30m, \
         found \"2d\"",
    ),
    (
        "service:\n  interval: [ 10s ]\n",
        "metric.yaml:2:13: service.interval: expected a duration from 10ms to 1d, such as 10s, 5m or 1h30m, \
         found a list",
    ),
    (
        "http:\n  body_max: 5 apples\n",
        "metric.yaml:2:13: http.body_max: expected a size from 1KiB to 1GiB, such as 64MiB or 2.5GB, found 5 apples",
    ),
    (
        "performance:\n  worker_count: 0\n",
        "metric.yaml:2:17: performance.worker_count: expected a whole number from 1 to 256, found 0",
    ),
    (
        "performance:\n  worker_count: \"4\"\n",
        "metric.yaml:2:17: performance.worker_count: expected a whole number from 1 to 256, found \"4\"",
    ),
    (
        "performance:\n  compression: yes\n",
        "metric.yaml:2:16: performance.compression: expected true or false, found yes",
    ),
    (
        "storage:\n  path: 5\n",
        "metric.yaml:2:9: storage.path: expected a text, found 5; in quotes it is a text",
    ),
    ("storage:\n  path: \"\"\n", "metric.yaml:2:9: storage.path: expected a text, found \"\""),
    (
        "storage:\n  rotation: weekly\n",
        "metric.yaml:2:13: storage.rotation: expected daily, hourly or a size of at least 4KiB such as 64MiB, \
         found weekly",
    ),
    (
        "storage:\n  retention: never\n",
        "metric.yaml:2:14: storage.retention: expected forever or a duration from 1m to 36500d, such as 10s, 5m or \
         1h30m, found never",
    ),
    (
        "storage:\n  url: localhost:8086\n",
        "metric.yaml:2:8: storage.url: expected an address such as http://localhost:8086, found one with no http:// \
         or https:// before it",
    ),
    (
        "http:\n  listen: localhost\n",
        "metric.yaml:2:11: http.listen: expected an address to listen on such as 127.0.0.1:8080, localhost:8080 or \
         :8080, found localhost",
    ),
    (
        "bus:\n  endpoint: localhost:11001\n",
        "metric.yaml:2:13: bus.endpoint[0]: expected an endpoint such as tcp://localhost:11001, \
         found localhost:11001",
    ),
    (
        "collection:\n  system: [ cpu_usage, disc_usage ]\n",
        "metric.yaml:2:24: collection.system[1]: expected one of cpu_usage, memory_usage, disk_usage, network_io, \
         load_average, process_count, found disc_usage; did you mean disk_usage?",
    ),
    (
        "collection:\n  application: [ localhost:9100/metrics ]\n",
        "metric.yaml:2:18: collection.application[0]: expected the name of a metric, an address such as \
         http://localhost:9100/metrics, or a mapping with url, found localhost:9100/metrics",
    ),
    (
        "collection:\n  custom:\n    - timeout: 5s\n",
        "metric.yaml:3:7: collection.custom[0].command: expected this key, found none",
    ),
    (
        "collection:\n  custom: [ [] ]\n",
        "metric.yaml:2:13: collection.custom[0]: expected a mapping with the keys command, service, tags, interval, \
         timeout, output_max, found a list",
    ),
    (
        "windows:\n  tiers: [ 10s ]\n",
        "metric.yaml:2:12: windows.tiers[0]: expected a tier such as 10s for 1h, found 10s",
    ),
    (
        "service:\n  tags: { rack: 12 }\n",
        "metric.yaml:2:17: service.tags.rack: expected a text, found 12; in quotes it is a text",
    ),
    (
        "alerts:\n  rules:\n    - name: a\n      metric: b\n      threshold: .nan\n      operator: \"=>\"\n",
        "metric.yaml:5:18: alerts.rules[0].threshold: expected a finite number, found .nan\n\
         metric.yaml:6:17: alerts.rules[0].operator: expected one of >, >=, <, <=, ==, !=, outside, inside, found \"=>\"; \
         did you mean >=?",
    ),
    (
        "alerts:\n  rules:\n    - name: a\n",
        "metric.yaml:3:7: alerts.rules[0].metric: expected this key, found none\n\
         metric.yaml:3:7: alerts.rules[0].operator: expected this key, found none\n\
         metric.yaml:3:7: alerts.rules[0].threshold: expected this key, found none",
    ),
    // combinations
    (
        "windows:\n  lateness: 2h\n",
        "metric.yaml:2:13: windows.lateness: expected at most 1h, which the first tier holds, found 2h",
    ),
    (
        "windows:\n  correction_horizon: 10s\n",
        "metric.yaml:2:23: windows.correction_horizon: expected at least lateness, 30s, found 10s",
    ),
    (
        "windows:\n  correction_horizon: 13h\n",
        "metric.yaml:2:23: windows.correction_horizon: expected at most 12h, which the last tier holds, found 13h",
    ),
    (
        "windows:\n  pane: 5s\n  tiers: [ 10s for 1h ]\n",
        "metric.yaml:2:9: windows.pane: expected the width of the first tier, 10s, found 5s",
    ),
    (
        "windows:\n  tiers: [ 10s for 1h, 1m for 10s ]\n",
        "metric.yaml:2:10: windows.tiers: tier 2: expected a retention of at least 1m, found 10s",
    ),
    (
        "windows:\n  tiers: [ 10s for 1h, 15s for 2h ]\n",
        "metric.yaml:2:10: windows.tiers: tier 2: expected a multiple of 10s, found 15s",
    ),
    (
        "windows:\n  tiers: [ 10s for 1h, 20s for 1h ]\n",
        "metric.yaml:2:10: windows.tiers: tier 2: expected a retention of more than 1h, found 1h",
    ),
    ("windows:\n  tiers: []\n", "metric.yaml:2:10: windows.tiers: expected at least one tier, found none"),
    (
        "windows:\n  series_max: 10\n  series_per_service_max: 11\n",
        "metric.yaml:3:27: windows.series_per_service_max: expected at most series_max, 10, found 11",
    ),
    (
        "http:\n  header_timeout: 1m\n",
        "metric.yaml:2:19: http.header_timeout: expected header_timeout within request_timeout, found 1m and 30s",
    ),
    (
        "bus:\n  endpoint: tcp://*:11001\n",
        "metric.yaml:2:13: bus.endpoint: expected an address to connect to, found tcp://*:11001; bind is for \
         listening",
    ),
    (
        "bus: { endpoint: [] }\nhttp: { enabled: false }\n",
        "metric.yaml:1:18: bus.endpoint: expected a source of samples, found no endpoint, no bind, and \
         http.enabled: false",
    ),
    (
        "service: { type: producer }\nbus: { publish_endpoint: [] }\n",
        "metric.yaml:2:26: bus.publish_endpoint: expected where to publish, found no publish_endpoint and no \
         publish_bind",
    ),
    (
        "bus:\n  embedded: { enabled: true, backend: tcp://127.0.0.1:13000 }\n",
        "metric.yaml:2:39: bus.embedded.backend: expected two addresses, found tcp://127.0.0.1:13000 for both",
    ),
    (
        "storage:\n  type: file\n  url: http://localhost:8086\n",
        "metric.yaml:3:8: storage.url: expected no url, as storage.type is file (metric.yaml:2:9), found one",
    ),
    (
        "storage:\n  type: influxdb\n",
        "metric.yaml:2:9: storage.type: expected storage.url for influxdb, found none",
    ),
    (
        "storage:\n  url: http://localhost:8086\n  format: csv\n",
        "metric.yaml:3:11: storage.format: expected no format, as storage.type is influxdb (implied by storage.url), \
         found one",
    ),
    (
        "alerts:\n  rules:\n    - { name: a, metric: m, operator: \">\", threshold: 1 }\n    \
         - { name: a, metric: m, operator: \"<\", threshold: 1 }\n",
        "metric.yaml:4:15: alerts.rules[1].name: expected names that differ, found \"a\" here and at metric.yaml:3:7",
    ),
    (
        "rollups:\n  - { name: a, metric: m, window: 15s }\n",
        "metric.yaml:2:35: rollups[0].window: expected the window to be a multiple of 10 s, found 15 s",
    ),
    (
        "rollups:\n  - { name: a, metric: m, every: 2m }\n",
        "metric.yaml:2:34: rollups[0].every: expected a hop of at most the window's 60 s, found 120 s",
    ),
    (
        "rollups:\n  - { name: a, metric: m, functions: [mode] }\n  - { name: a, metric: m, by: [x], without: [y] }\n",
        "metric.yaml:2:38: rollups[0].functions: expected one of avg, count, first, increase, last, max, min, rate, \
         stddev, sum, median, pNN (such as p50, p99.9), found \"mode\"\n\
         metric.yaml:3:13: rollups[1].name: expected names that differ, found \"a\" twice\n\
         metric.yaml:3:45: rollups[1].without: expected by or without, found both",
    ),
    (
        "rollups:\n  - { name: a, metric: m, window: 12h, correct_for: 10s, over: { metric: n } }\n",
        "metric.yaml:2:35: rollups[0].window: expected corrections for at least the lateness of 30 s, found 10 s",
    ),
    // YAML itself
    ("a: b\n---\nc: d\n", "metric.yaml:3:1: expected one YAML document, found another one"),
    ("? [ a ]\n: b\n", "metric.yaml:1:3: expected a key, found a list, mapping or alias"),
];

/// All of them are told at once: by line, then variables, then flags.
#[test]
fn many_mistakes_at_once() {
    let yaml =
        "bus:\n  topics: [ 5 ]\nwindows:\n  lateness: soon\n  correction_horizon: 1s\nperfromance: {}\n";
    let env = [("PLANTD_MODULE_METRIC_LOG_LEVEL", "loud"), ("PLANTD_MODULE_METRIC_LOGLEVEL", "x")];
    let flags = Flags { listen: Some("nowhere".into()), ..Flags::default() };
    let expected = [
        "metric.yaml:2:13: bus.topics[0]: expected a topic such as metrics.*, or * for all, found 5; in quotes it \
         is a text",
        "metric.yaml:4:13: windows.lateness: expected a duration from 0s to 30d, such as 10s, 5m or 1h30m, found \
         soon",
        "metric.yaml:6:1: perfromance: unrecognised key; did you mean performance?",
        "PLANTD_MODULE_METRIC_LOGLEVEL: unrecognised variable; did you mean PLANTD_MODULE_METRIC_LOG_LEVEL?",
        "PLANTD_MODULE_METRIC_LOG_LEVEL: logging.level: expected one of off, error, warn, info, debug, trace, found \
         \"loud\"",
        "--listen: http.listen: expected an address to listen on such as 127.0.0.1:8080, localhost:8080 or :8080, \
         found \"nowhere\"",
    ];
    assert_eq!(load_flagged(yaml, &env, flags).map(|_| ()), Err(expected.join("\n")));
}

#[test]
fn mistakes_in_the_environment() {
    for (env, expected) in ENV_MISTAKES {
        assert_eq!(load("", env).map(|_| ()), Err(expected.to_string()), "{env:?}");
    }
}

const ENV_MISTAKES: &[(Env, &str)] = &[
    (
        &[("PLANTD_MODULE_METRIC_TYPE", "observer")],
        "PLANTD_MODULE_METRIC_TYPE: service.type: expected one of consumer, producer, standalone, found \"observer\"",
    ),
    (
        &[("PLANTD_MODULE_METRIC_INTERVALL", "5s")],
        "PLANTD_MODULE_METRIC_INTERVALL: unrecognised variable; did you mean PLANTD_MODULE_METRIC_INTERVAL?",
    ),
    (
        &[("PLANTD_MODULE_METRIC_STORAGE_PASSWORD", "x")],
        "PLANTD_MODULE_METRIC_STORAGE_PASSWORD: unrecognised variable; did you mean \
         PLANTD_MODULE_METRIC__STORAGE__PASSWORD?",
    ),
    (
        &[("PLANTD_MODULE_METRIC_GARDEN", "x")],
        "PLANTD_MODULE_METRIC_GARDEN: unrecognised variable; expected a documented one, or \
         PLANTD_MODULE_METRIC__SECTION__KEY",
    ),
    (
        &[("PLANTD_MODULE_METRIC__BUS__ENDPONT", "x")],
        "PLANTD_MODULE_METRIC__BUS__ENDPONT: bus.endpont: unrecognised key; did you mean \
         PLANTD_MODULE_METRIC__BUS__ENDPOINT?",
    ),
    (
        &[("PLANTD_MODULE_METRIC__COLLECTION__CUSTOM__0__COMMND", "x")],
        "PLANTD_MODULE_METRIC__COLLECTION__CUSTOM__0__COMMND: collection.custom[0].commnd: unrecognised key; did \
         you mean PLANTD_MODULE_METRIC__COLLECTION__CUSTOM__0__COMMAND?\n\
         PLANTD_MODULE_METRIC__COLLECTION__CUSTOM__0__COMMND: collection.custom[0].command: expected this key, \
         found none",
    ),
    (
        &[("PLANTD_MODULE_METRIC__BUS__TOPICS__2", "x")],
        "PLANTD_MODULE_METRIC__BUS__TOPICS__2: bus.topics[2]: expected a position up to 0, as the list has 0 entries, \
         found 2",
    ),
    (
        &[("PLANTD_MODULE_METRIC__PERFORMANCE__WORKER_COUNT", "many")],
        "PLANTD_MODULE_METRIC__PERFORMANCE__WORKER_COUNT: performance.worker_count: expected a whole number from 1 \
         to 256, found \"many\"",
    ),
    (
        &[("PLANTD_MODULE_METRIC_STORAGE_TYPE", "influxdb")],
        "PLANTD_MODULE_METRIC_STORAGE_TYPE: storage.type: expected storage.url for influxdb, found none",
    ),
    (
        &[("PLANTD_MODULE_METRIC__STORAGE__PASSWORD_FILE", "/nowhere/at/all")],
        "PLANTD_MODULE_METRIC__STORAGE__PASSWORD_FILE: storage.password: expected a file that can be read, found \
         /nowhere/at/all: No such file or directory (os error 2)",
    ),
    (
        &[("PLANTD_MODULE_METRIC__LOGGING__FORMAT_FILE", "/etc/hostname")],
        "PLANTD_MODULE_METRIC__LOGGING__FORMAT_FILE: logging.format_file: unrecognised key; expected one of level, \
         format",
    ),
    (
        &[("PLANTD_MODULE_METRIC__SERVICE__TAGS", "a=1,b")],
        "PLANTD_MODULE_METRIC__SERVICE__TAGS: service.tags: expected name=text, separated by commas, found \"b\"",
    ),
];

#[test]
fn the_file_that_is_not_there() {
    let flags = Flags { config: Some("/nowhere/metric.yaml".into()), ..Flags::default() };
    let why = "expected a configuration file that can be read, found /nowhere/metric.yaml: No such file or directory \
               (os error 2)";
    let told = settings::load(&flags, []).map_err(|errors| errors.to_string());
    assert_eq!(told, Err(format!("--config: {why}")));
    let env = owned(&[("PLANTD_MODULE_METRIC_CONFIG", "/nowhere/metric.yaml")]);
    let told = settings::load(&Flags::default(), env).map_err(|errors| errors.to_string());
    assert_eq!(told, Err(format!("PLANTD_MODULE_METRIC_CONFIG: {why}")));
}

/// Files that would cost a careless reader its stack or its memory are told.
#[test]
fn hostile_files() {
    let mut laughs = "a0: &a0 [ x, x, x, x, x, x, x, x, x, x ]\n".to_string();
    for at in 1..12 {
        let repeated = vec![format!("*a{}", at - 1); 10].join(", ");
        laughs += &format!("a{at}: &a{at} [ {repeated} ]\n");
    }
    for (name, yaml, part) in [
        ("laughs", laughs, "expected at most 100000 values, found more"),
        ("deep lists", "[".repeat(100_000), "expected YAML, found: "),
        (
            "deep mappings",
            (0..200).map(|depth| " ".repeat(depth) + "a:\n").collect(),
            "expected YAML, found: ",
        ),
        ("open quote", "service: \"".into(), "expected YAML, found: "),
        ("tab", "service:\n\ttype: consumer\n".into(), "expected YAML, found: "),
        ("unknown alias", "service: *nothing\n".into(), "expected YAML, found: "),
    ] {
        let told = load(&yaml, &[]).expect_err(name);
        assert!(told.starts_with("metric.yaml:") && told.contains(part), "{name}: {told}");
    }
    for yaml in ["", "# nothing\n", "---\n", "service:\nbus:\n  topics:\n"] {
        assert_eq!(load(yaml, &[]), Ok(Settings::default()), "{yaml:?}");
    }
}

/// Wherever a file breaks off, or one of its characters is another, it is read or its mistakes have a place.
#[test]
fn damaged_files() {
    let yaml = std::fs::read_to_string(crate::repository("config/metric.yaml")).expect("it is there");
    let yaml = crate::shipped::switched_on(&yaml);
    let env = [("PLANTD_MODULE_METRIC_TYPE", "producer")];
    let mut told_count = 0;
    for at in (0..yaml.len()).step_by(61).filter(|at| yaml.is_char_boundary(*at)) {
        let mut damaged = vec![yaml[..at].to_string()];
        damaged.extend(
            [":", "*", "\"", "- ", "{", "\n"].map(|odd| format!("{}{odd}{}", &yaml[..at], &yaml[at..])),
        );
        for damaged in damaged {
            if let Err(told) = load(&damaged, &env) {
                assert!(told.lines().all(|line| line.starts_with("metric.yaml:")), "{at}: {told}");
                told_count += 1;
            }
        }
    }
    assert!(told_count > 100, "{told_count}");
}
