//! Metric names, and the lists of them that shapes share: all hosts that send the same fields have one list.
//!
//! A list only grows at its end, so a place in it stays what it is. Names may come in any order, and in another one each
//! time: a shape takes over the list in which its first name stands.

use std::collections::HashMap;

use super::layout::LayoutId;

/// A metric name.
pub(in crate::codec) type NameId = u32;

/// A list of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::codec) struct ClassId(u32);

/// Names of a list; a shape with more of them asks the catalog for the rest.
pub(super) const CLASS_LEN_MAX: usize = 4096;

/// Longer lists are not made longer for one of several shapes: it gets a list of its own.
const SHARED_LEN_MAX: usize = 64;

/// Longer lists have an index.
const SEARCHED_LEN_MAX: usize = 32;

#[derive(Default)]
struct Class {
    names: Vec<NameId>,
    /// Place of each name, once the list is too long to be searched.
    places: HashMap<NameId, u32, super::Seeded>,
    /// Shapes that have it.
    users: u32,
    /// What a message of such a shape looked like last.
    layout: LayoutId,
}

/// All names and lists of a decoder.
#[derive(Default)]
pub(super) struct Classes {
    names: Vec<Box<[u8]>>,
    ids: HashMap<Box<[u8]>, NameId, super::Seeded>,
    /// The list that a name was put in last.
    homes: Vec<Option<ClassId>>,
    classes: Vec<Class>,
    /// Bytes held, roughly.
    bytes: usize,
}

impl Classes {
    /// Bytes held, roughly.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The number of a name, a new one if need be.
    pub(super) fn intern(&mut self, name: &str) -> NameId {
        let name = name.as_bytes();
        if let Some(id) = self.ids.get(name) {
            return *id;
        }
        let id = self.names.len() as NameId;
        self.names.push(name.into());
        self.ids.insert(name.into(), id);
        self.homes.push(None);
        self.bytes += 2 * name.len() + 80;
        id
    }

    /// The place of `name`, which probably is `place`.
    #[inline]
    pub(super) fn place(&self, class: ClassId, place: usize, name: &[u8]) -> Option<usize> {
        let class = &self.classes[class.0 as usize];
        match class.names.get(place) {
            Some(id) if *self.names[*id as usize] == *name => Some(place),
            _ => class.find(*self.ids.get(name)?),
        }
    }

    /// The place of the name `id`.
    pub(super) fn place_of(&self, class: ClassId, id: NameId) -> Option<usize> {
        self.classes[class.0 as usize].find(id)
    }

    /// The list for a shape whose first name is `name`: one that has it, or a new one.
    pub(super) fn first_class(&mut self, name: NameId) -> ClassId {
        let class = match self.homes[name as usize] {
            Some(class) if self.classes[class.0 as usize].suits(name) => class,
            _ => self.new_class(Vec::new()),
        };
        self.classes[class.0 as usize].users += 1;
        class
    }

    /// Puts `name` at the end of the list and gives its place, unless the list is long enough for one of several shapes.
    pub(super) fn append(&mut self, class: ClassId, name: NameId) -> Option<usize> {
        let found = &mut self.classes[class.0 as usize];
        let len_max = if found.users > 1 { SHARED_LEN_MAX } else { CLASS_LEN_MAX };
        if found.names.len() >= len_max {
            return None;
        }
        found.push(name);
        self.homes[name as usize] = Some(class);
        self.bytes += 16;
        Some(found.names.len() - 1)
    }

    /// A list of its own for a shape that has the names at `places` of `class`.
    pub(super) fn split(&mut self, class: ClassId, places: &[usize]) -> ClassId {
        let found = &mut self.classes[class.0 as usize];
        found.users -= 1;
        let names = places.iter().map(|place| found.names[*place]).collect();
        let own = self.new_class(names);
        self.classes[own.0 as usize].users = 1;
        own
    }

    /// What a message of such a shape looked like last.
    #[inline]
    pub(super) fn layout(&self, class: ClassId) -> LayoutId {
        self.classes[class.0 as usize].layout
    }

    /// Remembers what a message of such a shape looks like.
    #[inline]
    pub(super) fn set_layout(&mut self, class: ClassId, layout: LayoutId) {
        self.classes[class.0 as usize].layout = layout;
    }

    fn new_class(&mut self, names: Vec<NameId>) -> ClassId {
        let id = ClassId(self.classes.len() as u32);
        let mut class = Class::default();
        self.bytes += size_of::<Class>() + 16 * names.len();
        for name in names {
            class.push(name);
            self.homes[name as usize] = Some(id);
        }
        self.classes.push(class);
        id
    }
}

impl Class {
    /// Whether a shape whose first name is `name` should share the list.
    fn suits(&self, name: NameId) -> bool {
        self.names.len() <= SHARED_LEN_MAX || self.names.first() == Some(&name)
    }

    fn find(&self, name: NameId) -> Option<usize> {
        if self.places.is_empty() {
            return self.names.iter().position(|known| *known == name);
        }
        self.places.get(&name).map(|place| *place as usize)
    }

    fn push(&mut self, name: NameId) {
        self.names.push(name);
        if self.names.len() > SEARCHED_LEN_MAX {
            let from = self.places.len();
            self.places.extend((from..self.names.len()).map(|place| (self.names[place], place as u32)));
        }
    }
}
