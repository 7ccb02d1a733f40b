//! The sketch: insertion, quantile, merge and the compact form, for several distributions and sizes.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use operators::sketch::Sketch;

type Distribution = (&'static str, fn(&mut Draw) -> f64);

const DISTRIBUTIONS: [Distribution; 4] = [
    ("lognormal", |d| d.normal().exp()),
    ("signed normal", |d| 10.0 * d.normal()),
    ("narrow", |d| 20.0 + 0.01 * d.normal()),
    ("all bit patterns", |d| Some(f64::from_bits(d.bits())).filter(|v| v.is_finite()).unwrap_or(1.0)),
];

fn sketches(criterion: &mut Criterion) {
    for (name, draw) in DISTRIBUTIONS {
        for count in [60, 1_000, 100_000] {
            let mut random = Draw(5);
            let values: Vec<f64> = (0..count).map(|_| draw(&mut random)).collect();
            let mut full = Sketch::new();
            full.insert_all(&values);
            println!(
                "{name}, {count}: {} bins, {} bytes, compact {} bytes, bound {:.3} %",
                full.bins(),
                full.bytes(),
                full.to_compact().len(),
                100.0 * full.error_bound(),
            );
            one(criterion, &format!("{name}, {count}"), &values, &full);
        }
    }
}

fn one(criterion: &mut Criterion, name: &str, values: &[f64], full: &Sketch) {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(values.len() as u64));
    group.bench_function("insert into a new one", |bencher| {
        bencher.iter(|| {
            let mut sketch = Sketch::new();
            sketch.insert_all(black_box(values));
            sketch
        });
    });
    let mut hot = full.clone();
    group.bench_function("insert into a full one", |bencher| {
        bencher.iter(|| hot.insert_all(black_box(values)))
    });
    group.throughput(Throughput::Elements(1));
    group.bench_function("p99", |bencher| bencher.iter(|| black_box(full).quantile(black_box(0.99))));
    let mut sum = full.clone();
    group.bench_function("merge", |bencher| bencher.iter(|| sum.merge(black_box(full))));
    let compact = full.to_compact();
    group.bench_function("write compact", |bencher| bencher.iter(|| black_box(full).to_compact()));
    group
        .bench_function("read compact", |bencher| bencher.iter(|| Sketch::from_compact(black_box(&compact))));
    group.finish();
}

/// A small generator (Vigna's splitmix64).
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

criterion_group!(benches, sketches);
criterion_main!(benches);
