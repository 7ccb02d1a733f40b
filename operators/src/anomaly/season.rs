//! Baselines by time of day and by hour of the week, which prove themselves before they count.
//!
//! Each forecasts a sample before it learns from it. What share of the error without it a forecast takes away, over the
//! last days, is how far it is believed: a series without a season is left as it is.

use serde::{Deserialize, Serialize};

use super::number::{Counts, Floats};
use super::statistics::limited;
use crate::sample::{SECOND, TimeNs};

const DAY_NS: i64 = 86_400 * SECOND;
const WEEK_NS: i64 = 7 * DAY_NS;
/// Slots of a quarter of an hour.
const DAY_SLOTS: usize = 96;
/// Slots of an hour.
const WEEK_SLOTS: usize = 168;
/// How much of a slot's mean its newest visit makes up.
const VISIT_SHARE: f64 = 0.3;
/// Visits of slots with a forecast, after which its skill is believed in full.
const PROOF_VISITS: f64 = 170.0;
/// Visits over which skill is measured.
const SKILL_VISITS: f64 = 330.0;

/// Both baselines of one series.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Season {
    day: Slots<DAY_SLOTS, DAY_NS>,
    /// What the time of day leaves, by hour of the week.
    week: Slots<WEEK_SLOTS, WEEK_NS>,
    day_skill: Skill,
    /// Of both together.
    week_skill: Skill,
    /// How far both are believed, as of the last slot's end.
    by_day: f64,
    by_week: f64,
}

/// At what pace is learned.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// The usual time between two samples.
    pub interval_ns: f64,
    /// How far off a sample is taken to be at most.
    pub reach: f64,
}

/// What the time says about a sample.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Forecast {
    /// Of the day and of the week.
    slots: (usize, usize),
    day: Option<f64>,
    week: Option<f64>,
    /// What to take off the sample, so that the season is out of it.
    pub season: f64,
    /// How far that is believed, 0 to 1.
    pub belief: f64,
}

impl Season {
    pub const HEAP_BYTES: usize = (DAY_SLOTS + WEEK_SLOTS) * (size_of::<f32>() + size_of::<u16>());

    /// What is expected at a time, of a series with this `level`.
    #[inline]
    pub fn forecast(&self, time_ns: TimeNs, level: f64) -> Forecast {
        let slots = (self.day.slot(time_ns), self.week.slot(time_ns));
        let Some(day) = self.day.mean(slots.0) else { return Forecast { slots, ..Forecast::default() } };
        let week = self.week.mean(slots.1);
        let season = self.by_day * (day - level + self.by_week * week.unwrap_or(0.0));
        Forecast { slots, day: Some(day), week, season, belief: self.by_day }
    }

    /// Learns a sample of which `forecast` was made.
    #[inline]
    pub fn learn(&mut self, value: f64, level: f64, forecast: &Forecast, pace: &Pace) {
        let visit =
            |slots: usize, period_ns: i64| (pace.interval_ns * (slots as f64 / period_ns as f64)).min(1.0);
        let day_visit = visit(DAY_SLOTS, DAY_NS);
        if forecast.slots.0 != self.day.visited {
            self.by_day = self.day_skill.share();
            // Of what the time of day leaves.
            let further = 1.0 - (1.0 - self.week_skill.share()) / (1.0 - self.by_day).max(1e-9);
            self.by_week = further.max(0.0);
        }
        if let Some(day) = forecast.day {
            let left = limited(value - day, pace.reach);
            let without = limited(value - level, pace.reach);
            self.day_skill.learn(left, without, day_visit);
            if let Some(week) = forecast.week {
                self.week_skill.learn(limited(left - week, pace.reach), without, day_visit);
            }
            self.week.learn(forecast.slots.1, left, visit(WEEK_SLOTS, WEEK_NS), pace.reach);
        }
        self.day.learn(forecast.slots.0, value, day_visit, pace.reach);
    }

    /// Adds `shift` to all values.
    pub fn shift(&mut self, shift: f32) {
        self.day.means.iter_mut().for_each(|mean| *mean += shift);
        self.day.before = self.day.before.map(|before| before + f64::from(shift));
    }
}

/// Means of a period's parts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Slots<const N: usize, const PERIOD_NS: i64> {
    means: Floats<N>,
    /// Samples in each, as far as that matters.
    counts: Counts<N>,
    /// The slot that is being visited, and what its mean was before. A forecast from the visit itself would be one from
    /// the samples just before, not from the season.
    visited: usize,
    before: Option<f64>,
}

impl<const N: usize, const PERIOD_NS: i64> Default for Slots<N, PERIOD_NS> {
    fn default() -> Self {
        Slots { means: Floats::filled(0.0), counts: Counts::filled(0), visited: N, before: None }
    }
}

impl<const N: usize, const PERIOD_NS: i64> Slots<N, PERIOD_NS> {
    #[inline]
    fn slot(&self, time_ns: TimeNs) -> usize {
        (time_ns.rem_euclid(PERIOD_NS) / (PERIOD_NS / N as i64)) as usize
    }

    /// The mean of a slot in earlier periods, if there were any.
    #[inline]
    fn mean(&self, slot: usize) -> Option<f64> {
        if slot == self.visited { self.before } else { self.kept(slot) }
    }

    fn kept(&self, slot: usize) -> Option<f64> {
        (self.counts[slot] > 0).then(|| f64::from(self.means[slot]))
    }

    #[inline]
    fn learn(&mut self, slot: usize, value: f64, visit: f64, reach: f64) {
        if slot != self.visited {
            (self.visited, self.before) = (slot, self.kept(slot));
        }
        self.counts[slot] = self.counts[slot].saturating_add(1);
        let count = f64::from(self.counts[slot]);
        let mean = f64::from(self.means[slot]);
        let off = if count > 1.0 { limited(value - mean, reach) } else { value };
        self.means[slot] = (mean + (1.0 / count).max(VISIT_SHARE * visit) * off) as f32;
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
    fn share(&self) -> f64 {
        if self.error_without <= 0.0 {
            return 0.0;
        }
        // The share of the variance that is explained, were errors normal: what a regression would shrink it by.
        let left = self.error / self.error_without;
        (1.0 - left * left).max(0.0) * (self.visits / PROOF_VISITS).min(1.0)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::HOUR;

    /// What was learned of so many days of a series; `each` sees every error and forecast.
    fn learn(
        days: i64,
        step_ns: i64,
        value: impl Fn(i64) -> f64,
        mut each: impl FnMut(f64, &Forecast),
    ) -> Season {
        let mut season = Season::default();
        let (mut mean, mut n) = (0.0, 0.0);
        for time_ns in (0..days * DAY_NS).step_by(step_ns as usize) {
            let value = value(time_ns);
            let forecast = season.forecast(time_ns, mean);
            each(value - mean - forecast.season, &forecast);
            let pace = Pace { interval_ns: step_ns as f64, reach: 1e9 };
            season.learn(value, mean, &forecast, &pace);
            n += 1.0;
            mean += (value - mean) / n;
        }
        season
    }

    /// Mean error and belief of the last day's forecasts.
    fn run(days: i64, step_ns: i64, value: impl Fn(i64) -> f64) -> (f64, f64) {
        let mut all = Vec::new();
        learn(days, step_ns, value, |error, forecast| all.push((error.abs(), forecast.belief)));
        let last = &all[all.len() - (DAY_NS / step_ns) as usize..];
        let sum = last.iter().fold((0.0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        (sum.0 / last.len() as f64, sum.1 / last.len() as f64)
    }

    #[test]
    fn a_season_is_believed_once_it_has_proved_itself_and_noise_is_not() {
        let mixed = |n: u64| (n ^ (n >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let noise = |time_ns: i64| (mixed(mixed(mixed(time_ns as u64))) >> 40) as f64 / (1 << 24) as f64;
        let by_day = |time_ns: i64| if (time_ns / HOUR) % 24 < 8 { 10.0 } else { 50.0 };
        for step_ns in [20 * SECOND, 300 * SECOND, 1800 * SECOND] {
            let (error, belief) = run(9, step_ns, |time_ns| by_day(time_ns) + noise(time_ns));
            assert!(belief > 0.9 && error < 3.0, "{step_ns}: {belief}, {error}");
            let (_, belief) = run(9, step_ns, noise);
            assert!(belief < 0.1, "{step_ns}: {belief}");
            assert_eq!(run(1, step_ns, by_day).1, 0.0, "one day is no season");
        }
    }

    #[test]
    fn weekends_are_learned_on_top_of_days() {
        let of_week = |time_ns: i64| {
            let weekend = (time_ns / DAY_NS) % 7 >= 5;
            let hour = (time_ns / HOUR) % 24;
            if weekend { 20.0 } else { 20.0 + 30.0 * (hour as f64 / 24.0) }
        };
        let by_day = |time_ns: i64| ((time_ns / HOUR) % 24) as f64;
        for (name, value, expect) in
            [("week", &of_week as &dyn Fn(i64) -> f64, true), ("day", &by_day, false)]
        {
            let season = learn(42, 1800 * SECOND, value, |_, _| {});
            let (day, week) = (season.day_skill.share(), season.week_skill.share());
            assert_eq!(week > day + 0.1, expect, "{name}: {day}, {week}");
            assert!(day > 0.4, "{name}: {day}");
        }
    }
}
