//! Members: which series is in which group of which rollup, as a differential join of rollups with the catalog, and
//! the limits on that.
//!
//! Groups are admitted in the order of the numbers of their first series, and so are members: who is in does not
//! depend on the number of workers, nor on whether series came one by one or, at a start, all at once.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use differential_dataflow::VecCollection;
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::Operator as _;

use super::{Membership, Rollup, Scheme, group_of_series};
use crate::binding::join_key;
use crate::family;
use crate::rule::Grouping;
use crate::sample::SeriesId;
use crate::series::{SeriesKey, Target, TargetMatcher};
use crate::stable_hash::StableHash;
use crate::window::Control;

/// The part of a rollup that decides who is in which group; two of a ratio.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RollupScope {
    /// The rollup's number.
    pub rollup: u32,
    /// 1 for what a ratio is divided by, else 0.
    pub part: u8,
    /// Metric as the rollup names it: a full name or a family.
    pub metric: String,
    /// Targets meant.
    pub matcher: TargetMatcher,
    /// How they come together.
    pub grouping: Grouping,
    /// Whether each series stands for itself, whatever its target.
    pub is_each: bool,
}

impl RollupScope {
    /// The scopes of a rollup.
    pub fn of(number: u32, rollup: &Arc<Rollup>) -> Vec<RollupScope> {
        let is_each = Scheme::new(rollup.clone()).is_ok_and(|scheme| scheme.is_each());
        let scope = |part, metric: &str, matcher: &TargetMatcher| RollupScope {
            rollup: number,
            part,
            metric: metric.into(),
            matcher: matcher.clone(),
            grouping: rollup.grouping.clone(),
            is_each,
        };
        let over = rollup.over.as_ref().map(|over| scope(1, &over.metric, &over.matcher));
        std::iter::once(scope(0, &rollup.metric, &rollup.matcher)).chain(over).collect()
    }

    fn member(&self, id: SeriesId, key: &SeriesKey) -> Option<Candidate> {
        family::rank(&self.metric, &key.metric)?;
        if !self.matcher.matches(&key.target) {
            return None;
        }
        // Of a series that stands for itself the catalog knows the texts.
        let (group, texts) = if self.is_each {
            (group_of_series(id), None)
        } else {
            let texts = self.grouping.group_of(&key.target);
            (group_id(&texts), Some(texts))
        };
        let member = Membership { series: id, rollup: self.rollup, part: self.part, group };
        Some(Candidate { member, texts })
    }
}

/// The number of a group among those of its rollup: a hash of what its members share, the same in every process.
pub fn group_id(texts: &Target) -> u64 {
    let hash = StableHash::new().text(&texts.service);
    texts.tags.iter().fold(hash, |hash, (name, value)| hash.text(name).text(value)).finish() as u64
}

/// A series that matches a rollup. In order of rollup and series.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Candidate {
    member: Membership,
    texts: Option<Target>,
}

/// Candidates that come (+1) and go (-1).
type Changes = Vec<(Candidate, isize)>;

/// Limits on groups and their members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RollupLimits {
    /// Groups of one rollup. Series that stand for themselves are as many.
    pub groups_max: usize,
    /// Members of one group.
    pub members_max: usize,
}

impl Default for RollupLimits {
    fn default() -> Self {
        RollupLimits { groups_max: 10_000, members_max: 100_000 }
    }
}

/// What the groups are called, and who was turned away. All workers share one.
#[derive(Debug, Default)]
pub struct Directory {
    texts: RwLock<HashMap<(u32, u64), Target>>,
    turned_away: AtomicU64,
}

impl Directory {
    /// What the members of a group share; `None` for one that is not there.
    pub fn group(&self, rollup: u32, group: u64) -> Option<Target> {
        self.texts.read().get(&(rollup, group)).cloned()
    }

    /// The groups of a rollup, in order of their texts.
    pub fn groups(&self, rollup: u32) -> Vec<(u64, Target)> {
        let texts = self.texts.read();
        let of_rollup = texts.iter().filter(|((of, _), _)| *of == rollup);
        let mut groups: Vec<_> = of_rollup.map(|((_, group), texts)| (*group, texts.clone())).collect();
        groups.sort_unstable_by(|a, b| a.1.cmp(&b.1));
        groups
    }

    /// Series that match a rollup and are in no group of it, since there were too many.
    pub fn turned_away(&self) -> u64 {
        self.turned_away.load(Ordering::Relaxed)
    }
}

/// Joins rollups with catalog entries on the metric family.
pub fn candidates<'scope>(
    rollups: VecCollection<'scope, u64, RollupScope, isize>,
    entries: VecCollection<'scope, u64, (SeriesId, SeriesKey), isize>,
) -> VecCollection<'scope, u64, Candidate, isize> {
    // A hash of the family is enough: what it takes for the same is compared.
    let rollups = rollups.map(|scope| (join_key(&scope.metric), scope));
    let entries = entries.map(|(id, key)| (join_key(&key.metric), (id, key)));
    rollups
        .join_map(entries, |_family, scope, (id, key)| scope.member(*id, key))
        .flat_map(|candidate| candidate)
}

/// Who is in, as far as the limits go, each at the worker that owns the series.
pub fn members<'scope>(
    candidates: VecCollection<'scope, u64, Candidate, isize>,
    limits: RollupLimits,
    directory: Arc<Directory>,
) -> StreamVec<'scope, u64, Control> {
    let by_rollup =
        Exchange::new(|(candidate, _, _): &(Candidate, u64, isize)| candidate.member.rollup.into());
    let by_series = Exchange::new(|control: &Control| match control {
        Control::Member { member, .. } => u64::from(member.series),
        _ => 0,
    });
    candidates
        .inner
        .unary_frontier::<CapacityContainerBuilder<Vec<Control>>, _, _, _>(
            by_rollup,
            "Admit members",
            move |_capability, _info| {
                let mut admission = Admission { limits, directory, rollups: HashMap::new() };
                let mut epochs: BTreeMap<u64, (Changes, Capability<u64>)> = BTreeMap::new();
                move |(input, frontier), output| {
                    let port = output.output_index();
                    input.for_each(|capability, chunk| {
                        let Some(epoch) = capability.least().copied() else { return };
                        let more = chunk.drain(..).map(|(candidate, _, diff)| (candidate, diff));
                        match epochs.get_mut(&epoch) {
                            Some((held, _)) => held.extend(more),
                            None => {
                                let Some(retained) = capability.retain_least(port) else { return };
                                epochs.insert(epoch, (more.collect(), retained));
                            }
                        }
                    });
                    while let Some(entry) = epochs.first_entry().filter(|e| !frontier.less_equal(e.key())) {
                        let (mut changes, capability) = entry.remove();
                        // First those that go. Of the rest in order of the series: that decides who is in.
                        changes.sort_by(|(a, da), (b, db)| (da, a).cmp(&(db, b)));
                        let mut session = output.session(&capability);
                        for (candidate, diff) in changes {
                            if let Some(control) = admission.decide(candidate, diff) {
                                session.give(control);
                            }
                        }
                    }
                }
            },
        )
        .unary(by_series, "Route members", |_capability, _info| {
            |input, output| {
                input
                    .for_each_stamp(|capability, chunks| output.session(&capability).give_containers(chunks));
            }
        })
}

/// Who is in, of the rollups of one worker.
struct Admission {
    limits: RollupLimits,
    directory: Arc<Directory>,
    rollups: HashMap<u32, Admitted>,
}

#[derive(Default)]
struct Admitted {
    /// Members of each group, with what they share.
    groups: HashMap<u64, (usize, Option<Target>)>,
    outside: HashSet<(u8, SeriesId)>,
}

impl Admission {
    fn decide(&mut self, Candidate { member, texts }: Candidate, diff: isize) -> Option<Control> {
        let admitted = self.rollups.entry(member.rollup).or_default();
        let key = (member.part, member.series);
        if diff < 0 {
            if admitted.outside.remove(&key) {
                self.directory.turned_away.fetch_sub(1, Ordering::Relaxed);
                return None;
            }
            if let Some((len, _)) = admitted.groups.get_mut(&member.group) {
                *len -= 1;
                if *len == 0 {
                    admitted.groups.remove(&member.group);
                    self.directory.texts.write().remove(&(member.rollup, member.group));
                }
            }
            if admitted.groups.is_empty() && admitted.outside.is_empty() {
                self.rollups.remove(&member.rollup);
            }
            return Some(Control::Member { member, diff: -1 });
        }
        let fits = match admitted.groups.get(&member.group) {
            // Two groups of one number can't be told apart: the second stays outside.
            Some((len, held)) => *len < self.limits.members_max && *held == texts,
            None => admitted.groups.len() < self.limits.groups_max,
        };
        if !fits {
            admitted.outside.insert(key);
            self.directory.turned_away.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let group = admitted.groups.entry(member.group).or_insert_with(|| {
            if let Some(texts) = &texts {
                self.directory.texts.write().insert((member.rollup, member.group), texts.clone());
            }
            (0, texts)
        });
        group.0 += 1;
        Some(Control::Member { member, diff: 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(series: SeriesId, tag: &str) -> Candidate {
        let texts = Target::new("", [("host", tag)]);
        let member = Membership { series, rollup: 3, part: 0, group: group_id(&texts) };
        Candidate { member, texts: Some(texts) }
    }

    #[test]
    fn groups_and_members_beyond_the_limits_are_turned_away_and_counted() {
        let directory = Arc::new(Directory::default());
        let limits = RollupLimits { groups_max: 2, members_max: 2 };
        let mut admission = Admission { limits, directory: directory.clone(), rollups: HashMap::new() };
        let all = [(0, "a"), (1, "b"), (2, "a"), (3, "a"), (4, "c"), (5, "b")];
        let mut is_in =
            |diff| all.map(|(series, tag)| admission.decide(candidate(series, tag), diff).is_some());
        assert_eq!(is_in(1), [true, true, true, false, false, true]);
        assert_eq!(directory.turned_away(), 2);
        let groups: Vec<_> = directory.groups(3).into_iter().map(|(_, texts)| texts).collect();
        assert_eq!(groups, [Target::new("", [("host", "a")]), Target::new("", [("host", "b")])]);
        assert_eq!(directory.group(3, group_id(&groups[1])).as_ref(), Some(&groups[1]));
        // Who goes is told apart from who never was in.
        assert_eq!(is_in(-1), [true, true, true, false, false, true]);
        assert_eq!((directory.turned_away(), directory.groups(3).len()), (0, 0));
        assert!(admission.rollups.is_empty());
    }

    #[test]
    fn two_groups_of_one_number_are_not_mixed() {
        let directory = Arc::new(Directory::default());
        let limits = RollupLimits::default();
        let mut admission = Admission { limits, directory: directory.clone(), rollups: HashMap::new() };
        let (first, mut second) = (candidate(0, "a"), candidate(1, "b"));
        second.member.group = first.member.group;
        assert!(admission.decide(first, 1).is_some());
        assert!(admission.decide(second, 1).is_none());
        assert_eq!(directory.turned_away(), 1);
    }
}
