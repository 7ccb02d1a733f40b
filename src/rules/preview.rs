//! A rule on what an engine holds: when would it have fired?
//!
//! Observations are those of the held panes, in the order of their event times. Where panes have been folded, only the
//! first, the least, the greatest and the last of what was folded are known, and the answer is an approximation; it is
//! exact from [`Preview::exact_from_ns`] on.

use dataflows::engine::Engine;
use dataflows::view;
use operators::catalog::Catalog;
use operators::history::observed::Observed;
use operators::pane::Moments;
use operators::rule::{Rule, Signal};
use operators::sample::{DurationNs, SeriesId, TimeNs};
use operators::series::SeriesKey;

use super::alerts::{Breach, breaches_within};
use super::past::{is_watched, played};
use super::trial::{Arriving, Trial};

/// What a rule would have said.
#[derive(Clone, Debug)]
pub struct Preview {
    /// Alerts that began, or still were, in the time asked for.
    pub breaches: Vec<Breach>,
    /// From when on alerts were asked for, event time.
    pub from_ns: TimeNs,
    /// Until when, event time.
    pub until_ns: TimeNs,
    /// From here on every observation is known; the least time there is if all are.
    pub exact_from_ns: TimeNs,
    /// Series that it watches.
    pub series: usize,
    /// Observations that were played.
    pub samples: usize,
}

/// Plays what `engine` holds from `from_ns` on through another with this rule, up to `until_ns`. Blocks.
///
/// # Errors
/// If there is more to play than `samples_max`, or the engine can't start.
pub fn preview(
    engine: &Engine,
    catalog: &Catalog,
    rule: &Rule,
    from_ns: TimeNs,
    until_ns: TimeNs,
    samples_max: usize,
) -> Result<Preview, String> {
    let watched = catalog.with_keys(|keys| {
        let all = (0..catalog.len()).filter_map(|id| Some((id as SeriesId, keys.get(id)?)));
        let of_rule = all.filter(|(_, key)| is_watched(std::slice::from_ref(rule), key));
        of_rule.map(|(id, key)| (id, key.clone())).collect::<Vec<(SeriesId, SeriesKey)>>()
    });
    let begin_ns = from_ns.saturating_sub(lead_ns(rule));
    let plan = &engine.plan().windows;
    let (mut samples, mut exact_from_ns) = (Vec::new(), TimeNs::MIN);
    for (id, key) in &watched {
        view::with_history(engine, *id, |shard, history| {
            if shard.is_gone(history) {
                return;
            }
            history.observed(shard.plan(), begin_ns..until_ns, shard.floor_ns, |observed| {
                let mut push = |time_ns, value| {
                    samples.push(Arriving { arrival_ns: time_ns, time_ns, key: key.clone(), value });
                };
                match observed {
                    Observed::One(obs) => push(obs.time_ns, obs.value),
                    Observed::Folded(folded) => {
                        exact_from_ns = exact_from_ns.max(folded.last.time_ns.saturating_add(1));
                        unfolded(&folded, push);
                    }
                }
            });
        });
        if samples.len() > samples_max {
            return Err(format!(
                "expected at most {samples_max} samples to play, found more: ask for less time or fewer series"
            ));
        }
    }
    let played_samples = samples.len();
    let trial = played(Trial::start(plan.clone(), vec![rule.clone()], 1)?, samples);
    let breaches = breaches_within(&trial.finish(until_ns), from_ns, until_ns);
    Ok(Preview { breaches, from_ns, until_ns, exact_from_ns, series: watched.len(), samples: played_samples })
}

/// How far back before a moment samples can matter for it. A detector learns from all that there is.
fn lead_ns(rule: &Rule) -> DurationNs {
    let of_signal = match &rule.signal {
        Signal::Sample => 0,
        Signal::Window(window) => window.window_ns.saturating_add(window.hop_ns),
        Signal::Absent { for_ns } | Signal::Stale { for_ns } => *for_ns,
        Signal::Anomaly { .. } => return DurationNs::MAX,
    };
    let timing = rule.timing;
    let held_ns = if timing.stale_ns == DurationNs::MAX { 0 } else { timing.stale_ns };
    of_signal.saturating_add(timing.duration_ns).saturating_add(timing.keep_ns).saturating_add(held_ns)
}

/// The first, the least, the greatest and the last of what was folded; the two in the middle at thirds of its time.
fn unfolded(folded: &Moments, mut push: impl FnMut(TimeNs, f64)) {
    let third_ns = folded.last.time_ns.saturating_sub(folded.first.time_ns) / 3;
    push(folded.first.time_ns, folded.first.value);
    if folded.count > 2 {
        push(folded.first.time_ns + third_ns, folded.min);
        push(folded.last.time_ns - third_ns, folded.max);
    }
    if folded.count > 1 {
        push(folded.last.time_ns, folded.last.value);
    }
}
