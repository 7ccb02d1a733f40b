//! Anomaly detection: how strange each sample of one series is, given those before it.
//!
//! Streaming, of constant size (below 4 KiB a series, whatever its length), without a parameter to tune for a series.
//! The only clock is the event time of the samples; the same samples give the same bits everywhere.
//!
//! A sample goes through four steps. The *season* is taken out, as far as forecasts by time of day and of the week have
//! proved themselves. *Components* say how strange what is left is, each in its own way. A *rarity* turns each strangeness
//! into a tail probability, by the component's own history on this very series: that makes them comparable, and is why
//! nothing has to be tuned. The smallest probability counts. *Novelty* lowers it while something as strange is fresh in
//! memory: the beginning of an incident stands out, its repetition does not, and a level that has moved for good falls
//! silent.
//!
//! # Layout
//! - [`component`](Component): the ways to be strange, and [`Reason`]; [`method`](METHODS): which of them count
//! - `rarity`: tail probabilities; `rolling`: median and deviation; `season`: time of day and week; `number`: arithmetic
//!
//! ```
//! use operators::anomaly::{Detector, Reason, Settings};
//!
//! let mut detector = Detector::new(&Settings::default());
//! let minute_ns = 60_000_000_000;
//! for minute in 0..1_000 {
//!     let value = 50.0 + (minute * 7919 % 13) as f64;
//!     detector.observe(minute * minute_ns, value);
//! }
//! let judgement = detector.observe(1_000 * minute_ns, 500.0);
//! assert!(judgement.score > 0.6 && judgement.upper < 100.0 && judgement.warmed_up);
//! assert_eq!(judgement.reason, Reason::Record);
//! assert_eq!(judgement.reason.text(), "outside of everything seen so far");
//! ```

mod component;
mod method;
mod number;
mod rarity;
mod rolling;
mod season;
mod statistics;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::sample::TimeNs;
use rarity::Rarity;
use season::{Pace, Season};
use statistics::{Seen, Statistics};

pub use component::{Component, Reason};
pub use method::{METHODS, Method, MethodRow, UnknownMethod};

/// Samples after which judgements are worth something; until then every score is 0.
pub const WARM_UP: u32 = 100;

/// Digits of rarity at which a score is 0.5: the rarest of 200 samples.
const HALF_SCORE_DIGITS: f64 = 2.3;
/// Digits of rarity of the ends of the expected band.
const BAND_DIGITS: f64 = HALF_SCORE_DIGITS;
/// Samples after which the width of the band is looked up again.
const REACH_EVERY: u32 = 16;
/// Samples after which what was strange is remembered e times less.
const MEMORY_OF_STRANGE: f64 = 100.0;
/// Values beyond are taken as this, so that no sum overflows.
const VALUE_MAX: f64 = 1e30;
/// Samples whose median is the second origin.
const FIRST_FEW: u32 = 9;

/// What can be chosen for a detector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// How samples are judged.
    pub method: Method,
}

/// What is thought of one sample.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Judgement {
    /// From 0, ordinary, to 1, as good as impossible. With d the decimal digits of the probability of a sample as strange
    /// (3 for one in 1,000), lowered while something as strange is fresh in memory, it is d / (d + 2.3).
    pub score: f64,
    /// Lower end of the expected band, in the sample's unit: 99.5 % of the samples lie inside. The value itself until
    /// there is a band.
    pub lower: f64,
    /// Upper end of the expected band.
    pub upper: f64,
    /// What is strangest about it.
    pub reason: Reason,
    /// Whether enough has been seen to judge: [`WARM_UP`] samples.
    pub warmed_up: bool,
}

/// Judges the samples of one series.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Detector {
    method: Method,
    samples: u32,
    /// What values are stored relative to.
    origin: f64,
    statistics: Statistics,
    season: Season,
    /// Of the components of the method, in their order.
    rarities: Vec<Rarity>,
    /// The strangest of late, in digits, fading.
    remembered: f64,
    /// Half the width of the expected band, in the scales of the component that has it.
    reach: Option<f64>,
}

impl Detector {
    /// A detector that has seen nothing.
    pub fn new(settings: &Settings) -> Detector {
        Detector {
            method: settings.method,
            samples: 0,
            origin: 0.0,
            statistics: Statistics::default(),
            season: Season::default(),
            rarities: vec![Rarity::default(); settings.method.row().components.len()],
            remembered: 0.0,
            reach: None,
        }
    }

    /// Judges a sample by those before it, then learns it. Samples are given in the order of their event times; one that
    /// is not after the last is judged all the same, by its value. A value that is no finite number is no sample: it is
    /// not learned, and scores 0.
    pub fn observe(&mut self, time_ns: TimeNs, value: f64) -> Judgement {
        if !value.is_finite() {
            return Judgement { lower: value, upper: value, ..Judgement::default() };
        }
        let value = value.clamp(-VALUE_MAX, VALUE_MAX);
        self.settle_origin(value);
        let row = self.method.row();
        let raw = value - self.origin;
        let level = self.statistics.raw_level();
        let forecast = if row.seasonal { self.season.forecast(time_ns, level) } else { Default::default() };
        let rest = raw - forecast.season;
        let interval = self.statistics.clock.tick(time_ns);
        let reach = self.statistics.raw_reach();
        let seen = self.statistics.compare(raw, rest, value, interval);
        let (digits, strangest) = self.rarest(row, &seen);
        let (lower, upper) = self.band(row, &seen, forecast.season).unwrap_or((value, value));
        if self.samples.is_multiple_of(REACH_EVERY) {
            self.reach = self.rarities.first().and_then(|rarity| rarity.strangeness_at(BAND_DIGITS));
        }
        self.statistics.learn(raw, rest, interval, &seen);
        if row.seasonal {
            let interval_ns = self.statistics.clock.interval_ns();
            self.season.learn(raw, level, &forecast, &Pace { interval_ns, reach });
        }
        self.samples = self.samples.saturating_add(1);
        let reason = seen.reason(strangest, forecast.belief);
        let novel = self.novel(digits);
        let warmed_up = self.samples > WARM_UP;
        Judgement {
            score: if warmed_up { novel / (novel + HALF_SCORE_DIGITS) } else { 0.0 },
            lower,
            upper,
            reason,
            warmed_up,
        }
    }

    /// The smallest tail probability of all components, in digits, and of which it is. The history goes on.
    #[inline]
    fn rarest(&mut self, row: &MethodRow, seen: &Seen) -> (f64, Option<Component>) {
        let (mut digits, mut strangest) = (0.0, None);
        for (component, rarity) in row.components.iter().zip(&mut self.rarities) {
            let Some(strangeness) = seen.strangeness[*component as usize] else { continue };
            let found = rarity.observe(strangeness);
            if found > digits {
                (digits, strangest) = (found, Some(*component));
            }
        }
        (digits, strangest)
    }

    /// Bytes of this detector, in place and on the heap.
    pub fn state_bytes(&self) -> usize {
        let rarities = self.rarities.len() * (size_of::<Rarity>() + Rarity::HEAP_BYTES);
        size_of::<Detector>() + rarities + Season::HEAP_BYTES + Statistics::HEAP_BYTES
    }

    /// How many samples were learned, up to 2^32 - 1.
    pub fn samples(&self) -> u32 {
        self.samples
    }

    /// Digits that count: all of them for something much stranger than what is remembered, half for something as strange,
    /// near none for something less so. It is remembered then.
    fn novel(&mut self, digits: f64) -> f64 {
        let novel = if digits > 0.0 { digits / (1.0 + (self.remembered / digits).powi(4)) } else { 0.0 };
        self.remembered = (self.remembered * (1.0 - 1.0 / MEMORY_OF_STRANGE)).max(digits);
        novel
    }

    /// The expected band, in the sample's unit.
    fn band(&self, row: &MethodRow, seen: &Seen, season: f64) -> Option<(f64, f64)> {
        // The first component of every method is one that has a centre.
        let (centre, scale) = if row.components[0] == Component::Spike { seen.median? } else { seen.mean };
        let half = self.reach? * scale;
        let centre = self.origin + season + centre;
        Some((centre - half, centre + half))
    }

    /// Begins at the first value, then at the median of the first few; moves after the level where that is so far away
    /// that single precision would lose the deviations.
    fn settle_origin(&mut self, value: f64) {
        let moved = match self.samples {
            0 => {
                self.origin = value;
                return;
            }
            FIRST_FEW => self.statistics.median(),
            _ => self.statistics.lost_level(),
        };
        if let Some(level) = moved {
            self.origin += level;
            self.statistics.shift(-level);
            self.season.shift(-level as f32);
        }
    }
}
