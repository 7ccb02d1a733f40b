//! The Numenta Anomaly Benchmark on the part of its corpus that is there.
//!
//! ```text
//! NAB_DIR=DIR cargo bench --bench nab                         every method, a plain threshold, published scores
//! NAB_DIR=DIR cargo bench --bench nab -- --files default      and what becomes of each file by one method
//! NAB_DIR=DIR cargo bench --bench nab -- --results DIR        scores in FOLDER/NAME.csv of a column anomaly_score
//! ```
//!
//! `DIR` holds `FOLDER/NAME.csv` and `windows.json`, the benchmark's `labels/combined_windows.json`; the repository has
//! no copy. A detector sees each file once, in order, with the same settings.
//!
//! # Layout
//! - [`scoring`]: the published scoring; [`corpus`]: files and windows

mod corpus;
mod scoring;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use corpus::Labelled;
use operators::anomaly::{Detector, METHODS, Settings};
use scoring::{PROFILES, STANDARD, Scored, at, best, probation};

/// Standard profile, whole corpus, from the benchmark's repository.
const PUBLISHED: &[(&str, f64)] = &[
    ("ARTime", 74.9),
    ("Numenta HTM", 70.1),
    ("CAD OSE", 69.9),
    ("earthgecko Skyline", 58.2),
    ("KNN CAD", 58.0),
    ("Relative Entropy", 54.6),
    ("Random Cut Forest", 51.7),
    ("Twitter ADVec", 47.1),
    ("Windowed Gaussian", 39.6),
    ("Etsy Skyline", 35.7),
];
/// The threshold that the documentation recommends.
const RECOMMENDED: f64 = 0.5;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("nab: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let dir = std::env::var_os("NAB_DIR").map(PathBuf::from);
    let Some(dir) = dir else {
        println!("NAB_DIR names no corpus: nothing is scored");
        return Ok(());
    };
    let files = corpus::load(&dir)?;
    match words[..] {
        [] => scoreboard(&files),
        ["--files", method] => by_file(&files, method)?,
        ["--results", results] => report("results", &files, &results_of(&files, Path::new(results))?),
        _ => return Err(format!("expected --files METHOD or --results DIR, found {words:?}")),
    }
    Ok(())
}

fn scoreboard(files: &[Labelled]) {
    let windows: usize = files.iter().map(|file| file.windows.len()).sum();
    let samples: usize = files.iter().map(|file| file.samples.len()).sum();
    println!("{} files, {samples} samples, {windows} windows", files.len());
    println!(
        "{:18} {:>8} {:>7} {:>7}  {:>9} {:>9} {:>7} {:>8}",
        "", "standard", "low FP", "low FN", "threshold", "precision", "recall", "outside"
    );
    for row in METHODS {
        report(row.name, files, &scored(files, row.name));
    }
    report("plain threshold", files, &plain(files));
    let default = scored(files, METHODS[0].name);
    let fixed = at(&default, &STANDARD, RECOMMENDED);
    println!("\ndefault at the recommended threshold {RECOMMENDED}: {:.1} standard", fixed.score);
    leave_one_group_out(files, &default);
    println!("\npublished, standard profile, on the whole corpus of 58 files:");
    for (name, score) in PUBLISHED {
        println!("{name:18} {score:8.1}");
    }
}

fn report(name: &str, files: &[Labelled], scored: &[Scored]) {
    assert_eq!(files.len(), scored.len(), "every file has its scores");
    let [standard, low_fp, low_fn] = PROFILES.map(|profile| best(scored, &profile));
    println!(
        "{name:18} {:8.1} {:7.1} {:7.1}  {:9.4} {:9.2} {:7.2} {:8}",
        standard.score,
        low_fp.score,
        low_fn.score,
        standard.threshold,
        standard.precision(),
        standard.recall(),
        standard.outside
    );
}

/// The threshold is chosen on the other groups.
fn leave_one_group_out(files: &[Labelled], scored: &[Scored]) {
    let groups: BTreeSet<&str> = files.iter().map(Labelled::group).collect();
    let part = |keep: &dyn Fn(&Labelled) -> bool| -> Vec<Scored> {
        files.iter().zip(scored).filter(|(file, _)| keep(file)).map(|(_, scored)| scored.clone()).collect()
    };
    println!(
        "\n{:24} {:>13} {:>24} {:>22}",
        "group", "score without", "threshold from the rest", "score of the group"
    );
    for group in groups {
        let rest = best(&part(&|file| file.group() != group), &STANDARD);
        let own = part(&|file| file.group() == group);
        let outcome = at(&own, &STANDARD, rest.threshold);
        let score = if outcome.windows == 0 {
            format!("{} false alarms", outcome.outside)
        } else {
            format!("{:.1}", outcome.score)
        };
        println!("{group:24} {:13.1} {:24.4} {score:>22}", rest.score, rest.threshold);
    }
}

fn by_file(files: &[Labelled], method: &str) -> Result<(), String> {
    if !METHODS.iter().any(|row| row.name == method) {
        return Err(format!("there is no method {method}"));
    }
    let scored = scored(files, method);
    let threshold = best(&scored, &STANDARD).threshold;
    println!("threshold {threshold:.4}\n{:62} {:>7} {:>8} {:>7}", "", "windows", "detected", "outside");
    for (file, scored) in files.iter().zip(scored) {
        let outcome = at(&[scored], &STANDARD, threshold);
        println!(
            "{:62} {:7} {:8} {:7}",
            file.name, outcome.windows, outcome.windows_detected, outcome.outside
        );
    }
    Ok(())
}

fn scored(files: &[Labelled], method: &str) -> Vec<Scored> {
    let method = method.parse().expect("the name is from the table");
    let score = |file: &Labelled| {
        let mut detector = Detector::new(&Settings { method });
        file.samples.iter().map(|(time_ns, value)| detector.observe(*time_ns, *value).score).collect()
    };
    files.iter().map(|file| Scored { scores: score(file), windows: file.windows.clone() }).collect()
}

/// How many standard deviations of its probation a value is from the mean of that: a threshold that never learns.
fn plain(files: &[Labelled]) -> Vec<Scored> {
    let score = |file: &Labelled| {
        let values: Vec<f64> = file.samples.iter().map(|(_, value)| *value).collect();
        let known = &values[..probation(values.len()).max(2)];
        let mean = known.iter().sum::<f64>() / known.len() as f64;
        let variance = known.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / known.len() as f64;
        let deviation = variance.sqrt().max(f64::MIN_POSITIVE);
        values.iter().map(|value| (value - mean).abs() / deviation).collect()
    };
    files.iter().map(|file| Scored { scores: score(file), windows: file.windows.clone() }).collect()
}

/// What another detector wrote for the same files.
fn results_of(files: &[Labelled], results: &Path) -> Result<Vec<Scored>, String> {
    let read = |file: &Labelled| {
        let rows = corpus::column(&results.join(&file.name), "anomaly_score")?;
        if rows.len() != file.samples.len() {
            return Err(format!("{}: {} scores of {} samples", file.name, rows.len(), file.samples.len()));
        }
        let scores = rows.into_iter().map(|(_, score)| score).collect();
        Ok(Scored { scores, windows: file.windows.clone() })
    };
    files.iter().map(read).collect()
}
