//! Raw samples still in memory: the newest epochs as the journal writes them, about five bytes a sample, up to a size.
//! Older ones are the storage's.

use std::collections::VecDeque;
use std::sync::Arc;

use dataflows::epoch::Epoch;
use operators::sample::{Sample, TimeNs};
use parking_lot::RwLock;

use crate::journal::epochs;

/// A bounded window over the newest epochs.
pub struct Recent {
    bytes_max: usize,
    inner: RwLock<Inner>,
}

#[derive(Default)]
struct Inner {
    epochs: VecDeque<Arc<RecentEpoch>>,
    bytes: usize,
}

/// The samples of one epoch.
pub struct RecentEpoch {
    /// The least event time.
    pub oldest_ns: TimeNs,
    /// The greatest event time.
    pub newest_ns: TimeNs,
    encoded: Box<[u8]>,
}

impl Recent {
    /// Holds epochs of at most `bytes_max` in all, what surrounds their samples included.
    pub fn new(bytes_max: usize) -> Recent {
        Recent { bytes_max, inner: RwLock::default() }
    }

    /// Adds an epoch, pushing the oldest out. `encoded` are its bytes, as far as its samples go at least.
    pub fn push(&self, epoch: &Epoch, encoded: &[u8]) {
        if epoch.is_empty() {
            return;
        }
        let times = epoch.batches.iter().flatten().map(|sample| sample.time_ns);
        let (oldest_ns, newest_ns) = times
            .fold((TimeNs::MAX, TimeNs::MIN), |(oldest_ns, newest_ns), time_ns| {
                (oldest_ns.min(time_ns), newest_ns.max(time_ns))
            });
        let epoch = RecentEpoch { oldest_ns, newest_ns, encoded: encoded.into() };
        let mut gone = Vec::new();
        let mut inner = self.inner.write();
        inner.bytes += epoch.bytes();
        inner.epochs.push_back(Arc::new(epoch));
        while inner.bytes > self.bytes_max {
            let Some(oldest) = inner.epochs.pop_front() else { break };
            inner.bytes -= oldest.bytes();
            gone.push(oldest);
        }
        drop(inner);
        // Large epochs are freed outside of the lock.
        drop(gone);
    }

    /// All epochs in memory, the newest first.
    pub fn newest_first(&self) -> Vec<Arc<RecentEpoch>> {
        self.inner.read().epochs.iter().rev().cloned().collect()
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.inner.read().bytes
    }
}

impl RecentEpoch {
    /// Its samples, in the batches that they came in.
    pub fn batches(&self) -> Vec<Vec<Sample>> {
        // Written by this process, or read back before; of other bytes there are no samples to show.
        epochs::decode_batches(&self.encoded).unwrap_or_default()
    }

    /// Memory it takes: an idle service's epochs hold a sample or two each, and most of it is not theirs.
    fn bytes(&self) -> usize {
        // The counts of the `Arc`, and the place in the queue.
        3 * size_of::<usize>() + size_of::<RecentEpoch>() + self.encoded.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(recent: &Recent, number: i64) {
        let sample = |i: i64| Sample { series: 0, seq: 0, time_ns: number * 10 + i, value: 0.0 };
        let epoch = Epoch { batches: vec![vec![sample(0)], vec![sample(1)]], ..Epoch::default() };
        let mut encoded = Vec::new();
        let len = epochs::encode(&epoch, &mut encoded);
        recent.push(&epoch, &encoded[..len]);
    }

    fn times(recent: &Recent) -> Vec<(TimeNs, TimeNs, Vec<TimeNs>)> {
        let of = |epoch: &Arc<RecentEpoch>| {
            let times = epoch.batches().iter().flatten().map(|sample| sample.time_ns).collect();
            (epoch.oldest_ns, epoch.newest_ns, times)
        };
        recent.newest_first().iter().map(of).collect()
    }

    #[test]
    fn the_newest_are_kept() {
        let one = Recent::new(1 << 20);
        push(&one, 1);
        let recent = Recent::new(2 * one.bytes() + one.bytes() / 2);
        (1..4).for_each(|number| push(&recent, number));
        assert_eq!(times(&recent), [(30, 31, vec![30, 31]), (20, 21, vec![20, 21])]);
        let small = Recent::new(one.bytes() - 1);
        push(&small, 1);
        assert_eq!((times(&small).len(), small.bytes()), (0, 0));
    }

    #[test]
    fn epochs_of_a_few_samples_stay_within_the_memory_too() {
        let recent = Recent::new(1 << 20);
        (0..100_000).for_each(|number| push(&recent, number));
        let held = recent.inner.read().epochs.len();
        let least = size_of::<RecentEpoch>() + 3 * size_of::<usize>() + 10;
        assert!(held > 1000 && held * least <= 1 << 20, "{held} epochs");
        assert!(recent.bytes() <= 1 << 20);
    }
}
