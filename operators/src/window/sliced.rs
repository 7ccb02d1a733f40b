//! A shard and the rollups: who of its series is a member, and what it gives them.

use std::collections::BTreeMap;

use super::{Control, Shard, history_mut};
use crate::closing::Now;
use crate::rollup::saved::Notes;
use crate::rollup::slicing::Slicing;
use crate::rollup::{Membership, RollupChange, Sliced, SlicingCounts};
use crate::sample::SeriesId;

impl Shard {
    /// What the last epoch applied gives to rollups. It is there until the next is applied.
    pub fn take_sliced(&mut self) -> Vec<Sliced> {
        std::mem::take(&mut self.given)
    }

    /// What rollups could not be given.
    pub fn slicing_counts(&self) -> SlicingCounts {
        self.slicing.as_ref().map(|slicing| slicing.counts()).unwrap_or_default()
    }

    /// Notes what rollups are given from now on, or no more.
    pub fn note_sliced(&mut self, noted: bool) {
        if let Some(slicing) = &mut self.slicing {
            slicing.note_given(noted);
        }
    }

    /// What was noted.
    pub fn sliced_notes(&self) -> Option<&Notes> {
        self.slicing.as_ref().and_then(|slicing| slicing.notes())
    }

    /// Goes on with the rollups of a snapshot, behind [`Self::resume`] and before the first epoch. The shard is that
    /// of worker `index`. `noted` is what was given, in the epochs behind the snapshot's, of series that were saved as
    /// of a later one; what is of other workers' series, or will be given again, is passed over.
    pub fn resume_rollups(&mut self, index: usize, rollups: &RollupChange, noted: &[(u64, Sliced)]) {
        let mut of_mine: BTreeMap<u64, Vec<Sliced>> = BTreeMap::new();
        for (epoch, sliced) in noted {
            let series = sliced.series();
            let is_mine = self.owners.owner(series) as usize == index;
            if is_mine && self.stamp(series).is_some_and(|stamp| stamp >= *epoch) {
                of_mine.entry(*epoch).or_default().push(sliced.clone());
            }
        }
        self.slice_for(index);
        if let Some(slicing) = &mut self.slicing {
            slicing.resume(self.arrival_ns, rollups, of_mine);
        }
    }

    /// Can give slices from now on; the shard is that of worker `index`.
    pub fn slice_for(&mut self, index: usize) {
        self.slicing.get_or_insert_with(|| Box::new(Slicing::new(index, self.owners)));
    }

    /// The epoch as of which a series was saved, while the shard catches up.
    fn stamp(&self, series: SeriesId) -> Option<u64> {
        self.past.as_ref()?.stamp(self.owners.slot(series) as usize)
    }

    /// Takes in who becomes a member, and who ceases to be one.
    pub(super) fn change_members(&mut self, epoch: u64, controls: &[Control]) {
        let now = Now { epoch, arrival_ns: self.arrival_ns, floor_ns: self.floor_ns };
        let Some(slicing) = &mut self.slicing else { return };
        for control in controls {
            if let Control::Rollups(change) = control {
                slicing.change(change);
            }
        }
        for control in controls {
            let Control::Member { member, diff } = control else { continue };
            let Membership { series, .. } = *member;
            let slot = self.owners.slot(series) as usize;
            let stamp = self.past.as_ref().and_then(|past| past.stamp(slot));
            let history = history_mut(&mut self.series, slot);
            if *diff > 0 {
                let ahead_till =
                    stamp.filter(|stamp| *stamp > now.epoch || (*stamp == now.epoch && self.epoch < epoch));
                slicing.bind(&self.plan, history, *member, ahead_till, now);
            } else {
                slicing.unbind(history, *member);
            }
        }
    }

    /// Ends an epoch for the rollups.
    pub(super) fn slice(&mut self, epoch: u64) {
        let now = Now { epoch, arrival_ns: self.arrival_ns, floor_ns: self.floor_ns };
        if let Some(slicing) = &mut self.slicing {
            self.given = slicing.end_epoch(&self.plan, &self.series, now);
        }
    }
}
