//! Section `statsd`: metrics by StatsD over UDP.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::kinds::{BOOL, LISTEN, TEXT, count, duration, size};
use super::section::section;

/// Section `statsd`. A producer does not listen.
#[derive(Clone, Debug, PartialEq)]
pub struct StatsdSettings {
    /// Default off.
    pub enabled: bool,
    /// Where it listens, by UDP. Default `127.0.0.1:8125`.
    pub listen: SocketAddr,
    /// Service of what has no tag `service`. Default `statsd`.
    pub service: String,
    /// What is counted is told this often. Default 10 s.
    pub flush_interval: Duration,
    /// Silence after which a series is forgotten: its counter begins at 0 again. Default 1 h.
    pub expire_after: Duration,
    /// Series that are counted at a time. Default 100,000.
    pub series_max: usize,
    /// Different values of all sets together, within an interval. Default 1,000,000.
    pub set_values_max: usize,
    /// `datagram_max`: bytes of one datagram. Default 64 KiB, which is all that UDP can carry.
    pub datagram_bytes_max: u64,
    /// `receive_buffer`: bytes that the kernel is asked to hold until they are read. Default 4 MiB.
    pub receive_buffer_bytes: u64,
}

impl Default for StatsdSettings {
    fn default() -> Self {
        StatsdSettings {
            enabled: false,
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8125)),
            service: "statsd".into(),
            flush_interval: Duration::from_secs(10),
            expire_after: Duration::from_secs(3600),
            series_max: 100_000,
            set_values_max: 1_000_000,
            datagram_bytes_max: 64 << 10,
            receive_buffer_bytes: 4 << 20,
        }
    }
}

section! { StatsdSettings requires [] {
    "enabled" => enabled: BOOL,
    "listen" => listen: LISTEN,
    "service" => service: TEXT,
    "flush_interval" => flush_interval: duration("100ms", "1h"),
    "expire_after" => expire_after: duration("1s", "365d"),
    "series_max" => series_max: count(1, 100_000_000),
    "set_values_max" => set_values_max: count(1, 100_000_000),
    "datagram_max" => datagram_bytes_max: size(64, 64 << 10),
    "receive_buffer" => receive_buffer_bytes: size(4 << 10, 1 << 30),
} }
