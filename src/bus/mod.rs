//! ZeroMQ transport: messages in from publishers, messages out to subscribers, and a forwarder between the two.
//!
//! The wire protocol is ZMTP 3.1 with the NULL mechanism (<https://rfc.zeromq.org/spec/37/>), spoken here over
//! tokio sockets; peers of ZMTP 3.0 are accepted, older ones refused. Everything a peer sends has a limit, and a
//! peer that exceeds one loses its connection, nothing else. Messages arrive in batches: one slab of bytes and the
//! positions of topics and payloads in it, so that a decoder pays no allocation per message.
//!
//! This room knows topics and payloads and never looks into a payload.
//!
//! # Layout
//! - [`endpoint`]: `tcp://host:port`, `ipc://path`, czmq's `>` and `@`
//! - [`counters`]: what was carried and what was turned away
//! - [`topics`]: topic patterns -> prefix subscriptions and filters; which topics are on the bus
//! - [`framing`]: frames -> topic and payload, and back
//! - [`batch`]: the unit of delivery and the bounded queue it goes through
//! - `zmtp`: greeting and commands, without IO
//! - `scan`: bytes -> messages and commands, without IO
//! - `stream`: sockets of the operating system
//! - `link`: handshake, accepting and reconnecting
//! - `inbound`: a connection that messages come in by
//! - [`receive`]: SUB and PULL
//! - `second`: the same, received by crate `zeromq`
//! - `fanout`: subscriptions of peers and their bounded queues
//! - [`publish`]: PUB, which never waits
//! - [`forward`]: the embedded bus, XSUB to XPUB

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

pub mod endpoint;

pub mod counters;

pub mod topics;

pub mod framing;

pub mod batch;

mod scan;
mod zmtp;

mod stream;

mod link;

mod inbound;

pub mod receive;

mod second;

mod fanout;

pub mod publish;

pub mod forward;

pub use batch::Batch;
pub use counters::BusCounters;
pub use endpoint::{Attach, Endpoint};
pub use forward::{Forwarder, ForwarderConfig};
pub use framing::Framing;
pub use publish::{Outcome, Publisher, PublisherConfig};
pub use receive::{ReceiveKind, Receiver, ReceiverConfig, TransportKind};

/// What carries messages from peers into the queue of a [`Receiver`]: our own ZMTP, or crate `zeromq`.
pub(crate) trait Transport {
    /// Binds what is to be bound, starts the tasks that receive into the queue, and returns the bound addresses.
    fn start(
        config: &ReceiverConfig,
        feed: receive::Feed<'_>,
    ) -> impl Future<Output = Result<Vec<SocketAddr>, BusError>> + Send;
}

/// How connections are made, kept alive and given up. The same for every kind of socket.
#[derive(Clone, Debug, PartialEq)]
pub struct LinkConfig {
    /// Longest wait for a TCP connection to be made.
    pub connect_timeout: Duration,
    /// Longest wait for a connected peer to greet and to say what it is.
    pub handshake_timeout: Duration,
    /// First pause before connecting again; doubled at every failure.
    pub reconnect_min: Duration,
    /// Longest pause before connecting again.
    pub reconnect_max: Duration,
    /// Pause between the PINGs that we send to peers of ZMTP 3.1; zero sends none. A peer that has sent nothing for
    /// three such pauses is disconnected.
    pub heartbeat_interval: Duration,
    /// Idle time before TCP keepalive probes begin (then one every third of it, three in all); zero leaves it off.
    pub tcp_keepalive: Duration,
    /// Most peers accepted at a time by one bound endpoint; more are closed and counted.
    pub peers_max: usize,
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(2),
            handshake_timeout: Duration::from_secs(5),
            reconnect_min: Duration::from_millis(100),
            reconnect_max: Duration::from_millis(900),
            heartbeat_interval: Duration::from_secs(5),
            tcp_keepalive: Duration::from_secs(15),
            peers_max: 256,
        }
    }
}

/// How long a shutdown may take before connections are cut.
const LINGER: Duration = Duration::from_secs(1);

impl LinkConfig {
    /// Checks what would make a connection impossible.
    ///
    /// # Errors
    /// [`BusError::Config`] names the key.
    pub fn validate(&self) -> Result<(), BusError> {
        let positive = [
            ("connect_timeout", self.connect_timeout),
            ("handshake_timeout", self.handshake_timeout),
            ("reconnect_min", self.reconnect_min),
        ];
        for (key, value) in positive {
            if value.is_zero() {
                return Err(BusError::config(key, "a duration above zero", "0"));
            }
        }
        if self.reconnect_max < self.reconnect_min {
            let found = format!("{:?}", self.reconnect_max);
            return Err(BusError::config("reconnect_max", "at least reconnect_min", &found));
        }
        if self.peers_max == 0 {
            return Err(BusError::config("peers_max", "at least 1", "0"));
        }
        Ok(())
    }
}

/// Why a socket could not be started. What happens later on a running socket is counted and logged instead.
#[derive(Debug)]
pub enum BusError {
    /// An endpoint that can't be understood.
    Endpoint {
        /// As written.
        text: String,
        /// What would have been right.
        expected: &'static str,
    },
    /// A setting that can't work.
    Config {
        /// Name of the field.
        key: &'static str,
        /// What would have been right.
        expected: String,
        /// What was given.
        found: String,
    },
    /// An address that can't be bound.
    Bind {
        /// The endpoint.
        endpoint: String,
        /// What the system said.
        error: io::Error,
    },
}

impl BusError {
    fn config(key: &'static str, expected: &str, found: &str) -> Self {
        Self::Config { key, expected: expected.to_owned(), found: found.to_owned() }
    }
}

impl fmt::Display for BusError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Endpoint { text, expected } => {
                write!(f, "bus endpoint: expected {expected}, found {text:?}")
            }
            Self::Config { key, expected, found } => {
                write!(f, "bus {key}: expected {expected}, found {found}")
            }
            Self::Bind { endpoint, error } => {
                write!(f, "can't bind bus endpoint {endpoint}: {error}")
            }
        }
    }
}

impl std::error::Error for BusError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Bind { error, .. } => Some(error),
            _ => None,
        }
    }
}
