//! Samples through the exchange alone: from the inputs of all workers to the worker of their series, on 1 and 2 workers.
//!
//! Prints samples a second and CPU nanoseconds of the process per sample, the copying of the chunks that are sent
//! included. Not a criterion bench: what counts is the process's CPU time, and that all workers run together.

use std::fs;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use operators::sample::{SECOND, Sample};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::Operator;
use timely::dataflow::operators::{Input, Probe};
use timely::worker::Worker;

const SAMPLES: usize = 20_000_000;
const EPOCH_LEN: usize = 20_000;
/// As the engine's workers hand them over.
const CHUNK_LEN: usize = 1024;
/// Epochs under way at a time.
const EPOCHS_INSIDE_MAX: u64 = 4;
/// Ticks a second in `/proc/self/stat`, on every usual Linux.
const TICKS_PER_SECOND: f64 = 100.0;

fn main() {
    for series in [10_000, 100_000] {
        for workers in [1, 2] {
            let mut all = [0; 3].map(|_| run(workers, series));
            all.sort_by(|a, b| a.0.total_cmp(&b.0));
            let (rate, cpu_ns) = all[1];
            println!(
                "{series:>6} series, {workers} worker(s): {rate:5.1} M samples/s, {cpu_ns:5.1} CPU ns a sample"
            );
        }
    }
}

/// Million samples a second, and CPU nanoseconds a sample.
fn run(workers: usize, series: u32) -> (f64, f64) {
    let arrived = Arc::new(AtomicU64::new(0));
    let (began, cpu_before_s) = (Instant::now(), cpu_s());
    let counted = arrived.clone();
    let guards =
        timely::execute(timely::Config::process(workers), move |worker| work(worker, series, &counted));
    for outcome in guards.expect("the workers start").join() {
        outcome.expect("no worker panics");
    }
    let (seconds, cpu_s) = (began.elapsed().as_secs_f64(), cpu_s() - cpu_before_s);
    assert_eq!(arrived.load(Ordering::Relaxed), SAMPLES as u64, "every sample should arrive");
    (SAMPLES as f64 / seconds / 1e6, cpu_s * 1e9 / SAMPLES as f64)
}

/// One worker: sends its share of every epoch, and counts what arrives.
fn work(worker: &mut Worker, series: u32, counted: &Arc<AtomicU64>) {
    let (index, peers) = (worker.index(), worker.peers());
    let counted = counted.clone();
    let (mut input, probe) = worker.dataflow::<u64, _, _>(|scope| {
        let (input, samples) = scope.new_input::<Vec<Sample>>();
        let by_series = Exchange::new(|sample: &Sample| u64::from(sample.series));
        let taken = samples.unary::<CapacityContainerBuilder<Vec<Sample>>, _, _, _>(
            by_series,
            "Taken",
            |_capability, _info| {
                move |samples, _output| {
                    samples.for_each(|_capability, chunk: &mut Vec<Sample>| {
                        counted.fetch_add(black_box(&*chunk).len() as u64, Ordering::Relaxed);
                    });
                }
            },
        );
        (input, taken.probe().0)
    });
    let share: Vec<Sample> = (index..EPOCH_LEN).step_by(peers).map(|n| sample(n, series)).collect();
    for epoch in 0..(SAMPLES / EPOCH_LEN) as u64 {
        for part in share.chunks(CHUNK_LEN) {
            input.send_batch(&mut part.to_vec());
        }
        input.advance_to(epoch + 1);
        worker.step_while(|| probe.less_than(&(epoch + 1).saturating_sub(EPOCHS_INSIDE_MAX)));
    }
    input.close();
    worker.step_while(|| !probe.done());
}

/// Series come in no order.
fn sample(number: usize, series: u32) -> Sample {
    let draw = (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    Sample {
        series: draw as u32 % series,
        seq: number as u32,
        time_ns: draw as i64 * SECOND,
        value: draw as f64,
    }
}

fn cpu_s() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").expect("Linux says how much CPU was used");
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().skip(11).take(2);
    fields.filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / TICKS_PER_SECOND
}
