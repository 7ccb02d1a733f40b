//! The embedded bus: publishers connect to one side, subscribers to the other (XSUB and XPUB).
//!
//! Subscriptions go upstream as their union, so a publisher sends only what somebody wants. Each subscriber has a
//! bounded queue of its own: a slow one loses messages, which are counted, and holds up nobody.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;

use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::endpoint::Address;
use super::fanout::{Fanout, Outbound, QueueLimits};
use super::inbound::{Inbound, Taker, Wanted};
use super::link::Wiring;
use super::receive::max_frame_bytes_fit;
use super::scan::{Found, without_commands};
use super::zmtp::SocketType;
use super::{Attach, BusCounters, BusError, Endpoint, LINGER, LinkConfig};

/// Settings of a [`Forwarder`].
#[derive(Clone, Debug)]
pub struct ForwarderConfig {
    /// Where publishers connect to; it may also connect to publishers.
    pub publishers: Vec<Endpoint>,
    /// Where subscribers connect to.
    pub subscribers: Vec<Endpoint>,
    /// Most bytes of one frame, and of the frames of one message together; up to 1 GiB.
    pub max_frame_bytes: usize,
    /// Most messages waiting for one subscriber; more are dropped and counted.
    pub queue_messages: usize,
    /// Most bytes waiting for one subscriber.
    pub queue_bytes: usize,
    /// Connections.
    pub link: LinkConfig,
}

impl Default for ForwarderConfig {
    /// On 127.0.0.1, the ports that plantd's broker has for its metric bus: 13000 and 13001.
    fn default() -> Self {
        let local = |port| Endpoint {
            attach: Attach::Bind,
            address: Address::Tcp { host: "127.0.0.1".to_owned(), port },
        };
        Self {
            publishers: vec![local(13000)],
            subscribers: vec![local(13001)],
            max_frame_bytes: 8 << 20,
            queue_messages: 100_000,
            queue_bytes: 32 << 20,
            link: LinkConfig::default(),
        }
    }
}

impl ForwarderConfig {
    /// Checks what would make forwarding impossible.
    ///
    /// # Errors
    /// [`BusError::Config`] names the key.
    pub fn validate(&self) -> Result<(), BusError> {
        self.link.validate()?;
        for (key, list) in [("publishers", &self.publishers), ("subscribers", &self.subscribers)] {
            if list.is_empty() {
                return Err(BusError::config(key, "at least one endpoint", "none"));
            }
        }
        max_frame_bytes_fit(self.max_frame_bytes)?;
        for (key, value) in [("queue_messages", self.queue_messages), ("queue_bytes", self.queue_bytes)] {
            if value == 0 {
                return Err(BusError::config(key, "at least 1", "0"));
            }
        }
        Ok(())
    }
}

/// Forwards messages between publishers and subscribers. Dropping it closes all connections at once.
pub struct Forwarder {
    publishers: Vec<SocketAddr>,
    subscribers: Vec<SocketAddr>,
    counters: Arc<BusCounters>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Forwarder {
    /// Binds both sides and begins to forward. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// A setting that can't work, or an address that can't be bound.
    pub async fn start(config: ForwarderConfig) -> Result<Self, BusError> {
        config.validate()?;
        let counters = Arc::new(BusCounters::default());
        let stop = CancellationToken::new();
        let wanted = Wanted::new([]);
        let limits = QueueLimits { messages: config.queue_messages, bytes: config.queue_bytes };
        let fanout = Arc::new(Fanout::new(limits, Arc::clone(&counters), Arc::clone(&wanted)));
        let heartbeat_interval = config.link.heartbeat_interval;
        let front = Wiring {
            session: Arc::new(Inbound {
                kind: SocketType::Xsub,
                taker: ToPeers { fanout: Arc::clone(&fanout), counters: Arc::clone(&counters) },
                wanted,
                body_len_max: config.max_frame_bytes,
                heartbeat_interval,
                stop: stop.clone(),
            }),
            config: config.link.clone(),
            counters: Arc::clone(&counters),
            stop: stop.clone(),
        };
        let back = Wiring {
            session: Arc::new(Outbound {
                kind: SocketType::Xpub,
                fanout,
                heartbeat_interval,
                stop: stop.clone(),
            }),
            config: config.link,
            counters: Arc::clone(&counters),
            stop: stop.clone(),
        };
        let mut tasks = JoinSet::new();
        let subscribers = back.start(&config.subscribers, &mut tasks).await?;
        let publishers = front.start(&config.publishers, &mut tasks).await?;
        Ok(Self { publishers, subscribers, counters, stop, tasks })
    }

    /// Where publishers connect to: the bound TCP addresses.
    pub fn publishers(&self) -> &[SocketAddr] {
        &self.publishers
    }

    /// Where subscribers connect to: the bound TCP addresses.
    pub fn subscribers(&self) -> &[SocketAddr] {
        &self.subscribers
    }

    /// What was carried and turned away, both sides together.
    pub fn counters(&self) -> Arc<BusCounters> {
        Arc::clone(&self.counters)
    }

    /// Sends what is queued, for a second at most, and closes.
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        let all = async { while self.tasks.join_next().await.is_some() {} };
        // What can't be sent in time is lost, as it is when a subscriber goes away.
        let _ = timeout(LINGER, all).await;
    }
}

/// Hands messages on to the subscribers, as they came.
struct ToPeers {
    fanout: Arc<Fanout>,
    counters: Arc<BusCounters>,
}

/// Messages of one slab, by topic and wire positions; those that had to be put together anew stand apart.
#[derive(Default)]
struct Passing {
    whole: Vec<(Range<usize>, Range<usize>)>,
    content_len: u64,
}

impl Taker for ToPeers {
    type Draft = Passing;

    fn add(&self, passing: &mut Passing, slab: &[u8], found: Found) {
        passing.content_len += found.wire.len() as u64;
        if !found.interrupted {
            passing.whole.push((found.first, found.wire));
            return;
        }
        // The order of messages is kept: what came before goes first.
        self.pass(passing, slab);
        let mut clean = Vec::with_capacity(found.wire.len());
        without_commands(&slab[found.wire], &mut clean);
        self.fanout.offer_all(std::iter::once((&slab[found.first], &clean[..])));
        self.counters.messages.add(1);
    }

    async fn deliver(&self, passing: &mut Passing, slab: &mut Vec<u8>, consumed: usize, _: usize) -> bool {
        self.pass(passing, slab);
        slab.drain(..consumed);
        true
    }
}

impl ToPeers {
    fn pass(&self, passing: &mut Passing, slab: &[u8]) {
        let messages = passing.whole.iter();
        let messages = messages.map(|(topic, wire)| (&slab[topic.clone()], &slab[wire.clone()]));
        self.fanout.offer_all(messages);
        self.counters.messages.add(passing.whole.len() as u64);
        self.counters.bytes.add(std::mem::take(&mut passing.content_len));
        passing.whole.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_plantd_s_metric_bus() {
        let config = ForwarderConfig::default();
        config.validate().unwrap();
        assert_eq!(config.publishers[0].to_string(), "@tcp://127.0.0.1:13000");
        assert_eq!(config.subscribers[0].to_string(), "@tcp://127.0.0.1:13001");
    }
}
