//! Receivers of type alertmanager against Debian's Alertmanager 0.25: it receives, de-duplicates and resolves; while it
//! is away and our process is killed in between, no transition is lost and none is made up.
//!
//! Needs: real servers
//!
//! `OUTAGE_SECONDS=300 cargo test --release --test alertmanager -- --nocapture` is the long run.
//!
//! # Layout
//! - `peers`: Alertmanager, a receiver behind it, and a witness between it and us

#[path = "alertmanager/peers.rs"]
mod peers;
#[allow(dead_code, reason = "each file of tests uses its part")]
#[path = "durability/program.rs"]
mod program;
#[path = "storage/server.rs"]
mod server;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use peers::{Alertmanager, Hook, Witness};
use program::{Client, Program, json};
use serde_json::{Value, json as object};
use server::until;

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_millis()).expect("before the year 292,278,994")
}

fn rfc3339(time_ms: i64) -> String {
    format!("{:.3}", jiff::Timestamp::from_millisecond(time_ms).expect("within a few years"))
}

/// A rule that fires at its first sample, and these receivers.
fn settings(receivers: &str) -> String {
    format!(
        r#"
storage: {{ type: none }}
http: {{ external_url: "https://metrics.example" }}
alerts:
  stale: 1d
{receivers}
  rules:
    - {{ name: too_hot, metric: temperature, operator: ">", threshold: 50, severity: critical, message: "It is hot" }}
"#
    )
}

/// A host's temperature at a moment; the answer comes when the journal has it.
fn measure(program: &Program, host: &str, temperature: f64, time_ms: i64) {
    let body = object!({
        "timestamp": time_ms, "service": "rack", "metrics": {"temperature": temperature},
        "tags": {"host": host, "data.center": "a"},
    });
    let answer = Client::new(program.http).send("POST", "/api/v1/metrics", &[], &body.to_string());
    assert_eq!(answer.expect("an answer").status, 200);
}

/// A program on a folder with these settings.
fn start(folder: &tempfile::TempDir) -> Program {
    Program::start(folder.path(), &[("CONFIG", "metric.yaml")])
}

fn folder(settings: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("metric.yaml"), settings).expect("a file");
    folder
}

#[test]
fn alertmanager_receives_deduplicates_and_resolves() {
    let hook = Hook::start();
    let (first, second) = (Alertmanager::start(&hook), Alertmanager::start(&Hook::start()));
    let receivers = format!(
        "  webhook_url: \"{}/api/v1/alerts\"\n  receivers:\n    \
         - {{ name: both, type: alertmanager, urls: [ \"{}\", \"{}/api/v2/alerts\" ], resend_delay: 1s }}",
        first.url(),
        first.url(),
        second.url()
    );
    let folder = folder(&settings(&receivers));
    let program = start(&folder);
    let began_ms = now_ms() - 5000;
    for host in ["h1", "h2", "h3"] {
        measure(&program, host, 90.5, began_ms);
    }
    let alerts = until("three alerts", || Some(first.alerts()).filter(|alerts| alerts.len() == 3));
    let alert = alerts.iter().find(|alert| alert["labels"]["host"] == "h1").expect("it is one of three");
    let labels = object!({
        "alertname": "too_hot", "service": "rack", "severity": "critical", "metric": "temperature",
        "host": "h1", "data_center": "a",
    });
    assert_eq!(alert["labels"], labels);
    assert_eq!(alert["startsAt"], rfc3339(began_ms));
    assert_eq!(alert["annotations"]["message"], "It is hot");
    assert_eq!(
        (&alert["annotations"]["value"], &alert["annotations"]["threshold"]),
        (&object!("90.5"), &object!("50"))
    );
    let link = "https://metrics.example/api/v1/metrics/aggregate?metric=temperature&service=rack";
    assert_eq!(alert["generatorURL"], link);
    until("the second one has them, too", || (second.alerts().len() == 3).then_some(()));
    let of = |name: &str| json(program.http, "/status")["receivers"][name].clone();
    until("it is recognised at its old path", || (of("webhook")["alertmanager"] == true).then_some(()));
    let name = format!("both@127.0.0.1:{}", first.port());
    // Told again and again, it takes them for what they are.
    until("resends", || (of(&name)["repeated"].as_u64() >= Some(9)).then_some(()));
    let told = hook.told();
    assert_eq!(told.len(), 3, "{told:?}");
    for host in ["h1", "h2", "h3"] {
        measure(&program, host, 20.0, began_ms + 2500);
    }
    let told = until("three resolved", || Some(hook.told()).filter(|told| told.len() == 6));
    for host in ["h1", "h2", "h3"] {
        let of: Vec<_> =
            told.iter().filter(|(of, ..)| of == host).map(|(_, status, ..)| status.as_str()).collect();
        assert_eq!(of, ["firing", "resolved"]);
    }
    let ends: BTreeSet<i64> = told
        .iter()
        .filter(|(_, status, ..)| status == "resolved")
        .map(|(.., end)| end.parse::<jiff::Timestamp>().expect("a time").as_millisecond())
        .collect();
    assert_eq!(ends, [began_ms + 2500].into(), "the end of the breach, not that of the news");
    until("none is left", || (first.alerts().is_empty() && second.alerts().is_empty()).then_some(()));
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(hook.told().len(), 6, "nor is that told twice");
    for name in ["webhook", &name] {
        let figures = of(name);
        assert_eq!((&figures["notified"], &figures["delivered"]), (&object!(6), &object!(6)), "{figures}");
    }
}

/// Hosts that fire and are fine again, of which the log of this test knows every start and end.
#[derive(Default)]
struct Weather {
    hot: BTreeMap<String, i64>,
    /// Host, start, and whether it is the end.
    transitions: BTreeSet<(String, String, bool)>,
    last_ms: i64,
}

impl Weather {
    /// Turns one host's state around.
    fn turn(&mut self, program: &Program, host: &str) {
        self.last_ms = now_ms().max(self.last_ms + 1);
        let start_ms = self.hot.remove(host);
        let (temperature, start_ms, is_end) = match start_ms {
            Some(start_ms) => (20.0, start_ms, true),
            None => (90.0, self.last_ms, false),
        };
        measure(program, host, temperature, self.last_ms);
        if !is_end {
            self.hot.insert(host.to_string(), start_ms);
        }
        self.transitions.insert((host.to_string(), rfc3339(start_ms), is_end));
    }
}

#[test]
fn while_it_is_away_and_we_are_killed_every_transition_waits() {
    let seconds: u64 = std::env::var("OUTAGE_SECONDS").map_or(3, |text| text.parse().expect("a number"));
    let hook = Hook::start();
    let mut alertmanager = Alertmanager::start(&hook);
    let witness = Witness::before(alertmanager.port());
    let receivers = format!(
        "  receivers:\n    - {{ name: am, type: alertmanager, url: \"{}\", resend_delay: 1s }}",
        witness.url()
    );
    let folder = folder(&settings(&receivers));
    let mut program = start(&folder);
    let mut weather = Weather::default();
    for host in ["stays", "ends-meanwhile", "flaps"] {
        weather.turn(&program, host);
    }
    until("three alerts", || (alertmanager.alerts().len() == 3).then_some(()));
    until("it has told of them", || (hook.told().len() == 3).then_some(()));

    alertmanager.stop();
    weather.turn(&program, "ends-meanwhile");
    weather.turn(&program, "begins-meanwhile");
    for _ in 0..3 {
        weather.turn(&program, "flaps");
    }
    std::thread::sleep(Duration::from_secs(seconds));
    program.kill();
    program = start(&folder);
    weather.turn(&program, "begins-after-the-kill");
    weather.turn(&program, "flaps");
    weather.turn(&program, "comes-and-goes");
    weather.turn(&program, "comes-and-goes");
    until("all nine transitions wait", || {
        (json(program.http, "/status")["receivers"]["am"]["waiting"] == 9).then_some(())
    });
    alertmanager.start_again();

    let expected: BTreeSet<&str> = weather.hot.keys().map(String::as_str).collect();
    let hot = |alerts: &[Value]| -> BTreeSet<String> {
        alerts.iter().filter_map(|alert| alert["labels"]["host"].as_str().map(String::from)).collect()
    };
    until("it lists what fires", || {
        let hosts = hot(&alertmanager.alerts());
        (hosts.iter().map(String::as_str).collect::<BTreeSet<_>>() == expected).then_some(())
    });
    until("nothing waits", || {
        let figures = &json(program.http, "/status")["receivers"]["am"];
        (figures["waiting"] == 0).then_some(())
    });
    let taken = witness.taken();
    let seen: BTreeSet<(String, String, bool)> = taken.iter().cloned().collect();
    assert_eq!(seen, weather.transitions, "every transition, and none that never was");
    println!("{} transitions, {} alerts sent, resends and all", seen.len(), taken.len());
    // What Alertmanager's own receiver heard: of what never ended, the beginning, once.
    let told = until("the newest", || {
        let is_there = |host: &str, status: &str, told: &[peers::Told]| {
            told.iter().any(|(of, is, ..)| of == host && is == status)
        };
        Some(hook.told()).filter(|told| {
            is_there("begins-after-the-kill", "firing", told) && is_there("ends-meanwhile", "resolved", told)
        })
    });
    let stays: Vec<&str> =
        told.iter().filter(|(host, ..)| host == "stays").map(|(_, s, ..)| s.as_str()).collect();
    assert_eq!(stays, ["firing"], "{told:?}");
    let has_ended = |host: &str| weather.transitions.iter().any(|(of, _, is_end)| of == host && *is_end);
    let made_up: Vec<_> = told.iter().filter(|(host, s, ..)| s == "resolved" && !has_ended(host)).collect();
    assert!(made_up.is_empty(), "{made_up:?}");
}
