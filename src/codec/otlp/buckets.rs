//! Bounds of histograms: buckets -> counts of all that is at most a bound, as Prometheus has them.
//!
//! An exponential histogram's buckets have the bounds 2^(index / 2^scale). Here they lie on one grid of four bounds
//! to each power of two (scale 2, each 19 % above the one before): finer buckets are added together, which is exact,
//! and coarser ones keep their bounds, which are on the grid, too. So a histogram that changes its scale keeps its
//! series. Buckets below the first and above the last that hold something are left out.
//!
//! Source: OpenTelemetry, "Metrics data model", exponential histogram: bucket `i` is for values in
//! (base^i, base^(i+1)], and the negative ones mirror it.

/// Buckets of one histogram, at most; 160 is the default of the SDKs for exponential ones.
pub const BUCKETS_LEN_MAX: usize = 1024;

/// 2^0, 2^(1/4), 2^(1/2), 2^(3/4).
const ROOTS: [f64; 4] = [1.0, 1.189_207_115_002_721, std::f64::consts::SQRT_2, 1.681_792_830_507_429];

/// Upper bounds, each with how many values are at most that large. Bounds grow.
#[derive(Default)]
pub struct Edges {
    upto: u64,
    edges: Vec<(f64, u64)>,
}

impl Edges {
    /// Forgets all.
    pub fn clear(&mut self) {
        self.upto = 0;
        self.edges.clear();
    }

    /// Bounds and counts, the last bound infinite; none if nothing was added.
    pub fn iter(&self) -> impl Iterator<Item = (f64, u64)> {
        self.edges.iter().copied()
    }

    /// Adds a bucket behind all others.
    fn push(&mut self, bound: f64, count: u64) {
        self.upto = self.upto.saturating_add(count);
        match self.edges.last_mut() {
            // Bounds that a float can't tell apart are one.
            Some(last) if last.0 >= bound => last.1 = self.upto,
            _ => self.edges.push((bound, self.upto)),
        }
    }

    /// The buckets of an explicit histogram.
    ///
    /// # Errors
    /// If the bounds do not grow, or are not one fewer than the counts.
    pub fn explicit(&mut self, bounds: &[f64], counts: &[u64]) -> Result<(), String> {
        self.clear();
        if counts.is_empty() && bounds.is_empty() {
            return Ok(());
        }
        if counts.len() != bounds.len() + 1 {
            let (counts, bounds) = (counts.len(), bounds.len());
            return Err(format!("expected one bound fewer than counts, found {bounds} and {counts}"));
        }
        let grow = bounds.windows(2).all(|two| two[0] < two[1]) && bounds.iter().all(|bound| !bound.is_nan());
        if !grow {
            return Err("expected bounds that grow".into());
        }
        bounds.iter().zip(counts).for_each(|(bound, count)| self.push(bound + 0.0, *count));
        self.push(f64::INFINITY, counts.last().copied().unwrap_or(0));
        Ok(())
    }

    /// The buckets of an exponential histogram: offset and counts of the negative and the positive ones, and what
    /// lies within the zero threshold.
    pub fn exponential(
        &mut self,
        scale: i32,
        negative: (i32, &[u64]),
        zero: (f64, u64),
        positive: (i32, &[u64]),
    ) {
        self.clear();
        let (offset, counts) = negative;
        for (at, count) in occupied(counts).rev() {
            self.push(-bound(quarters(i64::from(offset) + at as i64, scale)), count);
        }
        let (threshold, count) = zero;
        if count > 0 {
            self.push(if threshold > 0.0 { threshold } else { 0.0 }, count);
        }
        let (offset, counts) = positive;
        for (at, count) in occupied(counts) {
            let index = i64::from(offset) + at as i64;
            // The grid's bucket that it falls into ends where that of its last value does.
            let upper = if scale > 2 { quarters(index, scale) + 1 } else { quarters(index + 1, scale) };
            self.push(bound(upper), count);
        }
        self.push(f64::INFINITY, 0);
    }
}

/// Places and counts from the first to the last that is not 0.
fn occupied(counts: &[u64]) -> impl DoubleEndedIterator<Item = (usize, u64)> {
    let first = counts.iter().position(|count| *count > 0).unwrap_or(counts.len());
    let end = counts.iter().rposition(|count| *count > 0).map_or(first, |last| last + 1);
    (first..end).zip(counts[first..end].iter().copied())
}

/// The grid's place of base^index, rounded down; places are quarters of a power of two.
fn quarters(index: i64, scale: i32) -> i64 {
    let finer = i64::from(scale) - 2;
    // Beyond these shifts every bound is 0, 1 or infinite.
    if finer >= 0 { index >> finer.min(63) } else { index << (-finer).min(30) }
}

fn bound(quarters: i64) -> f64 {
    let power = quarters.div_euclid(4).clamp(-1100, 1100) as i32;
    ROOTS[quarters.rem_euclid(4) as usize] * 2f64.powi(power)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn edges(of: impl FnOnce(&mut Edges)) -> Vec<(f64, u64)> {
        let mut edges = Edges::default();
        of(&mut edges);
        edges.iter().collect()
    }

    #[test]
    fn explicit_buckets_add_up() {
        let found = edges(|e| e.explicit(&[1.0, 2.0], &[3, 0, 4]).expect("they fit"));
        assert_eq!(found, [(1.0, 3), (2.0, 3), (f64::INFINITY, 7)]);
        assert_eq!(edges(|e| e.explicit(&[], &[]).expect("none")), []);
        assert_eq!(edges(|e| e.explicit(&[], &[2]).expect("one")), [(f64::INFINITY, 2)]);
        for (bounds, counts) in [(&[1.0][..], &[1][..]), (&[2.0, 1.0], &[1, 1, 1]), (&[f64::NAN], &[1, 1])] {
            assert!(Edges::default().explicit(bounds, counts).is_err(), "{bounds:?} {counts:?}");
        }
    }

    #[test]
    fn exponential_buckets_lie_on_one_grid() {
        let inf = f64::INFINITY;
        for (scale, negative, zero, positive, expected) in [
            // Scale 0: (1, 2], (2, 4].
            (0, (0, &[][..]), (0.0, 0), (0, &[5, 6][..]), vec![(2.0, 5), (4.0, 11), (inf, 11)]),
            // Scale 3 halves the grid's buckets: 2^(1/8) and 2^(2/8) are one.
            (3, (0, &[]), (0.0, 0), (0, &[1, 2]), vec![(ROOTS[1], 3), (inf, 3)]),
            // Scale 3, odd: 2^(1/8) to 2^(3/8) touches two.
            (3, (0, &[]), (0.0, 0), (1, &[1, 2]), vec![(ROOTS[1], 1), (ROOTS[2], 3), (inf, 3)]),
            // Scale -1: base 4, (1/4, 1] and (1, 4].
            (-1, (0, &[]), (0.0, 0), (-1, &[1, 1]), vec![(1.0, 1), (4.0, 2), (inf, 2)]),
            // Negative: [-2, -1) before zero; empty ends are left out.
            (
                0,
                (0, &[3, 1, 0]),
                (0.5, 2),
                (-1, &[0, 4]),
                vec![(-2.0, 1), (-1.0, 4), (0.5, 6), (2.0, 10), (inf, 10)],
            ),
            // What no float can hold.
            (-20, (0, &[]), (0.0, 0), (0, &[1]), vec![(inf, 1)]),
            (0, (0, &[]), (0.0, 1), (i32::MAX, &[1]), vec![(0.0, 1), (inf, 2)]),
            (
                i32::MAX,
                (i32::MIN, &[1]),
                (f64::NAN, 1),
                (i32::MIN, &[1]),
                vec![(-ROOTS[3] / 2.0, 1), (0.0, 2), (1.0, 3), (inf, 3)],
            ),
            (i32::MIN, (0, &[]), (0.0, 0), (-1, &[1, 1]), vec![(1.0, 1), (inf, 2)]),
        ] {
            let found = edges(|e| e.exponential(scale, negative, zero, positive));
            assert_eq!(found, expected, "scale {scale}");
        }
    }

    proptest! {
        #[test]
        fn every_value_is_counted_at_a_bound_that_is_not_below_it(
            values in prop::collection::vec(1e-3f64..1e6, 1..50), scale in -3i32..=10,
        ) {
            let base = 2f64.powf(2f64.powi(-scale));
            let index = |value: f64| (value.ln() / base.ln()).ceil() as i32 - 1;
            let first = values.iter().map(|v| index(*v)).min().unwrap_or(0);
            let mut counts = vec![0u64; 50_000];
            values.iter().for_each(|v| counts[(index(*v) - first) as usize] += 1);
            let found = edges(|e| e.exponential(scale, (0, &[]), (0.0, 0), (first, &counts)));
            prop_assert_eq!(found.last().copied(), Some((f64::INFINITY, values.len() as u64)));
            for (bound, upto) in found {
                // At a grid point itself, rounding may put a value into either bucket.
                let below = values.iter().filter(|v| **v <= bound * (1.0 - 1e-9)).count() as u64;
                let near = values.iter().filter(|v| **v <= bound * (1.0 + 1e-9)).count() as u64;
                prop_assert!(below <= upto && upto <= near, "{} {} {} {}", bound, below, upto, near);
            }
        }
    }
}
