//! Series under alert rules beside the bodies, and everything that the service says of both, to be compared with what
//! another one says that took the same bodies and was never interrupted.
//!
//! Event times follow from the number of a body alone, and the settings leave nothing to the arrival clock: no series
//! counts as idle. So the answers are a function of which bodies were taken, in which order of each sender.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::bodies::{self, NOON_MS, SAMPLES, rfc3339, value};
use crate::program::json;

/// Every function there is.
const FUNCTIONS: &str = "count,sum,avg,min,max,first,last,stddev,rate,increase,median,p10,p90,p99.9";
/// Watched series of a sender.
const UNITS: u64 = 8;
/// Event time from body to body in milliseconds.
const STEP_MS: u64 = 2_000;
/// How late a straggler is: beyond `windows.lateness`, so that it corrects a final window.
const LATE_MS: u64 = 64_000;
/// Bodies of a sender for which the widest windows are held.
const NUMBER_MAX: u64 = 20_000;
/// Longest wait for what is taken in to be visible.
const PATIENCE: Duration = Duration::from_secs(30);

/// Writes the configuration; the variable that names it.
pub fn configure(folder: &Path) -> (&'static str, &'static str) {
    let rule = |name: &str, threshold: u64, seconds: u64| {
        format!(
            "    - {{ name: {name}, metric: load_percent, operator: '>', threshold: {threshold}, duration: {seconds}s, \
             severity: warning, message: busy }}\n"
        )
    };
    let rules: String = [rule("slow", 80, 12), rule("long", 80, 28), rule("now", 95, 0)].concat();
    let yaml = format!("windows: {{ idle_timeout: 30d }}\nalerts:\n  stale: 30s\n  rules:\n{rules}");
    std::fs::write(folder.join("metric.yaml"), yaml).expect("the folder is writable");
    ("CONFIG", "metric.yaml")
}

/// The body `number` of `sender` with its watched series, and the number of samples in it.
pub fn body(sender: u64, number: u64) -> (String, u64) {
    let mut messages = bodies::messages(sender, number);
    let plain = messages.len();
    for unit in 0..UNITS {
        // A breach of half a minute each minute; those of the units begin one after the other.
        let is_breach = (number + unit * 4) % 32 < 16;
        // The last one falls silent at times, longer than a value holds.
        if unit < UNITS - 1 || number % 96 < 64 {
            messages.push(message(sender, number, unit, is_breach, 0));
        }
        if (number + unit).is_multiple_of(9) && number * STEP_MS >= LATE_MS {
            messages.push(message(sender, number, unit, !is_breach, LATE_MS));
        }
    }
    (bodies::wrapped(&messages), SAMPLES + 2 * (messages.len() - plain) as u64)
}

fn message(sender: u64, number: u64, unit: u64, is_breach: bool, late_ms: u64) -> String {
    let drawn = value(sender, number, 100 + 2 * unit + u64::from(late_ms > 0));
    let load = if is_breach { 80.5 + (drawn % 1_900) as f64 / 100.0 } else { (drawn % 8_000) as f64 / 100.0 };
    // A counter that begins again now and then.
    let requests = (number - late_ms / STEP_MS) % 97 * 1_000 + drawn % 500;
    format!(
        r#"{{"timestamp":"{}","service":"watched{sender}","tags":{{"unit":"u{unit}"}},"metrics":{{"load_percent":{load},"requests_total":{requests}}}}}"#,
        rfc3339(NOON_MS + number * STEP_MS - late_ms),
    )
}

/// What a service says: by question, without what belongs to its own epochs.
pub type Said = BTreeMap<String, Value>;

/// Asks for the aggregates of all series in all functions, the series and the alerts. `taken` are the numbers of each
/// sender's bodies that are there.
pub fn ask(http: SocketAddr, taken: &BTreeMap<u64, Vec<u64>>) -> Said {
    let mut said = Said::new();
    let mut note = |path: String| {
        let mut answer = json(http, &path);
        strip(&mut answer);
        said.insert(path, answer);
    };
    let last = taken.values().flatten().max().copied().unwrap_or(0);
    assert!(last < NUMBER_MAX, "expected at most {NUMBER_MAX} bodies of a sender, found {last}");
    let aggregate = |metric: &str, service: &str, interval: &str, start_ms: u64, end_ms: u64| {
        format!(
            "/api/v1/metrics/aggregate?metric={metric}&service={service}&interval={interval}&func={FUNCTIONS}&start={}&end={}",
            rfc3339(start_ms),
            rfc3339(end_ms)
        )
    };
    for (sender, numbers) in taken {
        let now_ms = NOON_MS + numbers.last().copied().unwrap_or(0) * STEP_MS;
        for metric in ["load_percent", "requests_total"] {
            let service = format!("watched{sender}");
            let half_an_hour_ms = 1_800_000.min(now_ms - NOON_MS);
            note(aggregate(metric, &service, "10s", now_ms - half_an_hour_ms, now_ms + 10_000));
            note(aggregate(metric, &service, "1m", NOON_MS, now_ms + 60_000));
        }
    }
    for series in 0..=last / bodies::WINDOWS {
        for prefix in ["m", "k"] {
            let end_ms = NOON_MS + bodies::WINDOWS * bodies::WIDTH_MS;
            note(aggregate(&format!("{prefix}{series}"), "*", "10s", NOON_MS, end_ms));
        }
    }
    note("/api/v1/series?limit=100000".into());
    note("/api/v1/alerts".into());
    said
}

/// Takes out what counts epochs, and gives lists an order that does not hang on who came first.
fn strip(answer: &mut Value) {
    if let Some(answer) = answer.as_object_mut() {
        answer.remove("as_of");
    }
    if let Some(as_prometheus) = answer.pointer_mut("/data/alerts").and_then(Value::as_array_mut) {
        as_prometheus.sort_by_key(|alert| alert["labels"].to_string());
    }
    for list in ["series", "alerts"] {
        let Some(list) = answer.get_mut(list).and_then(Value::as_array_mut) else { continue };
        list.sort_by_key(|entry| {
            ["id", "service", "metric", "tags", "func"].map(|key| entry[key].to_string())
        });
        let points = list.iter_mut().filter_map(|series| series.get_mut("points")?.as_array_mut()).flatten();
        for point in points.filter_map(Value::as_object_mut) {
            // The number of an epoch.
            point.remove("revision");
        }
    }
}

/// Asks both until they say the same; gives what they say.
pub fn compare(interrupted: SocketAddr, other: SocketAddr, taken: &BTreeMap<u64, Vec<u64>>) -> Said {
    let began = Instant::now();
    loop {
        let (found, expected) = (ask(interrupted, taken), ask(other, taken));
        if found == expected {
            return found;
        }
        // What was just taken in may not be visible yet.
        if began.elapsed() > PATIENCE {
            for (question, expected) in &expected {
                let found = &found[question];
                assert!(found == expected, "{question}: expected {expected:#}, found {found:#}");
            }
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// How much of what could differ there is to see.
#[derive(Debug, Default)]
pub struct Seen {
    /// Alerts that wait for their duration.
    pub pending: usize,
    /// Alerts that fire.
    pub firing: usize,
    /// Windows, in all functions, that are not final.
    pub open: usize,
    /// Windows, in all functions, that are.
    pub closed: usize,
    /// Samples that corrected a final window.
    pub late: u64,
}

impl Seen {
    /// Counts it.
    pub fn of(said: &Said) -> Seen {
        let mut seen = Seen::default();
        for alert in said["/api/v1/alerts"]["alerts"].as_array().into_iter().flatten() {
            *(if alert["status"] == "firing" { &mut seen.firing } else { &mut seen.pending }) += 1;
        }
        for series in said.values().filter_map(|answer| answer["series"].as_array()).flatten() {
            for point in series["points"].as_array().into_iter().flatten() {
                *(if point["final"] == true { &mut seen.closed } else { &mut seen.open }) += 1;
            }
            // The list of series has no points.
            seen.late += series["late"].as_u64().filter(|_| series.get("points").is_none()).unwrap_or(0);
        }
        seen
    }
}
