//! Twice what the service can take: what it answers, what it holds, and how soon it is well again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::http::{Connection, post};
use crate::latency::top_rate;
use crate::load::{Load, Pace};
use crate::measure;
use crate::options::{Format, Options};
use crate::service::Service;

/// Connections that ask at once.
const CONNECTIONS: usize = 64;
/// Longest time until it is well again.
const RECOVERY_MAX: Duration = Duration::from_secs(2);
const PROBE: &[u8] = br#"{"service":"probe","metrics":{"probe_value":1}}"#;

/// Finds the top rate, offers twice as much, and looks at what comes after.
pub fn run(format: Format, workers: usize, options: &Options) -> Result<(), String> {
    let found = Options { time: options.time.min(Duration::from_secs(5)), ..options.clone() };
    let rate = if options.rate > 0.0 { options.rate } else { top_rate(format, workers, &found)? * 2.0 };
    let pace = Pace { time: options.time, rate, connections: CONNECTIONS.max(options.connections) };
    let mut load = Load::prepare(format, options, pace);
    let service = measure::start(format, workers, options.journals[0], options, &load)?;
    let over = AtomicBool::new(false);
    let (done, resident, recovery) = thread::scope(|scope| {
        let watching = scope.spawn(|| watch(&service, &over));
        // In another thread than the wait for visibility: it is part of what is measured.
        let done = send_and_probe(&mut load, &service, pace);
        over.store(true, Ordering::Relaxed);
        let (done, recovery) = done?;
        Ok::<_, String>((done, watching.join().expect("the watch ends"), recovery))
    })?;
    let title = format!("{}, {workers} worker(s), {:.2} M samples/s offered", format.word(), rate / 1e6);
    measure::print(&title, &service, &done);
    let quarter = |n: usize| resident.get(resident.len() * n / 4).copied().unwrap_or(f64::NAN);
    println!(
        "    offered {:.0}, taken in {} samples; resident after 1/4, 1/2, 3/4 of the time {:.0}, {:.0}, {:.0} MiB, \
         most {:.0} MiB; after the end a new sample is visible in {:.0} ms ({} refusals until then), the last one sent \
         in {:.0} ms",
        rate * pace.time.as_secs_f64(),
        done.samples,
        quarter(1),
        quarter(2),
        quarter(3),
        resident.iter().copied().fold(0.0, f64::max),
        recovery.took.as_secs_f64() * 1e3,
        recovery.refusals,
        recovery.all.as_secs_f64() * 1e3,
    );
    let bus = done.status["bus"].as_object().into_iter().flatten();
    let bus: Vec<String> = bus
        .filter(|(_, count)| count.as_u64() > Some(0))
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    println!("    the bus counts: {}", if bus.is_empty() { "nothing".into() } else { bus.join(", ") });
    let tally = &done.sent.tally;
    if tally.retry_after < tally.unavailable {
        return Err(format!(
            "{} answers 503 came without Retry-After",
            tally.unavailable - tally.retry_after
        ));
    }
    // Over the bus a new sample would come behind those that wait.
    let took = if format.is_http() { recovery.took } else { recovery.took.max(recovery.all) };
    if took > RECOVERY_MAX {
        return Err(format!("expected it to be well after {RECOVERY_MAX:?}, found {took:?}"));
    }
    measure::check(format, &service, &done, 0)
}

/// How it came back.
struct Recovery {
    took: Duration,
    /// Until all that was sent is visible.
    all: Duration,
    /// Probes that were refused before one was taken in.
    refusals: u64,
}

fn send_and_probe(
    load: &mut Load,
    service: &Service,
    pace: Pace,
) -> Result<(measure::Done, Recovery), String> {
    let before = service.get("/status")["samples_processed"].as_u64().unwrap_or(0);
    let mut start = None;
    let sent = load.send(service, pace, || start = Some((Instant::now(), service.used())));
    let (began, used_before) = start.expect("a load calls when it starts");
    let ended = Instant::now();
    let mut recovery = probe(service.port())?;
    // The probe is one more sample.
    let status = service.wait_until_visible(before + sent.least + 1)?;
    recovery.all = ended.elapsed();
    let seconds = began.elapsed().as_secs_f64();
    let used = service.used().since(&used_before);
    let samples = status["samples_processed"].as_u64().unwrap_or(0) - before - 1;
    Ok((measure::Done { sent, samples, seconds, used, status }, recovery))
}

/// Sends a sample until it is taken in, and asks for its window until it is there.
fn probe(port: u16) -> Result<Recovery, String> {
    let ended = Instant::now();
    let mut connection = Connection::open(port).map_err(|why| why.to_string())?;
    let request = post("/api/v1/metrics", Format::Json.headers(), PROBE);
    let mut refusals = 0;
    let epoch = loop {
        let answer = connection.exchange(&request).map_err(|why| format!("probe: {why}"))?;
        if answer.is_success() {
            let verdict: Value = serde_json::from_slice(&answer.body).map_err(|why| why.to_string())?;
            break verdict["epoch"].clone();
        }
        refusals += 1;
        if ended.elapsed() > 10 * RECOVERY_MAX {
            return Err(format!("expected a sample to be taken in, found {}", answer.status));
        }
        thread::sleep(Duration::from_millis(10));
    };
    let path =
        format!("/api/v1/metrics/aggregate?metric=probe_value&interval=10s&func=count&min_epoch={epoch}");
    let answer = connection.get(&path).map_err(|why| format!("probe: {why}"))?;
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    if !answer.is_success() || !text.contains("\"count\":1") {
        return Err(format!("expected the probe's window, found {}: {text}", answer.status));
    }
    Ok(Recovery { took: ended.elapsed(), all: Duration::ZERO, refusals })
}

/// Resident MiB, twenty times a second.
fn watch(service: &Service, over: &AtomicBool) -> Vec<f64> {
    let mut resident = Vec::new();
    while !over.load(Ordering::Relaxed) {
        resident.push(service.memory_mib().0);
        thread::sleep(Duration::from_millis(50));
    }
    resident
}
