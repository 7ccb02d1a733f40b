//! The life cycle of one alert: one rule on one series, in event time.
//!
//! # Definition
//! A sample's value holds from its event time until the next sample, and no longer than `stale_ns`; from then
//! on there is no data. A *breach* is a longest stretch `[start, end)` in which the value that holds breaches
//! the rule's threshold. So it starts at its first breaching sample, and ends at the first sample that does
//! not breach, or `stale_ns` after its last sample where a gap is longer than that (a sample exactly
//! `stale_ns` later still continues it).
//!
//! Where the rule has a second threshold (hysteresis), a breach that has fired ends only when a value has passed
//! that one, too.
//!
//! An alert *fires* at exactly `start + duration_ns` if the breach still holds at that moment, that is if
//! `end > start + duration_ns`: a sample exactly at that deadline which does not breach cancels it, and so
//! does data that ends exactly there. With `duration_ns = 0` it fires at its first sample. It is *resolved*
//! at `end`, or `keep_ns` later if no value that keeps it comes until then; one that comes exactly then still does.
//!
//! # When that is known
//! [`Machine`] says each of it as soon as it is proven: by a sample, or by a clock that has passed the
//! moment. A clock that stands *at* the deadline proves nothing yet, since the sample of that very moment may
//! be still to come. What is said, and the times and values in it, does not depend on when samples and clocks
//! arrive, so not on batches, workers or restarts; only [`Transition::decided_by_ns`] tells who came first.
//!
//! Samples of one series come here in the order of their event times. Those of equal time count in the order
//! they come, each at once: a breaching one at the deadline fires, whatever comes behind it at the same time.

use serde::{Deserialize, Serialize};

use crate::sample::{DurationNs, TimeNs};
use crate::series::SeriesKey;
use crate::stable_hash::StableHash;

/// The times of a rule. Negative ones count as zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// How long a breach must last to fire, in nanoseconds.
    pub duration_ns: DurationNs,
    /// How long a value holds when no newer sample comes, in nanoseconds. `DurationNs::MAX`: for ever.
    pub stale_ns: DurationNs,
    /// How long an alert that fires goes on when its breach has ended, in nanoseconds.
    pub keep_ns: DurationNs,
}

impl Timing {
    /// An alert that ends with its breach.
    pub fn new(duration_ns: DurationNs, stale_ns: DurationNs) -> Timing {
        Timing { duration_ns, stale_ns, keep_ns: 0 }
    }

    /// When a breach that started at `since_ns` fires, if it lasts.
    fn deadline(self, since_ns: TimeNs) -> TimeNs {
        since_ns.saturating_add(self.duration_ns.max(0))
    }

    /// When an alert whose breach ended at `cleared_ns` ends.
    fn end_of_keep(self, cleared_ns: TimeNs) -> TimeNs {
        cleared_ns.saturating_add(self.keep_ns.max(0))
    }

    /// When the value of a sample at `last_ns` holds no more, if no other comes.
    fn end_of_data(self, last_ns: TimeNs) -> TimeNs {
        last_ns.saturating_add(self.stale_ns.max(0))
    }
}

/// What an alert changes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A breach has started. Not said with `duration_ns = 0`, which fires at once.
    Pending,
    /// The breach ended before it fired.
    Cancelled,
    /// The breach lasted.
    Firing,
    /// The breach ended after it fired.
    Resolved {
        /// Ended by silence, not by a sample.
        no_data: bool,
    },
    /// What was said to fire has no reason any more: later knowledge of the samples took it away.
    Retracted,
}

/// One change of one alert.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Transition {
    /// What it changes to.
    pub kind: Kind,
    /// Event time at which the change holds: the start of the breach, the deadline, or the end of the breach.
    pub at_ns: TimeNs,
    /// Event time of the first sample of the breach.
    pub since_ns: TimeNs,
    /// Value of the newest breaching sample at `at_ns`: for `Pending` the first; for `Firing` the one at the
    /// deadline, else the last before it, even if a later sample proved it; for `Cancelled` and `Resolved`
    /// the last of the breach.
    pub value: f64,
    /// Event time of the sample, or the clock, that proved it. The only field in which two runs over the same
    /// samples may differ.
    pub decided_by_ns: TimeNs,
}

/// What a rule says of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It breaches.
    Breach,
    /// It does not breach, but keeps an alert that fires firing.
    Keep,
    /// Neither.
    Quiet,
    /// There is no value from here on, though no sample is missing: a window without enough samples.
    Nothing,
}

/// The state of one alert. 40 bytes.
///
/// ```
/// use operators::alert::{Kind, Machine, Timing, Verdict};
/// use operators::sample::SECOND;
///
/// let timing = Timing::new(30 * SECOND, 60 * SECOND);
/// let (mut machine, mut said) = (Machine::new(), Vec::new());
/// machine.sample(timing, 10 * SECOND, Verdict::Breach, 91.0, &mut |change| said.push(change));
/// machine.sample(timing, 25 * SECOND, Verdict::Breach, 95.0, &mut |change| said.push(change));
/// // Not breaching any more, but only after the deadline: it did last.
/// machine.sample(timing, 55 * SECOND, Verdict::Quiet, 20.0, &mut |change| said.push(change));
/// let kinds: Vec<_> = said.iter().map(|change| (change.kind, change.at_ns / SECOND, change.value)).collect();
/// assert_eq!(
///     kinds,
///     [(Kind::Pending, 10, 91.0), (Kind::Firing, 40, 95.0), (Kind::Resolved { no_data: false }, 55, 95.0)]
/// );
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Machine {
    /// Nothing breaches.
    #[default]
    Inactive,
    /// A breach that has not lasted long enough, as far as is known.
    Pending {
        /// Event time of its first sample.
        since_ns: TimeNs,
        /// Event time of its newest sample.
        last_ns: TimeNs,
        /// Value of its newest sample.
        value: f64,
    },
    /// A breach that has.
    Firing {
        /// Event time of its first sample.
        since_ns: TimeNs,
        /// Event time of its newest sample.
        last_ns: TimeNs,
        /// Value of its newest sample.
        value: f64,
        /// When it fired.
        fired_ns: TimeNs,
    },
    /// A breach that has, and has ended, but the rule's `keep_ns` lets its alert go on.
    Keeping {
        /// Event time of its first sample.
        since_ns: TimeNs,
        /// Event time of its end.
        cleared_ns: TimeNs,
        /// Value of its newest sample.
        value: f64,
        /// When it fired.
        fired_ns: TimeNs,
        /// Whether it ended in silence.
        no_data: bool,
    },
}

impl Machine {
    /// An alert of which nothing is known.
    pub fn new() -> Self {
        Machine::Inactive
    }

    /// Takes the next sample of the series, and tells `out` what it proves. `time_ns` is not before any
    /// sample or clock given earlier; one that is counts as at the newest sample of the breach.
    pub fn sample(
        &mut self,
        timing: Timing,
        time_ns: TimeNs,
        verdict: Verdict,
        value: f64,
        out: &mut impl FnMut(Transition),
    ) {
        // The usual case, first and cheap.
        if verdict != Verdict::Breach && *self == Machine::Inactive {
            return;
        }
        let time_ns = time_ns.max(self.last_ns().unwrap_or(time_ns));
        self.advance(timing, time_ns, out);
        match (verdict, &*self) {
            (Verdict::Breach, _) | (Verdict::Keep, Machine::Firing { .. } | Machine::Keeping { .. }) => {
                self.breach(timing, time_ns, value, out);
            }
            (verdict, _) => self.clear(timing, time_ns, time_ns, verdict == Verdict::Nothing, out),
        }
    }

    /// Takes note that no sample before `clock_ns` will come any more, and tells `out` what that proves.
    pub fn advance(&mut self, timing: Timing, clock_ns: TimeNs, out: &mut impl FnMut(Transition)) {
        while let Some(due_ns) = self.due(timing)
            && due_ns < clock_ns
        {
            match *self {
                Machine::Pending { since_ns, last_ns, value } if due_ns < timing.end_of_data(last_ns) => {
                    self.fire(Machine::Firing { since_ns, last_ns, value, fired_ns: due_ns }, clock_ns, out);
                }
                Machine::Keeping { no_data, .. } => self.end(due_ns, clock_ns, no_data, out),
                _ => self.clear(timing, due_ns, clock_ns, true, out),
            }
        }
    }

    /// The smallest clock at which [`Self::advance`] has something to say, if no sample comes before; none
    /// for an inactive alert, or when that moment is never. Later samples only move it to later times, so one
    /// timer a machine is enough: when it goes off, advance, and set it again for what this says then.
    pub fn next_deadline(&self, timing: Timing) -> Option<TimeNs> {
        let said_ns = match *self {
            // That its breach has ended is not said while the alert goes on.
            Machine::Firing { last_ns, .. } => timing.end_of_keep(timing.end_of_data(last_ns)),
            _ => self.due(timing)?,
        };
        said_ns.checked_add(1)
    }

    /// Event time at which the current breach started.
    pub fn since_ns(&self) -> Option<TimeNs> {
        match *self {
            Machine::Inactive => None,
            Machine::Pending { since_ns, .. }
            | Machine::Firing { since_ns, .. }
            | Machine::Keeping { since_ns, .. } => Some(since_ns),
        }
    }

    /// Event time of the newest sample of the current breach, or of its end.
    pub fn last_ns(&self) -> Option<TimeNs> {
        match *self {
            Machine::Inactive => None,
            Machine::Pending { last_ns, .. } | Machine::Firing { last_ns, .. } => Some(last_ns),
            Machine::Keeping { cleared_ns, .. } => Some(cleared_ns),
        }
    }

    /// Value of the newest sample of the current breach.
    pub fn value(&self) -> Option<f64> {
        match *self {
            Machine::Inactive => None,
            Machine::Pending { value, .. }
            | Machine::Firing { value, .. }
            | Machine::Keeping { value, .. } => Some(value),
        }
    }

    /// When it fired, while it does.
    pub fn fired_ns(&self) -> Option<TimeNs> {
        match *self {
            Machine::Firing { fired_ns, .. } | Machine::Keeping { fired_ns, .. } => Some(fired_ns),
            Machine::Inactive | Machine::Pending { .. } => None,
        }
    }

    /// The moment of the next change if no sample comes: a clock has to pass it.
    fn due(&self, timing: Timing) -> Option<TimeNs> {
        match *self {
            Machine::Inactive => None,
            Machine::Pending { since_ns, last_ns, .. } => {
                Some(timing.deadline(since_ns).min(timing.end_of_data(last_ns)))
            }
            Machine::Firing { last_ns, .. } => Some(timing.end_of_data(last_ns)),
            Machine::Keeping { cleared_ns, .. } => Some(timing.end_of_keep(cleared_ns)),
        }
    }

    /// A sample that breaches, or keeps what fires, all that was due before it being said.
    fn breach(&mut self, timing: Timing, time_ns: TimeNs, value: f64, out: &mut impl FnMut(Transition)) {
        match *self {
            Machine::Inactive => {
                *self = Machine::Pending { since_ns: time_ns, last_ns: time_ns, value };
                if timing.deadline(time_ns) > time_ns {
                    let transition = |kind| Transition {
                        kind,
                        at_ns: time_ns,
                        since_ns: time_ns,
                        value,
                        decided_by_ns: time_ns,
                    };
                    return out(transition(Kind::Pending));
                }
            }
            Machine::Pending { since_ns, .. } => {
                *self = Machine::Pending { since_ns, last_ns: time_ns, value }
            }
            Machine::Firing { since_ns, fired_ns, .. } | Machine::Keeping { since_ns, fired_ns, .. } => {
                *self = Machine::Firing { since_ns, last_ns: time_ns, value, fired_ns };
            }
        }
        if let Machine::Pending { since_ns, .. } = *self
            && timing.deadline(since_ns) <= time_ns
        {
            let fired_ns = timing.deadline(since_ns);
            self.fire(Machine::Firing { since_ns, last_ns: time_ns, value, fired_ns }, time_ns, out);
        }
    }

    fn fire(&mut self, firing: Machine, decided_by_ns: TimeNs, out: &mut impl FnMut(Transition)) {
        *self = firing;
        if let Machine::Firing { since_ns, value, fired_ns, .. } = firing {
            out(Transition { kind: Kind::Firing, at_ns: fired_ns, since_ns, value, decided_by_ns });
        }
    }

    /// The breach has ended at `at_ns`; an alert that fires goes on for as long as the rule says.
    fn clear(
        &mut self,
        timing: Timing,
        at_ns: TimeNs,
        decided_by_ns: TimeNs,
        no_data: bool,
        out: &mut impl FnMut(Transition),
    ) {
        if let Machine::Firing { since_ns, value, fired_ns, .. } = *self {
            *self = Machine::Keeping { since_ns, cleared_ns: at_ns, value, fired_ns, no_data };
        }
        match *self {
            Machine::Keeping { cleared_ns, no_data, .. } => {
                let end_ns = timing.end_of_keep(cleared_ns);
                if end_ns <= at_ns {
                    self.end(end_ns, decided_by_ns, no_data, out);
                }
            }
            _ => self.end(at_ns, decided_by_ns, no_data, out),
        }
    }

    fn end(&mut self, at_ns: TimeNs, decided_by_ns: TimeNs, no_data: bool, out: &mut impl FnMut(Transition)) {
        let (kind, since_ns, value) = match std::mem::take(self) {
            Machine::Inactive => return,
            Machine::Pending { since_ns, value, .. } => (Kind::Cancelled, since_ns, value),
            Machine::Firing { since_ns, value, .. } | Machine::Keeping { since_ns, value, .. } => {
                (Kind::Resolved { no_data }, since_ns, value)
            }
        };
        out(Transition { kind, at_ns, since_ns, value, decided_by_ns });
    }
}

/// The name of an alert: the same for one rule on one series, in every process and for ever.
pub fn alert_id(rule: &str, series: &SeriesKey) -> u128 {
    let target = &series.target;
    let hash = StableHash::new().text("alert 1").text(rule).text(&target.service).text(&series.metric);
    target.tags.iter().fold(hash, |hash, (name, value)| hash.text(name).text(value)).finish()
}

/// The name of one breach of an alert, by which its firing, its resolution and their repetitions are known to
/// belong together.
pub fn occurrence_id(alert_id: u128, since_ns: TimeNs) -> u128 {
    StableHash::new().text("occurrence 1").id(alert_id).number(since_ns).finish()
}

/// One breach, as [`intervals`] finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// Event time of the first breaching sample.
    pub start_ns: TimeNs,
    /// When it fired, if that is proven.
    pub fire_ns: Option<TimeNs>,
    /// When it ended, if that is proven.
    pub end_ns: Option<TimeNs>,
    /// Whether it ended in silence.
    pub no_data: bool,
}

/// All breaches in `samples` (time and value, in the order of event times), known at the moment when no
/// sample before `end_clock_ns` will come any more (the last sample may be later, and counts too). Written
/// from the definition, sharing nothing with [`Machine`]: the oracle of its tests.
pub fn intervals(
    samples: &[(TimeNs, f64)],
    timing: Timing,
    judge: impl Fn(f64) -> Verdict,
    end_clock_ns: TimeNs,
) -> Vec<Interval> {
    let verdict = |at: usize| judge(samples[at].1);
    let mut found = Vec::new();
    let mut first = 0;
    while first < samples.len() {
        if verdict(first) != Verdict::Breach {
            first += 1;
            continue;
        }
        let start_ns = samples[first].0;
        let deadline_ns = start_ns.saturating_add(timing.duration_ns.max(0));
        let (mut last, mut fired) = (first, false);
        let (end_ns, no_data, next) = loop {
            let (after, ended) = breach_end(samples, timing, &judge, last, deadline_ns, end_clock_ns);
            let last_ns = samples[after - 1].0;
            // A sample at the deadline that breaches decides, even if another of the same time takes it back.
            fired |= last_ns >= deadline_ns || ended.map_or(end_clock_ns, |(end_ns, _)| end_ns) > deadline_ns;
            let Some((cleared_ns, no_data)) = ended else { break (None, false, after) };
            if !fired || timing.keep_ns <= 0 {
                break (Some(cleared_ns), no_data, after);
            }
            // It goes on if a value that keeps it comes until then, and before a quiet one at that very moment.
            let till_ns = cleared_ns.saturating_add(timing.keep_ns);
            let from = samples.partition_point(|(time_ns, _)| *time_ns < cleared_ns).max(after);
            let deciding = (from..samples.len()).find(|at| {
                matches!(verdict(*at), Verdict::Breach | Verdict::Keep) || samples[*at].0 >= till_ns
            });
            match deciding {
                Some(at)
                    if samples[at].0 <= till_ns
                        && verdict(at) != Verdict::Quiet
                        && verdict(at) != Verdict::Nothing =>
                {
                    last = at;
                }
                Some(at) => break (Some(till_ns), no_data, at),
                None if end_clock_ns > till_ns => break (Some(till_ns), no_data, samples.len()),
                None => break (None, false, samples.len()),
            }
        };
        let fire_ns = fired.then_some(deadline_ns);
        found.push(Interval { start_ns, fire_ns, end_ns, no_data: no_data && end_ns.is_some() });
        first = next;
    }
    found
}

/// Where the breach ends that the sample at `last` is of: the first sample behind it, and if it is known when it ended
/// and whether in silence.
fn breach_end(
    samples: &[(TimeNs, f64)],
    timing: Timing,
    judge: &impl Fn(f64) -> Verdict,
    last: usize,
    deadline_ns: TimeNs,
    end_clock_ns: TimeNs,
) -> (usize, Option<(TimeNs, bool)>) {
    let stale_ns = timing.stale_ns.max(0);
    let mut after = last + 1;
    while let Some((time_ns, value)) = samples.get(after) {
        let before_ns = samples[after - 1].0;
        let joined = time_ns.saturating_sub(before_ns) <= stale_ns;
        let fired = before_ns >= deadline_ns || *time_ns > deadline_ns;
        let verdict = judge(*value);
        if !joined {
            return (after, Some((before_ns.saturating_add(stale_ns), true)));
        }
        if verdict != Verdict::Breach && !(verdict == Verdict::Keep && fired) {
            return (after, Some((*time_ns, verdict == Verdict::Nothing)));
        }
        after += 1;
    }
    let silent_ns = samples[after - 1].0.saturating_add(stale_ns);
    (after, (end_clock_ns > silent_ns).then_some((silent_ns, true)))
}

#[cfg(test)]
#[path = "alert_tests.rs"]
mod tests;
