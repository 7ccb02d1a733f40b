//! What shards tell of their series: who is a member of what, and what of its samples is news.

use std::collections::BTreeMap;
use std::mem;

use serde::{Deserialize, Serialize};

use super::RollupRow;
use super::slice::Slice;
use crate::sample::{SeriesId, TimeNs};

/// A series as a member of a group of a rollup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Membership {
    /// The rollup's number.
    pub rollup: u32,
    /// The series.
    pub series: SeriesId,
    /// 1 for what a ratio is divided by, else 0.
    pub part: u8,
    /// The group.
    pub group: u64,
}

/// What a shard gives at the end of an epoch.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Sliced {
    /// Of a member of a group, to the owner of the group.
    Member(MemberUpdate),
    /// Of a series that stands for itself.
    Row(RollupRow),
}

impl Sliced {
    /// Whose it is.
    pub fn series(&self) -> SeriesId {
        match self {
            Sliced::Member(update) => update.series,
            Sliced::Row(row) => row.group as SeriesId,
        }
    }

    /// By what it is exchanged: rows stay with the worker of their series.
    pub fn route(&self) -> u64 {
        match self {
            Sliced::Member(update) => update.group,
            Sliced::Row(row) => row.group,
        }
    }
}

/// News of one member of a group.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MemberUpdate {
    /// The rollup's number.
    pub rollup: u32,
    /// The group.
    pub group: u64,
    /// 1 for what a ratio is divided by, else 0.
    pub part: u8,
    /// The member.
    pub series: SeriesId,
    /// Its newest event time, in steps (see [`crate::rollup`]).
    pub clock_ns: TimeNs,
    /// Whether it goes by the arrival clock, if that is later.
    pub is_silent: bool,
    /// Windows that begin before it lack samples of this member. Nothing, except of one that had samples already when
    /// it became a member.
    pub held_ns: Option<TimeNs>,
    /// Slices that are complete, new or changed.
    pub slices: Vec<Slice>,
}

impl MemberUpdate {
    /// Puts a later one of the same epoch in its place; slices stay unless they are there again.
    pub(super) fn replace(&mut self, later: MemberUpdate) {
        let mut slices: BTreeMap<TimeNs, Slice> = BTreeMap::new();
        for slice in mem::take(&mut self.slices).into_iter().chain(later.slices) {
            slices.insert(slice.start_ns, slice);
        }
        let slices = slices.into_values().collect();
        *self = MemberUpdate { held_ns: self.held_ns.max(later.held_ns), slices, ..later };
    }
}
