//! Values that alerts need not see at once: nothing happens with them.
//!
//! The alerts of most series sleep: none is alive, and values in a band, in the order of their event times, change nothing
//! but what is kept for corrections. So a shard keeps such values to itself; they stand at the end of the series'
//! newest pane, where they were put anyway. Its alerts *catch up* on them before anything else comes: when that pane
//! ends or folds, when a value lies outside the band or comes late, when rules change, when state is saved. They are
//! then told the same values in the same order as if they had seen each one, so nothing that they say hangs on it.
//!
//! Values of the epoch under way are not caught up on but given like any others: those that come behind them in that
//! epoch may lie before them, and an epoch is one step for a source.

use std::borrow::Cow;

use super::{Control, Shard};
use crate::history::History;
use crate::pane::Obs;
use crate::sample::{Sample, SeriesId, TimeNs};
use crate::tier::WindowPlan;

/// A series whose alerts sleep.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Asleep {
    /// Which.
    pub series: SeriesId,
    /// From the first to the second, both included, nothing happens with its values.
    pub quiet: (f32, f32),
    /// The last epoch whose values its alerts know.
    pub epoch: u64,
}

/// The alerts of a shard's series, on its own worker.
pub trait Alerting {
    /// Is told of an epoch before that is applied.
    fn prepare(&mut self, epoch: u64, controls: &[Control], shard: &Shard);

    /// Series whose alerts have fallen asleep since this was asked last.
    fn asleep(&mut self) -> Vec<Asleep>;

    /// Catches up on values of a series whose alerts sleep: quiet, in the order of their event times, none in front of
    /// any that came before. The newest came at `arrival_ns`.
    fn catch_up(&mut self, series: SeriesId, arrival_ns: TimeNs, values: &[Obs]);

    /// Gives up the values that the alerts of a series keep, which sleep, if `is_held` says that the series holds them.
    /// Says how many they are. When they catch up, they are told those first.
    fn lend(&mut self, series: SeriesId, is_held: impl FnOnce(&[(TimeNs, f64)]) -> bool) -> Option<usize>;
}

/// Who wants the samples of series that rules watch.
pub trait Watcher {
    /// Takes a sample of the epoch that is being applied.
    fn give(&mut self, sample: Sample);

    /// As [`Alerting::asleep`].
    fn asleep(&mut self) -> Vec<Asleep> {
        Vec::new()
    }

    /// As [`Alerting::catch_up`]; not called unless some are asleep.
    fn catch_up(&mut self, _series: SeriesId, _arrival_ns: TimeNs, _values: &[Obs]) {}

    /// As [`Alerting::lend`].
    fn lend(&mut self, _series: SeriesId, _is_held: impl FnOnce(&[(TimeNs, f64)]) -> bool) -> Option<usize> {
        None
    }
}

/// Whoever is not asked what sleeps sees all samples.
impl<F: FnMut(Sample)> Watcher for F {
    fn give(&mut self, sample: Sample) {
        self(sample);
    }
}

/// Alerts that see samples elsewhere, where `give` sends them.
pub(super) struct Watching<'a, A, G> {
    pub(super) alerts: &'a mut A,
    pub(super) give: G,
}

impl<A: Alerting, G: FnMut(Sample)> Watcher for Watching<'_, A, G> {
    fn give(&mut self, sample: Sample) {
        (self.give)(sample);
    }

    fn asleep(&mut self) -> Vec<Asleep> {
        self.alerts.asleep()
    }

    fn catch_up(&mut self, series: SeriesId, arrival_ns: TimeNs, values: &[Obs]) {
        self.alerts.catch_up(series, arrival_ns, values);
    }

    fn lend(&mut self, series: SeriesId, is_held: impl FnOnce(&[(TimeNs, f64)]) -> bool) -> Option<usize> {
        self.alerts.lend(series, is_held)
    }
}

/// Has alerts know all values of their series, in front of what comes next in `epoch`.
#[inline(never)]
pub(super) fn catch_up(
    plan: &WindowPlan,
    history: &mut History,
    series: SeriesId,
    epoch: u64,
    watcher: &mut impl Watcher,
) {
    let (owed, before) = history.owed(plan, epoch);
    let (before, fresh) = owed.split_at(before);
    if !before.is_empty() {
        watcher.catch_up(series, history.last_arrival_ns(), before);
    }
    for obs in fresh {
        watcher.give(Sample { series, seq: 0, time_ns: obs.time_ns, value: obs.value });
    }
    let sees_on = !fresh.is_empty();
    history.settle();
    if sees_on {
        history.wake(epoch);
    }
}

/// Has alerts that sleep give up what they keep, where the series holds that. Nothing must be owed to them.
pub(super) fn lend(plan: &WindowPlan, history: &mut History, series: SeriesId, watcher: &mut impl Watcher) {
    if history.can_be_lent(plan)
        && let Some(len) = watcher.lend(series, |values| history.ends_with(plan, values))
    {
        history.lend(len);
    }
}

impl Shard {
    /// Takes note of the series whose alerts sleep, and wakes those that rules begin or cease to watch.
    pub(super) fn hush(&mut self, epoch: u64, controls: &[Control], watcher: &mut impl Watcher) {
        let asleep = watcher.asleep();
        // What catches up knows of values that its alerts do not.
        if self.past.is_none() {
            for Asleep { series, quiet, epoch } in asleep {
                if let Some(history) = self.series.get_mut(self.owners.slot(series) as usize)
                    && !history.owes()
                    && history.hush(quiet, epoch)
                {
                    lend(&self.plan, history, series, watcher);
                }
            }
        }
        for control in controls {
            if let Control::Bind { series, .. } = control
                && let Some(history) = self.series.get_mut(self.owners.slot(*series) as usize)
                && history.owes()
            {
                catch_up(&self.plan, history, *series, epoch, watcher);
            }
        }
    }

    /// Has alerts know all values of their series, but for those that lent what they keep; for between two epochs.
    pub fn catch_up(&mut self, alerts: &mut impl Alerting) {
        let Shard { plan, owners, worker, epoch, series, .. } = self;
        // There are no values of the next epoch to be given.
        let mut watcher = Watching { alerts, give: |_| {} };
        let owing = series.iter_mut().enumerate().filter(|(_, history)| history.owes() && !history.is_lent());
        for (slot, history) in owing {
            catch_up(plan, history, owners.series(slot, *worker), *epoch + 1, &mut watcher);
        }
    }

    /// The values of a series that its alerts lent, by event time, with the arrival time of the newest.
    pub fn lent(&self, series: SeriesId) -> Option<(Cow<'_, [Obs]>, TimeNs)> {
        let history = self.series.get(self.owners.slot(series) as usize).filter(|h| h.is_lent())?;
        Some(history.lent(&self.plan))
    }
}

#[cfg(test)]
#[path = "quiet_tests.rs"]
mod tests;
