//! Receivers of alerts, silences and maintenance windows: every key, what each type has, and mistakes.

use plantd_metric::settings::receivers::has_key;
use plantd_metric::settings::{self, Day, Flags, ReceiverKind};

use crate::{load, load_flagged, loaded, seconds};

const FULL: &str = r#"
alerts:
  queue_len_max: 77
  receivers:
    - name: pager
      type: webhook
      enabled: false
      url: "https://hush1@hooks.example/hush?hush2"
      timeout: 3s
      headers: { Authorization: hush3 }
      hmac_secret: hush4
      tls: { ca_file: /ca.pem, cert_file: /c.pem, key_file: /k.pem, insecure_skip_verify: true, server_name: am }
      match: { rule: "high_*", severity: [ critical, warning ], service: "org.*", tags: { host: "db-*" } }
      group_by: [ rule, tag.host ]
      group_wait: 30s
      group_interval: 5m
      repeat_interval: 4h
      send_resolved: false
      send_retracted: false
      queue_len_max: 5
      give_up_after: 2h
    - { name: am, type: alertmanager, urls: [ "http://a:9093", "http://b:9093/am" ], resend_delay: 30s }
    - { name: run, type: command, command: [ /bin/on-alert, --json ], concurrency_max: 3 }
  silences:
    - { match: { rule: r }, starts_at: "2026-01-31T22:00:00+01:00", ends_at: "2026-02-01T00:00:00Z", comment: why }
  maintenance:
    - { match: { severity: warning }, days: [ sat, sun ], from: "22:30", to: "04:00:05", time_zone: "-02:30" }
    - { match: { rule: "*" }, from: "00:00", to: "24:00" }
"#;

#[test]
fn every_key_is_read_and_printed_so_that_it_reads_back() {
    let (settings, origins) =
        load_flagged(FULL, &[], Flags::default()).unwrap_or_else(|told| panic!("{told}"));
    let alerts = &settings.alerts;
    let [pager, am, run] = alerts.receivers.as_slice() else { panic!("three receivers") };
    assert_eq!((pager.kind, pager.enabled, pager.timeout), (ReceiverKind::Webhook, false, seconds(3)));
    assert_eq!(pager.hmac_secret.as_ref().map(|secret| secret.reveal()), Some("hush4"));
    assert_eq!(pager.headers["Authorization"].reveal(), "hush3");
    assert_eq!(
        (pager.wanted.rules.as_slice(), pager.wanted.severities.len()),
        (&["high_*".to_string()][..], 2)
    );
    assert_eq!((pager.group_wait, pager.group_interval), (seconds(30), seconds(300)));
    assert_eq!((pager.repeat_interval, pager.queue_len_max), (seconds(4 * 3600), 5));
    assert_eq!((am.addresses().count(), am.resend_delay, am.queue_len_max), (2, seconds(30), 77));
    assert_eq!((run.command.len(), run.concurrency_max, run.send_resolved), (2, 3, true));
    let hour_ns = 3_600_000_000_000;
    let silence = &alerts.silences[0];
    assert_eq!(silence.ends_at_ns - silence.starts_at_ns.expect("it is given"), 3 * hour_ns);
    let [night, always] = alerts.maintenance.as_slice() else { panic!("two windows") };
    assert_eq!(
        (night.days.as_slice(), night.from_s, night.to_s),
        (&[Day::Saturday, Day::Sunday][..], 81_000, 14_405)
    );
    assert_eq!((night.offset_s, always.days.len(), always.to_s), (-9000, 7, 86_400));

    let printed = settings::print(&settings, &origins);
    assert!(!printed.contains("hush1") && !printed.contains("hush2"), "{printed}");
    assert!(
        !printed.contains("hush3")
            && !printed.contains("hush4")
            && !format!("{settings:?}").contains("hush4")
    );
    let mut again = loaded(&printed, &[]);
    let mut masked = settings.clone();
    for settings in [&mut again, &mut masked] {
        let pager = &mut settings.alerts.receivers[0];
        (pager.url, pager.hmac_secret) = (None, None);
        pager.headers.clear();
    }
    assert_eq!(again, masked, "{printed}");
}

#[test]
fn a_secret_may_come_from_a_file() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let path = folder.path().join("secret");
    std::fs::write(&path, "hush\n").expect("a file for the test");
    let file = path.display().to_string();
    let yaml = "alerts: { receivers: [ { name: a, type: webhook, url: \"http://a/\" } ] }";
    let settings = loaded(yaml, &[("PLANTD_MODULE_METRIC__ALERTS__RECEIVERS__0__HMAC_SECRET_FILE", &file)]);
    let secret = settings.alerts.receivers[0].hmac_secret.as_ref().map(|secret| secret.reveal());
    assert_eq!(secret, Some("hush"));
}

/// A value for every key that not every type has.
const TYPED: &[(&str, &str)] = &[
    ("url", "\"http://a/\""),
    ("urls", "[ \"http://a/\", \"http://b/\" ]"),
    ("headers", "{ a: b }"),
    ("tls", "{ ca_file: /ca.pem }"),
    ("hmac_secret", "s"),
    ("command", "[ a ]"),
    ("concurrency_max", "2"),
    ("resend_delay", "2s"),
    ("group_by", "[ rule ]"),
    ("group_wait", "1s"),
    ("group_interval", "1s"),
    ("repeat_interval", "1h"),
];

#[test]
fn each_type_takes_the_keys_that_it_has() {
    for word in ReceiverKind::WORDS {
        let kind = ReceiverKind::from_word(word).expect("it is one of its words");
        let place =
            if kind == ReceiverKind::Command { ("command", "[ x ]") } else { ("url", "\"http://x/\"") };
        for (key, value) in TYPED {
            let mut keys = vec![("name", "r"), ("type", *word), (*key, *value)];
            if *key != place.0 {
                keys.push(place);
            }
            let keys: Vec<String> = keys.into_iter().map(|(key, value)| format!("{key}: {value}")).collect();
            let yaml = format!("alerts:\n  receivers:\n    - {{ {} }}\n", keys.join(", "));
            match (load(&yaml, &[]), has_key(kind, key)) {
                (Ok(_), true) => {}
                (Err(told), false) => {
                    let why = format!("expected no {key}, as alerts.receivers[0].type is {word}");
                    assert!(told.contains(&why) && !told.contains('\n'), "{told}");
                }
                (told, has) => panic!("{word}, {key}, which it has: {has}: {:?}", told.map(|_| ())),
            }
        }
    }
}

#[test]
fn mistakes() {
    for (alerts, expected) in [
        (
            "receivers: [ { type: webhook, url: \"http://a/\" } ]",
            "1:24: alerts.receivers[0].name: expected this key, found none",
        ),
        (
            "receivers: [ { name: \"a b\", type: webhook, url: \"http://a/\" } ]",
            "1:32: alerts.receivers[0].name: expected a name of up to 64 letters, digits, - and _, found \"a b\"",
        ),
        (
            "receivers: [ { name: a, type: webhok } ]",
            "1:41: alerts.receivers[0].type: expected one of webhook, alertmanager, command, found webhok; did you mean webhook?",
        ),
        (
            "receivers: [ { name: a, type: webhook } ]",
            "1:24: alerts.receivers[0]: expected an address, found none",
        ),
        (
            "receivers: [ { name: a, type: alertmanager } ]",
            "1:24: alerts.receivers[0]: expected an address, in url or urls, found none",
        ),
        (
            "receivers: [ { name: a, type: command } ]",
            "1:24: alerts.receivers[0]: expected a program to run, found none",
        ),
        (
            "receivers: [ { name: a, type: command, command: x }, { name: a, type: command, command: x } ]",
            "1:72: alerts.receivers[1].name: expected names that differ, found \"a\" twice",
        ),
        (
            "webhook_url: \"http://a/\", receivers: [ { name: webhook, type: command, command: x } ]",
            "1:58: alerts.receivers[0].name: expected names that differ, found \"webhook\", which alerts.webhook_url stands for",
        ),
        (
            "receivers: [ { name: a, type: alertmanager, urls: [ \"http://a/\", \"http://a/\" ] } ]",
            "1:61: alerts.receivers[0].urls: expected addresses that differ, found http://a/ twice",
        ),
        (
            "receivers: [ { name: a, type: webhook, url: \"http://a/\", tls: { key_file: k } } ]",
            "1:85: alerts.receivers[0].tls.key_file: expected cert_file and key_file, found one of them",
        ),
        (
            "receivers: [ { name: a, type: webhook, url: \"http://a/\", group_by: [ host ] } ]",
            "1:80: alerts.receivers[0].group_by[0]: expected rule, severity, service, metric or tag.NAME, found host",
        ),
        (
            "receivers: [ { name: a, type: webhook, url: \"http://a/\", group_interval: 2m, repeat_interval: 1m } ]",
            "1:105: alerts.receivers[0].repeat_interval: expected at least group_interval, 2m, found 1m",
        ),
        (
            "silences: [ { match: {}, ends_at: \"2026-01-01T00:00:00Z\" } ]",
            "1:32: alerts.silences[0].match: expected at least one key, found none; for all alerts there is rule: \"*\"",
        ),
        (
            "silences: [ { match: { rule: r }, ends_at: tomorrow } ]",
            "1:54: alerts.silences[0].ends_at: expected a time such as 2026-01-31T22:00:00Z or 2026-01-31T22:00:00+01:00, found tomorrow",
        ),
        (
            "silences: [ { match: { rule: r }, starts_at: \"2026-01-02T00:00:00Z\", ends_at: \"2026-01-01T00:00:00Z\" } ]",
            "1:89: alerts.silences[0].ends_at: expected a time after starts_at, found none after it",
        ),
        (
            "maintenance: [ { match: { rule: r }, from: \"25:00\", to: \"1:00\" } ]",
            "1:54: alerts.maintenance[0].from: expected a time of the day such as 22:00 or 06:30:15, found \"25:00\"\n\
             metric.yaml:1:67: alerts.maintenance[0].to: expected a time of the day such as 22:00 or 06:30:15, found \"1:00\"",
        ),
        (
            "maintenance: [ { match: { rule: r }, from: \"22:00\", to: \"23:00\", time_zone: CET } ]",
            "1:87: alerts.maintenance[0].time_zone: expected UTC or an offset from it such as +02:00, found CET",
        ),
    ] {
        let told = load(&format!("alerts: {{ {alerts} }}\n"), &[]).map(|_| ());
        assert_eq!(told, Err(format!("metric.yaml:{expected}")), "{alerts}");
    }
}
