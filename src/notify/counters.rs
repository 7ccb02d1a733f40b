//! What has become of a receiver's transitions.

use std::sync::atomic::{AtomicU64, Ordering};

/// Declares counters and their names.
macro_rules! counters {
    ($(#[$doc:meta])* pub struct $name:ident { $($(#[$counter_doc:meta])* $counter:ident,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub struct $name { $($(#[$counter_doc])* pub $counter: AtomicU64,)+ }

        impl $name {
            /// Names and values.
            pub fn snapshot(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($counter), self.$counter.load(Ordering::Relaxed))),+]
            }
        }
    };
}

counters! {
    /// What has become of the transitions so far. Each one that was put in ends in exactly one of `delivered`,
    /// `superseded`, `turned_away`, `rejected`, `given_up`, `unwanted`, `silenced`, `duplicate`, `left_at_stop`, or
    /// still waits.
    pub struct NotifyCounters {
        /// Put in. An alert that still fires when its silence ends is put in once more.
        notified,
        /// Taken by the receiver.
        delivered,
        /// Dropped from a full queue, their alert having a newer transition; or made void by the next transition of
        /// their alert before they were sent.
        superseded,
        /// Not let into a full queue, or after the stop.
        turned_away,
        /// Refused by the receiver for good.
        rejected,
        /// Given up after the longest time of trying.
        given_up,
        /// Not for this receiver, as its settings say.
        unwanted,
        /// Of alerts that were silenced, and of which the receiver had not been told.
        silenced,
        /// Told already: the same alert with the same start.
        duplicate,
        /// Not delivered when the deadline of the stop came.
        left_at_stop,
        /// Attempts to send.
        attempts,
        /// Attempts that failed and were tried again.
        retries,
        /// Alerts of which the receiver took that they still fire, or were resolved a while ago.
        repeated,
    }
}

pub(super) fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(count as u64, Ordering::Relaxed);
}
