//! The series catalog: gives series their numbers, finds them again by metric, service and tags, keeps the limits.
//!
//! Numbers are given at the edge, in order of first appearance, and every new entry travels with the epoch
//! that first uses it, so a replay gives the same numbers.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use crate::sample::SeriesId;
use crate::series::{SeriesKey, Target, TargetMatcher};

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

/// All known series. Readers and writers share it; a decoder asks only for what its own cache does not have.
pub struct Catalog {
    limits: CatalogLimits,
    inner: RwLock<Inner>,
    /// Entries that no epoch has carried yet.
    fresh: Mutex<Vec<Entry>>,
}

#[derive(Default)]
struct Inner {
    keys: Vec<SeriesKey>,
    targets: HashMap<Arc<Target>, TargetEntry>,
    metrics: HashMap<Arc<str>, Vec<SeriesId>>,
    by_service: HashMap<Box<str>, Vec<SeriesId>>,
    /// Tag name -> tag value -> series, ascending.
    by_tag: HashMap<Box<str>, HashMap<Box<str>, Vec<SeriesId>>>,
}

#[derive(Default)]
struct TargetEntry {
    series: HashMap<Arc<str>, SeriesId>,
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
        let entry = inner.add(target, metric);
        let id = entry.id;
        self.fresh.lock().push(entry);
        Ok(id)
    }

    /// Entries not yet carried by an epoch. The caller seals them into one.
    pub fn take_fresh(&self) -> Vec<Entry> {
        std::mem::take(&mut self.fresh.lock())
    }

    /// What series `id` is.
    pub fn key(&self, id: SeriesId) -> Option<SeriesKey> {
        self.inner.read().keys.get(id as usize).cloned()
    }

    /// Runs `look` with a lookup from numbers to keys, under one lock.
    pub fn with_keys<R>(&self, look: impl FnOnce(&[SeriesKey]) -> R) -> R {
        look(&self.inner.read().keys)
    }

    /// Number of series.
    pub fn len(&self) -> usize {
        self.inner.read().keys.len()
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
        let matches = |id: &SeriesId| matcher.matches(&inner.keys[*id as usize].target);
        candidates.into_iter().filter(|id| everywhere(id) && matches(id)).collect()
    }
}

impl Inner {
    fn find(&self, target: &Target, metric: &str) -> Option<SeriesId> {
        self.targets.get(target)?.series.get(metric).copied()
    }

    /// Whether one more series of this target is within the limits.
    fn room(&self, limits: &CatalogLimits, target: &Target) -> Result<(), Full> {
        if self.keys.len() >= limits.series_max {
            return Err(Full::Series);
        }
        let of_service = self.by_service.get(&target.service).map_or(0, Vec::len);
        if of_service >= limits.series_per_service_max { Err(Full::Service) } else { Ok(()) }
    }

    fn add(&mut self, target: &Arc<Target>, metric: &str) -> Entry {
        // `series_max` is far below the range of the number.
        let id = self.keys.len() as SeriesId;
        let target =
            self.targets.get_key_value(target).map_or_else(|| target.clone(), |(held, _)| held.clone());
        let metric =
            self.metrics.get_key_value(metric).map_or_else(|| metric.into(), |(held, _)| held.clone());
        self.targets.entry(target.clone()).or_default().series.insert(metric.clone(), id);
        self.metrics.entry(metric.clone()).or_default().push(id);
        self.by_service.entry(target.service.clone()).or_default().push(id);
        for (name, value) in &target.tags {
            self.by_tag.entry(name.clone()).or_default().entry(value.clone()).or_default().push(id);
        }
        let key = SeriesKey { target, metric };
        self.keys.push(key.clone());
        Entry { id, key }
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
