//! One load on one service, and what it cost.

use std::time::Instant;

use serde_json::Value;

use crate::bodies;
use crate::figures::Figures;
use crate::load::{Load, Pace, Sent};
use crate::options::{Format, Options};
use crate::publisher;
use crate::service::{Service, Setup, Used};

/// As the configuration has it by default.
pub const SERIES_MAX: usize = 1_000_000;

/// A load that is over, everything of it visible.
pub struct Done {
    pub sent: Sent,
    /// Samples of the load that the service counted.
    pub samples: u64,
    pub seconds: f64,
    pub used: Used,
    pub status: Value,
}

/// Flat out, or at the rate that is given.
pub fn run(
    format: Format,
    workers: usize,
    journal: &'static str,
    options: &Options,
) -> Result<Figures, String> {
    let pace = Pace { time: options.time, rate: options.rate, connections: options.connections };
    let mut load = Load::prepare_flat_out(format, options, pace);
    let service = start(format, workers, journal, options, &load)?;
    let idle = idle(&service, options);
    let done = send(&mut load, &service, pace)?;
    let how =
        if pace.rate > 0.0 { format!("{:.2} M samples/s asked", pace.rate / 1e6) } else { "flat out".into() };
    print(&format!("{}, {workers} worker(s), journal {journal}, {how}", format.word()), &service, &done);
    print!("{idle}");
    check(format, &service, &done, 0)?;
    let samples = done.samples as f64;
    Ok(Figures { samples_per_s: samples / done.seconds, cpu_ns: done.used.cpu_s() * 1e9 / samples })
}

/// A service for the load, if it serves the format.
pub fn start(
    format: Format,
    workers: usize,
    journal: &'static str,
    options: &Options,
    load: &Load,
) -> Result<Service, String> {
    let setup = Setup {
        workers,
        bus_port: load.bus_port(),
        series_max: SERIES_MAX,
        buffer_size: options.buffer_size,
        journal,
    };
    let service = Service::start(&options.binary, &setup);
    if format.is_http() && !service.serves(format.path(), format.headers()) {
        return Err(format!("this binary does not serve {}", format.path()));
    }
    Ok(service)
}

/// What the service uses while nothing happens, if that is asked.
fn idle(service: &Service, options: &Options) -> String {
    if options.idle.is_zero() {
        return String::new();
    }
    let (began, before) = (Instant::now(), service.used());
    std::thread::sleep(options.idle);
    let percent = service.used().since(&before).cpu_s() / began.elapsed().as_secs_f64() * 100.0;
    format!("    idle before: {percent:.2} % of a core\n")
}

/// Sends a load and waits until all of it is visible.
pub fn send(load: &mut Load, service: &Service, pace: Pace) -> Result<Done, String> {
    let samples_before = service.get("/status")["samples_processed"].as_u64().unwrap_or(0);
    let mut start = None;
    let sent = load.send(service, pace, || start = Some((Instant::now(), service.used())));
    let (began, before) = start.expect("a load calls when it starts");
    let status = service.wait_until_visible(samples_before + sent.least)?;
    let seconds = began.elapsed().as_secs_f64();
    let used = service.used().since(&before);
    let samples = status["samples_processed"].as_u64().unwrap_or(0) - samples_before;
    Ok(Done { sent, samples, seconds, used, status })
}

/// The figures.
pub fn print(title: &str, service: &Service, done: &Done) {
    let Done { sent, samples, seconds, used, status } = done;
    let (rss_mib, peak_mib) = service.memory_mib();
    let latency = |q: &str| status["arrival_to_visible_ms"][q].as_f64().unwrap_or(f64::NAN);
    let millions = *samples as f64 / 1e6;
    println!(
        "{title}: {:.2} M samples/s, {:.4} CPU s per M samples ({samples} samples, {:.2} CPU s, {seconds:.1} s)",
        millions / seconds,
        used.cpu_s() / millions,
        used.cpu_s(),
    );
    println!(
        "    memory {rss_mib:.0} MiB, peak {peak_mib:.0} MiB, {} series; arrival to visible p50 {:.2} ms p99 {:.2} ms",
        status["series"],
        latency("p50"),
        latency("p99"),
    );
    let lost = sent.least.saturating_sub(*samples);
    println!("    lost {lost} samples{}{}", if sent.said.is_empty() { "" } else { "; " }, sent.said);
    let each =
        used.threads().map(|(name, ns)| (name, ns as f64 / *samples as f64)).filter(|(_, ns)| *ns >= 0.1);
    let each: Vec<String> = each.map(|(name, ns)| format!("{name} {ns:.1}")).collect();
    println!("    ns a sample by thread (pid {}): {}", service.pid(), each.join(", "));
}

/// Whether all was taken in, nothing twice, and the windows hold it: `before` stood in them already.
pub fn check(format: Format, service: &Service, done: &Done, before: u64) -> Result<(), String> {
    let Done { sent, samples, .. } = done;
    if !(sent.least..=sent.most).contains(samples) {
        return Err(format!("expected {} to {} samples counted, found {samples}", sent.least, sent.most));
    }
    let metrics = if format.is_http() { bodies::METRICS.as_slice() } else { publisher::METRICS.as_slice() };
    let held: u64 = metrics.iter().map(|metric| service.counted(metric)).sum();
    if held != samples + before {
        let duplicates = service.get("/status")["samples_duplicate"].clone();
        return Err(format!(
            "expected {} samples in the windows, found {held} ({duplicates} duplicates)",
            samples + before
        ));
    }
    let refused = sent.tally.unavailable;
    match sent.failed - refused {
        0 => Ok(()),
        failed => Err(format!(
            "{failed} requests failed: {}",
            sent.failure.as_deref().unwrap_or("wrk does not say why")
        )),
    }
}
