//! Event times of folded observations, so that a sample that is sent again is recognised behind the fold too.
//!
//! Kept only for series that had samples of a format which gives a series one value a time, the newest
//! [`TIMES_LEN_MAX`] of a pane at most. Of what is older nothing is known.

use crate::sample::TimeNs;

/// Times that the fold of one pane keeps: with them a pane is exact for 1,024 observations and those it holds raw.
pub const TIMES_LEN_MAX: usize = 1024;

/// Whether something was seen before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It was not.
    No,
    /// It was.
    Yes,
    /// Nobody knows any more.
    Unsure,
}

/// The times of a fold from `known_ns` on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Times {
    /// Of observations before it nothing is known.
    pub(super) known_ns: TimeNs,
    /// Ascending. Of one time there may be several.
    pub(super) sorted: Vec<TimeNs>,
}

impl Times {
    /// Those of an empty fold.
    pub(super) fn new() -> Times {
        Times { known_ns: TimeNs::MIN, sorted: Vec::new() }
    }

    /// Those of a fold of which nothing is known, with `last_ns` the time of its last observation.
    pub(super) fn after(last_ns: TimeNs) -> Times {
        Times { known_ns: last_ns.saturating_add(1), sorted: Vec::new() }
    }

    /// Adds times that are ascending and not before those there are.
    pub(super) fn extend(&mut self, later: impl Iterator<Item = TimeNs>) {
        self.sorted.extend(later);
        self.forget_the_oldest();
    }

    /// Adds the time of a straggler.
    pub(super) fn insert(&mut self, time_ns: TimeNs) {
        if time_ns >= self.known_ns {
            let at = self.sorted.partition_point(|held| *held <= time_ns);
            self.sorted.insert(at, time_ns);
            self.forget_the_oldest();
        }
    }

    /// Appends the times of a fold that lies after this one, whose last observation was at `last_ns`.
    pub(super) fn append(&mut self, later: Option<Times>, last_ns: TimeNs) {
        match later {
            None => *self = Times::after(last_ns),
            Some(later) if later.known_ns > TimeNs::MIN => *self = later,
            Some(later) => self.extend(later.sorted.into_iter()),
        }
    }

    /// Whether an observation of the fold was at `time_ns`.
    pub(super) fn seen(&self, time_ns: TimeNs) -> Seen {
        match self.sorted.binary_search(&time_ns) {
            Ok(_) => Seen::Yes,
            Err(_) if time_ns >= self.known_ns => Seen::No,
            Err(_) => Seen::Unsure,
        }
    }

    /// Bytes held, the times themselves included.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Times>() + self.sorted.capacity() * size_of::<TimeNs>()
    }

    fn forget_the_oldest(&mut self) {
        // Half of them at once: each time is moved once or twice in all.
        if self.sorted.len() > TIMES_LEN_MAX {
            let spare = self.sorted.len() - TIMES_LEN_MAX / 2;
            self.known_ns = self.sorted[spare - 1].saturating_add(1);
            self.sorted.drain(..spare);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_known_and_of_the_others_nothing() {
        let mut times = Times::new();
        let all = 3 * TIMES_LEN_MAX as i64;
        for at in 0..all {
            times.extend([2 * at].into_iter());
            assert!(times.sorted.len() <= TIMES_LEN_MAX);
        }
        assert!(times.bytes() <= size_of::<Times>() + 2 * 8 * TIMES_LEN_MAX);
        let newest = 2 * (all - TIMES_LEN_MAX as i64 / 2);
        for (time_ns, expected) in [
            (0, Seen::Unsure),
            (1, Seen::Unsure),
            (newest, Seen::Yes),
            (newest + 1, Seen::No),
            (2 * all - 2, Seen::Yes),
            (2 * all, Seen::No),
        ] {
            assert_eq!(times.seen(time_ns), expected, "{time_ns}");
        }
        times.insert(newest + 1);
        times.insert(1);
        assert_eq!((times.seen(newest + 1), times.seen(1)), (Seen::Yes, Seen::Unsure));
    }

    #[test]
    fn what_lies_before_something_unknown_is_not_kept() {
        let with = |known_ns, sorted: &[TimeNs]| Times { known_ns, sorted: sorted.to_vec() };
        let least = TimeNs::MIN;
        for (later, expected) in [
            (None, with(21, &[])),
            (Some(with(15, &[16, 20])), with(15, &[16, 20])),
            (Some(with(least, &[16, 20])), with(3, &[5, 7, 16, 20])),
        ] {
            let mut times = with(3, &[5, 7]);
            times.append(later, 20);
            assert_eq!(times, expected);
        }
    }
}
