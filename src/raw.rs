//! Raw samples for queries: what is still in memory, and behind it what the storage holds.
//!
//! Also turns epochs into messages for the storage: samples of one target and one event time that stood
//! together come out together.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::mem;
use std::sync::Arc;

use dataflows::epoch::Epoch;
use operators::catalog::{Catalog, Keys};
use operators::sample::{DurationNs, Sample, SeriesId, TimeNs};
use operators::series::Target;
use operators::tier::floor_to;

use crate::message::Message;
use crate::recent::{Recent, RecentEpoch};
use crate::sinks::{Query, Reader};

/// What to look for.
pub struct RawQuery {
    /// Series wanted.
    pub series: SeriesSet,
    /// The same, as the storage understands it.
    pub stored: Query,
}

/// Series, a bit for each number there is.
#[derive(Default)]
pub struct SeriesSet(Vec<u64>);

impl SeriesSet {
    fn contains(&self, series: SeriesId) -> bool {
        self.0.get(series as usize / 64).is_some_and(|bits| bits >> (series % 64) & 1 != 0)
    }
}

impl FromIterator<SeriesId> for SeriesSet {
    fn from_iter<I: IntoIterator<Item = SeriesId>>(all: I) -> SeriesSet {
        let mut set = SeriesSet::default();
        for series in all {
            let place = series as usize / 64;
            if set.0.len() <= place {
                set.0.resize(place + 1, 0);
            }
            set.0[place] |= 1 << (series % 64);
        }
        set
    }
}

/// The newest messages that match, newest first, at most `stored.limit`.
///
/// # Errors
/// If the storage can't be read.
pub fn newest(
    recent: &Recent,
    catalog: &Catalog,
    reader: Option<&Arc<dyn Reader>>,
    query: &RawQuery,
) -> Result<Vec<Message>, String> {
    let (mut messages, complete) = from_memory(recent, catalog, query);
    let Some(reader) = reader.filter(|_| !complete) else { return Ok(messages) };
    let stored = reader.read(&query.stored).map_err(|e| format!("storage: {e}"))?;
    append_unknown(&mut messages, stored, reader.precision_ns());
    messages.sort_by_key(|message| Reverse(message.time_ns));
    messages.truncate(query.stored.limit);
    Ok(messages)
}

/// Appends what is stored and not in memory, sample by sample: what stands in one message here may stand in two there.
fn append_unknown(messages: &mut Vec<Message>, stored: Vec<Message>, precision_ns: DurationNs) {
    let samples =
        messages.iter().flat_map(|m| m.metrics.iter().map(|(name, _)| (m.time_ns, &m.target, name)));
    let known: HashSet<(TimeNs, Arc<Target>, Arc<str>)> = samples
        .map(|(time_ns, target, name)| (floor_to(time_ns, precision_ns), target.clone(), name.clone()))
        .collect();
    for mut message in stored {
        let Message { time_ns, target, metrics } = &mut message;
        metrics.retain(|(name, _)| {
            !known.contains(&(floor_to(*time_ns, precision_ns), target.clone(), name.clone()))
        });
        if !message.metrics.is_empty() {
            messages.push(message);
        }
    }
}

/// Messages from memory, and whether nothing older can be elsewhere.
fn from_memory(recent: &Recent, catalog: &Catalog, query: &RawQuery) -> (Vec<Message>, bool) {
    let Query { start_ns, end_ns, limit, .. } = query.stored;
    let mut newest = Newest { limit, ..Newest::default() };
    for epoch in recent.newest_first() {
        let RecentEpoch { oldest_ns, newest_ns, .. } = *epoch;
        if newest_ns < start_ns || oldest_ns >= end_ns || !newest.takes(newest_ns) {
            continue;
        }
        for sample in epoch.batches().iter().rev().flat_map(|batch| batch.iter().rev()) {
            let time_ns = sample.time_ns;
            if time_ns >= start_ns && time_ns < end_ns && query.series.contains(sample.series) {
                newest.push(*sample);
            }
        }
    }
    let runs = newest.into_runs();
    let mut messages = catalog.with_keys(|keys| {
        let mut messages = Vec::new();
        for run in runs {
            let of_run = messages.len();
            group(&run, keys, &mut messages);
            messages[of_run..].reverse();
        }
        messages
    });
    messages.truncate(limit);
    // The process's memory begins with its start: what was stored before that is the storage's to tell.
    (messages, false)
}

/// The newest runs of samples of one time each, of samples that come backwards.
#[derive(Default)]
struct Newest {
    limit: usize,
    /// Times, and places in `kept`; the oldest on top, at most `limit`.
    runs: BinaryHeap<Reverse<(TimeNs, Reverse<usize>)>>,
    kept: Vec<Vec<Sample>>,
    run: Vec<Sample>,
}

impl Newest {
    /// Whether a run of this time would be among them.
    fn takes(&self, time_ns: TimeNs) -> bool {
        let oldest = self.runs.peek().map(|Reverse((oldest_ns, _))| *oldest_ns);
        self.runs.len() < self.limit || oldest.is_some_and(|oldest_ns| oldest_ns < time_ns)
    }

    fn push(&mut self, sample: Sample) {
        if self.run.last().is_some_and(|last| last.time_ns != sample.time_ns) {
            self.keep();
        }
        self.run.push(sample);
    }

    fn keep(&mut self) {
        let Some(time_ns) = self.run.first().map(|first| first.time_ns) else { return };
        if !self.takes(time_ns) {
            return self.run.clear();
        }
        if self.runs.len() == self.limit {
            self.runs.pop();
        }
        self.runs.push(Reverse((time_ns, Reverse(self.kept.len()))));
        self.kept.push(mem::take(&mut self.run));
    }

    /// The newest first; of one time, the one that came last. Each in the order in which its samples stood.
    fn into_runs(mut self) -> Vec<Vec<Sample>> {
        self.keep();
        let mut chosen: Vec<(TimeNs, usize)> =
            self.runs.into_iter().map(|Reverse((time_ns, Reverse(at)))| (time_ns, at)).collect();
        chosen.sort_by_key(|(time_ns, at)| (Reverse(*time_ns), *at));
        let run_at = |(_, at): (TimeNs, usize)| {
            let mut run = mem::take(&mut self.kept[at]);
            run.reverse();
            run
        };
        chosen.into_iter().map(run_at).collect()
    }
}

/// The messages of an epoch, in its order.
pub fn messages(epoch: &Epoch, catalog: &Catalog) -> Vec<Message> {
    catalog.with_keys(|keys| {
        let mut messages = Vec::new();
        for batch in &epoch.batches {
            group(batch, keys, &mut messages);
        }
        messages
    })
}

/// Appends the messages that `samples` came from: runs of one target and time without a metric twice.
fn group(samples: &[Sample], keys: Keys<'_>, messages: &mut Vec<Message>) {
    let mut open = false;
    for sample in samples {
        let Some(key) = keys.get(sample.series as usize) else { continue };
        let fits = |last: &Message| {
            last.time_ns == sample.time_ns
                && Arc::ptr_eq(&last.target, &key.target)
                && !last.metrics.iter().any(|(name, _)| Arc::ptr_eq(name, &key.metric))
        };
        match messages.last_mut().filter(|last| open && fits(last)) {
            Some(last) => last.metrics.push((key.metric.clone(), sample.value)),
            None => messages.push(Message {
                time_ns: sample.time_ns,
                target: key.target.clone(),
                metrics: vec![(key.metric.clone(), sample.value)],
            }),
        }
        open = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::epochs;
    use operators::catalog::CatalogLimits;
    use proptest::prelude::*;

    fn catalog() -> Catalog {
        let catalog = Catalog::new(CatalogLimits::default());
        let (one, two) = (Arc::new(Target::new("one", [])), Arc::new(Target::new("two", [])));
        for (target, metric) in [(&one, "a"), (&one, "b"), (&two, "a")] {
            catalog.resolve(target, metric).unwrap();
        }
        catalog
    }

    proptest! {
        /// Epochs that are passed over have nothing that belongs to the newest.
        #[test]
        fn the_newest_are_found(
            epochs in prop::collection::vec(prop::collection::vec((0..3u32, 0..1_000i64), 0..6), 0..30),
            range in prop_oneof![Just((0i64, i64::MAX)), (0..1_000i64, 0..1_000i64)],
            limit in 1..12usize,
        ) {
            let (recent, mut all) = (Recent::new(1 << 20), Vec::new());
            for (place, samples) in epochs.iter().enumerate() {
                // Each of a time of its own: what stands together is looked at below.
                let sample = |(at, (series, time)): (usize, &(u32, i64))| Sample {
                    series: *series, seq: 0, time_ns: time * 1_000 + (10 * place + at) as i64, value: 0.0,
                };
                let batch: Vec<Sample> = samples.iter().enumerate().map(sample).collect();
                all.extend(batch.iter().copied());
                let epoch = Epoch { batches: vec![batch], ..Epoch::default() };
                let mut encoded = Vec::new();
                let len = epochs::encode(&epoch, &mut encoded);
                recent.push(&epoch, &encoded[..len]);
            }
            let (start_ns, end_ns) = (range.0 * 1_000, range.1.saturating_mul(1_000));
            let stored = Query {
                service: None, metrics: Vec::new(), tags: Vec::new(), start_ns, end_ns, limit,
            };
            let query = RawQuery { series: [0, 2].into_iter().collect(), stored };
            let (messages, _) = from_memory(&recent, &catalog(), &query);
            let found: Vec<TimeNs> = messages.iter().map(|message| message.time_ns).collect();
            let wanted = |s: &Sample| s.series != 1 && s.time_ns >= start_ns && s.time_ns < end_ns;
            let mut expected: Vec<TimeNs> = all.iter().filter(|s| wanted(s)).map(|s| s.time_ns).collect();
            expected.sort_unstable_by_key(|time_ns| Reverse(*time_ns));
            expected.truncate(limit);
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn samples_that_stood_together_come_out_together() {
        let catalog = catalog();
        let sample = |series, time_ns| Sample { series, seq: 0, time_ns, value: f64::from(series) };
        let batches = vec![
            vec![sample(0, 5), sample(1, 5), sample(0, 5), sample(2, 5), sample(2, 6)],
            vec![sample(0, 6), sample(1, 7)],
        ];
        let found: Vec<(i64, String, usize)> = messages(&Epoch { batches, ..Epoch::default() }, &catalog)
            .iter()
            .map(|m| (m.time_ns, m.target.service.to_string(), m.metrics.len()))
            .collect();
        let expected =
            [(5, "one", 2), (5, "one", 1), (5, "two", 1), (6, "two", 1), (6, "one", 1), (7, "one", 1)];
        assert_eq!(found, expected.map(|(t, s, n)| (t, s.to_string(), n)));
    }
}
