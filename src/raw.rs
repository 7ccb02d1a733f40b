//! Raw samples for queries: what is still in memory, and behind it what the storage holds.
//!
//! Also turns epochs into messages for the storage: samples of one target and one event time that stood
//! together come out together.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::sync::Arc;

use dataflows::engine::Engine;
use dataflows::epoch::Epoch;
use operators::catalog::{Catalog, Keys};
use operators::sample::{DurationNs, Sample, SeriesId, TimeNs};
use operators::series::Target;
use operators::tier::floor_to;

use crate::message::Message;
use crate::sinks::{Query, Reader};

/// What to look for.
pub struct RawQuery {
    /// Series wanted.
    pub series: HashSet<SeriesId>,
    /// The same, as the storage understands it.
    pub stored: Query,
}

/// The newest messages that match, newest first, at most `stored.limit`.
///
/// # Errors
/// If the storage can't be read.
pub fn newest(
    engine: &Engine,
    catalog: &Catalog,
    reader: Option<&Arc<dyn Reader>>,
    query: &RawQuery,
) -> Result<Vec<Message>, String> {
    let (mut messages, complete) = from_memory(engine, catalog, query);
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
fn from_memory(engine: &Engine, catalog: &Catalog, query: &RawQuery) -> (Vec<Message>, bool) {
    let Query { start_ns, end_ns, limit, .. } = query.stored;
    // Runs of samples of one time, oldest on top, at most `limit` of them.
    let mut runs: BinaryHeap<Reverse<(TimeNs, Reverse<usize>)>> = BinaryHeap::new();
    let mut kept: Vec<Vec<Sample>> = Vec::new();
    let mut run: Vec<Sample> = Vec::new();
    let mut keep = |run: &mut Vec<Sample>| {
        let Some(first) = run.first() else { return };
        let time_ns = first.time_ns;
        if runs.len() == limit {
            match runs.peek() {
                Some(Reverse((oldest_ns, _))) if *oldest_ns < time_ns => drop(runs.pop()),
                _ => return run.clear(),
            }
        }
        runs.push(Reverse((time_ns, Reverse(kept.len()))));
        kept.push(std::mem::take(run));
    };
    engine.recent().scan(|sample| {
        if sample.time_ns >= start_ns && sample.time_ns < end_ns && query.series.contains(&sample.series) {
            if run.last().is_some_and(|last| last.time_ns != sample.time_ns) {
                keep(&mut run);
            }
            run.push(*sample);
        }
        true
    });
    keep(&mut run);
    let mut chosen: Vec<(TimeNs, usize)> =
        runs.into_iter().map(|Reverse((time_ns, Reverse(at)))| (time_ns, at)).collect();
    chosen.sort_by_key(|(time_ns, at)| (Reverse(*time_ns), *at));
    let mut messages = catalog.with_keys(|keys| {
        let mut messages = Vec::new();
        for (_, at) in chosen {
            // The scan went backwards.
            kept[at].reverse();
            let of_run = messages.len();
            group(&kept[at], keys, &mut messages);
            messages[of_run..].reverse();
        }
        messages
    });
    messages.truncate(limit);
    // The process's memory begins with its start: what was stored before that is the storage's to tell.
    (messages, false)
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
    use operators::catalog::CatalogLimits;

    #[test]
    fn samples_that_stood_together_come_out_together() {
        let catalog = Catalog::new(CatalogLimits::default());
        let (one, two) = (Arc::new(Target::new("one", [])), Arc::new(Target::new("two", [])));
        for (target, metric) in [(&one, "a"), (&one, "b"), (&two, "a")] {
            catalog.resolve(target, metric).unwrap();
        }
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
