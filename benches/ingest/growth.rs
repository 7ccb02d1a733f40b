//! How cost and memory grow with the number of series: bodies with times over HTTP.

use crate::bodies::{Bodies, METRICS, numbered};
use crate::load::sent_over_http;
use crate::measure::{self, Done, SERIES_MAX};
use crate::options::{Format, Options};
use crate::sender::{self, Plan, Tally, Until, now_ns};
use crate::service::{Service, Setup};

/// Windows that every series gets a sample in.
const PANES: i64 = 12;
const PANE_NS: i64 = 10_000_000_000;

/// For each count: twelve panes with a sample of every series, then samples of now, flat out.
pub fn run(counts: &[usize], workers: usize, options: &Options) -> Result<(), String> {
    // Their times are digits, which can be written anew.
    let format = options.formats.iter().copied().find(|format| format.is_fixed()).unwrap_or(Format::Line);
    let mut costs = Vec::new();
    for count in counts {
        let bodies = numbered(format, *count);
        // The count is rounded up to whole hosts.
        let series_max = SERIES_MAX.max(count + METRICS.len());
        let setup = Setup {
            workers,
            bus_port: None,
            series_max,
            buffer_size: options.buffer_size,
            journal: options.journals[0],
        };
        let service = Service::start(&options.binary, &setup);
        if !service.serves(format.path(), format.headers()) {
            return Err(format!("this binary does not serve {}", format.path()));
        }
        let filled = fill(&service, &bodies, options)?;
        let cost = steady(*count, workers, &service, &bodies, options, filled)?;
        costs.push((*count, cost));
    }
    if let [(least, first), .., (most, last)] = costs[..] {
        println!("from {least} to {most} series a sample costs {:.2} times", last / first);
    }
    Ok(())
}

/// Sends, and waits until all is visible.
fn send(service: &Service, bodies: &Bodies, plan: Plan) -> Result<Done, String> {
    let before = service.get("/status")["samples_processed"].as_u64().unwrap_or(0);
    let (began, used_before) = (std::time::Instant::now(), service.used());
    let tally: Tally = sender::send(bodies, plan);
    if tally.failed > 0 || tally.unavailable > 0 {
        let why = tally.failure.unwrap_or_else(|| "503".into());
        return Err(format!("{} requests failed: {why}", tally.failed + tally.unavailable));
    }
    let sent = sent_over_http(tally);
    let status = service.wait_until_visible(before + sent.least)?;
    let seconds = began.elapsed().as_secs_f64();
    let samples = status["samples_processed"].as_u64().unwrap_or(0) - before;
    Ok(Done { sent, samples, seconds, used: service.used().since(&used_before), status })
}

/// Twelve panes; returns how many samples.
fn fill(service: &Service, bodies: &Bodies, options: &Options) -> Result<u64, String> {
    let (empty_mib, _) = service.memory_mib();
    let first_ns = now_ns() / PANE_NS * PANE_NS - PANES * PANE_NS;
    let (mut samples, mut new_cost, mut next_cost) = (0, 0.0, 0.0);
    for pane in 0..PANES {
        let time_ns = Some(first_ns + pane * PANE_NS + PANE_NS / 2);
        let until = Until::Passes(1);
        let plan = Plan { port: service.port(), connections: options.connections, until, rate: 0.0, time_ns };
        let done = send(service, bodies, plan)?;
        samples += done.samples;
        if pane == 0 { new_cost += done.used.cpu_s() } else { next_cost += done.used.cpu_s() }
    }
    let status = service.get("/status");
    let series = status["series"].as_u64().unwrap_or(0) as f64;
    let (rss_mib, peak_mib) = service.memory_mib();
    let each = |mib: f64| mib * 1024.0 * 1024.0 / series;
    println!(
        "{series} series with {PANES} panes each: peak {peak_mib:.0} MiB (now {rss_mib:.0}, empty {empty_mib:.0}), that is {:.0} \
         bytes a series, {:.0} without the empty process; panes alone {:.0}; CPU s per M samples {:.3} for new series, \
         {:.3} for new panes",
        each(peak_mib),
        each(peak_mib - empty_mib),
        status["memory"]["panes_bytes"].as_f64().unwrap_or(f64::NAN) / series,
        new_cost / (samples as f64 / PANES as f64 / 1e6),
        next_cost / (samples as f64 * (PANES - 1) as f64 / PANES as f64 / 1e6),
    );
    Ok(samples)
}

/// Samples of now; returns their cost.
fn steady(
    count: usize,
    workers: usize,
    service: &Service,
    bodies: &Bodies,
    options: &Options,
    filled: u64,
) -> Result<f64, String> {
    let until = Until::Time(options.time);
    let plan = Plan {
        port: service.port(),
        connections: options.connections,
        until,
        rate: options.rate,
        time_ns: None,
    };
    let done = send(service, bodies, plan)?;
    measure::print(&format!("{count} series, {workers} worker(s), samples of now"), service, &done);
    measure::check(Format::Line, service, &done, filled)?;
    Ok(done.used.cpu_s() / (done.samples as f64 / 1e6))
}
