//! Receivers of every type against small servers that record: what is sent to whom, and over which kind of connection.
//!
//! # Layout
//! - `server`: a server that answers as it is told to, in the clear or over TLS

#[path = "receivers/server.rs"]
mod server;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use operators::sample::SECOND;
use operators::series::Target;
use plantd_metric::notify::desk::DeskConfig;
use plantd_metric::notify::silence::Silences;
use plantd_metric::notify::{
    Channel, Dialect, HttpConfig, Notification, Notifier, ReceiverConfig, Running, Status,
};
use plantd_metric::service::wall_clock;
use server::{Seen, Server};

fn notification(id: u128, status: Status) -> Notification {
    let now_ns = wall_clock()();
    Notification {
        id,
        rule: "high_cpu_usage".into(),
        target: Arc::new(Target::new("org.plantd.Broker", [("host", "broker-01")])),
        metric: "cpu_usage_percent".into(),
        severity: "warning".into(),
        message: "CPU".into(),
        value: 85.2,
        threshold: 80.0,
        labels: Arc::default(),
        annotations: Arc::default(),
        expected: None,
        time_ns: now_ns - SECOND,
        started_ns: now_ns - 60 * SECOND,
        status,
        receipt: Default::default(),
    }
}

fn start(http: HttpConfig) -> (Notifier, Running) {
    let config = ReceiverConfig {
        channel: Channel::Http(http),
        desk: DeskConfig { resend_ns: SECOND / 5, ..DeskConfig::default() },
        timeout: Duration::from_secs(5),
        backoff_min: Duration::from_millis(10),
        backoff_max: Duration::from_millis(40),
        jitter_seed: Some(1),
        ..ReceiverConfig::default()
    };
    Notifier::start(config, wall_clock(), Arc::new(Silences::default()))
        .unwrap_or_else(|error| panic!("{error}"))
}

async fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < deadline, "not within twenty seconds: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

const STATUS: &str =
    r#"{"cluster": {"status": "ready", "peers": []}, "versionInfo": {"version": "0.28.0"}, "uptime": ""}"#;

/// Answers as Alertmanager from 0.27 on does.
fn as_alertmanager(line: &str) -> (u16, &'static str) {
    match line {
        "GET /am/api/v2/status" => (200, STATUS),
        "POST /am/api/v2/alerts" => (200, ""),
        "POST /am/api/v1/alerts" => (410, "removed"),
        _ => (404, ""),
    }
}

/// Answers as some other receiver at the same path.
fn as_another(line: &str) -> (u16, &'static str) {
    if line == "POST /am/api/v1/alerts" { (200, "") } else { (404, "") }
}

fn posts(server: &Server) -> Vec<Seen> {
    server.seen().into_iter().filter(|seen| seen.line.starts_with("POST")).collect()
}

#[tokio::test]
async fn an_alertmanager_is_recognised_at_any_time() {
    let server = Server::start(as_alertmanager);
    let url = server.url("/am/api/v1/alerts");
    let (notifier, running) = start(HttpConfig { url, ..HttpConfig::default() });
    notifier.notify(notification(1, Status::Firing));
    eventually("told again", || notifier.counters().snapshot().contains(&("repeated", 2))).await;
    let told = posts(&server);
    assert!(told.iter().all(|seen| seen.line == "POST /am/api/v2/alerts"), "{told:?}");
    assert_eq!(told[0].body[0]["labels"]["alertname"], "high_cpu_usage");
    assert!(notifier.is_alertmanager());

    // Another server takes its place: after the first refusal it is asked what it is, and nothing is lost.
    server.answer_with(as_another);
    notifier.notify(notification(2, Status::Firing));
    eventually("taken by the other", || posts(&server).iter().any(|s| s.line == "POST /am/api/v1/alerts"))
        .await;
    eventually("known", || !notifier.is_alertmanager() && notifier.waiting() == 0).await;
    let last = posts(&server).pop().expect("there are some");
    assert_eq!(
        (&last.line[..], &last.body["alerts"][0]["id"]),
        ("POST /am/api/v1/alerts", &format!("{:032x}", 2).into())
    );

    // And back, by the 410.
    server.answer_with(as_alertmanager);
    notifier.notify(notification(3, Status::Firing));
    eventually("known again", || notifier.is_alertmanager() && notifier.waiting() == 0).await;
    assert_eq!(running.stop(Duration::from_secs(10)).await, 0);
    let counters = notifier.counters().snapshot();
    assert!(counters.contains(&("delivered", 3)) && counters.contains(&("rejected", 0)), "{counters:?}");
}

#[tokio::test]
async fn one_alert_that_alertmanager_refuses_is_refused_alone() {
    // As 0.25 does: 400 for a bad one among good ones, which it keeps.
    let server = Server::start_with(|seen: &Seen| {
        let alerts = seen.body.as_array().map_or(&[][..], Vec::as_slice);
        let bad = alerts.iter().any(|alert| alert["labels"]["alertname"] == "bad");
        (if bad { 400 } else { 200 }, "")
    });
    let http = HttpConfig { url: server.url(""), dialect: Dialect::Alertmanager, ..HttpConfig::default() };
    let (notifier, running) = start(http);
    for id in 0..20 {
        let rule = if id == 7 { "bad" } else { "good" };
        notifier.notify(Notification { rule: rule.into(), ..notification(id, Status::Firing) });
    }
    eventually("an end", || notifier.waiting() == 0).await;
    let counters = notifier.counters().snapshot();
    assert!(counters.contains(&("delivered", 19)) && counters.contains(&("rejected", 1)), "{counters:?}");
    assert_eq!(running.stop(Duration::from_secs(10)).await, 0);
}

#[tokio::test]
async fn headers_and_signature_go_with_every_request() {
    let server = Server::start(|_| (200, ""));
    let (notifier, running) = start(HttpConfig {
        url: server.url("/hook"),
        headers: vec![("Authorization".into(), "Bearer hush".into()), ("X-Team".into(), "a".into())],
        hmac_secret: Some("key".into()),
        ..HttpConfig::default()
    });
    notifier.notify(notification(1, Status::Retracted));
    assert_eq!(running.stop(Duration::from_secs(10)).await, 0);
    let seen = &server.seen()[0];
    assert_eq!(seen.body["alerts"][0]["status"], "retracted");
    let header = |name: &str| seen.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
    assert_eq!((header("authorization"), header("x-team")), (Some("Bearer hush"), Some("a")));
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"key");
    let signature =
        header("x-signature-256").and_then(|text| text.strip_prefix("sha256=")).expect("a signature");
    let bytes: Vec<u8> = (0..signature.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&signature[at..at + 2], 16).expect("hexadecimal digits"))
        .collect();
    ring::hmac::verify(&key, &seen.bytes, &bytes).expect("it is that of the body");
}

fn pem(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/receivers").join(name)
}

/// The server's certificate is that of receiver.example, and it wants one of ours.
#[tokio::test]
async fn tls_with_a_ca_a_name_and_a_certificate_of_our_own() {
    let server = Server::start_tls(|_| (200, ""));
    let full = HttpConfig {
        url: server.url("/hook"),
        ca_file: Some(pem("ca.pem")),
        identity: Some((pem("client.pem"), pem("client.key"))),
        server_name: Some("receiver.example".into()),
        ..HttpConfig::default()
    };
    let cases = [
        ("with all of it", full.clone(), true),
        ("without the name", HttpConfig { server_name: None, ..full.clone() }, false),
        ("without the CA", HttpConfig { ca_file: None, ..full.clone() }, false),
        ("without a certificate of our own", HttpConfig { identity: None, ..full.clone() }, false),
        (
            "without looking at its certificate",
            HttpConfig { ca_file: None, server_name: None, insecure_skip_verify: true, ..full.clone() },
            true,
        ),
    ];
    for (what, http, works) in cases {
        let before = server.seen().len();
        let (notifier, running) = start(http);
        notifier.notify(notification(1, Status::Firing));
        eventually(what, || {
            let counters = notifier.counters().snapshot();
            let counted =
                |name: &str| counters.iter().find(|(n, _)| *n == name).map_or(0, |(_, count)| *count);
            if works { counted("delivered") == 1 } else { counted("retries") >= 2 }
        })
        .await;
        assert_eq!(server.seen().len() - before, usize::from(works), "{what}");
        running.stop(Duration::ZERO).await;
    }
    let host =
        server.seen()[0].headers.iter().find(|(name, _)| name == "host").map(|(_, value)| value.clone());
    assert_eq!(host, Some(server.address().to_string()), "the host that is meant");
}

#[tokio::test]
async fn a_program_is_told_and_one_that_fails_is_asked_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("told");
    // Fails the first time.
    let script = format!("cat >> {0}; echo >> {0}; [ $(wc -l < {0}) -gt 1 ]", file.display());
    let config = ReceiverConfig {
        channel: Channel::Command(["/bin/sh", "-c", &script].map(String::from).to_vec()),
        backoff_min: Duration::from_millis(10),
        ..ReceiverConfig::default()
    };
    let (notifier, running) =
        Notifier::start(config, wall_clock(), Arc::new(Silences::default())).expect("it can be run");
    notifier.notify(notification(1, Status::Firing));
    eventually("taken", || notifier.counters().snapshot().contains(&("delivered", 1))).await;
    assert_eq!(running.stop(Duration::from_secs(10)).await, 0);
    let told = std::fs::read_to_string(&file).expect("it was written");
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0], lines[1]);
    let payload: serde_json::Value = serde_json::from_str(lines[0]).expect("JSON");
    assert_eq!(payload["alerts"][0]["name"], "high_cpu_usage");
}
