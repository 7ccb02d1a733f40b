//! What a series keeps to itself of the values that its alerts watch; see [`crate::window::Watcher`].

use std::borrow::Cow;

use super::History;
use crate::alerts::KEPT_LEN_MAX;
use crate::pane::{Obs, RAW_LEN_MAX};
use crate::sample::TimeNs;
use crate::tier::{WindowPlan, floor_to};

/// In single precision, so that it stands with the clock in one line of a cache: no value lies in it.
pub(super) const AWAKE: (f32, f32) = (f32::NAN, f32::NAN);

/// Observations that are owed at most. As long as that is less than what alerts keep, they would have kept all that they
/// need of them.
const OWED_LEN_MAX: u16 = KEPT_LEN_MAX as u16 - 1;

impl History {
    /// Lets its alerts sleep, to whom values up to those of `epoch` were given, unless there were others since. Says
    /// whether they do.
    pub(crate) fn hush(&mut self, quiet: (f32, f32), epoch: u64) -> bool {
        // Epochs that are compared are less than half of what there can be apart.
        let sleeps = self.watchers > 0 && (epoch as u32).wrapping_sub(self.watched_in) as i32 >= 0;
        if sleeps {
            self.quiet = quiet;
        }
        sleeps
    }

    /// Gives alerts each value from now on. None must be owed.
    #[inline]
    pub(crate) fn wake(&mut self, epoch: u64) {
        debug_assert!(!self.owes(), "alerts know all of it");
        self.quiet = AWAKE;
        self.watched_in = epoch as u32;
    }

    /// Whether its alerts sleep and would go on to.
    #[inline]
    pub(crate) fn is_quiet(&self, value: f64) -> bool {
        f64::from(self.quiet.0) <= value && value <= f64::from(self.quiet.1)
    }

    /// Whether what is owed can still be told when an observation of `epoch` has been put in.
    #[inline]
    pub(crate) fn owes_on(&self, plan: &WindowPlan, time_ns: TimeNs, epoch: u64, floor_ns: TimeNs) -> bool {
        let follows = self.folds_nothing() && self.follows(time_ns, floor_ns);
        (follows || self.lent && self.lends_on(plan, time_ns, epoch, floor_ns)) && self.owed < OWED_LEN_MAX
    }

    /// The same for one that is put elsewhere than in the newest pane, of a series that was lent to.
    pub(crate) fn lends_on(&self, plan: &WindowPlan, time_ns: TimeNs, epoch: u64, floor_ns: TimeNs) -> bool {
        // Panes that grow too old may only have what nobody needs any more, as of the end of the epoch before.
        let rolls = time_ns >= self.roll_at_ns;
        let is_first = self.fresh(epoch) == 0;
        let needed_ns = self.oldest_lent_ns(plan);
        self.is_next(plan, time_ns, floor_ns)
            && (!rolls || is_first && plan.cutoff_ns(0, time_ns) <= needed_ns)
    }

    /// Where the oldest pane may begin that holds something which alerts need and were lent.
    fn oldest_lent_ns(&self, plan: &WindowPlan) -> TimeNs {
        self.newest_ns.saturating_sub(plan.lateness_ns).saturating_sub(plan.tiers[0].width_ns)
    }

    /// How many of the values owed are of `epoch`.
    fn fresh(&self, epoch: u64) -> u16 {
        if self.watched_in == epoch as u32 { self.owed - self.owed_before } else { 0 }
    }

    /// Whether an observation will be the newest, wherever it is put, and nothing is folded for it.
    fn is_next(&self, plan: &WindowPlan, time_ns: TimeNs, floor_ns: TimeNs) -> bool {
        self.folds_nothing()
            && time_ns >= self.newest_ns
            && floor_to(time_ns, plan.tiers[0].width_ns) >= floor_ns
    }

    #[inline]
    fn folds_nothing(&self) -> bool {
        self.finest.newest().raw().len() < RAW_LEN_MAX
    }

    /// Whether an observation was put behind all others.
    #[inline]
    pub(crate) fn is_newest(&self, obs: Obs) -> bool {
        obs.time_ns == self.newest_ns
            && obs.time_ns < self.run_up_to_ns
            && self.finest.newest().raw().last() == Some(&obs)
    }

    /// Whether there are values that its alerts do not know.
    #[inline]
    pub(crate) fn owes(&self) -> bool {
        self.owed > 0
    }

    /// Keeps the newest value to itself, which came with `epoch`.
    #[inline]
    pub(crate) fn owe(&mut self, epoch: u64) {
        if self.watched_in != epoch as u32 {
            self.watched_in = epoch as u32;
            self.owed_before = self.owed;
        }
        self.owed += 1;
    }

    /// The values that its alerts do not know, and how many of them are of epochs before this one. Of those that were lent
    /// the oldest may be gone, which nobody needs.
    pub(crate) fn owed(&self, plan: &WindowPlan, epoch: u64) -> (Cow<'_, [Obs]>, usize) {
        let owed = self.trailing(plan, self.owed.into());
        debug_assert!(self.lent || owed.len() == usize::from(self.owed), "nothing of it is folded");
        let before = owed.len().saturating_sub(self.fresh(epoch).into());
        (owed, before)
    }

    /// Owes nothing any more.
    pub(crate) fn settle(&mut self) {
        (self.owed, self.owed_before, self.lent) = (0, 0, false);
    }

    /// Whether panes that begin before `floor_ns` may hold something of what is owed.
    pub(crate) fn owes_before(&self, plan: &WindowPlan, floor_ns: TimeNs) -> bool {
        let oldest_ns = match self.lent {
            true => self.oldest_lent_ns(plan),
            false => self.finest.newest().start_ns,
        };
        self.owes() && oldest_ns < floor_ns
    }

    /// Whether all that its alerts keep is owed, and they keep nothing.
    #[inline]
    pub(crate) fn is_lent(&self) -> bool {
        self.lent
    }

    /// Whether alerts can do without keeping values of it themselves: it holds them long enough, as they came.
    pub(crate) fn can_be_lent(&self, plan: &WindowPlan) -> bool {
        let needed_ns = plan.lateness_ns.saturating_add(plan.tiers[0].width_ns.saturating_mul(2));
        plan.tiers[0].retention_ns >= needed_ns && self.finest.newest().folded().is_none()
    }

    /// Whether its newest observations are these.
    pub(crate) fn ends_with(&self, plan: &WindowPlan, values: &[(TimeNs, f64)]) -> bool {
        let same = |(obs, (time_ns, value)): (&Obs, &(TimeNs, f64))| {
            obs.time_ns == *time_ns && obs.value.to_bits() == value.to_bits()
        };
        let newest = self.trailing(plan, values.len());
        newest.len() == values.len() && newest.iter().zip(values).all(same)
    }

    /// Owes its newest `len` observations: its alerts have given up what they kept.
    pub(crate) fn lend(&mut self, len: usize) {
        debug_assert!(!self.owes() && len < usize::from(OWED_LEN_MAX));
        self.owed = len as u16;
        self.owed_before = self.owed;
        self.lent = true;
    }

    /// What was lent, and the arrival time of the newest.
    pub(crate) fn lent(&self, plan: &WindowPlan) -> (Cow<'_, [Obs]>, TimeNs) {
        (self.trailing(plan, self.owed.into()), self.last_arrival_ns)
    }

    /// The newest `len` observations, by event time; fewer where panes hold no more of them as they came.
    fn trailing(&self, plan: &WindowPlan, len: usize) -> Cow<'_, [Obs]> {
        self.finest.trailing(plan.tiers[0].width_ns, len)
    }
}
