//! The aggregate of a window: panes of a series merged in time order, series of a group pooled.
//!
//! Every window function finishes from this one structure, so a query for eight functions folds once.

use serde::{Deserialize, Serialize};

use crate::counter::step;
use crate::pane::{Folded, Moments, Obs, Pane};
use crate::sample::{SECOND, TimeNs};
use crate::sketch::Sketch;

/// Values a merged window keeps for exact percentiles; beyond, a sketch answers.
pub const EXACT_LEN_MAX: usize = 4096;

/// The values of a window, as far as a percentile was asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Values {
    /// Nobody asked.
    Unwanted,
    /// All of them, in no particular order.
    Exact(Vec<f64>),
    /// Too many: their sketch.
    Sketch(Box<Sketch>),
}

/// What is known of one window.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Aggregate {
    /// Moments of all samples; `increase` here counts only steps inside the window.
    pub moments: Option<Moments>,
    /// Reset-aware increase, the step from the last sample before the window included.
    pub increase: Option<f64>,
    /// Increase per second over the time that it took.
    pub rate: Option<f64>,
    /// For percentiles.
    pub values: Values,
    /// Epoch of the last change.
    pub revision: u64,
    /// Stragglers whose effect on the increase is not certain (see [`crate::pane`]).
    pub behind: u64,
}

impl Aggregate {
    /// An empty window; `with_values` where a percentile will be asked.
    pub fn new(with_values: bool) -> Aggregate {
        let values = if with_values { Values::Exact(Vec::new()) } else { Values::Unwanted };
        Aggregate { moments: None, increase: None, rate: None, values, revision: 0, behind: 0 }
    }

    /// Makes it an empty window again, in the same room.
    pub fn clear(&mut self, with_values: bool) {
        let mut values = std::mem::replace(&mut self.values, Values::Unwanted);
        match &mut values {
            Values::Exact(exact) if with_values => exact.clear(),
            Values::Unwanted if !with_values => {}
            _ => return *self = Aggregate::new(with_values),
        }
        *self = Aggregate { values, ..Aggregate::new(false) };
    }

    /// Appends the next pane of the same series.
    pub fn append_pane(&mut self, pane: &Pane) {
        self.revision = self.revision.max(pane.revision);
        if let Some(folded) = pane.folded() {
            self.append_moments(&folded.moments);
            self.values.add_fold(folded);
            self.behind += folded.behind;
        }
        match pane.raw() {
            [] => {}
            [obs] => self.append_one(*obs),
            raw => {
                if let Some(moments) = Moments::of(raw) {
                    self.append_moments(&moments);
                    self.values.add(raw.iter().map(|obs| obs.value));
                }
            }
        }
    }

    /// Appends what the same series has behind this, before either is closed.
    pub fn append(&mut self, later: &Aggregate) {
        self.revision = self.revision.max(later.revision);
        if let Some(moments) = &later.moments {
            self.append_moments(moments);
        }
        self.values.merge(&later.values);
        self.behind += later.behind;
    }

    /// Appends one sample that the same series has behind this.
    #[inline]
    pub(crate) fn append_one(&mut self, obs: Obs) {
        match &mut self.moments {
            None => self.moments = Some(Moments::single(obs)),
            Some(moments) => moments.append(&Moments::single(obs)),
        }
        self.values.add(std::iter::once(obs.value));
    }

    /// Ends the series' part: derives increase and rate, given the last sample before the window.
    pub fn close(&mut self, before: Option<Obs>) {
        let Some(m) = &self.moments else { return };
        let (bridge, since_ns) =
            before.map_or((0.0, m.first.time_ns), |b| (step(b.value, m.first.value), b.time_ns));
        let seconds = m.last.time_ns.saturating_sub(since_ns) as f64 / SECOND as f64;
        // A single sample with none before it has seen no step: there is no increase to speak of.
        if before.is_some() || m.count > 1 {
            self.increase = Some(m.increase + bridge);
        }
        if seconds > 0.0 {
            self.rate = self.increase.map(|increase| increase / seconds);
        }
    }

    /// Pools another series' window into this one: a member of a group.
    pub fn pool(&mut self, other: &Aggregate) {
        match (&mut self.moments, &other.moments) {
            (Some(mine), Some(theirs)) => mine.pool(theirs),
            (mine @ None, theirs) => *mine = *theirs,
            (Some(_), None) => {}
        }
        self.increase = add(self.increase, other.increase);
        self.rate = add(self.rate, other.rate);
        self.values.merge(&other.values);
        self.revision = self.revision.max(other.revision);
        self.behind += other.behind;
    }

    /// The value at quantile `q` in `[0, 1]`, by linear interpolation at rank `q (n - 1)`.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        match &self.values {
            Values::Unwanted => None,
            Values::Exact(values) => exact_quantile(values, q),
            Values::Sketch(sketch) => sketch.quantile(q),
        }
    }

    /// Relative error of [`Aggregate::quantile`]: zero while all values are held.
    pub fn error_bound(&self) -> f64 {
        match &self.values {
            Values::Sketch(sketch) => sketch.error_bound(),
            _ => 0.0,
        }
    }

    /// Number of samples.
    pub fn count(&self) -> u64 {
        self.moments.map_or(0, |m| m.count)
    }

    /// Event time of the latest sample.
    pub fn last_time_ns(&self) -> Option<TimeNs> {
        self.moments.map(|m| m.last.time_ns)
    }

    fn append_moments(&mut self, later: &Moments) {
        match &mut self.moments {
            Some(moments) => moments.append(later),
            None => self.moments = Some(*later),
        }
    }
}

fn add(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a + b),
        (one, other) => one.or(other),
    }
}

impl Values {
    fn merge(&mut self, other: &Values) {
        match other {
            Values::Unwanted => {}
            Values::Exact(values) => self.add(values.iter().copied()),
            Values::Sketch(sketch) => self.add_sketch(sketch),
        }
    }

    fn add(&mut self, more: impl ExactSizeIterator<Item = f64>) {
        match self {
            Values::Unwanted => {}
            Values::Sketch(sketch) => more.for_each(|v| sketch.insert(v)),
            Values::Exact(values) if values.len() + more.len() <= EXACT_LEN_MAX => values.extend(more),
            Values::Exact(_) => {
                self.make_sketch();
                self.add(more);
            }
        }
    }

    fn add_fold(&mut self, folded: &Folded) {
        self.make_sketch();
        if let Values::Sketch(sketch) = self {
            folded.add_to(sketch);
        }
    }

    fn add_sketch(&mut self, more: &Sketch) {
        if let Values::Sketch(sketch) = self {
            sketch.merge(more);
        } else if let Values::Exact(_) = self {
            self.make_sketch();
            self.add_sketch(more);
        }
    }

    fn make_sketch(&mut self) {
        if let Values::Exact(values) = self {
            let mut sketch = Sketch::new();
            sketch.insert_all(values);
            *self = Values::Sketch(Box::new(sketch));
        }
    }
}

fn exact_quantile(values: &[f64], q: f64) -> Option<f64> {
    let rank = q * values.len().checked_sub(1)? as f64;
    let mut values = values.to_vec();
    let (_, low, above) = values.select_nth_unstable_by(rank as usize, f64::total_cmp);
    let low = *low;
    let share = rank.fract();
    // Only a rank between two values needs the second, the least of those above.
    match above.iter().copied().min_by(f64::total_cmp) {
        // The difference of two finite numbers need not be finite.
        Some(high) if share > 0.0 && !(high - low).is_finite() => Some(low * (1.0 - share) + high * share),
        Some(high) if share > 0.0 => Some(low + (high - low) * share),
        _ => Some(low),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_interpolate_as_numpy_does() {
        for (values, q, expected) in [
            (vec![], 0.5, None),
            (vec![7.0], 0.99, Some(7.0)),
            (vec![4.0, 1.0, 3.0, 2.0], 0.5, Some(2.5)),
            (vec![4.0, 1.0, 3.0, 2.0], 1.0, Some(4.0)),
            (vec![10.0, 20.0, 30.0], 0.25, Some(15.0)),
        ] {
            assert_eq!(exact_quantile(&values, q), expected, "{values:?} at {q}");
        }
    }

    #[test]
    fn the_step_into_a_window_belongs_to_it() {
        let mut pane = Pane::new(10 * SECOND, 2);
        for (s, value) in [(11, 130.0), (19, 10.0)] {
            pane.insert(Obs { time_ns: s * SECOND, value });
        }
        let mut window = Aggregate::new(false);
        window.append_pane(&pane);
        window.close(Some(Obs { time_ns: 9 * SECOND, value: 100.0 }));
        assert_eq!((window.increase, window.rate), (Some(40.0), Some(4.0)));
    }

    #[test]
    fn many_values_turn_into_a_sketch_with_its_bound() {
        let mut window = Aggregate::new(true);
        for p in 0..100 {
            let mut pane = Pane::new(p, 64);
            (0..60).for_each(|i| pane.insert(Obs { time_ns: p, value: f64::from(i + 1) }));
            window.append_pane(&pane);
        }
        let bound = window.error_bound();
        assert!(bound > 0.0 && bound <= 0.01, "{bound}");
        let median = window.quantile(0.5).unwrap();
        assert!((median / 30.5 - 1.0).abs() <= bound, "{median}");
    }
}
