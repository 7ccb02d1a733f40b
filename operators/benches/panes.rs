//! Samples -> panes: one history, and a shard of many series, in order and with stragglers. Throughput is in samples.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use operators::history::History;
use operators::pane::Obs;
use operators::sample::{MS, SECOND, Sample, TimeNs};
use operators::tier::WindowPlan;
use operators::window::{Control, Shard};

const START_NS: TimeNs = 1_700_000_000 * SECOND;
const EPOCH_LEN: usize = 10_000;

/// One series, a sample every 10 ms: panes fold into moments and a sketch.
fn one_history(criterion: &mut Criterion) {
    let plan = WindowPlan::default();
    let mut group = criterion.benchmark_group("history");
    group.throughput(Throughput::Elements(1));
    for (name, step_ns) in [("a sample a second", SECOND), ("a sample every 10 ms", 10 * MS)] {
        let (mut history, mut time_ns) = (History::default(), START_NS);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                time_ns += step_ns;
                let obs = Obs { time_ns, value: (time_ns / step_ns % 1009) as f64 };
                history.insert(&plan, black_box(obs), 1, time_ns, TimeNs::MIN)
            });
        });
    }
    group.finish();
}

/// Every series in turn, a sample a second of each; `late_percent` of them come up to 5 s late.
fn shards(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("shard");
    group.throughput(Throughput::Elements(EPOCH_LEN as u64));
    for series in [10_000, 100_000] {
        for late_percent in [0, 5] {
            let mut feed = Feed { series, late_percent, sent: 0 };
            let mut shard = Shard::new(Arc::new(WindowPlan::default()), 0, 1);
            let mut epoch = 0;
            // Panes of every series exist before anything is measured.
            for _ in 0..2 * series / EPOCH_LEN {
                epoch += 1;
                let (seal, chunk) = feed.epoch();
                shard.apply(epoch, &[seal], &[chunk], |_| {});
            }
            group.bench_function(format!("{series} series, {late_percent} % late"), |bencher| {
                bencher.iter_batched(
                    || feed.epoch(),
                    |(seal, chunk)| {
                        epoch += 1;
                        shard.apply(epoch, &[seal], &[chunk], |sample| {
                            black_box(sample);
                        });
                    },
                    BatchSize::LargeInput,
                );
            });
        }
    }
    group.finish();
}

/// Epochs without end.
struct Feed {
    series: usize,
    late_percent: u64,
    sent: usize,
}

impl Feed {
    fn epoch(&mut self) -> (Control, Vec<Sample>) {
        let first = self.sent;
        self.sent += EPOCH_LEN;
        let chunk = (first..self.sent).map(|number| {
            // A multiplicative permutation: neighbours in time are not neighbours in memory.
            let series = (number % self.series * 7919) % self.series;
            let draw = (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
            let late_ns = if draw % 100 < self.late_percent { (draw % 5_000) as i64 * MS } else { 0 };
            let time_ns = START_NS + (number / self.series) as i64 * SECOND - late_ns;
            Sample { series: series as u32, seq: 0, time_ns, value: (draw % 100_003) as f64 / 1000.0 }
        });
        let arrival_ns = START_NS + (first / self.series) as i64 * SECOND;
        (Control::Seal { arrival_ns, floor_ns: TimeNs::MIN }, chunk.collect())
    }
}

criterion_group!(benches, one_history, shards);
criterion_main!(benches);
