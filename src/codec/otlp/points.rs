//! What becomes of each kind of point. Both forms of OTLP fill a [`Points`] with what they read, and have it taken.
//!
//! A series is recognised by its metric's name and the bytes of its attributes, beside a number for its resource:
//! tags are made of them only when they are new. Nothing here is larger than the body that it came from.

use std::collections::HashMap;

use operators::sample::TimeNs;

use super::attributes::{
    ATTRIBUTES_LEN_MAX, Attributes, Form, NoTags, check_len, is_description, number_text,
};
use super::buckets::{BUCKETS_LEN_MAX, Edges};
use crate::codec::decoder::{Decoder, ShapeId};
use crate::codec::reject::{Reason, excerpt};

/// Service of a resource without `service.name`.
pub const UNKNOWN_SERVICE: &str = "unknown_service";
/// Bit of a point's flags.
const NO_RECORDED_VALUE: u64 = 1;
/// Resources that are remembered; beyond it, or beyond so many bytes, all are forgotten and numbered anew.
const RESOURCES_LEN_MAX: usize = 10_000;
const RESOURCES_BYTES_MAX: usize = 8 << 20;

/// Kinds of points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Of a gauge or a sum.
    Number,
    /// With explicit bounds.
    Histogram,
    /// With bounds that are powers.
    ExponentialHistogram,
    /// With quantiles.
    Summary,
}

/// What is read of a point, whatever its kind. Absent is the default.
#[derive(Default)]
pub struct Point {
    /// Unix time in nanoseconds; 0 for none.
    pub time_ns: u64,
    /// See the data model.
    pub flags: u64,
    /// Of a number, the value.
    pub number: Option<f64>,
    /// Of the others.
    pub count: u64,
    /// Of the others, where it is told.
    pub sum: Option<f64>,
    /// Of histograms, where it is told.
    pub min: Option<f64>,
    /// Of histograms, where it is told.
    pub max: Option<f64>,
    /// Of exponential histograms.
    pub scale: i32,
    /// Of exponential histograms.
    pub zero_count: u64,
    /// Of exponential histograms.
    pub zero_threshold: f64,
    /// Index of the first of `counts`.
    pub offset: i32,
    /// Index of the first of `negative_counts`.
    pub negative_offset: i32,
    /// Counts of buckets; of an exponential histogram the positive ones.
    pub counts: Bounded<u64>,
    /// Of an exponential histogram.
    pub negative_counts: Bounded<u64>,
    /// Explicit bounds.
    pub bounds: Bounded<f64>,
    /// Of summaries: quantile and value.
    pub quantiles: Bounded<(f64, f64)>,
}

impl Point {
    /// As new, but for the memory of its lists.
    fn clear(&mut self) {
        let mut lists = std::mem::take(self);
        lists.counts.clear();
        lists.negative_counts.clear();
        lists.bounds.clear();
        lists.quantiles.clear();
        let Point { counts, negative_counts, bounds, quantiles, .. } = lists;
        *self = Point { counts, negative_counts, bounds, quantiles, ..Point::default() };
    }
}

/// A list that holds as many values as a histogram may have buckets, and knows whether there were more.
#[derive(Default)]
pub struct Bounded<T> {
    held: Vec<T>,
    has_more: bool,
}

impl<T> Bounded<T> {
    /// Adds a value, if there is room.
    pub fn push(&mut self, value: T) {
        if self.held.len() < BUCKETS_LEN_MAX {
            self.held.push(value);
        } else {
            self.has_more = true;
        }
    }

    fn clear(&mut self) {
        self.held.clear();
        self.has_more = false;
    }
}

/// What a decoder keeps from body to body.
#[derive(Default)]
pub struct Memory {
    /// Resources by the bytes that spelled them, with their numbers, which are not used twice.
    resources: HashMap<Box<[u8]>, u64, rapidhash::fast::RandomState>,
    resources_bytes: usize,
    resources_known: u64,
    resource: Attributes,
    attributes: Attributes,
    point: Point,
    edges: Edges,
    spelling: Vec<u8>,
    metric: String,
    name: String,
}

/// A resource's service and tags.
struct Resource {
    service: String,
    tags: Vec<(String, String)>,
}

/// What tells a series of a point from its others.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    Whole,
    Le(f64),
    Quantile(f64),
}

/// Takes points of one body.
pub struct Points<'d> {
    decoder: &'d mut Decoder,
    form: Form,
    memory: Memory,
    /// Number of the resource that they are of.
    resource_number: u64,
    /// The same as service and tags, once somebody asked.
    resource: Option<Result<Resource, NoTags>>,
    time_ns: TimeNs,
}

impl<'d> Points<'d> {
    /// Into `decoder`, from a body of that form.
    pub fn into(decoder: &'d mut Decoder, form: Form) -> Points<'d> {
        let memory = std::mem::take(&mut decoder.otlp);
        Points { decoder, form, memory, resource_number: 0, resource: None, time_ns: 0 }
    }

    /// Begins a resource; its attributes are to be filled in, then [`Points::end_resource`].
    pub fn begin_resource(&mut self) -> &mut Attributes {
        self.memory.resource.clear(self.form);
        &mut self.memory.resource
    }

    /// The resource's attributes are complete: what follows is of it.
    pub fn end_resource(&mut self) {
        let memory = &mut self.memory;
        self.resource = None;
        let spelled = memory.resource.bytes();
        if let Some(number) = memory.resources.get(spelled) {
            self.resource_number = *number;
            return;
        }
        if memory.resources.len() >= RESOURCES_LEN_MAX
            || memory.resources_bytes + spelled.len() > RESOURCES_BYTES_MAX
        {
            memory.resources.clear();
            memory.resources_bytes = 0;
        }
        memory.resources_known += 1;
        // One that is too long is turned away, at whichever point asks.
        if spelled.len() <= ATTRIBUTES_LEN_MAX {
            memory.resources_bytes += spelled.len();
            memory.resources.insert(spelled.into(), memory.resources_known);
        }
        self.resource_number = memory.resources_known;
    }

    /// Begins a metric.
    pub fn begin_metric(&mut self, name: &str) {
        self.memory.metric.clear();
        self.memory.metric.push_str(name);
    }

    /// Begins a point: it and its attributes are to be filled in, then [`Points::take`] or [`Points::refuse`].
    pub fn begin_point(&mut self) -> (&mut Point, &mut Attributes) {
        self.decoder.messages += 1;
        self.memory.point.clear();
        self.memory.attributes.clear(self.form);
        (&mut self.memory.point, &mut self.memory.attributes)
    }

    /// Turns the point that was begun away.
    pub fn refuse(&mut self, found: String) {
        self.decoder.reject(Some(&self.memory.metric), Reason::BadPoint, found);
    }

    /// Turns something larger than a point away, which counts as one.
    pub fn refuse_whole(&mut self, found: String) {
        self.decoder.messages += 1;
        self.decoder.reject(None, Reason::BadPoint, found);
    }

    /// Takes the point that was begun.
    pub fn take(&mut self, kind: Kind) {
        let point = &self.memory.point;
        if point.flags & NO_RECORDED_VALUE != 0 {
            return self.decoder.pass_over(Reason::NoValue);
        }
        if self.memory.metric.is_empty() {
            return self.decoder.reject(Some(""), Reason::EmptyName, "");
        }
        self.time_ns = match point.time_ns {
            0 => self.decoder.arrival_ns,
            time_ns => TimeNs::try_from(time_ns).unwrap_or(TimeNs::MAX),
        };
        if !self.decoder.accept_time(self.time_ns) {
            return;
        }
        match kind {
            Kind::Number => self.number(),
            Kind::Histogram => self.histogram(),
            Kind::ExponentialHistogram => self.exponential(),
            Kind::Summary => self.summary(),
        }
    }

    /// The body is done with.
    pub fn end(mut self) {
        self.memory.resource.shrink();
        self.memory.attributes.shrink();
        self.memory.spelling.shrink_to(1 << 12);
        self.memory.metric.shrink_to(1 << 12);
        self.memory.name.shrink_to(1 << 12);
        self.decoder.otlp = self.memory;
    }

    fn number(&mut self) {
        let Some(value) = self.memory.point.number else {
            return self.refuse("a number without a value".into());
        };
        if let Some(shape) = self.shape(Part::Whole) {
            self.push(shape, 0, "", value);
        }
    }

    fn histogram(&mut self) {
        let Point { counts, bounds, .. } = &self.memory.point;
        let too_many = counts.has_more || bounds.has_more;
        if !too_many && let Err(found) = self.memory.edges.explicit(&bounds.held, &counts.held) {
            return self.refuse(found);
        }
        let Some(shape) = self.shape(Part::Whole) else { return };
        self.totals(shape);
        if too_many { self.refuse_buckets() } else { self.buckets() }
    }

    fn exponential(&mut self) {
        let point = &self.memory.point;
        let too_many = point.counts.has_more || point.negative_counts.has_more;
        if !too_many {
            let negative = (point.negative_offset, &*point.negative_counts.held);
            let zero = (point.zero_threshold, point.zero_count);
            self.memory.edges.exponential(point.scale, negative, zero, (point.offset, &point.counts.held));
        }
        let Some(shape) = self.shape(Part::Whole) else { return };
        self.totals(shape);
        if too_many { self.refuse_buckets() } else { self.buckets() }
    }

    fn summary(&mut self) {
        let Some(shape) = self.shape(Part::Whole) else { return };
        self.totals(shape);
        if self.memory.point.quantiles.has_more {
            return self.refuse_buckets();
        }
        for at in 0..self.memory.point.quantiles.held.len() {
            let (quantile, value) = self.memory.point.quantiles.held[at];
            let Some(shape) = self.shape(Part::Quantile(quantile)) else { return };
            self.push(shape, 0, "", value);
        }
    }

    fn totals(&mut self, shape: ShapeId) {
        let Point { count, sum, min, max, .. } = self.memory.point;
        self.push(shape, 0, "_count", count as f64);
        for (at, (suffix, value)) in [("_sum", sum), ("_min", min), ("_max", max)].into_iter().enumerate() {
            if let Some(value) = value {
                self.push(shape, at + 1, suffix, value);
            }
        }
    }

    fn buckets(&mut self) {
        let edges = std::mem::take(&mut self.memory.edges);
        for (bound, upto) in edges.iter() {
            let Some(shape) = self.shape(Part::Le(bound)) else { break };
            self.push(shape, 0, "_bucket", upto as f64);
        }
        self.memory.edges = edges;
    }

    fn refuse_buckets(&mut self) {
        let found = format!("more than {BUCKETS_LEN_MAX}");
        self.decoder.reject(Some(&self.memory.metric), Reason::TooManyBuckets, found);
    }

    /// Accepts a value of the metric with `suffix`, the `place`-th of its shape.
    fn push(&mut self, shape: ShapeId, place: usize, suffix: &str, value: f64) {
        let Memory { name, metric, .. } = &mut self.memory;
        let name = if suffix.is_empty() {
            metric.as_str()
        } else {
            name.clear();
            name.push_str(metric);
            name.push_str(suffix);
            name.as_str()
        };
        self.decoder.push(shape, place, name, self.time_ns, value);
    }

    /// The shape of a part of the point; none if it is not acceptable, which is told.
    fn shape(&mut self, part: Part) -> Option<ShapeId> {
        let Memory { spelling, metric, attributes, .. } = &mut self.memory;
        spelling.clear();
        let (kind, number) = match part {
            Part::Whole => (0, 0.0),
            Part::Le(bound) => (1, bound),
            Part::Quantile(quantile) => (2, quantile),
        };
        spelling.push(kind);
        spelling.extend_from_slice(&number.to_bits().to_le_bytes());
        spelling.extend_from_slice(&(metric.len() as u64).to_le_bytes());
        spelling.extend_from_slice(metric.as_bytes());
        spelling.extend_from_slice(attributes.bytes());
        let resource = self.resource_number.to_le_bytes();
        if let Some(shape) = self.decoder.known_shape(&resource, spelling) {
            return Some(shape);
        }
        match self.learn(part) {
            Ok(shape) => Some(shape),
            Err((reason, found)) => {
                self.decoder.reject(Some(&self.memory.metric), reason, found);
                None
            }
        }
    }

    #[cold]
    fn learn(&mut self, part: Part) -> Result<ShapeId, NoTags> {
        let Points { decoder, memory, resource_number, resource, .. } = self;
        let len_max = decoder.tags_len_max();
        // Once for a resource: its points may be many.
        let resource = resource.get_or_insert_with(|| read_resource(&memory.resource, len_max));
        let resource = resource.as_ref().map_err(Clone::clone)?;
        let own = memory.attributes.pairs(len_max)?;
        let special = match part {
            Part::Whole => None,
            Part::Le(bound) => Some(("le", number_text(bound))),
            Part::Quantile(quantile) => Some(("quantile", number_text(quantile))),
        };
        let is_special = |name: &str| special.as_ref().is_some_and(|(special, _)| *special == name);
        let overridden = |name: &str| is_special(name) || own.iter().any(|(other, _)| other == name);
        let above = resource.tags.iter().filter(|(name, _)| !overridden(name));
        let own = own.iter().filter(|(name, _)| !is_special(name));
        let pairs = above.chain(own).map(|(name, value)| (name.as_str(), value.as_str()));
        let pairs = pairs.chain(special.as_ref().map(|(name, value)| (*name, value.as_str())));
        let pairs: Vec<(&str, &str)> = pairs.filter(|(_, value)| !value.is_empty()).collect();
        decoder.learn_shape(&resource_number.to_le_bytes(), &memory.spelling, &resource.service, &pairs)
    }
}

fn read_resource(attributes: &Attributes, len_max: usize) -> Result<Resource, NoTags> {
    // Descriptions may be as many again.
    let mut tags = attributes.pairs(len_max * 2 + 16)?;
    let mut service = String::new();
    tags.retain_mut(|(name, value)| {
        if name == "service.name" {
            service = std::mem::take(value);
            return false;
        }
        !is_description(name)
    });
    check_len(tags.len(), len_max)?;
    if service.is_empty() {
        service.push_str(UNKNOWN_SERVICE);
    }
    Ok(Resource { service, tags })
}

/// What stands in a text that makes no sense, shortened.
pub(super) fn found(bytes: &[u8]) -> String {
    excerpt(bytes)
}
