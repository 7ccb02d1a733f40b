//! Windows: the operator that folds each worker's samples into panes, and the shard that queries read.
//!
//! Samples wait until their epoch is complete, then are applied in the epoch's own order; so the state is
//! exact at epoch boundaries and the same for any number of workers. The worker is the only writer of its
//! shard and locks it once an epoch.

mod operator;
mod past;
mod quiet;
mod repeats;
pub mod saved;
mod sliced;

use std::sync::Arc;

use crate::alerts::Backlog;
use crate::closing::{ClosedWindow, Closing, ClosingCounts, ClosingPlan, Now};
use crate::exchange::Owners;
use crate::history::{History, Placed};
use crate::pane::{Obs, Seen};
use crate::rollup::slicing::Slicing;
use crate::rollup::{Membership, RollupChange, Sliced};
use crate::rule::RuleChange;
use crate::sample::{DurationNs, MS, Sample, SeriesId, TimeNs};
use crate::tier::{WindowPlan, series_clock_ns};

pub use operator::Windows;
pub use past::Resumption;
use past::{Past, Standing};
pub use quiet::{Alerting, Asleep, Watcher};
pub use repeats::Repeats;

/// What the edge decided for an epoch, and which rules watch which series. Travels beside the samples.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Control {
    /// Once per epoch and worker: the arrival clock, and the time before which panes are given up.
    Seal {
        /// Arrival time of the epoch.
        arrival_ns: TimeNs,
        /// Panes that begin before it are dropped to stay within the memory budget.
        floor_ns: TimeNs,
    },
    /// Rules come and go.
    Rules(Arc<RuleChange>),
    /// A rule begins (+1) or ceases (-1) to watch a series.
    Bind {
        /// The series.
        series: SeriesId,
        /// The rule's number.
        rule: u32,
        /// +1 or -1.
        diff: i32,
    },
    /// Rollups come and go. Stands before what binds their members.
    Rollups(RollupChange),
    /// A series becomes (+1) or ceases to be (-1) a member of a rollup.
    Member {
        /// Which.
        member: Membership,
        /// +1 or -1.
        diff: i32,
    },
}

/// Sums over a shard, for telemetry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardCounts {
    /// Samples applied, dropped ones and duplicates included.
    pub samples: u64,
    /// Samples that corrected a final pane.
    pub late: u64,
    /// Samples too old for any pane.
    pub dropped: u64,
    /// Samples sent again that were not taken a second time.
    pub duplicates: u64,
    /// Of them those of which nobody knows any more whether they were sent before.
    pub duplicates_unsure: u64,
    /// Panes given up for the memory budget or because their series fell silent.
    pub panes_given_up: u64,
    /// Bytes held, as last measured.
    pub bytes: u64,
}

/// The series of one worker. Readers see whole epochs only.
pub struct Shard {
    plan: Arc<WindowPlan>,
    /// How long anything is held, by that plan.
    retention_ns: DurationNs,
    owners: Owners,
    /// The worker whose it is.
    worker: usize,
    /// The last epoch applied.
    pub epoch: u64,
    /// Its arrival time.
    pub arrival_ns: TimeNs,
    /// Panes that begin earlier have been given up.
    pub floor_ns: TimeNs,
    /// Sums.
    pub counts: ShardCounts,
    series: Vec<History>,
    swept: usize,
    /// Only where closed windows are wanted.
    closing: Option<Box<Closing>>,
    /// Only where there are rollups.
    slicing: Option<Box<Slicing>>,
    /// Only while a restored shard catches up.
    past: Option<Box<Past>>,
    /// Only while a checkpoint is being written.
    repeats: Option<Repeats>,
    /// What the last epoch gave to rollups.
    given: Vec<Sliced>,
}

/// Samples whose places are looked at together before they are put there.
const TOUCHED_TOGETHER: usize = 16;

/// How many panes the sweep looks at per millisecond of arrival time: about 1 % of a core at 5 ns each.
const SWEEP_PANES_PER_MS: i64 = 2_000;
/// The least and the most it looks at in one epoch; the most take about a third of a millisecond.
const SWEEP_PANES_MIN: i64 = 1_024;
const SWEEP_PANES_MAX: i64 = 65_536;
/// The time that a round over all series takes where that is more than a few in an epoch.
const SWEEP_ROUND_MS: i64 = 1_000;
const SWEEP_SERIES_MIN: i64 = 32;
/// What a series costs beside its panes, as so many of them.
const SWEEP_SERIES_PANES: i64 = 4;

impl Shard {
    /// An empty shard of worker `worker`, one of `peers`.
    pub fn new(plan: Arc<WindowPlan>, worker: usize, peers: usize) -> Shard {
        Shard {
            retention_ns: plan.retention_ns(),
            plan,
            owners: Owners::new(peers),
            worker,
            epoch: 0,
            arrival_ns: TimeNs::MIN,
            floor_ns: TimeNs::MIN,
            counts: ShardCounts::default(),
            series: Vec::new(),
            swept: 0,
            closing: None,
            slicing: None,
            past: None,
            repeats: None,
            given: Vec::new(),
        }
    }

    /// Gives closed windows from now on; the shard is that of worker `index`. Panes that were never given are.
    pub fn close_windows(&mut self, closing: ClosingPlan, index: usize) {
        self.closing = Some(Box::new(Closing::new(closing, &self.plan, index, self.owners, &self.series)));
    }

    /// What was closed.
    pub fn closing_counts(&self) -> ClosingCounts {
        self.closing.as_ref().map(|closing| closing.counts()).unwrap_or_default()
    }

    /// The window plan.
    pub fn plan(&self) -> &WindowPlan {
        &self.plan
    }

    /// History of a series that this shard owns; `None` before its first sample.
    pub fn history(&self, series: SeriesId) -> Option<&History> {
        self.series.get(self.owners.slot(series) as usize).filter(|history| history.newest().is_some())
    }

    /// The series' own clock.
    pub fn clock_ns(&self, history: &History) -> TimeNs {
        let newest_ns = history.newest().map_or(TimeNs::MIN, |obs| obs.time_ns);
        series_clock_ns(newest_ns, history.last_arrival_ns(), self.arrival_ns, self.plan.idle_timeout_ns)
    }

    /// Applies one epoch. `chunks` are in the epoch's order. Samples of watched series go to `watcher`, but for
    /// duplicates and what its alerts need not see at once, see [`Watcher`]. Returns the windows that it closed or corrected, by series and start.
    pub fn apply(
        &mut self,
        epoch: u64,
        controls: &[Control],
        chunks: &[Vec<Sample>],
        mut watcher: impl Watcher,
    ) -> Vec<ClosedWindow> {
        let since_ns = self.arrival_ns;
        let mut sealed = false;
        self.given.clear();
        self.hush(epoch, controls, &mut watcher);
        for control in controls {
            match control {
                Control::Seal { arrival_ns, floor_ns } => {
                    self.arrival_ns = *arrival_ns;
                    self.floor_ns = *floor_ns;
                    sealed = true;
                }
                Control::Rules(_) => {}
                Control::Bind { series, diff, .. } => {
                    let history = history_mut(&mut self.series, self.owners.slot(*series) as usize);
                    history.watchers = history.watchers.saturating_add_signed(*diff);
                    history.wake(epoch);
                }
                Control::Rollups(_) | Control::Member { .. } => {}
            }
        }
        self.change_members(epoch, controls);
        let past = self.past.take();
        match &past {
            None => self.fold(epoch, chunks, |_| Standing::NEW, &mut watcher),
            Some(past) => self.fold(epoch, chunks, |sample| past.standing(sample, epoch), &mut watcher),
        }
        self.epoch = epoch;
        self.past = past;
        // What is bound before the first epoch, or on a restart again, is no epoch.
        let mut closed = Vec::new();
        if sealed {
            if let Some(closing) = &mut self.closing {
                let now = Now { epoch, arrival_ns: self.arrival_ns, floor_ns: self.floor_ns };
                closed = closing.end_epoch(&self.plan, &mut self.series, now);
            }
            self.slice(epoch);
            self.sweep(self.arrival_ns.saturating_sub(since_ns), &mut watcher);
        }
        self.past.take_if(|past| past.ends_with(epoch));
        closed
    }

    /// Folds samples in.
    #[inline]
    fn fold(
        &mut self,
        epoch: u64,
        chunks: &[Vec<Sample>],
        standing: impl Fn(&Sample) -> Standing,
        watcher: &mut impl Watcher,
    ) {
        let now = Now { epoch, arrival_ns: self.arrival_ns, floor_ns: self.floor_ns };
        let mut counts = ShardCounts::default();
        for few in chunks.iter().flat_map(|chunk| chunk.chunks(TOUCHED_TOGETHER)) {
            self.touch(few);
            for sample in few {
                self.fold_one(sample, now, standing(sample), &mut counts, watcher);
            }
        }
        self.counts.samples += counts.samples;
        self.counts.late += counts.late;
        self.counts.dropped += counts.dropped;
        self.counts.duplicates += counts.duplicates;
        self.counts.duplicates_unsure += counts.duplicates_unsure;
        self.counts.panes_given_up += counts.panes_given_up;
    }

    /// Looks at the places that samples will be put in, so that they come out of memory side by side: one after the
    /// other, each sample of a million series waits for two of them.
    #[inline]
    fn touch(&self, few: &[Sample]) {
        let place = |sample: &Sample| self.series.get(self.owners.slot(sample.series) as usize);
        std::hint::black_box(few.iter().filter_map(place).fold(0, |sum, history| sum ^ history.touch()));
    }

    #[inline(always)]
    fn fold_one(
        &mut self,
        sample: &Sample,
        now: Now,
        Standing { lacking, counted, repeated }: Standing,
        counts: &mut ShardCounts,
        watcher: &mut impl Watcher,
    ) {
        if repeated {
            return;
        }
        let slot = self.owners.slot(sample.series) as usize;
        let history = history_mut(&mut self.series, slot);
        counts.samples += u64::from(counted);
        let mut sleeps = false;
        if lacking {
            let obs = Obs { time_ns: sample.time_ns, value: sample.value };
            // Whether or not the sweep has been there, what it had is gone.
            if now.arrival_ns.saturating_sub(history.last_arrival_ns()) > self.retention_ns {
                if history.owes() {
                    quiet::catch_up(&self.plan, history, sample.series, now.epoch, watcher);
                }
                if let Some(slicing) = self.slicing.as_mut().filter(|_| history.member > 0) {
                    slicing.before_forgetting(&self.plan, history, now);
                }
                if let Some(closing) = &mut self.closing {
                    closing.close_what_is_forgotten(&self.plan, history, slot, now);
                }
                counts.panes_given_up += u64::from(counted) * history.forget();
            }
            if sample.is_dedup() {
                let seen = history.seen(&self.plan, obs.time_ns, now.floor_ns);
                if seen != Seen::No {
                    if let Some(repeats) = self.repeats.as_mut().filter(|_| history.watchers > 0) {
                        repeats.note(now.epoch, sample.position());
                    }
                    counts.duplicates += u64::from(counted);
                    counts.duplicates_unsure += u64::from(counted && seen == Seen::Unsure);
                    return;
                }
            }
            if history.member > 0
                && obs.time_ns >= history.roll_at_ns()
                && let Some(slicing) = &mut self.slicing
            {
                slicing.before_roll(&self.plan, history, obs.time_ns, now);
            }
            let is_quiet = history.is_quiet(obs.value);
            if history.owes()
                && !(is_quiet && history.owes_on(&self.plan, obs.time_ns, now.epoch, now.floor_ns))
            {
                quiet::catch_up(&self.plan, history, sample.series, now.epoch, watcher);
                if history.is_quiet(obs.value)
                    && history.lends_on(&self.plan, obs.time_ns, now.epoch, now.floor_ns)
                {
                    quiet::lend(&self.plan, history, sample.series, watcher);
                }
            }
            let placed = match &mut self.closing {
                None => history.insert(&self.plan, obs, now.epoch, now.arrival_ns, now.floor_ns),
                Some(closing) => closing.insert(&self.plan, history, slot, obs, now),
            };
            match placed {
                Placed::InTime => {}
                Placed::Late => counts.late += u64::from(counted),
                Placed::Dropped => counts.dropped += u64::from(counted),
            }
            if history.member > 0
                && let Some(slicing) = &mut self.slicing
            {
                slicing.note(&self.plan, history, obs.time_ns, placed);
            }
            // Those that were just given others of this epoch are awake.
            sleeps = is_quiet && history.is_quiet(obs.value) && history.is_newest(obs);
        }
        if sleeps {
            history.owe(now.epoch);
        } else if history.watchers > 0 {
            history.wake(now.epoch);
            watcher.give(*sample);
        }
    }

    /// Whether a series has been silent for longer than panes are held: it shows none, freed yet or not.
    pub fn is_gone(&self, history: &History) -> bool {
        self.arrival_ns.saturating_sub(history.last_arrival_ns()) > self.plan.retention_ns()
    }

    /// What is held of a series from `from_ns` on, and of what is older its newest sample. Nothing while it catches up:
    /// series may be ahead of their epoch then. Only new series are bound meanwhile, of which nothing is held; a change
    /// of the rules gives up the checkpoint that is being written.
    pub fn backlog(&self, series: SeriesId, from_ns: TimeNs) -> Option<Backlog> {
        if self.past.is_some() {
            return None;
        }
        let history = self.history(series).filter(|history| !self.is_gone(history))?;
        let values = history.values_from(&self.plan, from_ns, self.floor_ns);
        let is_whole = history.oldest_ns(&self.plan).is_none_or(|oldest_ns| oldest_ns >= from_ns);
        Some(Backlog { values, last_arrival_ns: history.last_arrival_ns(), is_whole })
    }

    /// Frees what the next few series no longer show, and measures them. Nothing that can be seen depends on
    /// how far it has come, but for the bytes. `elapsed_ns` is the arrival time since the epoch before.
    fn sweep(&mut self, elapsed_ns: DurationNs, watcher: &mut impl Watcher) {
        let due = (elapsed_ns / MS).saturating_mul(SWEEP_PANES_PER_MS);
        let mut panes_left = due.clamp(SWEEP_PANES_MIN, SWEEP_PANES_MAX);
        // A round takes its time, however few series there are: little has changed since the last.
        let round = self.series.len() as i64;
        let series_due = (elapsed_ns / MS).saturating_mul(round) / SWEEP_ROUND_MS;
        for _ in 0..series_due.max(SWEEP_SERIES_MIN).min(round) {
            if panes_left <= 0 {
                break;
            }
            self.swept = if self.swept < self.series.len() { self.swept } else { 0 };
            let gone = self.is_gone(&self.series[self.swept]);
            let counted = self.past.as_ref().is_none_or(|past| past.counts_slot(self.swept, self.epoch));
            let history = &mut self.series[self.swept];
            if history.owes() && (gone || history.owes_before(&self.plan, self.floor_ns)) {
                let series = self.owners.series(self.swept, self.worker);
                quiet::catch_up(&self.plan, history, series, self.epoch, watcher);
            }
            self.swept += 1;
            panes_left -= history.pane_count() as i64 + SWEEP_SERIES_PANES;
            if let Some(closing) = &mut self.closing {
                closing.count_given_up(&self.plan, history, self.floor_ns);
            }
            let (given_up, packed) =
                if gone { (history.forget(), 0) } else { history.trim(&self.plan, self.floor_ns) };
            panes_left -= packed as i64;
            self.counts.panes_given_up += u64::from(counted) * given_up;
            let measured_bytes = u32::try_from(history.bytes()).unwrap_or(u32::MAX);
            self.counts.bytes += u64::from(measured_bytes);
            self.counts.bytes -= u64::from(std::mem::replace(&mut history.measured_bytes, measured_bytes));
        }
    }

    /// Start of the oldest pane and the newest event time of worker `index`'s series.
    pub fn span_ns(&self, index: usize) -> Option<(TimeNs, TimeNs)> {
        let ends = self.all(index).filter_map(|(_, h)| Some((h.oldest_ns(&self.plan)?, h.newest()?.time_ns)));
        ends.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }

    /// All series that have samples, with the slots' numbers, in order.
    pub fn all(&self, index: usize) -> impl Iterator<Item = (SeriesId, &History)> {
        let owners = self.owners;
        self.series
            .iter()
            .enumerate()
            .filter(|(_, h)| h.newest().is_some())
            .map(move |(slot, h)| (owners.series(slot, index), h))
    }
}

#[inline]
fn history_mut(series: &mut Vec<History>, slot: usize) -> &mut History {
    if slot >= series.len() {
        series.resize_with(slot + 1, History::default);
    }
    &mut series[slot]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{HOUR, SECOND};

    fn apply(shard: &mut Shard, epoch: u64, arrival_ns: TimeNs, samples: Vec<Sample>) {
        let seal = Control::Seal { arrival_ns, floor_ns: TimeNs::MIN };
        shard.apply(epoch, &[seal], &[samples], |_| {});
    }

    fn sample(series: SeriesId, time_ns: TimeNs) -> Sample {
        Sample { series, seq: 0, time_ns, value: 1.0 }
    }

    #[test]
    fn a_sweep_has_an_end_however_many_panes_there_are() {
        let mut shard = Shard::new(Arc::new(WindowPlan::default()), 0, 1);
        let panes_each = 300;
        for series in 0..1000 {
            let samples = (0..panes_each).map(|at| sample(series, at * 10 * SECOND)).collect();
            apply(&mut shard, u64::from(series) + 1, 0, samples);
        }
        let all_bytes: usize = shard.series.iter().map(History::bytes).sum();
        let mut measured = 0;
        // Four milliseconds an epoch: some ten thousand panes each.
        for epoch in 0..40 {
            let before = shard.swept;
            apply(&mut shard, 2000 + epoch, (epoch as i64 + 1) * 4 * MS, Vec::new());
            let series = (shard.swept + 1000 - before) % 1000;
            assert!((1..=30).contains(&series), "{series} series of {panes_each} panes at once");
            measured += series;
        }
        assert!(measured >= 1000, "a round takes long: {measured}");
        assert_eq!(shard.counts.bytes, shard.series.iter().map(History::bytes).sum::<usize>() as u64);
        assert!(shard.counts.bytes <= all_bytes as u64);
    }

    /// The panes of a silent series go by the arrival clock, not by how far the sweep has come.
    #[test]
    fn a_series_that_was_gone_comes_back_without_its_panes() {
        let mut answers = Vec::new();
        for others in [0, 2000] {
            let mut shard = Shard::new(Arc::new(WindowPlan::default()), 0, 1);
            let fill = (1..=others).flat_map(|series| (0..100).map(move |s| sample(series, s * 10 * SECOND)));
            apply(&mut shard, 1, 0, fill.collect());
            shard.swept = 1;
            apply(&mut shard, 2, 0, vec![sample(0, 0), sample(0, 11 * SECOND)]);
            shard.swept = 1;
            apply(&mut shard, 3, 12 * HOUR, Vec::new());
            assert!(!shard.is_gone(shard.history(0).unwrap()), "held to the end");
            apply(&mut shard, 4, 12 * HOUR + 1, Vec::new());
            assert!(shard.is_gone(shard.history(0).unwrap()));
            apply(&mut shard, 5, 13 * HOUR, vec![sample(0, 30 * SECOND)]);
            let history = shard.history(0).unwrap();
            answers.push((shard.is_gone(history), history.pane_count(), history.counts()));
        }
        assert_eq!(answers, [(false, 1, (3, 0, 0)); 2]);
    }
}
