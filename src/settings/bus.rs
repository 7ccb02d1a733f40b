//! Section `bus`: where messages come from and go to.

use std::time::Duration;

use super::compounds::{List, OrWord, Sub};
use super::kinds::{BOOL, ENDPOINT, TEXT, choice as word, count, duration, size, text};
use super::section::section;
use super::words::choice;

choice! {
    /// The pattern of the sockets: who gets a message.
    pub enum BusKind {
        /// A consumer subscribes (SUB), a producer publishes (PUB): every consumer gets everything.
        "sub" => Sub,
        /// A consumer pulls (PULL), a producer pushes (PUSH): consumers share the messages, none is lost.
        "pull" => Pull,
    }
}

choice! {
    /// What a producer sends. A consumer understands both at all times.
    pub enum Framing {
        /// The documented two frames: topic, JSON.
        "frames" => Frames,
        /// One frame as plantd's Go code sends it: the envelope, immediately followed by the JSON.
        "envelope" => Envelope,
    }
}

choice! {
    /// Which implementation of ZeroMQ carries the messages.
    pub enum Transport {
        /// The one of this program.
        "native" => Native,
        /// The crate `zeromq`.
        "zeromq" => Zeromq,
    }
}

/// Section `bus`.
///
/// Endpoints are `tcp://HOST:PORT`, prefixes of czmq (`>` connect, `@` bind) already taken off.
#[derive(Clone, Debug, PartialEq)]
pub struct BusSettings {
    /// `endpoint`: addresses that a consumer connects to, besides the embedded bus where that is enabled. Default
    /// `tcp://localhost:11001`; none where only `bind` is given or the embedded bus is enabled.
    pub endpoints: Vec<String>,
    /// Addresses on which a consumer listens for producers. Default none.
    pub bind: Vec<String>,
    /// `publish_endpoint`: addresses that a producer connects to, besides the embedded bus where that is enabled.
    /// Default: what `endpoint` says (then `publish_bind` is what `bind` says); none where only `publish_bind` is
    /// given or the embedded bus is enabled.
    pub publish_endpoints: Vec<String>,
    /// Addresses on which a producer listens for consumers. Default none.
    pub publish_bind: Vec<String>,
    /// Topics a consumer subscribes to: exact, or globs with `*`. Default `metrics.*`, `system.*`, `application.*`
    /// and, for the envelopes of plantd's Go code, `org.plantd.*`.
    pub topics: Vec<String>,
    /// Default sub.
    pub kind: BusKind,
    /// What a producer sends. Default frames.
    pub framing: Framing,
    /// Envelope of a producer whose framing is `envelope`. Default `org.plantd.Metric`.
    pub envelope: String,
    /// Default native.
    pub transport: Transport,
    /// `frame_max`: bytes of one frame, and of all frames of one message; a peer that sends more is closed.
    /// Default 8 MiB.
    pub frame_bytes_max: u64,
    /// Messages that wait for one slow peer before more of them are dropped and counted. Default 100,000.
    pub queue_len_max: usize,
    /// Time between two pings to a peer, which counts as gone after a silence of three; `None` (`off`): none are
    /// sent. Default 10 s.
    pub heartbeat: Option<Duration>,
    /// Longest pause before a lost peer is tried again. Default 500 ms.
    pub reconnect_max: Duration,
    /// The forwarder within this process.
    pub embedded: EmbeddedBusSettings,
}

/// Section `bus.embedded`: a forwarder that publishers and subscribers connect to.
#[derive(Clone, Debug, PartialEq)]
pub struct EmbeddedBusSettings {
    /// Default: on in standalone mode only.
    pub enabled: bool,
    /// Address for publishers (XSUB). Default `tcp://127.0.0.1:13000`.
    pub frontend: String,
    /// Address for subscribers (XPUB). Default `tcp://127.0.0.1:13001`.
    pub backend: String,
}

impl Default for BusSettings {
    fn default() -> Self {
        BusSettings {
            endpoints: vec![DEFAULT_ENDPOINT.into()],
            bind: Vec::new(),
            publish_endpoints: vec![DEFAULT_ENDPOINT.into()],
            publish_bind: Vec::new(),
            topics: ["metrics.*", "system.*", "application.*", "org.plantd.*"].map(String::from).to_vec(),
            kind: BusKind::Sub,
            framing: Framing::Frames,
            envelope: "org.plantd.Metric".into(),
            transport: Transport::Native,
            frame_bytes_max: 8 << 20,
            queue_len_max: 100_000,
            heartbeat: Some(Duration::from_secs(10)),
            reconnect_max: Duration::from_millis(500),
            embedded: EmbeddedBusSettings::default(),
        }
    }
}

/// The endpoint that the contract document shows.
pub const DEFAULT_ENDPOINT: &str = "tcp://localhost:11001";

impl Default for EmbeddedBusSettings {
    fn default() -> Self {
        EmbeddedBusSettings {
            enabled: false,
            frontend: "tcp://127.0.0.1:13000".into(),
            backend: "tcp://127.0.0.1:13001".into(),
        }
    }
}

section! { BusSettings requires [] {
    "endpoint" | "endpoints" => endpoints: List(ENDPOINT),
    "bind" => bind: List(ENDPOINT),
    "publish_endpoint" | "publish_endpoints" => publish_endpoints: List(ENDPOINT),
    "publish_bind" => publish_bind: List(ENDPOINT),
    "topics" => topics: List(text("a topic such as metrics.*, or * for all")),
    "kind" => kind: word(),
    "framing" => framing: word(),
    "envelope" => envelope: TEXT,
    "transport" => transport: word(),
    "frame_max" => frame_bytes_max: size(1 << 10, 1 << 30),
    "queue_len_max" => queue_len_max: count(1, 10_000_000),
    "heartbeat" => heartbeat: OrWord("off", duration("100ms", "1h")),
    "reconnect_max" => reconnect_max: duration("10ms", "1h"),
    "embedded" => embedded: Sub,
} }

section! { EmbeddedBusSettings requires [] {
    "enabled" => enabled: BOOL,
    "frontend" => frontend: ENDPOINT,
    "backend" => backend: ENDPOINT,
} }
