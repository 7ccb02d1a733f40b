//! Request bodies: those of `benches/load`, byte for byte, and the same samples in binary formats.
//!
//! A body that carries times has places for them, so that one body can be sent again as new samples: sending then
//! costs a copy of a few bytes each.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::binary;
use crate::http;
use crate::options::Format;

/// Metrics of a host in the bodies of `benches/load`.
pub const METRICS: [&str; 10] = [
    "cpu_usage_percent",
    "memory_usage_bytes",
    "memory_usage_percent",
    "disk_usage_bytes",
    "disk_usage_percent",
    "network_rx_bytes",
    "network_tx_bytes",
    "load_average_1m",
    "load_average_5m",
    "load_average_15m",
];
/// Samples in each of them: 100 hosts of 10 metrics.
pub const SAMPLES_PER_BODY: u64 = 1_000;
/// Bodies until the first hosts come again.
const BODIES_PER_ROUND: usize = 10;
/// A time as hundreds of nanoseconds since 1970, in digits.
const DIGITS: &str = "17000000000000000";
/// Bodies for the same series stay on one connection: so many keep as many busy.
const BODIES_MIN: usize = 4;
/// Hosts in a body of numbered ones.
const HOSTS_PER_BODY: usize = 100;

/// How a time is written into a body.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stamp {
    /// Not at all: the receiver's clock stands for it.
    None,
    /// 17 digits, of hundreds of nanoseconds; two that count the rows of a series in a body stand behind them.
    Digits,
    /// A protobuf varint of six bytes: milliseconds.
    VarintMs,
    /// Eight bytes, little endian: nanoseconds.
    FixedNs,
}

impl Stamp {
    /// The bytes of a time.
    pub fn encode(self, ns: i64) -> Vec<u8> {
        match self {
            Stamp::None => Vec::new(),
            Stamp::Digits => format!("{:017}", ns / 100).into_bytes(),
            Stamp::VarintMs => binary::varint((ns / 1_000_000) as u64),
            Stamp::FixedNs => ns.to_le_bytes().to_vec(),
        }
    }

    /// Two times closer than this are written alike.
    pub fn step_ns(self) -> i64 {
        match self {
            Stamp::VarintMs => 1_000_000,
            Stamp::Digits => 100,
            Stamp::None | Stamp::FixedNs => 1,
        }
    }
}

/// Where a part of the time's bytes goes.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub at: usize,
    /// Which of the time's bytes.
    pub from: usize,
    pub len: usize,
}

/// A request with its places.
#[derive(Clone)]
pub struct Body {
    pub request: Vec<u8>,
    pub places: Vec<Place>,
    pub samples: u64,
}

impl Body {
    /// `places` are positions in `body`.
    pub fn new(path: &str, headers: &str, body: &[u8], mut places: Vec<Place>, samples: u64) -> Body {
        let request = http::post(path, headers, body);
        let head_len = request.len() - body.len();
        places.iter_mut().for_each(|place| place.at += head_len);
        Body { request, places, samples }
    }

    /// Writes a time into all places.
    pub fn write_time(&mut self, bytes: &[u8]) {
        for Place { at, from, len } in self.places.iter().copied() {
            self.request[at..at + len].copy_from_slice(&bytes[from..from + len]);
        }
    }
}

/// Bodies that are sent in turn.
#[derive(Clone)]
pub struct Bodies {
    pub all: Vec<Body>,
    /// Body `i` and body `i + groups` are about the same series.
    pub groups: usize,
    pub stamp: Stamp,
}

/// The files that `gen_lines.py` writes: `line`, or `seed` for the documented JSON.
pub fn generate(form: &str, into: &Path) -> Vec<PathBuf> {
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/load/gen_lines.py");
    let status = Command::new("python3").arg(program).arg(into).arg(form).status();
    assert!(status.is_ok_and(|status| status.success()), "python3 should run {program}");
    (0..40).map(|number| into.join(format!("{number:02}"))).collect()
}

/// The bodies of a format, from the same samples for each.
pub fn bodies(format: Format) -> Bodies {
    let folder = tempfile::tempdir().expect("a folder for the bodies");
    let form = if format == Format::Line { "line" } else { "seed" };
    let (path, headers) = (format.path(), format.headers());
    let stamp = match format {
        Format::RemoteWrite => Stamp::VarintMs,
        Format::Otlp => Stamp::FixedNs,
        _ => Stamp::None,
    };
    let files = generate(form, folder.path());
    let each = files.iter().map(|file| fs::read(file).expect("gen_lines.py wrote it"));
    let encoded = each.map(|text| match format {
        Format::RemoteWrite => binary::remote_write(&binary::hosts(&text)),
        Format::Otlp => binary::otlp(&binary::hosts(&text)),
        _ => (text, Vec::new()),
    });
    let all = encoded.map(|(body, places)| Body::new(path, headers, &body, places, SAMPLES_PER_BODY));
    Bodies { all: all.collect(), groups: BODIES_PER_ROUND, stamp }
}

/// Bodies with times for so many series, 10 on a host: lines, or the documented JSON. Where there are few series, a
/// body has several rows of each, so that it is of 1,000 samples all the same.
pub fn numbered(format: Format, series: usize) -> Bodies {
    let hosts: Vec<usize> = (0..series.div_ceil(METRICS.len())).collect();
    let body = |hosts: &[usize]| {
        let (mut text, mut places) = (String::new(), Vec::new());
        let rows = HOSTS_PER_BODY / hosts.len();
        for (row, host) in (0..rows).flat_map(|row| hosts.iter().map(move |host| (row, host))) {
            let (before, after) =
                if format == Format::Line { line_around(*host) } else { json_around(*host) };
            text += if format == Format::Line || !text.is_empty() { "" } else { "[" };
            text += &before;
            places.push(Place { at: text.len(), from: 0, len: DIGITS.len() });
            text += &format!("{DIGITS}{row:02}{after}");
        }
        if format == Format::Json {
            text.pop();
            text.push(']');
        }
        let samples = (places.len() * METRICS.len()) as u64;
        Body::new(format.path(), format.headers(), text.as_bytes(), places, samples)
    };
    let hosts_per_body = hosts.len().div_ceil(BODIES_MIN).clamp(1, HOSTS_PER_BODY);
    let all: Vec<Body> = hosts.chunks(hosts_per_body).map(body).collect();
    Bodies { groups: all.len(), all, stamp: Stamp::Digits }
}

/// What stands before and after the time of a host's line.
fn line_around(host: usize) -> (String, &'static str) {
    let fields: Vec<String> =
        METRICS.iter().zip(values(host)).map(|(name, value)| format!("{name}={value}")).collect();
    let tags = format!("host=server-{host:06},environment=production,location=rack-{}", host % 40);
    (format!("system,{tags} {} ", fields.join(",")), "\n")
}

/// What stands before and after the time of a host's message.
fn json_around(host: usize) -> (String, &'static str) {
    let metrics: Vec<String> =
        METRICS.iter().zip(values(host)).map(|(name, value)| format!("\"{name}\":{value}")).collect();
    let tags = format!(
        "\"host\":\"server-{host:06}\",\"environment\":\"production\",\"location\":\"rack-{}\"",
        host % 40
    );
    let metrics = metrics.join(",");
    (format!("{{\"service\":\"system\",\"metrics\":{{{metrics}}},\"tags\":{{{tags}}},\"timestamp\":"), "},")
}

/// Values with three decimals.
fn values(host: usize) -> impl Iterator<Item = String> {
    let value = move |n: usize| (host.wrapping_mul(7919) + n * 31) % 100_003;
    (0..METRICS.len()).map(move |n| format!("{}.{:03}", value(n) / 1_000, value(n) % 1_000))
}
