//! Median and median absolute deviation of the newest samples, exact, from a ring and its sorted copy.

use serde::{Deserialize, Serialize};

use super::number::Floats;

/// Samples that are looked back on.
pub(super) const ROLLING_LEN: usize = 64;

/// The newest values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Rolling {
    ring: Floats<ROLLING_LEN>,
    sorted: Floats<ROLLING_LEN>,
    len: u32,
    next: u32,
}

impl Default for Rolling {
    fn default() -> Self {
        Rolling { ring: Floats::filled(0.0), sorted: Floats::filled(0.0), len: 0, next: 0 }
    }
}

impl Rolling {
    /// Median, and median absolute deviation from it (of an even number, the upper of the two in the middle); nothing
    /// of fewer than 8 values.
    #[inline]
    pub fn median_and_mad(&self) -> Option<(f64, f64)> {
        let sorted = self.sorted.get(..self.len as usize).filter(|sorted| sorted.len() >= 8)?;
        let centre = sorted.len() / 2;
        Some((f64::from(sorted[centre]), f64::from(mad(sorted, centre))))
    }

    /// Takes a value in, and the oldest out.
    #[inline]
    pub fn push(&mut self, value: f32) {
        let next = self.next as usize % ROLLING_LEN;
        let len = (self.len as usize).min(ROLLING_LEN);
        let from = if len == ROLLING_LEN {
            let oldest = self.ring[next];
            self.sorted.partition_point(|kept| *kept < oldest).min(len - 1)
        } else {
            self.len += 1;
            len
        };
        self.ring[next] = value;
        self.next = ((next + 1) % ROLLING_LEN) as u32;
        // The place that became free, at `from`, travels to where the value belongs.
        let to = self.sorted[..len].partition_point(|kept| *kept < value);
        if to <= from {
            self.sorted.copy_within(to..from, to + 1);
            self.sorted[to] = value;
        } else {
            self.sorted.copy_within(from + 1..to, from);
            self.sorted[to - 1] = value;
        }
    }

    /// Adds `shift` to all values.
    pub fn shift(&mut self, shift: f32) {
        self.ring.iter_mut().chain(self.sorted.iter_mut()).for_each(|value| *value += shift);
    }
}

/// The middle one of the distances from `sorted[centre]`, which lie in two sorted arms: below it and from it upwards.
#[inline]
fn mad(sorted: &[f32], centre: usize) -> f32 {
    let median = sorted[centre];
    let below = |n: usize| median - sorted[centre - 1 - n];
    let above = |n: usize| sorted[centre + n] - median;
    let (len_below, len_above) = (centre, sorted.len() - centre);
    // Of the `wanted` smallest, so many are below: the least number for which the next one below is no smaller than
    // the last one taken above.
    let wanted = sorted.len() / 2 + 1;
    let (mut low, mut size) = (wanted.saturating_sub(len_above), 0);
    size += len_below.min(wanted) - low;
    // Written so that nothing has to be guessed by the processor: the outcome of each comparison is a coin toss.
    while size > 0 {
        let half = size / 2;
        let taken = low + half;
        let is_below = below(taken) < above(wanted - taken - 1);
        low = if is_below { taken + 1 } else { low };
        size = if is_below { size - half - 1 } else { half };
    }
    let last_above = if low < wanted { above(wanted - low - 1) } else { 0.0 };
    if low > 0 { last_above.max(below(low - 1)) } else { last_above }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naive(values: &[f32]) -> (f64, f64) {
        let middle = |mut values: Vec<f32>| {
            values.sort_by(f32::total_cmp);
            values[values.len() / 2]
        };
        let median = middle(values.to_vec());
        let mad = middle(values.iter().map(|value| (value - median).abs()).collect());
        (median.into(), mad.into())
    }

    #[test]
    fn it_agrees_with_sorting_every_window() {
        let (mut rolling, mut all) = (Rolling::default(), Vec::new());
        let mut state = 1_u64;
        for n in 0..5_000_u32 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            // Ties, runs and jumps.
            let value = match (n / 500) % 4 {
                0 => (state >> 60) as f32,
                1 => (state >> 40) as f32 / 1e3,
                2 => -(n as f32),
                _ => 7.0,
            };
            rolling.push(value);
            all.push(value);
            let window = &all[all.len().saturating_sub(ROLLING_LEN)..];
            let expected = (window.len() >= 8).then(|| naive(window));
            assert_eq!(rolling.median_and_mad(), expected, "after {n}");
        }
    }
}
