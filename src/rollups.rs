//! Rollups as the edge knows them: which are wanted, their numbers, what their groups are called, and what is said of
//! them.
//!
//! A rollup keeps its number for as long as it is the same but for its name; no number is used twice. A change travels
//! with an epoch, so it stands in the journal, and a restart goes on with the rollups that the state was made with
//! before it looks what the configuration wants now.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use dataflows::engine::Engine;
use operators::rollup::binding::Directory;
use operators::rollup::group::Said;
use operators::rollup::numbers::RollupNumbers;
use operators::rollup::{Rollup, RollupChange, RollupRow};
use operators::sample::{DurationNs, TimeNs};
use operators::series::Target;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::intake::Intake;

/// A rollup that is wanted.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// What it is.
    pub rollup: Arc<Rollup>,
    /// Whether its final windows are stored.
    pub is_stored: bool,
}

/// A rollup in force.
#[derive(Clone, Debug, PartialEq)]
pub struct InForce {
    /// Its number.
    pub number: u32,
    /// What it is, under its own name: another may have the same number.
    pub rollup: Arc<Rollup>,
    /// Whether its final windows are stored.
    pub is_stored: bool,
}

impl InForce {
    /// The name that one of its values goes by: `NAME_FUNCTION`.
    pub fn metric(&self, function: &str) -> String {
        format!("{}_{function}", self.rollup.name)
    }
}

/// Which rollups are in force.
#[derive(Default)]
pub struct RollupBook {
    inner: Mutex<Inner>,
    directory: OnceLock<Arc<Directory>>,
}

#[derive(Default)]
struct Inner {
    numbers: RollupNumbers,
    wanted: Vec<Wanted>,
    /// Those that have numbers.
    in_force: Arc<[InForce]>,
}

impl Inner {
    fn find_numbers(&mut self) {
        let in_force = self.wanted.iter().filter_map(|Wanted { rollup, is_stored }| {
            let number = self.numbers.number_of(rollup)?;
            Some(InForce { number, rollup: rollup.clone(), is_stored: *is_stored })
        });
        self.in_force = in_force.collect();
    }
}

impl RollupBook {
    /// Wants these. They are in force as soon as they have numbers.
    pub fn new(wanted: Vec<Wanted>) -> RollupBook {
        let inner = Mutex::new(Inner { wanted, ..Inner::default() });
        RollupBook { inner, directory: OnceLock::new() }
    }

    /// Takes note of a change that an epoch carried, before the engine does.
    pub fn note(&self, change: &RollupChange) {
        if !change.is_empty() {
            let mut inner = self.inner.lock();
            inner.numbers.note(change);
            inner.find_numbers();
        }
    }

    /// Knows from now on what the groups of an engine are called.
    pub fn name_groups(&self, directory: Arc<Directory>) {
        // There is one engine; a second would change nothing.
        let _ = self.directory.set(directory);
    }

    /// Brings all that is wanted into force, and nothing else; gives the epoch from which on.
    pub fn apply(&self, intake: &Intake) -> u64 {
        // Held to the end: of two changes the later is the one that stays.
        let mut inner = self.inner.lock();
        let rollups: Vec<Arc<Rollup>> = inner.wanted.iter().map(|wanted| wanted.rollup.clone()).collect();
        let (_, change) = inner.numbers.set(&rollups);
        inner.find_numbers();
        if change.is_empty() { intake.sealed() } else { intake.change_rollups(change) }
    }

    /// The rollups in force, in the order in which they were wanted.
    pub fn in_force(&self) -> Arc<[InForce]> {
        self.inner.lock().in_force.clone()
    }

    /// The rollup of a name.
    pub fn named(&self, name: &str) -> Option<InForce> {
        self.in_force().iter().find(|rollup| &*rollup.rollup.name == name).cloned()
    }

    /// The rollup and the function that a metric name such as `cpu_by_zone_avg` stands for.
    pub fn by_metric(&self, metric: &str) -> Option<(InForce, usize)> {
        let in_force = self.in_force();
        in_force.iter().find_map(|rollup| {
            let function = metric.strip_prefix(&*rollup.rollup.name)?.strip_prefix('_')?;
            let at = rollup.rollup.functions.iter().position(|name| name == function)?;
            Some((rollup.clone(), at))
        })
    }

    /// What the members of a group share.
    pub fn group(&self, rollup: u32, group: u64) -> Option<Target> {
        self.directory.get()?.group(rollup, group)
    }

    /// The groups of a rollup, in order of what their members share.
    pub fn groups(&self, rollup: u32) -> Vec<(u64, Target)> {
        self.directory.get().map(|directory| directory.groups(rollup)).unwrap_or_default()
    }

    /// Series that are in no group since there were too many groups, or members of theirs.
    pub fn turned_away(&self) -> u64 {
        self.directory.get().map_or(0, |directory| directory.turned_away())
    }

    /// Rows that are to be stored: final windows with samples of rollups that are.
    pub fn to_store(&self, rows: &[RollupRow]) -> Vec<RollupRow> {
        let in_force = self.in_force();
        let stored = |number: u32| in_force.iter().any(|rollup| rollup.number == number && rollup.is_stored);
        rows.iter().filter(|row| row.is_final && row.count > 0 && stored(row.rollup)).cloned().collect()
    }

    /// Rows with their names, as they are written.
    pub fn spell(&self, rows: Vec<RollupRow>) -> Rolled {
        let in_force = self.in_force();
        let mut rolled = Rolled::default();
        for row in rows {
            let Some(rollup) = in_force.iter().find(|rollup| rollup.number == row.rollup) else {
                rolled.unnamed += 1;
                continue;
            };
            let Some(texts) = self.group(row.rollup, row.group) else {
                rolled.unnamed += 1;
                continue;
            };
            let Rollup { name, functions, .. } = &*rollup.rollup;
            rolled.rollups.entry(row.rollup).or_insert_with(|| (name.to_string(), functions.clone()));
            rolled.groups.entry((row.rollup, row.group)).or_insert(texts);
            rolled.rows.push(row);
        }
        rolled
    }
}

/// Rows of rollups that are to be stored, as they are written: with what numbers stand for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rolled {
    /// Name and functions, by number.
    pub rollups: BTreeMap<u32, (String, Vec<String>)>,
    /// What the members of groups share, by rollup and group.
    pub groups: BTreeMap<(u32, u64), Target>,
    /// The rows.
    pub rows: Vec<RollupRow>,
    /// Rows of rollups that are gone: nobody knows any more what they were called.
    #[serde(skip)]
    pub unnamed: u64,
}

/// What is held of one group.
pub struct GroupRows {
    /// The group's number.
    pub group: u64,
    /// What was said of its windows, by their ends.
    pub said: Vec<(TimeNs, Said)>,
}

/// What an engine holds of a rollup's windows that begin in a range, and the oldest epoch that any worker showed.
pub fn rows(
    engine: &Engine,
    number: u32,
    width_ns: DurationNs,
    starts: std::ops::Range<TimeNs>,
) -> (u64, Vec<GroupRows>) {
    let (mut as_of, mut found) = (u64::MAX, Vec::new());
    for groups in engine.groups() {
        let groups = groups.read();
        as_of = as_of.min(groups.epoch);
        for (group, said) in groups.said(number) {
            let ends = starts.start.saturating_add(width_ns)..starts.end.saturating_add(width_ns);
            let said: Vec<_> = said.range(ends).map(|(end_ns, said)| (*end_ns, said.clone())).collect();
            found.push(GroupRows { group, said });
        }
    }
    (as_of, found)
}

/// The last window of each group of a rollup.
pub fn latest(engine: &Engine, number: u32) -> Vec<(u64, Said)> {
    let mut found = Vec::new();
    for groups in engine.groups() {
        let groups = groups.read();
        let last =
            groups.said(number).filter_map(|(group, said)| Some((group, said.values().next_back()?.clone())));
        found.extend(last);
    }
    found
}
