//! What stands above what, defaults that follow other keys, and the print that reads back.

use plantd_metric::settings::{self, Flags, Mode, Settings, StorageKind, Tier};

use crate::shipped::switched_on;
use crate::{Env, load_flagged, loaded, repository, seconds};

#[test]
fn flags_above_environment_above_file_above_defaults() {
    let yaml =
        "service: { type: producer }\nhttp: { listen: \"127.0.0.1:1\" }\nbus: { endpoints: tcp://f:1 }\n";
    let documented = ("PLANTD_MODULE_METRIC_TYPE", "standalone");
    let nested = ("PLANTD_MODULE_METRIC__SERVICE__TYPE", "producer");
    let listen = ("PLANTD_MODULE_METRIC__HTTP__LISTEN", "127.0.0.1:2");
    let flags = Flags { mode: Some(Mode::Consumer), listen: Some(":3".into()), ..Flags::default() };
    let none = Flags::default();
    let cases: &[(Env, &Flags, Mode, &str)] = &[
        (&[], &none, Mode::Producer, "127.0.0.1:1"),
        (&[documented, listen], &none, Mode::Standalone, "127.0.0.1:2"),
        (&[documented, nested], &none, Mode::Producer, "127.0.0.1:1"),
        (&[documented, listen], &flags, Mode::Consumer, "0.0.0.0:3"),
    ];
    for (env, flags, mode, address) in cases {
        let (settings, _) = load_flagged(yaml, env, (*flags).clone()).unwrap_or_else(|told| panic!("{told}"));
        assert_eq!(
            (settings.mode(), settings.http.listen.to_string().as_str()),
            (*mode, *address),
            "{env:?}"
        );
    }
    let settings = loaded(yaml, &[("PLANTD_MODULE_METRIC_BUS_ENDPOINT", "tcp://e:2")]);
    assert_eq!(settings.bus.endpoints, ["tcp://e:2"], "the file has another spelling of the key");
    let settings =
        loaded("storage: { url: \"http://a:1\" }", &[("PLANTD_MODULE_METRIC_STORAGE_TYPE", "file")]);
    assert_eq!(settings.storage.0[0].kind, StorageKind::File, "a type sets a url below it aside");
}

/// What a bus and an API come out as.
#[derive(Debug, PartialEq)]
struct Outcome<'a> {
    connect: &'a [&'a str],
    bind: &'a [&'a str],
    publish: &'a [&'a str],
    publish_bind: &'a [&'a str],
    embedded: bool,
    http: bool,
}

const DEFAULT: &[&str] = &["tcp://localhost:11001"];
const CONSUMER: Outcome =
    Outcome { connect: DEFAULT, bind: &[], publish: DEFAULT, publish_bind: &[], embedded: false, http: true };
const STANDALONE: Outcome = Outcome { connect: &[], publish: &[], embedded: true, ..CONSUMER };

const FOLLOWING: &[(&str, Outcome)] = &[
    ("{}", CONSUMER),
    ("service: { type: producer }", Outcome { http: false, ..CONSUMER }),
    ("{ service: { type: producer }, http: { listen: \":1\" } }", CONSUMER),
    ("service: { type: standalone }", STANDALONE),
    (
        "{ service: { type: standalone }, bus: { endpoint: \"tcp://a:1\" } }",
        Outcome { connect: &["tcp://a:1"], ..STANDALONE },
    ),
    ("{ service: { type: standalone }, bus: { embedded: { enabled: false } } }", CONSUMER),
    ("bus: { embedded: { enabled: true } }", STANDALONE),
    (
        "bus: { bind: \"tcp://*:1\" }",
        Outcome {
            connect: &[],
            bind: &["tcp://*:1"],
            publish: &[],
            publish_bind: &["tcp://*:1"],
            ..CONSUMER
        },
    ),
    (
        "bus: { endpoint: [ \">tcp://a:1\", \"@tcp://*:2\" ] }",
        Outcome {
            connect: &["tcp://a:1"],
            bind: &["tcp://*:2"],
            publish: &["tcp://a:1"],
            publish_bind: &["tcp://*:2"],
            ..CONSUMER
        },
    ),
    (
        "bus: { publish_bind: \"tcp://*:1\" }",
        Outcome { publish: &[], publish_bind: &["tcp://*:1"], ..CONSUMER },
    ),
    (
        "bus: { publish_endpoint: \"@tcp://*:1\" }",
        Outcome { publish: &[], publish_bind: &["tcp://*:1"], ..CONSUMER },
    ),
];

#[test]
fn bus_and_api_follow_the_mode() {
    for (yaml, expected) in FOLLOWING {
        let Settings { bus, http, .. } = loaded(yaml, &[]);
        let texts = |texts: &[String]| -> Vec<&'static str> {
            texts.iter().map(|text| &*Box::leak(text.clone().into_boxed_str())).collect()
        };
        let outcome = Outcome {
            connect: &texts(&bus.endpoints),
            bind: &texts(&bus.bind),
            publish: &texts(&bus.publish_endpoints),
            publish_bind: &texts(&bus.publish_bind),
            embedded: bus.embedded.enabled,
            http: http.enabled,
        };
        assert_eq!(&outcome, expected, "{yaml}");
    }
}

#[test]
fn windows_follow_the_pane_or_the_tiers() {
    let tier = |width, retention| Tier { width: seconds(width), retention: seconds(retention) };
    let windows = loaded("windows: { pane: 30s, series_max: 7 }", &[]).windows;
    assert_eq!(windows.tiers, [tier(30, 10_800), tier(180, 129_600)]);
    assert_eq!(windows.series_per_service_max, 7);
    let windows = loaded("windows: { pane: 1s }", &[]).windows;
    assert_eq!(windows.tiers, [tier(1, 3600), tier(6, 43_200)]);
    let windows = loaded("windows: { tiers: [ { width: 5s, retention: 1h } ] }", &[]).windows;
    assert_eq!((windows.pane, windows.tiers), (seconds(5), vec![tier(5, 3600)]));
}

#[test]
fn the_print_reads_back_as_the_same() {
    let shipped = std::fs::read_to_string(repository("config/metric.yaml")).expect("it is there");
    let odd = r#"
service: { name: "5", host: "true", tags: { "a b": "x # \"y\"\n\té\\", Upper: "-" } }
bus: { topics: [ "*", "null", "~", "a: b", "[x", "1e3", "a, b", "é" ] }
alerts: { rules: [ { name: "%", metric: m, operator: "!=", threshold: -1.5e300, service: "*" } ] }
"#;
    for yaml in [shipped.as_str(), odd, "service: { type: standalone }", "bus: { bind: \"tcp://*:1\" }"] {
        round_trip(yaml, &[]);
    }
    let producer = ("PLANTD_MODULE_METRIC_TYPE", "producer");
    let masked = ["PASSWORD", "TOKEN"].map(|key| format!("PLANTD_MODULE_METRIC__STORAGE__{key}"));
    let [password, token] = masked.each_ref().map(|variable| (variable.as_str(), "********"));
    let headers = ("PLANTD_MODULE_METRIC__STORAGE__HEADERS", "X-Scope-OrgID=********");
    let secret = ("PLANTD_MODULE_METRIC__ALERTS__RECEIVERS__0__HMAC_SECRET", "********");
    let receiver = ("PLANTD_MODULE_METRIC__ALERTS__RECEIVERS__0__HEADERS", "Authorization=********");
    round_trip(&switched_on(&shipped), &[producer, password, token, headers, secret, receiver]);
    for entry in std::fs::read_dir(repository("config/examples")).expect("it is there") {
        let path = entry.expect("it can be read").path();
        round_trip(&std::fs::read_to_string(path).expect("it can be read"), &[]);
    }
}

fn round_trip(yaml: &str, env: Env) {
    let loaded = load_flagged(yaml, env, Flags::default());
    let (settings, origins) = loaded.unwrap_or_else(|told| panic!("{told}\n{yaml}"));
    let printed = settings::print(&settings, &origins);
    let again = load_flagged(&printed, &[], Flags::default());
    let (again, _) = again.unwrap_or_else(|told| panic!("{told}\n{printed}"));
    assert_eq!(again, settings, "{printed}");
}
