//! What a history still knows of single observations.

use std::ops::Range;

use super::History;
use crate::pane::{Moments, Obs};
use crate::sample::TimeNs;
use crate::tier::WindowPlan;

/// One observation, or many of which only the fold is known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Observed {
    /// As it came.
    One(Obs),
    /// Observations that were folded together.
    Folded(Moments),
}

impl History {
    /// Calls `found` with what is held of panes that overlap `range` and do not begin before `floor_ns`, in time order.
    pub fn observed(
        &self,
        plan: &WindowPlan,
        range: Range<TimeNs>,
        floor_ns: TimeNs,
        mut found: impl FnMut(Observed),
    ) {
        self.visit(plan, range, floor_ns, |pane| {
            if let Some(folded) = pane.folded() {
                found(Observed::Folded(folded.moments));
            }
            pane.raw().iter().for_each(|obs| found(Observed::One(*obs)));
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pane::RAW_LEN_MAX;
    use crate::sample::SECOND;

    #[test]
    fn what_is_not_folded_is_given_as_it_came() {
        let plan = WindowPlan::default();
        let mut history = History::default();
        let obs = |s: i64| Obs { time_ns: s * SECOND, value: s as f64 };
        // Two panes of a second's distance, then one that has to fold.
        for s in 0..20 {
            history.insert(&plan, obs(s), 1, 0, TimeNs::MIN);
        }
        for at in 0..2 * RAW_LEN_MAX as i64 {
            let dense = Obs { time_ns: 20 * SECOND + at * 1000, value: 7.0 };
            history.insert(&plan, dense, 1, 0, TimeNs::MIN);
        }
        let (mut ones, mut folded) = (Vec::new(), 0);
        history.observed(&plan, 0..TimeNs::MAX, TimeNs::MIN, |seen| match seen {
            Observed::One(obs) => ones.push(obs),
            Observed::Folded(moments) => folded += moments.count,
        });
        assert_eq!(ones[..20], (0..20).map(obs).collect::<Vec<_>>());
        assert!(folded > 0);
        assert_eq!(ones.len() as u64 + folded, 20 + 2 * RAW_LEN_MAX as u64);
        let mut later = 0;
        history.observed(&plan, 12 * SECOND..15 * SECOND, TimeNs::MIN, |_| later += 1);
        assert_eq!(later, 10, "the pane from 10 s to 20 s");
    }
}
