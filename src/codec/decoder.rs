//! What every codec decodes into: limits, the cache of known shapes, accepted samples and rejects.
//!
//! One decoder per receiving thread or task. A target (service and tags) is recognised by the very bytes
//! that spelled it last time; its metrics by their place. Only what is new asks the catalog.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Arc;

use operators::catalog::{Catalog, Full};
use operators::sample::{DEDUP, DurationNs, Sample, SeriesId, TimeNs};
use operators::series::Target;

use super::json::scan::Scanned;
use super::otlp::points::Memory;
use super::reject::{Reason, Reject};

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

/// Shapes that a decoder remembers; past that it starts afresh.
const SHAPES_LEN_MAX: usize = 1 << 17;

/// Bytes of spellings and names that a decoder remembers; past that it starts afresh, too.
const SHAPES_BYTES_MAX: usize = 64 << 20;

/// Metrics of a shape that are looked through one by one.
const METRICS_LOOKED_THROUGH_MAX: usize = 32;

/// Rejects of a body that are told one by one; more of them are counted by reason only.
pub const REJECTS_TOLD_MAX: usize = 10_000;

/// A target as spelled, and the series of its metrics by place.
struct Shape {
    service: Box<[u8]>,
    tags: Box<[u8]>,
    target: Arc<Target>,
    metrics: Vec<(Box<str>, SeriesId)>,
    /// The same by name, once there are many.
    by_name: HashMap<Box<str>, SeriesId, rapidhash::fast::RandomState>,
}

/// Decodes bodies into samples, with limits, a cache of shapes and a list of rejects.
pub struct Decoder {
    catalog: Arc<Catalog>,
    limits: Limits,
    hasher: rapidhash::fast::RandomState,
    /// Hash of the spelling -> place in `shapes`; collisions are told apart by the bytes.
    places: HashMap<u64, u32, std::hash::BuildHasherDefault<AsIs>>,
    shapes: Vec<Shape>,
    shapes_bytes: usize,
    /// Scratch of the JSON codec's fast tier.
    pub(super) scanned: Vec<Scanned>,
    /// What the OTLP codecs keep.
    pub(super) otlp: Memory,
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

/// A target that a decoder knows.
#[derive(Clone, Copy)]
pub struct ShapeId(u32);

impl Decoder {
    /// A decoder that numbers series by `catalog`.
    pub fn new(catalog: Arc<Catalog>, limits: Limits) -> Decoder {
        Decoder {
            catalog,
            limits,
            hasher: rapidhash::fast::RandomState::new(),
            places: HashMap::default(),
            shapes: Vec::new(),
            shapes_bytes: 0,
            scanned: Vec::new(),
            otlp: Memory::default(),
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
        let place = *self.places.get(&self.spelling_hash(service, tags))?;
        let shape = &self.shapes[place as usize];
        (*shape.service == *service && *shape.tags == *tags).then_some(ShapeId(place))
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
        if self.shapes.len() >= SHAPES_LEN_MAX || self.shapes_bytes >= SHAPES_BYTES_MAX {
            self.shapes.clear();
            self.places.clear();
            self.shapes_bytes = 0;
        }
        self.shapes_bytes += service.len() + tags.len();
        // A tag without a value is no tag.
        let target = Target::new(name, pairs.iter().copied().filter(|(_, value)| !value.is_empty()));
        let place = self.shapes.len() as u32;
        self.places.insert(self.spelling_hash(service, tags), place);
        self.shapes.push(Shape {
            service: service.into(),
            tags: tags.into(),
            target: Arc::new(target),
            metrics: Vec::new(),
            by_name: HashMap::default(),
        });
        Ok(ShapeId(place))
    }

    fn spelling_hash(&self, service: &[u8], tags: &[u8]) -> u64 {
        self.hasher.hash_one((service, tags))
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
        let Shape { metrics, by_name, .. } = &self.shapes[shape.0 as usize];
        match metrics.get(place) {
            Some((known, id)) if **known == *name => Some(*id),
            _ if metrics.len() > METRICS_LOOKED_THROUGH_MAX => by_name.get(name).copied(),
            _ => metrics.iter().find(|(known, _)| **known == *name).map(|(_, id)| *id),
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

    #[cold]
    fn find_series(&mut self, shape: ShapeId, name: &str) -> Result<SeriesId, (Reason, String)> {
        let known = &self.shapes[shape.0 as usize];
        if name.is_empty() {
            return Err((Reason::EmptyName, String::new()));
        }
        self.check_name(name)?;
        let id = self.catalog.resolve(&known.target, name).map_err(|full| match full {
            Full::Series => (Reason::SeriesLimit, String::new()),
            Full::Service => (Reason::ServiceLimit, known.target.service.to_string()),
        })?;
        self.shapes_bytes += name.len();
        let Shape { metrics, by_name, .. } = &mut self.shapes[shape.0 as usize];
        metrics.push((name.into(), id));
        if metrics.len() > METRICS_LOOKED_THROUGH_MAX {
            // All of them when the limit is passed, then each as it comes.
            let named = metrics[by_name.len()..].iter().map(|(name, id)| (name.clone(), *id));
            by_name.extend(named);
        }
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
