//! Arithmetic that gives the same bits on every machine: logarithms from IEEE operations alone, and arrays that can be
//! saved.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use serde::de::{Error, SeqAccess, Visitor};
use serde::ser::SerializeTuple;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Decimal digits of one octave.
pub(super) const LOG10_2: f64 = std::f64::consts::LOG10_2;

const MANTISSA_BITS: u32 = 52;
const EXPONENT_BIAS: i64 = 1023;
const MANTISSA_MASK: u64 = (1 << MANTISSA_BITS) - 1;
const ONE_BITS: u64 = (EXPONENT_BIAS as u64) << MANTISSA_BITS;

/// Logarithm to base 2 of a positive normal number, within 2e-7. The library's own differs in the last bit between
/// systems.
#[inline]
pub(super) fn log2(x: f64) -> f64 {
    let bits = x.to_bits();
    let exponent = (bits >> MANTISSA_BITS) as i64 - EXPONENT_BIAS;
    let mantissa = f64::from_bits(bits & MANTISSA_MASK | ONE_BITS);
    // ln m = 2 artanh((m - 1) / (m + 1)), about the middle of the octave, where the series ends soon.
    let t = (mantissa - std::f64::consts::SQRT_2) / (mantissa + std::f64::consts::SQRT_2);
    let t2 = t * t;
    let series = t * (1.0 + t2 * (1.0 / 3.0 + t2 * (1.0 / 5.0 + t2 * (1.0 / 7.0))));
    exponent as f64 + 0.5 + 2.0 * std::f64::consts::LOG2_E * series
}

/// As many numbers of single precision.
pub(super) type Floats<const N: usize> = Array<f32, N>;
/// As many counts.
pub(super) type Counts<const N: usize> = Array<u16, N>;

/// As many numbers, on the heap; serde's own arrays end at 32.
#[derive(Clone, PartialEq)]
pub(super) struct Array<T, const N: usize>(Box<[T; N]>);

impl<T: Copy, const N: usize> Array<T, N> {
    /// All of them `value`.
    pub fn filled(value: T) -> Self {
        Array(Box::new([value; N]))
    }
}

impl<T, const N: usize> Deref for Array<T, N> {
    type Target = [T; N];

    fn deref(&self) -> &[T; N] {
        &self.0
    }
}

impl<T, const N: usize> DerefMut for Array<T, N> {
    fn deref_mut(&mut self) -> &mut [T; N] {
        &mut self.0
    }
}

impl<T: fmt::Debug, const N: usize> fmt::Debug for Array<T, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter()).finish()
    }
}

impl<T: Serialize, const N: usize> Serialize for Array<T, N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(N)?;
        for value in self.0.iter() {
            tuple.serialize_element(value)?;
        }
        tuple.end()
    }
}

impl<'de, T: Copy + Default + Deserialize<'de>, const N: usize> Deserialize<'de> for Array<T, N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_tuple(N, ArrayVisitor(PhantomData))
    }
}

struct ArrayVisitor<T, const N: usize>(PhantomData<T>);

impl<'de, T: Copy + Default + Deserialize<'de>, const N: usize> Visitor<'de> for ArrayVisitor<T, N> {
    type Value = Array<T, N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{N} numbers")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut values = Array::filled(T::default());
        for at in 0..N {
            values[at] = seq.next_element()?.ok_or_else(|| A::Error::invalid_length(at, &self))?;
        }
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithms_agree_with_the_library() {
        for n in -8_000..8_000 {
            let x = (f64::from(n) / 8.0 + 0.013).exp2();
            assert!((log2(x) - x.log2()).abs() < 2e-7, "log2 {x}");
        }
        assert!(log2(1.0).abs() < 2e-7);
    }

    #[test]
    fn arrays_are_saved_and_read_with_their_length() {
        let mut floats = Floats::<40>::filled(0.5);
        floats[7] = -3.25;
        let text = serde_json::to_string(&floats).unwrap();
        assert_eq!(serde_json::from_str::<Floats<40>>(&text).unwrap(), floats);
        let error = serde_json::from_str::<Floats<41>>(&text).unwrap_err().to_string();
        assert!(error.starts_with("invalid length 40, expected 41 numbers"), "{error}");
    }
}
