//! The sketch against a sorted vector, its merge laws, and its byte encoding against garbage.

use proptest::prelude::*;

use super::*;

/// A small generator (splitmix64), so that a case is a seed.
struct Draw(u64);

impl Draw {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In (0, 1).
    fn unit(&mut self) -> f64 {
        ((self.bits() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        (-2.0 * self.unit().ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos()
    }
}

type Distribution = (&'static str, fn(&mut Draw) -> f64);

const DISTRIBUTIONS: &[Distribution] = &[
    ("lognormal", |d| d.normal().exp()),
    ("wide lognormal", |d| (6.0 * d.normal()).exp()),
    ("pareto 1.1", |d| d.unit().powf(-1.0 / 1.1)),
    ("signed normal", |d| 10.0 * d.normal()),
    ("narrow", |d| 20.0 + 0.01 * d.normal()),
    ("tiny", |d| 1e-300 * d.normal()),
    ("subnormal", |d| f64::from_bits(d.bits() >> (12 + d.bits() % 52))),
    ("a few of the smallest", |d| f64::from_bits(d.bits() % 40) * if d.bits() % 2 == 0 { 1.0 } else { -1.0 }),
    ("huge", |d| 1e300 * d.normal()),
    ("greatest", |d| f64::MAX * (1.0 - 2.0 * d.unit())),
    ("zeros", |d| if d.bits() % 2 == 0 { 0.0 } else { -0.0 }),
    ("half zeros", |d| if d.bits() % 2 == 0 { 0.0 } else { d.normal() }),
    ("negative", |d| -d.normal().exp()),
    ("integers", |d| (d.bits() % 100) as f64),
    ("constant", |_| 42.5),
    ("powers of two", |d| 2_f64.powi((d.bits() % 200) as i32 - 100)),
    ("all bit patterns", |d| Some(f64::from_bits(d.bits())).filter(|v| v.is_finite()).unwrap_or(1.0)),
];

fn sketch_of(values: &[f64], bins_max: u16) -> Sketch {
    let mut sketch = Sketch::with_bins_max(bins_max);
    sketch.insert_all(values);
    sketch
}

/// The quantile of sorted values, and what its error is relative to.
fn true_quantile(sorted: &[f64], q: f64) -> (f64, f64) {
    let h = q * (sorted.len() - 1) as f64;
    let (low, t) = (h.floor() as usize, h - h.floor());
    let (a, b) = (sorted[low], sorted[(low + 1).min(sorted.len() - 1)]);
    (a * (1.0 - t) + b * t, a.abs() * (1.0 - t) + b.abs() * t)
}

fn check_against_sorted(name: &str, mut values: Vec<f64>, bins_max: u16) {
    let sketch = sketch_of(&values, bins_max);
    values.sort_by(f64::total_cmp);
    let bound = sketch.error_bound();
    assert_eq!(sketch.count(), values.len() as u64);
    assert!(sketch.bins() <= usize::from(bins_max) || sketch.precision() == 0, "{name}");
    assert_eq!((sketch.min(), sketch.max()), (values.first().copied(), values.last().copied()), "{name}");
    // Every rank of few values, some of many.
    let stride = values.len() / 1_000 * 7 + 1;
    for (rank, value) in values.iter().enumerate().step_by(stride) {
        let found = sketch.value_at_rank(rank as u64).expect("a rank below the count");
        assert!((found - value).abs() <= bound * value.abs(), "{name} rank {rank}: {value:e} as {found:e}");
    }
    assert_eq!(sketch.value_at_rank(values.len() as u64), None);
    for step in 0..=200 {
        let q = f64::from(step) / 200.0;
        let (expect, scale) = true_quantile(&values, q);
        let found = sketch.quantile(q).expect("not empty");
        let allowed = bound * scale + 2.0 * f64::from_bits(1);
        assert!(
            (found - expect).abs() <= allowed,
            "{name} q {q}: {expect:e} as {found:e} of {}",
            values.len()
        );
    }
}

#[test]
fn the_bound_holds_for_every_distribution() {
    for (name, draw) in DISTRIBUTIONS {
        for (seed, count) in [(1, 1), (2, 2), (3, 3), (4, 60), (5, 1_000), (6, 10_000)] {
            let mut random = Draw(seed);
            let values: Vec<f64> = (0..count).map(|_| draw(&mut random)).collect();
            for bins_max in [BINS_MAX, 100, 4] {
                check_against_sorted(name, values.clone(), bins_max);
            }
        }
    }
}

#[test]
fn the_bound_follows_the_spread_of_the_data() {
    for (name, draw) in &DISTRIBUTIONS[..5] {
        let mut random = Draw(9);
        let values: Vec<f64> = (0..10_000).map(|_| draw(&mut random)).collect();
        let sketch = sketch_of(&values, BINS_MAX);
        let expect = match *name {
            "wide lognormal" => 4, // spans 60 binades
            _ => 1,
        };
        assert_eq!(sketch.error_bound(), f64::from(expect) / 256.0, "{name}: {}", sketch.error_bound());
    }
}

#[test]
fn numbers_that_are_not_finite_change_nothing() {
    let mut sketch = sketch_of(&[1.0, 2.0], BINS_MAX);
    let before = sketch.clone();
    sketch.insert_all(&[f64::NAN, f64::INFINITY, f64::NEG_INFINITY]);
    assert_eq!(sketch, before);
}

#[test]
fn an_empty_sketch_answers_nothing() {
    let sketch = Sketch::new();
    assert_eq!(
        (sketch.quantile(0.5), sketch.min(), sketch.max(), sketch.value_at_rank(0)),
        (None, None, None, None)
    );
    assert!(sketch.is_empty());
    assert_eq!(sketch_of(&[1.0], BINS_MAX).quantile(1.5), None);
    assert_eq!(sketch_of(&[1.0], BINS_MAX).quantile(f64::NAN), None);
}

#[test]
fn few_values_interpolate_as_numpy_does() {
    // numpy.quantile([1, 2, 4], [0, .25, .5, .75, 1]) is [1, 1.5, 2, 3, 4]; only the middle value is
    // estimated.
    let sketch = sketch_of(&[4.0, 1.0, 2.0], BINS_MAX);
    for (q, expect) in [(0.0, 1.0), (0.25, 1.5), (0.5, 2.0), (0.75, 3.0), (1.0, 4.0)] {
        let found = sketch.quantile(q).unwrap();
        assert!((found - expect).abs() <= expect * sketch.error_bound(), "{q}: {found}");
    }
    assert_eq!(sketch_of(&[1.0, 2.0], BINS_MAX).quantile(0.5), Some(1.5), "the ends are exact");
    let one_bin = sketch_of(&[1.0, 1.001, 1.002, 1.007], BINS_MAX);
    assert_eq!(one_bin.bins(), 1);
    let (near_min, near_max) = (one_bin.quantile(1e-6).unwrap(), one_bin.quantile(1.0 - 1e-6).unwrap());
    assert!(near_min < 1.0001 && near_max > 1.0069, "it runs into the exact ends: {near_min} {near_max}");
    assert_eq!(sketch_of(&[f64::MIN, f64::MAX], BINS_MAX).quantile(0.5), Some(0.0), "no overflow");
}

#[test]
fn memory_stays_small() {
    let mut random = Draw(11);
    for (name, draw, count, limit) in [
        ("lognormal", DISTRIBUTIONS[0].1, 60, 800),
        ("lognormal", DISTRIBUTIONS[0].1, 10_000, 4_800),
        ("narrow", DISTRIBUTIONS[4].1, 10_000, 400),
        ("constant", DISTRIBUTIONS[14].1, 10_000, 300),
        ("all bit patterns", DISTRIBUTIONS[16].1, 10_000, 32_768),
    ] {
        let values: Vec<f64> = (0..count).map(|_| draw(&mut random)).collect();
        let sketch = sketch_of(&values, BINS_MAX);
        assert!(sketch.bytes() <= limit, "{name} {count}: {} bytes", sketch.bytes());
    }
}

#[test]
fn equal_sketches_have_equal_bytes_however_they_are_held() {
    // The same three bins: first far apart (sorted indices) and then filled between, or the other way round.
    let near: Vec<f64> = (0..400).map(|i| 1.0 + f64::from(i) / 400.0).collect();
    let mut all = vec![1e-200, 1e200];
    all.extend(&near);
    let mut reversed = all.clone();
    reversed.reverse();
    let (one, other) = (sketch_of(&all, BINS_MAX), sketch_of(&reversed, BINS_MAX));
    assert_eq!(one, other);
    assert_eq!(one.to_compact(), other.to_compact());
}

#[test]
fn a_compact_sketch_is_small_and_comes_back() {
    let mut random = Draw(12);
    for (name, draw) in DISTRIBUTIONS {
        for count in [0, 1, 60, 1_000, 10_000] {
            let values: Vec<f64> = (0..count).map(|_| draw(&mut random)).collect();
            let sketch = sketch_of(&values, BINS_MAX);
            let bytes = sketch.to_compact();
            assert!(bytes.len() <= 32 + 4 * sketch.bins(), "{name} {count}: {} bytes", bytes.len());
            assert_eq!(Sketch::from_compact(&bytes), Ok(sketch), "{name} {count}");
        }
    }
}

#[test]
fn bytes_that_are_no_sketch_are_an_error_that_says_where() {
    let good = sketch_of(&[1.0, 2.0, 2.0, -3.0, 0.0], BINS_MAX).to_compact();
    for cut in 0..good.len() {
        assert!(Sketch::from_compact(&good[..cut]).is_err(), "cut at {cut}");
    }
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        Sketch::from_compact(&bytes).unwrap_err().to_string()
    };
    assert_eq!(with(0, 2), "not a compact sketch: expected version 1 at byte 0");
    assert_eq!(with(1, 8), "not a compact sketch: expected a precision of at most 7 at byte 1");
    assert!(with(12, 0x7f).contains("finite min and max in order"), "{}", with(12, 0x7f));
    let mut longer = good.clone();
    longer.push(0);
    assert!(Sketch::from_compact(&longer).unwrap_err().to_string().contains("expected the end"));
}

#[test]
fn counts_that_saturate_do_not_panic() {
    // One bin with 2^64 - 1 ones, which only bytes can make.
    let mut bytes = sketch_of(&[1.0, 1.0], BINS_MAX).to_compact();
    assert_eq!(bytes.pop(), Some(0), "count - 2");
    bytes.extend([0xfd, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
    let mut many = Sketch::from_compact(&bytes).unwrap();
    assert_eq!(many.count(), u64::MAX);
    let negative = sketch_of(&[-1.0, -2.0, 0.0], BINS_MAX);
    many.merge(&negative);
    many.merge(&many.clone());
    assert_eq!(many.count(), u64::MAX);
    for q in [0.0, 0.5, 1.0] {
        let _ = many.quantile(q);
    }
}

/// Values of all magnitudes, in bunches, so that some fit into a few bins and some need the cap.
fn values() -> impl Strategy<Value = Vec<f64>> {
    let one = prop_oneof![
        4 => -100.0..100.0,
        2 => (0..20_i32).prop_map(f64::from),
        1 => any::<u64>().prop_map(|bits| Some(f64::from_bits(bits)).filter(|v| v.is_finite()).unwrap_or(0.0)),
        1 => (0..1_u64 << 52).prop_map(f64::from_bits),
        1 => Just(-0.0),
    ];
    proptest::collection::vec(one, 0..120)
}

fn cap() -> impl Strategy<Value = u16> {
    prop_oneof![Just(1), Just(5), Just(16), Just(64), Just(BINS_MAX)]
}

fn merged(one: &Sketch, other: &Sketch) -> Sketch {
    let mut sum = one.clone();
    sum.merge(other);
    sum
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn the_bound_always_holds(values in values(), cap in cap()) {
        prop_assume!(!values.is_empty());
        check_against_sorted("proptest", values, cap);
    }

    #[test]
    fn merging_in_any_order_is_one_sketch(parts in proptest::collection::vec((values(), cap()), 3), split in any::<u64>()) {
        let sketches: Vec<Sketch> = parts.iter().map(|(values, cap)| sketch_of(values, *cap)).collect();
        let [a, b, c] = sketches.as_slice() else { unreachable!("three parts") };
        let left = merged(&merged(a, b), c);
        prop_assert_eq!(&left, &merged(a, &merged(b, c)));
        prop_assert_eq!(&left, &merged(&merged(c, a), b));
        prop_assert_eq!(&merged(a, b), &merged(b, a));
        prop_assert_eq!(left.to_compact(), merged(c, &merged(b, a)).to_compact());

        // The same values inserted one by one, in another order, under the smallest cap.
        let mut all: Vec<f64> = parts.iter().flat_map(|(values, _)| values.clone()).collect();
        let mut random = Draw(split);
        for i in (1..all.len()).rev() {
            all.swap(i, (random.bits() % (i as u64 + 1)) as usize);
        }
        let cap = parts.iter().map(|(_, cap)| *cap).min().unwrap_or(BINS_MAX);
        prop_assert_eq!(&left, &sketch_of(&all, cap));

        // An empty sketch is the neutral element.
        prop_assert_eq!(&merged(a, &Sketch::with_bins_max(a.bins_max)), a);
    }

    #[test]
    fn the_precision_is_the_law_of_the_cap(values in values(), cap in cap()) {
        let bins_at = |precision: u8| {
            let keys: std::collections::BTreeSet<(bool, u32)> =
                values.iter().map(|v| (*v < 0.0, bin::index(v.abs(), precision))).collect();
            keys.len()
        };
        let law = (0..=PRECISION_MAX).rev().find(|k| bins_at(*k) <= usize::from(cap)).unwrap_or(0);
        let sketch = sketch_of(&values, cap);
        prop_assert_eq!(sketch.precision(), law);
        prop_assert_eq!(sketch.bins(), bins_at(law));
    }

    #[test]
    fn values_together_are_values_one_by_one(values in values(), cut in 0usize..300, cap in cap()) {
        let mut together = sketch_of(&values[..cut.min(values.len())], cap);
        together.insert_all(&values[cut.min(values.len())..]);
        let mut single = Sketch::with_bins_max(cap);
        values.iter().for_each(|value| single.insert(*value));
        prop_assert_eq!(&together, &single);
        prop_assert_eq!(together.to_compact(), single.to_compact());
    }

    #[test]
    fn compact_bytes_come_back(values in values(), cap in cap()) {
        let sketch = sketch_of(&values, cap);
        prop_assert_eq!(Sketch::from_compact(&sketch.to_compact()), Ok(sketch));
    }

    #[test]
    fn garbage_never_panics(values in values(), changes in proptest::collection::vec((any::<u16>(), any::<u8>()), 1..4)) {
        let mut bytes = sketch_of(&values, 64).to_compact();
        for (at, byte) in changes {
            let at = usize::from(at) % bytes.len();
            bytes[at] = byte;
        }
        if let Ok(sketch) = Sketch::from_compact(&bytes) {
            // What is accepted is a sketch: it answers, and writes the bytes it was read from.
            let _ = (sketch.quantile(0.5), sketch.value_at_rank(1));
            prop_assert_eq!(sketch.to_compact(), bytes);
        }
    }

    #[test]
    fn any_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let mut bytes = bytes;
        if bytes.len() > 1 {
            (bytes[0], bytes[1]) = (1, bytes[1] % 9);
        }
        let _ = Sketch::from_compact(&bytes);
    }
}
