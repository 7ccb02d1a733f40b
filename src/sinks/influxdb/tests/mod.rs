//! Tests of the InfluxDB sink, by what they look at.

mod answers;
mod dialects;
mod line;
mod reading;

use std::io::Read;
use std::sync::Arc;

use operators::sample::TimeNs;
use operators::series::Target;

use super::{InfluxConfig, InfluxSink};
use crate::message::Message;
use crate::sinks::target::fake::{FakeServer, Reply, Request};

/// 2024-01-01T12:00:00.123456789Z.
const NOON: TimeNs = 1_704_110_400_123_456_789;

fn message(time_ns: TimeNs, service: &str, tags: &[(&str, &str)], metrics: &[(&str, f64)]) -> Message {
    Message {
        time_ns,
        target: Arc::new(Target::new(service, tags.iter().copied())),
        metrics: metrics.iter().map(|(name, value)| (Arc::from(*name), *value)).collect(),
    }
}

/// A message of `system` with one metric.
fn plain(value: f64) -> Message {
    message(NOON, "system", &[("host", "h")], &[("cpu", value)])
}

fn sink(server: &FakeServer, change: impl FnOnce(&mut InfluxConfig)) -> InfluxSink {
    let mut config = InfluxConfig { url: server.url(), gzip: false, ..InfluxConfig::default() };
    change(&mut config);
    InfluxSink::open(config).unwrap()
}

/// A server that answers a ping as 1.x does, every query with nothing, and writes as told.
fn one_x(mut write: impl FnMut(&Request) -> Reply + Send + 'static) -> FakeServer {
    FakeServer::start(move |request| match request.path() {
        "/ping" => Reply::status("204 No Content").and("X-Influxdb-Version", "1.8.10"),
        path if path.starts_with("/query") => Reply::text("200 OK", r#"{"results":[{"statement_id":0}]}"#),
        _ => write(request),
    })
}

/// The requests that were no ping.
fn asked(server: &FakeServer) -> Vec<Request> {
    server.requests().into_iter().filter(|request| request.path() != "/ping").collect()
}

/// The query of a form, percent-decoded.
fn statement(request: &Request) -> String {
    let text = request.text();
    let mut bytes = text.strip_prefix("q=").unwrap().bytes();
    let mut out = Vec::new();
    while let Some(byte) = bytes.next() {
        let mut hex = || char::from(bytes.next().unwrap()).to_digit(16).unwrap() as u8;
        out.push(if byte == b'%' { hex() * 16 + hex() } else { byte });
    }
    String::from_utf8(out).unwrap()
}

fn unpacked(bytes: &[u8]) -> String {
    let mut text = String::new();
    flate2::read::GzDecoder::new(bytes).read_to_string(&mut text).unwrap();
    text
}
