//! Rules on the past: when would they have fired on what a journal or stored files hold?

use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

use operators::family;
use operators::rule::{Rule, Signal};
use operators::sample::{SECOND, Sample, SeriesId, TimeNs};
use operators::series::SeriesKey;
use operators::tier::{WindowPlan, floor_to};

use super::alerts::{Breach, breaches_within};
use super::trial::{Arriving, Trial};
use super::unit::shown_key;
use crate::http::params::rfc3339;
use crate::journal::epochs::{self, KIND_EPOCH};
use crate::journal::files::Files;
use crate::journal::log::{Log, LogConfig};
use crate::sinks::file::read_stored;

/// From when on alerts are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// So long before the last sample that is there.
    BeforeEnd(i64),
    /// From this event time on.
    At(TimeNs),
}

/// What rules would have said.
#[derive(Clone, Debug, Default)]
pub struct Past {
    /// Alerts that began, or still were, in the time asked for.
    pub breaches: Vec<Breach>,
    /// The time asked for, event times.
    pub span_ns: (TimeNs, TimeNs),
    /// Samples of series that a rule watches.
    pub samples: u64,
    /// All samples.
    pub samples_read: u64,
    /// Epochs or rows that could not be read.
    pub missing: u64,
}

/// Whether a rule looks at a series.
pub fn is_watched(rules: &[Rule], key: &SeriesKey) -> bool {
    rules.iter().any(|rule| {
        let below = match &rule.signal {
            Signal::Window(window) => window.over.as_ref(),
            _ => None,
        };
        let matches = |metric: &str, matcher: &operators::series::TargetMatcher| {
            family::rank(metric, &key.metric).is_some() && matcher.matches(&key.target)
        };
        matches(&rule.metric, &rule.matcher) || below.is_some_and(|over| matches(&over.metric, &over.matcher))
    })
}

/// Plays the journal in `dir` with these rules.
///
/// # Errors
/// The journal can't be opened or read, or the engine can't start.
pub fn of_journal(
    files: Arc<dyn Files>,
    dir: &Path,
    windows: WindowPlan,
    rules: &[Rule],
    since: Since,
    workers: usize,
) -> Result<Past, String> {
    let config = LogConfig { dir: dir.into(), ..LogConfig::default() };
    let (log, _) = Log::open(files, config).map_err(|error| error.to_string())?;
    let mut trial = Trial::start(windows, rules.to_vec(), workers)?;
    let (mut past, mut watched) = (Past::default(), Watched { rules, known: Vec::new() });
    let (mut reader, mut last, mut newest_ns) = (log.reader(0), 0, TimeNs::MIN);
    while let Some(record) = reader.next(log.appended()).map_err(|error| error.to_string())? {
        if record.kind != KIND_EPOCH {
            trial.learn(&epochs::decode_entries(record.payload).unwrap_or_default());
            continue;
        }
        let Ok(mut epoch) = epochs::decode(record.payload) else {
            past.missing += 1;
            continue;
        };
        past.missing += if last == 0 { 0 } else { epoch.number.saturating_sub(last + 1) };
        last = epoch.number;
        trial.learn(&epoch.entries);
        for batch in &mut epoch.batches {
            past.samples_read += batch.len() as u64;
            batch.retain(|sample: &Sample| watched.wants(&trial, sample.series));
            past.samples += batch.len() as u64;
            newest_ns = batch.iter().map(|sample| sample.time_ns).fold(newest_ns, TimeNs::max);
        }
        trial.submit(epoch);
    }
    let end_ns = trial.now_ns().unwrap_or_default().max(newest_ns);
    Ok(past.finish(trial, since, end_ns))
}

/// Plays stored files, in the order of event times: they do not say when their samples came.
///
/// # Errors
/// A file can't be read, or the engine can't start.
pub fn of_stored(path: &Path, windows: WindowPlan, rules: &[Rule], since: Since) -> Result<Past, String> {
    let mut past = Past::default();
    let mut samples = Vec::new();
    let damaged = read_stored(path, &mut |message| {
        for (metric, value) in message.metrics {
            past.samples_read += 1;
            let key = SeriesKey { target: message.target.clone(), metric };
            if is_watched(rules, &key) {
                samples.push(Arriving { arrival_ns: 0, time_ns: message.time_ns, key, value });
            }
        }
    });
    past.missing = damaged.map_err(|error| error.to_string())?;
    past.samples = samples.len() as u64;
    let trial = Trial::start(windows, rules.to_vec(), 1)?;
    let end_ns = samples.iter().map(|sample| sample.time_ns).max().unwrap_or_default();
    Ok(past.finish(played(trial, samples), since, end_ns))
}

/// Plays samples in the order of event times, a second of them at a time.
pub fn played(mut trial: Trial, mut samples: Vec<Arriving>) -> Trial {
    samples.sort_by_key(|sample| sample.time_ns);
    for together in samples.chunk_by(|a, b| floor_to(a.time_ns, SECOND) == floor_to(b.time_ns, SECOND)) {
        let newest_ns = together[together.len() - 1].time_ns;
        trial.play(newest_ns, together);
    }
    trial
}

/// Which series of a journal are watched.
struct Watched<'a> {
    rules: &'a [Rule],
    known: Vec<Option<bool>>,
}

impl Watched<'_> {
    fn wants(&mut self, trial: &Trial, series: SeriesId) -> bool {
        let place = series as usize;
        if self.known.len() <= place {
            self.known.resize(place + 1, None);
        }
        *self.known[place].get_or_insert_with(|| {
            trial.catalog().key(series).is_some_and(|key| is_watched(self.rules, &key))
        })
    }
}

impl Past {
    fn finish(mut self, trial: Trial, since: Since, end_ns: TimeNs) -> Past {
        let from_ns = match since {
            Since::BeforeEnd(ns) => end_ns.saturating_sub(ns),
            Since::At(time_ns) => time_ns,
        };
        self.span_ns = (from_ns, end_ns);
        self.breaches = breaches_within(&trial.finish(end_ns), from_ns, end_ns);
        self
    }

    /// A table of what fired, and a line about the rest. `names` are those of the rules.
    pub fn table(&self, names: &[&str]) -> String {
        let mut rows = vec![["alert", "series", "start", "fire", "end"].map(str::to_string)];
        let fired = self.breaches.iter().filter(|breach| breach.fired_ns.is_some());
        rows.extend(fired.map(|breach| {
            let end = match (breach.retracted, breach.ended_ns) {
                (true, _) => "retracted".to_string(),
                (false, Some(ended_ns)) => rfc3339(ended_ns),
                (false, None) => "firing".to_string(),
            };
            let name = names.get(breach.rule).copied().unwrap_or_default().to_string();
            let fire = breach.fired_ns.map(rfc3339).unwrap_or_default();
            [name, shown_key(&breach.key), rfc3339(breach.since_ns), fire, end]
        }));
        let width =
            |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
        let widths: Vec<usize> = (0..5).map(width).collect();
        let mut text = String::new();
        for row in &rows {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            let _ = writeln!(text, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
        }
        let (fired, all) = (rows.len() - 1, self.breaches.len());
        let (from, till) = (rfc3339(self.span_ns.0), rfc3339(self.span_ns.1));
        let _ = writeln!(
            text,
            "{fired} fired, {} other breaches had not lasted long enough, from {from} to {till}; {} of {} samples are of series that \
             these rules watch",
            all - fired,
            self.samples,
            self.samples_read
        );
        if self.missing > 0 {
            let _ = writeln!(text, "{} epochs or rows could not be read", self.missing);
        }
        text
    }
}
