//! From a magnitude to the index of its bin, and back to the number that stands for the bin.

/// The precision `K` of a sketch that has never met its cap.
pub const PRECISION_MAX: u8 = 7;

/// Bits of the fraction of an `f64`.
const FRACTION_BITS: u8 = 52;

/// Subnormal numbers are scaled by 2 to this power, which makes the smallest of them normal.
const SUBNORMAL_SCALE: u64 = 54;

/// Binades below the normal numbers: `2^-1074` to `2^-1023`.
const SUBNORMAL_BINADES: u64 = 52;

/// Indices at [`PRECISION_MAX`] are below this: 2046 normal binades and 52 subnormal ones, counted from 1.
pub(super) const INDEX_END: u32 = (2046 + SUBNORMAL_BINADES as u32 + 1) << PRECISION_MAX;

/// The index of the bin of `magnitude >= 0`, in the order of magnitudes. 0 is the zero bin alone; the bin at
/// `precision - 1` is `index >> 1`.
#[inline]
pub(super) fn index(magnitude: f64, precision: u8) -> u32 {
    let shift = FRACTION_BITS - precision;
    let bits = magnitude.to_bits();
    let index = if bits >= 1 << FRACTION_BITS {
        (bits >> shift) + (SUBNORMAL_BINADES << precision)
    } else if bits == 0 {
        0
    } else {
        let scaled = magnitude * power_of_two(SUBNORMAL_SCALE as i64);
        (scaled.to_bits() >> shift) - ((SUBNORMAL_SCALE - SUBNORMAL_BINADES) << precision)
    };
    index as u32
}

/// The harmonic mean of the ends of the bin `index >= 2^precision`, rounded to the nearest number.
pub(super) fn representative(index: u32, precision: u8) -> f64 {
    let shift = FRACTION_BITS - precision;
    let index = u64::from(index);
    let m = (1 << precision) + (index & ((1 << precision) - 1));
    let stretch = 1.0 + 1.0 / (2 * m + 1) as f64;
    if index >> precision > SUBNORMAL_BINADES {
        f64::from_bits((index - (SUBNORMAL_BINADES << precision)) << shift) * stretch
    } else {
        let scaled = f64::from_bits((index + ((SUBNORMAL_SCALE - SUBNORMAL_BINADES) << precision)) << shift);
        scaled * stretch * power_of_two(-(SUBNORMAL_SCALE as i64))
    }
}

/// `2^exponent` of a normal number.
const fn power_of_two(exponent: i64) -> f64 {
    f64::from_bits(((1023 + exponent) as u64) << FRACTION_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_are_in_the_order_of_magnitudes() {
        let magnitudes = [
            0.0,
            5e-324,
            1e-323,
            1e-310,
            2.225073858507e-308,
            f64::MIN_POSITIVE,
            1e-300,
            0.1,
            0.99,
            1.0,
            1.01,
            2.0,
            1e300,
            f64::MAX,
        ];
        for precision in 0..=PRECISION_MAX {
            let indices: Vec<u32> = magnitudes.iter().map(|m| index(*m, precision)).collect();
            assert!(indices.is_sorted(), "{precision}: {indices:?}");
            assert_eq!(indices[0], 0);
            assert_eq!(indices[1], 1 << precision, "the smallest number has the lowest bin");
            assert!(*indices.last().unwrap() < INDEX_END >> (PRECISION_MAX - precision));
        }
    }

    #[test]
    fn joining_two_bins_is_a_shift() {
        for magnitude in [5e-324, 3e-320, 1e-308, 3e-308, 0.3, 1.0, 7.7, 1e17, f64::MAX] {
            for precision in 1..=PRECISION_MAX {
                assert_eq!(
                    index(magnitude, precision) >> 1,
                    index(magnitude, precision - 1),
                    "{magnitude:e} {precision}"
                );
            }
        }
    }

    #[test]
    fn every_bin_stands_for_itself() {
        for precision in 0..=PRECISION_MAX {
            for at in 1 << precision..INDEX_END >> (PRECISION_MAX - precision) {
                let value = representative(at, precision);
                let exponent = at >> precision;
                // Below 2^K units of the smallest number not every bin has a number in it.
                if exponent > u32::from(precision) {
                    assert_eq!(index(value, precision), at, "{value:e} at precision {precision}");
                }
                assert!(value.is_finite());
            }
        }
    }
}
