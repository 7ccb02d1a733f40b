//! The scoring of `benches/nab` on cases small enough to be computed by hand.

use crate::scoring::{LOW_FN, LOW_FP, PROFILES, Profile, STANDARD, Scored, at, best, probation};

/// Of `len` samples, these are detections, all with the score 1.
fn scored(len: usize, detections: &[usize], windows: &[(usize, usize)]) -> Scored {
    let mut scores = vec![0.0; len];
    detections.iter().for_each(|at| scores[*at] = 1.0);
    Scored { scores, windows: windows.iter().map(|(from, to)| *from..=*to).collect() }
}

/// The published sigmoid.
fn sigmoid(position: f64) -> f64 {
    2.0 / (1.0 + (5.0 * position).exp()) - 1.0
}

fn score_at_1(files: &[Scored], profile: &Profile) -> f64 {
    at(files, profile, 1.0).score
}

#[test]
fn nothing_is_0_and_perfect_is_100() {
    let windows = [(40, 49), (70, 89)];
    for profile in PROFILES {
        let nothing = scored(100, &[], &windows);
        assert!(at(&[nothing], &profile, 1.0).score.abs() < 1e-9, "{}", profile.name);
        let perfect = scored(100, &[40, 70], &windows);
        let outcome = at(&[perfect], &profile, 1.0);
        assert!((outcome.score - 100.0).abs() < 1e-9, "{}: {outcome:?}", profile.name);
        assert_eq!((outcome.precision(), outcome.recall(), outcome.outside), (1.0, 1.0, 0));
    }
}

#[test]
fn a_detection_is_worth_less_the_later_it_comes_and_only_the_first_counts() {
    // Half way through a window of ten: position -5/10.
    let worth = sigmoid(-0.5) / sigmoid(-1.0);
    for detections in [&[45][..], &[45, 46, 49]] {
        let outcome = at(&[scored(100, detections, &[(40, 49)])], &STANDARD, 1.0);
        assert!((outcome.score - 100.0 * (worth + 1.0) / 2.0).abs() < 1e-9, "{outcome:?}");
        assert_eq!((outcome.inside, outcome.windows_detected), (detections.len(), 1));
    }
    // At the last sample of the window it is still worth something: position -1/10.
    let last = sigmoid(-0.1) / sigmoid(-1.0);
    let found = score_at_1(&[scored(100, &[49], &[(40, 49)])], &STANDARD);
    assert!((found - 100.0 * (last + 1.0) / 2.0).abs() < 1e-9, "{found}");
}

#[test]
fn false_alarms_cost_more_the_farther_they_are_behind_a_window() {
    let cost = |detection: usize, profile: &Profile| {
        let files = [scored(400, &[120, detection], &[(120, 130)])];
        100.0 - score_at_1(&files, profile)
    };
    // Range from nothing to perfect: 2 with a weight of 1 for what is missed, 3 with 2.
    for (profile, weight, range) in [(STANDARD, 0.11, 2.0), (LOW_FP, 0.22, 2.0), (LOW_FN, 0.11, 3.0)] {
        for (detection, behind) in [
            (100, 1.0),                  // before any window, in full
            (131, -sigmoid(1.0 / 10.0)), // one sample behind: 1/(11 - 1) of a width
            (140, -sigmoid(1.0)),        // a width behind
            (160, -sigmoid(3.0)),        // three widths
            (161, 1.0),                  // beyond
        ] {
            let (found, expected) = (cost(detection, &profile), 100.0 * weight * behind / range);
            assert!((found - expected).abs() < 1e-9, "{} {detection}: {found}, {expected}", profile.name);
        }
    }
}

#[test]
fn probation_is_not_scored() {
    for (len, expected) in [(0, 0), (6, 0), (7, 1), (100, 15), (4032, 604), (5000, 750), (22_695, 750)] {
        assert_eq!(probation(len), expected, "{len}");
    }
    // Two alarms within the first 15, one at the first that counts.
    let outcome = at(&[scored(100, &[3, 14, 15], &[(40, 49)])], &STANDARD, 1.0);
    assert_eq!(outcome.outside, 1);
    assert!((outcome.score + 100.0 * 0.11 / 2.0).abs() < 1e-9, "{outcome:?}");
}

#[test]
fn one_threshold_for_all_files_is_the_best_one() {
    // At 0.9 one window of two and no false alarm; at 0.8 both and one alarm; at 0.7 many alarms.
    let mut first = scored(100, &[], &[(40, 49)]);
    first.scores[40] = 0.9;
    first.scores[30] = 0.8;
    let mut second = scored(100, &[], &[(60, 69)]);
    second.scores[60] = 0.8;
    second.scores[20..50].fill(0.7);
    let files = [first, second];
    let outcome = best(&files, &STANDARD);
    assert_eq!((outcome.threshold, outcome.windows_detected, outcome.outside), (0.8, 2, 1));
    assert!((outcome.score - 100.0 * (2.0 - 0.11 + 2.0) / 4.0).abs() < 1e-9, "{outcome:?}");
    assert_eq!((outcome.precision(), outcome.recall()), (2.0 / 3.0, 1.0));
    assert!((at(&files, &STANDARD, 0.85).score - 50.0).abs() < 1e-9, "one of two windows");
    assert!(at(&files, &STANDARD, 0.7).score < outcome.score);
    // Any rise of the scores that keeps their order changes nothing.
    let risen = files.map(|file| Scored { scores: file.scores.iter().map(|s| s * s * s).collect(), ..file });
    assert_eq!(best(&risen, &STANDARD).score, outcome.score);
}

#[test]
fn a_file_without_windows_can_only_lose() {
    let outcome = at(&[scored(100, &[50, 60], &[]), scored(100, &[40], &[(40, 49)])], &STANDARD, 1.0);
    assert!((outcome.score - 100.0 * (2.0 - 0.22) / 2.0).abs() < 1e-9, "{outcome:?}");
    assert_eq!(outcome.windows, 1);
}
