//! The mergeable quantile sketch: counts in log-linear bins on the bits of |v|, with a proven bound.
//!
//! # Bins
//! A finite `v != 0` is `±2^e · (1 + f)` with `0 <= f < 1`. Its bin at *precision* `K` is its sign, `e`, and the
//! first `K` bits of `f`: for a normal number simply `bits(|v|) >> (52 - K)`. Subnormal numbers are scaled by
//! `2^54` first, which is exact, so that they have bins of the same relative width as all others. Zero (of either
//! sign) has a bin of its own. A sketch starts at [`PRECISION_MAX`] = 7.
//!
//! # The bound
//! With `M = 2^K + floor(2^K · f)`, so `2^K <= M < 2^(K+1)`, the bin is `[lo, hi) = [M·s, (M+1)·s)` for a power
//! of two `s`. It is represented by the harmonic mean of its ends,
//!
//! ```text
//! rep = 2·lo·hi / (lo + hi) = lo + lo / (2M + 1)
//! ```
//!
//! For any `v` of the bin the relative error `|rep - v| / |v|` is largest at an end, and the same at both:
//!
//! ```text
//! (rep - lo) / lo = 1 / (2M + 1)        (hi - rep) / hi = 1 - 2M / (2M + 1) = 1 / (2M + 1)
//! ```
//!
//! which is at most `1 / (2^(K+1) + 1)`, and so below [`Sketch::error_bound`] `= 2^-(K+1)` by `2^-(2K+3)` or
//! more; that margin covers the rounding of `rep` and of an interpolation, which are some `2^-52`. `K = 7` gives
//! 0.390625 %. A representative is moved into `[min, max]`; the true value lies there as well, so that can only
//! bring the two closer. The lowest and the highest rank are exact.
//!
//! A *subnormal* representative is rounded to a multiple `p` of `u = 2^-1074`, and so is every value of the bin.
//! Count in `u`. If the bin is at most 1 wide, `lo` is the only value it can hold, and since
//! `rep - lo = (hi - lo) · M / (2M + 1) < 1/2`, `p` is `lo`. Otherwise `hi - lo` is even, so the middle is a whole
//! number and `p`, rounded from just below it, is not above it: its error at `lo` is at most `1 / 2M`. At the
//! greatest value, `hi - 1`, the error `(hi - 1 - p) / (hi - 1)` is at most `(hi - rep - 1/2) / (hi - 1)`, which is
//! at most `(hi - rep) / hi`. The bound holds there too.
//!
//! A [quantile](Sketch::quantile) between the order statistics `a` and `b` is within
//! `bound · ((1 - t)·|a| + t·|b|)` of the true one. When `a` and `b` have the same sign that is
//! `bound · |quantile|`; when one is negative and the other positive, the quantile may be near zero, and the error
//! is relative to its neighbours. (An interpolation that is subnormal is rounded to `2^-1074`, as the true one
//! would be.)
//!
//! # The cap, and why merging is exact
//! At most `bins_max` bins are occupied: beyond it neighbours are joined in pairs, `K` becomes `K - 1`, and the
//! reported bound doubles; at `K = 0` there are at most 4,197 bins and no further joining. Let `N_K(S)` be the
//! number of bins that the values `S` occupy at precision `K`. The law is: *the precision of a sketch of `S` is
//! the greatest `K` with `N_K(S) <= bins_max` (or 0)*. Since `N_K` grows with `K` and with `S`, no part of `S` can
//! have needed a lower precision than `S` does, so every order of inserting and merging arrives at that same `K`,
//! with counts that are sums of integers: merge is associative and commutative to the bit. (`bins_max` of a merge
//! is the smaller of the two.)
//!
//! Never: a clock, a random number, a sum of floating point numbers.

mod bin;
mod compact;
mod counts;
mod store;
#[cfg(test)]
mod tests;

pub use bin::PRECISION_MAX;
pub use compact::CompactError;

use store::Store;

/// How many bins may be occupied unless [`Sketch::with_bins_max`] says otherwise.
pub const BINS_MAX: u16 = 2048;

/// Values that get their bins together.
const TOGETHER_MAX: usize = 128;

/// A multiset of finite numbers, as counts in bins; see the [module](self) for bins, bound and laws.
///
/// Two sketches are equal when they answer everything alike, however their counts are held in memory.
///
/// ```
/// use operators::sketch::Sketch;
///
/// let mut sketch = Sketch::new();
/// sketch.insert_all(&[12.0, 15.0, 11.0]);
/// let mut other = Sketch::new();
/// other.insert_all(&[-3.0, 400.0]);
/// sketch.merge(&other);
/// assert_eq!((sketch.count(), sketch.min(), sketch.max()), (5, Some(-3.0), Some(400.0)));
/// let median = sketch.quantile(0.5).unwrap();
/// assert!((median - 12.0).abs() <= 12.0 * sketch.error_bound());
/// assert_eq!(Sketch::from_compact(&sketch.to_compact()), Ok(sketch));
/// ```
#[derive(Clone, Debug)]
pub struct Sketch {
    precision: u8,
    bins_max: u16,
    negative_count: u64,
    zero_count: u64,
    count: u64,
    min: f64,
    max: f64,
    negative: Store,
    positive: Store,
}

impl Default for Sketch {
    fn default() -> Self {
        Sketch::new()
    }
}

impl Sketch {
    /// An empty sketch of at most [`BINS_MAX`] occupied bins. Allocates nothing.
    pub fn new() -> Self {
        Sketch::with_bins_max(BINS_MAX)
    }

    /// An empty sketch of at most `bins_max` occupied bins; fewer bins are less memory and a wider bound on
    /// data that is spread far.
    pub fn with_bins_max(bins_max: u16) -> Self {
        Sketch {
            precision: PRECISION_MAX,
            bins_max,
            negative_count: 0,
            zero_count: 0,
            count: 0,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            negative: Store::default(),
            positive: Store::default(),
        }
    }

    /// Adds one value. A value that is not finite is not a value and changes nothing.
    #[inline]
    pub fn insert(&mut self, value: f64) {
        if !value.is_finite() {
            return;
        }
        // Makes +0 of -0, so that `min` and `max` do not depend on which of the two came first.
        let value = value + 0.0;
        if value < self.min {
            self.min = value;
        }
        if value > self.max {
            self.max = value;
        }
        self.count = self.count.saturating_add(1);
        let index = bin::index(value.abs(), self.precision);
        let new_bin = if value > 0.0 {
            self.positive.add(index, 1)
        } else if value < 0.0 {
            self.negative_count = self.negative_count.saturating_add(1);
            self.negative.add(index, 1)
        } else {
            self.zero_count = self.zero_count.saturating_add(1);
            self.zero_count == 1
        };
        if new_bin {
            self.keep_cap();
        }
    }

    /// Adds many values, several times faster than one by one: the run of counters is made once for all of them.
    pub fn insert_all(&mut self, values: &[f64]) {
        for values in values.chunks(TOGETHER_MAX) {
            let (mut positive, mut negative) = ([0; TOGETHER_MAX], [0; TOGETHER_MAX]);
            let (mut positives, mut negatives, mut zeros) = (0, 0, 0);
            for value in values.iter().filter(|value| value.is_finite()) {
                let value = value + 0.0;
                self.min = if value < self.min { value } else { self.min };
                self.max = if value > self.max { value } else { self.max };
                let index = bin::index(value.abs(), self.precision);
                if value > 0.0 {
                    positive[positives] = index;
                    positives += 1;
                } else if value < 0.0 {
                    negative[negatives] = index;
                    negatives += 1;
                } else {
                    zeros += 1;
                }
            }
            self.positive.add_each(&mut positive[..positives]);
            self.negative.add_each(&mut negative[..negatives]);
            self.negative_count = self.negative_count.saturating_add(negatives as u64);
            self.zero_count = self.zero_count.saturating_add(zeros);
            self.count = self.count.saturating_add((positives + negatives) as u64).saturating_add(zeros);
            self.keep_cap();
        }
    }

    /// Adds everything that `other` holds, as if its values had been inserted here.
    pub fn merge(&mut self, other: &Sketch) {
        self.bins_max = self.bins_max.min(other.bins_max);
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.count = self.count.saturating_add(other.count);
        self.zero_count = self.zero_count.saturating_add(other.zero_count);
        self.negative_count = self.negative_count.saturating_add(other.negative_count);
        self.lower_precision(other.precision);
        let shift = other.precision - self.precision;
        self.negative.add_all(&other.negative, shift);
        self.positive.add_all(&other.positive, shift);
        self.keep_cap();
    }

    /// How many values it holds.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The smallest value, exactly; none when empty.
    pub fn min(&self) -> Option<f64> {
        (self.count > 0).then_some(self.min)
    }

    /// The greatest value, exactly; none when empty.
    pub fn max(&self) -> Option<f64> {
        (self.count > 0).then_some(self.max)
    }

    /// The greatest relative error of an estimated value, `2^-(K+1)`: 0.00390625 unless the cap was met. What
    /// a [`Self::quantile`] between two values makes of it stands in the [module](self).
    pub fn error_bound(&self) -> f64 {
        0.5 / f64::from(1_u32 << self.precision)
    }

    /// How many leading bits of the fraction a bin has: `K`, 7 unless the cap was met.
    pub fn precision(&self) -> u8 {
        self.precision
    }

    /// The value at rank `rank` in sorted order, counted from 0, within [`Self::error_bound`]; exact at the
    /// lowest and the highest rank. None at `rank >= count`.
    pub fn value_at_rank(&self, rank: u64) -> Option<f64> {
        Some(self.locate(rank)?.0)
    }

    /// The quantile `q`, `0 <= q <= 1` (else none; none when empty): at rank `h = q · (count - 1)`,
    /// interpolated linearly between the values at the ranks around `h` (definition 7 of Hyndman and Fan,
    /// "Sample Quantiles in Statistical Packages", 1996; numpy's "linear").
    pub fn quantile(&self, q: f64) -> Option<f64> {
        if self.count == 0 || !(0.0..=1.0).contains(&q) {
            return None;
        }
        let h = q * (self.count - 1) as f64;
        let rank = (h.floor() as u64).min(self.count - 1);
        let t = h - h.floor();
        let (low, more_in_bin) = self.locate(rank)?;
        if t == 0.0 || rank + 1 == self.count {
            return Some(low);
        }
        let high = if more_in_bin && rank > 0 && rank + 2 < self.count {
            low
        } else {
            self.value_at_rank(rank + 1)?
        };
        // Not `low + (high - low) * t`: the difference of two finite numbers need not be finite.
        Some(if low == high { low } else { (low * (1.0 - t) + high * t).clamp(self.min, self.max) })
    }

    /// Memory held, in bytes, this struct included.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.negative.heap_bytes() + self.positive.heap_bytes()
    }

    /// How many bins hold at least one value.
    pub fn bins(&self) -> usize {
        self.negative.occupied() + usize::from(self.zero_count > 0) + self.positive.occupied()
    }

    /// The value at `rank`, and whether the next rank lies in the same bin.
    fn locate(&self, rank: u64) -> Option<(f64, bool)> {
        if rank >= self.count {
            return None;
        }
        let (value, more) = if rank < self.negative_count {
            // The most negative values have the highest indices.
            let (index, before) = self.negative.at_rank(self.negative_count - 1 - rank)?;
            (-bin::representative(index, self.precision), before > 0)
        } else if rank - self.negative_count < self.zero_count {
            (0.0, rank - self.negative_count + 1 < self.zero_count)
        } else {
            let (index, before) = self.positive.at_rank(rank - self.negative_count - self.zero_count)?;
            (bin::representative(index, self.precision), before + 1 < self.positive.get(index))
        };
        let exact = match rank {
            0 => self.min,
            last if last + 1 == self.count => self.max,
            _ => value.clamp(self.min, self.max),
        };
        Some((exact, more))
    }

    /// Joins bins until the law of the cap holds.
    fn keep_cap(&mut self) {
        while self.bins() > usize::from(self.bins_max) && self.precision > 0 {
            self.lower_precision(self.precision - 1);
        }
    }

    fn lower_precision(&mut self, precision: u8) {
        if precision < self.precision {
            let shift = self.precision - precision;
            self.negative = self.negative.joined(shift);
            self.positive = self.positive.joined(shift);
            self.precision = precision;
        }
    }
}

impl PartialEq for Sketch {
    fn eq(&self, other: &Self) -> bool {
        (self.precision, self.bins_max, self.count, self.zero_count)
            == (other.precision, other.bins_max, other.count, other.zero_count)
            && (self.min.to_bits(), self.max.to_bits()) == (other.min.to_bits(), other.max.to_bits())
            && self.negative.bins().eq(other.negative.bins())
            && self.positive.bins().eq(other.positive.bins())
    }
}
