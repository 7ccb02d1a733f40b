//! How messages look: the bytes between their numbers, learned from one message and compared with the next.
//!
//! A layout is shared by all targets whose messages have the same names in the same order and the same spaces between them.
//! What differs from target to target and from message to message stands in slots.

use std::collections::HashMap;

use super::classes::{ClassId, NameId};

/// A layout, by its number. One that is no longer there, or another by then, is only a wrong guess.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::codec) struct LayoutId(u32);

impl Default for LayoutId {
    fn default() -> LayoutId {
        LayoutId(u32::MAX)
    }
}

/// What stands in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::codec) enum Slot {
    /// The service as the shape spells it.
    Service,
    /// The tags as the shape spells them.
    Tags,
    /// An event time, up to the closing quote.
    TimeText,
    /// An event time as a number.
    TimeNumber,
}

/// How a number is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::codec) enum Form {
    /// With or without a fraction.
    Decimal,
    /// Without one, and it is an integer.
    Integer,
    /// Without one, and it is not negative.
    Unsigned,
}

/// Bytes that must stand at a place. The first 32 are compared as four words, whatever their number.
pub(in crate::codec) struct Literal {
    words: [u64; 4],
    masks: [u64; 4],
    len: usize,
    /// All of it.
    text: Box<[u8]>,
}

const WINDOW_LEN: usize = 32;

impl Literal {
    pub(super) fn new(text: &[u8]) -> Literal {
        let mut window = [0; WINDOW_LEN];
        let len = text.len().min(WINDOW_LEN);
        window[..len].copy_from_slice(&text[..len]);
        let mut mask = [0; WINDOW_LEN];
        mask[..len].fill(0xff);
        Literal { words: words(&window), masks: words(&mask), len: text.len(), text: text.into() }
    }

    /// Where it ends, if it stands at `at`.
    #[inline(always)]
    pub(in crate::codec) fn end(&self, bytes: &[u8], at: usize) -> Option<usize> {
        let is_there = match bytes.get(at..).and_then(|rest| rest.first_chunk()) {
            Some(window) if self.len <= WINDOW_LEN => {
                let found = words(window);
                let differing = (0..4).fold(0, |all, i| all | ((found[i] ^ self.words[i]) & self.masks[i]));
                differing == 0
            }
            _ => bytes.get(at..).is_some_and(|rest| rest.starts_with(&self.text)),
        };
        is_there.then_some(at + self.len)
    }
}

#[inline(always)]
fn words(window: &[u8; WINDOW_LEN]) -> [u64; 4] {
    let mut words = [0; 4];
    let (chunks, _) = window.as_chunks();
    for (word, chunk) in words.iter_mut().zip(chunks) {
        *word = u64::from_le_bytes(*chunk);
    }
    words
}

/// A layout: literals and slots, the numbers, literals and slots, a last literal.
pub(in crate::codec) struct Layout {
    /// What stands before the numbers.
    pub(in crate::codec) before: Vec<(Literal, Slot)>,
    /// What stands before each number, and how it is written.
    pub(in crate::codec) numbers: Vec<(Literal, Form)>,
    /// What stands behind them.
    pub(in crate::codec) after: Vec<(Literal, Slot)>,
    /// What stands at the end.
    pub(in crate::codec) last: Literal,
    names: Vec<NameId>,
    /// Where the names stand in classes.
    places: Vec<(ClassId, Places)>,
}

/// Where the names of a layout stand in a class.
pub(super) enum Places {
    /// At the same places.
    Same,
    /// There.
    At(Box<[u32]>),
}

/// A part of a message.
#[derive(Clone, Debug)]
pub(in crate::codec) enum Part<'a> {
    /// A number, and its metric's name.
    Number(&'a str, Form),
    /// Anything else.
    Slot(Slot),
}

/// Layouts held at most; then all are forgotten and learned again.
const LAYOUTS_LEN_MAX: usize = 512;

/// Bytes that all of them may take.
const LAYOUT_BYTES_MAX: usize = 8 << 20;

/// Numbers of a layout.
const NUMBERS_LEN_MAX: usize = 1024;

/// Classes of which a layout knows the places.
const PLACES_LEN_MAX: usize = 8;

/// Layouts that are tried when the guess was wrong.
const RECENT_LEN: usize = 4;

/// Learning costs more than scanning as many messages as may be scanned before something is learned again.
const PRICE: u32 = 64;

/// So much may be spent at once.
const CREDIT_MAX: u32 = PRICE * 512;

/// All layouts of a decoder.
pub(in crate::codec) struct Layouts {
    layouts: Vec<Layout>,
    /// By what tells them apart.
    numbers: HashMap<Box<[u8]>, u32, super::Seeded>,
    bytes: usize,
    recent: [LayoutId; RECENT_LEN],
    /// Grows with every message, so that learning what never comes again stays a small part of the work.
    credit: u32,
    /// Whether the next message that the full parser reads is to be learned, for a scanner that leaves that to it.
    pub(in crate::codec) lesson: bool,
}

impl Default for Layouts {
    fn default() -> Layouts {
        Layouts {
            layouts: Vec::new(),
            numbers: HashMap::default(),
            bytes: 0,
            recent: [LayoutId::default(); RECENT_LEN],
            credit: CREDIT_MAX,
            lesson: false,
        }
    }
}

impl Layouts {
    #[inline]
    pub(in crate::codec) fn get(&self, id: LayoutId) -> Option<&Layout> {
        self.layouts.get(id.0 as usize)
    }

    /// The layouts that are worth trying after `guess`, which failed.
    pub(in crate::codec) fn others(&self, guess: LayoutId) -> impl Iterator<Item = LayoutId> + use<> {
        self.recent.into_iter().filter(move |id| *id != guess)
    }

    /// Puts a layout that fitted in front.
    pub(in crate::codec) fn used(&mut self, id: LayoutId) {
        let at = self.recent.iter().position(|known| *known == id).unwrap_or(RECENT_LEN - 1);
        self.recent[at] = id;
        self.recent[..=at].rotate_right(1);
    }

    /// One more message was scanned. Whether what it looks like is to be learned; that is paid for then.
    pub(in crate::codec) fn may_learn(&mut self) -> bool {
        self.credit = (self.credit + 1).min(CREDIT_MAX);
        let may_learn = self.credit >= PRICE;
        if may_learn {
            self.credit -= PRICE;
        }
        may_learn
    }

    /// For tests: how many messages were scanned since this was asked last; nothing is learned from the next few.
    #[cfg(test)]
    pub(in crate::codec) fn take_scanned(&mut self) -> u32 {
        std::mem::take(&mut self.credit)
    }

    /// For tests: what is scanned next is learned.
    #[cfg(test)]
    pub(in crate::codec) fn give_credit(&mut self) {
        self.credit = CREDIT_MAX;
    }

    /// Learns what a message looks like: its text, and its parts with the range of each. `None` if it is too large.
    pub(super) fn learn(
        &mut self,
        text: &[u8],
        parts: &[(Part, std::ops::Range<usize>)],
        mut intern: impl FnMut(&str) -> NameId,
    ) -> Option<LayoutId> {
        let key = key(text, parts);
        if let Some(number) = self.numbers.get(&key) {
            return Some(LayoutId(*number));
        }
        let bytes = 2 * key.len() + parts.len() * size_of::<(Literal, Slot)>();
        if parts.len() > NUMBERS_LEN_MAX || bytes > LAYOUT_BYTES_MAX / 16 {
            return None;
        }
        if self.layouts.len() >= LAYOUTS_LEN_MAX || self.bytes + bytes > LAYOUT_BYTES_MAX {
            *self = Layouts { credit: self.credit, ..Layouts::default() };
        }
        let (mut before, mut numbers, mut after, mut names) = (vec![], vec![], vec![], vec![]);
        let mut at = 0;
        for (part, range) in parts {
            let literal = Literal::new(&text[at..range.start]);
            match part {
                Part::Number(..) if !after.is_empty() => return None,
                Part::Number(name, form) => {
                    numbers.push((literal, *form));
                    names.push(intern(name));
                }
                Part::Slot(slot) if numbers.is_empty() => before.push((literal, *slot)),
                Part::Slot(slot) => after.push((literal, *slot)),
            }
            at = range.end;
        }
        let last = Literal::new(&text[at..]);
        let id = self.layouts.len() as u32;
        self.layouts.push(Layout { before, numbers, after, last, names, places: Vec::new() });
        self.bytes += bytes;
        self.numbers.insert(key, id);
        Some(LayoutId(id))
    }

    /// Where the names of a layout stand in `class`: found once, then remembered. `None` if one is not there.
    #[inline]
    pub(super) fn places(
        &mut self,
        layout: LayoutId,
        class: ClassId,
        place_of: impl Fn(NameId) -> Option<usize>,
    ) -> Option<&Places> {
        let layout = self.layouts.get_mut(layout.0 as usize)?;
        match layout.places.iter().position(|(known, _)| *known == class) {
            Some(at) => Some(&layout.places[at].1),
            None => layout.find_places(class, place_of),
        }
    }
}

impl Layout {
    #[cold]
    fn find_places(&mut self, class: ClassId, place_of: impl Fn(NameId) -> Option<usize>) -> Option<&Places> {
        let found = self.names.iter().map(|name| Some(place_of(*name)? as u32));
        let found: Box<[u32]> = found.collect::<Option<_>>()?;
        let is_same = found.iter().enumerate().all(|(at, place)| at == *place as usize);
        if self.places.len() >= PLACES_LEN_MAX {
            self.places.clear();
        }
        self.places.push((class, if is_same { Places::Same } else { Places::At(found) }));
        self.places.last().map(|(_, places)| places)
    }
}

/// Tells layouts apart: all literals, and what stands between them.
fn key(text: &[u8], parts: &[(Part, std::ops::Range<usize>)]) -> Box<[u8]> {
    let mut key = Vec::with_capacity(text.len());
    let mut at = 0;
    for (part, range) in parts {
        key.extend_from_slice(&text[at..range.start]);
        // No byte of UTF-8.
        key.push(match part {
            Part::Number(_, form) => 0xf8 + *form as u8,
            Part::Slot(slot) => 0xfb + *slot as u8,
        });
        at = range.end;
    }
    key.extend_from_slice(&text[at..]);
    key.into()
}
