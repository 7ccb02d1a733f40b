//! `storage.type: prometheus`: samples go out by remote write, and are read back by the query API.
//!
//! # Layout
//! - `names`: what a series is called there, and back
//! - `rounds`: messages -> requests; `wire`: their bytes; `exchange`: one request and its answer
//! - `query`: selectors and answers of the query API; `read`: older ranges, newest first
//! - [`scrape`]: the other way, where Prometheus fetches from us
//!
//! What was written is durable in the receiver as soon as it answered; there is nothing to flush. Sending samples
//! again does no harm: a receiver takes the newest sample of a series twice. Where it refuses samples for
//! where they stand in time, it is asked which of them it has, and only the others are refused. Samples older than the
//! newest of their series need `out_of_order_time_window` in the receiver's configuration.

mod exchange;
mod names;
mod query;
mod read;
mod rounds;
pub mod scrape;
mod wire;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

pub use self::exchange::Protocol;
use self::exchange::{Exchange, Outcome};
use self::names::{NAME, Naming};
use self::query::{ANSWER_BYTES_MAX, Asker, selector_of_names};
use self::read::PromReader;
use self::rounds::{Book, Sample};
use self::wire::Row;
use super::target::{Auth, Target, TargetConfig};
use super::{Position, Reader, Sink, SinkError, SinkStatus};
use crate::message::Message;

/// Settings of `type: prometheus`.
#[derive(Clone, Debug, PartialEq)]
pub struct PromConfig {
    /// Address of the server, or of its receiver: without a path, `/api/v1/write` is meant. `None`: nothing is sent,
    /// Prometheus scrapes us.
    pub url: Option<String>,
    /// Address of the query API, before `/api/v1/query`. `None`: that of `url` without its `/api/v1/write`; where it
    /// ends otherwise, nothing is read back.
    pub read_url: Option<String>,
    /// The label `job` of every series; empty: none.
    pub job_name: String,
    /// Before every metric name: letters, digits, `_` and `:`.
    pub prefix: String,
    /// Which version of remote write.
    pub protocol: Protocol,
    /// Samples of one request.
    pub batch_samples: usize,
    /// Time for one request.
    pub timeout: Duration,
    /// Sent with every request, such as `X-Scope-OrgID`.
    pub headers: Vec<(String, String)>,
    /// Who we are.
    pub auth: Auth,
    /// PEM file with certificates that are trusted beside those of the system.
    pub ca_file: Option<std::path::PathBuf>,
    /// Where Prometheus scrapes us when there is no `url`.
    pub metrics_path: String,
}

impl Default for PromConfig {
    fn default() -> Self {
        PromConfig {
            url: None,
            read_url: None,
            job_name: "plantd".into(),
            prefix: String::new(),
            protocol: Protocol::Auto,
            batch_samples: 2_000,
            timeout: Duration::from_secs(10),
            headers: Vec::new(),
            auth: Auth::None,
            ca_file: None,
            metrics_path: "/metrics".into(),
        }
    }
}

/// Path of the receiver, where the address has none.
const WRITE_PATH: &str = "/api/v1/write";

/// Samples that lie further apart are asked for in several queries.
const ASKED_SPAN_MS: i64 = 5 * 60_000;

/// Samples that were not sent, or sent and found to be there, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PromCounts {
    /// Requests that were answered with success.
    pub requests: u64,
    /// Left out for a later value of the same series and millisecond.
    pub superseded: u64,
    /// Left out because they are no numbers.
    pub not_finite: u64,
    /// Refused, and then found to be stored already.
    pub stored_before: u64,
}

/// Opens what the configuration means: the sink that sends, or the one that is scraped.
///
/// # Errors
/// [`SinkError::Unusable`]: an address, header, certificate or prefix that can't be right.
pub fn open(config: PromConfig) -> Result<Box<dyn Sink>, SinkError> {
    match config.url.clone() {
        Some(url) => Ok(Box::new(PromSink::open(&url, config)?)),
        None => Ok(Box::new(scrape::ScrapedSink::new(config.metrics_path))),
    }
}

/// The sink.
pub struct PromSink {
    exchange: Exchange,
    asker: Option<Arc<Asker>>,
    book: Book,
    batch_samples: usize,
    counts: PromCounts,
    wrong: Option<String>,
}

impl PromSink {
    /// Makes the clients; connects to nothing yet.
    ///
    /// # Errors
    /// As of [`open`].
    pub fn open(url: &str, config: PromConfig) -> Result<Self, SinkError> {
        let begins = config.prefix.starts_with(|c: char| !c.is_ascii_digit()) || config.prefix.is_empty();
        let valid = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
        if !begins || !config.prefix.chars().all(valid) {
            return Err(SinkError::unusable(format!(
                "storage.prefix: expected letters, digits, '_' and ':', found {:?}",
                config.prefix
            )));
        }
        let write_url = write_url(url);
        let read_url = config.read_url.clone().or_else(|| base_of(&write_url));
        let target = |url: &str| {
            Target::new(TargetConfig {
                url: url.into(),
                timeout: config.timeout,
                headers: config.headers.clone(),
                auth: config.auth.clone(),
                ca_file: config.ca_file.clone(),
                answer_bytes_max: ANSWER_BYTES_MAX,
                ..TargetConfig::default()
            })
        };
        let asker = read_url.map(|url| target(&url)).transpose()?;
        Ok(PromSink {
            exchange: Exchange::new(target(&write_url)?, config.protocol),
            asker: asker.map(|target| Arc::new(Asker::new(target))),
            book: Book::new(Naming { job_name: config.job_name, prefix: config.prefix }),
            batch_samples: config.batch_samples,
            counts: PromCounts::default(),
            wrong: None,
        })
    }

    /// What was counted since the start.
    pub fn counts(&self) -> PromCounts {
        self.counts
    }

    /// The version of remote write in use, once it is known.
    pub fn speaks(&self) -> Option<Protocol> {
        self.exchange.speaks()
    }

    fn send_all(&mut self, messages: &[Message]) -> Result<(), SinkError> {
        let requests = self.book.requests(messages, self.batch_samples);
        for (at, request) in requests.each.iter().enumerate() {
            if let Err(error) = self.send(request) {
                for taken in &requests.each[..at] {
                    self.book.remember(taken);
                }
                return Err(error);
            }
        }
        // Counted at the end: what failed is offered again.
        self.counts.superseded += requests.superseded;
        self.counts.not_finite += requests.not_finite;
        Ok(())
    }

    /// Sends one request; where its samples are refused for where they stand in time, only those that are not there.
    fn send(&mut self, samples: &[Sample]) -> Result<(), SinkError> {
        let Outcome::OutOfOrder(why) = self.post(samples)? else { return Ok(()) };
        let missing = self.missing(samples, &why)?;
        let found = (samples.len() - missing.len()) as u64;
        if found > 0 && !missing.is_empty() {
            let there: Vec<Sample> = samples.iter().filter(|s| !missing.contains(s)).copied().collect();
            self.book.remember(&there);
        }
        if found > 0 && (missing.is_empty() || self.post(&missing)? == Outcome::Stored) {
            self.counts.stored_before += found;
            return Ok(());
        }
        Err(SinkError::Poison { why })
    }

    fn post(&mut self, samples: &[Sample]) -> Result<Outcome, SinkError> {
        let row = |s: &Sample| Row { labels: self.book.labels(s), time_ms: s.time_ms, value: s.value };
        let rows: Vec<Row> = samples.iter().map(row).collect();
        let outcome = self.exchange.send(&rows)?;
        self.counts.requests += u64::from(outcome == Outcome::Stored);
        Ok(outcome)
    }

    /// Those of `samples` that the receiver does not have with this value. All of them, where it can't be asked.
    fn missing(&self, samples: &[Sample], why: &str) -> Result<Vec<Sample>, SinkError> {
        let Some(asker) = &self.asker else { return Ok(samples.to_vec()) };
        let mut by_time = samples.to_vec();
        by_time.sort_by_key(|sample| sample.time_ms);
        let mut missing = Vec::new();
        for near in by_time.chunk_by(|a, b| a.time_ms / ASKED_SPAN_MS == b.time_ms / ASKED_SPAN_MS) {
            match self.stored(asker, near) {
                Ok(stored) => missing.extend(
                    near.iter().filter(|s| stored.get(&s.series) != Some(&(s.time_ms, s.value.to_bits()))),
                ),
                Err(SinkError::Poison { why: unasked }) => {
                    tracing::warn!(refused = why, error = unasked, "can't ask which samples are stored");
                    missing.extend_from_slice(near);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(missing)
    }

    /// Of `samples`, of which no two are of one series, those that are stored: time and bits of the value by series.
    fn stored(&self, asker: &Asker, samples: &[Sample]) -> Result<HashMap<u32, (i64, u64)>, SinkError> {
        let (Some(first), Some(last)) = (samples.first(), samples.last()) else { return Ok(HashMap::new()) };
        let wanted: HashMap<Vec<(&str, &str)>, &Sample> = samples
            .iter()
            .map(|s| (self.book.labels(s).iter().map(|(n, v)| (n.as_ref(), v.as_ref())).collect(), s))
            .collect();
        let names = wanted.keys().flatten().filter(|(label, _)| *label == NAME).map(|(_, name)| *name);
        let names: BTreeSet<&str> = names.collect();
        let selector = selector_of_names(self.book.naming(), names);
        let found = asker.samples(&selector, first.time_ms, last.time_ms + 1)?;
        let mut stored = HashMap::new();
        for (labels, values) in &found {
            let labels: Vec<(&str, &str)> = labels.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            let Some(sample) = wanted.get(&labels) else { continue };
            if let Some((time_ms, value)) = values.iter().find(|(time_ms, _)| *time_ms == sample.time_ms) {
                stored.insert(sample.series, (*time_ms, value.to_bits()));
            }
        }
        Ok(stored)
    }
}

impl Sink for PromSink {
    fn write(&mut self, messages: &[Message]) -> Result<(), SinkError> {
        let sent = self.send_all(messages);
        // What is refused for its content does not mean that the receiver is ill.
        self.wrong = match &sent {
            Err(error @ (SinkError::Retry { .. } | SinkError::Unusable { .. })) => Some(error.to_string()),
            _ => None,
        };
        sent
    }

    fn flush(&mut self, _upto: Position) -> Result<(), SinkError> {
        Ok(())
    }

    fn status(&self) -> SinkStatus {
        let mut status = SinkStatus::connected("prometheus");
        if let Some(why) = &self.wrong {
            status.error(why);
        }
        status.database = Some(self.exchange.shown());
        // Taken, and yet not there.
        status.failed = self.counts.not_finite + self.counts.superseded;
        status
    }

    fn reader(&self) -> Option<Arc<dyn Reader>> {
        let asker = self.asker.clone()?;
        Some(Arc::new(PromReader::new(asker, self.book.naming().clone())))
    }
}

/// The receiver's address: a path that says nothing becomes the usual one.
fn write_url(url: &str) -> String {
    let (address, query) = match url.split_once('?') {
        Some((address, query)) => (address, format!("?{query}")),
        None => (url, String::new()),
    };
    let host = address.split_once("://").map_or(address, |(_, rest)| rest).trim_end_matches('/');
    match host.contains('/') {
        true => url.to_string(),
        false => format!("{}{WRITE_PATH}{query}", address.trim_end_matches('/')),
    }
}

/// What stands before the receiver's usual path.
fn base_of(write_url: &str) -> Option<String> {
    let address = write_url.split_once('?').map_or(write_url, |(address, _)| address);
    address.trim_end_matches('/').strip_suffix(WRITE_PATH).map(String::from)
}

#[cfg(test)]
mod decode;
#[cfg(test)]
mod tests;
