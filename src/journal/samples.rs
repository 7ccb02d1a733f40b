//! Samples as few bytes: how an epoch's batches stand in the journal.
//!
//! ```text
//! u8      kind of value (below) · 4: another time than the sample before · 8: not the series after that of the sample before
//! signed  series less that before, with 8
//! signed  event time less that before, with 4
//! value   kind 0: eight bytes; 1: signed, a whole number; 2: four bytes, thousandths
//! ```
//! A signed number is a varint (LEB128) of its zigzag form. What is measured mostly has few decimals, and what comes
//! together has one time and series in a row: then a sample takes five bytes. (Thousandths as varints would be a byte
//! shorter, but their lengths can't be predicted, and that costs more than the byte.) Every value comes back bit for
//! bit: a short form is chosen only where it does. Version 1 wrote both differences and eight bytes of every sample.

use operators::packed::{from_thousandths, unzigzag, whole, zigzag};
use operators::sample::{Sample, SeriesId, TimeNs};

const WHOLE: u8 = 1;
const THOUSANDTHS: u8 = 2;
const KIND_MASK: u8 = 3;
const TIME: u8 = 4;
const SERIES: u8 = 8;

/// Longest and shortest encoding of a sample.
const BYTES_MAX: usize = 1 + 5 + 10 + 8;
pub(super) const BYTES_MIN: usize = 1 + 1;
/// Shortest encoding in version 1.
pub(super) const BYTES_MIN_V1: usize = 1 + 1 + 8;
/// Samples that are written at once.
const BLOCK: usize = 64;
/// Series and event time of the sample before.
pub(super) type Before = (SeriesId, TimeNs);

/// Appends samples. Of `seq` nothing is written.
pub(super) fn push(out: &mut Vec<u8>, samples: &[Sample], before: &mut Before) {
    // Room for the longest encoding is there first, so that nothing in the loop can grow.
    let mut room = [0; BLOCK * BYTES_MAX];
    for block in samples.chunks(BLOCK) {
        let mut used = 0;
        for sample in block {
            used += write_sample(&mut room[used..], sample, *before);
            *before = (sample.series, sample.time_ns);
        }
        out.extend_from_slice(&room[..used]);
    }
}

#[inline(always)]
fn write_sample(room: &mut [u8], sample: &Sample, before: Before) -> usize {
    let mut head = 0;
    let mut at = 1;
    if before.0.checked_add(1) != Some(sample.series) {
        head |= SERIES;
        at = write_varint(room, at, zigzag(i64::from(sample.series) - i64::from(before.0)));
    }
    if sample.time_ns != before.1 {
        head |= TIME;
        at = write_varint(room, at, zigzag(sample.time_ns.wrapping_sub(before.1)));
    }
    let value = sample.value;
    let scaled = value * 1000.0;
    if scaled.abs() < f64::from(i32::MAX) {
        let nearest = (scaled + 0.5_f64.copysign(scaled)) as i32;
        if from_thousandths(nearest.into()).to_bits() == value.to_bits() {
            room[0] = head | THOUSANDTHS;
            room[at..at + 4].copy_from_slice(&nearest.to_le_bytes());
            return at + 4;
        }
    }
    if let Some(number) = whole(value) {
        room[0] = head | WHOLE;
        return write_varint(room, at, zigzag(number));
    }
    room[0] = head;
    room[at..at + 8].copy_from_slice(&value.to_le_bytes());
    at + 8
}

/// Writes a varint at `at`; gives the place behind it.
#[inline(always)]
fn write_varint(room: &mut [u8], mut at: usize, mut n: u64) -> usize {
    while n >= 0x80 {
        room[at] = n as u8 | 0x80;
        n >>= 7;
        at += 1;
    }
    room[at] = n as u8;
    at + 1
}

/// Reads a sample of `version` and gives its length; `None` if the bytes are none.
#[inline(always)]
pub(super) fn read(bytes: &[u8], before: Before, version: u8) -> Option<(Sample, usize)> {
    if version == 1 { read_v1(bytes, before) } else { read_v2(bytes, before) }
}

#[inline(always)]
fn read_v2(bytes: &[u8], before: Before) -> Option<(Sample, usize)> {
    let head = *bytes.first()?;
    let mut at = 1;
    let mut signed = || {
        let (n, len) = read_varint(&bytes[at..])?;
        at += len;
        Some(unzigzag(n))
    };
    let series = if head & SERIES == 0 { 1 } else { signed()? };
    let time_ns = if head & TIME == 0 { 0 } else { signed()? };
    let value = match head & KIND_MASK {
        WHOLE => signed()? as f64,
        THOUSANDTHS => {
            at += 4;
            let number = i32::from_le_bytes(*bytes.get(at - 4..)?.first_chunk()?);
            from_thousandths(number.into())
        }
        0 => {
            at += 8;
            f64::from_le_bytes(*bytes.get(at - 8..)?.first_chunk()?)
        }
        _ => return None,
    };
    let known = head & !(KIND_MASK | TIME | SERIES) == 0;
    let series = moved(before.0, series).filter(|_| known)?;
    Some((Sample { series, seq: 0, time_ns: before.1.wrapping_add(time_ns), value }, at))
}

#[inline(always)]
fn read_v1(bytes: &[u8], before: Before) -> Option<(Sample, usize)> {
    let (series, at) = read_varint(bytes)?;
    let (time, len) = read_varint(&bytes[at..])?;
    let at = at + len;
    let value = f64::from_le_bytes(*bytes.get(at..)?.first_chunk()?);
    let series = moved(before.0, unzigzag(series))?;
    Some((Sample { series, seq: 0, time_ns: before.1.wrapping_add(unzigzag(time)), value }, at + 8))
}

/// The series that lies so many behind another. The first of an epoch is told by its distance from 0.
fn moved(before: SeriesId, by: i64) -> Option<SeriesId> {
    u32::try_from(i64::from(before).checked_add(by)?).ok()
}

/// A varint and its length; `None` if there is none of at most 64 bits.
#[inline(always)]
pub(super) fn read_varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let first = *bytes.first()?;
    if first < 0x80 {
        return Some((u64::from(first), 1));
    }
    let mut n = u64::from(first & 0x7f);
    for i in 1..10 {
        let byte = *bytes.get(i)?;
        n |= u64::from(byte & 0x7f) << (7 * i);
        if byte < 0x80 {
            // Of the tenth byte one bit is left.
            return (i < 9 || byte == 1).then_some((n, i + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes_of(samples: &[Sample]) -> Vec<u8> {
        let mut out = Vec::new();
        push(&mut out, samples, &mut (0, 0));
        out
    }

    fn sample(series: SeriesId, time_ns: TimeNs, value: f64) -> Sample {
        Sample { series, seq: 0, time_ns, value }
    }

    #[test]
    fn ordinary_samples_are_short() {
        let time_ns = 1_700_000_000_000_000_000;
        let first = sample(7, time_ns, 1.0);
        for (next, len) in [
            (sample(8, time_ns, 0.0), 5),
            (sample(8, time_ns, 42.0), 5),
            (sample(8, time_ns, -12.345), 5),
            (sample(8, time_ns, 85.2), 5),
            (sample(8, time_ns, 1_073_741_824.0), 6),
            (sample(8, time_ns, -3_000_000.0), 5),
            (sample(8, time_ns, 0.1 + 0.2), 9),
            (sample(8, time_ns, -0.0), 9),
            (sample(8, time_ns, f64::MAX), 9),
            (sample(5, time_ns + 1_000_000, 1.0), 9),
        ] {
            let (one, both) = (bytes_of(&[first]), bytes_of(&[first, next]));
            assert_eq!(both.len() - one.len(), len, "{next:?}");
        }
    }

    #[test]
    fn samples_of_version_1_are_read() {
        let mut bytes = vec![14, 20];
        bytes.extend(1.5_f64.to_le_bytes());
        assert_eq!(read(&bytes, (0, 0), 1), Some((sample(7, 10, 1.5), 10)));
        assert_eq!(read(&bytes[..9], (0, 0), 1), None);
    }

    proptest! {
        #[test]
        fn samples_read_back_bit_for_bit(
            samples in prop::collection::vec(
                (prop_oneof![any::<u32>(), 0u32..9], prop_oneof![any::<i64>(), Just(5i64)], prop_oneof![
                    any::<u64>().prop_map(f64::from_bits),
                    (any::<i32>(), prop_oneof![Just(1.0), Just(10.0), Just(100.0), Just(1000.0), Just(1e4)])
                        .prop_map(|(n, by)| f64::from(n) / by),
                    any::<i64>().prop_map(|n| n as f64),
                ]),
                0..50,
            )
        ) {
            let samples: Vec<Sample> = samples.into_iter().map(|(s, t, v)| sample(s, t, v)).collect();
            let bytes = bytes_of(&samples);
            let (mut at, mut before) = (0, (0, 0));
            for expected in &samples {
                let (found, len) = read(&bytes[at..], before, 2).unwrap();
                prop_assert_eq!((found.series, found.time_ns), (expected.series, expected.time_ns));
                prop_assert_eq!(found.value.to_bits(), expected.value.to_bits());
                before = (found.series, found.time_ns);
                at += len;
            }
            prop_assert_eq!(at, bytes.len());
        }

        #[test]
        fn any_bytes_are_a_sample_or_none(bytes in prop::collection::vec(any::<u8>(), 0..30), version in 1u8..3) {
            if let Some((_, len)) = read(&bytes, (3, 3), version) {
                prop_assert!(len <= bytes.len());
            }
        }
    }
}
