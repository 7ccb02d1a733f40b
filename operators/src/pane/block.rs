//! Packed panes, one behind the other.

use std::ops::Range;

use super::{Obs, Pane};
use crate::packed::Reader;
use crate::sample::{DurationNs, TimeNs};

/// Bytes of a block that takes no further pane.
const BLOCK_BYTES_MAX: usize = 512;
/// By how much the room of a block grows.
const BLOCK_BYTES_STEP: usize = 32;
/// Panes that a block can tell apart: as many as its mask has bits.
const BLOCK_SPAN: i64 = 64;
/// Nowhere.
const UNKNOWN: u32 = u32::MAX;

/// Packed panes that begin within [`BLOCK_SPAN`] widths, one behind the other.
#[derive(Clone, Debug)]
pub(super) struct Block {
    /// Start of the first pane that ever was in it.
    first_ns: TimeNs,
    /// Bit `n`: the pane that begins `n` widths later is there.
    present: u64,
    /// Where the first of those that are there begins in `bytes`.
    at: u32,
    /// Where the last begins; [`UNKNOWN`] when the one that was last is gone.
    last_at: u32,
    bytes: Vec<u8>,
}

/// The bits below `place`, which is at most 64.
fn mask_below(place: u32) -> u64 {
    1u64.checked_shl(place).map_or(u64::MAX, |bit| bit - 1)
}

impl Block {
    /// An empty one, for panes from `first_ns` on.
    pub(super) fn new(first_ns: TimeNs) -> Block {
        Block { first_ns, present: 0, at: 0, last_at: UNKNOWN, bytes: Vec::new() }
    }

    /// Number of panes.
    pub(super) fn len(&self) -> usize {
        self.present.count_ones() as usize
    }

    /// Bytes held beside the block itself.
    pub(super) fn heap_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// Number of panes that begin in `starts`.
    pub(super) fn count_in(&self, width_ns: DurationNs, starts: &Range<TimeNs>) -> usize {
        let from = self.place_from(width_ns, starts.start);
        let till = self.place_from(width_ns, starts.end);
        (self.present & mask_below(till) & !mask_below(from)).count_ones() as usize
    }

    /// The first pane that begins at or after `start_ns`: its start.
    pub(super) fn first_from(&self, width_ns: DurationNs, start_ns: TimeNs) -> Option<TimeNs> {
        let left = self.present & !mask_below(self.place_from(width_ns, start_ns));
        (left != 0).then(|| self.start_at(width_ns, left.trailing_zeros()))
    }

    /// The last pane that begins before `start_ns`: its start.
    pub(super) fn last_below(&self, width_ns: DurationNs, start_ns: TimeNs) -> Option<TimeNs> {
        let left = self.present & mask_below(self.place_from(width_ns, start_ns));
        (left != 0).then(|| self.start_at(width_ns, 63 - left.leading_zeros()))
    }

    /// From the start of its first pane to just behind the start of its last; there has to be one.
    pub(super) fn starts(&self, width_ns: DurationNs) -> Range<TimeNs> {
        let (first, last) = (self.present.trailing_zeros(), 63 - self.present.leading_zeros());
        self.start_at(width_ns, first)..self.start_at(width_ns, last).saturating_add(1)
    }

    fn start_at(&self, width_ns: DurationNs, place: u32) -> TimeNs {
        // Only places of panes that were there are asked for.
        self.first_ns + width_ns * i64::from(place)
    }

    /// The least place whose pane begins at or after `start_ns`, at most 64.
    fn place_from(&self, width_ns: DurationNs, start_ns: TimeNs) -> u32 {
        let distance = i128::from(start_ns) - i128::from(self.first_ns);
        let width = i128::from(width_ns);
        ((distance + width - 1).div_euclid(width)).clamp(0, BLOCK_SPAN.into()) as u32
    }

    /// Whether it has room for a pane that lies behind all of its own.
    pub(super) fn takes(&self, width_ns: DurationNs, start_ns: TimeNs) -> bool {
        let distance = start_ns.checked_sub(self.first_ns).map(|ns| ns / width_ns);
        self.bytes.len() < BLOCK_BYTES_MAX && distance.is_some_and(|widths| widths < BLOCK_SPAN)
    }

    /// Packs a pane behind its others; to be asked before whether it [takes](Self::takes) it.
    pub(super) fn push(&mut self, width_ns: DurationNs, pane: &Pane) {
        self.present |= 1 << ((pane.start_ns - self.first_ns) / width_ns);
        self.last_at = self.bytes.len() as u32;
        if self.bytes.capacity() - self.bytes.len() < BLOCK_BYTES_STEP / 2 {
            self.bytes.reserve_exact(BLOCK_BYTES_STEP);
        }
        pane.pack(&mut self.bytes);
    }

    /// Takes the first pane out.
    pub(super) fn pop(&mut self, width_ns: DurationNs) -> Option<Pane> {
        let mut unpacked = self.unpack(width_ns);
        let pane = unpacked.next();
        let read = unpacked.reader.at() as u32;
        self.at += read;
        self.present &= self.present.wrapping_sub(1);
        pane
    }

    /// Takes the last pane out if it begins at `start_ns` and its place is known.
    pub(super) fn take_last(&mut self, width_ns: DurationNs, start_ns: TimeNs) -> Option<Pane> {
        let place = 63 - self.present.leading_zeros();
        if self.last_at == UNKNOWN || self.start_at(width_ns, place) != start_ns {
            return None;
        }
        let reader = Reader::new(&self.bytes[self.last_at as usize..]);
        let pane = Unpacked { block: self, width_ns, left: 1 << place, reader }.next()?;
        self.present &= !(1 << place);
        self.bytes.truncate(self.last_at as usize);
        self.last_at = UNKNOWN;
        Some(pane)
    }

    /// Its panes, in time order.
    pub(super) fn unpack(&self, width_ns: DurationNs) -> Unpacked<'_> {
        let reader = Reader::new(&self.bytes[self.at as usize..]);
        Unpacked { block: self, width_ns, left: self.present, reader }
    }
}

/// The panes of a block, one by one.
pub(super) struct Unpacked<'a> {
    block: &'a Block,
    width_ns: DurationNs,
    left: u64,
    reader: Reader<'a>,
}

impl Unpacked<'_> {
    /// The next pane, with `raw`, which is empty, as the room for its observations.
    pub(super) fn next_into(&mut self, raw: Vec<Obs>) -> Option<Pane> {
        if self.left == 0 {
            return None;
        }
        let start_ns = self.block.start_at(self.width_ns, self.left.trailing_zeros());
        self.left &= self.left - 1;
        let read = Pane::unpack(start_ns, &mut self.reader, raw);
        debug_assert!(read.is_ok(), "a pane that was packed here: {read:?}");
        read.ok()
    }
}

impl Iterator for Unpacked<'_> {
    type Item = Pane;

    fn next(&mut self) -> Option<Pane> {
        self.next_into(Vec::new())
    }
}
