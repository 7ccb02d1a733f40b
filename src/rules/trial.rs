//! An engine of its own that samples are played through in virtual time: nothing sleeps, and no clock is read.

use std::sync::Arc;

use dataflows::engine::Engine;
use dataflows::epoch::Epoch;
use dataflows::plan::Plan;
use operators::alerts::Source;
use operators::catalog::{Catalog, CatalogLimits, Entry};
use operators::rule::Rule;
use operators::sample::{DurationNs, SECOND, Sample, TimeNs};
use operators::series::SeriesKey;
use operators::tier::WindowPlan;

use crate::alerts::group_key;
use crate::gathered::Gathered;

/// A sample, and when it comes.
#[derive(Clone, Debug, PartialEq)]
pub struct Arriving {
    /// When it comes.
    pub arrival_ns: TimeNs,
    /// Event time.
    pub time_ns: TimeNs,
    /// The series.
    pub key: SeriesKey,
    /// The value.
    pub value: f64,
}

/// What was said of an alert.
#[derive(Clone, Debug)]
pub struct Said {
    /// The clock when it was said.
    pub arrival_ns: TimeNs,
    /// Place of the rule among those of the trial.
    pub rule: usize,
    /// The series, or what a group of them shares.
    pub key: SeriesKey,
    /// What.
    pub transition: operators::alert::Transition,
    /// What a detector thought of it.
    pub expected: Option<operators::alerts::Expected>,
}

/// The engine and what it has said so far.
pub struct Trial {
    rules: Vec<Rule>,
    engine: Engine,
    catalog: Catalog,
    gathered: Gathered,
    /// Arrival times of epochs, by number from 1.
    arrivals_ns: Vec<TimeNs>,
    said: Vec<Said>,
    /// Distance between two epochs without samples.
    heartbeat_ns: DurationNs,
    /// After so long a silence, and a little, all that can be known of a moment is said.
    settled_ns: DurationNs,
}

impl Trial {
    /// Starts an engine of `workers` threads with these rules.
    ///
    /// # Errors
    /// If it can't start.
    pub fn start(windows: WindowPlan, rules: Vec<Rule>, workers: usize) -> Result<Trial, String> {
        let gathered = Gathered::default();
        let heartbeat_ns = windows.tiers.first().map_or(SECOND, |tier| tier.width_ns);
        // The longest that an evaluation may wait for stragglers is a second.
        let settled_ns = windows
            .idle_timeout_ns
            .saturating_add(windows.lateness_ns)
            .saturating_add(heartbeat_ns)
            .saturating_add(2 * SECOND);
        let plan = Plan { workers, windows, rules, ..Plan::default() };
        let catalog =
            Catalog::new(CatalogLimits { series_max: usize::MAX, series_per_service_max: usize::MAX });
        let rules = plan.rules.clone();
        Ok(Trial {
            rules,
            engine: Engine::start(plan, gathered.callbacks())?,
            catalog,
            gathered,
            arrivals_ns: Vec::new(),
            said: Vec::new(),
            heartbeat_ns,
            settled_ns,
        })
    }

    /// What is known of series.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The arrival clock.
    pub fn now_ns(&self) -> Option<TimeNs> {
        self.arrivals_ns.last().copied()
    }

    /// Plays samples that all come at one moment, which is not before that of others.
    pub fn play(&mut self, arrival_ns: TimeNs, samples: &[Arriving]) {
        self.beat_until(arrival_ns);
        let mut batch = Vec::with_capacity(samples.len());
        for Arriving { time_ns, key, value, .. } in samples {
            // Room for as many as there are numbers.
            if let Ok(series) = self.catalog.resolve(&key.target, &key.metric) {
                batch.push(Sample { series, seq: 0, time_ns: *time_ns, value: *value });
            }
        }
        let entries = self.catalog.take_fresh();
        self.submit(Epoch { arrival_ns, batches: vec![batch], entries, ..Epoch::default() });
    }

    /// Plays an epoch of a journal, whose series have the numbers that [`Trial::learn`] was told.
    pub fn submit(&mut self, epoch: Epoch) {
        let Epoch { arrival_ns, floor_ns, batches, entries, .. } = epoch;
        self.arrivals_ns.push(arrival_ns);
        let number = self.arrivals_ns.len() as u64;
        // What else it brought has no place here: the rules are those of the trial.
        let epoch = Epoch { number, arrival_ns, floor_ns, batches, entries, ..Epoch::default() };
        self.engine.submit(Arc::new(epoch));
        // Gathers what there is, so that little is held at a time.
        self.gather(self.engine.completed());
    }

    /// Takes catalog entries of a journal.
    pub fn learn(&mut self, entries: &[Entry]) {
        self.catalog.restore(entries);
    }

    /// Lets time pass without samples.
    pub fn beat_until(&mut self, until_ns: TimeNs) {
        let Some(mut now_ns) = self.now_ns() else { return };
        let mut beats = 0;
        while now_ns.saturating_add(self.heartbeat_ns) < until_ns && beats < BEATS_MAX {
            now_ns += self.heartbeat_ns;
            beats += 1;
            self.submit(Epoch { arrival_ns: now_ns, ..Epoch::default() });
        }
    }

    /// Lets time pass until all that can be known of moments up to `until_ns` is said, and ends. What it gives is in
    /// the order in which it was said.
    pub fn finish(mut self, until_ns: TimeNs) -> Vec<Said> {
        let until_ns = until_ns.max(self.now_ns().unwrap_or(until_ns));
        let settled_ns = until_ns.saturating_add(self.settled_ns);
        self.beat_until(settled_ns);
        self.submit(Epoch { arrival_ns: settled_ns, ..Epoch::default() });
        let last = self.arrivals_ns.len() as u64;
        self.engine.wait_for(last);
        self.gather(last);
        self.engine.stop();
        std::mem::take(&mut self.said)
    }

    /// Takes what was said in epochs that are complete.
    fn gather(&mut self, complete: u64) {
        for (epoch, mut transitions) in self.gathered.take(complete) {
            // From several workers, in any order; of one alert they come in order.
            transitions.sort_by_key(|moved| (moved.rule, moved.source));
            let arrival_ns = self.arrivals_ns.get(epoch as usize - 1).copied().unwrap_or_default();
            for moved in transitions {
                let key = match moved.source {
                    Source::Series(series) => self.catalog.key(series),
                    Source::Group { rollup, group } => self.rules.get(moved.rule as usize).and_then(|rule| {
                        group_key(rule, rollup, group, &self.catalog, self.engine.directory())
                    }),
                };
                if let Some(key) = key {
                    let (rule, transition) = (moved.rule as usize, moved.transition);
                    self.said.push(Said { arrival_ns, rule, key, transition, expected: moved.expected });
                }
            }
        }
    }
}

/// Epochs without samples in one gap, at most: a gap of years is passed in one step.
const BEATS_MAX: usize = 1_000_000;

/// Plays samples, whatever their order, and gives what is said of moments up to `until_ns`.
///
/// # Errors
/// If the engine can't start.
pub fn play(
    windows: WindowPlan,
    rules: Vec<Rule>,
    mut samples: Vec<Arriving>,
    until_ns: TimeNs,
) -> Result<Vec<Said>, String> {
    let mut trial = Trial::start(windows, rules, 1)?;
    // Of those that come at one moment the order stays.
    samples.sort_by_key(|sample| sample.arrival_ns);
    for together in samples.chunk_by(|a, b| a.arrival_ns == b.arrival_ns) {
        trial.play(together[0].arrival_ns, together);
    }
    Ok(trial.finish(until_ns))
}
