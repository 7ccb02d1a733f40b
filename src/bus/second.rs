//! The second transport: crate `zeromq` behind the same queue, to compare with and as a peer that others wrote.
//!
//! Its 0.7 has no limits on frames, answers no heartbeats and waits up to 30 s between attempts to reconnect; choose
//! it only for peers that are known to behave.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::warn;
use zeromq::{PullSocket, Socket, SocketRecv, SubSocket, ZmqError, ZmqMessage};

use super::batch::Intake;
use super::endpoint::Address;
use super::receive::Feed;
use super::topics::Topics;
use super::{Attach, Batch, BusError, Endpoint, ReceiveKind, ReceiverConfig, Transport, framing};

/// Most messages taken together.
const BATCH_LEN_MAX: usize = 1024;

pub(super) struct ZeromqCrate;

impl Transport for ZeromqCrate {
    async fn start(config: &ReceiverConfig, feed: Feed<'_>) -> Result<Vec<SocketAddr>, BusError> {
        let mut bound = Vec::new();
        for endpoint in &config.endpoints {
            let name = tcp_name(endpoint)?;
            let mut plug = Plug {
                socket: open(config).await,
                topics: Topics::new(&config.topics),
                pull: config.kind == ReceiveKind::Pull,
                intake: feed.intake.clone(),
                stop: feed.stop.clone(),
                pause: config.link.reconnect_max,
            };
            if endpoint.attach == Attach::Bind {
                bound.extend(plug.bind(&name).await?);
            }
            let connect = (endpoint.attach == Attach::Connect).then_some(name);
            feed.tasks.spawn(async move { plug.run(connect).await });
        }
        Ok(bound)
    }
}

fn tcp_name(endpoint: &Endpoint) -> Result<String, BusError> {
    match endpoint.address {
        Address::Tcp { .. } => Ok(endpoint.address.to_string()),
        Address::Ipc(_) => Err(BusError::Endpoint {
            text: endpoint.to_string(),
            expected: "a tcp:// endpoint, as transport zeromq knows no other",
        }),
    }
}

enum AnySocket {
    Sub(SubSocket),
    Pull(PullSocket),
}

async fn open(config: &ReceiverConfig) -> AnySocket {
    match config.kind {
        ReceiveKind::Pull => AnySocket::Pull(PullSocket::new()),
        ReceiveKind::Sub => AnySocket::Sub(SubSocket::new()),
    }
}

impl AnySocket {
    async fn subscribe(&mut self, topics: &Topics) -> Result<(), ZmqError> {
        let Self::Sub(socket) = self else {
            return Ok(());
        };
        for prefix in topics.prefixes() {
            socket.subscribe(&String::from_utf8_lossy(prefix)).await?;
        }
        Ok(())
    }

    async fn connect(&mut self, name: &str) -> Result<(), ZmqError> {
        match self {
            Self::Sub(socket) => socket.connect(name).await,
            Self::Pull(socket) => socket.connect(name).await,
        }
    }

    async fn bind(&mut self, name: &str) -> Result<zeromq::Endpoint, ZmqError> {
        match self {
            Self::Sub(socket) => socket.bind(name).await,
            Self::Pull(socket) => socket.bind(name).await,
        }
    }

    async fn recv(&mut self) -> Result<ZmqMessage, ZmqError> {
        match self {
            Self::Sub(socket) => socket.recv().await,
            Self::Pull(socket) => socket.recv().await,
        }
    }
}

/// One socket of the crate for one endpoint.
struct Plug {
    socket: AnySocket,
    topics: Topics,
    pull: bool,
    intake: Intake,
    stop: CancellationToken,
    pause: Duration,
}

impl Plug {
    async fn bind(&mut self, name: &str) -> Result<Option<SocketAddr>, BusError> {
        let failed = |error: ZmqError| BusError::Bind {
            endpoint: name.to_owned(),
            error: std::io::Error::other(error),
        };
        let bound = self.socket.bind(name).await.map_err(failed)?;
        self.socket.subscribe(&self.topics).await.map_err(failed)?;
        Ok(match bound {
            zeromq::Endpoint::Tcp(zeromq::Host::Ipv4(ip), port) => Some(SocketAddr::new(ip.into(), port)),
            zeromq::Endpoint::Tcp(zeromq::Host::Ipv6(ip), port) => Some(SocketAddr::new(ip.into(), port)),
            _ => None,
        })
    }

    async fn run(&mut self, connect: Option<String>) {
        let stop = self.stop.clone();
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.receive(connect) => {}
        }
    }

    async fn receive(&mut self, connect: Option<String>) {
        if let Some(name) = connect {
            while let Err(error) = self.join(&name).await {
                warn!(endpoint = name, "bus not connected, trying again: {error}");
                sleep(self.pause).await;
            }
        }
        loop {
            let first = match self.socket.recv().await {
                Ok(message) => message,
                Err(error) => {
                    warn!("bus lost a connection: {error}");
                    sleep(Duration::from_millis(1)).await;
                    continue;
                }
            };
            let batch = self.collect(first).await;
            if !batch.is_empty() && self.intake.deliver(batch).await.is_err() {
                return;
            }
        }
    }

    async fn join(&mut self, name: &str) -> Result<(), ZmqError> {
        self.socket.connect(name).await?;
        self.socket.subscribe(&self.topics).await
    }

    /// Takes the messages that are there already along with the first.
    async fn collect(&mut self, first: ZmqMessage) -> Batch {
        let mut batch = Batch::default();
        self.add(&mut batch, &first);
        for _ in 1..BATCH_LEN_MAX {
            let next = tokio::select! {
                biased;
                next = self.socket.recv() => next,
                () = std::future::ready(()) => break,
            };
            match next {
                Ok(message) => self.add(&mut batch, &message),
                Err(_) => break,
            }
        }
        batch
    }

    fn add(&self, batch: &mut Batch, message: &ZmqMessage) {
        let counters = self.intake.counters();
        let (topic, payload) = match (message.get(0), message.get(1), message.len()) {
            (Some(topic), Some(payload), 2) => (&topic[..], &payload[..]),
            (Some(whole), None, 1) => match framing::split(whole, 1, 0..whole.len(), 0..0) {
                Some((topic, payload)) => (&whole[topic], &whole[payload]),
                None => return,
            },
            _ => return counters.malformed.add(1),
        };
        if self.pull || self.topics.lets_through(topic) {
            batch.append(topic, payload);
        } else {
            counters.filtered.add(1);
        }
    }
}
