//! Aggregate queries: windows of many series, merged from panes, grouped and pooled.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use operators::aggregate::Aggregate;
use operators::history::History;
use operators::sample::{DurationNs, SeriesId, TimeNs};
use operators::window::Shard;
use parking_lot::RwLock;
use rayon::prelude::*;

use crate::engine::Engine;

/// Groups of at least so many series are folded on several threads.
const PARALLEL_SERIES_MIN: usize = 64;

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
    groups: &[Vec<SeriesId>],
    query: &WindowQuery,
) -> Result<(u64, Vec<GroupAnswer>), Unanswerable> {
    let pane_ns = engine.plan().windows.tiers[0].width_ns;
    if query.window_ns <= 0 || query.window_ns % pane_ns != 0 {
        return Err(Unanswerable::NotAMultiple { pane_ns });
    }
    let series: usize = groups.iter().map(Vec::len).sum();
    let answers: Result<Vec<(u64, GroupAnswer)>, Unanswerable> = if series >= PARALLEL_SERIES_MIN {
        groups.par_iter().map(|members| group(engine, members, query)).collect()
    } else {
        groups.iter().map(|members| group(engine, members, query)).collect()
    };
    let answers = answers?;
    let as_of = answers.iter().map(|(epoch, _)| *epoch).min().unwrap_or_else(|| engine.completed());
    Ok((as_of, answers.into_iter().map(|(_, answer)| answer).collect()))
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
) -> Result<(u64, GroupAnswer), Unanswerable> {
    let mut pooled: BTreeMap<TimeNs, Aggregate> = BTreeMap::new();
    let mut answer =
        GroupAnswer { windows: Vec::new(), clock_ns: TimeNs::MAX, late: 0, dropped: 0, held_ns: TimeNs::MIN };
    let mut as_of = u64::MAX;
    for series in members {
        let part = with_history(engine, *series, |shard, history| {
            as_of = as_of.min(shard.epoch);
            answer.clock_ns = answer.clock_ns.min(shard.clock_ns(history));
            let (_, late, dropped) = history.counts();
            answer.late += late;
            answer.dropped += dropped;
            answer.held_ns = answer.held_ns.max(held_ns(shard, history).unwrap_or(TimeNs::MIN));
            collect(shard, history, query, &mut pooled)
        });
        part.unwrap_or(Ok(()))?;
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
    pooled: &mut BTreeMap<TimeNs, Aggregate>,
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
    let mut known = pooled.iter_mut().peekable();
    let mut fresh = Vec::new();
    history.windows(
        plan,
        range_ns,
        query.window_ns,
        query.with_values,
        shard.floor_ns,
        |start_ns, window| {
            while known.next_if(|(held_ns, _)| **held_ns < start_ns).is_some() {}
            match known.next_if(|(held_ns, _)| **held_ns == start_ns) {
                Some((_, held)) => held.pool(&window),
                None => fresh.push((start_ns, window)),
            }
        },
    );
    pooled.extend(fresh);
    Ok(())
}
