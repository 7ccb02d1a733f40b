//! The exchange: how samples come to the worker that owns their series.
//!
//! Whoever hands samples in sorts them into parcels, one for each worker; the exchange then moves parcels. So a
//! sample is copied once on its way, and what is done for a message is done once for a thousand samples.

use std::mem;

use serde::{Deserialize, Serialize};
use timely::dataflow::channels::pact::{Exchange, ParallelizationContract};

use crate::sample::{Sample, SeriesId};

/// Samples of a parcel, at most.
const PARCEL_LEN: usize = 1024;

/// Samples of one epoch on their way to one worker, in the epoch's order.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Parcel {
    /// The worker.
    pub worker: u32,
    /// At least one.
    pub samples: Vec<Sample>,
}

/// Brings each parcel to its worker.
pub fn by_worker() -> impl ParallelizationContract<u64, Vec<Parcel>> {
    Exchange::new(|parcel: &Parcel| u64::from(parcel.worker))
}

/// Which worker owns a series, and the place that it has there: series are dealt out in turn.
#[derive(Clone, Copy, Debug)]
pub struct Owners {
    workers: u32,
    /// 2^64 divided by their number, rounded up; nothing for one worker. A product with it takes a few cycles where a
    /// division takes twenty (Lemire, Kaser, Kurz, "Faster remainder by direct computation", 2019).
    reciprocal: u64,
}

impl Owners {
    /// Of `workers` workers, at least one.
    pub fn new(workers: usize) -> Owners {
        let workers = u32::try_from(workers.max(1)).unwrap_or(u32::MAX);
        Owners { workers, reciprocal: if workers == 1 { 0 } else { u64::MAX / u64::from(workers) + 1 } }
    }

    /// The place of a series at its worker.
    #[inline]
    pub fn slot(self, series: SeriesId) -> u32 {
        if self.workers == 1 {
            return series;
        }
        // The high half of the product; exact for 32 bits.
        ((u128::from(self.reciprocal) * u128::from(series)) >> 64) as u32
    }

    /// The worker of a series.
    #[inline]
    pub fn owner(self, series: SeriesId) -> u32 {
        series - self.slot(series) * self.workers
    }

    /// The series at a place of a worker.
    #[inline]
    pub fn series(self, slot: usize, worker: usize) -> SeriesId {
        slot as u32 * self.workers + worker as u32
    }
}

/// Sorts samples into parcels.
#[derive(Debug)]
pub struct Sorter {
    owners: Owners,
    /// By worker.
    open: Vec<Vec<Sample>>,
}

impl Sorter {
    /// Nothing is sorted yet.
    pub fn new(owners: Owners) -> Sorter {
        Sorter { owners, open: vec![Vec::new(); owners.workers as usize] }
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.open.len()
    }

    /// Adds a sample; a parcel that is full is given to `send`.
    #[inline]
    pub fn push(&mut self, sample: Sample, send: &mut impl FnMut(Parcel)) {
        let worker = self.owners.owner(sample.series);
        let open = &mut self.open[worker as usize];
        if open.len() == open.capacity() {
            give(worker, open, send);
            open.reserve_exact(PARCEL_LEN);
        }
        open.push(sample);
    }

    /// Gives what is left to `send`.
    pub fn finish(&mut self, send: &mut impl FnMut(Parcel)) {
        for (worker, open) in self.open.iter_mut().enumerate() {
            give(worker as u32, open, send);
        }
    }
}

fn give(worker: u32, open: &mut Vec<Sample>, send: &mut impl FnMut(Parcel)) {
    let samples = mem::take(open);
    if !samples.is_empty() {
        send(Parcel { worker, samples });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_dealt_out_in_turn() {
        for workers in (1..=70).chain([1000, 65_535, 65_536, u32::MAX]) {
            let owners = Owners::new(workers as usize);
            let near = |at: u32| at.saturating_sub(2)..=at.saturating_add(2);
            let all = near(0).chain(near(workers)).chain(near(u32::MAX / 2)).chain(near(u32::MAX));
            for series in all.chain((0..1000).map(|n: u32| n.wrapping_mul(0x9e37_79b9))) {
                assert_eq!(owners.slot(series), series / workers, "{series} of {workers}");
                assert_eq!(owners.owner(series), series % workers, "{series} of {workers}");
                let (slot, owner) = (owners.slot(series) as usize, owners.owner(series) as usize);
                assert_eq!(owners.series(slot, owner), series);
            }
        }
    }

    #[test]
    fn parcels_hold_every_sample_once_and_in_order() {
        for (workers, len) in [(1, 0), (1, 3000), (2, 1), (3, 10_000)] {
            let mut sorter = Sorter::new(Owners::new(workers));
            let mut parcels = Vec::new();
            let mut send = |parcel| parcels.push(parcel);
            for seq in 0..len as u32 {
                let sample = Sample { series: seq.wrapping_mul(7919) % 100, seq, time_ns: 0, value: 0.0 };
                sorter.push(sample, &mut send);
            }
            sorter.finish(&mut send);
            assert!(parcels.iter().all(|parcel| (1..=PARCEL_LEN).contains(&parcel.samples.len())));
            for worker in 0..workers as u32 {
                let of_worker = parcels.iter().filter(|parcel| parcel.worker == worker);
                let found: Vec<u32> = of_worker.flat_map(|p| p.samples.iter().map(|s| s.seq)).collect();
                let expected =
                    (0..len as u32).filter(|seq| (seq.wrapping_mul(7919) % 100) % workers as u32 == worker);
                assert_eq!(found, expected.collect::<Vec<_>>());
            }
        }
    }
}
