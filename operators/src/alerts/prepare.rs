//! What a rule that begins to watch a series starts from: the samples that are held of it.
//!
//! A breach that goes on already has its true start then, and no alert waits for its duration again. How far back a
//! rule looks hangs on what is found: until values that do not breach, or as far as samples are held.

use super::life::Life;
use super::{Machines, Patience};
use crate::alert::Verdict;
use crate::anomaly::{self, Detector, Method};
use crate::rule::{Rule, Signal};
use crate::sample::{DurationNs, SeriesId, TimeNs};
use crate::window::Control;

/// Values of a series that are held, from some time on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Backlog {
    /// By event time. Of what is folded there are the first and the last value, and at the time of the last the least
    /// and the greatest: nothing breaches in it that did not, though a breach may seem to begin later.
    pub values: Vec<(TimeNs, f64)>,
    /// Arrival time of the newest.
    pub last_arrival_ns: TimeNs,
    /// Whether there are no earlier ones.
    pub is_whole: bool,
}

/// What a source and its new alerts begin with.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Prepared {
    /// Values from here on.
    pub(super) from_ns: TimeNs,
    pub(super) values: Vec<(TimeNs, f64)>,
    pub(super) last_arrival_ns: TimeNs,
    /// The alerts by rule, each in front of those values.
    pub(super) lives: Vec<(u32, Life)>,
    /// Detectors that rules ask, each in front of those values.
    pub(super) judges: Vec<(Method, Detector)>,
}

/// Values a detector is shown before it judges, at most.
const WARM_UP_LEN_MAX: usize = 2048;

impl Machines {
    /// Looks what rules start from that begin to watch series in `epoch`; to be told before that is applied. `look`
    /// gives what was held of a series at the end of the epoch before, from an event time on.
    pub fn prepare(
        &mut self,
        epoch: u64,
        controls: &[Control],
        mut look: impl FnMut(SeriesId, TimeNs) -> Option<Backlog>,
    ) {
        let mut bound: Vec<(SeriesId, u32)> = controls.iter().filter_map(bound).collect();
        bound.sort_unstable();
        for of_series in bound.chunk_by(|a, b| a.0 == b.0) {
            let series = of_series[0].0;
            // Once to see how old the newest is.
            let Some(newest) = look(series, TimeNs::MAX) else { continue };
            let Some((newest_ns, _)) = newest.values.last() else { continue };
            let from_ns = newest_ns.saturating_sub(self.patience.lateness_ns);
            let mut prepared = Prepared {
                from_ns,
                values: look(series, from_ns).unwrap_or_default().values,
                last_arrival_ns: newest.last_arrival_ns,
                lives: Vec::with_capacity(of_series.len()),
                judges: Vec::new(),
            };
            prepared.values.retain(|(time_ns, _)| *time_ns >= from_ns);
            for (_, number) in of_series {
                let added = controls.iter().find_map(|control| added(control, *number));
                let Some(rule) = added.or_else(|| self.rules.get(*number)) else { continue };
                let backlog = earlier(rule, &self.patience, from_ns, |from_ns| look(series, from_ns));
                let mut life = Life::new(rule);
                match rule.signal.method() {
                    None => life.rebase(rule, &backlog, from_ns),
                    Some(method) if prepared.judges.iter().all(|(of, _)| *of != method) => {
                        let mut detector = Detector::new(&anomaly::Settings { method });
                        let newest = backlog.len().saturating_sub(WARM_UP_LEN_MAX);
                        for (time_ns, value) in &backlog[newest..] {
                            detector.observe(*time_ns, *value);
                        }
                        prepared.judges.push((method, detector));
                    }
                    Some(_) => {}
                }
                prepared.lives.push((*number, life));
            }
            self.prepared.push((epoch, series, prepared));
        }
    }
}

fn bound(control: &Control) -> Option<(SeriesId, u32)> {
    match *control {
        Control::Bind { series, rule, diff } if diff > 0 => Some((series, rule)),
        _ => None,
    }
}

fn added(control: &Control, number: u32) -> Option<&Rule> {
    let Control::Rules(change) = control else { return None };
    change.added.iter().find(|(added, _)| *added == number).map(|(_, rule)| rule)
}

/// Values before `till_ns`, as many as make an alert what it is there.
fn earlier(
    rule: &Rule,
    patience: &Patience,
    till_ns: TimeNs,
    mut look: impl FnMut(TimeNs) -> Option<Backlog>,
) -> Vec<(TimeNs, f64)> {
    let keep_ns = rule.timing.keep_ns.max(0);
    let mut back_ns = patience.lateness_ns.max(keep_ns).max(1);
    loop {
        let from_ns = till_ns.saturating_sub(back_ns);
        let mut backlog = look(from_ns).unwrap_or_default();
        backlog.values.retain(|(time_ns, _)| *time_ns < till_ns);
        if backlog.is_whole || from_ns == TimeNs::MIN || is_enough(rule, keep_ns, &backlog.values) {
            return backlog.values;
        }
        back_ns = back_ns.saturating_mul(4);
    }
}

/// Whether earlier values could not change what these make of an alert.
fn is_enough(rule: &Rule, keep_ns: DurationNs, values: &[(TimeNs, f64)]) -> bool {
    let Some((first_ns, _)) = values.first() else { return false };
    match rule.signal {
        Signal::Absent { .. } | Signal::Stale { .. } => true,
        Signal::Anomaly { .. } => values.len() >= WARM_UP_LEN_MAX,
        Signal::Sample | Signal::Window(_) => {
            let quiet = |value: &f64| matches!(rule.level.verdict(*value), Verdict::Quiet | Verdict::Nothing);
            let till_ns = first_ns.saturating_add(keep_ns);
            let len = values.partition_point(|(time_ns, _)| *time_ns <= till_ns);
            len < values.len() && values[..len].iter().all(|(_, value)| quiet(value))
        }
    }
}
