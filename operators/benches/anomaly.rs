//! Judging one sample, by each method, of series of different kinds.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use operators::anomaly::{Detector, METHODS, Settings};
use operators::sample::{MINUTE, TimeNs};

/// Two weeks of five minutes.
const SAMPLES: usize = 4032;

fn kinds() -> [(&'static str, Vec<f64>); 4] {
    let mut state = 5_u64;
    let mut uniform = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    };
    let day = |n: usize| (n as f64 / 288.0 * std::f64::consts::TAU).sin();
    let mut of =
        |value: &mut dyn FnMut(usize, f64) -> f64| (0..SAMPLES).map(|n| value(n, uniform())).collect();
    [
        ("daily", of(&mut |n, draw| 50.0 + 30.0 * day(n) + 5.0 * draw)),
        ("noise", of(&mut |_, draw| 100.0 * draw)),
        ("bursts", of(&mut |_, draw| if draw > 0.97 { 1e4 * draw } else { draw })),
        ("flat", of(&mut |_, _| 45.0)),
    ]
}

fn detectors(criterion: &mut Criterion) {
    for row in METHODS {
        let method = row.name.parse().expect("the name is from the table");
        let mut group = criterion.benchmark_group(format!("anomaly {}", row.name));
        group.throughput(Throughput::Elements(SAMPLES as u64));
        for (kind, values) in kinds() {
            let mut detector = Detector::new(&Settings { method });
            let mut time_ns: TimeNs = 0;
            group.bench_function(kind, |bencher| {
                bencher.iter(|| {
                    // Time goes on from pass to pass, so that the detector stays one of a long series.
                    for value in &values {
                        time_ns += 5 * MINUTE;
                        black_box(detector.observe(time_ns, black_box(*value)));
                    }
                });
            });
            println!("{} {kind}: {} bytes", row.name, detector.state_bytes());
        }
        group.finish();
    }
}

criterion_group!(benches, detectors);
criterion_main!(benches);
