//! Waits at half of the top rate: from arrival to visible, and those of queries that are asked meanwhile.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::http::{Connection, post};
use crate::load::{Load, Pace};
use crate::measure;
use crate::options::{Format, Options};
use crate::sender::{now_ns, quantile_ms};
use crate::service::Service;

/// What is asked: a name, the query, and the number of windows that it must answer at least. An hour of windows has 360
/// and moves on while it is asked about; a few are empty, of the time in which the history was written.
const QUERIES: &[(&str, &str, usize)] = &[
    ("1 series, 360 panes, avg", "tag.host=server-0007&func=avg", 340),
    ("1 series, 360 panes, p95", "tag.host=server-0007&func=p95", 340),
    ("1,000 series, 360 panes, by service, avg", "by=service&func=avg", 340),
    ("1,000 series, 30 panes, by location, avg", "by=location&func=avg&start=LATELY", 40 * 24),
    ("1,000 series, 360 panes, by location, avg", "by=location&func=avg", 40 * 340),
];
/// Series that are asked about; they get a sample each second meanwhile.
const SERIES: usize = 1_000;
const PANES: i64 = 361;
const PANE_NS: i64 = 10_000_000_000;
/// Between a query and the next.
const PAUSE: Duration = Duration::from_millis(20);

/// Finds the top rate, then asks at half of it.
pub fn run(format: Format, workers: usize, options: &Options) -> Result<(), String> {
    let rate = if options.rate > 0.0 { options.rate } else { top_rate(format, workers, options)? / 2.0 };
    let pace = Pace { time: options.time, rate, connections: options.connections };
    let mut load = Load::prepare(format, options, pace);
    let service = measure::start(format, workers, options.journals[0], options, &load)?;
    fill(&service).map_err(|why| format!("history: {why}"))?;
    let history = SERIES as u64 * PANES as u64;
    service.wait_until_visible(history)?;

    let over = AtomicBool::new(false);
    let (done, waits, trickled) = thread::scope(|scope| {
        let asking = scope.spawn(|| ask(service.port(), &over));
        let trickling = scope.spawn(|| trickle(service.port(), &over));
        let done = measure::send(&mut load, &service, pace);
        over.store(true, Ordering::Relaxed);
        (done, asking.join().expect("queries end"), trickling.join().expect("the trickle ends"))
    });
    let (mut done, waits, trickled) = (done?, waits?, trickled.map_err(|why| why.to_string())?);
    let status = service.wait_until_visible(history + trickled + done.sent.least)?;
    // What trickled in beside the load belongs to the history.
    done.samples = status["samples_processed"].as_u64().unwrap_or(0) - history - trickled;
    let title =
        format!("{}, {workers} worker(s), {:.2} M samples/s asked, with queries", format.word(), rate / 1e6);
    measure::print(&title, &service, &done);
    for ((name, ..), waits_us) in QUERIES.iter().zip(&waits) {
        let (p50, p99) = (quantile_ms(waits_us, 0.5), quantile_ms(waits_us, 0.99));
        println!("    query, {name}: p50 {p50:.2} ms p99 {p99:.2} ms ({} asked)", waits_us.len());
    }
    measure::check(format, &service, &done, history + trickled)
}

/// Samples a second, flat out, by the same sender.
pub fn top_rate(format: Format, workers: usize, options: &Options) -> Result<f64, String> {
    let pace = Pace { time: options.time, rate: 0.0, connections: options.connections };
    let mut load = Load::prepare(format, options, pace);
    let service = measure::start(format, workers, options.journals[0], options, &load)?;
    let done = measure::send(&mut load, &service, pace)?;
    let rate = done.samples as f64 / done.seconds;
    println!("{}, {workers} worker(s), flat out: {:.2} M samples/s", format.word(), rate / 1e6);
    measure::check(format, &service, &done, 0)?;
    Ok(rate)
}

/// A body with one sample of each series; without a time it is of now.
fn body(time_ns: Option<i64>) -> Vec<u8> {
    let message = |host: usize| {
        let tags = json!({ "host": format!("server-{host:04}"), "location": format!("rack-{}", host % 40) });
        let metrics = json!({ "cpu_usage_percent": (host * 37 % 1_000) as f64 / 10.0 });
        let mut message = json!({ "service": "history", "metrics": metrics, "tags": tags });
        if let Some(ns) = time_ns {
            message["timestamp"] = json!(ns / 1_000_000_000);
        }
        message
    };
    let messages: Vec<Value> = (0..SERIES).map(message).collect();
    post(
        "/api/v1/metrics/batch",
        Format::Json.headers(),
        json!({ "metrics": messages }).to_string().as_bytes(),
    )
}

/// An hour of panes.
fn fill(service: &Service) -> io::Result<()> {
    let mut connection = Connection::open(service.port())?;
    let newest_ns = now_ns() / PANE_NS * PANE_NS;
    for pane in (0..PANES).rev() {
        let answer = connection.exchange(&body(Some(newest_ns - pane * PANE_NS)))?;
        if !answer.is_success() {
            return Err(io::Error::other(String::from_utf8_lossy(&answer.body)));
        }
    }
    Ok(())
}

/// Keeps the history's series alive; returns how many samples that took.
fn trickle(port: u16, over: &AtomicBool) -> io::Result<u64> {
    let mut connection = Connection::open(port)?;
    let (request, mut sent) = (body(None), 0);
    let mut next = Instant::now();
    while !over.load(Ordering::Relaxed) {
        if Instant::now() >= next {
            sent += if connection.exchange(&request)?.is_success() { SERIES as u64 } else { 0 };
            next += Duration::from_secs(1);
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(sent)
}

/// Asks one query after the other until the load is over; returns the waits of each.
fn ask(port: u16, over: &AtomicBool) -> Result<Vec<Vec<u32>>, String> {
    let mut connection = Connection::open(port).map_err(|why| why.to_string())?;
    let mut waits_us = vec![Vec::new(); QUERIES.len()];
    while !over.load(Ordering::Relaxed) {
        for ((name, query, windows_min), waits) in QUERIES.iter().zip(&mut waits_us) {
            let (now_ns, hour_ns) = (now_ns(), 360 * PANE_NS);
            let lately_s = (now_ns - 30 * PANE_NS) / 1_000_000_000;
            let start = if query.contains("start=") {
                String::new()
            } else {
                format!("&start={}", (now_ns - hour_ns) / 1_000_000_000)
            };
            let query = query.replace("LATELY", &lately_s.to_string());
            let path = format!(
                "/api/v1/metrics/aggregate?metric=cpu_usage_percent&service=history&interval=10s&{query}{start}"
            );
            let asked = Instant::now();
            let answer = connection.get(&path).map_err(|why| format!("{name}: {why}"))?;
            waits.push(asked.elapsed().as_micros() as u32);
            let json: Value = serde_json::from_slice(&answer.body).map_err(|why| format!("{name}: {why}"))?;
            let series = json["series"].as_array().into_iter().flatten();
            let windows: usize = series.filter_map(|one| one["points"].as_array()).map(Vec::len).sum();
            if windows < *windows_min {
                return Err(format!(
                    "{name}: expected at least {windows_min} windows, found {windows} ({})",
                    answer.status
                ));
            }
            thread::sleep(PAUSE);
        }
    }
    Ok(waits_us)
}
