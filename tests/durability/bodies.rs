//! Bodies that can be told apart in the windows: each fills a window of its own.
//!
//! A message is known by (publisher, epoch, sequence): its sender, the number of the body, its place in there. It
//! carries two samples, a value that follows from these three, and a check: the three themselves, shuffled one to
//! one over the numbers below 2^45. No two messages have the same check, and a window's sum of them stays below
//! 2^53, so it is exact. What replaces a message by another one, as a loss and a duplicate do together, changes it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::Value;

use crate::program::json;

/// Messages in a body.
pub const MESSAGES: u64 = 100;
/// Samples in a body: a value and a check in each message.
pub const SAMPLES: u64 = 2 * MESSAGES;
/// Bits of a check: those of sender, number and place in a body.
pub const CHECK_BITS: u32 = PLACE_BITS + NUMBER_BITS + SENDER_BITS;
const PLACE_BITS: u32 = 7;
const NUMBER_BITS: u32 = 34;
const SENDER_BITS: u32 = 4;
/// Windows of one series; the next body then fills the first window of the next series.
pub const WINDOWS: u64 = 200;
/// Width of a window in milliseconds.
pub const WIDTH_MS: u64 = 10_000;
/// 2024-01-01T12:00:00Z in milliseconds.
pub const NOON_MS: u64 = 1_704_110_400_000;

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
    wrapped(&messages(sender, number))
}

/// The batch object of some messages.
pub fn wrapped(messages: &[String]) -> String {
    format!(r#"{{"metrics":[{}]}}"#, messages.join(","))
}

/// The messages of a body.
pub fn messages(sender: u64, number: u64) -> Vec<String> {
    let (series, start_ms) = place(number);
    let message = |at| {
        let (value, check) = (value(sender, number, at), check(sender, number, at));
        let time = rfc3339(start_ms + at * (WIDTH_MS / MESSAGES));
        format!(
            r#"{{"timestamp":"{time}","service":"sender{sender}","metrics":{{"m{series}":{value},"k{series}":{check}}}}}"#
        )
    };
    (0..MESSAGES).map(message).collect()
}

/// Series and start of the window of a body.
fn place(number: u64) -> (u64, u64) {
    (number / WINDOWS, NOON_MS + number % WINDOWS * WIDTH_MS)
}

/// Shuffles the numbers below 2^`CHECK_BITS` one to one: both steps can be undone.
pub fn check(sender: u64, number: u64, at: u64) -> u64 {
    assert!(at < 1 << PLACE_BITS && number < 1 << NUMBER_BITS && sender < 1 << SENDER_BITS);
    let mask = (1 << CHECK_BITS) - 1;
    let mut x = (sender << NUMBER_BITS | number) << PLACE_BITS | at;
    for odd in [0xbf58_476d_1ce4_e5b9_u64, 0x94d0_49bb_1331_11eb] {
        x = (x ^ x >> (CHECK_BITS / 2 + 1)).wrapping_mul(odd) & mask;
    }
    x ^ x >> (CHECK_BITS / 2 + 1)
}

/// A whole number below a million that follows from where it stands.
pub fn value(sender: u64, number: u64, at: u64) -> u64 {
    let mut x = sender << 48 ^ number << 16 ^ at;
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    (x ^ x >> 31) % 1_000_000
}

/// A time in milliseconds as text.
pub fn rfc3339(ms: u64) -> String {
    jiff::Timestamp::from_millisecond(ms as i64).expect("within the range").to_string()
}

/// What a window holds of a body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// Samples of the values and of the checks.
    pub counts: [u64; 2],
    /// Sum of the values.
    pub sum: u64,
    /// Sum of the checks.
    pub check: u64,
}

impl Content {
    /// What messages of a body come to, each by its place.
    pub fn of(sender: u64, number: u64, places: impl IntoIterator<Item = u64>) -> Content {
        places.into_iter().fold(Content::default(), |content, at| Content {
            counts: content.counts.map(|count| count + 1),
            sum: content.sum + value(sender, number, at),
            check: content.check + check(sender, number, at),
        })
    }
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
    /// There in part, or more than once, with what is there.
    pub wrong: Vec<(u64, u64, Content)>,
}

impl Balance {
    /// Takes note of a body, and of what was found of it; says whether it is there.
    pub fn note(&mut self, sender: u64, number: u64, told: Told, found: Option<Content>) -> bool {
        let accepted = told == Told::Accepted;
        match found {
            Some(content) if content != Content::of(sender, number, 0..MESSAGES) => {
                self.wrong.push((sender, number, content));
            }
            Some(_) if accepted => self.kept += 1,
            Some(_) => self.kept_unasked += 1,
            None if accepted => self.lost.push((sender, number)),
            None => self.absent += 1,
        }
        found.is_some()
    }
}

/// Compares the windows with what each sender was told of its bodies, in order.
pub fn balance(http: SocketAddr, told: &BTreeMap<u64, Vec<Told>>) -> Balance {
    balance_and_taken(http, told).0
}

/// The balance, and the numbers of each sender's bodies that are there, in order.
pub fn balance_and_taken(
    http: SocketAddr,
    told: &BTreeMap<u64, Vec<Told>>,
) -> (Balance, BTreeMap<u64, Vec<u64>>) {
    let (mut balance, mut taken) = (Balance::default(), BTreeMap::new());
    for (&sender, bodies) in told {
        let taken: &mut Vec<u64> = taken.entry(sender).or_default();
        for (series, of_series) in bodies.chunks(WINDOWS as usize).enumerate() {
            let first = series as u64 * WINDOWS;
            let windows = windows(http, sender, series as u64);
            for (number, told) in (first..).zip(of_series) {
                let found = windows.get(&place(number).1).copied();
                if balance.note(sender, number, *told, found) {
                    taken.push(number);
                }
            }
        }
    }
    (balance, taken)
}

/// What the windows of a series of values and of its checks hold, by their start in milliseconds.
fn windows(http: SocketAddr, sender: u64, series: u64) -> BTreeMap<u64, Content> {
    let mut windows: BTreeMap<u64, Content> = BTreeMap::new();
    for (kind, prefix) in ["m", "k"].into_iter().enumerate() {
        for (start_ms, count, sum) in sums(http, sender, &format!("{prefix}{series}")) {
            let content = windows.entry(start_ms).or_default();
            content.counts[kind] = count;
            *(if prefix == "m" { &mut content.sum } else { &mut content.check }) = sum;
        }
    }
    windows
}

/// Start in milliseconds, count and sum of each window of a series.
fn sums(http: SocketAddr, sender: u64, metric: &str) -> Vec<(u64, u64, u64)> {
    let (start, end) = (rfc3339(NOON_MS), rfc3339(NOON_MS + WINDOWS * WIDTH_MS));
    let answer = json(
        http,
        &format!(
            "/api/v1/metrics/aggregate?metric={metric}&service=sender{sender}&interval=10s&func=sum&start={start}&end={end}"
        ),
    );
    let series = answer["series"].as_array().expect("a list");
    let points = series.iter().flat_map(|series| series["points"].as_array().expect("a list"));
    let window = |point: &Value| {
        let start: jiff::Timestamp = point["start"].as_str().and_then(|t| t.parse().ok()).expect("a time");
        let sum = point["value"].as_f64().expect("a number");
        assert!(
            sum.fract() == 0.0 && (0.0..9_007_199_254_740_992.0).contains(&sum),
            "{metric}: {sum} is not exact"
        );
        (start.as_millisecond() as u64, number(&point["count"]), sum as u64)
    };
    points.map(window).collect()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("expected a whole number, found {value}"))
}
