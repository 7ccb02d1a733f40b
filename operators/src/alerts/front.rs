//! What most values need to know of their source.

use serde::{Deserialize, Serialize};

use crate::pane::Obs;
use crate::sample::TimeNs;

/// What a quiet value needs of its source: one line of a cache.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[repr(C, align(64))]
pub(super) struct Front {
    /// No value before it is waited for: settled values have passed it, or in silence the arrival clock.
    pub(super) clock_ns: TimeNs,
    /// Arrival time of the newest values.
    pub(super) last_arrival_ns: TimeNs,
    /// Values by event time; of one time in order of arrival. Once there are any, the newest stays.
    pub(super) kept: Vec<(TimeNs, f64)>,
    /// From the first to the second, both included, no alert begins that is not alive.
    pub(super) quiet: (f32, f32),
    /// 0 while nothing waits: no alert is awake, no value unsettled. See [`Front::GATHERING`].
    pub(super) busy: u32,
    /// The epoch that `seen_ns` is of, its lower half.
    #[serde(skip)]
    seen_in: u32,
    /// Newest event time in an epoch whose samples are looked through.
    #[serde(skip)]
    seen_ns: TimeNs,
}

impl Default for Front {
    fn default() -> Front {
        Front {
            clock_ns: TimeNs::MIN,
            last_arrival_ns: TimeNs::MIN,
            kept: Vec::new(),
            quiet: (f32::NEG_INFINITY, f32::INFINITY),
            busy: 0,
            seen_in: 0,
            seen_ns: 0,
        }
    }
}

impl Front {
    /// A value of this epoch waits, so that those behind it wait, too.
    const GATHERING: u32 = 1 << 31;

    /// Reads what a quiet value will need.
    #[inline]
    pub(super) fn touch(&self) -> TimeNs {
        self.clock_ns
    }

    /// Reads where a quiet value will be put.
    #[inline]
    pub(super) fn touch_newest(&self) -> TimeNs {
        self.kept.last().map_or(0, |(time_ns, _)| *time_ns)
    }

    /// Narrows where nothing begins to the values from `from` to `till`.
    pub(super) fn narrow(&mut self, from: f64, till: f64) {
        // In single precision, with the ends moved inwards.
        let (mut least, mut most) = (from as f32, till as f32);
        if f64::from(least) < from {
            least = least.next_up();
        }
        if f64::from(most) > till {
            most = most.next_down();
        }
        self.quiet = (self.quiet.0.max(least), self.quiet.1.min(most));
    }

    /// Whether nothing happens with a value.
    #[inline]
    pub(super) fn is_quiet(&self, obs: Obs) -> bool {
        self.busy == 0 && obs.time_ns >= self.clock_ns && self.is_in_band(obs.value)
    }

    /// Whether no alert begins with a value.
    #[inline]
    pub(super) fn is_in_band(&self, value: f64) -> bool {
        f64::from(self.quiet.0) <= value && value <= f64::from(self.quiet.1)
    }

    /// Takes such a value.
    #[inline]
    pub(super) fn keep(&mut self, arrival_ns: TimeNs, obs: Obs) {
        self.kept.push((obs.time_ns, obs.value));
        self.clock_ns = obs.time_ns;
        self.last_arrival_ns = arrival_ns;
    }

    /// Has values wait until the others of the epoch are there.
    pub(super) fn gather(&mut self) {
        self.busy |= Front::GATHERING;
    }

    /// Looks at a sample of an epoch before any is taken: has those of a source wait for each other if they don't come in
    /// the order of their event times.
    #[inline]
    pub(super) fn look(&mut self, epoch: u32, time_ns: TimeNs) {
        if self.seen_in != epoch {
            (self.seen_in, self.seen_ns) = (epoch, time_ns);
        } else if time_ns < self.seen_ns {
            self.busy |= Front::GATHERING;
        } else {
            self.seen_ns = time_ns;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quiet_value_needs_one_line_of_a_cache() {
        assert_eq!((size_of::<Front>(), align_of::<Front>()), (64, 64));
    }

    #[test]
    fn nothing_that_could_breach_is_quiet() {
        for (from, till) in
            [(f64::NEG_INFINITY, 80.1), (0.1, f64::INFINITY), (-0.3, 0.3), (16_777_217.0, 16_777_217.0)]
        {
            let mut front = Front::default();
            front.narrow(from, till);
            assert!(
                f64::from(front.quiet.0) >= from && f64::from(front.quiet.1) <= till,
                "{:?}",
                front.quiet
            );
        }
    }
}
