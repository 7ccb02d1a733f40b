//! One alert of one source, while there is anything to know of it: its machine, and what was told of it.

use serde::{Deserialize, Serialize};

use super::Expected;
use crate::alert::{Kind, Machine, Timing, Transition, Verdict};
use crate::rule::{Rule, Signal};
use crate::sample::{DurationNs, SECOND, TimeNs};

/// What an alert knows when it has seen some values.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    machine: Machine,
    /// Event time of the newest value, of a rule about absence; the least time there is while none came.
    seen_ns: TimeNs,
}

impl Default for State {
    fn default() -> State {
        State { machine: Machine::new(), seen_ns: TimeNs::MIN }
    }
}

/// A rule about absence judges times between values: none grows stale.
fn without_staleness(timing: Timing) -> Timing {
    Timing { stale_ns: DurationNs::MAX, ..timing }
}

fn seconds(ns: DurationNs) -> f64 {
    ns as f64 / SECOND as f64
}

impl State {
    /// Takes the next value; `verdict` is what the rule says of it, where it judges values.
    pub(super) fn value(
        &mut self,
        rule: &Rule,
        (time_ns, value): (TimeNs, f64),
        verdict: Verdict,
        out: &mut impl FnMut(Transition),
    ) {
        match rule.signal {
            Signal::Absent { for_ns } => {
                let timing = without_staleness(rule.timing);
                self.absence(timing, for_ns, time_ns, out);
                let gap_ns =
                    time_ns.saturating_sub(self.seen_ns.max(time_ns.saturating_sub(DurationNs::MAX)));
                self.machine.sample(timing, time_ns, Verdict::Quiet, seconds(gap_ns), out);
                self.seen_ns = self.seen_ns.max(time_ns);
            }
            Signal::Stale { .. } => {}
            _ => self.machine.sample(rule.timing, time_ns, verdict, value, out),
        }
    }

    /// No value before `clock_ns` will come.
    pub(super) fn advance(&mut self, rule: &Rule, clock_ns: TimeNs, out: &mut impl FnMut(Transition)) {
        match rule.signal {
            Signal::Absent { for_ns } => {
                let timing = without_staleness(rule.timing);
                self.absence(timing, for_ns, clock_ns, out);
                self.machine.advance(timing, clock_ns, out);
            }
            Signal::Stale { .. } => {}
            _ => self.machine.advance(rule.timing, clock_ns, out),
        }
    }

    /// Begins an absence if no value came for longer than `for_ns` before `clock_ns`.
    fn absence(
        &mut self,
        timing: Timing,
        for_ns: DurationNs,
        clock_ns: TimeNs,
        out: &mut impl FnMut(Transition),
    ) {
        let begins_ns = self.seen_ns.saturating_add(for_ns);
        // Begun already, or there was no value to be missed.
        let begun = self.machine.last_ns().is_some_and(|last_ns| last_ns >= begins_ns);
        if self.seen_ns != TimeNs::MIN && begins_ns < clock_ns && !begun {
            self.machine.sample(timing, begins_ns, Verdict::Breach, seconds(for_ns), out);
        }
    }

    /// Compares the newest event time with the arrival clock, of a rule about staleness.
    pub(super) fn age(
        &mut self,
        rule: &Rule,
        newest_ns: TimeNs,
        arrival_ns: TimeNs,
        out: &mut impl FnMut(Transition),
    ) {
        let Signal::Stale { for_ns } = rule.signal else { return };
        let timing = without_staleness(rule.timing);
        let begins_ns = newest_ns.saturating_add(for_ns);
        if begins_ns < arrival_ns {
            if self.machine.since_ns().is_none() {
                self.machine.sample(timing, begins_ns, Verdict::Breach, seconds(for_ns), out);
            }
            self.machine.advance(timing, arrival_ns, out);
        } else {
            let age_ns = arrival_ns.saturating_sub(newest_ns);
            self.machine.sample(timing, arrival_ns, Verdict::Quiet, seconds(age_ns), out);
        }
    }

    /// The smallest clock that has something to say if no value comes.
    pub(super) fn next_deadline(&self, rule: &Rule) -> Option<TimeNs> {
        match rule.signal {
            Signal::Absent { for_ns } => {
                let own = self.machine.next_deadline(without_staleness(rule.timing));
                let begins_ns = self.seen_ns.saturating_add(for_ns);
                let begun = self.machine.last_ns().is_some_and(|last_ns| last_ns >= begins_ns);
                let begins =
                    (self.seen_ns != TimeNs::MIN && !begun).then(|| begins_ns.checked_add(1)).flatten();
                own.into_iter().chain(begins).min()
            }
            Signal::Stale { .. } => self.machine.next_deadline(without_staleness(rule.timing)),
            _ => self.machine.next_deadline(rule.timing),
        }
    }

    fn open(&self) -> Option<Occurrence> {
        let (since_ns, fired_ns) = (self.machine.since_ns()?, self.machine.fired_ns()?);
        let value = self.machine.value().unwrap_or(0.0);
        Some(Occurrence { since_ns, fired_ns, value, end: None, is_past: false })
    }

    pub(super) fn machine(&self) -> &Machine {
        &self.machine
    }
}

/// A firing that was told.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Occurrence {
    since_ns: TimeNs,
    fired_ns: TimeNs,
    /// The value that it was told with when it fired.
    value: f64,
    /// When it ended, and whether in silence.
    end: Option<(TimeNs, bool)>,
    /// Whether nobody was told, since it was over when its rule began to watch.
    is_past: bool,
}

/// The alert of one rule on one source.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Life {
    /// In front of the oldest value kept.
    base: State,
    /// Behind all settled values.
    now: State,
    /// Firings told and not taken back, by start, of which corrections may still speak.
    told: Vec<Occurrence>,
    /// The value of the last transition: what people see of the alert, before and after a restart.
    pub(super) said: f64,
    /// What a detector thought of the newest value that breached.
    pub(super) expected: Option<Expected>,
    /// Whether its rule has something to remember of every value.
    lasts: bool,
}

impl Life {
    /// Of which nothing is known.
    pub(super) fn new(rule: &Rule) -> Life {
        let lasts = !matches!(rule.signal, Signal::Sample | Signal::Window(_));
        Life { lasts, ..Life::default() }
    }

    /// The machine, as it is now.
    pub(super) fn machine(&self) -> &Machine {
        self.now.machine()
    }

    /// Whether there is nothing to know: no value kept would come out otherwise without it.
    pub(super) fn is_over(&self) -> bool {
        !self.lasts
            && self.told.is_empty()
            && *self.now.machine() == Machine::Inactive
            && *self.base.machine() == Machine::Inactive
    }

    /// Whether a value that does not breach, or the clock, may change it.
    pub(super) fn is_awake(&self) -> bool {
        self.lasts || *self.now.machine() != Machine::Inactive
    }

    /// See [`State::next_deadline`].
    pub(super) fn next_deadline(&self, rule: &Rule) -> Option<TimeNs> {
        self.now.next_deadline(rule)
    }

    /// Steps on by values that are next.
    pub(super) fn step(
        &mut self,
        rule: &Rule,
        values: &[(TimeNs, f64)],
        verdict: impl Fn(usize, f64) -> Verdict,
        out: &mut impl FnMut(Transition),
    ) {
        let Life { now, told, said, .. } = self;
        let mut say = |transition| tell(told, said, transition, out);
        for (at, value) in values.iter().enumerate() {
            now.value(rule, *value, verdict(at, value.1), &mut say);
        }
    }

    /// Steps on by the clock.
    pub(super) fn advance(&mut self, rule: &Rule, clock_ns: TimeNs, out: &mut impl FnMut(Transition)) {
        let Life { now, told, said, .. } = self;
        now.advance(rule, clock_ns, &mut |transition| tell(told, said, transition, out));
    }

    /// See [`State::age`].
    pub(super) fn age(
        &mut self,
        rule: &Rule,
        newest_ns: TimeNs,
        arrival_ns: TimeNs,
        out: &mut impl FnMut(Transition),
    ) {
        let Life { now, told, said, base, .. } = self;
        now.age(rule, newest_ns, arrival_ns, &mut |transition| tell(told, said, transition, out));
        // Nothing of it is ever corrected.
        *base = *now;
        told.retain(|told| told.end.is_none());
    }

    /// Steps from the base again through the values kept that are settled, up to `clock_ns`, and tells what is
    /// otherwise than was told.
    pub(super) fn correct(
        &mut self,
        rule: &Rule,
        settled: &[(TimeNs, f64)],
        clock_ns: TimeNs,
        decided_by_ns: TimeNs,
        out: &mut impl FnMut(Transition),
    ) {
        let before = *self.now.machine();
        let (now, fresh) = self.again(rule, settled, clock_ns);
        self.now = now;
        let (told, said) = (std::mem::take(&mut self.told), self.said);
        let mut say = |transition: Transition| {
            self.said = transition.value;
            out(Transition { decided_by_ns, ..transition });
        };
        // In this order, the last that is said is what holds.
        cancel(&before, now.machine(), &fresh, &mut say);
        let told = differences(&told, &fresh, said, &mut say);
        begin_pending(&before, now.machine(), &mut say);
        self.told = told;
    }

    /// As [`Self::correct`], for an alert of which nothing was told: says what holds now, not what is over.
    pub(super) fn begin(
        &mut self,
        rule: &Rule,
        settled: &[(TimeNs, f64)],
        clock_ns: TimeNs,
        out: &mut impl FnMut(Transition),
    ) {
        let (now, fresh) = self.again(rule, settled, clock_ns);
        self.now = now;
        let mut say = |transition: Transition| {
            self.said = transition.value;
            out(Transition { decided_by_ns: clock_ns, ..transition });
        };
        let past = fresh.iter().map(|(occurrence, _)| *occurrence).filter(|past| past.end.is_some());
        let past: Vec<_> = past.map(|past| Occurrence { is_past: true, ..past }).collect();
        self.told = differences(&past, &fresh, 0.0, &mut say);
        begin_pending(&Machine::Inactive, now.machine(), &mut say);
    }

    /// The state behind `settled` and `clock_ns`, and the firings up to there with the values that ended them.
    fn again(
        &self,
        rule: &Rule,
        settled: &[(TimeNs, f64)],
        clock_ns: TimeNs,
    ) -> (State, Vec<(Occurrence, f64)>) {
        let mut now = self.base;
        let mut fresh: Vec<(Occurrence, f64)> =
            now.open().map(|open| (open, open.value)).into_iter().collect();
        let mut note = |transition: Transition| match transition.kind {
            Kind::Firing => {
                let Transition { since_ns, at_ns, value, .. } = transition;
                let occurrence = Occurrence { since_ns, fired_ns: at_ns, value, end: None, is_past: false };
                fresh.push((occurrence, value));
            }
            Kind::Resolved { no_data } => {
                if let Some((last, ended)) = fresh.last_mut() {
                    last.end = Some((transition.at_ns, no_data));
                    *ended = transition.value;
                }
            }
            Kind::Pending | Kind::Cancelled | Kind::Retracted => {}
        };
        for value in settled {
            now.value(rule, *value, rule.level.verdict(value.1), &mut note);
        }
        now.advance(rule, clock_ns, &mut note);
        (now, fresh)
    }

    /// Lets go of the oldest values kept, `gone`, all before `base_ns`: what they made of the alert stays as it is.
    pub(super) fn rebase(&mut self, rule: &Rule, gone: &[(TimeNs, f64)], base_ns: TimeNs) {
        for value in gone {
            self.base.value(rule, *value, rule.level.verdict(value.1), &mut |_| {});
        }
        self.base.advance(rule, base_ns, &mut |_| {});
        self.told.retain(|told| told.end.is_none_or(|(end_ns, _)| end_ns >= base_ns));
    }

    /// Lets go of all values kept, of a rule whose judgements are made once.
    pub(super) fn rebase_on_now(&mut self) {
        self.base = self.now;
        self.told.retain(|told| told.end.is_none());
    }

    /// Its rule is gone, and with it the reason of what it says.
    pub(super) fn retract(&self, clock_ns: TimeNs, out: &mut impl FnMut(Transition)) {
        let value = self.now.machine().value().unwrap_or(self.said);
        for occurrence in self.told.iter().filter(|told| told.end.is_none()) {
            out(retraction(occurrence, value, clock_ns));
        }
        let mut say = |transition| out(Transition { decided_by_ns: clock_ns, ..transition });
        cancel(self.now.machine(), &Machine::Inactive, &[], &mut say);
    }
}

/// Notes what a machine says, and passes it on.
fn tell(
    told: &mut Vec<Occurrence>,
    said: &mut f64,
    transition: Transition,
    out: &mut impl FnMut(Transition),
) {
    match transition.kind {
        Kind::Firing => {
            let Transition { since_ns, at_ns, value, .. } = transition;
            told.push(Occurrence { since_ns, fired_ns: at_ns, value, end: None, is_past: false });
        }
        Kind::Resolved { no_data } => {
            if let Some(last) = told.last_mut() {
                last.end = Some((transition.at_ns, no_data));
            }
        }
        Kind::Pending | Kind::Cancelled | Kind::Retracted => {}
    }
    *said = transition.value;
    out(transition);
}

fn retraction(occurrence: &Occurrence, value: f64, decided_by_ns: TimeNs) -> Transition {
    let Occurrence { since_ns, fired_ns, .. } = *occurrence;
    Transition { kind: Kind::Retracted, at_ns: fired_ns, since_ns, value, decided_by_ns }
}

/// Says how the firings `fresh` differ from those told: those that have no reason any more are retracted first, then
/// each that is new, or ended otherwise, in the order of time. Both are in that order. `said` is the value told last. Gives what is told then.
fn differences(
    told: &[Occurrence],
    fresh: &[(Occurrence, f64)],
    said: f64,
    say: &mut impl FnMut(Transition),
) -> Vec<Occurrence> {
    let key = |occurrence: &Occurrence| (occurrence.since_ns, occurrence.fired_ns);
    let mut known = told.iter().peekable();
    let mut pairs = Vec::with_capacity(fresh.len());
    let mut gone = Vec::new();
    for (occurrence, ended) in fresh {
        while let Some(before) = known.next_if(|before| key(before) < key(occurrence)) {
            gone.push(before);
        }
        pairs.push((occurrence, *ended, known.next_if(|before| key(before) == key(occurrence))));
    }
    let gone = gone.into_iter().chain(known).filter(|gone| !gone.is_past);
    gone.for_each(|gone| say(retraction(gone, said, 0)));
    let mut now_told = Vec::with_capacity(fresh.len());
    for (occurrence, ended, before) in pairs {
        let Occurrence { since_ns, fired_ns, end, .. } = *occurrence;
        let is_past = end.is_some() && before.is_some_and(|before| before.is_past);
        // As it was told: where the values kept begin is not to be seen.
        let value = before.map_or(occurrence.value, |before| before.value);
        now_told.push(Occurrence { is_past, value, ..*occurrence });
        if is_past {
            continue;
        }
        let transition = |kind, at_ns, value| Transition { kind, at_ns, since_ns, value, decided_by_ns: 0 };
        let known_end = before.map(|before| before.end);
        // New, or one that was said to have ended and goes on.
        if known_end.is_none() || (end.is_none() && known_end != Some(None)) {
            say(transition(Kind::Firing, fired_ns, value));
        }
        if let Some((end_ns, no_data)) = end.filter(|_| known_end != Some(end)) {
            say(transition(Kind::Resolved { no_data }, end_ns, ended));
        }
    }
    now_told
}

/// Event time and value of the breach that is pending.
fn pending(machine: &Machine) -> Option<(TimeNs, f64)> {
    match *machine {
        Machine::Pending { since_ns, value, .. } => Some((since_ns, value)),
        _ => None,
    }
}

/// Says that what was pending is not, unless it is still, or fired meanwhile.
fn cancel(before: &Machine, now: &Machine, fresh: &[(Occurrence, f64)], say: &mut impl FnMut(Transition)) {
    if let Some((since_ns, value)) = pending(before)
        && now.since_ns() != Some(since_ns)
        && fresh.iter().all(|(fired, _)| fired.since_ns != since_ns)
    {
        say(Transition { kind: Kind::Cancelled, at_ns: since_ns, since_ns, value, decided_by_ns: 0 });
    }
}

/// Says what is pending now, if it was not.
fn begin_pending(before: &Machine, now: &Machine, say: &mut impl FnMut(Transition)) {
    if let Some((since_ns, value)) = pending(now)
        && pending(before).is_none_or(|(was_ns, _)| was_ns != since_ns)
    {
        say(Transition { kind: Kind::Pending, at_ns: since_ns, since_ns, value, decided_by_ns: 0 });
    }
}
