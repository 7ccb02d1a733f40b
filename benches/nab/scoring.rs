//! The scoring of the Numenta Anomaly Benchmark (Lavin and Ahmad, "Evaluating real-time anomaly detection algorithms",
//! arXiv 1510.03336), from the paper and its reference implementation, version 1.1.
//!
//! A detection inside a labelled window is worth the more the earlier it comes, and only the best one of a window counts;
//! one outside costs the more the farther behind the last window it is; a window without one costs a fixed weight. Both
//! go by the same sigmoid. What lies in a file's first part, its probation, does not count. One threshold, the best one,
//! holds for all files.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// Weights of a profile; a true positive is worth 1 at most.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Profile {
    pub name: &'static str,
    pub false_positive: f64,
    pub false_negative: f64,
}

pub const STANDARD: Profile = Profile { name: "standard", false_positive: 0.11, false_negative: 1.0 };
pub const LOW_FP: Profile = Profile { name: "low FP", false_positive: 0.22, false_negative: 1.0 };
pub const LOW_FN: Profile = Profile { name: "low FN", false_positive: 0.11, false_negative: 2.0 };
pub const PROFILES: [Profile; 3] = [STANDARD, LOW_FP, LOW_FN];

/// A file as it is scored: the anomaly score of every sample, and the windows as ranges of samples, in order.
#[derive(Clone, Debug)]
pub struct Scored {
    pub scores: Vec<f64>,
    pub windows: Vec<RangeInclusive<usize>>,
}

/// What a threshold comes to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// Samples with this anomaly score or more are detections.
    pub threshold: f64,
    /// 0 for no detection at all, 100 for one at the beginning of every window and none elsewhere.
    pub score: f64,
    pub windows: usize,
    pub windows_detected: usize,
    /// Detections inside and outside of windows, in samples.
    pub inside: usize,
    pub outside: usize,
}

impl Outcome {
    /// Share of the detections that are inside a window; 1 if there are none.
    pub fn precision(&self) -> f64 {
        let all = self.inside + self.outside;
        if all == 0 { 1.0 } else { self.inside as f64 / all as f64 }
    }

    /// Share of the windows that are detected; 1 if there are none.
    pub fn recall(&self) -> f64 {
        if self.windows == 0 { 1.0 } else { self.windows_detected as f64 / self.windows as f64 }
    }
}

/// The outcome of the best threshold for all files; of equally good ones, the highest.
pub fn best(files: &[Scored], profile: &Profile) -> Outcome {
    outcomes(files, profile).into_iter().reduce(|best, next| if next.score > best.score { next } else { best })
        // There is always the threshold that nothing reaches.
        .unwrap_or_else(|| unreachable!("there is an outcome of no detection"))
}

/// The outcome of one threshold.
pub fn at(files: &[Scored], profile: &Profile, threshold: f64) -> Outcome {
    let reached =
        outcomes(files, profile).into_iter().take_while(|outcome| outcome.threshold >= threshold).last();
    let outcome = reached.unwrap_or_else(|| unreachable!("no score is above infinity"));
    Outcome { threshold, ..outcome }
}

/// The outcomes of all thresholds that make a difference, from that which nothing reaches down.
fn outcomes(files: &[Scored], profile: &Profile) -> Vec<Outcome> {
    let mut worths: Vec<Worth> =
        files.iter().enumerate().flat_map(|(at, file)| worths(at, file, profile)).collect();
    worths.sort_by(|a, b| b.score.total_cmp(&a.score));
    // Only windows of which a sample counts can be missed; all of them could have been found.
    let missed = |worth: &Worth| worth.window.map(|window| (window, -profile.false_negative));
    let mut of_window: BTreeMap<(usize, usize), f64> = worths.iter().filter_map(missed).collect();
    let nothing = -profile.false_negative * of_window.len() as f64;
    let windows = files.iter().map(|file| file.windows.len()).sum();
    let normal = |raw: f64| 100.0 * (raw - nothing) / (windows as f64 - nothing);
    let mut now =
        Outcome { threshold: f64::INFINITY, score: 0.0, windows, windows_detected: 0, inside: 0, outside: 0 };
    let mut raw_outside = 0.0;
    let mut all = vec![now];
    for (at, worth) in worths.iter().enumerate() {
        match worth.window.and_then(|window| of_window.get_mut(&window)) {
            Some(best) => {
                now.windows_detected += usize::from(*best == -profile.false_negative);
                now.inside += 1;
                *best = best.max(worth.worth);
            }
            None => {
                now.outside += 1;
                raw_outside += worth.worth;
            }
        }
        // Samples with the same score are detected together.
        if worths.get(at + 1).is_none_or(|next| next.score != worth.score) {
            let raw = raw_outside + of_window.values().sum::<f64>();
            all.push(Outcome { threshold: worth.score, score: normal(raw), ..now });
        }
    }
    all
}

/// What the detection of a sample is worth.
struct Worth {
    score: f64,
    worth: f64,
    /// File and window.
    window: Option<(usize, usize)>,
}

/// Of the samples of a file after its probation.
fn worths(file_at: usize, file: &Scored, profile: &Profile) -> Vec<Worth> {
    let mut next = 0;
    let mut all = Vec::new();
    for (at, score) in file.scores.iter().enumerate() {
        while file.windows.get(next).is_some_and(|window| at > *window.end()) {
            next += 1;
        }
        let inside = file.windows.get(next).filter(|window| window.contains(&at));
        let (worth, window) = match inside {
            Some(window) => {
                let width = (window.end() - window.start() + 1) as f64;
                let position = -((window.end() - at + 1) as f64) / width;
                (sigmoid(position) / sigmoid(-1.0), Some((file_at, next)))
            }
            None => {
                let last = next.checked_sub(1).map(|last| &file.windows[last]);
                (profile.false_positive * behind(at, last), None)
            }
        };
        if at >= probation(file.scores.len()) {
            all.push(Worth { score: *score, worth, window });
        }
    }
    all
}

/// Worth of a detection behind the last window, or before all of them, from 0 to -1.
fn behind(at: usize, last: Option<&RangeInclusive<usize>>) -> f64 {
    last.map_or(-1.0, |window| {
        let widths = (at - window.end()) as f64 / (window.end() - window.start()) as f64;
        if widths > 3.0 { -1.0 } else { sigmoid(widths) }
    })
}

/// From 1, far before 0, to -1, far behind.
fn sigmoid(position: f64) -> f64 {
    2.0 / (1.0 + (5.0 * position).exp()) - 1.0
}

/// Samples at the beginning of a file that do not count.
pub fn probation(samples: usize) -> usize {
    // 15 % as whole samples, of at most 5,000.
    (samples * 15 / 100).min(750)
}
