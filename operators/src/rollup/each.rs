//! Windows of series that stand for themselves: read off their panes, of which nobody else needs a copy.

use std::collections::BTreeSet;

use super::look::Look;
use super::{Finished, RollupRow, Scheme, ceil_to, group_of_series};
use crate::aggregate::Aggregate;
use crate::rollup::Rollup;
use crate::sample::{SeriesId, TimeNs};
use crate::tier::floor_to;

/// What was said of a series before.
pub(super) struct Before {
    /// Windows up to here were passed by its clock.
    pub(super) clock_ns: TimeNs,
    /// Windows that end here or before are corrected no more.
    pub(super) horizon_ns: TimeNs,
    /// Nothing was said yet.
    pub(super) is_new: bool,
}

/// Rows of one series that are due: of windows that its clock has passed since, of those that have become final
/// since, and of earlier ones that the samples `touched` have changed. `missed` counts rows of which part is held in
/// coarser panes only, or no more.
pub(super) fn rows(
    scheme: &Scheme,
    number: u32,
    series: SeriesId,
    before: Before,
    look: &Look<'_>,
    touched: &[TimeNs],
    missed: &mut u64,
) -> Vec<RollupRow> {
    let Rollup { hop_ns, .. } = *scheme.rollup;
    let (clock_ns, lateness_ns) = (look.clock_ns, look.plan.lateness_ns);
    let Before { clock_ns: before_ns, horizon_ns, is_new } = before;
    let mut ends: BTreeSet<TimeNs> = BTreeSet::new();
    for time_ns in touched {
        let corrected = |end_ns: &TimeNs| *end_ns > horizon_ns && *end_ns <= clock_ns;
        ends.extend(scheme.ends(*time_ns).filter(corrected));
        if let Some(next_ns) = look.next_after(scheme, *time_ns) {
            ends.extend(scheme.ends(next_ns).filter(corrected));
        }
    }
    let mut add_between = |from_ns: TimeNs, till_ns: TimeNs| {
        let mut next = floor_to(from_ns, hop_ns).checked_add(hop_ns);
        while let Some(end_ns) = next.and_then(|end_ns| next_end(scheme, look, end_ns)) {
            if end_ns > till_ns {
                break;
            }
            ends.insert(end_ns);
            next = end_ns.checked_add(hop_ns);
        }
    };
    add_between(before_ns, clock_ns);
    // What has become final is not what the clock passes only now, unless it jumps.
    let final_from_ns = before_ns.saturating_sub(lateness_ns);
    if !is_new {
        add_between(final_from_ns, clock_ns.saturating_sub(lateness_ns));
    }
    let mut rows = Vec::with_capacity(ends.len());
    for end_ns in ends {
        let Some(Finished { count, values, error_bound }) = window(scheme, look, end_ns) else {
            *missed += 1;
            continue;
        };
        rows.push(RollupRow {
            rollup: number,
            group: group_of_series(series),
            end_ns,
            width_ns: scheme.rollup.width_ns,
            revision: look.epoch,
            is_final: Scheme::is_final(end_ns, clock_ns, lateness_ns),
            count,
            values,
            error_bound,
        });
    }
    rows
}

/// When, by the clock, there is something to say although no sample comes.
pub(super) fn next_wake_ns(scheme: &Scheme, look: &Look<'_>) -> Option<TimeNs> {
    let Rollup { hop_ns, .. } = *scheme.rollup;
    let (clock_ns, lateness_ns) = (look.clock_ns, look.plan.lateness_ns);
    let after = |time_ns: TimeNs| {
        let first = floor_to(time_ns, hop_ns).checked_add(hop_ns)?;
        next_end(scheme, look, first)
    };
    let open = after(clock_ns.saturating_sub(lateness_ns));
    let is_final_ns = open.map(|end_ns| ceil_to(end_ns.saturating_add(lateness_ns), look.pane_ns()));
    after(clock_ns).into_iter().chain(is_final_ns).min()
}

/// The first window end from `end_ns` on that there is a row of.
fn next_end(scheme: &Scheme, look: &Look<'_>, end_ns: TimeNs) -> Option<TimeNs> {
    let Rollup { width_ns, hop_ns, .. } = *scheme.rollup;
    let since_ns = end_ns.saturating_sub(width_ns).saturating_sub(hop_ns);
    let pane_ns = look.history.first_from(look.plan, since_ns.max(look.floor_ns))?;
    if pane_ns < end_ns { Some(end_ns) } else { floor_to(pane_ns, hop_ns).checked_add(hop_ns) }
}

/// What the window that ends at `end_ns` says; `None` where it is not held as it was.
fn window(scheme: &Scheme, look: &Look<'_>, end_ns: TimeNs) -> Option<Finished> {
    let start_ns = end_ns.saturating_sub(scheme.rollup.width_ns);
    if !look.is_whole(start_ns..end_ns, scheme.slice_ns) {
        return None;
    }
    let part = scheme.part(0);
    let slices = look.slices(scheme, 0, start_ns..end_ns);
    let mut window = Aggregate::new(part.needs_values);
    let before = slices.first().filter(|_| part.needs_before);
    let before = before.and_then(|(first_ns, _)| look.history.before(look.plan, *first_ns, look.floor_ns));
    slices.iter().for_each(|(_, slice)| window.append(slice));
    window.close(before);
    Some(scheme.finish(&[window]))
}

impl Look<'_> {
    /// The first pane behind a sample, if the sample is the last one before it and that matters.
    fn next_after(&self, scheme: &Scheme, time_ns: TimeNs) -> Option<TimeNs> {
        if !scheme.part(0).needs_before {
            return None;
        }
        let behind_ns = floor_to(time_ns, self.pane_ns()).saturating_add(1);
        let next_ns = self.history.first_from(self.plan, behind_ns)?;
        let before = self.history.before(self.plan, next_ns, self.floor_ns)?;
        (before.time_ns == time_ns).then_some(next_ns)
    }
}
