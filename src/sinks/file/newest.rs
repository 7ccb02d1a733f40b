//! The answer of a query while it is being read: never more than the newest `limit` messages.

use std::collections::BTreeMap;
use std::sync::Arc;

use operators::sample::TimeNs;
use operators::series::Target;

use crate::message::Message;
use crate::sinks::Query;

/// Position of a message in the answer: event time, target, and a number that keeps apart what
/// shares both. Whole messages (text formats) and messages put together from rows (parquet) number
/// themselves in different ranges.
type Place = (TimeNs, Arc<Target>, u64);

const WHOLE: u64 = 1 << 63;

/// Collects matching messages, dropping the oldest as soon as there are too many.
pub(super) struct Newest<'a> {
    query: &'a Query,
    found: BTreeMap<Place, Vec<(Arc<str>, f64)>>,
    whole: u64,
    /// Rows that could not be read.
    pub corrupted: u64,
}

impl<'a> Newest<'a> {
    /// An empty answer to `query`.
    pub fn new(query: &'a Query) -> Self {
        Newest { query, found: BTreeMap::new(), whole: WHOLE, corrupted: 0 }
    }

    /// Whether anything at `time_ns` can still belong to the answer.
    pub fn wants_time(&self, time_ns: TimeNs) -> bool {
        self.query.start_ns <= time_ns && time_ns < self.query.end_ns && Some(time_ns) >= self.floor()
    }

    /// Whether a block with event times from `min_ns` to `max_ns` can still add anything.
    pub fn wants_block(&self, min_ns: TimeNs, max_ns: TimeNs) -> bool {
        self.query.limit > 0
            && self.query.start_ns <= max_ns
            && min_ns < self.query.end_ns
            && Some(max_ns) >= self.floor()
    }

    /// The one service asked for, if it is one.
    pub fn service(&self) -> Option<&str> {
        self.query.service.as_deref()
    }

    /// Whether `service` is asked for.
    pub fn wants_service(&self, service: &str) -> bool {
        self.query.service.as_deref().is_none_or(|wanted| wanted == service)
    }

    /// Whether `metric` is asked for.
    pub fn wants_metric(&self, metric: &str) -> bool {
        self.query.metrics.is_empty() || self.query.metrics.iter().any(|wanted| wanted == metric)
    }

    /// Whether the tags of `target` are asked for.
    pub fn wants_tags(&self, target: &Target) -> bool {
        self.query.tags.iter().all(|(name, value)| target.tag(name) == Some(value))
    }

    /// Adds a message as it was stored, after the `wants_*` above; `metrics` are filtered here.
    pub fn put_message(&mut self, time_ns: TimeNs, target: Arc<Target>, mut metrics: Vec<(Arc<str>, f64)>) {
        metrics.retain(|(name, _)| self.wants_metric(name));
        if metrics.is_empty() {
            return;
        }
        self.whole += 1;
        self.found.insert((time_ns, target, self.whole), metrics);
        self.keep_limit();
    }

    /// Adds one row of a long-form file. Rows of the same time, target and `number` make one
    /// message, unless it has that metric already.
    pub fn put_row(&mut self, time_ns: TimeNs, target: &Arc<Target>, number: u64, row: (&Arc<str>, f64)) {
        let mut place = (time_ns, target.clone(), number);
        loop {
            let metrics = self.found.entry(place.clone()).or_default();
            if metrics.iter().all(|(name, _)| name != row.0) {
                metrics.push((row.0.clone(), row.1));
                break;
            }
            place.2 += 1;
        }
        self.keep_limit();
    }

    /// The answer, newest first.
    pub fn finish(self) -> Vec<Message> {
        let newest_first = self.found.into_iter().rev();
        newest_first.map(|((time_ns, target, _), metrics)| Message { time_ns, target, metrics }).collect()
    }

    /// The oldest time that still counts, once the answer is full.
    fn floor(&self) -> Option<TimeNs> {
        let full = self.found.len() >= self.query.limit;
        full.then(|| self.found.first_key_value().map(|((time_ns, ..), _)| *time_ns)).flatten()
    }

    fn keep_limit(&mut self) {
        while self.found.len() > self.query.limit {
            self.found.pop_first();
        }
    }
}

/// Targets read lately, so that equal ones are shared rather than built again.
pub(super) struct Targets {
    known: std::collections::HashMap<Vec<u8>, Arc<Target>>,
}

/// How many targets [`Targets`] remembers before it starts afresh.
const TARGETS_MAX: usize = 8_192;

impl Targets {
    pub fn new() -> Self {
        Targets { known: std::collections::HashMap::new() }
    }

    /// The target of `service` and of `tags`, a JSON object of strings (empty: no tags).
    /// `None` where `tags` is anything else.
    pub fn get(&mut self, service: &str, tags: &str) -> Option<Arc<Target>> {
        let mut key = Vec::with_capacity(service.len() + tags.len() + 1);
        key.extend_from_slice(service.as_bytes());
        key.push(0xff);
        key.extend_from_slice(tags.as_bytes());
        if let Some(target) = self.known.get(&key) {
            return Some(target.clone());
        }
        let pairs: BTreeMap<String, String> =
            if tags.is_empty() { BTreeMap::new() } else { serde_json::from_str(tags).ok()? };
        let pairs = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let target = Arc::new(Target::new(service, pairs));
        if self.known.len() >= TARGETS_MAX {
            self.known.clear();
        }
        self.known.insert(key, target.clone());
        Some(target)
    }
}

/// Writes the tags of `target` as a JSON object, in the order of their names.
pub(super) fn write_tags(target: &Target, out: &mut Vec<u8>) {
    out.push(b'{');
    for (at, (name, value)) in target.tags.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write_text(name, out);
        out.push(b':');
        write_text(value, out);
    }
    out.push(b'}');
}

/// Writes a JSON string.
pub(super) fn write_text(text: &str, out: &mut Vec<u8>) {
    // Cannot fail: a string is always JSON, and a vector takes every byte.
    let _ = serde_json::to_writer(out, text);
}

/// Writes the shortest decimal that reads back as the same bits.
pub(super) fn write_value(value: f64, out: &mut Vec<u8>) {
    // Cannot fail: the value is finite, and a vector takes every byte.
    let _ = serde_json::to_writer(out, &value);
}
