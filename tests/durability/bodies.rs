//! Bodies that can be told apart in the windows: each fills a window of its own, with values that follow from
//! its sender and number, so that a loss and a duplicate cannot cancel out.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::Value;

use crate::program::json;

/// Samples in a body.
pub const SAMPLES: u64 = 100;
/// Windows of one series; the next body then fills the first window of the next series.
const WINDOWS: u64 = 200;
/// Width of a window in milliseconds.
const WIDTH_MS: u64 = 10_000;
/// 2024-01-01T12:00:00Z in milliseconds.
const NOON_MS: u64 = 1_704_110_400_000;

/// What became of a body, as far as its sender knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// The answer said that it was accepted: an obligation.
    Accepted,
    /// The answer said no.
    Refused,
    /// No answer came.
    Nothing,
}

/// The body `number` of `sender`.
pub fn body(sender: u64, number: u64) -> String {
    let (metric, start_ms) = place(number);
    let messages: Vec<String> = (0..SAMPLES)
        .map(|at| {
            let value = value(sender, number, at);
            let ms = start_ms + at * (WIDTH_MS / SAMPLES);
            format!(
                r#"{{"timestamp":"{}","service":"sender{sender}","metrics":{{"{metric}":{value}}}}}"#,
                rfc3339(ms)
            )
        })
        .collect();
    format!(r#"{{"metrics":[{}]}}"#, messages.join(","))
}

/// Metric and start of the window of a body.
fn place(number: u64) -> (String, u64) {
    (format!("m{}", number / WINDOWS), NOON_MS + number % WINDOWS * WIDTH_MS)
}

/// A whole number below a million that follows from where it stands.
pub fn value(sender: u64, number: u64, at: u64) -> u64 {
    let mut x = sender << 48 ^ number << 16 ^ at;
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    (x ^ x >> 31) % 1_000_000
}

fn rfc3339(ms: u64) -> String {
    jiff::Timestamp::from_millisecond(ms as i64).expect("within the range").to_string()
}

/// What the windows hold of the bodies.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// Accepted and there, once.
    pub kept: u64,
    /// Not accepted, but there, once: the answer got lost.
    pub kept_unasked: u64,
    /// Not accepted and not there.
    pub absent: u64,
    /// Accepted and not there.
    pub lost: Vec<(u64, u64)>,
    /// There in part, or more than once.
    pub wrong: Vec<(u64, u64, u64)>,
}

/// Compares the windows with what each sender was told of its bodies, in order.
pub fn balance(http: SocketAddr, told: &BTreeMap<u64, Vec<Told>>) -> Balance {
    let mut balance = Balance::default();
    for (&sender, bodies) in told {
        for series in 0..(bodies.len() as u64).div_ceil(WINDOWS) {
            let windows = windows(http, sender, series);
            let of_series = series * WINDOWS..((series + 1) * WINDOWS).min(bodies.len() as u64);
            for number in of_series {
                let expected: u64 = (0..SAMPLES).map(|at| value(sender, number, at)).sum();
                let found = windows.get(&place(number).1).copied();
                let accepted = bodies[number as usize] == Told::Accepted;
                match found {
                    Some((SAMPLES, sum)) if sum == expected && accepted => balance.kept += 1,
                    Some((SAMPLES, sum)) if sum == expected => balance.kept_unasked += 1,
                    Some((count, _)) => balance.wrong.push((sender, number, count)),
                    None if accepted => balance.lost.push((sender, number)),
                    None => balance.absent += 1,
                }
            }
        }
    }
    balance
}

/// Count and sum of each window of a series, by its start in milliseconds.
fn windows(http: SocketAddr, sender: u64, series: u64) -> BTreeMap<u64, (u64, u64)> {
    let end = rfc3339(NOON_MS + WINDOWS * WIDTH_MS);
    let path = format!(
        "/api/v1/metrics/aggregate?metric=m{series}&service=sender{sender}&interval=10s&func=sum&start={}&end={end}",
        rfc3339(NOON_MS)
    );
    let answer = json(http, &path);
    let mut windows = BTreeMap::new();
    for series in answer["series"].as_array().expect("a list") {
        for point in series["points"].as_array().expect("a list") {
            let start: jiff::Timestamp =
                point["start"].as_str().and_then(|t| t.parse().ok()).expect("a time");
            let sum = point["value"].as_f64().expect("a number");
            windows.insert(start.as_millisecond() as u64, (number(&point["count"]), sum as u64));
        }
    }
    windows
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("expected a whole number, found {value}"))
}
