//! What a fold keeps of samples: count, sum, spread, extremes, ends and the increase between the ends.
//!
//! Folds run in event-time order, so the same samples give the same bits whatever order they came in.
//! The sum carries a compensation term (Neumaier 1974); the spread merges by Chan, Golub and LeVeque 1979.

use serde::{Deserialize, Serialize};

use crate::counter::step;
use crate::sample::TimeNs;

/// An observation without its series: what panes hold.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Obs {
    /// Event time.
    pub time_ns: TimeNs,
    /// Value, finite.
    pub value: f64,
}

/// The fold of at least one observation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Moments {
    /// Number of observations.
    pub count: u64,
    pub(super) sum: f64,
    pub(super) compensation: f64,
    /// Sum of squared distances from the mean.
    pub m2: f64,
    /// Smallest value.
    pub min: f64,
    /// Largest value.
    pub max: f64,
    /// Earliest observation.
    pub first: Obs,
    /// Latest observation; of several at one time the one that came last.
    pub last: Obs,
    /// Reset-aware increase from the first to the last observation.
    pub increase: f64,
}

impl Moments {
    /// Folds observations in event-time order; `None` for none.
    pub fn of(sorted: &[Obs]) -> Option<Moments> {
        let (first, last) = (*sorted.first()?, *sorted.last()?);
        if sorted.len() == 1 {
            return Some(Moments::single(first));
        }
        let (mut sum, mut compensation, mut increase) = (0.0, 0.0, 0.0);
        let (mut min, mut max, mut before) = (first.value, first.value, first.value);
        for obs in sorted {
            let value = obs.value;
            add_compensated(&mut sum, &mut compensation, value);
            min = if value < min { value } else { min };
            max = if value > max { value } else { max };
            increase += step(before, value);
            before = value;
        }
        let count = sorted.len() as u64;
        let mean = (sum + compensation) / count as f64;
        let m2 = sorted.iter().map(|obs| (obs.value - mean) * (obs.value - mean)).sum();
        Some(Moments { count, sum, compensation, m2, min, max, first, last, increase })
    }

    /// Sum of the values.
    pub fn sum(&self) -> f64 {
        self.sum + self.compensation
    }

    /// Mean of the values.
    pub fn mean(&self) -> f64 {
        self.sum() / self.count as f64
    }

    /// Population standard deviation; not finite when squares of the distances are too great for a number.
    pub fn stddev(&self) -> f64 {
        // Rounding never makes the sum of squares negative: each term is at least zero.
        (self.m2 / self.count as f64).sqrt()
    }

    /// Appends a fold whose observations all come after this one's: `inc(a+b) = inc(a) + step(a.last, b.first) + inc(b)`.
    pub fn append(&mut self, later: &Moments) {
        let bridge = step(self.last.value, later.first.value);
        let increase = self.increase + bridge + later.increase;
        self.pool(later);
        self.increase = increase;
    }

    /// Merges a fold of other observations, interleaved in time: another series, or stragglers.
    /// The increases are added.
    #[inline]
    pub fn pool(&mut self, other: &Moments) {
        let (n, m) = (self.count as f64, other.count as f64);
        let delta = other.mean() - self.mean();
        self.m2 += other.m2 + delta * delta * (n * m / (n + m));
        self.count += other.count;
        add_compensated(&mut self.sum, &mut self.compensation, other.sum);
        self.compensation += other.compensation;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        if other.first.time_ns < self.first.time_ns {
            self.first = other.first;
        }
        if other.last.time_ns >= self.last.time_ns {
            self.last = other.last;
        }
        self.increase += other.increase;
    }

    /// Adds one observation from somewhere inside an already folded stretch. Its neighbours are gone:
    /// the increase stays, which is exact when the value lies between theirs. Before the first
    /// observation it is exact always.
    pub fn insert_inside(&mut self, obs: Obs) {
        let single = Moments { increase: 0.0, ..Moments::single(obs) };
        let before = (obs.time_ns < self.first.time_ns).then(|| step(obs.value, self.first.value));
        self.pool(&single);
        self.increase += before.unwrap_or(0.0);
    }

    /// The fold of one observation.
    #[inline(always)]
    pub fn single(obs: Obs) -> Moments {
        Moments {
            count: 1,
            // As a sum of one: never a negative zero.
            sum: 0.0 + obs.value,
            compensation: 0.0,
            m2: 0.0,
            min: obs.value,
            max: obs.value,
            first: obs,
            last: obs,
            increase: 0.0,
        }
    }
}

#[inline]
fn add_compensated(sum: &mut f64, compensation: &mut f64, value: f64) {
    let total = *sum + value;
    // An overflow to infinity must not turn into NaN by the compensation.
    if total.is_finite() {
        *compensation +=
            if sum.abs() >= value.abs() { (*sum - total) + value } else { (value - total) + *sum };
    }
    *sum = total;
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn series(values: &[f64]) -> Vec<Obs> {
        values.iter().enumerate().map(|(i, v)| Obs { time_ns: i as i64, value: *v }).collect()
    }

    #[test]
    fn nothing_folds_to_nothing() {
        assert_eq!(Moments::of(&[]), None);
    }

    #[test]
    fn the_sum_keeps_small_values_beside_large_ones() {
        let folded = Moments::of(&series(&[1e16, 1.0, -1e16, 1.0])).unwrap();
        assert_eq!(folded.sum(), 2.0);
    }

    proptest! {
        #[test]
        fn parts_append_to_the_whole(values in prop::collection::vec(0u32..1000, 2..60), cut in 1usize..59) {
            let all = series(&values.iter().map(|v| f64::from(*v)).collect::<Vec<_>>());
            let cut = cut.min(all.len() - 1);
            let whole = Moments::of(&all).unwrap();
            let mut parts = Moments::of(&all[..cut]).unwrap();
            parts.append(&Moments::of(&all[cut..]).unwrap());
            prop_assert_eq!((parts.count, parts.sum(), parts.min, parts.max), (whole.count, whole.sum(), whole.min, whole.max));
            prop_assert_eq!((parts.first, parts.last, parts.increase), (whole.first, whole.last, whole.increase));
            prop_assert!((parts.stddev() - whole.stddev()).abs() <= 1e-9 * whole.max.abs().max(1.0));
        }
    }
}
