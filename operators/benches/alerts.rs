//! The alert machine: 10,000 of them in turn, quiet, flapping and firing. Throughput is in samples.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use operators::alert::{Machine, Timing, Verdict};

const MACHINES: usize = 10_000;

fn machines(criterion: &mut Criterion) {
    let timing = Timing::new(300, 600);
    let mut group = criterion.benchmark_group("machine");
    group.throughput(Throughput::Elements(MACHINES as u64));
    for (name, bad_of_100) in
        [("quiet", 0), ("one breach in 100", 1), ("a breach in every second", 50), ("firing", 100)]
    {
        let mut machines = vec![Machine::new(); MACHINES];
        let (mut round, mut said) = (0_i64, 0_u64);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                round += 1;
                for (i, machine) in machines.iter_mut().enumerate() {
                    let bad = (i * 7919 + round as usize * 104_729) % 100 < bad_of_100;
                    machine.sample(
                        timing,
                        round * 10,
                        if black_box(bad) { Verdict::Breach } else { Verdict::Quiet },
                        1.0,
                        &mut |_| said += 1,
                    );
                }
            });
        });
        black_box(said);
    }
    group.finish();
}

criterion_group!(benches, machines);
criterion_main!(benches);
