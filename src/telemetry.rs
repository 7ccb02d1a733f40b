//! What the service counts about itself.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use operators::sample::TimeNs;
use parking_lot::Mutex;

/// Own counters. Shown by `/status` and under `plantd_metric_` in `/metrics`.
pub struct Telemetry {
    /// When the service started.
    pub started: Instant,
    /// Messages decoded, good or bad, by the bus.
    pub bus_messages: AtomicU64,
    /// Messages decoded, good or bad, over HTTP.
    pub http_messages: AtomicU64,
    /// HTTP requests answered.
    pub http_requests: AtomicU64,
    /// Samples accepted.
    pub samples: AtomicU64,
    /// Batches turned away because too much was in flight.
    pub intake_full: AtomicU64,
    /// Requests that came again, and were not counted again.
    pub requests_repeated: AtomicU64,
    /// Samples in them.
    pub samples_repeated: AtomicU64,
    /// Samples given up because the journal could not be written when the service stopped; none was acknowledged
    /// over HTTP.
    pub samples_given_up: AtomicU64,
    /// Epochs sealed.
    pub epochs: AtomicU64,
    /// Event time of the last accepted sample; zero before the first.
    pub last_metric_ns: AtomicI64,
    /// Connections refused because there were too many.
    pub connections_refused: AtomicU64,
    /// From the first batch of an epoch to the epoch being visible.
    pub arrival_to_visible: Latency,
    /// Time spent on answering aggregate queries.
    pub aggregate_query: Latency,
}

impl Default for Telemetry {
    fn default() -> Self {
        Telemetry {
            started: Instant::now(),
            bus_messages: AtomicU64::new(0),
            http_messages: AtomicU64::new(0),
            http_requests: AtomicU64::new(0),
            samples: AtomicU64::new(0),
            intake_full: AtomicU64::new(0),
            requests_repeated: AtomicU64::new(0),
            samples_repeated: AtomicU64::new(0),
            samples_given_up: AtomicU64::new(0),
            epochs: AtomicU64::new(0),
            last_metric_ns: AtomicI64::new(0),
            connections_refused: AtomicU64::new(0),
            arrival_to_visible: Latency::default(),
            aggregate_query: Latency::default(),
        }
    }
}

impl Telemetry {
    /// Counts accepted samples and the newest of their event times.
    pub fn accepted(&self, samples: usize, newest_ns: Option<TimeNs>) {
        self.samples.fetch_add(samples as u64, Ordering::Relaxed);
        if let Some(newest_ns) = newest_ns {
            self.last_metric_ns.fetch_max(newest_ns, Ordering::Relaxed);
        }
    }

    /// Messages decoded so far.
    pub fn messages(&self) -> u64 {
        self.bus_messages.load(Ordering::Relaxed) + self.http_messages.load(Ordering::Relaxed)
    }
}

/// A latency histogram in microseconds, up to a minute, with two significant digits.
pub struct Latency(Mutex<Histogram<u64>>);

const LATENCY_US_MAX: u64 = 60_000_000;

impl Default for Latency {
    fn default() -> Self {
        // The bounds are constants that the library accepts: 1 <= low, high >= 2 low, digits <= 5.
        let histogram = Histogram::new_with_bounds(1, LATENCY_US_MAX, 2).expect("constant bounds are valid");
        Latency(Mutex::new(histogram))
    }
}

/// What a histogram says, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LatencySummary {
    /// Number of readings.
    pub count: u64,
    /// Their sum.
    pub sum_s: f64,
    /// Quantiles 0.5, 0.9, 0.99, 0.999.
    pub quantiles_s: [(f64, f64); 4],
}

impl Latency {
    /// Adds a reading; longer ones count as a minute.
    pub fn record(&self, took: Duration) {
        self.0.lock().saturating_record((took.as_micros() as u64).clamp(1, LATENCY_US_MAX));
    }

    /// What was recorded so far.
    pub fn summary(&self) -> LatencySummary {
        let histogram = self.0.lock();
        let at = |q: f64| (q, histogram.value_at_quantile(q) as f64 / 1e6);
        LatencySummary {
            count: histogram.len(),
            sum_s: histogram.mean() * histogram.len() as f64 / 1e6,
            quantiles_s: [at(0.5), at(0.9), at(0.99), at(0.999)],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_are_kept_to_two_digits() {
        let latency = Latency::default();
        (1..=1000).for_each(|ms| latency.record(Duration::from_millis(ms)));
        let summary = latency.summary();
        assert_eq!(summary.count, 1000);
        for ((q, found), expected) in summary.quantiles_s.iter().zip([0.5, 0.9, 0.99, 0.999]) {
            assert!((found / expected - 1.0).abs() < 0.02, "{q}: {found}");
        }
    }
}
