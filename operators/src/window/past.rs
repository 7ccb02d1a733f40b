//! A shard that was restored, until it has caught up: which samples its histories have already, and which
//! are counted already.
//!
//! A history was saved as of some epoch at or after the one from which epochs are taken in again: its stamp.
//! What the old worker of a series did up to the epoch at which it ended is in that worker's counts. Alert
//! machines were saved at the first of these epochs, so they see all samples again, but for duplicates.

use std::collections::HashSet;
use std::sync::Arc;

use super::{Repeats, Shard, ShardCounts};
use crate::exchange::Owners;
use crate::history::History;
use crate::sample::{Sample, SeriesId, TimeNs};

/// What a restored shard remembers of how it was saved.
pub(super) struct Past {
    /// Number of the worker.
    index: u32,
    owners: Owners,
    /// By slot: the epoch as of which the history was saved.
    stamps: Vec<u64>,
    /// By old worker: the epoch as of which its counts were saved.
    ends: Arc<[u64]>,
    /// The last of them: from then on nothing is left to remember.
    last: u64,
    /// Epochs and positions of samples that were sent again.
    repeats: Arc<HashSet<(u64, u32)>>,
}

/// What is to be done with a sample.
#[derive(Clone, Copy)]
pub(super) struct Standing {
    /// Its history lacks it.
    pub(super) lacking: bool,
    /// It is not counted yet.
    pub(super) counted: bool,
    /// It was found to be sent again when it was taken in first.
    pub(super) repeated: bool,
}

impl Standing {
    /// That of every sample, unless the shard is catching up.
    pub(super) const NEW: Standing = Standing { lacking: true, counted: true, repeated: false };
}

/// Where a restored shard goes on.
#[derive(Clone, Debug)]
pub struct Resumption {
    /// Number of the worker that owns the shard.
    pub index: usize,
    /// The epoch before the next one.
    pub epoch: u64,
    /// Its arrival time.
    pub arrival_ns: TimeNs,
    /// Panes that begin before it were given up.
    pub floor_ns: TimeNs,
    /// By old worker, the epoch as of which its counts were saved.
    pub ends: Arc<[u64]>,
    /// Epochs and positions of the samples that were sent again meanwhile.
    pub repeats: Arc<HashSet<(u64, u32)>>,
    /// The share of the saved counts that this shard goes on with.
    pub counts: ShardCounts,
}

impl Past {
    /// What is to be done with a sample of `epoch`.
    #[inline]
    pub(super) fn standing(&self, sample: &Sample, epoch: u64) -> Standing {
        let stamp = self.stamps.get(self.owners.slot(sample.series) as usize).copied();
        let lacking = stamp.is_none_or(|stamp| epoch > stamp);
        // A history that lacks it knows itself whether it was sent before.
        let repeated = !lacking && sample.is_dedup() && self.repeats.contains(&(epoch, sample.position()));
        Standing { lacking, counted: self.counts(sample.series, epoch), repeated }
    }

    /// The epoch as of which the history at `slot` was saved; `None` of one that was not.
    pub(super) fn stamp(&self, slot: usize) -> Option<u64> {
        self.stamps.get(slot).copied().filter(|stamp| *stamp > 0)
    }

    fn counts(&self, series: SeriesId, epoch: u64) -> bool {
        let worker = series as usize % self.ends.len().max(1);
        self.ends.get(worker).is_none_or(|end| epoch > *end)
    }

    /// Whether what the sweep gives up of a slot is not counted yet.
    pub(super) fn counts_slot(&self, slot: usize, epoch: u64) -> bool {
        self.counts(self.owners.series(slot, self.index as usize), epoch)
    }

    /// Whether `epoch` is the last of which anything needs to be remembered.
    pub(super) fn ends_with(&self, epoch: u64) -> bool {
        epoch >= self.last
    }
}

impl Shard {
    /// Puts a saved history in its place, before [`Self::resume`]; says whether the place was free.
    pub fn restore(&mut self, series: SeriesId, stamp: u64, mut history: History) -> bool {
        let slot = self.owners.slot(series) as usize;
        let past = self.past.get_or_insert_with(|| {
            let (ends, repeats) = (Arc::new([]), Arc::default());
            Box::new(Past { index: 0, owners: self.owners, stamps: Vec::new(), ends, last: 0, repeats })
        });
        if slot >= self.series.len() {
            self.series.resize_with(slot + 1, History::default);
            past.stamps.resize(slot + 1, 0);
        }
        if self.series[slot].is_known() {
            return false;
        }
        history.measured_bytes = u32::try_from(history.bytes()).unwrap_or(u32::MAX);
        self.counts.bytes += u64::from(history.measured_bytes);
        self.series[slot] = history;
        past.stamps[slot] = stamp;
        true
    }

    /// Goes on behind an epoch, with what was restored.
    pub fn resume(&mut self, from: Resumption) {
        let Resumption { index, epoch, arrival_ns, floor_ns, ends, repeats, counts } = from;
        (self.epoch, self.arrival_ns, self.floor_ns) = (epoch, arrival_ns, floor_ns);
        self.counts = ShardCounts { bytes: self.counts.bytes, ..counts };
        let last = ends.iter().copied().max().unwrap_or(0);
        let stamps = self.past.take().map(|past| past.stamps).unwrap_or_default();
        if last > epoch {
            let (index, owners) = (index as u32, self.owners);
            self.past = Some(Box::new(Past { index, owners, stamps, ends, last, repeats }));
        }
    }

    /// Notes the duplicates from now on, or none any more.
    pub fn note_repeats(&mut self, noted: bool) {
        self.repeats = noted.then(Repeats::default);
    }

    /// The duplicates noted.
    pub fn repeats(&self) -> Option<&Repeats> {
        self.repeats.as_ref()
    }

    /// Whether histories may be ahead of the shard's epoch.
    pub fn is_catching_up(&self) -> bool {
        self.past.is_some()
    }
}
