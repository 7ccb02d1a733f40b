//! Reading back: the newest messages first, in stretches of time that are only as long as their samples are few.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use operators::sample::{DurationNs, MS};
use operators::series::Target;

use super::names::Naming;
use super::query::{Asker, Found, selector};
use crate::message::Message;
use crate::sinks::{Query, Reader, SinkError};

/// About so many samples are asked for at once.
const SAMPLES_WANTED: f64 = 50_000.0;

/// What is taken for the rate of a series at first, samples a second.
const FIRST_RATE: f64 = 1.0;

/// The first stretch that is looked at.
const FIRST_STRETCH_MS: i64 = 5 * 60_000;

/// Longest stretch: PromQL's durations end at 292 years.
const STRETCH_MS_MAX: i64 = 200 * 365 * 86_400_000;

/// Samples are looked for so far ahead of the clock, where the query has no end.
const AHEAD_MS: i64 = 86_400_000;

/// Reads what a [`super::PromSink`] wrote.
pub struct PromReader {
    asker: Arc<Asker>,
    naming: Naming,
}

impl PromReader {
    /// Reads series that are called so.
    pub fn new(asker: Arc<Asker>, naming: Naming) -> Self {
        PromReader { asker, naming }
    }

    /// The messages of a stretch, newest first.
    fn messages(&self, found: Vec<Found>, query: &Query) -> Vec<Message> {
        type Metrics = Vec<(Arc<str>, f64)>;
        let mut messages: BTreeMap<(Reverse<i64>, Arc<Target>), Metrics> = BTreeMap::new();
        let mut metrics: HashMap<Arc<str>, Arc<str>> = HashMap::new();
        for (labels, samples) in found {
            let Some(series) = self.naming.series(&labels) else { continue };
            if !wanted(query, &series.target, &series.metric) {
                continue;
            }
            let metric = metrics.entry(series.metric.clone()).or_insert(series.metric).clone();
            for (time_ms, value) in samples {
                let Some(time_ns) = time_ms.checked_mul(MS).filter(|time_ns| {
                    value.is_finite() && *time_ns >= query.start_ns && *time_ns < query.end_ns
                }) else {
                    continue;
                };
                let message = messages.entry((Reverse(time_ns), series.target.clone())).or_default();
                match message.iter_mut().find(|(name, _)| *name == metric) {
                    // A receiver that keeps what it gets twice tells it twice.
                    Some(same) => same.1 = value,
                    None => message.push((metric.clone(), value)),
                }
            }
        }
        let message =
            |((Reverse(time_ns), target), metrics): (_, Metrics)| Message { time_ns, target, metrics };
        messages.into_iter().map(message).collect()
    }
}

impl Reader for PromReader {
    fn precision_ns(&self) -> DurationNs {
        1_000_000
    }

    /// Goes back from the end in stretches. How many samples are in one, nobody tells cheaply; how many series, yes.
    /// Their rate is what it was in the stretch before, and where an answer is too long all the same, the
    /// stretch was.
    fn read(&self, query: &Query) -> Result<Vec<Message>, SinkError> {
        let selector = selector(&self.naming, query);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
        let last_ms = now.saturating_add(AHEAD_MS);
        // Servers take no times before 1970.
        let start_ms = query.start_ns.div_euclid(MS).max(0);
        let mut end_ms = (query.end_ns.saturating_sub(1).div_euclid(MS) + 1).min(last_ms);
        let (mut stretch_ms, mut stretch_ms_max, mut rate) = (FIRST_STRETCH_MS, STRETCH_MS_MAX, FIRST_RATE);
        let mut messages = Vec::new();
        while end_ms > start_ms && messages.len() < query.limit {
            let stretch = stretch_ms.min(end_ms - start_ms);
            let from_ms = end_ms - stretch;
            let series = self.asker.count_series(&selector, from_ms, end_ms)?;
            if series == 0 {
                stretch_ms = stretch_ms.saturating_mul(8).min(STRETCH_MS_MAX);
                end_ms = from_ms;
                continue;
            }
            let wanted_ms =
                ((SAMPLES_WANTED / (series as f64 * rate) * 1000.0) as i64).clamp(1, stretch_ms_max);
            if stretch > wanted_ms.saturating_mul(2) {
                stretch_ms = wanted_ms;
                continue;
            }
            let found = match self.asker.samples(&selector, from_ms, end_ms) {
                Err(SinkError::Poison { .. }) if stretch > 1 => {
                    stretch_ms_max = (stretch / 4).max(1);
                    stretch_ms = stretch_ms_max;
                    continue;
                }
                found => found?,
            };
            let samples: usize = found.iter().map(|(_, samples)| samples.len()).sum();
            rate = (samples.max(1) as f64 / series as f64 / stretch as f64 * 1000.0).max(rate / 8.0);
            messages.extend(self.messages(found, query));
            stretch_ms = wanted_ms.min(stretch_ms.saturating_mul(2));
            end_ms = from_ms;
        }
        messages.truncate(query.limit);
        Ok(messages)
    }
}

/// Whether a series is asked for. A tag without a value is one that is not there.
fn wanted(query: &Query, target: &Target, metric: &str) -> bool {
    query.service.as_deref().is_none_or(|service| *service == *target.service)
        && (query.metrics.is_empty() || query.metrics.iter().any(|name| name == metric))
        && query.tags.iter().all(|(name, value)| target.tag(name).unwrap_or_default() == value)
}
