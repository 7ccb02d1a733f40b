//! Connections: made and made again, accepted, greeted. What is said afterwards is a [`Session`].

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::endpoint::Address;
use super::scan::{Fault, Scanner, Step};
use super::stream::{Listener, Stream};
use super::zmtp::{self, Refusal, SocketType};
use super::{Attach, BusCounters, BusError, Endpoint, LinkConfig};

/// What a socket does with a connection whose handshake is done.
pub(super) trait Session: Send + Sync + 'static {
    /// What we say that we are.
    fn socket_type(&self) -> SocketType;

    /// Talks to the peer until one of us ends it.
    fn run(&self, link: Link) -> impl Future<Output = End> + Send;
}

/// A connection whose handshake is done.
pub(super) struct Link {
    pub reader: Box<dyn AsyncRead + Send + Unpin>,
    pub writer: Writer,
    /// Minor version of the peer's ZMTP 3.
    pub minor: u8,
    /// Bytes that came after the handshake.
    pub early: Vec<u8>,
}

/// The writing half. A peer that takes nothing for too long ends its connection.
pub(super) struct Writer {
    stream: Box<dyn AsyncWrite + Send + Unpin>,
    patience: Duration,
}

impl Writer {
    /// Writes control traffic, within the handshake's time.
    pub(super) async fn control(&mut self, bytes: &[u8]) -> io::Result<()> {
        match timeout(self.patience, self.stream.write_all(bytes)).await {
            Ok(result) => result,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the peer takes no bytes")),
        }
    }

    /// Writes messages; waits as long as the peer likes.
    pub(super) async fn messages(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }
}

/// Why a session ended.
#[derive(Debug)]
pub(super) enum End {
    /// We are stopping.
    Stopped,
    /// The peer closed.
    Closed,
    Io(io::Error),
    Fault(Fault),
    /// Nothing came for too long.
    Silent,
    /// More or longer subscriptions than one peer may have.
    Subscriptions,
}

/// Why there is no session.
#[derive(Debug)]
enum Trouble {
    Io(io::Error),
    HandshakeTimeout,
    Refused(Refusal),
    Fault(Fault),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped => write!(f, "stopped"),
            Self::Closed => write!(f, "closed by the peer"),
            Self::Io(error) => error.fmt(f),
            Self::Fault(fault) => fault.fmt(f),
            Self::Silent => write!(f, "the peer fell silent"),
            Self::Subscriptions => write!(f, "the peer has too many subscriptions"),
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::HandshakeTimeout => write!(f, "the peer accepted the connection but did not greet in time"),
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Fault(fault) => fault.fmt(f),
        }
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A session and what its connections need.
pub(super) struct Wiring<S> {
    pub session: Arc<S>,
    pub config: LinkConfig,
    pub counters: Arc<BusCounters>,
    pub stop: CancellationToken,
}

impl<S> Clone for Wiring<S> {
    fn clone(&self) -> Self {
        Self {
            session: Arc::clone(&self.session),
            config: self.config.clone(),
            counters: Arc::clone(&self.counters),
            stop: self.stop.clone(),
        }
    }
}

impl<S: Session> Wiring<S> {
    /// Binds the endpoints that are to be bound and starts a task in `tasks` for each endpoint. Gives the bound TCP
    /// addresses, in order.
    pub(super) async fn start(
        self,
        endpoints: &[Endpoint],
        tasks: &mut JoinSet<()>,
    ) -> Result<Vec<SocketAddr>, BusError> {
        let mut bound = Vec::new();
        let mut listeners = Vec::new();
        for endpoint in endpoints.iter().filter(|endpoint| endpoint.attach == Attach::Bind) {
            let listener = Listener::bind(&endpoint.address)
                .await
                .map_err(|error| BusError::Bind { endpoint: endpoint.to_string(), error })?;
            bound.extend(listener.local_addr());
            listeners.push(listener);
        }
        for listener in listeners {
            tasks.spawn(self.clone().keep_accepting(listener));
        }
        for endpoint in endpoints.iter().filter(|endpoint| endpoint.attach == Attach::Connect) {
            tasks.spawn(self.clone().keep_connected(endpoint.address.clone()));
        }
        Ok(bound)
    }

    async fn keep_connected(self, address: Address) {
        let mut pause = self.config.reconnect_min;
        let mut connected_before = false;
        let mut told = String::new();
        while !self.stop.is_cancelled() {
            let attempt = async {
                let stream = Stream::connect(&address, &self.config).await?;
                self.shake_hands(stream).await
            };
            let attempt = tokio::select! {
                () = self.stop.cancelled() => return,
                attempt = attempt => attempt,
            };
            let ended = match attempt {
                Ok(link) => {
                    if std::mem::replace(&mut connected_before, true) {
                        self.counters.reconnects.add(1);
                    }
                    told.clear();
                    let end = self.serve(link, &address).await;
                    if matches!(end, End::Stopped) {
                        return;
                    }
                    if !matches!(end, End::Fault(_)) {
                        pause = self.config.reconnect_min;
                    }
                    end.to_string()
                }
                Err(trouble) => {
                    self.count(&trouble);
                    trouble.to_string()
                }
            };
            // The same trouble again and again is told once.
            if ended == told {
                debug!(%address, "bus still not connected: {ended}");
            } else {
                warn!(%address, "bus not connected, trying again: {ended}");
                told = ended;
            }
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = sleep(shortened(pause)) => {}
            }
            pause = (pause * 2).min(self.config.reconnect_max);
        }
    }

    async fn keep_accepting(self, listener: Listener) {
        let mut peers = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = self.stop.cancelled() => break,
                accepted = listener.accept() => accepted,
                Some(_) = peers.join_next() => continue,
            };
            match accepted {
                Ok(_) if peers.len() >= self.config.peers_max => {
                    self.counters.peers_turned_away.add(1);
                    warn!(limit = self.config.peers_max, "bus peer turned away: too many are connected");
                }
                Ok((stream, name)) => {
                    let wiring = self.clone();
                    peers.spawn(async move { wiring.accepted(stream, name).await });
                }
                Err(error) => {
                    warn!("bus can't accept a connection: {error}");
                    sleep(self.config.reconnect_min).await;
                }
            }
        }
        drop(listener);
        while peers.join_next().await.is_some() {}
    }

    async fn accepted(self, stream: Stream, name: String) {
        if let Err(error) = stream.tune(&self.config) {
            debug!(peer = name, "bus peer gone at once: {error}");
            return;
        }
        let attempt = tokio::select! {
            () = self.stop.cancelled() => return,
            attempt = self.shake_hands(stream) => attempt,
        };
        match attempt {
            Ok(link) => {
                self.serve(link, &name).await;
            }
            Err(trouble) => {
                self.count(&trouble);
                warn!(peer = name, "bus peer refused: {trouble}");
            }
        }
    }

    async fn serve(&self, link: Link, peer: &impl fmt::Display) -> End {
        let _open = Open::new(&self.counters);
        info!(%peer, zmtp_minor = link.minor, "bus connected");
        let end = self.session.run(link).await;
        match &end {
            End::Stopped => {}
            End::Closed | End::Io(_) => info!(%peer, "bus disconnected: {end}"),
            End::Silent => {
                self.counters.heartbeat_timeouts.add(1);
                warn!(%peer, "bus disconnected: {end}");
            }
            End::Fault(Fault::Oversize { .. } | Fault::TooManyFrames) | End::Subscriptions => {
                self.counters.oversize_closes.add(1);
                warn!(%peer, "bus peer disconnected by us: {end}");
            }
            End::Fault(Fault::Flags(_)) => {
                self.counters.protocol_closes.add(1);
                warn!(%peer, "bus peer disconnected by us: {end}");
            }
        }
        end
    }

    fn count(&self, trouble: &Trouble) {
        match trouble {
            Trouble::Refused(_) | Trouble::Fault(_) => self.counters.handshake_refused.add(1),
            Trouble::HandshakeTimeout => self.counters.handshake_timeouts.add(1),
            Trouble::Io(_) => {}
        }
    }

    async fn shake_hands(&self, stream: Stream) -> Result<Link, Trouble> {
        let limit = self.config.handshake_timeout;
        match timeout(limit, greet(stream, self.session.socket_type(), limit)).await {
            Ok(result) => result,
            Err(_) => Err(Trouble::HandshakeTimeout),
        }
    }
}

/// RFC 37, "NULL security mechanism": greetings, then one READY each.
async fn greet(stream: Stream, ours: SocketType, patience: Duration) -> Result<Link, Trouble> {
    let (mut reader, stream) = stream.split();
    let mut writer = Writer { stream, patience };
    let (signature, rest) = zmtp::greeting_in_two();
    writer.control(&signature).await?;
    let mut bytes = Vec::with_capacity(512);
    let mut rest_sent = false;
    let minor = loop {
        if let Some(minor) = zmtp::check_greeting(&bytes).map_err(Trouble::Refused)? {
            break minor;
        }
        if bytes.len() > 10 && !std::mem::replace(&mut rest_sent, true) {
            writer.control(&rest).await?;
        }
        read_some(&mut reader, &mut bytes).await?;
    };
    if !rest_sent {
        writer.control(&rest).await?;
    }
    let mut ready = Vec::new();
    zmtp::put_ready(&mut ready, ours);
    writer.control(&ready).await?;
    bytes.drain(..zmtp::GREETING_LEN);
    // The first frame is a command: no message is allowed any byte.
    let mut scanner = Scanner::new(0);
    let body = loop {
        match scanner.step(&bytes).map_err(Trouble::Fault)? {
            Step::Command(body) => break body,
            Step::Message(_) => return Err(Trouble::Refused(Refusal::NoReady)),
            Step::Need(_) => read_some(&mut reader, &mut bytes).await?,
        }
    };
    zmtp::check_ready(&bytes[body], ours).map_err(Trouble::Refused)?;
    bytes.drain(..scanner.consumed());
    Ok(Link { reader, writer, minor, early: bytes })
}

async fn read_some(reader: &mut (impl AsyncRead + Unpin), bytes: &mut Vec<u8>) -> Result<(), Trouble> {
    bytes.reserve(256);
    match reader.read_buf(bytes).await? {
        0 => Err(Trouble::Refused(Refusal::Closed)),
        _ => Ok(()),
    }
}

/// Counts a connection as open while it lives, also if its task is aborted.
struct Open<'a>(&'a BusCounters);

impl<'a> Open<'a> {
    fn new(counters: &'a BusCounters) -> Self {
        counters.connections.add(1);
        counters.connections_open.add(1);
        Self(counters)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.connections_open.sub(1);
    }
}

/// A random time between three quarters of `pause` and all of it, so that peers don't come back in step.
fn shortened(pause: Duration) -> Duration {
    let random = RandomState::new().build_hasher().finish() % 256;
    pause.mul_f64(1.0 - random as f64 / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_shortened_by_at_most_a_quarter() {
        let pause = Duration::from_millis(1000);
        for _ in 0..1000 {
            let short = shortened(pause);
            assert!(short > pause * 3 / 4 && short <= pause, "{short:?}");
        }
    }
}
