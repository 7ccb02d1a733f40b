//! An epoch: the unit in which everything enters the engine. State is a function of the epochs alone.

use std::ops::Range;
use std::sync::Arc;

use operators::catalog::Entry;
use operators::rollup::RollupChange;
use operators::rule::RuleChange;
use operators::sample::{Sample, TimeNs};
use serde::{Deserialize, Serialize};

/// One sealed epoch. Its samples have one order, that of the batches.
#[derive(Debug, Default)]
pub struct Epoch {
    /// Consecutive, from 1.
    pub number: u64,
    /// The arrival clock when it was sealed.
    pub arrival_ns: TimeNs,
    /// Panes that begin before it are given up; never falls.
    pub floor_ns: TimeNs,
    /// Samples as they were decoded. Of `seq` only [`DEDUP`](operators::sample::DEDUP) is set yet.
    pub batches: Vec<Vec<Sample>>,
    /// Catalog entries that no earlier epoch carried.
    pub entries: Vec<Entry>,
    /// Requests with an idempotency key whose samples it carries.
    pub requests: Vec<Request>,
    /// Rules that come and go with it.
    pub rules: Option<Arc<RuleChange>>,
    /// Rollups that come and go, before its samples.
    pub rollups: RollupChange,
}

/// A request that must not be counted twice, and what its sender was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Stable hash of its idempotency key.
    pub key: u128,
    /// Samples accepted.
    pub accepted: u32,
    /// Entries rejected.
    pub rejected: u32,
}

impl Epoch {
    /// Number of samples.
    pub fn len(&self) -> usize {
        self.batches.iter().map(Vec::len).sum()
    }

    /// Whether it brings no samples: a heartbeat.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The share of worker `index` of `peers`: a contiguous range of positions, so that sorting what
    /// arrives by position restores the epoch's order.
    pub fn share(&self, index: usize, peers: usize) -> Range<usize> {
        let len = self.len();
        len * index / peers..len * (index + 1) / peers
    }

    /// Calls `chunk` with slices that cover `range`, each with the position of its first sample.
    pub fn slices(&self, range: Range<usize>, mut chunk: impl FnMut(usize, &[Sample])) {
        let mut at = 0;
        for batch in &self.batches {
            let (from, till) = (range.start.max(at), range.end.min(at + batch.len()));
            if from < till {
                chunk(from, &batch[from - at..till - at]);
            }
            at += batch.len();
        }
    }
}

/// Epochs are shared between workers and the memory of recent samples.
pub type SharedEpoch = Arc<Epoch>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_cover_an_epoch_once_and_in_order() {
        let sample = |i: usize| Sample { series: i as u32, seq: 0, time_ns: 0, value: 0.0 };
        for lens in [vec![], vec![0, 3], vec![5], vec![2, 0, 7, 1]] {
            let mut next = 0;
            let batches: Vec<Vec<Sample>> = lens
                .iter()
                .map(|len| {
                    next += len;
                    (next - len..next).map(sample).collect()
                })
                .collect();
            let epoch = Epoch { batches, ..Epoch::default() };
            for peers in 1..5 {
                let mut seen = Vec::new();
                for index in 0..peers {
                    epoch.slices(epoch.share(index, peers), |at, slice| {
                        assert_eq!(at, seen.len());
                        seen.extend(slice.iter().map(|s| s.series as usize));
                    });
                }
                assert_eq!(seen, (0..epoch.len()).collect::<Vec<_>>());
            }
        }
    }
}
