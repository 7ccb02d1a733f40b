//! What a series keeps to itself of the values that its alerts watch; see [`crate::window::Watcher`].

use super::History;
use crate::pane::{Obs, RAW_LEN_MAX};
use crate::sample::TimeNs;

/// In single precision, so that it stands with the clock in one line of a cache: no value lies in it.
pub(super) const AWAKE: (f32, f32) = (f32::NAN, f32::NAN);

impl History {
    /// Lets its alerts sleep, to whom values up to those of `epoch` were given, unless there were others since.
    pub(crate) fn hush(&mut self, quiet: (f32, f32), epoch: u64) {
        // Epochs that are compared are less than half of what there can be apart.
        if self.watchers > 0 && (epoch as u32).wrapping_sub(self.watched_in) as i32 >= 0 {
            self.quiet = quiet;
        }
    }

    /// Gives alerts each value from now on. None must be owed.
    #[inline]
    pub(crate) fn wake(&mut self, epoch: u64) {
        self.quiet = AWAKE;
        self.watched_in = epoch as u32;
        self.settle();
    }

    /// Whether its alerts sleep and would go on to.
    #[inline]
    pub(crate) fn is_quiet(&self, value: f64) -> bool {
        f64::from(self.quiet.0) <= value && value <= f64::from(self.quiet.1)
    }

    /// Whether an observation will only be put behind the others of the newest pane.
    #[inline]
    pub(crate) fn only_appends(&self, time_ns: TimeNs, floor_ns: TimeNs) -> bool {
        self.follows(time_ns, floor_ns) && self.finest.newest().raw().len() < RAW_LEN_MAX
    }

    /// Whether it was put behind all others.
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

    /// The values that its alerts do not know: those of epochs before this one, and those of it.
    pub(crate) fn owed(&self, epoch: u64) -> (&[Obs], &[Obs]) {
        let raw = self.finest.newest().raw();
        let owed = &raw[raw.len().saturating_sub(self.owed.into())..];
        debug_assert_eq!(owed.len(), usize::from(self.owed), "what is owed is not folded");
        let before = if self.watched_in == epoch as u32 { self.owed_before } else { self.owed };
        owed.split_at(usize::from(before).min(owed.len()))
    }

    /// Owes nothing any more.
    pub(crate) fn settle(&mut self) {
        (self.owed, self.owed_before) = (0, 0);
    }

    /// Whether what is owed stands in a pane that begins before `floor_ns`.
    pub(crate) fn owes_before(&self, floor_ns: TimeNs) -> bool {
        self.owes() && self.finest.newest().start_ns < floor_ns
    }
}
