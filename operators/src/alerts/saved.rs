//! The alerts of a worker as bytes.
//!
//! ```text
//! varint  arrival time (signed)
//! varint  samples that ever came too late (0 but in the first part)
//! varint  number of rules (0 but in the first part of a worker), each: its number, its length, postcard's form of it
//! a source: varint its length, postcard's form of what it is and of what is known of it
//! ```

use std::cmp::Reverse;
use std::sync::atomic::Ordering;

use super::watched::Watched;
use super::{Machines, Source};
use crate::packed::{Reader, Unreadable, put_framed, put_signed, put_varint};
use crate::rule::{Rule, RuleChange};
use crate::sample::TimeNs;
use crate::window::Shard;

/// What stands at the head of a part of saved alerts.
#[derive(Clone, Debug, PartialEq)]
pub struct SavedAlerts {
    /// Arrival time of the epoch.
    pub arrival_ns: TimeNs,
    /// Samples that had come too late.
    pub late: u64,
    /// The rules, if they stand here.
    pub rules: Vec<(u32, Rule)>,
}

/// A source with its alerts, as it was saved.
pub struct SavedSource {
    /// What it is.
    pub source: Source,
    watched: Watched,
}

impl SavedSource {
    /// Number of its alerts.
    pub fn len(&self) -> usize {
        self.watched.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The least bytes that a rule takes.
const RULE_BYTES_MIN: usize = 8;

impl Machines {
    /// Writes all alerts as they are: calls `full` with parts of about `part_bytes`, of which each can be read on its
    /// own; at least one. `shard` holds what alerts of its series lent.
    pub fn save(&mut self, part_bytes: usize, shard: Option<&Shard>, mut full: impl FnMut(&[u8])) {
        let mut places: Vec<(Source, u32)> = self.places.iter().map(|(s, place)| (*s, *place)).collect();
        places.sort_unstable();
        let mut rest = &places[..];
        let (mut room, mut out) = (Vec::new(), Vec::new());
        let mut first = true;
        loop {
            out.clear();
            put_signed(&mut out, self.arrival_ns);
            put_varint(&mut out, if first { self.counters.late.load(Ordering::Relaxed) } else { 0 });
            let rules = if first { self.rules.all() } else { Vec::new() };
            put_varint(&mut out, rules.len() as u64);
            for (number, rule) in &rules {
                put_varint(&mut out, u64::from(*number));
                put_framed(&mut out, &**rule);
            }
            first = false;
            let enough = out.len() + part_bytes;
            while let Some(((source, place), later)) = rest.split_first() {
                if out.len() >= enough {
                    break;
                }
                let watched = &mut self.sources[*place as usize].1;
                let lent = shard.zip(source.series()).filter(|_| watched.is_lent());
                let lent = lent.and_then(|(shard, series)| shard.lent(series));
                if let Some((values, arrival_ns)) = &lent {
                    watched.front.kept = std::mem::take(&mut room);
                    watched.catch_up(&self.rules, &self.patience, *arrival_ns, values);
                }
                let armed_ns = watched.tidy(&self.rules, &self.patience);
                put_framed(&mut out, &(source, &*watched));
                watched.armed_ns = armed_ns;
                if lent.is_some() {
                    room = watched.lend_again();
                    room.clear();
                }
                rest = later;
            }
            full(&out);
            if rest.is_empty() {
                break;
            }
        }
    }

    /// Reads a part; calls `found` for each source. Series must be below `series_end`.
    pub fn load(
        reader: &mut Reader<'_>,
        series_end: u64,
        mut found: impl FnMut(SavedSource) -> Result<(), Unreadable>,
    ) -> Result<SavedAlerts, Unreadable> {
        let arrival_ns = reader.signed()?;
        let late = reader.varint()?;
        let count = reader.len(RULE_BYTES_MIN)?;
        let mut rules = Vec::with_capacity(count);
        for _ in 0..count {
            let number = u32::try_from(reader.varint()?).map_err(|_| reader.wrong("the number of a rule"))?;
            rules.push((number, reader.framed("a rule")?));
        }
        while reader.left() > 0 {
            let (source, watched): (Source, Watched) = reader.framed("a source and its alerts")?;
            if !watched.is_sound() {
                return Err(reader.wrong("values and alerts of a source in order"));
            }
            if source.series().is_some_and(|series| u64::from(series) >= series_end) {
                return Err(reader.wrong(format!("a series below {series_end}, found {source:?}")));
            }
            found(SavedSource { source, watched })?;
        }
        Ok(SavedAlerts { arrival_ns, late, rules })
    }

    /// Takes in a saved source; gives its name back when it is there already.
    pub fn restore(&mut self, saved: SavedSource) -> Result<(), Source> {
        if self.places.contains_key(&saved.source) {
            return Err(saved.source);
        }
        let place = self.place_of(saved.source);
        self.counters.bound.fetch_add(saved.len() as u64, Ordering::Relaxed);
        self.sources[place as usize].1 = saved.watched;
        Ok(())
    }

    /// Goes on with what was restored, behind an epoch that arrived at `arrival_ns`, with these rules.
    pub fn resume(&mut self, rules: &RuleChange, arrival_ns: TimeNs) {
        self.rules.add(rules);
        self.arrival_ns = arrival_ns;
        let armed = self.sources.iter().zip(0..).map(|((_, watched), place)| (watched.armed_ns, place));
        self.timers.extend(armed.filter(|(armed_ns, _)| *armed_ns < TimeNs::MAX).map(Reverse));
    }
}
