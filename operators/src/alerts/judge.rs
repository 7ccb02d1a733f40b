//! Detectors that judge the values of a source, and the alerts that go by what they think.
//!
//! Values are judged once, when they are settled, and learned by that: what comes later changes nothing of it.

use serde::{Deserialize, Serialize};

use super::Expected;
use super::life::Life;
use super::watched::Said;
use crate::alert::Verdict;
use crate::anomaly::{Detector, Judgement, Method};
use crate::rule::Rule;
use crate::sample::TimeNs;

/// A detector that judges the values of a source for rules that ask it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Judge {
    pub(super) method: Method,
    pub(super) detector: Box<Detector>,
}

impl Judge {
    /// Judges values, and learns them.
    pub(super) fn observe(&mut self, values: &[(TimeNs, f64)]) -> Vec<Judgement> {
        values.iter().map(|(time_ns, value)| self.detector.observe(*time_ns, *value)).collect()
    }
}

/// Steps an alert on by what a detector thinks of values. They were judged when they came, and nothing that comes later
/// changes that.
pub(super) fn judge(
    life: &mut Life,
    (number, rule): (u32, &Rule),
    values: &[(TimeNs, f64)],
    judgements: &[Judgement],
    clock_ns: TimeNs,
    out: &mut impl FnMut(Said),
) {
    for (value, judgement) in values.iter().zip(judgements) {
        let verdict = rule.level.verdict(judgement.score);
        if verdict == Verdict::Breach {
            let Judgement { score, lower, upper, reason, .. } = *judgement;
            life.expected = Some(Expected { score, lower, upper, reason });
        }
        let expected = life.expected;
        let mut say = |transition| out(Said { rule: number, transition, expected });
        life.step(rule, std::slice::from_ref(value), |_, _| verdict, &mut say);
    }
    let expected = life.expected;
    life.advance(rule, clock_ns, &mut |transition| out(Said { rule: number, transition, expected }));
    life.rebase_on_now();
}
