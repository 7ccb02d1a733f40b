//! How rare a strangeness is in the history of its own series: a tail probability, from a histogram that forgets.
//!
//! The upper 2 % of the histogram are its tail, and a Pareto distribution is laid through them, since what has never been
//! seen can't be counted. That is the method of peaks over a threshold (Siffer et al., "Anomaly detection in streams with
//! extreme value theory", KDD 2017), with Hill's estimator of the exponent (1975), drawn towards a prior while the tail
//! is thin.

use serde::{Deserialize, Serialize};

use super::number::{Floats, LOG10_2, log2};

/// Two bins an octave, from 2^-10 to 2^14.
const BINS: usize = 48;
/// The lower end of the first bin: 2^-10.
const LOWEST_BITS: u64 = (1023 - 10) << 52;
/// Bits of a number below those that count half octaves.
const BIN_BITS: u32 = 51;
/// Share of the history, and number of samples, that count as its tail.
const TAIL_SHARE: f64 = 0.02;
const TAIL_MIN: f64 = 5.0;
/// Bins by which a tail falls to 1/e before anything is known, and how many exceedances that is worth.
const PRIOR_DECAY_BINS: f64 = 1.15;
const PRIOR_WEIGHT: f64 = 3.0;
/// Times as many digits as its share of the history has, that something seen before can get.
const SEEN_ALLOWANCE: f64 = 1.5;
/// Below so many samples nothing is rare.
const HISTORY_MIN: f64 = 20.0;
/// Samples after which one counts e times less.
const MEMORY: f64 = 5_000.0;
/// Weights grow rather than all counts shrink; at this weight they are brought back to 1.
const WEIGHT_MAX: f64 = 1e6;

/// The history of one strangeness.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Rarity {
    counts: Floats<BINS>,
    total: f64,
    /// Weight of the next sample.
    weight: f64,
    /// The tail: its first bin, the weight in it and above, and that weight times the middle of each bin.
    tail_from: u32,
    tail: f64,
    tail_moment: f64,
    /// Decimal digits of the share that the tail had when it changed last.
    edge_digits: f64,
}

impl Default for Rarity {
    fn default() -> Self {
        Rarity {
            counts: Floats::filled(0.0),
            total: 0.0,
            weight: 1.0,
            tail_from: BINS as u32,
            tail: 0.0,
            tail_moment: 0.0,
            edge_digits: 0.0,
        }
    }
}

impl Rarity {
    pub const HEAP_BYTES: usize = BINS * size_of::<f32>();

    /// Decimal digits of the tail probability of `strangeness` (0 or above): 3 if one sample in 1,000 is as strange. It
    /// then becomes part of the history.
    #[inline]
    pub fn observe(&mut self, strangeness: f64) -> f64 {
        let place = place(strangeness);
        let digits = self.digits(place);
        self.add(place as u32);
        digits
    }

    /// The strangeness of which the tail probability has so many decimal digits, which are within the tail.
    pub fn strangeness_at(&self, digits: f64) -> Option<f64> {
        if self.total < HISTORY_MIN * self.weight {
            return None;
        }
        let beyond = (digits - self.edge_digits) / self.digits_per_bin();
        Some(strangeness(f64::from(self.tail_from) + beyond.max(0.0)))
    }

    #[inline]
    fn digits(&self, place: f64) -> f64 {
        if self.total < HISTORY_MIN * self.weight {
            return 0.0;
        }
        let from = f64::from(self.tail_from);
        if place < from {
            // Nobody asks how ordinary something ordinary is: a parabola up to the edge of the tail.
            let part = place / from;
            return part * part * self.edge_digits;
        }
        let laid = self.edge_digits + (place - from) * self.digits_per_bin();
        // What came before is no rarer than it was: the tail of something that is either ordinary or very strange has
        // no Pareto's shape. Of less than the whole tail it takes no counting to know that this is no limit.
        if laid <= SEEN_ALLOWANCE * self.edge_digits { laid } else { laid.min(self.digits_seen(place)) }
    }

    /// Digits that something gets at most that is no stranger than what came before.
    #[cold]
    fn digits_seen(&self, place: f64) -> f64 {
        let bin = place as usize;
        let part = f64::from(self.counts[bin]) * (1.0 - (place - bin as f64));
        let seen = part + self.counts[bin + 1..].iter().copied().map(f64::from).sum::<f64>();
        if seen > 0.0 { SEEN_ALLOWANCE * LOG10_2 * log2(self.total / seen) } else { f64::INFINITY }
    }

    /// Decimal digits by which the tail falls from one bin to the next.
    #[inline]
    fn digits_per_bin(&self) -> f64 {
        let prior = PRIOR_WEIGHT * self.weight;
        let excess = self.tail_moment - f64::from(self.tail_from) * self.tail;
        let decay_bins = (excess.max(0.0) + prior * PRIOR_DECAY_BINS) / (self.tail + prior);
        std::f64::consts::LOG10_E / decay_bins
    }

    #[inline]
    fn add(&mut self, bin: u32) {
        self.counts[bin as usize] += self.weight as f32;
        self.total += self.weight;
        if bin >= self.tail_from {
            self.tail += self.weight;
            self.tail_moment += self.weight * middle(bin);
        }
        self.weight *= 1.0 + 1.0 / MEMORY;
        let wanted = (TAIL_MIN * self.weight).max(TAIL_SHARE * self.total);
        if bin >= self.tail_from || self.tail < wanted {
            self.settle_tail(wanted);
        }
        if self.weight > WEIGHT_MAX {
            self.rescale();
        }
    }

    /// Moves the tail's first bin until the tail is as heavy as `wanted`, and no bin heavier.
    fn settle_tail(&mut self, wanted: f64) {
        // What comes out of a checkpoint may be anything.
        self.tail_from = self.tail_from.min(BINS as u32);
        while self.tail < wanted && self.tail_from > 0 {
            self.tail_from -= 1;
            let count = f64::from(self.counts[self.tail_from as usize]);
            self.tail += count;
            self.tail_moment += count * middle(self.tail_from);
        }
        while let Some(count) = self.counts.get(self.tail_from as usize) {
            let count = f64::from(*count);
            if self.tail - count < wanted {
                break;
            }
            self.tail -= count;
            self.tail_moment -= count * middle(self.tail_from);
            self.tail_from += 1;
        }
        let share = self.tail / self.total;
        self.edge_digits = if share < 1.0 { -LOG10_2 * log2(share) } else { 0.0 };
    }

    /// Brings the weight back to 1. All sums are made anew, so that rounding does not gather.
    #[cold]
    fn rescale(&mut self) {
        let factor = 1.0 / self.weight;
        self.weight = 1.0;
        (self.total, self.tail, self.tail_moment) = (0.0, 0.0, 0.0);
        for (bin, count) in (0..).zip(self.counts.iter_mut()) {
            *count = (f64::from(*count) * factor) as f32;
            self.total += f64::from(*count);
            if bin >= self.tail_from {
                self.tail += f64::from(*count);
                self.tail_moment += f64::from(*count) * middle(bin);
            }
        }
    }
}

/// Where on the axis of bins a strangeness lies: the logarithm, with straight lines between the octaves.
#[inline]
fn place(strangeness: f64) -> f64 {
    let above = strangeness.min(1e30).to_bits().saturating_sub(LOWEST_BITS);
    (above as f64 / (1_u64 << BIN_BITS) as f64).min(BINS as f64 - 0.001)
}

/// The strangeness that lies at a place.
fn strangeness(place: f64) -> f64 {
    let above = place.clamp(0.0, 2.0 * 100.0) * (1_u64 << BIN_BITS) as f64;
    f64::from_bits(LOWEST_BITS + above as u64)
}

fn middle(bin: u32) -> f64 {
    f64::from(bin) + 0.5
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same from all that was ever seen, by the definition.
    fn naive_digits(history: &[f64], strangeness: f64) -> f64 {
        let age = |n: usize| (history.len() - 1 - n) as f64;
        let weight = |n: usize| (1.0 + 1.0 / MEMORY).powf(-age(n));
        let newest = 1.0 + 1.0 / MEMORY;
        let places: Vec<f64> = history.iter().map(|s| place(*s)).collect();
        let total: f64 = (0..history.len()).map(weight).sum();
        let from_bin = |from: usize| -> Vec<usize> {
            (0..places.len()).filter(|n| places[*n] as usize >= from).collect()
        };
        let mass = |from: usize| from_bin(from).into_iter().map(weight).sum::<f64>();
        let wanted = (TAIL_MIN * newest).max(TAIL_SHARE * total);
        let from = (0..BINS).rev().find(|from| mass(*from) >= wanted).expect("the history is long enough");
        let tail = mass(from);
        let excess: f64 =
            from_bin(from).into_iter().map(|n| weight(n) * (places[n].floor() + 0.5 - from as f64)).sum();
        let decay_bins = (excess + PRIOR_WEIGHT * newest * PRIOR_DECAY_BINS) / (tail + PRIOR_WEIGHT * newest);
        let edge = (total / tail).log10();
        let place = place(strangeness);
        if place < from as f64 {
            return edge * (place / from as f64).powi(2);
        }
        let laid = edge + (place - from as f64) / decay_bins * std::f64::consts::LOG10_E;
        // Of the own bin, the part above the place.
        let bin = place as usize;
        let seen = mass(bin + 1) + (mass(bin) - mass(bin + 1)) * (1.0 - place.fract());
        if seen > 0.0 { laid.min(SEEN_ALLOWANCE * (total / seen).log10()) } else { laid }
    }

    #[test]
    fn it_agrees_with_the_definition_over_the_whole_history() {
        let (mut rarity, mut history) = (Rarity::default(), Vec::new());
        let mut state = 7_u64;
        for n in 0..4_000_u32 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let uniform = ((state >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
            // Heavy tails, and many zeros in between.
            let strangeness = if n % 3 == 0 { 0.0 } else { uniform.powf(-0.4) - 1.0 };
            if n > 200 && n % 37 == 0 {
                for asked in [0.0, 0.3, strangeness, 20.0, 1e9] {
                    let (found, expected) = (rarity.digits(place(asked)), naive_digits(&history, asked));
                    // The share of the tail is that of when it changed last.
                    assert!((found - expected).abs() < 0.1, "{n}: {asked}: {found}, {expected}");
                }
            }
            rarity.observe(strangeness);
            history.push(strangeness);
        }
    }

    #[test]
    fn weights_are_brought_back_without_a_trace() {
        let mut rarity = Rarity::default();
        for n in 0..200_000_u32 {
            rarity.observe(f64::from(n * 7919 % 1000) / 100.0);
        }
        assert!(rarity.weight < WEIGHT_MAX && rarity.weight > 1.0);
        let mut rescaled = rarity.clone();
        rescaled.rescale();
        for asked in [1.0, 9.9, 15.0, 1e3] {
            let (before, after) = (rarity.digits(place(asked)), rescaled.digits(place(asked)));
            assert!((before - after).abs() < 1e-4 * (1.0 + before), "{asked}: {before}, {after}");
        }
    }

    #[test]
    fn a_strangeness_and_its_digits_are_inverse() {
        let mut rarity = Rarity::default();
        assert_eq!(rarity.strangeness_at(3.0), None, "nothing has been seen");
        for n in 0..2_000_u32 {
            rarity.observe(f64::from(n * 7919 % 997) / 100.0);
        }
        for digits in [2.0, 3.0, 4.5] {
            let strangeness = rarity.strangeness_at(digits).unwrap();
            assert!((rarity.digits(place(strangeness)) - digits).abs() < 1e-6, "{digits}");
        }
    }

    #[test]
    fn twice_as_strange_is_never_less_rare() {
        let mut rarity = Rarity::default();
        for n in 0..3_000_u32 {
            rarity.observe(f64::from(n * 7919 % 997).powi(2) / 1e4);
        }
        let digits: Vec<f64> = (0..600).map(|n| rarity.digits(place(1e-6 * 1.1_f64.powi(n)))).collect();
        assert!(digits.is_sorted() && digits[0] == 0.0 && digits[599] > 3.0 && digits[599].is_finite());
    }
}
