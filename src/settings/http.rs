//! Sections `http` and `ingest`: the API and what it and the bus accept.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::compounds::{Optional, Sub};
use super::kinds::{BOOL, LISTEN, Url, count, duration, size};
use super::section::section;
use super::words::HttpUrl;

/// Section `http`.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpSettings {
    /// Default on; in producer mode only where `listen` is given, so that both modes fit on one host.
    pub enabled: bool,
    /// Where the API listens. Default `127.0.0.1:8080`.
    pub listen: SocketAddr,
    /// Where others reach the API, for links in notifications; `None`: there are no links.
    pub external_url: Option<HttpUrl>,
    /// `body_max`: bytes of one request body, after decompression. Default 16 MiB.
    pub body_bytes_max: u64,
    /// Time for a client to send the headers of a request. Default 10 s.
    pub header_timeout: Duration,
    /// Time for a whole request, body and answer. Default 30 s.
    pub request_timeout: Duration,
    /// Open connections; more of them are closed and counted. Default 1,024.
    pub connections_max: usize,
    /// Samples or points in one answer. Default 100,000.
    pub results_max: usize,
}

impl Default for HttpSettings {
    fn default() -> Self {
        HttpSettings {
            enabled: true,
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            external_url: None,
            body_bytes_max: 16 << 20,
            header_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            connections_max: 1024,
            results_max: 100_000,
        }
    }
}

/// Section `ingest`: what makes a sample acceptable.
#[derive(Clone, Debug, PartialEq)]
pub struct IngestSettings {
    /// Default 32.
    pub tags_per_series_max: usize,
    /// Bytes of a metric name or a service. Default 256.
    pub name_len_max: usize,
    /// Bytes of a tag's name, and of its value. Default 256.
    pub tag_len_max: usize,
    /// How far ahead of the arrival clock a sample may be. Default 10 min.
    pub future_max: Duration,
    /// Rejected samples that are kept for `GET /api/v1/rejected`. Default 1,000.
    pub rejected_kept: usize,
    /// How long an answer to HTTP waits for the journal, before it is 503. Default 5 s, or `http.request_timeout`.
    pub ack_timeout: Duration,
    /// Values of `Idempotency-Key` that are remembered; beyond it the oldest go first. Default 100,000.
    pub idempotency_keys_max: usize,
    /// How long each of them is remembered. Default 1 h.
    pub idempotency_retention: Duration,
    /// Of which input formats a sample that repeats series and event time is one that was sent again.
    pub dedup: DedupSettings,
}

/// Section `ingest.dedup`: one key for each input format. A new format adds its field and its row.
#[derive(Clone, Debug, PartialEq)]
pub struct DedupSettings {
    /// The documented JSON, in which several observations may share a second. Default off.
    pub json: bool,
    /// InfluxDB's line protocol, in which a series has one value a time. Default on.
    pub line: bool,
    /// OTLP, of which a series has one point a time: its exporters send a request again whose answer got lost.
    /// Default on.
    pub otlp: bool,
    /// Prometheus remote write, in which series and time identify a sample. Default on.
    pub remote_write: bool,
    /// Pushed Prometheus text. Default off.
    pub prometheus_text: bool,
}

impl Default for DedupSettings {
    fn default() -> Self {
        DedupSettings { json: false, line: true, otlp: true, remote_write: true, prometheus_text: false }
    }
}

impl DedupSettings {
    /// Whether a format drops such samples; one that has no key here does not.
    pub fn of(&self, format: &str) -> bool {
        match format {
            "json" => self.json,
            "line" => self.line,
            "otlp" | "otlp_json" => self.otlp,
            "remote_write" | "remote_write_2" => self.remote_write,
            "prometheus_text" | "openmetrics" => self.prometheus_text,
            _ => false,
        }
    }
}

impl Default for IngestSettings {
    fn default() -> Self {
        IngestSettings {
            tags_per_series_max: 32,
            name_len_max: 256,
            tag_len_max: 256,
            future_max: Duration::from_secs(600),
            rejected_kept: 1000,
            ack_timeout: Duration::from_secs(5),
            idempotency_keys_max: 100_000,
            idempotency_retention: Duration::from_secs(3600),
            dedup: DedupSettings::default(),
        }
    }
}

section! { HttpSettings requires [] {
    "enabled" => enabled: BOOL,
    "listen" => listen: LISTEN,
    "external_url" => external_url: Optional(Url),
    "body_max" => body_bytes_max: size(1 << 10, 1 << 30),
    "header_timeout" => header_timeout: duration("10ms", "1h"),
    "request_timeout" => request_timeout: duration("10ms", "1h"),
    "connections_max" => connections_max: count(1, 1_000_000),
    "results_max" => results_max: count(1, 100_000_000),
} }

section! { IngestSettings requires [] {
    "tags_per_series_max" => tags_per_series_max: count(0, 1024),
    "name_len_max" => name_len_max: count(1, 65_535),
    "tag_len_max" => tag_len_max: count(1, 65_535),
    "future_max" => future_max: duration("0s", "3650d"),
    "rejected_kept" => rejected_kept: count(0, 1_000_000),
    "ack_timeout" => ack_timeout: duration("10ms", "1h"),
    "idempotency_keys_max" => idempotency_keys_max: count(0, 100_000_000),
    "idempotency_retention" => idempotency_retention: duration("1s", "30d"),
    "dedup" => dedup: Sub,
} }

section! { DedupSettings requires [] {
    "json" => json: BOOL,
    "line" => line: BOOL,
    "otlp" => otlp: BOOL,
    "remote_write" => remote_write: BOOL,
    "prometheus_text" => prometheus_text: BOOL,
} }
