//! What was said of alerts -> alerts, each with its start, firing and end, as they are known in the end.

use std::collections::HashMap;

use operators::alert::Kind;
use operators::alerts::Expected;
use operators::sample::TimeNs;
use operators::series::SeriesKey;

use super::trial::Said;

/// One breach of one rule on one series or group.
#[derive(Clone, Debug, PartialEq)]
pub struct Breach {
    /// Place of the rule.
    pub rule: usize,
    /// The series, or what a group of them shares.
    pub key: SeriesKey,
    /// When it began, event time.
    pub since_ns: TimeNs,
    /// When it fired, if it did.
    pub fired_ns: Option<TimeNs>,
    /// When it ended, if it has.
    pub ended_ns: Option<TimeNs>,
    /// Whether it ended in silence.
    pub no_data: bool,
    /// Whether a late sample took its reason away after it had fired.
    pub retracted: bool,
    /// What a detector thought of it, when that was last said.
    pub expected: Option<Expected>,
    /// Values as they were said, with the moments from which on they are.
    pub values: Vec<(TimeNs, f64)>,
}

/// How a breach is at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It waits for its duration.
    Pending,
    /// It fires.
    Firing,
}

impl State {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            State::Pending => "pending",
            State::Firing => "firing",
        }
    }
}

impl Breach {
    /// How it is at `at_ns`, if it is.
    pub fn state(&self, at_ns: TimeNs) -> Option<State> {
        let over = self.ended_ns.is_some_and(|ended_ns| ended_ns <= at_ns);
        if self.retracted || over || self.since_ns > at_ns {
            return None;
        }
        Some(match self.fired_ns {
            Some(fired_ns) if fired_ns <= at_ns => State::Firing,
            _ => State::Pending,
        })
    }

    /// The value that was said last of moments up to `at_ns`.
    pub fn value(&self, at_ns: TimeNs) -> f64 {
        let said = self.values.iter().rev().find(|(from_ns, _)| *from_ns <= at_ns);
        said.or(self.values.first()).map_or(0.0, |(_, value)| *value)
    }
}

/// The breaches, by their start, then rule and series. What is said later of one stands above what was said before.
pub fn breaches(said: &[Said]) -> Vec<Breach> {
    let mut found: Vec<Breach> = Vec::new();
    let mut places: HashMap<(usize, &SeriesKey, TimeNs), usize> = HashMap::new();
    for Said { rule, key, transition, expected, .. } in said {
        let place = *places.entry((*rule, key, transition.since_ns)).or_insert_with(|| {
            found.push(Breach {
                rule: *rule,
                key: key.clone(),
                since_ns: transition.since_ns,
                fired_ns: None,
                ended_ns: None,
                no_data: false,
                retracted: false,
                expected: None,
                values: Vec::new(),
            });
            found.len() - 1
        });
        let breach = &mut found[place];
        breach.expected = *expected;
        breach.values.retain(|(from_ns, _)| *from_ns < transition.at_ns);
        breach.values.push((transition.at_ns, transition.value));
        match transition.kind {
            Kind::Pending => (breach.ended_ns, breach.retracted) = (None, false),
            Kind::Firing => {
                (breach.fired_ns, breach.ended_ns, breach.retracted) = (Some(transition.at_ns), None, false);
            }
            Kind::Cancelled => breach.ended_ns = Some(transition.at_ns),
            Kind::Resolved { no_data } => {
                (breach.ended_ns, breach.no_data) = (Some(transition.at_ns), no_data)
            }
            Kind::Retracted => breach.retracted = true,
        }
    }
    found.sort_by(|a, b| (a.since_ns, a.rule, &a.key).cmp(&(b.since_ns, b.rule, &b.key)));
    found
}

/// The same of what was, or began, from `from_ns` until `until_ns`, as it stood then.
pub fn breaches_within(said: &[Said], from_ns: TimeNs, until_ns: TimeNs) -> Vec<Breach> {
    let mut found = breaches(said);
    for breach in &mut found {
        breach.ended_ns = breach.ended_ns.filter(|ended_ns| *ended_ns <= until_ns);
        breach.fired_ns = breach.fired_ns.filter(|fired_ns| *fired_ns <= until_ns);
    }
    found.retain(|breach| breach.ended_ns.is_none_or(|ended_ns| ended_ns >= from_ns));
    found
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use operators::alert::Transition;
    use operators::series::Target;

    #[test]
    fn what_is_said_later_stands_above() {
        let key = SeriesKey { target: Arc::new(Target::new("s", [])), metric: "m".into() };
        let said = |kind, at_ns, since_ns, value| Said {
            arrival_ns: at_ns,
            rule: 0,
            key: key.clone(),
            transition: Transition { kind, at_ns, since_ns, value, decided_by_ns: at_ns },
            expected: None,
        };
        let found = breaches(&[
            said(Kind::Pending, 10, 10, 1.0),
            said(Kind::Firing, 40, 10, 2.0),
            said(Kind::Resolved { no_data: true }, 90, 10, 3.0),
            said(Kind::Retracted, 40, 10, 2.0),
            said(Kind::Firing, 60, 30, 4.0),
            said(Kind::Pending, 95, 95, 5.0),
            said(Kind::Cancelled, 97, 95, 6.0),
        ]);
        let shown: Vec<_> = found.iter().map(|b| (b.since_ns, b.fired_ns, b.ended_ns, b.retracted)).collect();
        let expected =
            [(10, Some(40), Some(90), true), (30, Some(60), None, false), (95, None, Some(97), false)];
        assert_eq!(shown, expected);
        let states = |at: usize, moments: &[TimeNs]| -> Vec<Option<State>> {
            moments.iter().map(|at_ns| found[at].state(*at_ns)).collect()
        };
        assert_eq!(states(0, &[50]), [None]);
        assert_eq!(
            states(1, &[29, 30, 59, 60, 1000]),
            [None, Some(State::Pending), Some(State::Pending), Some(State::Firing), Some(State::Firing)]
        );
        assert_eq!(states(2, &[95, 96, 97]), [Some(State::Pending), Some(State::Pending), None]);
        assert_eq!([found[2].value(95), found[2].value(97), found[1].value(0)], [5.0, 6.0, 4.0]);
    }
}
