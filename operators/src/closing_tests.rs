//! Closed windows: tables of cases, and the timers of silent series. The definition, told slowly, is in
//! `dataflows/tests/closing.rs`.

use std::sync::Arc;

use super::*;
use crate::sample::{DEDUP, MINUTE, SECOND, Sample};
use crate::tier::Tier;
use crate::window::{Control, Shard};

/// Panes of 10 s for 5 minutes, of a minute for 30; lateness 20 s, silent after 30 s.
fn plan() -> WindowPlan {
    WindowPlan {
        tiers: vec![
            Tier { width_ns: 10 * SECOND, retention_ns: 5 * MINUTE },
            Tier { width_ns: MINUTE, retention_ns: 30 * MINUTE },
        ],
        lateness_ns: 20 * SECOND,
        correction_horizon_ns: 30 * MINUTE,
        idle_timeout_ns: 30 * SECOND,
    }
}

fn shard(plan: &WindowPlan) -> Shard {
    let mut shard = Shard::new(Arc::new(plan.clone()), 0, 1);
    shard.close_windows(ClosingPlan::parse(["sum", "increase"]).unwrap(), 0);
    shard
}

/// An epoch of samples of series 0: arrival, floor and times in seconds.
type Step<'a> = (i64, i64, &'a [(i64, f64)]);

/// A row: epoch, start in seconds, count, increase.
type Row = (u64, i64, u64, Option<f64>);

fn apply(shard: &mut Shard, epoch: u64, (arrival_s, floor_s, samples): Step<'_>) -> Vec<ClosedWindow> {
    let seal = Control::Seal { arrival_ns: arrival_s * SECOND, floor_ns: floor_s * SECOND };
    let sample = |(s, value): &(i64, f64)| Sample { series: 0, seq: 0, time_ns: s * SECOND, value: *value };
    shard.apply(epoch, &[seal], &[samples.iter().map(sample).collect()], |_| {})
}

/// Rows, and what was missed.
fn run(steps: &[Step<'_>]) -> (Vec<Row>, u64) {
    run_by(&plan(), steps)
}

fn run_by(plan: &WindowPlan, steps: &[Step<'_>]) -> (Vec<Row>, u64) {
    let mut shard = shard(plan);
    let mut rows = Vec::new();
    for (at, step) in steps.iter().enumerate() {
        for row in apply(&mut shard, at as u64 + 1, *step) {
            assert_eq!((row.series, row.width_ns, row.revision), (0, 10 * SECOND, at as u64 + 1));
            let increase = Some(row.values[1]).filter(|value| !value.is_nan());
            rows.push((row.revision, row.start_ns / SECOND, row.count, increase));
        }
    }
    assert_eq!(shard.closing_counts().rows, rows.len() as u64);
    (rows, shard.closing_counts().missed)
}

#[test]
fn a_pane_is_given_when_its_clock_has_passed_it_and_again_when_it_changes() {
    let cases: &[(&str, &[Step<'_>], &[Row], u64)] = &[
        (
            "in order: at its end and the lateness, not before",
            &[(0, 0, &[(1, 1.0), (9, 3.0)]), (29, 0, &[(29, 4.0)]), (30, 0, &[(30, 5.0)])],
            &[(3, 0, 2, Some(2.0))],
            0,
        ),
        (
            "whatever comes in the epoch that closes it is in it",
            &[(0, 0, &[(30, 5.0), (1, 1.0), (40, 6.0), (2, 1.0)])],
            &[(1, 0, 2, Some(0.0))],
            0,
        ),
        (
            "a late sample gives it again, once an epoch",
            &[(0, 0, &[(1, 1.0), (40, 6.0)]), (1, 0, &[(2, 1.0), (3, 2.0)]), (2, 0, &[(4, 2.0)])],
            &[(1, 0, 1, None), (2, 0, 3, Some(1.0)), (3, 0, 4, Some(1.0))],
            0,
        ),
        (
            "a late sample may make it, and be the last before the next",
            &[(0, 0, &[(1, 1.0), (21, 2.0), (60, 9.0)]), (1, 0, &[(12, 5.0)]), (2, 0, &[(11, 4.0)])],
            &[
                (1, 0, 1, None),
                (1, 20, 1, Some(1.0)),
                (2, 10, 1, Some(4.0)),
                (2, 20, 1, Some(2.0)),
                (3, 10, 2, Some(4.0)),
            ],
            0,
        ),
        (
            "silence closes by the arrival clock, and then the series goes on where it was",
            &[
                (5, 0, &[(5, 1.0)]),
                (34, 0, &[]),
                (35, 0, &[]),
                (400, 0, &[(50, 2.0)]),
                (401, 0, &[(80, 2.0)]),
            ],
            &[(3, 0, 1, None), (5, 50, 1, Some(1.0))],
            0,
        ),
        (
            "what moves to a coarser tier is given first, and no more",
            &[(0, 0, &[(1, 1.0)]), (1, 0, &[(700, 2.0), (2, 5.0), (700, 3.0)]), (2, 0, &[(3, 1.0)])],
            &[(2, 0, 1, None)],
            2,
        ),
        (
            "what was given up for memory was not closed",
            &[(0, 0, &[(1, 1.0), (11, 2.0), (12, 2.0)]), (1, 5, &[]), (2, 5, &[(60, 3.0)])],
            &[(3, 10, 2, Some(0.0))],
            1,
        ),
        (
            "a series that is gone gives what it has, and what comes for that later is no whole pane",
            &[(0, 0, &[(1, 1.0), (1500, 2.0)]), (1801, 0, &[]), (1802, 0, &[(1501, 1.0), (1900, 2.0)])],
            &[(1, 0, 1, None), (2, 1500, 1, Some(1.0))],
            1,
        ),
        (
            "so does one that comes back in the epoch that finds it gone",
            &[(0, 0, &[(1, 1.0), (1500, 2.0)]), (1802, 0, &[(1501, 1.0), (1900, 2.0)])],
            &[(1, 0, 1, None), (2, 1500, 1, Some(1.0))],
            1,
        ),
        (
            "a future that the clock does not reach before the series is gone is lost",
            &[(0, 0, &[(3000, 1.0)]), (1801, 0, &[]), (4000, 0, &[])],
            &[],
            1,
        ),
    ];
    for (name, steps, rows, missed) in cases {
        assert_eq!(run(steps), (rows.to_vec(), *missed), "{name}");
    }
}

/// What is missed when these come in one epoch and when each comes in its own, and also when the first, which is
/// before the floor, does not come at all; last of all the series falls silent, and is gone.
fn missed_however_they_come(plan: &WindowPlan, (now_s, floor_s, samples): Step<'_>) -> [u64; 4] {
    let end: [Step<'_>; 2] = [(now_s + 1000, floor_s, &[]), (now_s + 4000, floor_s, &[])];
    let together = |samples| run_by(plan, &[&[(now_s, floor_s, samples)], &end[..]].concat()).1;
    let apart = |samples: &[(i64, f64)]| {
        let each = samples.chunks(1).map(|one| (now_s, floor_s, one));
        run_by(plan, &each.chain(end).collect::<Vec<_>>()).1
    };
    [together(samples), apart(samples), together(&samples[1..]), apart(&samples[1..])]
}

#[test]
fn a_sample_for_a_coarser_pane_is_missed_though_the_first_of_its_series_was_dropped() {
    // The finest tier begins at 60 s with the sample at 360 s. The one at 50 s is taken into the minute before.
    let samples = [(-1, 0.0), (360, 0.0), (50, 0.0)];
    assert_eq!(missed_however_they_come(&plan(), (50, 0, &samples)), [1; 4]);
    let (rows, _) = run(&[(50, 0, &samples), (1050, 0, &[])]);
    assert_eq!(rows, [(2, 360, 1, Some(0.0))]);
}

#[test]
fn a_sample_just_before_the_finest_tier_is_missed_though_one_before_the_floor_came_first() {
    let plan = WindowPlan { lateness_ns: 100 * SECOND, idle_timeout_ns: 10 * SECOND, ..plan() };
    // The finest tier begins at -300 s with the sample at 1 s. The one at -301 s is taken into the minute before.
    let samples = [(-601, 0.0), (1, 0.0), (-301, 0.0)];
    assert_eq!(missed_however_they_come(&plan, (1, -600, &samples)), [1; 4]);
    let (rows, _) = run_by(&plan, &[(1, -600, &samples), (1001, -600, &[])]);
    assert_eq!(rows, [(2, 0, 1, Some(0.0))]);
}

#[test]
fn nothing_leaves_a_shard_that_was_not_asked() {
    let mut shard = Shard::new(Arc::new(plan()), 0, 1);
    assert!(apply(&mut shard, 1, (0, 0, &[(1, 1.0), (100, 1.0)])).is_empty());
    assert_eq!(shard.closing_counts(), ClosingCounts::default());
    assert_eq!(shard.history(0).unwrap().closed_ns, TimeNs::MIN);
    // Asked later, it gives what there is.
    shard.close_windows(ClosingPlan::parse(["sum"]).unwrap(), 0);
    let rows = apply(&mut shard, 2, (130, 0, &[]));
    assert_eq!(rows.iter().map(|row| row.start_ns / SECOND).collect::<Vec<_>>(), [0, 100]);
}

/// A closing over histories, as [`Shard`] uses it, to look into.
struct Bench {
    plan: WindowPlan,
    closing: Closing,
    series: Vec<History>,
    epoch: u64,
}

impl Bench {
    fn new(plan: WindowPlan, series: usize) -> Bench {
        let series = vec![History::default(); series];
        let closing = Closing::new(ClosingPlan::parse(["sum"]).unwrap(), &plan, 0, Owners::new(1), &series);
        Bench { plan, closing, series, epoch: 0 }
    }

    /// An epoch of (slot, event time in seconds); gives the number of rows.
    fn apply(&mut self, arrival_s: i64, samples: &[(usize, i64)]) -> usize {
        self.epoch += 1;
        let now = Now { epoch: self.epoch, arrival_ns: arrival_s * SECOND, floor_ns: TimeNs::MIN };
        for (slot, s) in samples {
            let obs = Obs { time_ns: s * SECOND, value: 1.0 };
            self.closing.insert(&self.plan, &mut self.series[*slot], *slot, obs, now);
        }
        self.closing.end_epoch(&self.plan, &mut self.series, now).len()
    }
}

#[test]
fn a_series_that_keeps_sending_has_one_timer() {
    let mut bench = Bench::new(plan(), 50);
    let mut rows = 0;
    for s in 0..600 {
        let samples: Vec<(usize, i64)> = (0..50).map(|slot| (slot, s)).collect();
        rows += bench.apply(s, &samples);
        assert_eq!(bench.closing.timers.len(), 50, "at {s} s");
    }
    assert_eq!(rows, 50 * 57);
    assert_eq!(bench.apply(640, &[]), 50 * 3, "all that was left, at once");
    assert!(bench.closing.timers.is_empty(), "and nothing waits for more");
}

#[test]
fn stragglers_do_not_gather_timers() {
    // Each makes an older pane that is not closed yet, in silence due before what the timer is set for.
    let plan = WindowPlan { lateness_ns: 4 * MINUTE, idle_timeout_ns: SECOND, ..plan() };
    let mut bench = Bench::new(plan, 1);
    let mut most = 0;
    for round in 0..200 {
        let at = round * 1000;
        bench.apply(at, &[(0, at)]);
        for back in 1..20 {
            bench.apply(at, &[(0, at - back * 10)]);
            most = most.max(bench.closing.timers.len());
        }
        // The oldest closes first, though the newest set its timer first.
        assert_eq!(bench.apply(at + 1, &[]), 0);
        assert_eq!(bench.apply(at - 190 + 10 + 240, &[]), 1);
        assert_eq!(bench.apply(at + 250, &[]), 19);
    }
    assert!((20..=TIMERS_SPARE_MAX + 2 + 20).contains(&most), "{most} timers");
}

#[test]
fn a_duplicate_is_as_if_it_had_not_come() {
    let mut shard = shard(&plan());
    let mut send = |epoch, arrival_s: i64, times_s: &[i64]| {
        let seal = Control::Seal { arrival_ns: arrival_s * SECOND, floor_ns: TimeNs::MIN };
        let sample = |s: &i64| Sample { series: 0, seq: DEDUP, time_ns: s * SECOND, value: 1.0 };
        let rows = shard.apply(epoch, &[seal], &[times_s.iter().map(sample).collect()], |_| {});
        (rows.len(), shard.counts.duplicates, shard.history(0).unwrap().last_arrival_ns() / SECOND)
    };
    assert_eq!(send(1, 0, &[1, 2, 2, 1]), (0, 2, 0));
    assert_eq!(send(2, 29, &[2, 1]), (0, 4, 0), "it is no sign of life");
    assert_eq!(send(3, 30, &[1]), (1, 5, 0));
    assert_eq!(send(4, 31, &[1, 2]), (0, 7, 0), "and corrects nothing");
    assert_eq!(send(5, 32, &[3]), (1, 7, 32));
}

#[test]
fn what_a_series_had_before_it_was_gone_is_not_taken_again() {
    let mut shard = shard(&plan());
    let mut send = |epoch, arrival_s: i64, times_s: &[i64]| {
        let seal = Control::Seal { arrival_ns: arrival_s * SECOND, floor_ns: TimeNs::MIN };
        let sample = |s: &i64| Sample { series: 0, seq: DEDUP, time_ns: s * SECOND, value: 1.0 };
        shard.apply(epoch, &[seal], &[times_s.iter().map(sample).collect()], |_| {});
        (shard.counts.duplicates, shard.counts.duplicates_unsure, shard.history(0).unwrap().counts().0)
    };
    assert_eq!(send(1, 0, &[1, 2, 4]), (0, 0, 3));
    assert_eq!(send(2, 5000, &[1, 3, 4]), (3, 3, 3), "nobody knows about 3 any more");
    assert_eq!(send(3, 5001, &[5, 6, 5, 4]), (5, 4, 5));
}
