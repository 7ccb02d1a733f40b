//! One message to every peer that wants it: subscriptions of peers, and their bounded queues.
//!
//! A queue is the bytes that go over the wire, so that a message costs a copy per peer and no allocation.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::BusCounters;
use super::inbound::{Pulse, Wanted};
use super::link::{End, Link, Session, Writer};
use super::scan::{Scanner, Step};
use super::zmtp::{Command, SocketType};

/// Most bytes of one subscription.
const PREFIX_LEN_MAX: usize = 4 * 1024;
/// Most subscriptions of one peer.
const PREFIXES_MAX: usize = 10_000;
/// A queue longer than this gives its memory back once it is empty.
const QUEUE_KEPT_BYTES: usize = 1 << 20;

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Queued for every connected peer that wants it.
    Queued,
    /// No connected peer wants it.
    Unwanted,
    /// At least one peer that wants it has a full queue and will not get it.
    Dropped,
}

/// Bounds of the queue of each peer.
#[derive(Clone, Copy, Debug)]
pub(super) struct QueueLimits {
    pub messages: usize,
    pub bytes: usize,
}

/// The peers of a publisher or forwarder.
pub(super) struct Fanout {
    peers: RwLock<Vec<Arc<Peer>>>,
    limits: QueueLimits,
    counters: Arc<BusCounters>,
    /// Where the subscriptions of all peers together are wanted.
    union: Arc<Wanted>,
}

#[derive(Default)]
struct Peer {
    state: Mutex<PeerState>,
    wake: Notify,
}

#[derive(Default)]
struct PeerState {
    subscriptions: Subscriptions,
    pending: Vec<u8>,
    /// Messages in `pending` and in the bytes that are being written.
    queued: usize,
    /// Those being written, and their bytes.
    in_flight: (usize, usize),
}

impl Fanout {
    pub(super) fn new(limits: QueueLimits, counters: Arc<BusCounters>, union: Arc<Wanted>) -> Self {
        Self { peers: RwLock::default(), limits, counters, union }
    }

    /// Queues a message of `len` bytes, written by `put`, for every peer that wants the topic.
    pub(super) fn offer(&self, topic: &[u8], len: usize, put: impl Fn(&mut Vec<u8>)) -> Outcome {
        let mut counts = Counts::default();
        for peer in self.peers.read().iter() {
            let mut state = peer.state.lock();
            if state.offer(self.limits, topic, len, &put, &mut counts) {
                peer.wake.notify_one();
            }
        }
        counts.add_to(&self.counters, 1);
        match counts {
            Counts { dropped: 1.., .. } => Outcome::Dropped,
            Counts { queued: 0, .. } => Outcome::Unwanted,
            _ => Outcome::Queued,
        }
    }

    /// Queues many messages, given by topic and wire bytes, locking each peer once.
    pub(super) fn offer_all<'a>(&self, messages: impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone) {
        let mut counts = Counts::default();
        for peer in self.peers.read().iter() {
            let mut state = peer.state.lock();
            let mut queued = false;
            for (topic, wire) in messages.clone() {
                let put = |out: &mut Vec<u8>| out.extend_from_slice(wire);
                queued |= state.offer(self.limits, topic, wire.len(), put, &mut counts);
            }
            if queued {
                peer.wake.notify_one();
            }
        }
        counts.add_to(&self.counters, 0);
    }

    fn enter(&self) -> Arc<Peer> {
        let peer = Arc::new(Peer::default());
        self.peers.write().push(Arc::clone(&peer));
        peer
    }

    fn leave(&self, peer: &Arc<Peer>) {
        self.peers.write().retain(|other| !Arc::ptr_eq(other, peer));
        let state = peer.state.lock();
        state.subscriptions.all.iter().for_each(|prefix| self.union.remove(prefix));
        // What was queued never left.
        self.counters.dropped.add(state.queued as u64);
    }
}

#[derive(Default)]
struct Counts {
    queued: u64,
    dropped: u64,
}

impl Counts {
    /// Of one message it can be said that nobody wanted it.
    fn add_to(&self, counters: &BusCounters, messages: u64) {
        counters.queued.add(self.queued);
        counters.dropped.add(self.dropped);
        if messages == 1 && self.queued + self.dropped == 0 {
            counters.unwanted.add(1);
        }
    }
}

impl PeerState {
    /// Whether it was queued.
    fn offer(
        &mut self,
        limits: QueueLimits,
        topic: &[u8],
        len: usize,
        put: impl Fn(&mut Vec<u8>),
        counts: &mut Counts,
    ) -> bool {
        if !self.subscriptions.want(topic) {
            return false;
        }
        // One message always fits, however long.
        let bytes = self.pending.len() + self.in_flight.1 + len;
        if self.queued >= limits.messages || (bytes > limits.bytes && self.queued > 0) {
            counts.dropped += 1;
            return false;
        }
        put(&mut self.pending);
        self.queued += 1;
        counts.queued += 1;
        true
    }
}

/// The prefixes that one peer subscribed to.
#[derive(Default)]
struct Subscriptions {
    all: BTreeSet<Vec<u8>>,
    /// Those of them that no other is a prefix of, in order; rebuilt when first needed after a change.
    shortest: Vec<Vec<u8>>,
    stale: bool,
}

impl Subscriptions {
    /// Whether it is new.
    fn add(&mut self, prefix: &[u8]) -> bool {
        let new = self.all.insert(prefix.to_vec());
        self.stale |= new;
        new
    }

    /// Whether it was there.
    fn remove(&mut self, prefix: &[u8]) -> bool {
        let was = self.all.remove(prefix);
        self.stale |= was;
        was
    }

    /// Whether a topic starts with one of the prefixes. As none of the shortest is a prefix of another, only the
    /// greatest that is not above the topic can be one of the topic.
    fn want(&mut self, topic: &[u8]) -> bool {
        if std::mem::take(&mut self.stale) {
            self.shortest.clear();
            for prefix in &self.all {
                if !self.shortest.last().is_some_and(|last| prefix.starts_with(last)) {
                    self.shortest.push(prefix.clone());
                }
            }
        }
        let above = self.shortest.partition_point(|prefix| prefix.as_slice() <= topic);
        above > 0 && topic.starts_with(&self.shortest[above - 1])
    }
}

/// Writes messages to subscribers: PUB, and the forwarder's XPUB.
pub(super) struct Outbound {
    pub kind: SocketType,
    pub fanout: Arc<Fanout>,
    pub heartbeat_interval: Duration,
    pub stop: CancellationToken,
}

impl Session for Outbound {
    fn socket_type(&self) -> SocketType {
        self.kind
    }

    async fn run(&self, link: Link) -> End {
        let entered = Entered { fanout: &self.fanout, peer: self.fanout.enter() };
        let pulse = Pulse::new(link.minor, self.heartbeat_interval);
        tokio::select! {
            end = self.listen(&entered.peer, link.reader, link.early, pulse) => end,
            end = self.write(&entered.peer, link.writer) => end,
        }
    }
}

/// A peer is forgotten also if its task is aborted.
struct Entered<'a> {
    fanout: &'a Fanout,
    peer: Arc<Peer>,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.fanout.leave(&self.peer);
    }
}

impl Outbound {
    /// Writes what is queued, in as few writes as possible; at a stop, what is still queued.
    async fn write(&self, peer: &Peer, mut writer: Writer) -> End {
        let mut bytes = Vec::new();
        loop {
            {
                let mut state = peer.state.lock();
                state.queued -= state.in_flight.0;
                if bytes.capacity() > QUEUE_KEPT_BYTES && state.pending.len() < QUEUE_KEPT_BYTES / 4 {
                    bytes = Vec::new();
                }
                bytes.clear();
                std::mem::swap(&mut bytes, &mut state.pending);
                state.in_flight = (state.queued, bytes.len());
            }
            if !bytes.is_empty() {
                if let Err(error) = writer.messages(&bytes).await {
                    return End::Io(error);
                }
                continue;
            }
            tokio::select! {
                biased;
                () = peer.wake.notified() => {}
                () = self.stop.cancelled() => return End::Stopped,
            }
        }
    }

    /// Reads subscriptions and heartbeats.
    async fn listen(
        &self,
        peer: &Peer,
        mut reader: Box<dyn AsyncRead + Send + Unpin>,
        mut slab: Vec<u8>,
        mut pulse: Pulse,
    ) -> End {
        let mut scanner = Scanner::new(PREFIX_LEN_MAX + 1);
        let mut ticks = interval(pulse.tick());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.reset();
        loop {
            if let Err(end) = self.heed(peer, &mut scanner, &mut slab, &mut pulse) {
                return end;
            }
            let mut control = Vec::new();
            slab.reserve(1024);
            tokio::select! {
                read = reader.read_buf(&mut slab) => match read {
                    Ok(0) => return End::Closed,
                    Ok(_) => pulse.heard(),
                    Err(error) => return End::Io(error),
                },
                _ = ticks.tick() => {
                    if let Err(end) = pulse.beat(&mut control) {
                        return end;
                    }
                    self.control(peer, &control);
                }
            }
        }
    }

    /// Follows every whole message and command in the slab.
    fn heed(
        &self,
        peer: &Peer,
        scanner: &mut Scanner,
        slab: &mut Vec<u8>,
        pulse: &mut Pulse,
    ) -> Result<(), End> {
        let mut control = Vec::new();
        loop {
            match scanner.step(slab).map_err(End::Fault)? {
                Step::Command(body) => match Command::parse(&slab[body.clone()]) {
                    Command::Subscribe(prefix) => self.subscribe(peer, prefix)?,
                    Command::Cancel(prefix) => self.cancel(peer, prefix),
                    _ => pulse.command(&slab[body], &mut control),
                },
                // ZMTP 3.0: a message of one frame, 1 or 0 and the prefix. Other messages mean nothing to a PUB.
                Step::Message(found) if found.frames == 1 => match slab[found.first].split_first() {
                    Some((1, prefix)) => self.subscribe(peer, prefix)?,
                    Some((0, prefix)) => self.cancel(peer, prefix),
                    _ => {}
                },
                Step::Message(_) => {}
                Step::Need(_) => break,
            }
        }
        let consumed = scanner.consumed();
        slab.drain(..consumed);
        scanner.rebase(consumed);
        self.control(peer, &control);
        Ok(())
    }

    fn subscribe(&self, peer: &Peer, prefix: &[u8]) -> Result<(), End> {
        let mut state = peer.state.lock();
        if prefix.len() > PREFIX_LEN_MAX || state.subscriptions.all.len() >= PREFIXES_MAX {
            return Err(End::Subscriptions);
        }
        if state.subscriptions.add(prefix) {
            self.fanout.union.add(prefix);
        }
        Ok(())
    }

    fn cancel(&self, peer: &Peer, prefix: &[u8]) {
        if peer.state.lock().subscriptions.remove(prefix) {
            self.fanout.union.remove(prefix);
        }
    }

    /// Queues control traffic between the messages; a queue that is full has no place for it.
    fn control(&self, peer: &Peer, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let mut state = peer.state.lock();
        if state.pending.len() + bytes.len() <= self.fanout.limits.bytes {
            state.pending.extend_from_slice(bytes);
            peer.wake.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fanout(messages: usize, bytes: usize) -> Fanout {
        Fanout::new(QueueLimits { messages, bytes }, Arc::default(), Wanted::new([]))
    }

    fn send(fanout: &Fanout, topic: &[u8], len: usize) -> Outcome {
        fanout.offer(topic, len, |out| out.extend(std::iter::repeat_n(b'x', len)))
    }

    #[test]
    fn a_full_queue_drops_and_counts() {
        for (messages, bytes) in [(3, usize::MAX), (1000, 30)] {
            let fanout = fanout(messages, bytes);
            assert_eq!(send(&fanout, b"t", 10), Outcome::Unwanted);
            let (slow, quick) = (fanout.enter(), fanout.enter());
            slow.state.lock().subscriptions.add(b"t");
            for _ in 0..3 {
                assert_eq!(send(&fanout, b"topic", 10), Outcome::Queued);
            }
            quick.state.lock().subscriptions.add(b"");
            assert_eq!(send(&fanout, b"topic", 10), Outcome::Dropped);
            assert_eq!(slow.state.lock().queued, 3);
            assert_eq!(quick.state.lock().queued, 1, "a slow peer is no other's trouble");
            assert_eq!(send(&fanout, b"other", 10), Outcome::Queued);
            let counters = &fanout.counters;
            assert_eq!((counters.queued.get(), counters.dropped.get(), counters.unwanted.get()), (5, 1, 1));
            fanout.leave(&slow);
            assert_eq!(counters.dropped.get(), 4, "what was queued for a peer that left is lost");
            assert_eq!(send(&fanout, b"topic", 10), Outcome::Queued);
        }
    }

    #[test]
    fn one_message_longer_than_the_queue_passes() {
        let fanout = fanout(10, 30);
        fanout.enter().state.lock().subscriptions.add(b"");
        assert_eq!(send(&fanout, b"t", 100), Outcome::Queued);
        assert_eq!(send(&fanout, b"t", 1), Outcome::Dropped);
    }

    #[test]
    fn many_are_offered_as_one() {
        let fanout = fanout(10, 1000);
        let peer = fanout.enter();
        peer.state.lock().subscriptions.add(b"b");
        let messages: [(&[u8], &[u8]); 3] = [(b"a", b"1"), (b"b", b"2"), (b"bc", b"3")];
        fanout.offer_all(messages.into_iter());
        assert_eq!(peer.state.lock().pending, b"23");
    }

    proptest! {
        #[test]
        fn prefixes_match_as_one_by_one(
            changes in prop::collection::vec((any::<bool>(), "[ab]{0,4}"), 0..20),
            topics in prop::collection::vec("[abc]{0,5}", 1..20),
        ) {
            let (mut subscriptions, mut naive) = (Subscriptions::default(), BTreeSet::new());
            for (add, prefix) in changes {
                let changed = if add {
                    subscriptions.add(prefix.as_bytes()) == naive.insert(prefix)
                } else {
                    subscriptions.remove(prefix.as_bytes()) == naive.remove(&prefix)
                };
                prop_assert!(changed);
                for topic in &topics {
                    let expected = naive.iter().any(|prefix| topic.starts_with(prefix.as_str()));
                    prop_assert_eq!(subscriptions.want(topic.as_bytes()), expected);
                }
            }
        }
    }
}
