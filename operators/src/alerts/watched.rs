//! One source of values and its alerts: what came, what was said of it, and how that is corrected.
//!
//! A source is a series, or a group of a rollup; its values come with event times. They are kept, in order, for as
//! long as corrections follow. What is *settled* has been stepped through the machines, and what those said was
//! told. A value that falls behind that is put in its place, and each alert that it can touch is stepped again from
//! its *base*, its state in front of the oldest value kept. What differs from what was told is told: so whatever
//! comes and in whatever order, the firings told and not taken back are those of a machine that sees all values
//! in the order of their event times.
//!
//! Most sources are quiet: no alert is alive, and each value lies where none of them would begin. Then a value costs
//! a few comparisons and its place among those kept.

mod bound;
mod room;

use serde::{Deserialize, Serialize};

use super::front::Front;
use super::judge::{Judge, judge};
use super::life::Life;
use super::{AlertTransition, Expected, Patience, Rules, Slack, Source};
use crate::alert::Transition;
use crate::anomaly::{Judgement, Method};
use crate::pane::Obs;
use crate::rule::Signal;
use crate::sample::{DurationNs, TimeNs};

/// Values that are kept for corrections of one source, at most; beyond, the older half is given up.
pub const KEPT_LEN_MAX: usize = 512;
/// So many stay however old they are.
const KEPT_LEN_MIN: usize = 8;

/// A source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[repr(C)]
pub(super) struct Watched {
    pub(super) front: Front,
    /// How many of the values kept are not settled: the newest.
    unsettled: usize,
    /// How long evaluations wait.
    slack_ns: DurationNs,
    /// Values before it were given up, and those that come there are too late.
    base_ns: TimeNs,
    /// By rule.
    alerts: Vec<Alert>,
    /// By method.
    judges: Vec<Judge>,
    /// The entry of the timers that counts for it; the greatest time there is for none.
    pub(super) armed_ns: TimeNs,
    /// Whether what it keeps is lent: then it keeps nothing until it catches up.
    #[serde(skip)]
    lent: bool,
}

/// What an alert of a source said.
pub(super) struct Said {
    pub(super) rule: u32,
    pub(super) transition: Transition,
    pub(super) expected: Option<Expected>,
}

impl Said {
    /// The same, with whose it is.
    pub(super) fn of(self, source: Source) -> AlertTransition {
        let Said { rule, transition, expected } = self;
        AlertTransition { rule, source, transition, expected }
    }
}

/// Passes on what the alert of a rule that asks no detector says.
fn plainly(rule: u32, out: &mut impl FnMut(Said)) -> impl FnMut(Transition) {
    move |transition| out(Said { rule, transition, expected: None })
}

/// The alerts there is anything to know of, by the number of their rule. Those that go by more than values always live.
fn alive(alerts: &mut [Alert]) -> impl Iterator<Item = (u32, &mut Life)> {
    alerts.iter_mut().filter_map(|alert| Some((alert.rule, &mut **alert.life.as_mut()?)))
}

/// The alert of one rule on a source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Alert {
    rule: u32,
    /// None while nothing breaches, nor did among the values kept.
    life: Option<Box<Life>>,
}

impl Default for Watched {
    fn default() -> Watched {
        Watched {
            front: Front::default(),
            unsettled: 0,
            slack_ns: 0,
            base_ns: TimeNs::MIN,
            alerts: Vec::new(),
            judges: Vec::new(),
            armed_ns: TimeNs::MAX,
            lent: false,
        }
    }
}

impl Watched {
    /// Whether no rule watches it.
    pub(super) fn is_unwatched(&self) -> bool {
        self.alerts.is_empty()
    }

    /// Whether it can be gone on with, wherever it comes from.
    pub(super) fn is_sound(&self) -> bool {
        self.unsettled <= self.front.kept.len()
            && self.front.kept.is_sorted_by_key(|(time_ns, _)| *time_ns)
            && self.alerts.is_sorted_by_key(|alert| alert.rule)
    }

    /// Number of values that are kept.
    #[cfg(test)]
    pub(super) fn kept_len(&self) -> usize {
        self.front.kept.len()
    }

    /// Number of its alerts.
    pub(super) fn len(&self) -> usize {
        self.alerts.len()
    }

    /// Rules that watch it, with what is alive of their alerts.
    pub(super) fn alerts(&self) -> impl Iterator<Item = (u32, Option<&Life>)> {
        self.alerts.iter().map(|alert| (alert.rule, alert.life.as_deref()))
    }

    /// Newest event time; nothing came while it is the least time there is.
    fn newest_ns(&self) -> TimeNs {
        self.front.kept.last().map_or(TimeNs::MIN, |(time_ns, _)| *time_ns)
    }

    /// How many of the values kept are settled: the oldest.
    fn settled(&self) -> usize {
        self.front.kept.len() - self.unsettled
    }

    /// Takes a value that is the next one and with which nothing happens; says whether it is one. However long
    /// evaluations wait, it is settled: whatever comes in front of it, it says nothing.
    #[inline]
    pub(super) fn take_quietly(
        &mut self,
        rules: &Rules,
        patience: &Patience,
        arrival_ns: TimeNs,
        obs: Obs,
    ) -> bool {
        let plain = self.front.is_quiet(obs);
        if plain {
            self.keep_quietly(rules, patience, arrival_ns, obs);
        }
        plain
    }

    /// Takes a value that is known to be such a one.
    #[inline]
    pub(super) fn keep_quietly(&mut self, rules: &Rules, patience: &Patience, arrival_ns: TimeNs, obs: Obs) {
        debug_assert!(self.front.is_quiet(obs), "{obs:?} changes something");
        self.front.keep(arrival_ns, obs);
        if self.is_long() {
            self.make_room(rules, patience);
        }
    }

    /// Takes values of one epoch, in the order of their event times; says how many came too late. `replaces`: of one
    /// time the last value counts.
    pub(super) fn take(
        &mut self,
        rules: &Rules,
        patience: &Patience,
        arrival_ns: TimeNs,
        values: &[Obs],
        replaces: bool,
        out: &mut impl FnMut(Said),
    ) -> u64 {
        self.front.last_arrival_ns = arrival_ns;
        // What is too late is so by what came before this epoch.
        let oldest_ns = self.base_ns.max(self.newest_ns().saturating_sub(patience.lateness_ns));
        let (mut late, mut corrects) = (0, false);
        for obs in values {
            if obs.time_ns < oldest_ns {
                late += 1;
                continue;
            }
            corrects |= self.place(patience, *obs, replaces);
        }
        // However long evaluations wait, they do not gather more than so many values.
        let kept = &self.front.kept;
        let is_full = kept.len() >= KEPT_LEN_MAX
            && kept.len() - kept.partition_point(|(time_ns, _)| *time_ns < oldest_ns) >= KEPT_LEN_MAX;
        let slack_ns = if is_full { 0 } else { self.slack_ns };
        let till_ns = self.newest_ns().saturating_sub(slack_ns);
        // In silence the arrival clock went on; now the source goes by its own again.
        corrects |= till_ns < self.front.clock_ns && self.alerts.iter().any(|alert| alert.life.is_some());
        self.settle(rules, till_ns, corrects.then_some(values), out);
        self.age(rules, arrival_ns, out);
        while self.is_long() && self.make_room(rules, patience) {}
        self.bury();
        late
    }

    /// Puts a value in its place; says whether that is among those settled, or behind the clock.
    fn place(&mut self, patience: &Patience, obs: Obs, replaces: bool) -> bool {
        let behind_clock = obs.time_ns < self.front.clock_ns;
        // The usual case, without a search: each step of one would wait for memory.
        let newest_ns = self.newest_ns();
        if obs.time_ns > newest_ns || (obs.time_ns == newest_ns && !replaces) {
            if let Slack::Fixed(slack_ns) = patience.slack {
                self.slack_ns = slack_ns;
            }
            self.front.kept.push((obs.time_ns, obs.value));
            self.unsettled += 1;
            return behind_clock;
        }
        if obs.time_ns < self.newest_ns() && self.knows(obs) {
            // Sent again: it says nothing new.
            return false;
        }
        match patience.slack {
            Slack::Auto(max_ns) if obs.time_ns < self.newest_ns() => {
                let behind_ns = self.newest_ns().saturating_sub(obs.time_ns);
                self.slack_ns = self.slack_ns.max(behind_ns.min(max_ns));
            }
            Slack::Auto(_) => {}
            Slack::Fixed(slack_ns) => self.slack_ns = slack_ns,
        }
        let settled = self.settled();
        let kept = &mut self.front.kept;
        let at = kept.partition_point(|(time_ns, _)| *time_ns <= obs.time_ns);
        let same = at.checked_sub(1).filter(|at| replaces && kept[*at].0 == obs.time_ns);
        let among_settled = match same {
            Some(at) => {
                kept[at].1 = obs.value;
                at < settled
            }
            None => {
                kept.insert(at, (obs.time_ns, obs.value));
                self.unsettled += usize::from(at >= settled);
                at < settled
            }
        };
        among_settled || behind_clock
    }

    /// Whether this very value of this time came before.
    fn knows(&self, obs: Obs) -> bool {
        let from = self.front.kept.partition_point(|(time_ns, _)| *time_ns < obs.time_ns);
        let same = self.front.kept[from..].iter().take_while(|(time_ns, _)| *time_ns == obs.time_ns);
        same.into_iter().any(|(_, value)| value.to_bits() == obs.value.to_bits())
    }

    /// Settles values up to `till_ns`. `placed` are values among those settled already, if there are any: then alerts
    /// are corrected.
    fn settle(&mut self, rules: &Rules, till_ns: TimeNs, placed: Option<&[Obs]>, out: &mut impl FnMut(Said)) {
        let (before, kept) = (self.settled(), &self.front.kept);
        let settled = match kept.last() {
            Some((newest_ns, _)) if *newest_ns > till_ns => {
                kept.partition_point(|(time_ns, _)| *time_ns <= till_ns).max(before)
            }
            _ => kept.len(),
        };
        self.unsettled = kept.len() - settled;
        let clock_ns = kept[..settled].last().map_or(till_ns, |(time_ns, _)| till_ns.max(*time_ns));
        self.front.clock_ns = clock_ns;
        let newest_ns = self.newest_ns();
        let front = &self.front;
        let kept = &front.kept;
        let (settled, fresh) = (&kept[..settled], &kept[before..settled]);
        // Nothing begins with quiet values, whatever the rules are.
        let are_quiet = fresh.iter().all(|(_, value)| front.is_in_band(*value))
            && placed.is_none_or(|placed| placed.iter().all(|obs| front.is_in_band(obs.value)));
        let judged: Vec<(Method, Vec<Judgement>)> =
            self.judges.iter_mut().map(|judge| (judge.method, judge.observe(fresh))).collect();
        for Alert { rule: number, life } in &mut self.alerts {
            if life.is_none() && are_quiet {
                continue;
            }
            let Some(rule) = rules.get(*number) else { continue };
            if let Signal::Anomaly { method } = rule.signal {
                let life = life.get_or_insert_with(|| Box::new(Life::new(rule)));
                let judgements = judged.iter().find(|(of, _)| *of == method).map_or(&[][..], |(_, of)| of);
                judge(life, (*number, rule), fresh, judgements, clock_ns, out);
                continue;
            }
            let out = &mut plainly(*number, out);
            let breaches = |value: f64| rule.level.breaches(value);
            let begins = match (&*life, placed) {
                (Some(_), _) => true,
                (None, Some(placed)) => {
                    placed.iter().any(|obs| breaches(obs.value)) || fresh.iter().any(|v| breaches(v.1))
                }
                (None, None) => fresh.iter().any(|v| breaches(v.1)),
            };
            if !begins {
                continue;
            }
            let life = life.get_or_insert_with(|| Box::new(Life::new(rule)));
            if placed.is_some() {
                life.correct(rule, settled, clock_ns, newest_ns, out);
            } else {
                life.step(rule, fresh, |_, value| rule.level.verdict(value), out);
                life.advance(rule, clock_ns, out);
            }
        }
    }

    /// Looks how old the newest value is, for rules that ask.
    fn age(&mut self, rules: &Rules, arrival_ns: TimeNs, out: &mut impl FnMut(Said)) {
        if self.newest_ns() == TimeNs::MIN {
            return;
        }
        let newest_ns = self.newest_ns();
        for (number, life) in alive(&mut self.alerts) {
            if let Some(rule) = rules.get(number).filter(|rule| matches!(rule.signal, Signal::Stale { .. })) {
                life.age(rule, newest_ns, arrival_ns, &mut plainly(number, out));
            }
        }
    }

    /// Drops alerts of which there is nothing to know, and looks whether quiet values may pass by.
    fn bury(&mut self) {
        let mut awake = 0;
        for alert in &mut self.alerts {
            alert.life.take_if(|life| life.is_over());
            awake += u32::from(alert.life.as_ref().is_some_and(|life| life.is_awake()));
        }
        self.front.busy = awake + u32::from(self.unsettled > 0);
    }

    /// Takes note of the arrival clock: settles what has waited long enough, and in silence lets time go on.
    pub(super) fn wake(
        &mut self,
        rules: &Rules,
        patience: &Patience,
        arrival_ns: TimeNs,
        out: &mut impl FnMut(Said),
    ) {
        if self.unsettled > 0 && self.front.last_arrival_ns.saturating_add(self.slack_ns) <= arrival_ns {
            self.settle(rules, self.newest_ns(), None, out);
            self.bury();
        }
        // Where no alert is awake, time means nothing; and whoever is woken for nothing does not move on.
        let is_silent = self.newest_ns() != TimeNs::MIN && self.silent_at_ns(patience) <= arrival_ns;
        if is_silent && self.front.busy > 0 && self.wake_at_ns(rules, patience) <= arrival_ns {
            self.settle(rules, self.newest_ns().max(arrival_ns), None, out);
        }
        self.age(rules, arrival_ns, out);
        self.bury();
    }

    fn silent_at_ns(&self, patience: &Patience) -> TimeNs {
        self.front.last_arrival_ns.saturating_add(patience.idle_timeout_ns)
    }

    /// When, by the arrival clock, something happens if no value comes; the greatest time there is for never.
    pub(super) fn wake_at_ns(&self, rules: &Rules, patience: &Patience) -> TimeNs {
        let mut wake_ns = TimeNs::MAX;
        if self.unsettled > 0 {
            wake_ns = self.front.last_arrival_ns.saturating_add(self.slack_ns);
        }
        let silent_at_ns = self.silent_at_ns(patience);
        let newest_ns = self.newest_ns();
        for (number, life) in self.alerts().filter(|_| newest_ns != TimeNs::MIN) {
            let Some((life, rule)) = life.zip(rules.get(number)) else { continue };
            let deadline_ns = life.next_deadline(rule);
            let due_ns = match rule.signal {
                Signal::Stale { for_ns } => {
                    // In arrival time, whether it is silent or not.
                    let begins_ns = newest_ns.saturating_add(for_ns).saturating_add(1);
                    deadline_ns.unwrap_or(begins_ns)
                }
                _ => deadline_ns.map_or(TimeNs::MAX, |deadline_ns| deadline_ns.max(silent_at_ns)),
            };
            wake_ns = wake_ns.min(due_ns);
        }
        wake_ns
    }
}
