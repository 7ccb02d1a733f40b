//! The panes of one tier, in time order: the newest as it is, those before it packed by and by.
//!
//! A packed pane takes about as many bytes as its observations need; see `saved` for how. What is asked of a run
//! does not depend on what of it is packed: a straggler's pane is unpacked, and packed again later. Most stragglers are
//! for the pane before the newest, which is found at the end of its block.

use std::borrow::Cow;
use std::mem;
use std::ops::Range;

use super::block::Block;
use super::{Obs, Pane};
use crate::sample::{DurationNs, TimeNs};

/// All panes of a tier.
#[derive(Clone, Debug, Default)]
pub(crate) struct Run {
    /// Without observations: there is no pane at all.
    newest: Pane,
    /// Those before it.
    items: Vec<Item>,
}

#[derive(Clone, Debug)]
enum Item {
    Loose(Pane),
    Packed(Block),
}

impl Run {
    /// The starts of all panes there can be.
    pub(crate) const EVERYTHING: Range<TimeNs> = TimeNs::MIN..TimeNs::MAX;

    /// The newest pane, to be filled. It must not stay without an observation once it has a start.
    #[inline]
    pub(crate) fn newest_mut(&mut self) -> &mut Pane {
        &mut self.newest
    }

    /// The newest pane.
    #[inline]
    pub(crate) fn newest(&self) -> &Pane {
        &self.newest
    }

    /// The newest `len` observations, by event time; fewer where something before them is folded, or there are none.
    pub(crate) fn trailing(&self, width_ns: DurationNs, len: usize) -> Cow<'_, [Obs]> {
        let raw = &self.newest.raw;
        if raw.len() >= len || self.newest.folded.is_some() {
            return Cow::Borrowed(&raw[raw.len().saturating_sub(len)..]);
        }
        // From the newest back, the latest of a pane first.
        let mut found: Vec<Obs> = Vec::with_capacity(len);
        let mut goes_on = true;
        let mut take = |pane: &Pane, found: &mut Vec<Obs>| {
            found.extend(pane.raw.iter().rev().take(len - found.len()));
            goes_on &= pane.folded.is_none() && found.len() < len;
            goes_on
        };
        take(&self.newest, &mut found);
        for item in self.items.iter().rev() {
            let more = match item {
                Item::Loose(pane) => take(pane, &mut found),
                Item::Packed(block) => {
                    let panes: Vec<Pane> = block.unpack(width_ns).collect();
                    panes.iter().rev().all(|pane| take(pane, &mut found))
                }
            };
            if !more {
                break;
            }
        }
        found.reverse();
        Cow::Owned(found)
    }

    /// Reads where the newest observation stands.
    #[inline]
    pub(crate) fn touch(&self) -> TimeNs {
        self.newest.raw.last().map_or(0, |obs| obs.time_ns)
    }

    /// Start of the newest pane.
    #[inline]
    pub(crate) fn newest_start(&self) -> Option<TimeNs> {
        (!self.newest.is_empty()).then_some(self.newest.start_ns)
    }

    /// Start of the oldest pane.
    pub(crate) fn oldest_start(&self, width_ns: DurationNs) -> Option<TimeNs> {
        self.items.first().map(|item| item.starts(width_ns).start).or(self.newest_start())
    }

    /// Number of panes.
    pub(crate) fn len(&self) -> usize {
        self.items.iter().map(Item::len).sum::<usize>() + usize::from(!self.newest.is_empty())
    }

    /// Number of panes that begin in `starts`.
    pub(crate) fn count_in(&self, width_ns: DurationNs, starts: Range<TimeNs>) -> usize {
        let newest = self.newest_start().is_some_and(|start_ns| starts.contains(&start_ns));
        let items = self.items[self.overlapping(width_ns, &starts)].iter();
        items.map(|item| item.count_in(width_ns, &starts)).sum::<usize>() + usize::from(newest)
    }

    /// The first pane that begins at or after `start_ns`: its start.
    pub(crate) fn first_from(&self, width_ns: DurationNs, start_ns: TimeNs) -> Option<TimeNs> {
        let range = start_ns..TimeNs::MAX;
        let items = self.items[self.overlapping(width_ns, &range)].iter();
        let mut found = items.filter_map(|item| item.first_from(width_ns, start_ns));
        found.next().or_else(|| self.newest_start().filter(|newest_ns| *newest_ns >= start_ns))
    }

    /// The last pane that begins before `start_ns`: its start.
    pub(crate) fn last_below(&self, width_ns: DurationNs, start_ns: TimeNs) -> Option<TimeNs> {
        if let Some(newest_ns) = self.newest_start().filter(|newest_ns| *newest_ns < start_ns) {
            return Some(newest_ns);
        }
        let at = self.items.partition_point(|item| item.starts(width_ns).start < start_ns);
        self.items.get(at.checked_sub(1)?)?.last_below(width_ns, start_ns)
    }

    /// Calls `look` with every pane that begins in `starts`, in time order.
    pub(crate) fn visit(&self, width_ns: DurationNs, starts: Range<TimeNs>, mut look: impl FnMut(&Pane)) {
        let mut room = Vec::new();
        for item in &self.items[self.overlapping(width_ns, &starts)] {
            match item {
                Item::Loose(pane) => look(pane),
                Item::Packed(block) => {
                    let mut unpacked = block.unpack(width_ns);
                    while let Some(pane) = unpacked.next_into(mem::take(&mut room)) {
                        if starts.contains(&pane.start_ns) {
                            look(&pane);
                        }
                        room = pane.raw;
                        room.clear();
                    }
                }
            }
        }
        if self.newest_start().is_some_and(|start_ns| starts.contains(&start_ns)) {
            look(&self.newest);
        }
    }

    /// What `look` says of the pane that begins at `start_ns`, if there is one.
    pub(crate) fn at<R>(
        &self,
        width_ns: DurationNs,
        start_ns: TimeNs,
        look: impl Fn(&Pane) -> R,
    ) -> Option<R> {
        let mut said = None;
        self.visit(width_ns, start_ns..start_ns.saturating_add(1), |pane| said = Some(look(pane)));
        said
    }

    /// The pane that begins at `start_ns`, to be filled; a new one if there is none.
    pub(crate) fn pane_mut(&mut self, width_ns: DurationNs, start_ns: TimeNs) -> &mut Pane {
        match self.newest_start() {
            Some(newest_ns) if newest_ns == start_ns => &mut self.newest,
            Some(newest_ns) if newest_ns > start_ns => self.older_mut(width_ns, start_ns),
            _ => self.begin(width_ns, start_ns),
        }
    }

    /// Begins a pane behind all others.
    fn begin(&mut self, width_ns: DurationNs, start_ns: TimeNs) -> &mut Pane {
        if self.newest.is_empty() {
            self.newest.start_ns = start_ns;
        } else if self.pack_newest(width_ns) {
            // It leaves its room to the new one.
            self.newest.raw.clear();
            (self.newest.start_ns, self.newest.revision) = (start_ns, 0);
        } else {
            let next = Pane::new(start_ns, self.newest.count() as usize + 1);
            let before = mem::replace(&mut self.newest, next);
            self.push_item(Item::Loose(before));
        }
        &mut self.newest
    }

    /// Packs the newest pane if it is small, and with it the one before if that is loose and small: stragglers came for
    /// it. Returns whether the newest is packed; it is still there then.
    fn pack_newest(&mut self, width_ns: DurationNs) -> bool {
        let is_small = |item: &mut Item| matches!(item, Item::Loose(pane) if pane.is_small());
        if let Some(Item::Loose(pane)) = self.items.pop_if(is_small) {
            self.push_packed(width_ns, &pane);
        }
        // Behind one that is loose still, it has to wait for its turn.
        let packs = self.newest.is_small() && !matches!(self.items.last(), Some(Item::Loose(_)));
        if packs {
            let newest = mem::take(&mut self.newest);
            self.push_packed(width_ns, &newest);
            self.newest = newest;
        }
        packs
    }

    fn push_item(&mut self, item: Item) {
        if self.items.capacity() == self.items.len() {
            // Most runs have one block for long.
            self.items.reserve_exact(1 + self.items.len() / 2);
        }
        self.items.push(item);
    }

    /// Appends a packed pane behind all items.
    fn push_packed(&mut self, width_ns: DurationNs, pane: &Pane) {
        match self.items.last_mut() {
            Some(Item::Packed(block)) if block.takes(width_ns, pane.start_ns) => block.push(width_ns, pane),
            _ => {
                let mut block = Block::new(pane.start_ns);
                block.push(width_ns, pane);
                self.push_item(Item::Packed(block));
            }
        }
    }

    /// A pane before the newest.
    fn older_mut(&mut self, width_ns: DurationNs, start_ns: TimeNs) -> &mut Pane {
        let mut at = self.items.partition_point(|item| item.starts(width_ns).end <= start_ns);
        if let Some(pane) = self.take_last(width_ns, at, start_ns) {
            at = self.items.len();
            self.push_item(Item::Loose(pane));
        } else if let Some(Item::Packed(block)) = self.items.get(at)
            && block.starts(width_ns).contains(&start_ns)
        {
            let panes: Vec<Item> = block.unpack(width_ns).map(Item::Loose).collect();
            let before = panes.iter().filter(|pane| pane.starts(width_ns).end <= start_ns).count();
            self.items.splice(at..=at, panes);
            at += before;
        }
        let there = matches!(self.items.get(at), Some(Item::Loose(pane)) if pane.start_ns == start_ns);
        if !there {
            self.items.insert(at, Item::Loose(Pane::new(start_ns, 1)));
        }
        match &mut self.items[at] {
            Item::Loose(pane) => pane,
            // What stands at `at` was found or put there, as it is.
            Item::Packed(_) => unreachable!("a pane that is to be filled is loose"),
        }
    }

    /// Takes out the pane that begins at `start_ns`, if it is the last of the last block, which is `at`.
    fn take_last(&mut self, width_ns: DurationNs, at: usize, start_ns: TimeNs) -> Option<Pane> {
        let is_last = at + 1 == self.items.len();
        let Some(Item::Packed(block)) = self.items.last_mut().filter(|_| is_last) else { return None };
        let pane = block.take_last(width_ns, start_ns)?;
        if block.len() == 0 {
            self.items.pop();
        }
        Some(pane)
    }

    /// Appends a pane that lies after all others, as it was saved.
    pub(crate) fn push(&mut self, width_ns: DurationNs, pane: Pane) {
        if !self.newest.is_empty() && !self.pack_newest(width_ns) {
            let before = mem::take(&mut self.newest);
            self.push_item(Item::Loose(before));
        }
        self.newest = pane;
    }

    /// Takes the oldest pane out if it begins before `cutoff_ns`.
    pub(crate) fn pop_before(&mut self, width_ns: DurationNs, cutoff_ns: TimeNs) -> Option<Pane> {
        self.oldest_start(width_ns).filter(|oldest_ns| *oldest_ns < cutoff_ns)?;
        match self.items.first_mut() {
            None => Some(mem::take(&mut self.newest)),
            Some(Item::Loose(pane)) => {
                let pane = mem::take(pane);
                self.items.remove(0);
                Some(pane)
            }
            Some(Item::Packed(block)) => {
                let pane = block.pop(width_ns);
                if block.len() == 0 {
                    self.items.remove(0);
                }
                pane
            }
        }
    }

    /// Gives up panes that begin before `floor_ns`; returns how many.
    pub(crate) fn drop_before(&mut self, width_ns: DurationNs, floor_ns: TimeNs) -> u64 {
        let mut gone = 0;
        while self.pop_before(width_ns, floor_ns).is_some() {
            gone += 1;
        }
        gone
    }

    /// Packs what is loose, but for the two newest panes. Returns how much work that was, in observations.
    pub(crate) fn pack(&mut self, width_ns: DurationNs) -> usize {
        let before_last = self.items.len().saturating_sub(1);
        let Some(first) = self.items[..before_last].iter().position(|item| matches!(item, Item::Loose(_)))
        else {
            return 0;
        };
        let rest: Vec<Item> = self.items.drain(first..).collect();
        let (mut work, len) = (0, rest.len());
        for (at, item) in rest.into_iter().enumerate() {
            match item {
                Item::Loose(pane) if at + 1 < len => {
                    work += pane.packing_work();
                    self.push_packed(width_ns, &pane);
                }
                item => self.items.push(item),
            }
        }
        self.items.shrink_to(self.items.len() + 1);
        work
    }

    /// Bytes held beside the run itself.
    pub(crate) fn heap_bytes(&self) -> usize {
        let items = self.items.iter().map(|item| match item {
            Item::Loose(pane) => pane.heap_bytes(),
            Item::Packed(block) => block.heap_bytes(),
        });
        self.items.capacity() * size_of::<Item>() + items.sum::<usize>() + self.newest.heap_bytes()
    }

    /// Items that may hold panes that begin in `starts`.
    fn overlapping(&self, width_ns: DurationNs, starts: &Range<TimeNs>) -> Range<usize> {
        let from = self.items.partition_point(|item| item.starts(width_ns).end <= starts.start);
        let till = self.items.partition_point(|item| item.starts(width_ns).start < starts.end);
        from..till.max(from)
    }
}

impl Item {
    /// From the start of its first pane to just behind the start of its last.
    #[inline]
    fn starts(&self, width_ns: DurationNs) -> Range<TimeNs> {
        match self {
            // No pane begins at the last moment there is: panes that would not fit are not made.
            Item::Loose(pane) => pane.start_ns..pane.start_ns.saturating_add(1),
            Item::Packed(block) => block.starts(width_ns),
        }
    }

    fn len(&self) -> usize {
        match self {
            Item::Loose(_) => 1,
            Item::Packed(block) => block.len(),
        }
    }

    fn count_in(&self, width_ns: DurationNs, starts: &Range<TimeNs>) -> usize {
        match self {
            Item::Loose(pane) => usize::from(starts.contains(&pane.start_ns)),
            Item::Packed(block) => block.count_in(width_ns, starts),
        }
    }

    fn first_from(&self, width_ns: DurationNs, start_ns: TimeNs) -> Option<TimeNs> {
        match self {
            Item::Loose(pane) => Some(pane.start_ns).filter(|held_ns| *held_ns >= start_ns),
            Item::Packed(block) => block.first_from(width_ns, start_ns),
        }
    }

    fn last_below(&self, width_ns: DurationNs, start_ns: TimeNs) -> Option<TimeNs> {
        match self {
            Item::Loose(pane) => Some(pane.start_ns).filter(|held_ns| *held_ns < start_ns),
            Item::Packed(block) => block.last_below(width_ns, start_ns),
        }
    }
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
