//! PUB: messages to every subscriber that wants them, without ever waiting for one.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

pub use super::fanout::Outcome;
use super::fanout::{Fanout, Outbound, QueueLimits};
use super::inbound::Wanted;
use super::link::Wiring;
use super::zmtp::SocketType;
use super::{BusCounters, BusError, Endpoint, Framing, LINGER, LinkConfig};

/// Settings of a [`Publisher`].
#[derive(Clone, Debug)]
pub struct PublisherConfig {
    /// Brokers or subscribers to connect to and addresses to bind; at least one.
    pub endpoints: Vec<Endpoint>,
    /// How topic and payload are put into frames.
    pub framing: Framing,
    /// Most messages waiting for one peer; more are dropped and counted.
    pub queue_messages: usize,
    /// Most bytes waiting for one peer.
    pub queue_bytes: usize,
    /// Connections.
    pub link: LinkConfig,
}

impl Default for PublisherConfig {
    fn default() -> Self {
        Self {
            endpoints: Vec::new(),
            framing: Framing::Frames,
            queue_messages: 100_000,
            queue_bytes: 32 << 20,
            link: LinkConfig::default(),
        }
    }
}

impl PublisherConfig {
    /// Checks what would make publishing impossible.
    ///
    /// # Errors
    /// [`BusError::Config`] names the key.
    pub fn validate(&self) -> Result<(), BusError> {
        self.link.validate()?;
        if self.endpoints.is_empty() {
            return Err(BusError::config("endpoints", "at least one endpoint", "none"));
        }
        for (key, value) in [("queue_messages", self.queue_messages), ("queue_bytes", self.queue_bytes)] {
            if value == 0 {
                return Err(BusError::config(key, "at least 1", "0"));
            }
        }
        Ok(())
    }
}

/// Publishes messages. Dropping it closes all connections at once; [`Publisher::shutdown`] sends what is queued.
pub struct Publisher {
    fanout: Arc<Fanout>,
    framing: Framing,
    bound: Vec<SocketAddr>,
    counters: Arc<BusCounters>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Publisher {
    /// Binds and begins to connect; peers may come later. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// A setting that can't work, or an address that can't be bound.
    pub async fn start(config: PublisherConfig) -> Result<Self, BusError> {
        config.validate()?;
        let counters = Arc::new(BusCounters::default());
        let stop = CancellationToken::new();
        let limits = QueueLimits { messages: config.queue_messages, bytes: config.queue_bytes };
        let fanout = Arc::new(Fanout::new(limits, Arc::clone(&counters), Wanted::new([])));
        let wiring = Wiring {
            session: Arc::new(Outbound {
                kind: SocketType::Pub,
                fanout: Arc::clone(&fanout),
                heartbeat_interval: config.link.heartbeat_interval,
                stop: stop.clone(),
            }),
            config: config.link,
            counters: Arc::clone(&counters),
            stop: stop.clone(),
        };
        let mut tasks = JoinSet::new();
        let bound = wiring.start(&config.endpoints, &mut tasks).await?;
        Ok(Self { fanout, framing: config.framing, bound, counters, stop, tasks })
    }

    /// Queues a message for every connected peer that subscribed to its topic. Never waits.
    pub fn send(&self, topic: &[u8], payload: &[u8]) -> Outcome {
        let len = topic.len() + payload.len();
        self.counters.messages.add(1);
        self.counters.bytes.add(len as u64);
        self.fanout.offer(topic, len, |out| self.framing.put(out, topic, payload))
    }

    /// The bound TCP addresses, in the order of their endpoints.
    pub fn bound(&self) -> &[SocketAddr] {
        &self.bound
    }

    /// What was carried and turned away.
    pub fn counters(&self) -> Arc<BusCounters> {
        Arc::clone(&self.counters)
    }

    /// Sends what is queued, for a second at most, and closes.
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        let all = async { while self.tasks.join_next().await.is_some() {} };
        // What can't be sent in time is lost, as it is when a peer goes away.
        let _ = timeout(LINGER, all).await;
    }
}
