//! The values that a source keeps: how long, and who holds them while nothing happens with it.

use super::super::{Patience, Rules};
use super::{KEPT_LEN_MAX, KEPT_LEN_MIN, Watched, alive};
use crate::pane::Obs;
use crate::sample::TimeNs;

impl Watched {
    /// Takes values that came while it slept, in order; if it lent what it keeps, those stand in front.
    pub(in crate::alerts) fn catch_up(
        &mut self,
        rules: &Rules,
        patience: &Patience,
        arrival_ns: TimeNs,
        values: &[Obs],
    ) {
        let lent = std::mem::take(&mut self.lent);
        let oldest_ns = match values.last() {
            Some(last) if lent => last.time_ns.saturating_sub(patience.lateness_ns),
            _ => TimeNs::MIN,
        };
        let gone = values.partition_point(|obs| obs.time_ns < oldest_ns);
        self.front.kept.reserve(values.len() - gone);
        for obs in &values[gone..] {
            debug_assert!(lent || self.front.is_quiet(*obs), "{obs:?} changes something");
            self.front.keep(arrival_ns, *obs);
            if self.is_long() {
                self.make_room(rules, patience);
            }
        }
    }

    /// Gives up the values it keeps while it sleeps, if `is_held` says that somebody holds them and there is nothing to
    /// tell of them. Says how many they are.
    pub(in crate::alerts) fn lend(
        &mut self,
        rules: &Rules,
        patience: &Patience,
        is_held: impl FnOnce(&[(TimeNs, f64)]) -> bool,
    ) -> Option<usize> {
        let is_idle = self.front.busy == 0 && self.alerts.iter().all(|alert| alert.life.is_none());
        if !is_idle || self.front.kept.is_empty() {
            return None;
        }
        self.trim(rules, patience);
        let len = self.front.kept.len();
        if len >= KEPT_LEN_MAX / 2 || !is_held(&self.front.kept) {
            return None;
        }
        self.front.kept = Vec::new();
        self.lent = true;
        Some(len)
    }

    /// Whether what it keeps is lent.
    pub(in crate::alerts) fn is_lent(&self) -> bool {
        self.lent
    }

    /// Lends what it has just caught up on again; gives the room of it.
    pub(in crate::alerts) fn lend_again(&mut self) -> Vec<(TimeNs, f64)> {
        self.lent = true;
        std::mem::take(&mut self.front.kept)
    }

    /// Brings it into the form that hangs on nothing but what came: how it got there is not to be seen. Gives the entry
    /// of the timers that counts; in that form it is the one there should be.
    pub(in crate::alerts) fn tidy(&mut self, rules: &Rules, patience: &Patience) -> TimeNs {
        self.trim(rules, patience);
        self.bury();
        let armed_ns = self.armed_ns;
        self.armed_ns = self.wake_at_ns(rules, patience);
        armed_ns
    }

    /// Lets go of all values that can't be corrected any more.
    fn trim(&mut self, rules: &Rules, patience: &Patience) {
        let oldest_ns = self.newest_ns().saturating_sub(patience.lateness_ns);
        let gone = self.front.kept.partition_point(|(time_ns, _)| *time_ns < oldest_ns).min(self.settled());
        let base_ns = self.front.kept.get(gone).map_or(oldest_ns, |(time_ns, _)| (*time_ns).min(oldest_ns));
        if gone > 0 || self.alerts.iter().any(|alert| alert.life.is_some()) {
            self.let_go(rules, gone, base_ns);
        }
    }

    /// Whether nothing happens before a value comes that is not quiet, or before one that came already. No timer counts
    /// then.
    pub(in crate::alerts) fn falls_asleep(&mut self, rules: &Rules, patience: &Patience) -> bool {
        if self.front.busy == 0 && self.alerts.iter().any(|alert| alert.life.is_some()) {
            self.trim(rules, patience);
            self.bury();
        }
        let sleeps = !self.is_unwatched()
            && self.front.busy == 0
            && self.front.clock_ns == self.newest_ns()
            && self.wake_at_ns(rules, patience) == TimeNs::MAX;
        if sleeps {
            self.armed_ns = TimeNs::MAX;
        }
        sleeps
    }

    /// Whether to look for values that are not needed any more. Hangs on nothing but their number, so that a source
    /// comes out of a checkpoint as it went in.
    pub(super) fn is_long(&self) -> bool {
        let len = self.front.kept.len();
        len >= KEPT_LEN_MAX || (len >= KEPT_LEN_MIN && len.is_power_of_two())
    }

    /// Lets go of values that can't be corrected any more, if they are at least half; says whether it did.
    #[cold]
    pub(super) fn make_room(&mut self, rules: &Rules, patience: &Patience) -> bool {
        let (newest_ns, settled, kept) = (self.newest_ns(), self.settled(), &self.front.kept);
        let len = kept.len();
        let oldest_ns = newest_ns.saturating_sub(patience.lateness_ns);
        let mut gone = kept.partition_point(|(time_ns, _)| *time_ns < oldest_ns).min(settled);
        if gone < len.div_ceil(2) && len < KEPT_LEN_MAX {
            return false;
        }
        // At the end of what may be kept, each counts: what is given up beyond that is the same however it was kept.
        if gone == 0 {
            gone = len.div_ceil(2).min(settled);
            self.base_ns = self.base_ns.max(kept.get(gone).map_or(newest_ns, |(time_ns, _)| *time_ns));
        }
        let base_ns = kept.get(gone).map_or(oldest_ns, |(time_ns, _)| (*time_ns).min(oldest_ns));
        self.let_go(rules, gone, base_ns);
        gone > 0
    }

    /// Lets go of the oldest values, all before `base_ns`.
    pub(super) fn let_go(&mut self, rules: &Rules, gone: usize, base_ns: TimeNs) {
        for (number, life) in alive(&mut self.alerts) {
            // What a detector judged stays judged: such an alert has no base behind it.
            if let Some(rule) = rules.get(number).filter(|rule| !rule.signal.is_judged()) {
                life.rebase(rule, &self.front.kept[..gone], base_ns);
            }
        }
        self.front.kept.drain(..gone);
    }
}
