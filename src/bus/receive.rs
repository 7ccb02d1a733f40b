//! SUB and PULL: batches of messages from any number of peers.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::batch::{self, Draft, Intake, Queued};
use super::inbound::{Inbound, Taker, Wanted};
use super::link::Wiring;
use super::scan::Found;
use super::second::ZeromqCrate;
use super::topics::Topics;
use super::zmtp::SocketType;
use super::{Batch, BusCounters, BusError, Endpoint, LinkConfig, Transport, framing};

/// How messages are received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReceiveKind {
    /// From publishers, by topic. What a publisher can't send in time it drops.
    #[default]
    Sub,
    /// From PUSH sockets, everything and without loss; topics are not looked at.
    Pull,
}

/// Which implementation of ZeroMQ receives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TransportKind {
    /// Our own ZMTP.
    #[default]
    Zmtp,
    /// Crate `zeromq`: no limits, no heartbeats, slower; to compare with.
    Zeromq,
}

/// Settings of a [`Receiver`].
#[derive(Clone, Debug)]
pub struct ReceiverConfig {
    /// Peers to connect to and addresses to bind; at least one.
    pub endpoints: Vec<Endpoint>,
    /// SUB or PULL.
    pub kind: ReceiveKind,
    /// Topic patterns (see [`Topics`]); SUB needs at least one.
    pub topics: Vec<String>,
    /// Most bytes of one frame, and of the frames of one message together; up to 1 GiB. A peer that sends more is
    /// disconnected.
    pub max_frame_bytes: usize,
    /// Most batches waiting to be received; then sockets are no longer read.
    pub queue_batches: usize,
    /// Most bytes of those batches.
    pub queue_bytes: usize,
    /// Connections.
    pub link: LinkConfig,
    /// Who receives.
    pub transport: TransportKind,
}

impl Default for ReceiverConfig {
    fn default() -> Self {
        Self {
            endpoints: Vec::new(),
            kind: ReceiveKind::Sub,
            topics: Vec::new(),
            max_frame_bytes: 8 << 20,
            queue_batches: 256,
            queue_bytes: 64 << 20,
            link: LinkConfig::default(),
            transport: TransportKind::Zmtp,
        }
    }
}

impl ReceiverConfig {
    /// Checks what would make receiving impossible.
    ///
    /// # Errors
    /// [`BusError::Config`] names the key.
    pub fn validate(&self) -> Result<(), BusError> {
        self.link.validate()?;
        if self.endpoints.is_empty() {
            return Err(BusError::config("endpoints", "at least one endpoint", "none"));
        }
        if self.kind == ReceiveKind::Sub && self.topics.is_empty() {
            return Err(BusError::config("topics", "at least one topic pattern (* means all)", "none"));
        }
        max_frame_bytes_fit(self.max_frame_bytes)?;
        for (key, value) in [("queue_batches", self.queue_batches), ("queue_bytes", self.queue_bytes)] {
            if value == 0 {
                return Err(BusError::config(key, "at least 1", "0"));
            }
        }
        Ok(())
    }
}

/// Positions in a slab have 32 bits; a GiB leaves room for what comes with a message.
pub(super) fn max_frame_bytes_fit(bytes: usize) -> Result<(), BusError> {
    if (1..=1 << 30).contains(&bytes) {
        return Ok(());
    }
    Err(BusError::config("max_frame_bytes", "1 to 1073741824 bytes (1 GiB)", &bytes.to_string()))
}

/// Receives messages. Dropping it closes all connections at once.
#[derive(Debug)]
pub struct Receiver {
    queue: mpsc::Receiver<Queued>,
    bound: Vec<SocketAddr>,
    counters: Arc<BusCounters>,
    stop: CancellationToken,
    _tasks: Tasks,
}

/// Ends the tasks when it is dropped.
#[derive(Debug)]
struct Tasks(tokio::task::JoinHandle<()>);

impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Receiver {
    /// Binds and begins to connect; peers may come later. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// A setting that can't work, or an address that can't be bound.
    pub async fn start(config: ReceiverConfig) -> Result<Self, BusError> {
        config.validate()?;
        let counters = Arc::new(BusCounters::default());
        let stop = CancellationToken::new();
        let (intake, queue) = batch::queue(config.queue_batches, config.queue_bytes, Arc::clone(&counters));
        let mut tasks = JoinSet::new();
        let feed = Feed { intake, stop: stop.clone(), tasks: &mut tasks };
        let bound = match config.transport {
            TransportKind::Zmtp => Zmtp::start(&config, feed).await?,
            TransportKind::Zeromq => ZeromqCrate::start(&config, feed).await?,
        };
        let all = async move { while tasks.join_next().await.is_some() {} };
        Ok(Self { queue, bound, counters, stop, _tasks: Tasks(tokio::spawn(all)) })
    }

    /// The next batch; `None` after [`Receiver::shutdown`], when everything received was handed over. Cancel safe.
    pub async fn recv(&mut self) -> Option<Batch> {
        self.queue.recv().await.map(|queued| queued.batch)
    }

    /// The bound TCP addresses, in the order of their endpoints.
    pub fn bound(&self) -> &[SocketAddr] {
        &self.bound
    }

    /// What was carried and turned away.
    pub fn counters(&self) -> Arc<BusCounters> {
        Arc::clone(&self.counters)
    }

    /// Cancelling it does what [`Receiver::shutdown`] does.
    pub fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Stops reading. What was read already is still given by [`Receiver::recv`], then `None`.
    pub fn shutdown(&self) {
        self.stop.cancel();
    }
}

/// What a transport needs to feed a receiver.
pub(crate) struct Feed<'a> {
    /// Where batches go.
    pub intake: Intake,
    /// Says when to stop reading.
    pub stop: CancellationToken,
    /// Where the transport's tasks run.
    pub tasks: &'a mut JoinSet<()>,
}

/// Our own ZMTP.
struct Zmtp;

impl Transport for Zmtp {
    async fn start(config: &ReceiverConfig, feed: Feed<'_>) -> Result<Vec<SocketAddr>, BusError> {
        let topics = Topics::new(&config.topics);
        let none = Topics::default();
        let (kind, topics) = match config.kind {
            ReceiveKind::Sub => (SocketType::Sub, topics),
            ReceiveKind::Pull => (SocketType::Pull, none),
        };
        let wiring = Wiring {
            counters: Arc::clone(feed.intake.counters()),
            session: Arc::new(Inbound {
                kind,
                wanted: Wanted::new(topics.prefixes()),
                taker: ToIntake { intake: feed.intake, topics },
                body_len_max: config.max_frame_bytes,
                heartbeat_interval: config.link.heartbeat_interval,
                stop: feed.stop.clone(),
            }),
            config: config.link.clone(),
            stop: feed.stop,
        };
        wiring.start(&config.endpoints, feed.tasks).await
    }
}

/// Turns messages into batches.
struct ToIntake {
    intake: Intake,
    topics: Topics,
}

impl Taker for ToIntake {
    type Draft = Draft;

    fn add(&self, draft: &mut Draft, slab: &[u8], found: Found) {
        let Some((topic, payload)) = framing::split(slab, found.frames, found.first, found.second) else {
            self.intake.counters().malformed.add(1);
            return;
        };
        if self.topics.lets_through(&slab[topic.clone()]) {
            draft.add(topic, payload);
        } else {
            self.intake.counters().filtered.add(1);
        }
    }

    async fn deliver(&self, draft: &mut Draft, slab: &mut Vec<u8>, consumed: usize, capacity: usize) -> bool {
        self.intake.deliver_draft(draft, slab, consumed, capacity).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn settings_that_can_not_work_are_named() {
        let good = ReceiverConfig {
            endpoints: vec!["tcp://localhost:1".parse().unwrap()],
            topics: vec!["*".into()],
            ..ReceiverConfig::default()
        };
        good.validate().unwrap();
        type Change = fn(&mut ReceiverConfig);
        let cases: [(&str, Change); 7] = [
            ("endpoints", |c| c.endpoints.clear()),
            ("topics", |c| c.topics.clear()),
            ("max_frame_bytes", |c| c.max_frame_bytes = 2 << 30),
            ("queue_batches", |c| c.queue_batches = 0),
            ("queue_bytes", |c| c.queue_bytes = 0),
            ("handshake_timeout", |c| c.link.handshake_timeout = Duration::ZERO),
            ("reconnect_max", |c| c.link.reconnect_max = Duration::from_millis(1)),
        ];
        for (key, change) in cases {
            let mut config = good.clone();
            change(&mut config);
            let error = config.validate().unwrap_err().to_string();
            assert!(error.contains(key), "{key}: {error}");
        }
    }
}
