//! Baselines by time of day and by hour of the week, which prove themselves before they count.
//!
//! Each forecasts a sample before it learns from it. What share of the error without it a forecast takes away, over the
//! last days, is how far it is believed: a series without a season is left as it is.

use serde::{Deserialize, Serialize};

use super::number::{Counts, Floats};
use crate::sample::{SECOND, TimeNs};

const DAY_NS: i64 = 86_400 * SECOND;
const WEEK_NS: i64 = 7 * DAY_NS;
/// Slots of a quarter of an hour.
const DAY_SLOTS: usize = 96;
/// Slots of an hour.
const WEEK_SLOTS: usize = 168;
/// How much of a slot's mean its newest visit makes up.
const VISIT_SHARE: f64 = 0.4;
/// Visits of slots with a forecast, after which its skill is believed in full.
const PROOF_VISITS: f64 = 170.0;
/// Visits over which skill is measured.
const SKILL_VISITS: f64 = 330.0;

/// Both baselines of one series.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Season {
    day: Slots<DAY_SLOTS>,
    /// What the time of day leaves, by hour of the week.
    week: Slots<WEEK_SLOTS>,
    day_skill: Skill,
    week_skill: Skill,
}

/// What the time says about a sample.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Forecast {
    day: Option<f64>,
    week: Option<f64>,
    /// What to take off the sample, so that the season is out of it.
    pub season: f64,
    /// How far that is believed, 0 to 1.
    pub belief: f64,
}

impl Season {
    /// What is expected at a time, of a series with this `level`.
    #[inline]
    pub fn forecast(&self, time_ns: TimeNs, level: f64) -> Forecast {
        let Some(day) = self.day.mean(time_ns, DAY_NS) else { return Forecast::default() };
        let week = self.week.mean(time_ns, WEEK_NS);
        let belief = self.day_skill.belief();
        let of_week = week.map_or(0.0, |week| self.week_skill.belief() * week);
        Forecast { day: Some(day), week, season: belief * (day - level + of_week), belief }
    }

    /// Learns a sample of which `forecast` was made; `interval_ns` is the usual time between two.
    #[inline]
    pub fn learn(&mut self, time_ns: TimeNs, value: f64, level: f64, forecast: &Forecast, interval_ns: f64) {
        let visit = |slots: usize, period_ns: i64| (interval_ns * slots as f64 / period_ns as f64).min(1.0);
        let day_visit = visit(DAY_SLOTS, DAY_NS);
        if let Some(day) = forecast.day {
            let left = value - day;
            self.day_skill.learn(left, value - level, day_visit);
            if let Some(week) = forecast.week {
                self.week_skill.learn(left - week, left, day_visit);
            }
            self.week.learn(time_ns, WEEK_NS, left, visit(WEEK_SLOTS, WEEK_NS));
        }
        self.day.learn(time_ns, DAY_NS, value, day_visit);
    }

    /// Adds `shift` to all values.
    pub fn shift(&mut self, shift: f32) {
        self.day.means.iter_mut().for_each(|mean| *mean += shift);
    }
}

/// Means of a period's parts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Slots<const N: usize> {
    means: Floats<N>,
    /// Samples in each, as far as that matters.
    counts: Counts<N>,
}

impl<const N: usize> Default for Slots<N> {
    fn default() -> Self {
        Slots { means: Floats::filled(0.0), counts: Counts::filled(0) }
    }
}

impl<const N: usize> Slots<N> {
    #[inline]
    fn slot(time_ns: TimeNs, period_ns: i64) -> usize {
        (time_ns.rem_euclid(period_ns) / (period_ns / N as i64)) as usize
    }

    #[inline]
    fn mean(&self, time_ns: TimeNs, period_ns: i64) -> Option<f64> {
        let slot = Self::slot(time_ns, period_ns);
        (self.counts[slot] > 0).then(|| f64::from(self.means[slot]))
    }

    #[inline]
    fn learn(&mut self, time_ns: TimeNs, period_ns: i64, value: f64, visit: f64) {
        let slot = Self::slot(time_ns, period_ns);
        self.counts[slot] = self.counts[slot].saturating_add(1);
        let count = f64::from(self.counts[slot]);
        let mean = f64::from(self.means[slot]);
        self.means[slot] = (mean + (1.0 / count).max(VISIT_SHARE * visit) * (value - mean)) as f32;
    }
}

/// Errors with and without a forecast.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Skill {
    samples: f64,
    visits: f64,
    error: f64,
    error_without: f64,
}

impl Skill {
    #[inline]
    fn belief(&self) -> f64 {
        if self.error_without <= 0.0 {
            return 0.0;
        }
        let skill = 1.0 - self.error / self.error_without;
        skill.max(0.0) * (self.visits / PROOF_VISITS).min(1.0)
    }

    #[inline]
    fn learn(&mut self, error: f64, error_without: f64, visit: f64) {
        self.samples += 1.0;
        self.visits += visit;
        let share = (1.0 / self.samples).max(visit / SKILL_VISITS);
        self.error += share * (error.abs() - self.error);
        self.error_without += share * (error_without.abs() - self.error_without);
    }
}
