//! Rollups: windows over groups of series, kept up to date while samples come.
//!
//! A rollup is data. It enters with an epoch, as part of a [`RollupChange`], and is joined with the series catalog
//! ([`binding`]): whose metric and target it names is a *member* of the group that its tags say.
//!
//! # What a row says
//! A *slice* is as wide as the greatest common divisor of width and hop (Li et al., "No pane, no gain", SIGMOD
//! Record 2005, call it a pane; here panes are finer). A member's slice is the fold of its panes in time order, its
//! window that of its slices, and the group's window pools the members in the order of their numbers. Where nobody asks
//! for a rate, the members of each slice are pooled first, then the slices in time order: then a slice that changes costs
//! its members, and not those of all slices of all windows that it is in. So a row is the same bits for any number of
//! workers and however samples were batched.
//!
//! A row belongs to a multiple `t` of the hop and says what is in `[t - width, t)`. There is one where
//! `[t - width - hop, t)` has a sample: after its last samples a group says once that it is empty, and then nothing.
//! It is given at the end of the first epoch at which the clock of every member has passed `t`, and again, under the
//! epoch's number as its revision, when what it says has changed or when it has become final: when the clock has
//! passed `t` by the lateness. The clock of a group is that of its member that is furthest behind, a silent member's
//! being the arrival clock, in steps: from one moment at which something may be due to the next. Once the clock has passed `t` by [`Rollup::correct_ns`], it is given no
//! more; a member that is further behind the foremost than that does not hold the clock back, either.
//!
//! # Layout
//! - [`slice`]: what a member has in one slice; `slicing`: slices out of a shard's panes at the end of an epoch;
//!   `look`: what of one series is news; [`update`]: how that travels
//! - `each`: windows of series that stand for themselves ([`Grouping::Series`]), read off their panes directly
//! - [`group`]: one group; [`groups`]: those of a worker, and the operator over them
//! - [`binding`]: who is in; [`numbers`]: which definitions there are, each once
//! - [`saved`]: all of that as bytes

pub mod binding;
mod each;
pub mod group;
pub mod groups;
mod look;
pub mod numbers;
pub mod saved;
pub mod slice;
pub(crate) mod slicing;
pub mod update;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::aggregate::Aggregate;
use crate::function::{Function, names};
use crate::rule::{Grouping, Over, WindowSignal};
use crate::sample::{DurationNs, SECOND, SeriesId, TimeNs};
use crate::series::TargetMatcher;
use crate::stable_hash::StableHash;
use crate::tier::{WindowPlan, floor_to};

pub use groups::{Groups, Rollups};
pub use slicing::SlicingCounts;
pub use update::{MemberUpdate, Membership, Sliced};

/// Windows over groups of series.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rollup {
    /// Its name; a rule's rollup has the rule's.
    pub name: Arc<str>,
    /// Metric name or family.
    pub metric: String,
    /// Targets meant.
    pub matcher: TargetMatcher,
    /// What the one function's value is divided by.
    pub over: Option<Over>,
    /// Whose samples come together.
    pub grouping: Grouping,
    /// Width of a window: a multiple of the finest panes'.
    pub width_ns: DurationNs,
    /// Distance between the ends of two windows: a multiple of the finest panes' width, at most the window's.
    pub hop_ns: DurationNs,
    /// Names of the functions, in the order of a row's values.
    pub functions: Vec<String>,
    /// With fewer samples, of either half of a ratio, there is no value.
    pub samples_min: u64,
    /// How far behind the group's clock a row is still corrected.
    pub correct_ns: DurationNs,
    /// How far behind the group's clock rows are kept for queries; those that may be corrected are kept in any case.
    pub keep_ns: DurationNs,
}

impl Rollup {
    /// The rollup that a rule's window signal is: one function.
    pub fn of_signal(
        name: Arc<str>,
        metric: String,
        matcher: TargetMatcher,
        signal: &WindowSignal,
        correct_ns: DurationNs,
    ) -> Rollup {
        Rollup {
            name,
            metric,
            matcher,
            over: signal.over.clone(),
            grouping: signal.grouping.clone(),
            width_ns: signal.window_ns,
            hop_ns: signal.hop_ns,
            functions: vec![signal.function.clone()],
            samples_min: signal.samples_min,
            correct_ns,
            keep_ns: 0,
        }
    }

    /// What the rollup is but for its name: two with the same identity give the same rows.
    pub fn identity(&self) -> u128 {
        let Rollup { name: _, metric, matcher, over, grouping, width_ns, hop_ns, functions, .. } = self;
        let Rollup { samples_min, correct_ns, keep_ns, .. } = self;
        // Postcard's form of a definition is stable, and holds every field.
        let what = (metric, matcher, over, grouping, functions);
        let bytes = postcard::to_allocvec(&what).unwrap_or_default();
        [*width_ns, *hop_ns, *samples_min as i64, *correct_ns, *keep_ns]
            .iter()
            .fold(StableHash::new().text("rollup 1").bytes(&bytes), |hash, number| hash.number(*number))
            .finish()
    }

    /// Checks the rollup; the error says what was expected.
    pub fn check(&self, plan: &WindowPlan) -> Result<(), String> {
        let pane_ns = plan.tiers.first().map_or(1, |tier| tier.width_ns);
        for (what, ns) in [("window", self.width_ns), ("hop", self.hop_ns)] {
            if ns <= 0 || ns % pane_ns != 0 {
                let (pane_s, s) = (seconds(pane_ns), seconds(ns));
                return Err(format!("expected the {what} to be a multiple of {pane_s} s, found {s} s"));
            }
        }
        if self.hop_ns > self.width_ns {
            let (width_s, hop_s) = (seconds(self.width_ns), seconds(self.hop_ns));
            return Err(format!("expected a hop of at most the window's {width_s} s, found {hop_s} s"));
        }
        if self.correct_ns < plan.lateness_ns {
            return Err(format!(
                "expected corrections for at least the lateness of {} s, found {} s",
                seconds(plan.lateness_ns),
                seconds(self.correct_ns)
            ));
        }
        let needed_ns = self.width_ns.saturating_add(self.hop_ns).saturating_add(self.correct_ns);
        if needed_ns > plan.retention_ns() || self.keep_ns < 0 {
            return Err(format!(
                "expected window, hop and corrections of at most the {} s that panes are held, found {} s",
                seconds(plan.retention_ns()),
                seconds(needed_ns)
            ));
        }
        // What is older than the finest tier is held in coarser panes, and slices must be made of whole ones.
        let slice_ns = gcd(self.width_ns, self.hop_ns);
        let finer = plan.tiers.iter().zip(plan.tiers.iter().skip(1));
        for (fine, coarse) in finer.filter(|(fine, _)| needed_ns > fine.retention_ns) {
            if slice_ns % coarse.width_ns != 0 {
                return Err(format!(
                    "expected window and hop to be multiples of {} s where panes of more than {} s ago are needed, found {} s and {} s",
                    seconds(coarse.width_ns),
                    seconds(fine.retention_ns),
                    seconds(self.width_ns),
                    seconds(self.hop_ns)
                ));
            }
        }
        if self.functions.is_empty() || (self.over.is_some() && self.functions.len() > 1) {
            let many = if self.over.is_some() { "one function of a ratio" } else { "at least one function" };
            return Err(format!("expected {many}, found {}", self.functions.len()));
        }
        Scheme::new(Arc::new(self.clone())).map(|_| ())
    }
}

fn seconds(ns: DurationNs) -> f64 {
    ns as f64 / SECOND as f64
}

/// Rollups that come and go with an epoch: first those that go.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RollupChange {
    /// Numbers of rollups that are gone. None is used again.
    pub removed: Vec<u32>,
    /// New rollups with their numbers.
    pub added: Vec<(u32, Arc<Rollup>)>,
}

impl RollupChange {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.added.is_empty()
    }
}

/// A window of a group. Its key is the rollup, the group and the end; of one key the row with the highest revision
/// counts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RollupRow {
    /// The rollup's number.
    pub rollup: u32,
    /// The group: what [`binding::group_id`] says of it; of a series that stands for itself, its number.
    pub group: u64,
    /// End of the window, which does not belong to it.
    pub end_ns: TimeNs,
    /// Its width.
    pub width_ns: DurationNs,
    /// The epoch at whose end it was so.
    pub revision: u64,
    /// Whether the clock had passed its end by the lateness. What comes later still corrects it.
    pub is_final: bool,
    /// Number of samples; of a ratio, those above the line.
    pub count: u64,
    /// A value for each function. NaN where there is none, or fewer samples than there must be.
    pub values: Vec<f64>,
    /// Relative error of percentiles, at most; zero while they are exact, and of a row without any.
    pub error_bound: f64,
}

impl RollupRow {
    /// Start of the window.
    pub fn start_ns(&self) -> TimeNs {
        self.end_ns.saturating_sub(self.width_ns)
    }
}

/// Two rows are the same when they are, bit for bit.
impl PartialEq for RollupRow {
    fn eq(&self, other: &RollupRow) -> bool {
        let key =
            |row: &RollupRow| (row.rollup, row.group, row.end_ns, row.width_ns, row.revision, row.is_final);
        key(self) == key(other) && self.count == other.count && same_bits(&self.values, &other.values)
    }
}

impl Eq for RollupRow {}

pub(crate) fn same_bits(a: &[f64], b: &[f64]) -> bool {
    a.iter().map(|value| value.to_bits()).eq(b.iter().map(|value| value.to_bits()))
}

/// What a window says.
pub(crate) struct Finished {
    pub(crate) count: u64,
    pub(crate) values: Vec<f64>,
    pub(crate) error_bound: f64,
}

/// A rollup, ready to be computed.
pub(crate) struct Scheme {
    pub(crate) rollup: Arc<Rollup>,
    pub(crate) slice_ns: DurationNs,
    /// The one half, or both of a ratio.
    parts: Vec<Part>,
    /// Whether a window is that of its slices' pools: whatever does not look at how long a member's samples lasted.
    pub(crate) pools_slices: bool,
}

/// A half of a ratio, or all there is.
pub(crate) struct Part {
    functions: Vec<Function>,
    /// Whether a function wants the window's values.
    pub(crate) needs_values: bool,
    /// Whether a function wants the last sample before the window.
    pub(crate) needs_before: bool,
}

impl Scheme {
    pub(crate) fn new(rollup: Arc<Rollup>) -> Result<Scheme, String> {
        let parse = |name: &String| match Function::parse(name) {
            Some(function) => Ok(function),
            None => Err(format!("expected one of {}, found {name:?}", names())),
        };
        let mut parts = vec![Part::new(rollup.functions.iter().map(parse).collect::<Result<_, _>>()?)];
        if let Some(over) = &rollup.over {
            parts.push(Part::new(vec![parse(&over.function)?]));
        }
        let slice_ns = gcd(rollup.width_ns, rollup.hop_ns).max(1);
        let over = rollup.over.as_ref().map(|over| over.function.as_str());
        let mut asked = rollup.functions.iter().map(String::as_str).chain(over);
        let pools_slices = rollup.width_ns > slice_ns && asked.all(|name| name != "rate");
        Ok(Scheme { rollup, slice_ns, parts, pools_slices })
    }

    /// Whether each series stands for itself, so that its panes are all that is needed.
    pub(crate) fn is_each(&self) -> bool {
        self.rollup.grouping == Grouping::Series && self.rollup.over.is_none()
    }

    pub(crate) fn part(&self, part: u8) -> &Part {
        &self.parts[usize::from(part).min(self.parts.len() - 1)]
    }

    /// An empty window for each half.
    pub(crate) fn empty(&self) -> Vec<Aggregate> {
        self.parts.iter().map(|part| Aggregate::new(part.needs_values)).collect()
    }

    /// What there is to say of a window.
    pub(crate) fn finish(&self, parts: &[Aggregate]) -> Finished {
        let value = |at: usize, function: &Function| {
            let enough = parts[at].count() >= self.rollup.samples_min;
            function.finish(&parts[at]).filter(|_| enough).unwrap_or(f64::NAN)
        };
        let mut values: Vec<f64> = self.parts[0].functions.iter().map(|f| value(0, f)).collect();
        if let Some(below) = self.parts.get(1) {
            let divisor = below.functions.first().map_or(f64::NAN, |function| value(1, function));
            let ratio = values[0] / divisor;
            values[0] = if divisor != 0.0 && ratio.is_finite() { ratio } else { f64::NAN };
        }
        let error_bound = parts.iter().map(Aggregate::error_bound).fold(0.0, f64::max);
        Finished { count: parts[0].count(), values, error_bound }
    }

    /// Ends of the windows whose rows a sample at `time_ns` can change, and of the one behind them.
    pub(crate) fn ends(&self, time_ns: TimeNs) -> impl Iterator<Item = TimeNs> + use<> {
        let Rollup { width_ns, hop_ns, .. } = *self.rollup;
        let last_ns = floor_to(time_ns, self.slice_ns).saturating_add(width_ns).saturating_add(hop_ns);
        let first = floor_to(time_ns, hop_ns).checked_add(hop_ns);
        std::iter::successors(first, move |end_ns| end_ns.checked_add(hop_ns))
            .take_while(move |end_ns| *end_ns <= last_ns)
    }

    /// The last moment up to `clock_ns` at which something is due: that a window may end at, or become final at. Clocks
    /// are told in these steps.
    pub(crate) fn step(&self, clock_ns: TimeNs, plan: &WindowPlan) -> TimeNs {
        let late_ns = ceil_to(plan.lateness_ns, plan.tiers[0].width_ns);
        let is_final_ns = floor_to(clock_ns.saturating_sub(late_ns), self.slice_ns).saturating_add(late_ns);
        floor_to(clock_ns, self.slice_ns).max(is_final_ns)
    }

    /// The next such moment.
    pub(crate) fn next_step(&self, clock_ns: TimeNs, plan: &WindowPlan) -> TimeNs {
        let late_ns = ceil_to(plan.lateness_ns, plan.tiers[0].width_ns);
        let is_final_ns = floor_to(clock_ns.saturating_sub(late_ns), self.slice_ns).saturating_add(late_ns);
        let end_ns = floor_to(clock_ns, self.slice_ns).saturating_add(self.slice_ns);
        end_ns.min(is_final_ns.saturating_add(self.slice_ns))
    }

    /// Whether a window that ends at `end_ns` is final by a clock.
    pub(crate) fn is_final(end_ns: TimeNs, clock_ns: TimeNs, lateness_ns: DurationNs) -> bool {
        end_ns.saturating_add(lateness_ns) <= clock_ns
    }
}

impl Part {
    fn new(functions: Vec<Function>) -> Part {
        let needs_values = functions.iter().any(Function::needs_values);
        let needs_before = functions.iter().any(Function::needs_before);
        Part { functions, needs_values, needs_before }
    }
}

/// The greatest common divisor of two numbers that are not below zero.
pub(crate) fn gcd(a: DurationNs, b: DurationNs) -> DurationNs {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The least multiple of `width_ns` that is not below `time_ns`.
pub(crate) fn ceil_to(time_ns: TimeNs, width_ns: DurationNs) -> TimeNs {
    let floor_ns = floor_to(time_ns, width_ns);
    if floor_ns >= time_ns { floor_ns } else { floor_ns.saturating_add(width_ns) }
}

/// The number of a group among those of a rollup, for a series that stands for itself.
pub(crate) fn group_of_series(series: SeriesId) -> u64 {
    u64::from(series)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::MINUTE;

    fn rollup(width_s: i64, hop_s: i64) -> Rollup {
        Rollup {
            name: "r".into(),
            metric: "m".into(),
            matcher: TargetMatcher::default(),
            over: None,
            grouping: Grouping::By(Vec::new()),
            width_ns: width_s * SECOND,
            hop_ns: hop_s * SECOND,
            functions: vec!["avg".into()],
            samples_min: 0,
            correct_ns: 10 * MINUTE,
            keep_ns: 0,
        }
    }

    #[test]
    fn rollups_that_can_not_be_kept_are_refused() {
        let over = Over { metric: "n".into(), matcher: TargetMatcher::default(), function: "sum".into() };
        for (rollup, expected) in [
            (rollup(60, 10), None),
            (rollup(65, 10), Some("the window to be a multiple of 10 s, found 65 s")),
            (rollup(60, 0), Some("the hop to be a multiple of 10 s, found 0 s")),
            (rollup(60, 120), Some("a hop of at most the window's 60 s, found 120 s")),
            (rollup(12 * 3600, 3600), Some("at most the 43200 s that panes are held, found 47400 s")),
            (rollup(6 * 3600, 60), None),
            (rollup(6 * 3600, 10), Some("multiples of 60 s where panes of more than 3600 s ago are needed")),
            (
                Rollup { correct_ns: SECOND, ..rollup(60, 60) },
                Some("at least the lateness of 30 s, found 1 s"),
            ),
            (Rollup { functions: vec![], ..rollup(60, 60) }, Some("at least one function, found 0")),
            (Rollup { functions: vec!["mode".into()], ..rollup(60, 60) }, Some("found \"mode\"")),
            (
                Rollup { over: Some(over), functions: vec!["sum".into(), "avg".into()], ..rollup(60, 60) },
                Some("one function of a ratio, found 2"),
            ),
        ] {
            match (rollup.check(&WindowPlan::default()), expected) {
                (Ok(()), None) => {}
                (Err(found), Some(expected)) => assert!(found.contains(expected), "{found}"),
                (found, expected) => panic!("{found:?}, expected {expected:?}"),
            }
        }
    }

    #[test]
    fn a_sample_is_in_the_windows_whose_ends_follow_it() {
        let ends = |width_s, hop_s, at_s: i64| {
            let scheme = Scheme::new(Arc::new(rollup(width_s, hop_s))).unwrap();
            scheme.ends(at_s * SECOND).map(|end_ns| end_ns / SECOND).collect::<Vec<_>>()
        };
        assert_eq!(ends(60, 60, 59), [60, 120], "its own, and the one behind");
        assert_eq!(ends(30, 10, -1), [0, 10, 20, 30]);
        assert_eq!(ends(30, 20, 20), [40, 60]);
        assert_eq!(ends(30, 20, 10), [20, 40, 60]);
    }

    #[test]
    fn clocks_go_in_steps_from_one_moment_at_which_something_is_due_to_the_next() {
        let scheme = Scheme::new(Arc::new(rollup(60, 60))).unwrap();
        let plan = WindowPlan { lateness_ns: 25 * SECOND, ..WindowPlan::default() };
        for (clock_s, step_s, next_s) in
            [(59, 30, 60), (60, 60, 90), (89, 60, 90), (90, 90, 120), (-1, -30, 0)]
        {
            let clock_ns = clock_s * SECOND;
            let found = (scheme.step(clock_ns, &plan), scheme.next_step(clock_ns, &plan));
            assert_eq!(found, (step_s * SECOND, next_s * SECOND), "{clock_s}");
        }
    }
}
