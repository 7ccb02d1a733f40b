//! Aggregate queries: windows of many series, merged from panes, grouped and pooled.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use operators::aggregate::Aggregate;
use operators::history::History;
use operators::sample::{DurationNs, SeriesId, TimeNs};
use operators::window::Shard;
use parking_lot::{RwLock, RwLockReadGuard};
use rayon::prelude::*;

use crate::engine::Engine;

/// Groups of at least so many series are folded on several threads.
const PARALLEL_SERIES_MIN: usize = 64;
/// Panes that are held of the series looked at before a shard's worker is let in: about a millisecond.
const LOCKED_PANES_MAX: usize = 16_384;

/// A question over windows.
#[derive(Clone, Debug)]
pub struct WindowQuery {
    /// Event times `[start, end)`.
    pub range_ns: Range<TimeNs>,
    /// Window width: a multiple of the pane width.
    pub window_ns: DurationNs,
    /// Whether a percentile is wanted.
    pub with_values: bool,
}

/// One window of an answer.
#[derive(Clone, Debug)]
pub struct WindowAnswer {
    /// Start of the window.
    pub start_ns: TimeNs,
    /// Its aggregate.
    pub aggregate: Aggregate,
    /// Whether it is behind the clock of every member by more than the lateness.
    pub is_final: bool,
}

/// The windows of one group of series.
#[derive(Clone, Debug)]
pub struct GroupAnswer {
    /// Windows with samples, in time order.
    pub windows: Vec<WindowAnswer>,
    /// The clock of the member that is furthest behind.
    pub clock_ns: TimeNs,
    /// Samples that corrected final panes of the members.
    pub late: u64,
    /// Samples too old for any pane of the members.
    pub dropped: u64,
    /// Since when every member that is still there is held: a window that starts before may lack samples.
    pub held_ns: TimeNs,
}

/// Why a question can't be answered, and what could be asked instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unanswerable {
    /// The window width is no positive multiple of the pane width.
    NotAMultiple {
        /// The pane width.
        pane_ns: DurationNs,
    },
    /// Part of the range is held in coarser panes only.
    TooFine {
        /// The width that the range is held in.
        coarsest_ns: DurationNs,
    },
}

/// Answers for each group of series; a group without samples in the range has no windows. The epoch
/// is the oldest that any shard showed while it was read.
///
/// # Errors
/// If the width does not fit the panes that hold the range.
pub fn windows(
    engine: &Engine,
    groups: &[impl AsRef<[SeriesId]> + Sync],
    query: &WindowQuery,
) -> Result<(u64, Vec<GroupAnswer>), Unanswerable> {
    windows_within(engine, groups, query, None).expect("who waits as long as it takes is let in")
}

/// As [`windows`]; `None` if a shard can't be looked at within `wait`, which its worker may need for longer.
///
/// # Errors
/// As [`windows`].
pub fn windows_within(
    engine: &Engine,
    groups: &[impl AsRef<[SeriesId]> + Sync],
    query: &WindowQuery,
    wait: Option<Duration>,
) -> Option<Result<(u64, Vec<GroupAnswer>), Unanswerable>> {
    let pane_ns = engine.plan().windows.tiers[0].width_ns;
    if query.window_ns <= 0 || query.window_ns % pane_ns != 0 {
        return Some(Err(Unanswerable::NotAMultiple { pane_ns }));
    }
    let series: usize = groups.iter().map(|members| members.as_ref().len()).sum();
    let answer = |members| group(engine, members, query, wait);
    let answers: Result<Vec<(u64, GroupAnswer)>, Unanswered> = if series >= PARALLEL_SERIES_MIN {
        groups.par_iter().map(AsRef::as_ref).map(answer).collect()
    } else {
        groups.iter().map(AsRef::as_ref).map(answer).collect()
    };
    match answers {
        Ok(answers) => {
            let as_of = answers.iter().map(|(epoch, _)| *epoch).min().unwrap_or_else(|| engine.completed());
            Some(Ok((as_of, answers.into_iter().map(|(_, answer)| answer).collect())))
        }
        Err(Unanswered::Impossible(why)) => Some(Err(why)),
        Err(Unanswered::Busy) => None,
    }
}

/// Why there is no answer.
enum Unanswered {
    Impossible(Unanswerable),
    /// A worker needs its shard.
    Busy,
}

/// Runs `look` on the history of a series, under its shard's lock.
pub fn with_history<R>(
    engine: &Engine,
    series: SeriesId,
    look: impl FnOnce(&Shard, &History) -> R,
) -> Option<R> {
    let shards: &[Arc<RwLock<Shard>>] = engine.shards();
    let shard = shards[series as usize % shards.len()].read();
    shard.history(series).map(|history| look(&shard, history))
}

fn group(
    engine: &Engine,
    members: &[SeriesId],
    query: &WindowQuery,
    wait: Option<Duration>,
) -> Result<(u64, GroupAnswer), Unanswered> {
    // By start.
    let mut pooled: Vec<(TimeNs, Aggregate)> = Vec::new();
    let mut answer =
        GroupAnswer { windows: Vec::new(), clock_ns: TimeNs::MAX, late: 0, dropped: 0, held_ns: TimeNs::MIN };
    let mut as_of = u64::MAX;
    let shards: &[Arc<RwLock<Shard>>] = engine.shards();
    // To let go of a shard and take it again between two series would mean to wait for each epoch that comes in between.
    let (mut looking, mut panes): (Option<(usize, RwLockReadGuard<'_, Shard>)>, _) = (None, 0);
    for series in members {
        let number = *series as usize % shards.len();
        // Of two locks at once each may be waited for by whoever has the other.
        if looking.as_ref().is_some_and(|(at, ..)| *at != number) || panes >= LOCKED_PANES_MAX {
            (looking, panes) = (None, 0);
        }
        let shard = match (&looking, wait) {
            (Some((_, shard)), _) => shard,
            (None, None) => &looking.insert((number, shards[number].read())).1,
            (None, Some(wait)) => {
                let shard = shards[number].try_read_for(wait).ok_or(Unanswered::Busy)?;
                &looking.insert((number, shard)).1
            }
        };
        let Some(history) = shard.history(*series) else { continue };
        panes += history.pane_count();
        as_of = as_of.min(shard.epoch);
        answer.clock_ns = answer.clock_ns.min(shard.clock_ns(history));
        let (_, late, dropped) = history.counts();
        answer.late += late;
        answer.dropped += dropped;
        answer.held_ns = answer.held_ns.max(held_ns(shard, history).unwrap_or(TimeNs::MIN));
        collect(shard, history, query, &mut pooled).map_err(Unanswered::Impossible)?;
    }
    let lateness_ns = engine.plan().windows.lateness_ns;
    let closed_ns = answer.clock_ns.saturating_sub(lateness_ns);
    answer.windows = pooled
        .into_iter()
        .map(|(start_ns, aggregate)| WindowAnswer {
            start_ns,
            aggregate,
            is_final: start_ns.saturating_add(query.window_ns) <= closed_ns,
        })
        .collect();
    Ok((if as_of == u64::MAX { engine.completed() } else { as_of }, answer))
}

/// Since when panes of `history` are held; `None` if it holds none.
pub fn held_ns(shard: &Shard, history: &History) -> Option<TimeNs> {
    if shard.is_gone(history) {
        return None;
    }
    let (plan, newest_ns) = (shard.plan(), history.newest()?.time_ns);
    Some(plan.cutoff_ns(plan.tiers.len() - 1, newest_ns).max(shard.floor_ns))
}

fn collect(
    shard: &Shard,
    history: &History,
    query: &WindowQuery,
    pooled: &mut Vec<(TimeNs, Aggregate)>,
) -> Result<(), Unanswerable> {
    if shard.is_gone(history) {
        return Ok(());
    }
    let plan = shard.plan();
    let range_ns = query.range_ns.clone();
    if let Some(coarsest_ns) = history.coarsest_ns(plan, range_ns.clone(), shard.floor_ns)
        && query.window_ns % coarsest_ns != 0
    {
        return Err(Unanswerable::TooFine { coarsest_ns });
    }
    // Both come in time order, so what is there already is walked along, not looked up.
    let (known, mut at) = (pooled.len(), 0);
    history.windows(
        plan,
        range_ns,
        query.window_ns,
        query.with_values,
        shard.floor_ns,
        |start_ns, window| {
            while at < known && pooled[at].0 < start_ns {
                at += 1;
            }
            match pooled[..known].get_mut(at) {
                Some((held_ns, held)) if *held_ns == start_ns => held.pool(window),
                _ => pooled.push((start_ns, std::mem::replace(window, Aggregate::new(false)))),
            }
        },
    );
    if known > 0 && pooled.len() > known {
        pooled.sort_by_key(|(start_ns, _)| *start_ns);
    }
    Ok(())
}
