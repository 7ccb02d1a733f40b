//! Alerts: the operator that runs one state machine per rule and series, in event time.
//!
//! It sees only samples of watched series, each epoch's in event-time order. A series that falls silent goes
//! by the arrival clock, for which a timer per machine is kept. Samples behind what a machine has seen are
//! counted and do not change it.

pub mod saved;

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rapidhash::RapidHashMap as HashMap;
use serde::{Deserialize, Serialize};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator as _;

use crate::alert::{Machine, Timing, Transition};
use crate::rule::Rule;
use crate::sample::{DurationNs, Sample, SeriesId, TimeNs};
use crate::stash::Stash;
use crate::window::Control;

/// A transition of the alert of one rule and series.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AlertTransition {
    /// The rule's number.
    pub rule: u32,
    /// The series.
    pub series: SeriesId,
    /// What happened.
    pub transition: Transition,
}

/// Runs alert rules over samples.
pub trait Alerts<'scope> {
    /// Steps the machines of every bound rule and series. `controls` are those of
    /// [`Windows::windows`](crate::window::Windows::windows). Between two epochs others may look at the machines.
    fn alerts(
        self,
        controls: StreamVec<'scope, u64, Control>,
        machines: Rc<RefCell<Machines>>,
    ) -> StreamVec<'scope, u64, AlertTransition>;
}

impl<'scope> Alerts<'scope> for StreamVec<'scope, u64, Sample> {
    fn alerts(
        self,
        controls: StreamVec<'scope, u64, Control>,
        machines: Rc<RefCell<Machines>>,
    ) -> StreamVec<'scope, u64, AlertTransition> {
        self.binary_frontier::<_, CapacityContainerBuilder<Vec<AlertTransition>>, _, _, _, _>(
            controls,
            Pipeline,
            Pipeline,
            "Alerts",
            move |_capability, _info| {
                let mut stash = Stash::default();
                move |(samples, samples_frontier), (controls, controls_frontier), output| {
                    let port = output.output_index();
                    samples.for_each(|capability, chunk| {
                        let Some(epoch) = capability.least().copied() else { return };
                        let stashed = stash.of(epoch, || capability.retain_least(port));
                        stashed.chunks.push(std::mem::take(chunk));
                    });
                    controls.for_each(|capability, chunk| {
                        let Some(epoch) = capability.least().copied() else { return };
                        stash.of(epoch, || capability.retain_least(port)).controls.append(chunk);
                    });
                    let complete =
                        |epoch| !samples_frontier.less_equal(&epoch) && !controls_frontier.less_equal(&epoch);
                    while let Some((_, stashed)) = stash.take(complete) {
                        let Some(capability) = stashed.capability else { continue };
                        let mut session = output.session(&capability);
                        machines.borrow_mut().apply(&stashed.controls, stashed.chunks, |t| session.give(t));
                    }
                }
            },
        )
    }
}

/// Timers that are held beside two a machine before those that count no more are dropped.
const TIMERS_SPARE_MAX: usize = 64;

/// All machines of one worker.
pub struct Machines {
    rules: Arc<[Rule]>,
    idle_timeout_ns: DurationNs,
    arrival_ns: TimeNs,
    watched: HashMap<SeriesId, Watched>,
    /// When, by the arrival clock, a machine may have to move on its own. An entry that is not its alert's
    /// `armed_ns` any more is passed over.
    timers: Timers,
    /// Number of machines.
    alerts_len: usize,
    /// Saved machines whose rules have not been bound again yet.
    restored: HashMap<SeriesId, Watched>,
    counters: AlertCounters,
}

/// What machines count, for others to read.
#[derive(Clone, Debug, Default)]
pub struct AlertCounters {
    /// Samples that came behind their machine.
    pub late: Arc<AtomicU64>,
    /// Saved machines that no rule was bound for again.
    pub unbound: Arc<AtomicU64>,
}

struct Watched {
    /// Newest event time; nothing came while it is the least time there is.
    newest_ns: TimeNs,
    /// Arrival time of the last sample; the least time there is while nothing came.
    last_arrival_ns: TimeNs,
    alerts: Vec<Alert>,
}

impl Watched {
    /// Takes the alert of a rule out.
    fn take(&mut self, rule: u32) -> Option<Alert> {
        let at = self.alerts.iter().position(|alert| alert.rule == rule)?;
        Some(self.alerts.swap_remove(at))
    }
}

struct Alert {
    rule: u32,
    machine: Machine,
    /// The value of the last transition: what people see of the alert, before and after a restart.
    said: f64,
    /// The entry of `timers` that counts for it; the greatest time there is for none.
    armed_ns: TimeNs,
}

type Timers = BinaryHeap<Reverse<(TimeNs, SeriesId, u32)>>;

impl Alert {
    /// Sees to it that the machine is woken at `wake_ns` or before. A timer is pushed only where there is none
    /// as early: samples mostly move deadlines to later times, and then the old timer sets the new one.
    fn arm(&mut self, wake_ns: TimeNs, series: SeriesId, timers: &mut Timers) {
        if wake_ns < self.armed_ns {
            timers.push(Reverse((wake_ns, series, self.rule)));
            self.armed_ns = wake_ns;
        }
    }
}

impl Machines {
    /// No machines yet.
    pub fn new(rules: Arc<[Rule]>, idle_timeout_ns: DurationNs, counters: AlertCounters) -> Machines {
        Machines {
            rules,
            idle_timeout_ns,
            arrival_ns: TimeNs::MIN,
            watched: HashMap::default(),
            timers: BinaryHeap::new(),
            alerts_len: 0,
            restored: HashMap::default(),
            counters,
        }
    }

    /// Applies one epoch, whose samples are in its order.
    fn apply(
        &mut self,
        controls: &[Control],
        chunks: Vec<Vec<Sample>>,
        mut out: impl FnMut(AlertTransition),
    ) {
        for control in controls {
            match control {
                Control::Seal { arrival_ns, .. } => {
                    self.arrival_ns = *arrival_ns;
                    self.drop_unbound();
                }
                Control::Bind { series, rule, diff } => self.bind(*series, *rule, *diff, &mut out),
                Control::Rollups(_) | Control::Member { .. } => {}
            }
        }
        let mut late = 0;
        if chunks.iter().flatten().is_sorted_by_key(|sample| sample.time_ns) {
            // Then those of each series are.
            for of_series in chunks.iter().flat_map(|chunk| chunk.chunk_by(|a, b| a.series == b.series)) {
                late += self.step(of_series, &mut out);
            }
        } else {
            let mut samples = chunks.concat();
            samples.sort_by_key(|sample| (sample.series, sample.time_ns));
            for of_series in samples.chunk_by(|a, b| a.series == b.series) {
                late += self.step(of_series, &mut out);
            }
        }
        self.run_timers(&mut out);
        self.counters.late.fetch_add(late, Ordering::Relaxed);
    }

    /// Lets go of saved machines that have not been bound again: all bindings come before the first epoch.
    fn drop_unbound(&mut self) {
        if !self.restored.is_empty() {
            let unbound: usize = self.restored.values().map(|watched| watched.alerts.len()).sum();
            self.counters.unbound.fetch_add(unbound as u64, Ordering::Relaxed);
            self.restored = HashMap::default();
        }
    }

    fn bind(&mut self, series: SeriesId, rule: u32, diff: i32, out: &mut impl FnMut(AlertTransition)) {
        if self.rules.get(rule as usize).is_none() {
            return;
        }
        let mut saved = self.restored.get_mut(&series);
        let watched = self.watched.entry(series).or_insert_with(|| Watched {
            newest_ns: saved.as_ref().map_or(TimeNs::MIN, |saved| saved.newest_ns),
            last_arrival_ns: saved.as_ref().map_or(TimeNs::MIN, |saved| saved.last_arrival_ns),
            alerts: Vec::new(),
        });
        if diff > 0 {
            let alert = saved.as_mut().and_then(|saved| saved.take(rule)).unwrap_or(Alert {
                rule,
                machine: Machine::new(),
                said: 0.0,
                armed_ns: TimeNs::MAX,
            });
            if alert.armed_ns != TimeNs::MAX {
                self.timers.push(Reverse((alert.armed_ns, series, rule)));
            }
            watched.alerts.push(alert);
            self.alerts_len += 1;
            watched.alerts.sort_by_key(|alert| alert.rule);
        } else if let Some(at) = watched.alerts.iter().position(|alert| alert.rule == rule) {
            let mut gone = watched.alerts.remove(at);
            self.alerts_len -= 1;
            // Without its rule an alert has no reason: values hold no longer.
            let timing = Timing::new(TimeNs::MAX, 0);
            gone.machine.advance(timing, TimeNs::MAX, &mut |transition| {
                out(AlertTransition { rule, series, transition });
            });
        }
    }

    /// Steps the machines of one series through its samples, which are in event-time order.
    fn step(&mut self, samples: &[Sample], out: &mut impl FnMut(AlertTransition)) -> u64 {
        let series = samples[0].series;
        let Some(watched) = self.watched.get_mut(&series) else { return 0 };
        let behind = samples.partition_point(|sample| sample.time_ns < watched.newest_ns);
        watched.last_arrival_ns = self.arrival_ns;
        for alert in &mut watched.alerts {
            let Alert { rule: number, machine, said, .. } = alert;
            let rule = &self.rules[*number as usize];
            for sample in &samples[behind..] {
                let verdict = rule.level.verdict(sample.value);
                machine.sample(rule.timing, sample.time_ns, verdict, sample.value, &mut |transition| {
                    *said = transition.value;
                    out(AlertTransition { rule: *number, series, transition });
                });
            }
            if let Some(deadline_ns) = alert.machine.next_deadline(rule.timing) {
                let silent_ns = watched.last_arrival_ns.saturating_add(self.idle_timeout_ns);
                alert.arm(deadline_ns.max(silent_ns), series, &mut self.timers);
            }
        }
        watched.newest_ns = watched.newest_ns.max(samples[samples.len() - 1].time_ns);
        behind as u64
    }

    /// Moves the machines of silent series on, by the arrival clock.
    fn run_timers(&mut self, out: &mut impl FnMut(AlertTransition)) {
        self.drop_old_timers();
        while let Some(&Reverse((wake_ns, series, rule))) = self.timers.peek() {
            if wake_ns > self.arrival_ns {
                break;
            }
            self.timers.pop();
            let timing = self.rules[rule as usize].timing;
            let Some(watched) = self.watched.get_mut(&series) else { continue };
            let Some(alert) = watched.alerts.iter_mut().find(|alert| alert.rule == rule) else { continue };
            if alert.armed_ns != wake_ns {
                continue;
            }
            let silent_ns = watched.last_arrival_ns.saturating_add(self.idle_timeout_ns);
            if silent_ns <= self.arrival_ns {
                let Alert { machine, said, .. } = &mut *alert;
                machine.advance(timing, self.arrival_ns, &mut |transition| {
                    *said = transition.value;
                    out(AlertTransition { rule, series, transition });
                });
            }
            alert.armed_ns = TimeNs::MAX;
            if let Some(deadline_ns) = alert.machine.next_deadline(timing) {
                // Later than now in any case: the clock has passed what was due, or the series is not silent yet.
                let again_ns = deadline_ns.max(silent_ns).max(self.arrival_ns.saturating_add(1));
                alert.arm(again_ns, series, &mut self.timers);
            }
        }
    }

    /// Keeps the timers to a few a machine, however often an earlier one replaced a later one.
    fn drop_old_timers(&mut self) {
        if self.timers.len() <= TIMERS_SPARE_MAX + 2 * self.alerts_len {
            return;
        }
        let watched = &self.watched;
        self.timers.retain(|Reverse((wake_ns, series, rule))| {
            let alerts = watched.get(series).map_or(&[][..], |watched| &watched.alerts);
            alerts.iter().any(|alert| alert.rule == *rule && alert.armed_ns == *wake_ns)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::Kind;
    use crate::rule::Level;
    use crate::sample::SECOND;
    use crate::series::TargetMatcher;

    fn rule(threshold: f64, seconds: i64) -> Rule {
        Rule {
            name: "r".into(),
            metric: "m".into(),
            matcher: TargetMatcher::default(),
            level: Level::new(">".parse().unwrap(), threshold),
            timing: Timing::new(seconds * SECOND, 300 * SECOND),
            ..Rule::default()
        }
    }

    /// Epochs of (arrival second, samples as (second, value)); gives kinds with seconds.
    fn run(rules: Vec<Rule>, epochs: &[(i64, &[(i64, f64)])]) -> (Vec<(u32, Kind, i64)>, u64) {
        let binds: Vec<Control> =
            (0..rules.len() as u32).map(|rule| Control::Bind { series: 7, rule, diff: 1 }).collect();
        let counters = AlertCounters::default();
        let mut machines = Machines::new(rules.into(), 30 * SECOND, counters.clone());
        let mut seen = Vec::new();
        for (at, (arrival_s, samples)) in epochs.iter().enumerate() {
            let mut controls = if at == 0 { binds.clone() } else { Vec::new() };
            controls.push(Control::Seal { arrival_ns: arrival_s * SECOND, floor_ns: TimeNs::MIN });
            let samples: Vec<Sample> = samples
                .iter()
                .map(|(s, value)| Sample { series: 7, seq: 0, time_ns: s * SECOND, value: *value })
                .collect();
            let timers_max = TIMERS_SPARE_MAX + 2 * machines.rules.len() + samples.len();
            machines.apply(&controls, vec![samples], |t| {
                seen.push((t.rule, t.transition.kind, t.transition.at_ns / SECOND));
            });
            assert!(machines.timers.len() <= timers_max, "{} timers", machines.timers.len());
        }
        (seen, counters.late.load(Ordering::Relaxed))
    }

    #[test]
    fn an_alert_fires_when_event_time_proves_it_whatever_the_batches() {
        let expected =
            vec![(0, Kind::Pending, 10), (0, Kind::Firing, 40), (0, Kind::Resolved { no_data: false }, 60)];
        let samples: Vec<(i64, f64)> =
            (0..70).map(|s| (s, if (10..60).contains(&s) { 90.0 } else { 1.0 })).collect();
        assert_eq!(run(vec![rule(80.0, 30)], &[(0, &samples)]).0, expected);
        let singles: Vec<(i64, &[(i64, f64)])> = samples.chunks(1).map(|one| (one[0].0, one)).collect();
        assert_eq!(run(vec![rule(80.0, 30)], &singles).0, expected);
    }

    #[test]
    fn a_silent_series_goes_by_the_arrival_clock() {
        let (seen, _) =
            run(vec![rule(80.0, 30)], &[(0, &[(0, 90.0)]), (29, &[]), (31, &[]), (299, &[]), (301, &[])]);
        let expected =
            [(0, Kind::Pending, 0), (0, Kind::Firing, 30), (0, Kind::Resolved { no_data: true }, 300)];
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_new_breach_does_not_wait_for_the_timer_of_the_one_before() {
        // It fires in silence, so its timer is set for the end of its data, at 300 s; then it is resolved by a
        // sample, and the next breach is due at 90 s.
        let (seen, _) = run(
            vec![rule(80.0, 30)],
            &[(0, &[(0, 90.0)]), (31, &[]), (50, &[(50, 1.0)]), (60, &[(60, 90.0)]), (89, &[]), (91, &[])],
        );
        let second = [(0, Kind::Pending, 60), (0, Kind::Firing, 90)];
        assert_eq!(seen[3..], second, "{seen:?}");
    }

    #[test]
    fn a_flapping_alert_does_not_gather_timers() {
        let epochs: Vec<(i64, [(i64, f64); 2])> =
            (0..2000).map(|at| (at * 100, [(at * 100, 1.0), (at * 100 + 1, 90.0)])).collect();
        // Each is followed by silence, in which it fires and sets a timer for an end that never comes.
        let mut all: Vec<(i64, &[(i64, f64)])> = Vec::new();
        for (arrival_s, samples) in &epochs {
            all.extend([(*arrival_s, &samples[..]), (arrival_s + 40, &[][..])]);
        }
        let mut long = rule(80.0, 30);
        long.timing.stale_ns = 1_000_000 * SECOND;
        let (seen, _) = run(vec![long], &all);
        assert_eq!(seen.iter().filter(|(_, kind, _)| *kind == Kind::Firing).count(), 2000);
    }

    #[test]
    fn samples_behind_their_machine_are_counted() {
        let (seen, late) =
            run(vec![rule(80.0, 0), rule(95.0, 0)], &[(0, &[(10, 90.0)]), (1, &[(5, 1.0), (11, 1.0)])]);
        assert_eq!(seen, [(0, Kind::Firing, 10), (0, Kind::Resolved { no_data: false }, 11)]);
        assert_eq!(late, 1);
    }
}
