//! Sections `http` and `ingest`: the API and what it and the bus accept.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::kinds::{BOOL, LISTEN, count, duration, size};
use super::section::section;

/// Section `http`.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpSettings {
    /// Default on; in producer mode only where `listen` is given, so that both modes fit on one host.
    pub enabled: bool,
    /// Where the API listens. Default `127.0.0.1:8080`.
    pub listen: SocketAddr,
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
}

impl Default for IngestSettings {
    fn default() -> Self {
        IngestSettings {
            tags_per_series_max: 32,
            name_len_max: 256,
            tag_len_max: 256,
            future_max: Duration::from_secs(600),
            rejected_kept: 1000,
        }
    }
}

section! { HttpSettings requires [] {
    "enabled" => enabled: BOOL,
    "listen" => listen: LISTEN,
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
} }
