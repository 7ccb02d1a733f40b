//! Raw samples still in memory: the newest epochs, up to a size. Older ones are the storage's.

use std::collections::VecDeque;

use operators::catalog::Entry;
use operators::sample::Sample;
use parking_lot::RwLock;

use crate::epoch::{Epoch, SharedEpoch};

/// A bounded window over the newest epochs.
pub struct Recent {
    bytes_max: usize,
    inner: RwLock<Inner>,
}

#[derive(Default)]
struct Inner {
    epochs: VecDeque<SharedEpoch>,
    bytes: usize,
    /// Whether anything was ever pushed out.
    forgot: bool,
}

impl Recent {
    /// Holds epochs of at most `bytes_max` in all, what surrounds their samples included.
    pub fn new(bytes_max: usize) -> Recent {
        Recent { bytes_max, inner: RwLock::default() }
    }

    /// Adds an epoch, pushing the oldest out.
    pub fn push(&self, epoch: SharedEpoch) {
        if epoch.is_empty() {
            return;
        }
        let bytes = bytes(&epoch);
        let mut gone = Vec::new();
        let mut inner = self.inner.write();
        inner.bytes += bytes;
        inner.epochs.push_back(epoch);
        while inner.bytes > self.bytes_max {
            let Some(oldest) = inner.epochs.pop_front() else { break };
            inner.bytes -= self::bytes(&oldest);
            inner.forgot = true;
            gone.push(oldest);
        }
        drop(inner);
        // Large epochs are freed outside of the lock.
        drop(gone);
    }

    /// Calls `found` with every sample in memory, newest arrival first, until it returns `false`.
    /// Returns whether older ones have been pushed out of memory.
    pub fn scan(&self, mut found: impl FnMut(&Sample) -> bool) -> bool {
        let (epochs, forgot) = {
            let inner = self.inner.read();
            (inner.epochs.iter().rev().cloned().collect::<Vec<_>>(), inner.forgot)
        };
        let samples = epochs.iter().flat_map(|epoch| epoch.batches.iter().rev().flat_map(|b| b.iter().rev()));
        for sample in samples {
            if !found(sample) {
                break;
            }
        }
        forgot
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.inner.read().bytes
    }
}

/// Memory of an epoch: an idle engine's hold a sample or two each, and most of it is not theirs.
fn bytes(epoch: &SharedEpoch) -> usize {
    // The counts of the `Arc`, and the place in the queue.
    let around = 2 * size_of::<usize>() + size_of::<Epoch>() + size_of::<SharedEpoch>();
    let batches = epoch.batches.capacity() * size_of::<Vec<Sample>>();
    let samples: usize = epoch.batches.iter().map(Vec::capacity).sum();
    around + batches + samples * size_of::<Sample>() + epoch.entries.capacity() * size_of::<Entry>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn epoch(number: i64) -> SharedEpoch {
        let sample = |i: i64| Sample { series: 0, seq: 0, time_ns: number * 10 + i, value: 0.0 };
        Arc::new(Epoch { batches: vec![vec![sample(0)], vec![sample(1)]], ..Epoch::default() })
    }

    #[test]
    fn the_newest_are_kept() {
        let recent = Recent::new(2 * bytes(&epoch(0)));
        let mut forgot = false;
        for number in 0..3 {
            recent.push(epoch(number));
            forgot = recent.scan(|_| true);
            assert_eq!(forgot, number > 1);
        }
        let mut times = Vec::new();
        recent.scan(|sample| {
            times.push(sample.time_ns);
            times.len() < 3
        });
        assert_eq!((times, forgot), (vec![21, 20, 11], true));
    }

    #[test]
    fn epochs_of_a_few_samples_stay_within_the_memory_too() {
        let recent = Recent::new(1 << 20);
        let mut batch = Vec::with_capacity(64);
        batch.push(Sample { series: 0, seq: 0, time_ns: 0, value: 0.0 });
        let roomy: SharedEpoch = Arc::new(Epoch { batches: vec![batch], ..Epoch::default() });
        assert!(bytes(&roomy) > 64 * size_of::<Sample>(), "room that nothing is in is held as well");
        for number in 0..100_000 {
            recent.push(epoch(number));
        }
        let held = recent.inner.read().epochs.len();
        let least = size_of::<Epoch>() + 2 * (size_of::<Sample>() + size_of::<Vec<Sample>>());
        assert!(held > 1000 && held * least <= 1 << 20, "{held} epochs");
        assert!(recent.bytes() <= 1 << 20);
    }
}
