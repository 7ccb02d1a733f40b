//! Panes: all samples of one series in one stretch of event time, folded once.
//!
//! A pane keeps its newest observations raw and sorted, so that stragglers fall into place and every
//! result is computed in event-time order. When the raw part is full its older half is folded away into
//! moments and a sketch. Most panes of ordinary series never fold: they are exact in every respect.

mod block;
pub mod moments;
pub(crate) mod run;
pub(crate) mod saved;
pub mod times;

pub use moments::{Moments, Obs};
pub use times::Seen;

use crate::sample::TimeNs;
use crate::sketch::Sketch;

use times::Times;

/// Observations a pane holds raw before its older half is folded.
pub const RAW_LEN_MAX: usize = 64;
const FOLD_LEN: usize = RAW_LEN_MAX / 2;
/// Values of a fold that wait for their places in its sketch.
const WAITING_LEN_MAX: usize = 4 * FOLD_LEN;
/// A pane of at most so many observations is packed as soon as another begins behind it; the rest waits for its run to be
/// packed.
const PACK_AT_ONCE_MAX: usize = 8;

/// One pane. Its width is its tier's.
#[derive(Clone, Debug, Default)]
pub struct Pane {
    /// Start of the pane; a multiple of the tier's width.
    pub start_ns: TimeNs,
    /// Epoch of the last change.
    pub revision: u64,
    /// Everything older than `raw`.
    folded: Option<Box<Folded>>,
    /// The newest observations, by event time; of one time in order of arrival.
    raw: Vec<Obs>,
}

/// The folded part of a pane.
#[derive(Clone, Debug)]
pub struct Folded {
    /// Moments of all folded observations.
    pub moments: Moments,
    /// Their values, but for those in `waiting`.
    sketch: Sketch,
    /// Values that have no place in the sketch yet: many together get theirs several times faster.
    waiting: Vec<f64>,
    /// Stragglers that came behind the fold: the increase is exact only if they lay between their neighbours.
    pub behind: u64,
    /// Their event times, of series where a sample that is sent again must be recognised.
    times: Option<Box<Times>>,
}

impl Pane {
    /// An empty pane that expects about `len` observations.
    pub fn new(start_ns: TimeNs, len: usize) -> Pane {
        Pane { start_ns, revision: 0, folded: None, raw: Vec::with_capacity(len.clamp(1, RAW_LEN_MAX)) }
    }

    /// Adds an observation that is not before any other there.
    #[inline]
    pub(crate) fn append(&mut self, obs: Obs, times: bool) {
        self.make_room(times);
        self.raw.push(obs);
    }

    /// Adds an observation.
    #[inline]
    pub fn insert(&mut self, obs: Obs) {
        self.insert_keeping(obs, false);
    }

    /// Adds an observation; if `times` says so, the fold keeps event times from now on.
    #[inline]
    pub fn insert_keeping(&mut self, obs: Obs, times: bool) {
        self.make_room(times);
        match self.raw.last() {
            Some(last) if obs.time_ns < last.time_ns => self.insert_straggler(obs),
            None if self.folded.as_ref().is_some_and(|f| obs.time_ns < f.moments.last.time_ns) => {
                self.insert_straggler(obs)
            }
            _ => self.raw.push(obs),
        }
    }

    /// Makes room for one more raw observation.
    #[inline]
    fn make_room(&mut self, times: bool) {
        if self.raw.len() == RAW_LEN_MAX {
            self.fold(FOLD_LEN, times);
        } else if self.raw.len() == self.raw.capacity() {
            self.grow();
        }
    }

    /// Doubles the room for raw observations. Left to itself, a vector would begin with four; most series have one in a
    /// pane.
    #[cold]
    #[inline(never)]
    fn grow(&mut self) {
        let len = self.raw.len();
        self.raw.reserve_exact(len.clamp(1, RAW_LEN_MAX - len));
    }

    #[cold]
    fn insert_straggler(&mut self, obs: Obs) {
        match &mut self.folded {
            Some(folded) if obs.time_ns < folded.moments.last.time_ns => {
                folded.moments.insert_inside(obs);
                folded.add_values(&[obs]);
                folded.behind += 1;
                if let Some(times) = &mut folded.times {
                    times.insert(obs.time_ns);
                }
            }
            _ => {
                let at = self.raw.partition_point(|held| held.time_ns <= obs.time_ns);
                self.raw.insert(at, obs);
            }
        }
    }

    /// Folds the oldest `len` raw observations away, and keeps their event times if `times` says so.
    #[inline(never)]
    fn fold(&mut self, len: usize, times: bool) {
        let Some(moments) = Moments::of(&self.raw[..len]) else { return };
        match &mut self.folded {
            Some(folded) => {
                if times && folded.times.is_none() {
                    folded.times = Some(Box::new(Times::after(folded.moments.last.time_ns)));
                }
                folded.moments.append(&moments);
            }
            None => {
                let times = times.then(|| Box::new(Times::new()));
                self.folded = Some(Box::new(Folded {
                    moments,
                    sketch: Sketch::new(),
                    waiting: Vec::new(),
                    behind: 0,
                    times,
                }));
            }
        }
        if let Some(folded) = &mut self.folded {
            folded.add_values(&self.raw[..len]);
            if let Some(times) = &mut folded.times {
                times.extend(self.raw[..len].iter().map(|obs| obs.time_ns));
            }
        }
        self.raw.drain(..len);
    }

    /// Appends a pane that lies after this one: how a coarser tier is made of a finer one. If `times` says so,
    /// what is folded for it keeps event times.
    pub fn append_pane(&mut self, later: Pane, times: bool) {
        self.revision = self.revision.max(later.revision);
        if let Some(part) = later.folded {
            self.fold(self.raw.len(), times);
            match &mut self.folded {
                None => self.folded = Some(part),
                Some(folded) => folded.append(*part),
            }
        }
        for obs in later.raw {
            self.insert_keeping(obs, times);
        }
    }

    /// Whether the pane has an observation at exactly `time_ns`.
    pub fn seen(&self, time_ns: TimeNs) -> Seen {
        match &self.folded {
            _ if self.raw.binary_search_by_key(&time_ns, |obs| obs.time_ns).is_ok() => Seen::Yes,
            Some(folded) => folded.seen(time_ns),
            None => Seen::No,
        }
    }

    /// The folded part, if there is one.
    pub fn folded(&self) -> Option<&Folded> {
        self.folded.as_deref()
    }

    /// The raw part, in event-time order.
    pub fn raw(&self) -> &[Obs] {
        &self.raw
    }

    /// Number of observations.
    pub fn count(&self) -> u64 {
        self.folded.as_ref().map_or(0, |f| f.moments.count) + self.raw.len() as u64
    }

    /// The latest observation.
    pub fn last(&self) -> Option<Obs> {
        self.raw.last().copied().or_else(|| self.folded.as_ref().map(|f| f.moments.last))
    }

    /// Whether it has no observation.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.raw.is_empty() && self.folded.is_none()
    }

    /// Whether it is packed as soon as another begins.
    fn is_small(&self) -> bool {
        self.folded.is_none() && self.raw.len() <= PACK_AT_ONCE_MAX
    }

    /// Bytes held beside the pane itself.
    pub fn heap_bytes(&self) -> usize {
        self.raw.capacity() * size_of::<Obs>() + self.folded.as_ref().map_or(0, |folded| folded.bytes())
    }

    /// How much work it is to pack it, in observations.
    fn packing_work(&self) -> usize {
        self.raw.len()
            + self.folded.as_ref().map_or(0, |folded| 64 + folded.waiting.len() + folded.sketch.bins())
    }
}

impl Folded {
    fn add_values(&mut self, observations: &[Obs]) {
        self.waiting.extend(observations.iter().map(|obs| obs.value));
        if self.waiting.len() >= WAITING_LEN_MAX {
            self.sketch.insert_all(&self.waiting);
            self.waiting.clear();
        }
    }

    /// Adds all values to `sketch`.
    pub fn add_to(&self, sketch: &mut Sketch) {
        sketch.merge(&self.sketch);
        sketch.insert_all(&self.waiting);
    }

    /// Appends the fold of a pane that lies after this one's.
    fn append(&mut self, later: Folded) {
        later.add_to(&mut self.sketch);
        match (&mut self.times, later.times) {
            (Some(times), part) => times.append(part.map(|times| *times), later.moments.last.time_ns),
            (None, Some(part)) => {
                let before = Times::after(self.moments.last.time_ns);
                self.times.insert(Box::new(before)).append(Some(*part), later.moments.last.time_ns);
            }
            (None, None) => {}
        }
        self.moments.append(&later.moments);
        self.behind += later.behind;
    }

    fn seen(&self, time_ns: TimeNs) -> Seen {
        let (first_ns, last_ns) = (self.moments.first.time_ns, self.moments.last.time_ns);
        if time_ns < first_ns || time_ns > last_ns {
            return Seen::No;
        }
        if time_ns == first_ns || time_ns == last_ns {
            return Seen::Yes;
        }
        self.times.as_ref().map_or(Seen::Unsure, |times| times.seen(time_ns))
    }

    fn bytes(&self) -> usize {
        let times = self.times.as_ref().map_or(0, |times| times.bytes());
        let waiting = self.waiting.capacity() * size_of::<f64>();
        size_of::<Folded>() + self.sketch.bytes() + waiting + times
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn count_and_increase(pane: &Pane) -> (u64, f64) {
        let mut total = pane.folded().map(|f| f.moments);
        if let Some(raw) = Moments::of(pane.raw()) {
            match &mut total {
                Some(total) => total.append(&raw),
                None => total = Some(raw),
            }
        }
        total.map_or((0, 0.0), |m| (m.count, m.increase))
    }

    proptest! {
        /// Whatever the order of arrival, a pane that did not fold equals the sorted fold; one that did
        /// equals it as well for disorder shorter than its raw half.
        #[test]
        fn arrival_order_does_not_matter(
            values in prop::collection::vec(0u32..50, 1..400),
            swaps in prop::collection::vec((0usize..400, 0usize..FOLD_LEN - 1), 0..100),
        ) {
            let sorted: Vec<Obs> = values.iter().enumerate()
                .map(|(i, v)| Obs { time_ns: i as i64, value: f64::from(*v) }).collect();
            let mut arrival = sorted.clone();
            let mut moved = vec![false; arrival.len()];
            for (at, by) in swaps {
                let (at, to) = (at % arrival.len(), (at % arrival.len() + by).min(arrival.len() - 1));
                if moved[at..=to].iter().any(|m| *m) { continue; }
                moved[at..=to].fill(true);
                arrival.swap(at, to);
            }
            let mut pane = Pane::new(0, 4);
            for obs in &arrival { pane.insert(*obs); }
            let whole = Moments::of(&sorted).unwrap();
            prop_assert_eq!(count_and_increase(&pane), (whole.count, whole.increase));
            prop_assert_eq!(pane.last(), Some(whole.last));
            prop_assert_eq!(pane.count(), whole.count);
        }
    }

    #[test]
    fn panes_append_to_a_coarser_one() {
        let (mut early, mut late) = (Pane::new(0, 1), Pane::new(10, 1));
        for i in 0..10 {
            early.insert(Obs { time_ns: i, value: i as f64 });
        }
        for i in 10..200 {
            late.insert(Obs { time_ns: i, value: (i % 100) as f64 });
        }
        early.append_pane(late, false);
        assert_eq!(count_and_increase(&early), (200, 99.0 + 99.0));
        assert_eq!(early.last().map(|o| o.time_ns), Some(199));
    }
}
