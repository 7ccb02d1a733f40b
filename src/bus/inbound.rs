//! A connection that messages come in by: SUB, PULL, and the forwarder's XSUB.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::AsyncReadExt;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use super::batch::SLAB_LEN_MAX;
use super::link::{End, Link, Session};
use super::scan::{Found, Scanner, Step};
use super::zmtp::{self, Command, SocketType};

/// Bytes of a connection's first slab; it grows as long as reads fill it.
const SLAB_LEN_MIN: usize = 8 * 1024;
/// Pause after a short read while reads are frequent: fewer, longer reads cost half the CPU per message.
const COALESCE: Duration = Duration::from_millis(1);
/// After a read of at least so many bytes comes no pause: it may be all that the socket can hold.
const READ_LONG: usize = 32 * 1024;

/// Where the messages of a connection go.
pub(super) trait Taker: Send + Sync + 'static {
    /// What is collected of one connection between two deliveries.
    type Draft: Default + Send;

    /// Takes note of a message in the slab.
    fn add(&self, draft: &mut Self::Draft, slab: &[u8], found: Found);

    /// Delivers what was noted and removes the first `consumed` bytes from `slab`, leaving room for `capacity` bytes
    /// if it replaces it. False ends the connection: nobody wants messages any more.
    fn deliver(
        &self,
        draft: &mut Self::Draft,
        slab: &mut Vec<u8>,
        consumed: usize,
        capacity: usize,
    ) -> impl Future<Output = bool> + Send;
}

/// Reads messages from publishers.
pub(super) struct Inbound<T> {
    pub kind: SocketType,
    pub taker: T,
    pub wanted: Arc<Wanted>,
    pub body_len_max: usize,
    pub heartbeat_interval: Duration,
    pub stop: CancellationToken,
}

impl<T: Taker> Session for Inbound<T> {
    fn socket_type(&self) -> SocketType {
        self.kind
    }

    async fn run(&self, link: Link) -> End {
        let (minor, slab) = (link.minor, link.early);
        let mut reading = Reading {
            session: self,
            reader: link.reader,
            writer: link.writer,
            minor,
            slab,
            scanner: Scanner::new(self.body_len_max),
            capacity: SLAB_LEN_MIN,
            draft: T::Draft::default(),
            sent: BTreeSet::new(),
            pulse: Pulse::new(minor, self.heartbeat_interval),
        };
        match reading.until_the_end().await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }
}

/// One connection being read.
struct Reading<'a, T: Taker> {
    session: &'a Inbound<T>,
    reader: Box<dyn tokio::io::AsyncRead + Send + Unpin>,
    writer: super::link::Writer,
    minor: u8,
    slab: Vec<u8>,
    scanner: Scanner,
    capacity: usize,
    draft: T::Draft,
    sent: BTreeSet<Vec<u8>>,
    pulse: Pulse,
}

impl<T: Taker> Reading<'_, T> {
    async fn until_the_end(&mut self) -> Result<std::convert::Infallible, End> {
        let mut changes = self.session.wanted.changes();
        let mut ticks = interval(self.pulse.tick());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.reset();
        self.tell_wanted().await?;
        let mut pause = false;
        loop {
            let missing = self.take_all().await?;
            self.make_room(missing);
            if std::mem::take(&mut pause) {
                sleep(COALESCE).await;
            }
            let room = self.slab.capacity() - self.slab.len();
            let began = self.pulse.heard;
            tokio::select! {
                () = self.session.stop.cancelled() => return Err(End::Stopped),
                read = self.reader.read_buf(&mut self.slab) => {
                    let len = read.map_err(End::Io)?;
                    if len == 0 {
                        return Err(End::Closed);
                    }
                    self.pulse.heard();
                    if len == room {
                        self.capacity = (self.capacity * 2).min(SLAB_LEN_MAX);
                    }
                    let frequent = self.pulse.heard - began < COALESCE;
                    pause = frequent && len < READ_LONG && len < room;
                }
                // The sender lives as long as the session, so this never is an error.
                _ = changes.changed() => self.tell_wanted().await?,
                _ = ticks.tick() => {
                    let mut out = Vec::new();
                    self.pulse.beat(&mut out)?;
                    self.write(&out).await?;
                }
            }
        }
    }

    /// Takes every whole message and command out of the slab; gives how many bytes the next one lacks.
    async fn take_all(&mut self) -> Result<usize, End> {
        let mut answers = Vec::new();
        let missing = loop {
            match self.scanner.step(&self.slab).map_err(End::Fault) {
                Ok(Step::Message(found)) => self.session.taker.add(&mut self.draft, &self.slab, found),
                Ok(Step::Command(body)) => self.pulse.command(&self.slab[body], &mut answers),
                Ok(Step::Need(missing)) => break Ok(missing),
                Err(end) => break Err(end),
            }
        };
        let consumed = self.scanner.consumed();
        if consumed > 0 {
            let taker = &self.session.taker;
            let delivered = taker.deliver(&mut self.draft, &mut self.slab, consumed, self.capacity);
            if !delivered.await {
                return Err(End::Stopped);
            }
            self.scanner.rebase(consumed);
            // Whatever time it took to find room was ours, not the peer's silence.
            self.pulse.heard();
        }
        self.write(&answers).await?;
        missing
    }

    /// Room for the next read: a slab, or more for a longer message, but never much more than what has come.
    fn make_room(&mut self, missing: usize) {
        if self.slab.capacity() > 2 * self.capacity && self.slab.len() < self.capacity / 2 {
            let mut slab = Vec::with_capacity(self.capacity);
            slab.extend_from_slice(&self.slab);
            self.slab = slab;
        }
        let spare = self.slab.capacity() - self.slab.len();
        let wanted = missing.min(self.slab.len().max(self.capacity)).max(self.capacity / 4);
        if spare < wanted {
            let to_capacity = self.capacity.saturating_sub(self.slab.len());
            self.slab.reserve_exact(wanted.max(to_capacity));
        }
    }

    async fn tell_wanted(&mut self) -> Result<(), End> {
        let mut out = Vec::new();
        self.session.wanted.tell(&mut self.sent, self.minor, &mut out);
        self.write(&out).await
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), End> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.writer.control(bytes).await.map_err(End::Io)
    }
}

/// Heartbeats of one connection: ours, and what the peer's ask for.
#[derive(Debug)]
pub(super) struct Pulse {
    /// When anything last came.
    heard: Instant,
    interval: Duration,
    /// Set by a PING with a time to live: nothing for so long means that the peer is gone.
    ttl: Option<Duration>,
}

impl Pulse {
    /// No PING is sent to peers of ZMTP 3.0, which need not know it.
    pub(super) fn new(minor: u8, interval: Duration) -> Self {
        Self {
            heard: Instant::now(),
            interval: if minor == 0 { Duration::ZERO } else { interval },
            ttl: None,
        }
    }

    /// How often [`Pulse::beat`] is to be called.
    pub(super) fn tick(&self) -> Duration {
        if self.interval.is_zero() { Duration::from_secs(1) } else { self.interval }
    }

    pub(super) fn heard(&mut self) {
        self.heard = Instant::now();
    }

    /// Reads a command that any socket may get.
    pub(super) fn command(&mut self, body: &[u8], answers: &mut Vec<u8>) {
        if let Command::Ping { ttl_ds, context } = Command::parse(body) {
            self.ttl = (ttl_ds > 0).then(|| Duration::from_millis(u64::from(ttl_ds) * 100));
            zmtp::put_pong(answers, context);
        }
    }

    /// Judges the silence; after one interval of it asks, after three gives up.
    pub(super) fn beat(&self, out: &mut Vec<u8>) -> Result<(), End> {
        let silence = self.heard.elapsed();
        if self.ttl.is_some_and(|ttl| silence > ttl) {
            return Err(End::Silent);
        }
        if self.interval.is_zero() {
            return Ok(());
        }
        // The ticks are one interval apart, so the third comes a moment before or after three intervals.
        if silence > self.interval * 5 / 2 {
            return Err(End::Silent);
        }
        if silence > self.interval / 2 {
            zmtp::put_ping(out);
        }
        Ok(())
    }
}

/// The prefixes that publishers are to be asked for, each with the number of those who want it.
pub(super) struct Wanted {
    prefixes: Mutex<BTreeMap<Vec<u8>, usize>>,
    changed: watch::Sender<()>,
}

impl Wanted {
    pub(super) fn new<'a>(prefixes: impl IntoIterator<Item = &'a Vec<u8>>) -> Arc<Self> {
        Arc::new(Self {
            prefixes: Mutex::new(prefixes.into_iter().map(|prefix| (prefix.clone(), 1)).collect()),
            changed: watch::Sender::new(()),
        })
    }

    /// Somebody wants this prefix.
    pub(super) fn add(&self, prefix: &[u8]) {
        let mut prefixes = self.prefixes.lock();
        match prefixes.get_mut(prefix) {
            Some(count) => *count += 1,
            None => {
                prefixes.insert(prefix.to_vec(), 1);
                self.changed.send_replace(());
            }
        }
    }

    /// Somebody who wanted this prefix does so no longer.
    pub(super) fn remove(&self, prefix: &[u8]) {
        let mut prefixes = self.prefixes.lock();
        match prefixes.get_mut(prefix) {
            Some(count) if *count > 1 => *count -= 1,
            Some(_) => {
                prefixes.remove(prefix);
                self.changed.send_replace(());
            }
            None => {}
        }
    }

    fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Appends what turns the subscriptions already `sent` to a peer into the wanted ones.
    fn tell(&self, sent: &mut BTreeSet<Vec<u8>>, minor: u8, out: &mut Vec<u8>) {
        let prefixes = self.prefixes.lock();
        sent.retain(|prefix| {
            let kept = prefixes.contains_key(prefix);
            if !kept {
                zmtp::put_subscription(out, minor, false, prefix);
            }
            kept
        });
        for prefix in prefixes.keys() {
            if !sent.contains(prefix) {
                zmtp::put_subscription(out, minor, true, prefix);
                sent.insert(prefix.clone());
            }
        }
    }
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn silence_is_asked_about_and_then_given_up() {
        let step = Duration::from_secs(5);
        let mut pulse = Pulse::new(1, step);
        let mut asked = Vec::new();
        for _ in 0..2 {
            tokio::time::advance(step).await;
            asked.clear();
            pulse.beat(&mut asked).unwrap();
            assert_eq!(asked, b"\x04\x07\x04PING\0\0");
        }
        pulse.heard();
        asked.clear();
        pulse.beat(&mut asked).unwrap();
        assert!(asked.is_empty(), "no question right after traffic");
        tokio::time::advance(step * 3).await;
        assert!(matches!(pulse.beat(&mut asked), Err(End::Silent)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_of_3_0_is_not_asked_but_its_time_to_live_counts() {
        let mut pulse = Pulse::new(0, Duration::from_secs(5));
        let mut out = Vec::new();
        tokio::time::advance(Duration::from_secs(3600)).await;
        pulse.beat(&mut out).unwrap();
        assert!(out.is_empty());
        pulse.heard();
        pulse.command(b"\x04PING\x00\x14ctx", &mut out);
        assert_eq!(out, b"\x04\x08\x04PONGctx");
        tokio::time::advance(Duration::from_millis(2000)).await;
        pulse.beat(&mut out).unwrap();
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(matches!(pulse.beat(&mut out), Err(End::Silent)));
    }

    #[test]
    fn subscriptions_are_told_by_their_difference() {
        let wanted = Wanted::new([&b"a".to_vec()]);
        let told = |sent: &mut BTreeSet<Vec<u8>>, minor| {
            let mut out = Vec::new();
            wanted.tell(sent, minor, &mut out);
            out
        };
        let mut sent = BTreeSet::new();
        assert_eq!(told(&mut sent, 1), b"\x04\x0b\x09SUBSCRIBEa");
        assert!(told(&mut sent, 1).is_empty());
        wanted.add(b"a");
        wanted.add(b"b");
        wanted.remove(b"a");
        wanted.remove(b"unknown");
        assert_eq!(told(&mut sent, 0), b"\x00\x02\x01b");
        wanted.remove(b"a");
        assert_eq!(told(&mut sent, 1), b"\x04\x08\x06CANCELa");
        assert_eq!(told(&mut BTreeSet::new(), 0), b"\x00\x02\x01b", "a new peer is told everything");
    }
}
