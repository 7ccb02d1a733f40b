//! The shapes that a decoder knows: targets as they were spelled, with the series of their metrics.
//!
//! The bytes that spelled a target recognise it. Which shape comes next is guessed first, since producers keep an order:
//! that costs a comparison and no hash. A hash, randomly seeded, finds what was not guessed; the bytes decide in any case.
//! A shape costs its spelling and some 80 bytes, and where its series have consecutive numbers nothing for each of them.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Arc;

use operators::sample::SeriesId;
use operators::series::Target;

use super::classes::{CLASS_LEN_MAX, ClassId, Classes, NameId};
use super::layout::LayoutId;
use super::{AsIs, Seeded, ShapeId};

/// What spelled a target. The same bytes may mean something else as another kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::codec) enum Kind {
    /// Service and tags, as they stand in a body.
    Body,
    /// The topic stands for the service.
    Topic,
    /// A message of another form than the documented one.
    Flat,
}

/// The spelling of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::codec) struct Spelling<'a> {
    pub(in crate::codec) kind: Kind,
    pub(in crate::codec) service: &'a [u8],
    pub(in crate::codec) tags: &'a [u8],
}

/// See [`Shapes::bytes_max`].
const BYTES_MAX: usize = 256 << 20;

/// Longer spellings are not recognised.
const SPELLED_LEN_MAX: usize = 1 << 16;

/// What a shape costs besides its spelling and its series.
const SHAPE_BYTES: usize = size_of::<Shape>() + size_of::<Arc<Target>>() + 2 * size_of::<(u64, u32)>();

/// Places without a series that a shape may have in a row.
const GAP_LEN_MAX: usize = 64;

/// No series is known for a place.
const NO_SERIES: SeriesId = SeriesId::MAX;

/// Series by their place in the class.
enum Series {
    /// Those of the first `len` places have consecutive numbers.
    Run { first: SeriesId, len: u32 },
    /// Any numbers, [`NO_SERIES`] where none is known.
    List(Vec<SeriesId>),
}

struct Shape {
    /// Where its spelling begins: the service, then the tags.
    spelled_at: u32,
    service_len: u32,
    tags_len: u32,
    kind: Kind,
    /// The shape that came after it.
    next: u32,
    class: Option<ClassId>,
    series: Series,
}

/// All shapes of a decoder.
pub(in crate::codec) struct Shapes {
    /// Bytes that may be held when a body begins; then all is forgotten and learned again.
    pub(in crate::codec) bytes_max: usize,
    /// For tests: every hash is one of so many.
    #[cfg(test)]
    pub(in crate::codec) hashes: u64,
    hasher: Seeded,
    /// Hash of the spelling -> number; collisions are told apart by the bytes.
    numbers: HashMap<u64, u32, std::hash::BuildHasherDefault<AsIs>>,
    shapes: Vec<Shape>,
    /// Apart, since they are needed for new metrics only.
    targets: Vec<Arc<Target>>,
    spelled: Vec<u8>,
    classes: Classes,
    /// The shape that came last.
    last: u32,
    /// Bytes of lists of series.
    list_bytes: usize,
}

impl Default for Shapes {
    fn default() -> Shapes {
        Shapes {
            bytes_max: BYTES_MAX,
            #[cfg(test)]
            hashes: u64::MAX,
            hasher: Seeded::default(),
            numbers: HashMap::default(),
            shapes: Vec::new(),
            targets: Vec::new(),
            spelled: Vec::new(),
            classes: Classes::default(),
            last: 0,
            list_bytes: 0,
        }
    }
}

impl Shapes {
    /// Whether more is held than should be.
    pub(super) fn is_full(&self) -> bool {
        self.bytes() > self.bytes_max
    }

    /// Bytes held, roughly.
    pub(super) fn bytes(&self) -> usize {
        let shapes = self.shapes.len() * SHAPE_BYTES + self.spelled.len();
        shapes + self.list_bytes + self.classes.bytes()
    }

    /// The shape that came after the last one when that came before.
    #[inline]
    pub(in crate::codec) fn guess(&self) -> Option<ShapeId> {
        let next = self.shapes.get(self.last as usize)?.next;
        ((next as usize) < self.shapes.len()).then_some(ShapeId(next))
    }

    /// Remembers that `shape` came.
    #[inline]
    pub(in crate::codec) fn came(&mut self, shape: ShapeId) {
        if let Some(last) = self.shapes.get_mut(self.last as usize)
            && last.next != shape.0
        {
            last.next = shape.0;
        }
        self.last = shape.0;
    }

    /// How it is spelled.
    #[inline]
    pub(in crate::codec) fn spelling(&self, shape: ShapeId) -> Spelling<'_> {
        let shape = &self.shapes[shape.0 as usize];
        let (start, service_len) = (shape.spelled_at as usize, shape.service_len as usize);
        let spelled = &self.spelled[start..][..service_len + shape.tags_len as usize];
        let (service, tags) = spelled.split_at(service_len);
        Spelling { kind: shape.kind, service, tags }
    }

    /// The shape spelled so.
    pub(in crate::codec) fn find(&self, spelling: Spelling) -> Option<ShapeId> {
        let shape = ShapeId(*self.numbers.get(&self.hash(spelling))?);
        (self.spelling(shape) == spelling).then_some(shape)
    }

    /// A new shape.
    pub(super) fn add(&mut self, spelling: Spelling, target: Target) -> ShapeId {
        let number = self.shapes.len() as u32;
        let Spelling { kind, service, tags } = spelling;
        let (mut service_len, mut tags_len) = (0, 0);
        let spelled_at = self.spelled.len() as u32;
        if service.len() + tags.len() <= SPELLED_LEN_MAX {
            (service_len, tags_len) = (service.len() as u32, tags.len() as u32);
            self.spelled.extend_from_slice(service);
            self.spelled.extend_from_slice(tags);
            self.numbers.insert(self.hash(spelling), number);
        }
        let series = Series::Run { first: 0, len: 0 };
        let next = number + 1;
        self.shapes.push(Shape { spelled_at, service_len, tags_len, kind, next, class: None, series });
        self.targets.push(Arc::new(target));
        ShapeId(number)
    }

    /// The class, once the shape has a metric.
    #[inline]
    pub(in crate::codec) fn class(&self, shape: ShapeId) -> Option<ClassId> {
        self.shapes[shape.0 as usize].class
    }

    /// The target.
    pub(super) fn target(&self, shape: ShapeId) -> &Arc<Target> {
        &self.targets[shape.0 as usize]
    }

    /// Takes the catalog's own copy of the target, so that there are not two of them.
    pub(super) fn share_target(&mut self, shape: ShapeId, target: Arc<Target>) {
        self.targets[shape.0 as usize] = target;
    }

    /// The series of the metric `name`, probably the one at `place`.
    #[inline]
    pub(in crate::codec) fn series(&self, shape: ShapeId, place: usize, name: &[u8]) -> Option<SeriesId> {
        let shape = &self.shapes[shape.0 as usize];
        shape.series.get(self.classes.place(shape.class?, place, name)?)
    }

    /// The series of the first `len` places, if their numbers are consecutive.
    #[inline]
    pub(super) fn run(&self, shape: ShapeId, len: usize) -> Option<SeriesId> {
        match self.shapes[shape.0 as usize].series {
            Series::Run { first, len: known } if len <= known as usize => Some(first),
            _ => None,
        }
    }

    /// The series at a place.
    #[inline]
    pub(super) fn series_at(&self, shape: ShapeId, place: usize) -> Option<SeriesId> {
        self.shapes[shape.0 as usize].series.get(place)
    }

    /// The place of a name in a class.
    pub(super) fn place_of(&self, class: ClassId, name: NameId) -> Option<usize> {
        self.classes.place_of(class, name)
    }

    /// The number of a name.
    pub(super) fn intern(&mut self, name: &str) -> NameId {
        self.classes.intern(name)
    }

    /// What a message of this shape, or of one that shares its names, looked like last.
    #[inline]
    pub(in crate::codec) fn layout(&self, shape: ShapeId) -> LayoutId {
        self.class(shape).map_or_else(LayoutId::default, |class| self.classes.layout(class))
    }

    /// Remembers what a message of a class looks like.
    #[inline]
    pub(in crate::codec) fn set_layout(&mut self, class: ClassId, layout: LayoutId) {
        self.classes.set_layout(class, layout);
    }

    /// Learns the series of a metric that the shape does not have yet.
    pub(super) fn learn(&mut self, shape: ShapeId, name: &str, id: SeriesId) {
        let name = self.classes.intern(name);
        let found = &mut self.shapes[shape.0 as usize];
        let class = *found.class.get_or_insert_with(|| self.classes.first_class(name));
        // A place far beyond those that the shape has would leave a long gap before it.
        let end = found.series.len();
        let is_near = |place: &usize| *place <= end + GAP_LEN_MAX;
        let mut place = self.classes.place_of(class, name).filter(is_near);
        if place.is_none() && end >= CLASS_LEN_MAX {
            return;
        }
        place = place.or_else(|| self.classes.append(class, name).filter(is_near));
        if place.is_none() {
            let held: Vec<usize> = (0..end).filter(|place| found.series.get(*place).is_some()).collect();
            found.series = Series::List(held.iter().filter_map(|place| found.series.get(*place)).collect());
            let own = self.classes.split(class, &held);
            found.class = Some(own);
            place = self.classes.append(own, name);
        }
        if let Some(place) = place {
            self.list_bytes += found.series.put(place, id);
        }
    }

    fn hash(&self, spelling: Spelling) -> u64 {
        let hash = self.hasher.hash_one(spelling);
        #[cfg(test)]
        let hash = hash % self.hashes;
        hash
    }
}

impl Series {
    fn len(&self) -> usize {
        match self {
            Series::Run { len, .. } => *len as usize,
            Series::List(ids) => ids.len(),
        }
    }

    #[inline]
    fn get(&self, place: usize) -> Option<SeriesId> {
        match self {
            Series::Run { first, len } => (place < *len as usize).then(|| first + place as u32),
            Series::List(ids) => ids.get(place).copied().filter(|id| *id != NO_SERIES),
        }
    }

    /// Puts a series in its place; returns by how many bytes that has grown.
    fn put(&mut self, place: usize, id: SeriesId) -> usize {
        if let Series::Run { first, len } = self {
            if *len == 0 && place == 0 {
                *first = id;
            }
            if *len as usize == place && first.checked_add(*len) == Some(id) {
                *len += 1;
                return 0;
            }
            *self = Series::List((0..*len).map(|place| *first + place).collect());
        }
        let Series::List(ids) = self else { return 0 };
        let before = ids.capacity();
        if place >= ids.len() {
            ids.resize(place + 1, NO_SERIES);
        }
        ids[place] = id;
        (ids.capacity() - before) * size_of::<SeriesId>()
    }
}
