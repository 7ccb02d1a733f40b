//! End to end over the bus: the release binary in a process of its own, a raw ZMTP publisher here.
//!
//! ```text
//! cargo bench --bench ingest                                   as the target is defined: flat out, 1 and 2 workers
//! cargo bench --bench ingest -- --sensors 10000 --workers 2    70,000 series
//! cargo bench --bench ingest -- --rate 100000                  messages a second, for latencies
//! cargo bench --bench ingest -- --binary /path/to/another      to compare two builds
//! cargo bench --bench ingest -- --journal memory,os,fsync --rounds 7    what the journal costs, in turn
//! ```
//!
//! Prints samples a second, CPU seconds of the service per million samples (all its threads, user and system),
//! memory, arrival to visible, and idle CPU before the load. Fails unless the windows hold every sample sent.

mod figures;
mod publisher;
mod service;

use std::time::{Duration, Instant};

use figures::{Figures, print_medians};
use publisher::{METRICS, Publisher};
use service::{Service, Used};

/// What is measured, from the command line.
struct Options {
    workers: Vec<usize>,
    seconds: u64,
    sensors: usize,
    /// Messages a second; 0 for as fast as they go.
    rate: u64,
    idle_seconds: u64,
    binary: String,
    /// `journal.durability`, in turn.
    journals: Vec<String>,
    rounds: usize,
}

fn main() {
    let options = options();
    println!(
        "{} series ({} sensors of {} metrics), {} s, {}",
        options.sensors * METRICS.len(),
        options.sensors,
        METRICS.len(),
        options.seconds,
        if options.rate == 0 { "flat out".into() } else { format!("{} messages/s", options.rate) },
    );
    for workers in &options.workers {
        let mut figures: Vec<Vec<Figures>> = vec![Vec::new(); options.journals.len()];
        for round in 0..options.rounds {
            // Each begins a round now and then.
            for at in (0..options.journals.len()).map(|at| (at + round) % options.journals.len()) {
                figures[at].push(run(*workers, &options.journals[at], &options));
            }
        }
        if options.rounds > 1 {
            print_medians(*workers, &options.journals, &figures);
        }
    }
}

fn options() -> Options {
    let mut options = Options {
        workers: vec![1, 2],
        seconds: 10,
        sensors: 1_429,
        rate: 0,
        idle_seconds: 3,
        binary: env!("CARGO_BIN_EXE_plantd-metric").into(),
        journals: vec!["fsync".into()],
        rounds: 1,
    };
    // cargo adds `--bench`.
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    while let Some(name) = arguments.next() {
        let value = arguments.next().unwrap_or_default();
        let number =
            || value.parse::<u64>().unwrap_or_else(|_| panic!("{name}: expected a number, found {value:?}"));
        match name.as_str() {
            "--workers" => options.workers = value.split(',').filter_map(|n| n.parse().ok()).collect(),
            "--seconds" => options.seconds = number(),
            "--sensors" => options.sensors = number() as usize,
            "--rate" => options.rate = number(),
            "--binary" => options.binary = value,
            "--idle" => options.idle_seconds = number(),
            "--journal" => options.journals = value.split(',').map(String::from).collect(),
            "--rounds" => options.rounds = number() as usize,
            _ => panic!(
                "expected --workers, --seconds, --sensors, --rate, --idle, --binary, --journal or --rounds, found {name:?}"
            ),
        }
    }
    options
}

fn run(workers: usize, journal: &str, options: &Options) -> Figures {
    let publisher = Publisher::bind(options.sensors);
    let service = Service::start(&options.binary, workers, journal, publisher.port());
    let mut connection = publisher.accept();
    let (idle_began, idle) = (Instant::now(), service.used());
    std::thread::sleep(Duration::from_secs(options.idle_seconds));
    let idle_percent = service.used().since(&idle).cpu_s() / idle_began.elapsed().as_secs_f64() * 100.0;

    let (began, before) = (Instant::now(), service.used());
    let messages = connection.send(Duration::from_secs(options.seconds), options.rate);
    let samples = messages * METRICS.len() as u64;
    service.wait_until_visible(samples);
    let (seconds, used) = (began.elapsed().as_secs_f64(), service.used().since(&before));
    let (rss_mib, peak_mib) = service.memory_mib();
    let status = service.get("/status");
    let latency = &status["arrival_to_visible_ms"];
    let figures =
        Figures { samples_per_s: samples as f64 / seconds, cpu_ns: used.cpu_s() * 1e9 / samples as f64 };
    println!(
        "{workers} worker(s), journal {journal}, pid {}: {samples} samples, {:.2} M samples/s, {:.4} CPU s per M samples, \
         {rss_mib:.0} MiB resident (peak {peak_mib:.0}), arrival to visible p50 {:.2} ms p99 {:.2} ms, idle {idle_percent:.2} % of a core",
        service.pid(),
        figures.samples_per_s / 1e6,
        figures.cpu_ns / 1e3,
        latency["p50"].as_f64().unwrap_or(f64::NAN),
        latency["p99"].as_f64().unwrap_or(f64::NAN),
    );
    print_threads(&used, samples);
    let counted: u64 = METRICS.iter().map(|metric| service.counted(metric)).sum();
    assert_eq!(counted, samples, "the windows should hold every sample sent");
    figures
}

/// Nanoseconds a sample of each kind of thread.
fn print_threads(used: &Used, samples: u64) {
    let each = used.threads().map(|(name, ns)| format!("{name} {:.1}", ns as f64 / samples as f64));
    println!("    ns/sample by thread: {}", each.collect::<Vec<_>>().join(", "));
}
