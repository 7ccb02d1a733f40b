//! The running statistics of one series, and what the components say of a sample by them.

use serde::{Deserialize, Serialize};

use super::component::{COMPONENTS, Component, Reason};
use super::rolling::{ROLLING_LEN, Rolling};
use crate::sample::TimeNs;

/// Samples of the long exponentially weighted means.
const LONG: f64 = 2000.0;
/// Share of the newest sample in the short ones: of about 12 samples.
const SHORT_SHARE: f64 = 2.0 / 13.0;
/// Of a range by which one must go beyond it, to be a record.
const RECORD_MARGIN: f64 = 0.05;
/// Of a range that is forgotten with each sample.
const RANGE_FORGOTTEN: f64 = 2e-5;
/// Scales a median absolute deviation to a standard deviation, if the samples are normal.
const MAD_TO_SIGMA: f64 = 1.4826;
/// The same to a mean absolute deviation, and to the mean step between independent samples.
const MAD_TO_MEAN: f64 = 1.183;
const MAD_TO_STEP: f64 = 1.673;
/// Of deviations that one sample can pull a mean by. Without a limit, a single wild value would blind the scales for as
/// long as they remember; with this one it moves them by a tenth.
const PULL_DEVIATIONS_MAX: f64 = 200.0;
/// Digits that a value is taken to have: smaller differences are rounding.
const VALUE_RESOLUTION: f64 = 1e-9;
/// The same of a value as it is stored, relative to the origin, in single precision.
const STORED_RESOLUTION: f64 = 1e-7;
/// Deviations that the level may be away from the origin: single precision has 7 digits.
const LEVEL_DEVIATIONS_MAX: f64 = 65_536.0;
/// So many usual intervals without a sample are a gap: what comes after has no predecessor.
const GAP_INTERVALS: f64 = 6.0;

/// What is known of the series. All values are relative to the origin; `rest` is a value without its season.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Statistics {
    pub clock: Clock,
    samples: f64,
    raw_mean: f64,
    /// Mean absolute deviation from `raw_mean`.
    raw_deviation: f64,
    mean: f64,
    variance: f64,
    /// Mean absolute deviation from `mean`.
    deviation: f64,
    short_mean: f64,
    last_rest: f64,
    step: f64,
    short_step: f64,
    rest_range: Range,
    raw_range: Range,
    rolling: Rolling,
}

/// What the components say of one sample.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    /// By component; nothing where there is nothing to compare with.
    pub strangeness: [Option<f64>; COMPONENTS],
    /// Median of the rest, and by what distances from it are measured.
    pub median: Option<(f64, f64)>,
    /// Mean of the rest, and by what distances from it are measured.
    pub mean: (f64, f64),
    /// Median absolute deviation of the newest, 0 while they are few.
    mad: f64,
    is_raw_new: bool,
    varies_less: bool,
}

impl Seen {
    /// Why the sample is strange, the season having been believed so far.
    pub fn reason(&self, strangest: Option<Component>, belief: f64) -> Reason {
        let reason = match strangest {
            None => return Reason::Nothing,
            Some(Component::Variation) if self.varies_less => return Reason::Flat,
            Some(Component::Variation) => return Reason::Unrest,
            Some(Component::Step) => Reason::Step,
            Some(Component::Level) => Reason::Level,
            Some(Component::RawRecord) => return Reason::Record,
            Some(Component::Record) => Reason::Record,
            Some(Component::Spike | Component::Deviation) => Reason::Spike,
        };
        if belief > 0.5 && !self.is_raw_new { Reason::Season } else { reason }
    }
}

impl Statistics {
    pub const HEAP_BYTES: usize = 2 * ROLLING_LEN * size_of::<f32>();

    /// The long mean of the values as they are.
    pub fn raw_level(&self) -> f64 {
        self.raw_mean
    }

    /// How far a value may be off before it says nothing of how large another will be, in the raw.
    pub fn raw_reach(&self) -> f64 {
        reach(self.raw_deviation)
    }

    /// The median of the newest, if there are enough.
    pub fn median(&self) -> Option<f64> {
        self.rolling.median_and_mad().map(|(median, _)| median)
    }

    /// The long mean, if it is so far from the origin that the deviations get lost in what is stored.
    #[inline]
    pub fn lost_level(&self) -> Option<f64> {
        let is_lost = self.mean.abs() > LEVEL_DEVIATIONS_MAX * self.deviation && self.deviation > 0.0;
        is_lost.then_some(self.mean)
    }

    /// Compares a sample with those before it; `interval` is none after a gap.
    #[inline]
    pub fn compare(&self, raw: f64, rest: f64, value: f64, interval: Option<i64>) -> Seen {
        let eps = VALUE_RESOLUTION * value.abs() + STORED_RESOLUTION * raw.abs() + f64::MIN_POSITIVE;
        let mut seen = Seen::default();
        if self.samples < 3.0 {
            return seen;
        }
        if let Some((median, mad)) = self.rolling.median_and_mad() {
            seen.median = Some((median, mad * MAD_TO_SIGMA + self.deviation + eps));
            seen.mad = mad;
        }
        seen.mean = (self.mean, self.variance.sqrt() + eps);
        let mut set = |component: Component, strangeness: f64| {
            seen.strangeness[component as usize] = Some(strangeness);
        };
        if let Some((median, scale)) = seen.median {
            set(Component::Spike, (rest - median).abs() / scale);
        }
        set(Component::Deviation, (rest - seen.mean.0).abs() / seen.mean.1);
        set(Component::Record, self.rest_range.beyond(rest, eps));
        let raw_beyond = self.raw_range.beyond(raw, eps);
        set(Component::RawRecord, raw_beyond);
        let short_mean = self.short_mean + SHORT_SHARE * (rest - self.short_mean);
        set(Component::Level, (short_mean - self.mean).abs() / (self.deviation + eps));
        if interval.is_some() {
            let step = (rest - self.last_rest).abs();
            set(Component::Step, step / (self.step + eps));
            let short_step = self.short_step + SHORT_SHARE * (step - self.short_step);
            let (short, long) = (short_step + eps, self.step + eps);
            set(Component::Variation, short.max(long) / short.min(long) - 1.0);
            seen.varies_less = short < long;
        }
        seen.is_raw_new = raw_beyond > 0.0;
        seen
    }

    /// Learns a sample; `interval` is none after a gap, `seen` what was found before.
    #[inline]
    pub fn learn(&mut self, raw: f64, rest: f64, interval: Option<i64>, seen: &Seen) {
        let first = self.samples == 0.0;
        if self.samples == ROLLING_LEN as f64 {
            self.begin_again();
        }
        self.samples += 1.0;
        let share = (1.0 / self.samples).max(1.0 / LONG);
        let off = limited(raw - self.raw_mean, reach(self.raw_deviation.max(seen.mad)));
        self.raw_deviation += share * (off.abs() - self.raw_deviation);
        self.raw_mean += share * off;
        let reach_now = reach(self.deviation.max(seen.mad));
        let off = limited(rest - self.mean, reach_now);
        self.deviation += share * (off.abs() - self.deviation);
        self.variance = (1.0 - share) * (self.variance + share * off * off);
        self.mean += share * off;
        if first {
            self.short_mean = rest;
        }
        self.short_mean += SHORT_SHARE * limited(rest - self.short_mean, reach_now);
        if interval.is_some() {
            let step = (rest - self.last_rest).abs().min(reach(self.step.max(seen.mad)));
            self.step += share * (step - self.step);
            self.short_step += SHORT_SHARE * (step - self.short_step);
        }
        self.last_rest = rest;
        self.rest_range.learn(rest, first);
        self.raw_range.learn(raw, first);
        self.rolling.push(rest as f32);
    }

    /// Takes the robust statistics of the first samples in place of their means, if there was a wild one among them that
    /// would spoil the scales for thousands to come.
    fn begin_again(&mut self) {
        let Some((median, mad)) = self.rolling.median_and_mad() else { return };
        if mad == 0.0 || self.raw_deviation < PULL_DEVIATIONS_MAX * mad {
            return;
        }
        (self.raw_mean, self.mean) = (median, median);
        (self.raw_deviation, self.deviation) = (mad * MAD_TO_MEAN, mad * MAD_TO_MEAN);
        self.variance = (mad * MAD_TO_SIGMA) * (mad * MAD_TO_SIGMA);
        self.step = self.step.min(mad * MAD_TO_STEP);
        self.short_step = self.short_step.min(mad * MAD_TO_STEP);
    }

    /// Adds `shift` to all values.
    pub fn shift(&mut self, shift: f64) {
        for value in [&mut self.raw_mean, &mut self.mean, &mut self.short_mean, &mut self.last_rest] {
            *value += shift;
        }
        for range in [&mut self.rest_range, &mut self.raw_range] {
            range.low += shift;
            range.high += shift;
        }
        self.rolling.shift(shift as f32);
    }
}

/// How far off a sample is taken to be at most; anything, while nothing is known.
#[inline]
fn reach(deviation: f64) -> f64 {
    if deviation > 0.0 { PULL_DEVIATIONS_MAX * deviation } else { f64::INFINITY }
}

#[inline]
pub(super) fn limited(off: f64, reach: f64) -> f64 {
    off.min(reach).max(-reach)
}

/// The usual time between two samples.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Clock {
    last_ns: Option<TimeNs>,
    interval_ns: f64,
}

impl Clock {
    /// Time since the sample before; nothing for the first, one that is not later, and after a gap.
    #[inline]
    pub fn tick(&mut self, time_ns: TimeNs) -> Option<i64> {
        let since = self.last_ns.map(|last| time_ns.saturating_sub(last));
        self.last_ns = Some(self.last_ns.map_or(time_ns, |last| last.max(time_ns)));
        let since = since.filter(|since| *since > 0)?;
        let apart = since as f64;
        if self.interval_ns == 0.0 {
            self.interval_ns = apart;
        }
        let is_gap = apart > GAP_INTERVALS * self.interval_ns;
        // Steps of an eighth, up and down, end about the median.
        self.interval_ns += (apart - self.interval_ns).clamp(-self.interval_ns / 8.0, self.interval_ns / 8.0);
        (!is_gap).then_some(since)
    }

    /// The usual time between two samples; 0 if there were none.
    pub fn interval_ns(&self) -> f64 {
        self.interval_ns
    }
}

/// The least and the greatest value, slowly forgotten.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Range {
    low: f64,
    high: f64,
}

impl Range {
    /// How far beyond the range a value is, in ranges; 0 within it and its margin.
    #[inline]
    fn beyond(&self, value: f64, eps: f64) -> f64 {
        let beyond = (value - self.high).max(self.low - value);
        if beyond <= 0.0 {
            return 0.0;
        }
        (beyond / (self.high - self.low + eps) - RECORD_MARGIN).max(0.0)
    }

    #[inline]
    fn learn(&mut self, value: f64, first: bool) {
        if first {
            (self.low, self.high) = (value, value);
        }
        let forgotten = (self.high - self.low) * RANGE_FORGOTTEN;
        self.low = (self.low + forgotten).min(value);
        self.high = (self.high - forgotten).max(value);
    }
}
