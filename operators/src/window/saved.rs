//! The series of a shard as bytes, a few at a time.
//!
//! ```text
//! signed  base_ns, near the times that follow
//! varint  number of tiers, then the width of each in nanoseconds
//! a series that samples came for: varint slots left out before it, varint epoch as of which it was written
//!         less the epoch of the snapshot, its history
//! ```

use super::{Shard, ShardCounts};
use crate::history::History;
use crate::packed::{Reader, Unreadable, put_signed, put_varint};
use crate::sample::{SeriesId, TimeNs};
use crate::tier::WindowPlan;

/// How far the series of a shard have been written.
#[derive(Clone, Copy, Debug)]
pub struct SeriesWriter {
    epoch: u64,
    base_ns: TimeNs,
    next: usize,
    /// The slot that would need no gap.
    expected: usize,
}

impl SeriesWriter {
    /// Before the first series, in a snapshot of `epoch`.
    pub fn new(epoch: u64) -> SeriesWriter {
        SeriesWriter { epoch, base_ns: 0, next: 0, expected: 0 }
    }

    /// Begins a part that can be read on its own.
    pub fn begin(&mut self, shard: &Shard, out: &mut Vec<u8>) {
        self.base_ns = shard.arrival_ns;
        self.expected = 0;
        put_signed(out, self.base_ns);
        put_varint(out, shard.plan.tiers.len() as u64);
        for tier in &shard.plan.tiers {
            put_varint(out, tier.width_ns as u64);
        }
    }

    /// Appends the next series as it is now; `false` when there is none.
    pub fn write_next(&mut self, shard: &Shard, out: &mut Vec<u8>) -> bool {
        let known = shard.series.iter().enumerate().skip(self.next).find(|(_, history)| history.is_known());
        let Some((slot, history)) = known else {
            self.next = shard.series.len();
            return false;
        };
        put_varint(out, (slot - self.expected) as u64);
        // A shard is never behind the epoch that its snapshot began at.
        put_varint(out, shard.epoch.saturating_sub(self.epoch));
        history.save(&shard.plan, self.base_ns, shard.epoch, out);
        (self.next, self.expected) = (slot + 1, slot + 1);
        true
    }
}

/// Who wrote a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Number of the worker.
    pub worker: u32,
    /// Number of workers there were, above zero.
    pub workers: u32,
    /// The epoch of the snapshot.
    pub epoch: u64,
}

/// Reads the series of a part, each with the epoch as of which it was written. Numbers must be below
/// `series_end`.
pub fn load_series(
    plan: &WindowPlan,
    origin: Origin,
    series_end: u64,
    reader: &mut Reader<'_>,
    mut found: impl FnMut(SeriesId, u64, History) -> Result<(), Unreadable>,
) -> Result<(), Unreadable> {
    let base_ns = reader.signed()?;
    let mut widths_ns = Vec::with_capacity(reader.len(1)?);
    for _ in 0..widths_ns.capacity() {
        widths_ns.push(reader.varint()?);
    }
    if !plan.tiers.iter().map(|tier| tier.width_ns as u64).eq(widths_ns.iter().copied()) {
        let planned: Vec<_> = plan.tiers.iter().map(|tier| tier.width_ns).collect();
        return Err(reader.wrong(format!("panes {planned:?} ns wide, found {widths_ns:?}")));
    }
    let mut slot: u64 = 0;
    while reader.left() > 0 {
        slot = slot.saturating_add(reader.varint()?);
        let series = slot.saturating_mul(origin.workers.into()).saturating_add(origin.worker.into());
        let number = SeriesId::try_from(series).ok().filter(|_| series < series_end);
        let Some(number) = number else {
            return Err(reader.wrong(format!("a series below {series_end}, found {series}")));
        };
        let stamp = origin.epoch.saturating_add(reader.varint()?);
        let history = History::load(plan, base_ns, stamp, reader).map_err(|error| Unreadable {
            expected: format!("{} of series {series}", error.expected).into(),
            ..error
        })?;
        found(number, stamp, history)?;
        slot += 1;
    }
    Ok(())
}

impl ShardCounts {
    /// Appends the sums; not the bytes, which are measured again.
    pub fn save(&self, out: &mut Vec<u8>) {
        let sent_again = [self.duplicates, self.duplicates_unsure];
        for count in
            [self.samples, self.late, self.dropped, self.panes_given_up].into_iter().chain(sent_again)
        {
            put_varint(out, count);
        }
    }

    /// Reads what [`Self::save`] wrote.
    pub fn load(reader: &mut Reader<'_>) -> Result<ShardCounts, Unreadable> {
        let (samples, late) = (reader.varint()?, reader.varint()?);
        let (dropped, panes_given_up) = (reader.varint()?, reader.varint()?);
        let (duplicates, duplicates_unsure) = (reader.varint()?, reader.varint()?);
        Ok(ShardCounts { samples, late, dropped, duplicates, duplicates_unsure, panes_given_up, bytes: 0 })
    }
}
