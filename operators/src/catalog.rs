//! The series catalog: gives series their numbers, finds them again by metric, service and tags, keeps the limits.
//!
//! Numbers are given at the edge, in order of first appearance, and every new entry travels with the epoch
//! that first uses it, so a replay gives the same numbers. A number whose entry was lost stays empty: it is
//! never given to another series.

use std::collections::HashMap;
use std::fmt;
use std::ops::{Index, Range};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use crate::sample::SeriesId;
use crate::series::{SeriesKey, Target, TargetMatcher};

/// How far beyond the numbers there are an entry may be put: as many may have been lost before it.
pub const ID_GAP_MAX: u32 = 1 << 20;

/// Limits of the catalog.
#[derive(Clone, Copy, Debug)]
pub struct CatalogLimits {
    /// Series in all.
    pub series_max: usize,
    /// Series of one service.
    pub series_per_service_max: usize,
}

impl Default for CatalogLimits {
    fn default() -> Self {
        CatalogLimits { series_max: 1_000_000, series_per_service_max: 500_000 }
    }
}

/// Why a series was turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// `series_max` is reached.
    Series,
    /// `series_per_service_max` is reached.
    Service,
}

/// A new entry, as it travels with its epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number.
    pub id: SeriesId,
    /// What it is.
    pub key: SeriesKey,
}

/// Why an entry was not put in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Misplaced {
    /// The number has another series.
    Taken {
        /// The number.
        id: SeriesId,
    },
    /// The series has another number.
    Known {
        /// The number of the entry.
        id: SeriesId,
        /// The number it has.
        has: SeriesId,
    },
    /// The number is further than [`ID_GAP_MAX`] beyond those there are.
    TooFar {
        /// The number.
        id: SeriesId,
        /// Numbers there are.
        len: usize,
    },
}

impl fmt::Display for Misplaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Misplaced::Taken { id } => write!(f, "expected no other series at number {id}, found one"),
            Misplaced::Known { id, has } => {
                write!(f, "expected a series without a number for {id}, found one that has {has}")
            }
            Misplaced::TooFar { id, len } => {
                write!(f, "expected a number at most {ID_GAP_MAX} beyond {len}, found {id}")
            }
        }
    }
}

impl std::error::Error for Misplaced {}

/// All known series. Readers and writers share it; a decoder asks only for what its own cache does not have.
pub struct Catalog {
    limits: CatalogLimits,
    inner: RwLock<Inner>,
    fresh: Mutex<Fresh>,
}

#[derive(Default)]
struct Fresh {
    /// Entries that no epoch has carried yet, ascending by number.
    entries: Vec<Entry>,
    /// Numbers below it were carried, or are empty.
    carried: SeriesId,
}

/// What series are, by number.
#[derive(Clone, Copy)]
pub struct Keys<'a>(&'a [Option<SeriesKey>]);

impl<'a> Keys<'a> {
    /// What a series is; `None` for a number without one.
    pub fn get(self, id: usize) -> Option<&'a SeriesKey> {
        self.0.get(id)?.as_ref()
    }
}

impl Index<usize> for Keys<'_> {
    type Output = SeriesKey;

    /// For a number that the catalog gave. Panics at another.
    fn index(&self, id: usize) -> &SeriesKey {
        self.get(id).unwrap_or_else(|| panic!("expected the number of a series, found {id}"))
    }
}

#[derive(Default)]
struct Inner {
    /// By number; none where the entry was lost.
    keys: Vec<Option<SeriesKey>>,
    /// How many there are.
    len: usize,
    targets: HashMap<Arc<Target>, TargetEntry>,
    metrics: HashMap<Arc<str>, Vec<SeriesId>>,
    by_service: HashMap<Box<str>, Vec<SeriesId>>,
    /// Tag name -> tag value -> series, ascending.
    by_tag: HashMap<Box<str>, HashMap<Box<str>, Vec<SeriesId>>>,
}

/// The series of a target.
#[derive(Default)]
struct TargetEntry {
    /// All of them.
    ids: Vec<SeriesId>,
    /// By metric, where they are many.
    by_metric: HashMap<Arc<str>, SeriesId>,
}

/// A target with more series than that looks them up; of fewer, each is looked at.
const LOOKED_AT_MAX: usize = 32;

impl TargetEntry {
    fn find(&self, metric: &str, keys: &[Option<SeriesKey>]) -> Option<SeriesId> {
        if self.ids.len() > LOOKED_AT_MAX {
            return self.by_metric.get(metric).copied();
        }
        let is_it = |id: &&SeriesId| keys[**id as usize].as_ref().is_some_and(|key| *key.metric == *metric);
        self.ids.iter().find(is_it).copied()
    }

    fn add(&mut self, id: SeriesId, metric: &Arc<str>, keys: &[Option<SeriesKey>]) {
        if self.ids.len() == LOOKED_AT_MAX {
            let known =
                self.ids.iter().filter_map(|id| Some((keys[*id as usize].as_ref()?.metric.clone(), *id)));
            self.by_metric = known.collect();
        }
        if self.ids.len() >= LOOKED_AT_MAX {
            self.by_metric.insert(metric.clone(), id);
        }
        self.ids.push(id);
    }
}

impl Catalog {
    /// An empty catalog.
    pub fn new(limits: CatalogLimits) -> Catalog {
        Catalog { limits, inner: RwLock::default(), fresh: Mutex::default() }
    }

    /// The number of the series `metric` of `target`, a new one if need be and if the limits allow.
    pub fn resolve(&self, target: &Arc<Target>, metric: &str) -> Result<SeriesId, Full> {
        {
            // A flood of series over the limits keeps nobody waiting: it only reads.
            let inner = self.inner.read();
            if let Some(id) = inner.find(target, metric) {
                return Ok(id);
            }
            inner.room(&self.limits, target)?;
        }
        let mut inner = self.inner.write();
        if let Some(id) = inner.find(target, metric) {
            return Ok(id);
        }
        inner.room(&self.limits, target)?;
        // `series_max` and what was restored are far below the range of the number.
        let id = inner.keys.len() as SeriesId;
        let key = inner.add(id, target, metric);
        self.fresh.lock().entries.push(Entry { id, key });
        Ok(id)
    }

    /// Entries not yet carried by an epoch. The caller seals them into one.
    pub fn take_fresh(&self) -> Vec<Entry> {
        let mut fresh = self.fresh.lock();
        let entries = std::mem::take(&mut fresh.entries);
        fresh.carried = entries.last().map_or(fresh.carried, |last| last.id + 1);
        entries
    }

    /// The entries that epochs have carried are those of numbers below this. Exact for the thread that takes
    /// the fresh ones, until it does so again; [`Self::entries`] gives them, in pieces if they are many.
    pub fn carried(&self) -> SeriesId {
        self.fresh.lock().carried
    }

    /// Entries of numbers in `ids`, ascending. An entry never changes.
    pub fn entries(&self, ids: Range<SeriesId>) -> Vec<Entry> {
        let inner = self.inner.read();
        let end = inner.keys.len().min(ids.end as usize) as SeriesId;
        let entry = |id| Some(Entry { id, key: inner.keys[id as usize].clone()? });
        (ids.start..end).filter_map(entry).collect()
    }

    /// Puts back an entry that an epoch carried: one of a snapshot, or of an epoch taken in again. Limits do not
    /// apply, it is not fresh, and the same again changes nothing. Numbers left out before it stay empty.
    ///
    /// # Errors
    /// If something else has its number, or it another number; nothing changes then.
    pub fn replay(&self, entry: &Entry) -> Result<(), Misplaced> {
        let Entry { id, key } = entry;
        let mut inner = self.inner.write();
        match (inner.find(&key.target, &key.metric), inner.keys.get(*id as usize)) {
            (Some(has), _) if has == *id => return Ok(()),
            (Some(has), _) => return Err(Misplaced::Known { id: *id, has }),
            (None, Some(Some(_))) => return Err(Misplaced::Taken { id: *id }),
            (None, _) => self.leave_room(&mut inner, *id)?,
        }
        inner.add(*id, &key.target, &key.metric);
        Ok(())
    }

    /// Puts back many entries, as [`Self::replay`] does; returns those that found no place, and why.
    pub fn restore(&self, entries: &[Entry]) -> Vec<Misplaced> {
        entries.iter().filter_map(|entry| self.replay(entry).err()).collect()
    }

    /// Sees to it that `id`, found in a sample of an epoch taken in again, is given to no series: if no entry is
    /// known for it, it was lost.
    ///
    /// # Errors
    /// If it is too far beyond the numbers there are.
    pub fn reserve(&self, id: SeriesId) -> Result<(), Misplaced> {
        if (id as usize) < self.inner.read().keys.len() {
            return Ok(());
        }
        self.leave_room(&mut self.inner.write(), id)
    }

    fn leave_room(&self, inner: &mut Inner, id: SeriesId) -> Result<(), Misplaced> {
        let len = inner.keys.len();
        if id as usize >= len {
            if id as usize - len > ID_GAP_MAX as usize {
                return Err(Misplaced::TooFar { id, len });
            }
            inner.keys.resize(id as usize + 1, None);
        }
        let mut fresh = self.fresh.lock();
        fresh.carried = fresh.carried.max(id + 1);
        Ok(())
    }

    /// What series `id` is.
    pub fn key(&self, id: SeriesId) -> Option<SeriesKey> {
        self.inner.read().keys.get(id as usize).cloned().flatten()
    }

    /// Runs `look` with a lookup from numbers to keys, under one lock.
    pub fn with_keys<R>(&self, look: impl FnOnce(Keys<'_>) -> R) -> R {
        look(Keys(&self.inner.read().keys))
    }

    /// Number of series.
    pub fn len(&self) -> usize {
        self.inner.read().len
    }

    /// Whether there is none yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a series of this very metric name exists.
    pub fn has_metric(&self, metric: &str) -> bool {
        self.inner.read().metrics.contains_key(metric)
    }

    /// All metric names, sorted.
    pub fn metrics(&self) -> Vec<Arc<str>> {
        let mut names: Vec<_> = self.inner.read().metrics.keys().cloned().collect();
        names.sort_unstable();
        names
    }

    /// Series that match, ascending by number: of the metrics named (all for none) and of matching targets.
    pub fn find(&self, metrics: Option<&[&str]>, matcher: &TargetMatcher) -> Vec<SeriesId> {
        let inner = self.inner.read();
        let mut lists: Vec<Vec<SeriesId>> = Vec::new();
        if let Some(names) = metrics {
            let mut ids: Vec<SeriesId> =
                names.iter().filter_map(|name| inner.metrics.get(*name)).flatten().copied().collect();
            ids.sort_unstable();
            ids.dedup();
            lists.push(ids);
        }
        if let Some(service) = matcher.service.as_deref().filter(|s| !s.ends_with('*')) {
            lists.push(inner.by_service.get(service).cloned().unwrap_or_default());
        }
        for (name, value) in matcher.tags.iter().filter(|(_, v)| !v.ends_with('*')) {
            let ids = inner.by_tag.get(name.as_str()).and_then(|values| values.get(value.as_str()));
            lists.push(ids.cloned().unwrap_or_default());
        }
        lists.sort_by_key(Vec::len);
        let mut lists = lists.into_iter();
        let candidates = lists.next().unwrap_or_else(|| (0..inner.keys.len() as SeriesId).collect());
        let rest: Vec<Vec<SeriesId>> = lists.collect();
        let everywhere = |id: &SeriesId| rest.iter().all(|list| list.binary_search(id).is_ok());
        let matches =
            |id: &SeriesId| inner.keys[*id as usize].as_ref().is_some_and(|key| matcher.matches(&key.target));
        candidates.into_iter().filter(|id| everywhere(id) && matches(id)).collect()
    }
}

impl Inner {
    fn find(&self, target: &Target, metric: &str) -> Option<SeriesId> {
        self.targets.get(target)?.find(metric, &self.keys)
    }

    /// Whether one more series of this target is within the limits.
    fn room(&self, limits: &CatalogLimits, target: &Target) -> Result<(), Full> {
        if self.len >= limits.series_max {
            return Err(Full::Series);
        }
        let of_service = self.by_service.get(&target.service).map_or(0, Vec::len);
        if of_service >= limits.series_per_service_max { Err(Full::Service) } else { Ok(()) }
    }

    /// Adds a series under a number that has none.
    fn add(&mut self, id: SeriesId, target: &Arc<Target>, metric: &str) -> SeriesKey {
        let target =
            self.targets.get_key_value(target).map_or_else(|| target.clone(), |(held, _)| held.clone());
        let metric =
            self.metrics.get_key_value(metric).map_or_else(|| metric.into(), |(held, _)| held.clone());
        self.targets.entry(target.clone()).or_default().add(id, &metric, &self.keys);
        put(self.metrics.entry(metric.clone()).or_default(), id);
        put(self.by_service.entry(target.service.clone()).or_default(), id);
        for (name, value) in &target.tags {
            put(self.by_tag.entry(name.clone()).or_default().entry(value.clone()).or_default(), id);
        }
        let key = SeriesKey { target, metric };
        if self.keys.len() <= id as usize {
            self.keys.resize(id as usize + 1, None);
        }
        self.keys[id as usize] = Some(key.clone());
        self.len += 1;
        key
    }
}

/// Keeps `ids` ascending, whatever the order in which entries are put back.
fn put(ids: &mut Vec<SeriesId>, id: SeriesId) {
    match ids.last() {
        Some(last) if *last > id => ids.insert(ids.partition_point(|held| *held < id), id),
        _ => ids.push(id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalog() -> Catalog {
        let catalog = Catalog::new(CatalogLimits { series_max: 6, series_per_service_max: 4 });
        for (service, host, metric) in
            [("a", "1", "cpu"), ("a", "1", "mem"), ("a", "2", "cpu"), ("b", "1", "cpu"), ("a", "1", "cpu")]
        {
            catalog.resolve(&Arc::new(Target::new(service, [("host", host)])), metric).unwrap();
        }
        catalog
    }

    #[test]
    fn numbers_are_given_once_and_travel_once() {
        let catalog = catalog();
        assert_eq!(catalog.len(), 4);
        let fresh: Vec<_> = catalog.take_fresh().into_iter().map(|e| e.id).collect();
        assert_eq!(fresh, [0, 1, 2, 3]);
        assert!(catalog.take_fresh().is_empty());
    }

    #[test]
    fn series_are_found_by_metric_service_and_tags() {
        let catalog = catalog();
        let matcher = |service: Option<&str>, tags: &[(&str, &str)]| TargetMatcher {
            service: service.map(String::from),
            tags: tags.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect(),
        };
        for (metrics, service, tags, expected) in [
            (None, None, &[][..], vec![0, 1, 2, 3]),
            (Some(&["cpu"][..]), None, &[], vec![0, 2, 3]),
            (Some(&["cpu", "mem"]), Some("a"), &[("host", "1")], vec![0, 1]),
            (Some(&["cpu"]), Some("*"), &[("host", "*")], vec![0, 2, 3]),
            (Some(&["disk"]), None, &[], vec![]),
            (None, Some("c"), &[], vec![]),
            (None, None, &[("rack", "1")], vec![]),
        ] {
            assert_eq!(
                catalog.find(metrics, &matcher(service, tags)),
                expected,
                "{metrics:?} {service:?} {tags:?}"
            );
        }
    }

    #[test]
    fn entries_come_back_to_their_numbers_and_lost_numbers_stay_empty() {
        let (old, new) =
            (catalog(), Catalog::new(CatalogLimits { series_max: 4, series_per_service_max: 9 }));
        assert_eq!(old.carried(), 0);
        old.take_fresh();
        let fresh = old.resolve(&Arc::new(Target::new("c", [])), "cpu").unwrap();
        assert_eq!((old.carried(), fresh), (4, 4), "what no epoch carried does not count");
        let mut entries = old.entries(0..old.carried());
        // The entry of number 1 is lost; number 6 is known from a sample only.
        entries.remove(1);
        entries.reverse();
        assert_eq!(new.restore(&entries), []);
        assert_eq!(new.restore(&entries), [], "once more changes nothing");
        assert_eq!(new.reserve(6), Ok(()));
        assert_eq!((new.len(), new.carried(), new.take_fresh().len()), (3, 7, 0));
        assert_eq!(new.find(None, &TargetMatcher::default()), [0, 2, 3]);
        assert_eq!(new.find(Some(&["cpu"]), &TargetMatcher::default()), [0, 2, 3]);
        assert_eq!((new.key(1), new.key(2)), (None, old.key(2)));
        new.with_keys(|keys| assert!(keys.get(1).is_none() && keys.get(3).is_some()));
        assert_eq!(new.resolve(&Arc::new(Target::new("a", [("host", "1")])), "mem"), Ok(7));
        assert_eq!(new.resolve(&Arc::new(Target::new("d", [])), "mem"), Err(Full::Series));
        assert_eq!(new.take_fresh().len(), 1);
        assert_eq!(new.carried(), 8);
        let entry = |id, of: SeriesId| Entry { id, key: old.key(of).unwrap() };
        assert_eq!(new.replay(&entry(1, 1)), Err(Misplaced::Known { id: 1, has: 7 }));
        assert_eq!(new.replay(&entry(0, 4)), Err(Misplaced::Taken { id: 0 }));
        let far = 8 + ID_GAP_MAX + 1;
        assert_eq!(new.replay(&entry(far, 4)), Err(Misplaced::TooFar { id: far, len: 8 }));
        assert_eq!(new.replay(&entry(1, 4)), Ok(()), "the limits are for new series");
        assert_eq!(new.find(Some(&["cpu"]), &TargetMatcher::default()), [0, 1, 2, 3]);
    }

    #[test]
    fn limits_turn_new_series_away_and_keep_old_ones() {
        let catalog = catalog();
        let target = |s: &str| Arc::new(Target::new(s, [("host", "1")]));
        assert_eq!(catalog.resolve(&target("a"), "disk"), Ok(4));
        assert_eq!(catalog.resolve(&target("a"), "net"), Err(Full::Service));
        assert_eq!(catalog.resolve(&target("b"), "net"), Ok(5));
        assert_eq!(catalog.resolve(&target("c"), "net"), Err(Full::Series));
        assert_eq!(catalog.resolve(&target("a"), "cpu"), Ok(0));
    }
}
