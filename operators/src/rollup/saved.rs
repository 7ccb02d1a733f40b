//! Rollups as bytes: the groups of a worker at an epoch, and what a shard gave while its series were being saved.
//!
//! ```text
//! groups: signed arrival time; varint rows given, slices missed; varint length and the rollups in postcard's form;
//!         a group: varint rollup, varint group, varint length and the group in postcard's form
//! notes:  varint number of items; an item: varint epoch less that of the snapshot, varint length and the item in
//!         postcard's form
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use super::group::Group;
use super::groups::Groups;
use super::update::Sliced;
use super::{Rollup, RollupChange};
use crate::packed::{Reader, Unreadable, put_framed, put_signed, put_varint};
use crate::sample::TimeNs;

/// Slices and rows that a checkpoint can bear. With more it is given up.
const NOTES_MAX: usize = 1 << 18;

/// What was given while a checkpoint was being written, with its epochs, ascending.
#[derive(Clone, Debug, Default)]
pub struct Notes {
    given: Vec<(u64, Sliced)>,
    weight: usize,
}

impl Notes {
    /// Notes what an epoch gave, if there is room.
    pub(super) fn note(&mut self, epoch: u64, given: &[Sliced]) {
        let weight = |sliced: &Sliced| match sliced {
            Sliced::Member(update) => 1 + update.slices.len(),
            Sliced::Row(_) => 1,
        };
        self.weight += given.iter().map(weight).sum::<usize>();
        if self.weight <= NOTES_MAX {
            self.given.extend(given.iter().map(|sliced| (epoch, sliced.clone())));
        }
    }

    /// Whether there was so much that some is missing.
    pub fn are_too_many(&self) -> bool {
        self.weight > NOTES_MAX
    }

    /// Appends them, in a snapshot of `epoch`.
    pub fn save(&self, epoch: u64, out: &mut Vec<u8>) {
        put_varint(out, self.given.len() as u64);
        for (at, sliced) in &self.given {
            put_varint(out, at.saturating_sub(epoch));
            put_framed(out, sliced);
        }
    }

    /// Reads what [`Self::save`] wrote: each with its epoch.
    pub fn load(epoch: u64, reader: &mut Reader<'_>) -> Result<Vec<(u64, Sliced)>, Unreadable> {
        let len = reader.len(3)?;
        let mut given = Vec::with_capacity(len);
        for _ in 0..len {
            let at = epoch.saturating_add(reader.varint()?);
            given.push((at, reader.framed("a slice or a row")?));
        }
        Ok(given)
    }
}

/// What a snapshot says of rollups, apart from the groups.
#[derive(Clone, Debug, Default)]
pub struct SavedRollups {
    /// Arrival time of the snapshot's epoch.
    pub arrival_ns: TimeNs,
    /// The rollups, as those that are added.
    pub rollups: RollupChange,
    rows: u64,
    missed: u64,
}

/// A group as it was saved.
pub struct SavedGroup {
    /// The rollup's number.
    pub rollup: u32,
    /// The group's.
    pub group: u64,
    held: Group,
}

impl Groups {
    /// Gives everything as bytes, in pieces of about `part_bytes` that can each be read on their own; at least one.
    /// Behind [`Groups::settle`].
    pub fn save(&self, part_bytes: usize, mut part: impl FnMut(Vec<u8>)) {
        let rollups: Vec<(u32, &Rollup)> = self.rollups().map(|(number, r)| (number, &**r)).collect();
        let mut head = Vec::new();
        put_signed(&mut head, self.arrival_ns);
        let mut open = head.clone();
        let (rows, missed) = self.sums();
        let begin = |out: &mut Vec<u8>, (rows, missed): (u64, u64)| {
            put_varint(out, rows);
            put_varint(out, missed);
            put_framed(out, &rollups);
        };
        // Sums stand in the first piece only: pieces are added up.
        begin(&mut open, (rows, missed));
        for (rollup, group, held) in self.all() {
            if open.len() >= part_bytes.max(1) + head.len() {
                part(std::mem::replace(&mut open, head.clone()));
                begin(&mut open, (0, 0));
            }
            put_varint(&mut open, rollup.into());
            put_varint(&mut open, group);
            put_framed(&mut open, held);
        }
        part(open);
    }

    /// Reads a piece that [`Self::save`] gave.
    pub fn load(
        reader: &mut Reader<'_>,
        mut found: impl FnMut(SavedGroup) -> Result<(), Unreadable>,
    ) -> Result<SavedRollups, Unreadable> {
        let arrival_ns = reader.signed()?;
        let (rows, missed) = (reader.varint()?, reader.varint()?);
        let rollups: Vec<(u32, Rollup)> = reader.framed("rollups")?;
        let added = rollups.into_iter().map(|(number, rollup)| (number, Arc::new(rollup))).collect();
        let saved =
            SavedRollups { arrival_ns, rollups: RollupChange { removed: Vec::new(), added }, rows, missed };
        while reader.left() > 0 {
            let rollup =
                u32::try_from(reader.varint()?).map_err(|_| reader.wrong("the number of a rollup"))?;
            let group = reader.varint()?;
            found(SavedGroup { rollup, group, held: reader.framed("a group")? })?;
        }
        Ok(saved)
    }

    /// Goes on behind an epoch with what a snapshot says, before its groups are put in.
    /// Only one worker takes the sums over.
    pub fn resume(&mut self, epoch: u64, saved: &SavedRollups, with_sums: bool) {
        self.resume_with(epoch, saved.arrival_ns, &saved.rollups);
        if with_sums {
            self.add(saved);
        }
    }

    /// Adds the sums of a further piece.
    pub fn add(&mut self, saved: &SavedRollups) {
        self.add_sums(saved.rows, saved.missed);
    }

    /// Puts a saved group in its place, behind [`Self::resume`]; says whether the place was free and the rollup there.
    pub fn put_back(&mut self, saved: SavedGroup) -> bool {
        self.restore(saved.rollup, saved.group, saved.held)
    }
}

/// Notes by epoch, for shards that go on from them.
pub fn by_epoch(noted: Vec<(u64, Sliced)>) -> BTreeMap<u64, Vec<Sliced>> {
    let mut epochs: BTreeMap<u64, Vec<Sliced>> = BTreeMap::new();
    for (epoch, sliced) in noted {
        epochs.entry(epoch).or_default().push(sliced);
    }
    epochs
}
