//! Receivers of a program that is killed again and again: every transition arrives, in the order of its alert, and no
//! other.

use std::collections::{BTreeMap, BTreeSet};

#[allow(dead_code, reason = "each file of tests uses its part")]
#[path = "durability/program.rs"]
mod program;
#[allow(dead_code, reason = "each file of tests uses its part")]
#[path = "receivers/server.rs"]
mod server;

use std::time::{Duration, Instant};

use program::{Client, PATIENCE, Program, json};
use serde_json::{Value, json as object};
use server::{Seen, Server};

const HOSTS: usize = 6;
const ROUNDS: i64 = 40;
/// A kill after so many rounds.
const KILL_EVERY: i64 = 8;
const NOON_MS: i64 = 1_704_110_400_000;

/// Host, status, and the event time in milliseconds after noon.
type Told = (usize, String, i64);

fn told(seen: &Seen) -> Vec<Told> {
    let alerts = seen.body["alerts"].as_array().map_or(&[][..], Vec::as_slice);
    let of = |alert: &Value| {
        let host = alert["tags"]["host"].as_str()?.parse().ok()?;
        let time: jiff::Timestamp = alert["timestamp"].as_str()?.parse().ok()?;
        Some((host, alert["status"].as_str()?.to_string(), time.as_millisecond() - NOON_MS))
    };
    alerts.iter().map(|alert| of(alert).expect("a documented alert")).collect()
}

/// What the first `rounds` make of the hosts: each turns around in some of them.
fn is_hot(host: usize, round: i64) -> bool {
    (0..=round).filter(|round| (round * 7 + host as i64 * 5) % 3 == 0).count() % 2 == 1
}

fn expected() -> BTreeMap<usize, Vec<Told>> {
    let of_host = |host: usize| {
        let turns =
            (0..ROUNDS).filter(move |round| is_hot(host, *round) != (*round > 0 && is_hot(host, *round - 1)));
        turns.map(move |round| {
            let status = if is_hot(host, round) { "firing" } else { "resolved" };
            (host, status.to_string(), round * 10)
        })
    };
    (0..HOSTS).map(|host| (host, of_host(host).collect())).collect()
}

#[test]
fn kills_in_the_middle_cost_no_transition_and_make_none_up() {
    // One takes everything, one fails every third time, after having taken it or not, and the groups of one wait.
    let steady = Server::start(|_| (200, ""));
    let mut count = 0;
    let shaky = Server::start_with(move |_| {
        count += 1;
        (if count % 3 == 0 { 503 } else { 200 }, "")
    });
    let grouped = Server::start(|_| (200, ""));
    let folder = tempfile::tempdir().expect("a folder");
    let yaml = format!(
        r#"
storage: {{ type: none }}
alerts:
  receivers:
    - {{ name: steady, type: webhook, url: "{}" }}
    - {{ name: shaky, type: webhook, url: "{}" }}
    - {{ name: grouped, type: webhook, url: "{}", group_by: [ tag.host ], group_wait: 50ms, group_interval: 100ms }}
  rules: [ {{ name: hot, metric: temperature, operator: ">", threshold: 50 }} ]
"#,
        steady.url("/"),
        shaky.url("/"),
        grouped.url("/")
    );
    std::fs::write(folder.path().join("metric.yaml"), yaml).expect("a file");
    let start = || Program::start(folder.path(), &[("CONFIG", "metric.yaml")]);
    let mut program = start();
    for round in 0..ROUNDS {
        let batch: Vec<Value> = (0..HOSTS)
            .map(|host| {
                let temperature = if is_hot(host, round) { 90.0 } else { 20.0 };
                object!({
                    "timestamp": NOON_MS + round * 10, "service": "rack", "metrics": {"temperature": temperature},
                    "tags": {"host": host.to_string()},
                })
            })
            .collect();
        let answer =
            Client::new(program.http).send("POST", "/api/v1/metrics", &[], &object!(batch).to_string());
        assert_eq!(answer.expect("an answer").status, 200);
        if round % KILL_EVERY == KILL_EVERY - 1 {
            program.kill();
            program = start();
        }
    }
    let began = Instant::now();
    let is_quiet = |name: &str| {
        let figures = &json(program.http, "/status")["receivers"][name];
        figures["waiting"] == 0
    };
    let expected = expected();
    let len: usize = expected.values().map(Vec::len).sum();
    for (name, server) in [("steady", &steady), ("shaky", &shaky), ("grouped", &grouped)] {
        let all = || server.seen().iter().flat_map(told).collect::<Vec<Told>>();
        while all().into_iter().collect::<BTreeSet<_>>().len() < len || !is_quiet(name) {
            assert!(began.elapsed() < PATIENCE, "{name}: {} of {len} transitions", all().len());
            std::thread::sleep(Duration::from_millis(20));
        }
        for (host, expected) in &expected {
            let mut seen = BTreeSet::new();
            let of_host = all().into_iter().filter(|(of, ..)| of == host);
            let first_times: Vec<Told> = of_host.filter(|told| seen.insert(told.clone())).collect();
            assert_eq!(&first_times, expected, "{name}, host {host}");
        }
        println!("{name}: {len} transitions, told {} times", all().len());
    }
}
