//! Messages whose names and values are hard to hold, with what InfluxDB is to hold of them, spelt out by hand.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use operators::sample::{MINUTE, MS, SECOND, TimeNs};
use operators::series::Target;
use plantd_metric::message::Message;

/// A measurement and its stored tags.
pub type Series = (String, BTreeMap<String, String>);

/// Stored fields by series and time, values as bits.
pub type Oracle = BTreeMap<(Series, TimeNs), BTreeMap<String, u64>>;

type Pairs = &'static [(&'static str, &'static str)];

/// Service, tags; measurement, stored tags.
const ODD: &[(&str, Pairs, &str, Pairs)] = &[
    ("system", &[("host", "server-01")], "system_metrics", &[("host", "server-01")]),
    ("system", &[], "system_metrics", &[]),
    ("org.plantd.Broker", &[("zone", "eu west,1")], "org.plantd.Broker_metrics", &[("zone", "eu west,1")]),
    ("a b,c=d\"'", &[("k e,y=", "v\"al='")], "a b,c=d\"'_metrics", &[("k e,y=", "v\"al='")]),
    ("größe ☃", &[("straße", "日本")], "größe ☃_metrics", &[("straße", "日本")]),
    ("#comment", &[("#t", "#v")], "＃comment_metrics", &[("＃t", "＃v")]),
    ("back\\slash\\", &[("dir", "C:\\")], "back\\slash\\_metrics", &[("dir", "C:⧵")]),
    (
        "unc",
        &[("share", "\\\\srv\\a b"), ("t", "x\\ y")],
        "unc_metrics",
        &[("share", "⧵\\srv\\a b"), ("t", "x⧵ y")],
    ),
    ("clash", &[("time", "tag"), ("x", "1")], "clash_metrics", &[("time_", "tag"), ("x", "1")]),
    ("select", &[("from", "where"), ("x_1", "2")], "select_metrics", &[("from", "where"), ("x_1", "2")]),
];

/// Metric names with those under which they are stored where there is a tag `x`, and where there is none.
const METRICS: &[(&str, &str, &str)] = &[
    ("cpu_usage_percent", "cpu_usage_percent", "cpu_usage_percent"),
    ("odd ,=\"é\\", "odd ,=\"é⧵", "odd ,=\"é⧵"),
    ("time", "time_", "time_"),
    ("x", "x_", "x"),
];

/// Values that lose something when they are written carelessly; the first metric's are quarters, whose sums and
/// means are exact.
const VALUES: &[f64] = &[0.1, -0.0, 1e300, 5e-324, 9_007_199_254_740_993.0, 1_073_741_824.0, -45.2, f64::MIN];

/// Within the last hour, at a whole minute.
pub fn recent() -> TimeNs {
    let now_ns = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as TimeNs;
    (now_ns - 50 * MINUTE).div_euclid(MINUTE) * MINUTE
}

/// `times` messages of 50 targets, four metrics each, ten seconds apart, and what is to be held of them.
pub fn messages(begin_ns: TimeNs, times: i64) -> (Vec<Message>, Oracle) {
    let mut found = Vec::new();
    let mut oracle = Oracle::new();
    for at in 0..times {
        for number in 0..50_usize {
            let (service, tags, measurement, stored) = ODD[number % ODD.len()];
            let copy = (number / ODD.len()).to_string();
            let tags = tags.iter().copied().chain([("copy", copy.as_str())]);
            let time_ns = begin_ns + at * 10 * SECOND + number as i64 / 25 * MS;
            let target = Arc::new(Target::new(service, tags));
            let metrics = |bits: usize| VALUES[bits % VALUES.len()];
            let value = |metric: usize| match metric {
                0 => at as f64 * 0.25 + number as f64,
                metric => metrics(metric + at as usize + number),
            };
            let has_x = target.tag("x").is_some();
            let mut message = Message { time_ns, target, metrics: Vec::new() };
            let stored = stored.iter().copied().chain([("copy", copy.as_str())]);
            let stored = stored.map(|(key, value)| (key.to_string(), value.to_string())).collect();
            let fields = oracle.entry(((measurement.to_string(), stored), time_ns)).or_default();
            for (metric, (name, beside_x, alone)) in METRICS.iter().enumerate() {
                message.metrics.push(((*name).into(), value(metric)));
                let key = if has_x { beside_x } else { alone };
                fields.insert((*key).to_string(), value(metric).to_bits());
            }
            found.push(message);
        }
    }
    (found, oracle)
}

/// Time, target, metrics.
type Comparable = (TimeNs, String, Vec<(String, u64)>);

/// Messages in an order of their own, metrics sorted by name, values as bits.
pub fn sorted(messages: &[Message]) -> Vec<Comparable> {
    let key = |message: &Message| {
        let mut metrics: Vec<_> =
            message.metrics.iter().map(|(name, value)| (name.to_string(), value.to_bits())).collect();
        metrics.sort();
        (message.time_ns, format!("{:?}", message.target), metrics)
    };
    let mut all: Vec<_> = messages.iter().map(key).collect();
    all.sort();
    all
}
