//! What the bus carried and what it turned away, as counters that anybody may read at any time.

use std::sync::atomic::{AtomicU64, Ordering};

/// One number. Reading and adding never block; numbers read one after the other need not be of one instant.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// The number now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn sub(&self, count: u64) {
        self.0.fetch_sub(count, Ordering::Relaxed);
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// The numbers of one socket (receiver, publisher or forwarder).
        #[derive(Debug, Default)]
        pub struct BusCounters {
            $($(#[$doc])* pub $name: Counter,)*
        }

        impl BusCounters {
            /// All names and numbers, in the order of the fields.
            pub fn snapshot(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.get()),)*]
            }
        }
    };
}

counters! {
    /// Connections that are open now, their handshake done. The only number that also goes down.
    connections_open,
    /// Connections made in all, by either side.
    connections,
    /// Connections made again to an endpoint that had been connected before.
    reconnects,
    /// Messages received and delivered (receiver), given to `send` (publisher), or received to be forwarded.
    messages,
    /// Bytes of topics and payloads of those messages.
    bytes,
    /// Messages left out because they have no frame or more than two.
    malformed,
    /// Messages left out because their topic matches the prefix but not the pattern.
    filtered,
    /// Messages queued for a peer (publisher, forwarder): one for every peer that wants it.
    queued,
    /// Messages not queued for a peer because its queue was full (publisher, forwarder).
    dropped,
    /// Messages that no connected peer wanted (publisher, forwarder).
    unwanted,
    /// Batches that had to wait because the queue to the decoder was full: the socket was not read meanwhile.
    queue_full_waits,
    /// Connections closed because the peer announced or sent more than a limit allows.
    oversize_closes,
    /// Connections closed because the peer broke the protocol after its handshake.
    protocol_closes,
    /// Handshakes that failed: not ZMTP 3, a mechanism that we don't speak, an incompatible socket.
    handshake_refused,
    /// Handshakes that took longer than allowed.
    handshake_timeouts,
    /// Connections closed because the peer sent nothing for too long.
    heartbeat_timeouts,
    /// Peers closed at once because too many were connected.
    peers_turned_away,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_has_every_number_by_name() {
        let counters = BusCounters::default();
        counters.dropped.add(3);
        counters.connections_open.add(2);
        counters.connections_open.sub(1);
        let snapshot = counters.snapshot();
        assert!(snapshot.contains(&("dropped", 3)));
        assert!(snapshot.contains(&("connections_open", 1)));
        assert_eq!(snapshot.len(), 17);
    }
}
