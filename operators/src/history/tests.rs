//! Histories: panes in their tiers, what comes late, what is given up.

use super::*;
use crate::sample::{HOUR, MINUTE, SECOND};

fn insert_all(plan: &WindowPlan, samples: &[(i64, f64)]) -> History {
    let mut history = History::default();
    for (s, value) in samples {
        history.insert(plan, Obs { time_ns: s * SECOND, value: *value }, 1, 0, TimeNs::MIN);
    }
    history
}

fn counts(history: &History, plan: &WindowPlan, start_s: i64, end_s: i64, window_s: i64) -> Vec<(i64, u64)> {
    let mut found = Vec::new();
    let range = start_s * SECOND..end_s * SECOND;
    history.windows(plan, range, window_s * SECOND, false, TimeNs::MIN, |at, window| {
        found.push((at / SECOND, window.count()));
    });
    found
}

#[test]
fn samples_fall_into_their_panes_in_any_order() {
    let plan = WindowPlan::default();
    let history = insert_all(&plan, &[(5, 1.0), (25, 1.0), (9, 1.0), (10, 1.0), (30, 1.0), (29, 1.0)]);
    assert_eq!(counts(&history, &plan, 0, 60, 10), [(0, 2), (10, 1), (20, 2), (30, 1)]);
    assert_eq!(counts(&history, &plan, 0, 60, 20), [(0, 3), (20, 3)]);
}

#[test]
fn old_panes_become_coarse_and_then_go() {
    let plan = WindowPlan::default();
    let seconds = 13 * 3600;
    let samples: Vec<(i64, f64)> = (0..seconds).step_by(5).map(|s| (s, s as f64)).collect();
    let history = insert_all(&plan, &samples);
    let fine_from = (plan.cutoff_ns(0, (seconds - 5) * SECOND)) / SECOND;
    assert_eq!(fine_from % 60, 0);
    let all = counts(&history, &plan, 0, seconds, 60);
    assert!(all.iter().all(|(_, count)| *count == 12));
    assert_eq!(all.first().map(|(at, _)| *at), Some(plan.cutoff_ns(1, (seconds - 5) * SECOND) / SECOND));
    assert_eq!(history.coarsest_ns(&plan, 0..fine_from * SECOND, TimeNs::MIN), Some(MINUTE));
    assert_eq!(
        history.coarsest_ns(&plan, fine_from * SECOND..seconds * SECOND, TimeNs::MIN),
        Some(10 * SECOND)
    );
    // A straggler for a coarse pane still counts, one for a pane that is gone does not.
    let mut history = history;
    let straggler = Obs { time_ns: fine_from * SECOND - 30 * SECOND, value: 0.0 };
    assert_eq!(history.insert(&plan, straggler, 2, 0, TimeNs::MIN), Placed::Late);
    let ancient = Obs { time_ns: SECOND, value: 0.0 };
    assert_eq!(history.insert(&plan, ancient, 2, 0, TimeNs::MIN), Placed::Dropped);
    assert_eq!(history.counts().1, 1);
    assert_eq!(history.counts().2, 1);
}

#[test]
fn a_counter_grows_across_panes_and_tiers() {
    let plan = WindowPlan::default();
    let samples: Vec<(i64, f64)> = (0..7200).map(|s| (s, (s % 1000) as f64)).collect();
    let history = insert_all(&plan, &samples);
    let mut total = 0.0;
    history.windows(&plan, 0..2 * HOUR, MINUTE, false, TimeNs::MIN, |_, window| {
        total += window.increase.unwrap_or(0.0);
    });
    // 7,199 steps of one, but the seven resets go from 999 to 0: nothing grew there.
    assert_eq!(total, 7199.0 - 7.0);
}

#[test]
fn times_at_both_ends_fall_into_panes_of_their_own() {
    let plan = WindowPlan::default();
    // The first whole minute begins 16.85 s after the first moment there is; the last pane is cut short.
    let (first_ns, last_ns) = (floor_to(TimeNs::MIN, MINUTE), floor_to(TimeNs::MAX, 10 * SECOND));
    let times = [TimeNs::MIN, first_ns - 1, first_ns, first_ns + 9 * SECOND, first_ns + 10 * SECOND];
    let mut history = History::default();
    let mut placed = Vec::new();
    for time_ns in times {
        placed.push(history.insert(&plan, Obs { time_ns, value: 1.0 }, 1, 0, TimeNs::MIN));
    }
    assert_eq!(placed[..2], [Placed::Dropped, Placed::Dropped], "there is no pane for them");
    assert_eq!(placed[2..], [Placed::InTime; 3]);
    let found = |history: &History| {
        let mut found = Vec::new();
        history.windows(&plan, TimeNs::MIN..TimeNs::MAX, 10 * SECOND, false, TimeNs::MIN, |at, window| {
            found.push((at, window.count()));
        });
        found
    };
    assert_eq!(found(&history), [(first_ns, 2), (first_ns + 10 * SECOND, 1)]);
    for time_ns in [last_ns - 1, last_ns, TimeNs::MAX - 1, TimeNs::MAX, TimeNs::MAX, TimeNs::MIN, last_ns] {
        history.insert(&plan, Obs { time_ns, value: 1.0 }, 2, 0, TimeNs::MIN);
    }
    assert_eq!(found(&history), [(last_ns - 10 * SECOND, 1), (last_ns, 5)]);
    assert_eq!(history.counts(), (9, 0, 3));
}

#[test]
fn a_floor_hides_and_frees_what_lies_before_it() {
    let plan = WindowPlan::default();
    let samples: Vec<(i64, f64)> = (0..600).map(|s| (s, 1.0)).collect();
    let mut history = insert_all(&plan, &samples);
    let floor_ns = 300 * SECOND;
    let mut seen = 0;
    history.windows(&plan, 0..600 * SECOND, 10 * SECOND, false, floor_ns, |at, _| {
        assert!(at >= floor_ns);
        seen += 1;
    });
    assert_eq!(seen, 30);
    let before = history.bytes();
    assert_eq!(history.trim(&plan, floor_ns).0, 30);
    assert!(history.bytes() < before);
    let old = Obs { time_ns: 10 * SECOND, value: 1.0 };
    assert_eq!(history.insert(&plan, old, 9, 0, floor_ns), Placed::Dropped);
}

#[test]
fn a_floor_inside_a_pane_takes_the_pane_whether_it_was_freed_or_not() {
    let plan = WindowPlan::default();
    let floor_ns = 595 * SECOND;
    let mut answers = Vec::new();
    for trims in [false, true] {
        let mut history = insert_all(&plan, &[(580, 1.0), (590, 2.0), (598, 3.0)]);
        if trims {
            assert_eq!(history.trim(&plan, floor_ns).0, 2);
        }
        let mut answer = Vec::new();
        for s in [599, 596, 600] {
            let obs = Obs { time_ns: s * SECOND, value: 4.0 };
            answer.push((history.insert(&plan, obs, 2, 0, floor_ns), 0, 0));
        }
        history.windows(&plan, 0..HOUR, 10 * SECOND, false, floor_ns, |at, window| {
            answer.push((Placed::InTime, at / SECOND, window.count()));
        });
        answers.push(answer);
    }
    let (gone, held) = ((Placed::Dropped, 0, 0), (Placed::InTime, 0, 0));
    assert_eq!(answers[0], [gone, gone, held, (Placed::InTime, 600, 1)]);
    assert_eq!(answers[1], answers[0]);
}
