//! What every codec decodes into: limits, the cache of known shapes, accepted samples and rejects.
//!
//! One decoder per receiving thread or task. A target (service and tags) is recognised by the very bytes
//! that spelled it last time; its metrics by their place. Only what is new asks the catalog. What whole messages look like
//! is remembered too, apart from the targets, for the tiers that compare before they parse.

use std::ops::Range;
use std::sync::Arc;

use operators::catalog::{Catalog, Full};
use operators::sample::{DEDUP, DurationNs, Sample, SeriesId, TimeNs};
use operators::series::Target;

use super::json::scan::Scanned;
use super::otlp::points::Memory;
use super::reject::{Reason, Reject};
use super::time::Minute;
use layout::{LayoutId, Layouts, Part, Places};
use shapes::{Kind, Shapes, Spelling};

mod classes;
pub(super) mod layout;
pub(super) mod shapes;
#[cfg(test)]
mod tests;

/// What makes a sample acceptable.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Tags of a series.
    pub tags_len_max: usize,
    /// Bytes of a service, metric or tag name.
    pub name_len_max: usize,
    /// Bytes of a tag value.
    pub tag_len_max: usize,
    /// How far an event time may be ahead of the arrival clock.
    pub future_max_ns: DurationNs,
    /// Whether a series has one value a time: another one is the same sample sent again.
    pub dedup: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            tags_len_max: 32,
            name_len_max: 256,
            tag_len_max: 256,
            future_max_ns: 600_000_000_000,
            dedup: false,
        }
    }
}

/// Rejects of a body that are told one by one; more of them are counted by reason only.
pub const REJECTS_TOLD_MAX: usize = 10_000;

/// A hasher of a seed of its own: names and tags are not to be trusted.
type Seeded = rapidhash::fast::RandomState;

/// Decodes bodies into samples, with limits, a cache of shapes and a list of rejects.
pub struct Decoder {
    catalog: Arc<Catalog>,
    limits: Limits,
    /// Targets as they were spelled.
    pub(super) shapes: Shapes,
    /// What messages look like.
    pub(super) layouts: Layouts,
    /// Scratch: the values of the message being read.
    pub(super) values: Vec<f64>,
    /// Scratch of the JSON codec's scanner.
    pub(super) scanned: Vec<Scanned>,
    /// What the OTLP codecs keep.
    pub(super) otlp: Memory,
    /// The minute of the last event time that came as text.
    pub(super) minute: Minute,
    /// Accepted samples, in the body's order.
    pub samples: Vec<Sample>,
    /// What was turned away: the first [`REJECTS_TOLD_MAX`].
    pub rejects: Vec<Reject>,
    /// Why more was turned away than `rejects` tells, and why something was passed over that is no error.
    pub untold: Vec<Reason>,
    /// Messages seen, good and bad.
    pub messages: u64,
    /// Arrival clock: the event time of samples that carry none.
    pub arrival_ns: TimeNs,
    /// Service of messages that name none: what follows `metrics.` in the topic. Empty for none.
    pub default_service: String,
}

/// How much of a body had been decoded.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    samples: usize,
    rejects: usize,
    untold: usize,
    messages: u64,
}

/// A target that a decoder knows. Good until the next body begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShapeId(u32);

impl Decoder {
    /// A decoder that numbers series by `catalog`.
    pub fn new(catalog: Arc<Catalog>, limits: Limits) -> Decoder {
        Decoder {
            catalog,
            limits,
            shapes: Shapes::default(),
            layouts: Layouts::default(),
            values: Vec::new(),
            scanned: Vec::new(),
            otlp: Memory::default(),
            minute: Minute::default(),
            samples: Vec::new(),
            rejects: Vec::new(),
            untold: Vec::new(),
            messages: 0,
            arrival_ns: 0,
            default_service: String::new(),
        }
    }

    /// Begins a body that arrived at `arrival_ns`.
    pub fn begin(&mut self, arrival_ns: TimeNs) {
        self.arrival_ns = arrival_ns;
        self.samples.clear();
        self.rejects.clear();
        self.untold.clear();
        self.messages = 0;
        if self.shapes.is_full() {
            // Layouts know the numbers of names and classes, which go as well.
            (self.shapes, self.layouts) = Default::default();
        }
    }

    /// Tags that a series may have.
    pub(super) fn tags_len_max(&self) -> usize {
        self.limits.tags_len_max
    }

    /// Where it is, to come back to.
    pub(super) fn mark(&self) -> Mark {
        Mark {
            samples: self.samples.len(),
            rejects: self.rejects.len(),
            untold: self.untold.len(),
            messages: self.messages,
        }
    }

    /// Forgets what was decoded after `mark`.
    pub(super) fn roll_back(&mut self, mark: Mark) {
        self.samples.truncate(mark.samples);
        self.rejects.truncate(mark.rejects);
        self.untold.truncate(mark.untold);
        self.messages = mark.messages;
    }

    /// Place in the body of the message being decoded.
    pub fn index(&self) -> usize {
        self.messages.saturating_sub(1) as usize
    }

    /// Turns a sample, or with no metric the whole message, away.
    pub fn reject(&mut self, metric: Option<&str>, reason: Reason, found: impl Into<String>) {
        if self.rejects.len() >= REJECTS_TOLD_MAX {
            return self.untold.push(reason);
        }
        let metric = metric.map(|name| super::reject::excerpt(name.as_bytes()));
        self.rejects.push(Reject { index: self.index(), metric, reason, found: found.into() });
    }

    /// Passes something over that is no sample and no error: it is counted.
    pub fn pass_over(&mut self, reason: Reason) {
        debug_assert!(!reason.is_error());
        self.untold.push(reason);
    }

    /// How many samples and messages were turned away.
    pub fn rejected(&self) -> usize {
        self.rejects.len() + self.untold.iter().filter(|reason| reason.is_error()).count()
    }

    /// The shape spelled by `service` and `tags`, if it is known.
    pub fn known_shape(&self, service: &[u8], tags: &[u8]) -> Option<ShapeId> {
        self.shapes.find(Spelling { kind: Kind::Body, service, tags })
    }

    /// Learns a shape. Limits on the target are checked here, once.
    ///
    /// # Errors
    /// If the target is not acceptable.
    pub fn learn_shape(
        &mut self,
        service: &[u8],
        tags: &[u8],
        name: &str,
        pairs: &[(&str, &str)],
    ) -> Result<ShapeId, (Reason, String)> {
        self.learn_spelling(Spelling { kind: Kind::Body, service, tags }, name, pairs)
    }

    /// The same, whatever spells it.
    pub(super) fn learn_spelling(
        &mut self,
        spelling: Spelling,
        name: &str,
        pairs: &[(&str, &str)],
    ) -> Result<ShapeId, (Reason, String)> {
        if name.is_empty() {
            return Err((Reason::BadService, "an empty one".into()));
        }
        self.check_name(name)?;
        if pairs.len() > self.limits.tags_len_max {
            return Err((Reason::TooManyTags, format!("{} tags", pairs.len())));
        }
        for (tag, value) in pairs {
            self.check_name(tag)?;
            if value.len() > self.limits.tag_len_max {
                return Err((Reason::TagTooLong, format!("{} bytes in tag {tag}", value.len())));
            }
            if tag.is_empty() || value.chars().any(char::is_control) {
                return Err((
                    Reason::ControlCharacter,
                    format!("in tag {}", super::reject::excerpt(tag.as_bytes())),
                ));
            }
        }
        // A tag without a value is no tag.
        let target = Target::new(name, pairs.iter().copied().filter(|(_, value)| !value.is_empty()));
        Ok(self.shapes.add(spelling, target))
    }

    fn check_name(&self, name: &str) -> Result<(), (Reason, String)> {
        if name.len() > self.limits.name_len_max {
            return Err((Reason::NameTooLong, format!("{} bytes", name.len())));
        }
        if name.bytes().any(|b| b < 0x20 || b == 0x7f) {
            return Err((Reason::ControlCharacter, super::reject::excerpt(name.as_bytes())));
        }
        Ok(())
    }

    /// Whether an event time is acceptable; if not, the message is turned away.
    pub fn accept_time(&mut self, time_ns: TimeNs) -> bool {
        let ahead_ns = time_ns.saturating_sub(self.arrival_ns);
        if ahead_ns > self.limits.future_max_ns {
            self.reject(None, Reason::TooFarAhead, format!("{} s ahead", ahead_ns / 1_000_000_000));
            return false;
        }
        true
    }

    /// Makes every sample from `before` on another one, whatever has its series and time.
    pub(super) fn tell_apart(&mut self, before: usize) {
        self.samples[before..].iter_mut().for_each(|sample| sample.seq &= !DEDUP);
    }

    /// Accepts one value of the metric `name`, the `place`-th of its message, or turns it away.
    #[inline]
    pub fn push(&mut self, shape: ShapeId, place: usize, name: &str, time_ns: TimeNs, value: f64) {
        match self.known_series(shape, place, name) {
            Some(id) => self.push_known(id, name, time_ns, value),
            None if !value.is_finite() => self.reject(Some(name), Reason::NotFinite, value.to_string()),
            None => match self.find_series(shape, name) {
                Ok(id) => self.push_known(id, name, time_ns, value),
                Err((reason, found)) => self.reject(Some(name), reason, found),
            },
        }
    }

    /// The series of the metric `name`, the `place`-th of its message, if the shape has it.
    #[inline]
    pub(super) fn known_series(&self, shape: ShapeId, place: usize, name: &str) -> Option<SeriesId> {
        self.shapes.series(shape, place, name.as_bytes())
    }

    /// The first series of a shape: the only one, of a format that spells each series out.
    #[inline]
    pub(super) fn only_series(&self, shape: ShapeId) -> Option<SeriesId> {
        self.shapes.series_at(shape, 0)
    }

    /// Accepts all of [`Self::values`] as those of `layout` at one time. False, and nothing has changed, if the shape does not
    /// have all of their series.
    #[inline]
    pub(super) fn push_values(&mut self, shape: ShapeId, layout: LayoutId, time_ns: TimeNs) -> bool {
        let Some(class) = self.shapes.class(shape) else { return false };
        let seq = if self.limits.dedup { DEDUP } else { 0 };
        let place_of = |name| self.shapes.place_of(class, name);
        let Some(places) = self.layouts.places(layout, class, place_of) else { return false };
        let values = self.values.iter().enumerate();
        if let (Places::Same, Some(first)) = (places, self.shapes.run(shape, values.len())) {
            let sample = |(at, value): (usize, &f64)| {
                let series = first + at as SeriesId;
                Sample { series, seq, time_ns, value: *value }
            };
            self.samples.extend(values.map(sample));
        } else {
            let before = self.samples.len();
            for (at, value) in values {
                let place = if let Places::At(places) = places { places[at] as usize } else { at };
                let Some(series) = self.shapes.series_at(shape, place) else {
                    self.samples.truncate(before);
                    return false;
                };
                self.samples.push(Sample { series, seq, time_ns, value: *value });
            }
        }
        true
    }

    /// Learns what a message of `shape` looks like: its text, and its parts with the range of each.
    pub(super) fn learn_layout(&mut self, shape: ShapeId, text: &[u8], parts: &[(Part, Range<usize>)]) {
        let intern = |name: &str| self.shapes.intern(name);
        let Some(layout) = self.layouts.learn(text, parts, intern) else { return };
        self.layouts.used(layout);
        if let Some(class) = self.shapes.class(shape) {
            self.shapes.set_layout(class, layout);
        }
    }

    /// Accepts a value of a series, or turns it away.
    #[inline]
    pub(super) fn push_known(&mut self, series: SeriesId, name: &str, time_ns: TimeNs, value: f64) {
        if !value.is_finite() {
            return self.reject(Some(name), Reason::NotFinite, value.to_string());
        }
        let seq = if self.limits.dedup { DEDUP } else { 0 };
        self.samples.push(Sample { series, seq, time_ns, value });
    }

    /// Whether the metric `name` of a shape is acceptable, and has its place in the catalog from here on.
    ///
    /// # Errors
    /// If it is not, or there is no room.
    pub(super) fn admit(&mut self, shape: ShapeId, place: usize, name: &str) -> Result<(), (Reason, String)> {
        match self.known_series(shape, place, name) {
            Some(_) => Ok(()),
            None => self.find_series(shape, name).map(drop),
        }
    }

    /// Accepts a value of a series if there is nothing to say against it. False, and nothing has changed, if there is.
    #[inline]
    pub(super) fn push_good(&mut self, series: SeriesId, time_ns: TimeNs, value: f64) -> bool {
        let is_good =
            value.is_finite() && time_ns.saturating_sub(self.arrival_ns) <= self.limits.future_max_ns;
        if is_good {
            let seq = if self.limits.dedup { DEDUP } else { 0 };
            self.samples.push(Sample { series, seq, time_ns, value });
        }
        is_good
    }

    #[cold]
    fn find_series(&mut self, shape: ShapeId, name: &str) -> Result<SeriesId, (Reason, String)> {
        if name.is_empty() {
            return Err((Reason::EmptyName, String::new()));
        }
        self.check_name(name)?;
        let target = self.shapes.target(shape);
        let id = self.catalog.resolve(target, name).map_err(|full| match full {
            Full::Series => (Reason::SeriesLimit, String::new()),
            Full::Service => (Reason::ServiceLimit, target.service.to_string()),
        })?;
        if self.shapes.class(shape).is_none()
            && let Some(key) = self.catalog.key(id)
        {
            self.shapes.share_target(shape, key.target);
        }
        self.shapes.learn(shape, name, id);
        Ok(id)
    }
}

/// A hasher for keys that are hashes already.
#[derive(Default)]
struct AsIs(u64);

impl std::hash::Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}
