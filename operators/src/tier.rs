//! How long panes are held and how wide they are: the plan that every series' history follows.

use crate::sample::{DurationNs, HOUR, MINUTE, SECOND, TimeNs};

/// One tier of panes: those younger than `retention_ns` (and older than the finer tier's) are `width_ns` wide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tier {
    /// Width of its panes.
    pub width_ns: DurationNs,
    /// Age, behind the series' newest event time, up to which it holds panes.
    pub retention_ns: DurationNs,
}

/// What windows are made of and when they are final.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowPlan {
    /// Finest first; widths are multiples of the finer one's, retentions grow.
    pub tiers: Vec<Tier>,
    /// How far behind the series' clock a pane is provisional.
    pub lateness_ns: DurationNs,
    /// How far behind the series' newest event time a sample still changes its pane.
    pub correction_horizon_ns: DurationNs,
    /// Arrival time without a sample after which a series' clock is the arrival clock.
    pub idle_timeout_ns: DurationNs,
}

impl Default for WindowPlan {
    fn default() -> Self {
        WindowPlan {
            tiers: vec![
                Tier { width_ns: 10 * SECOND, retention_ns: HOUR },
                Tier { width_ns: MINUTE, retention_ns: 12 * HOUR },
            ],
            lateness_ns: 30 * SECOND,
            correction_horizon_ns: 12 * HOUR,
            idle_timeout_ns: 30 * SECOND,
        }
    }
}

impl WindowPlan {
    /// Checks what the panes rely on; the error names the first thing wrong.
    pub fn check(&self) -> Result<(), String> {
        let Some(first) = self.tiers.first() else {
            return Err("expected at least one tier, found none".into());
        };
        if first.width_ns <= 0 {
            return Err("expected a pane width above zero".into());
        }
        for pair in self.tiers.windows(2) {
            let (fine, coarse) = (pair[0], pair[1]);
            if coarse.width_ns <= fine.width_ns || coarse.width_ns % fine.width_ns != 0 {
                return Err(format!(
                    "expected the width of a coarser tier to be a multiple of {} s, found {} s",
                    fine.width_ns / SECOND,
                    coarse.width_ns / SECOND
                ));
            }
            if coarse.retention_ns <= fine.retention_ns {
                return Err("expected a coarser tier to be held longer than the finer one".into());
            }
        }
        if self.tiers.iter().any(|tier| tier.retention_ns < tier.width_ns) {
            return Err("expected every tier to be held at least as long as its panes are wide".into());
        }
        if self.lateness_ns < 0 || self.correction_horizon_ns < 0 || self.idle_timeout_ns <= 0 {
            return Err(
                "expected lateness and horizons of at least zero and an idle time-out above it".into()
            );
        }
        Ok(())
    }

    /// Start of tier `at` when the newest event time is `newest_ns`: panes of that tier that begin earlier
    /// belong to the next one, or to none. A multiple of the next tier's width.
    pub fn cutoff_ns(&self, at: usize, newest_ns: TimeNs) -> TimeNs {
        let align_ns = self.tiers.get(at + 1).map_or(self.tiers[at].width_ns, |next| next.width_ns);
        floor_to(newest_ns.saturating_sub(self.tiers[at].retention_ns), align_ns)
    }

    /// Start of the pane of width `width_ns` that `time_ns` falls into.
    pub fn pane_start_ns(time_ns: TimeNs, width_ns: DurationNs) -> TimeNs {
        floor_to(time_ns, width_ns)
    }

    /// How long anything is held.
    pub fn retention_ns(&self) -> DurationNs {
        self.tiers.last().map_or(0, |tier| tier.retention_ns)
    }
}

/// The largest multiple of `width_ns` that is not above `time_ns`; before the first multiple there is, that one.
/// So what it gives is a multiple always, and no two panes overlap even at the beginning of time.
pub fn floor_to(time_ns: TimeNs, width_ns: DurationNs) -> TimeNs {
    let over_ns = time_ns.rem_euclid(width_ns);
    time_ns.checked_sub(over_ns).unwrap_or_else(|| time_ns + (width_ns - over_ns))
}

/// A series' own clock (law 4): the newest event time seen, or the arrival clock when it has been silent.
pub fn series_clock_ns(
    newest_ns: TimeNs,
    last_arrival_ns: TimeNs,
    arrival_ns: TimeNs,
    idle_ns: DurationNs,
) -> TimeNs {
    if arrival_ns.saturating_sub(last_arrival_ns) >= idle_ns { newest_ns.max(arrival_ns) } else { newest_ns }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floors_below_zero_too() {
        for (time, width, start) in [
            (0, 10, 0),
            (9, 10, 0),
            (10, 10, 10),
            (-1, 10, -10),
            (-10, 10, -10),
            // The range ends with ...807 and begins with ...808.
            (TimeNs::MAX, 10, TimeNs::MAX - 7),
            (TimeNs::MIN + 8, 10, TimeNs::MIN + 8),
            (TimeNs::MIN + 7, 10, TimeNs::MIN + 8),
            (TimeNs::MIN, 10, TimeNs::MIN + 8),
            (TimeNs::MIN, 8, TimeNs::MIN),
            (TimeNs::MIN, TimeNs::MAX, -TimeNs::MAX),
            (-1, TimeNs::MAX, -TimeNs::MAX),
        ] {
            assert_eq!(floor_to(time, width), start, "{time} by {width}");
        }
    }

    #[test]
    fn plans_that_panes_can_not_keep_are_refused() {
        let tier = |w: i64, r: i64| Tier { width_ns: w * SECOND, retention_ns: r * SECOND };
        for (tiers, good) in [
            (vec![tier(10, 3600), tier(60, 7200)], true),
            (vec![], false),
            (vec![tier(0, 10)], false),
            (vec![tier(10, 3600), tier(25, 7200)], false),
            (vec![tier(10, 3600), tier(60, 3600)], false),
            (vec![tier(10, 5)], false),
        ] {
            let plan = WindowPlan { tiers, ..WindowPlan::default() };
            assert_eq!(plan.check().is_ok(), good, "{plan:?}");
        }
    }

    #[test]
    fn a_silent_series_goes_by_the_arrival_clock() {
        assert_eq!(series_clock_ns(100, 0, 29, 30), 100);
        assert_eq!(series_clock_ns(100, 0, 130, 30), 130);
        assert_eq!(series_clock_ns(100, 0, 31, 30), 100);
    }
}
