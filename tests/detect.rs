//! `plantd-metric detect`: the program on tables, and the scoring by which the detector is judged.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use operators::anomaly::{Detector, Settings};
use plantd_metric::detect::parse_time;

#[path = "detect/benchmark.rs"]
mod benchmark;
#[path = "../benches/nab/scoring.rs"]
#[allow(dead_code, reason = "the bench uses the rest")]
mod scoring;

fn program(folder: &Path, arguments: &[&str]) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_plantd-metric"));
    program.arg("detect").args(arguments).env_clear().current_dir(folder);
    program
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("it prints UTF-8")
}

fn told(output: &Output) -> (Option<i32>, &str) {
    (output.status.code(), text(&output.stderr))
}

/// Days of 288 samples with a plateau, and one value far off.
fn table(strange_at: usize) -> String {
    let mut rows = String::from("timestamp,value\n");
    for n in 0..2000_usize {
        let (day, minute) = (n / 288 + 1, n % 288 * 5);
        let plateau = if (108..216).contains(&(n % 288)) { 60.0 } else { 0.0 };
        let value = if n == strange_at { 500.0 } else { plateau + 20.0 + (n * 7919 % 13) as f64 / 4.0 };
        rows += &format!("2024-01-{day:02} {:02}:{:02}:00,{value}\n", minute / 60, minute % 60);
    }
    rows
}

#[test]
fn every_row_comes_back_with_the_score_of_the_library() {
    let folder = tempfile::tempdir().expect("a folder");
    let table = table(1700);
    fs::write(folder.path().join("in.csv"), &table).expect("it is written");
    let output = program(folder.path(), &["in.csv"]).output().expect("it runs");
    assert_eq!(told(&output), (Some(0), ""));
    let mut detector = Detector::new(&Settings::default());
    let mut expected = String::from("timestamp,value,anomaly_score,lower,upper\n");
    let mut strangest = (0.0, 0);
    for (n, row) in table.lines().skip(1).enumerate() {
        let (time, value) = row.split_once(',').expect("two columns");
        let judgement = detector.observe(parse_time(time).expect("a time"), value.parse().expect("a number"));
        expected += &format!("{row},{:.9},{},{}\n", judgement.score, judgement.lower, judgement.upper);
        // In the first days the plateau itself is new.
        if n >= 1000 && judgement.score > strangest.0 {
            strangest = (judgement.score, n);
        }
    }
    assert_eq!(text(&output.stdout), expected);
    assert!(strangest.1 == 1700 && strangest.0 > 0.6, "{strangest:?}");
}

#[test]
fn standard_input_a_file_for_the_output_and_a_method() {
    let folder = tempfile::tempdir().expect("a folder");
    let arguments = ["-", "--output", "out.csv", "--method", "robust_z"];
    let mut child = program(folder.path(), &arguments).stdin(Stdio::piped()).spawn().expect("it runs");
    let table = table(1500);
    child.stdin.take().expect("it is piped").write_all(table.as_bytes()).expect("it reads");
    assert!(child.wait().expect("it ends").success());
    let scores = fs::read_to_string(folder.path().join("out.csv")).expect("it is written");
    assert_eq!(scores.lines().count(), 2001);
    fs::write(folder.path().join("in.csv"), &table).expect("it is written");
    let by_default = program(folder.path(), &["in.csv"]).output().expect("it runs");
    assert_ne!(text(&by_default.stdout), scores, "methods differ");
}

#[test]
fn what_is_wrong_is_named_and_the_exit_code_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, table) in [
        (
            "bad.csv",
            "timestamp,value\n2024-01-01 00:00:00,1\nyesterday,1\n2024-01-01 00:05:00,x\n2024-01-01 00:10:00,2\n",
        ),
        ("none.csv", "a,b\n1,2\n"),
    ] {
        fs::write(folder.path().join(name), table).expect("it is written");
    }
    let output = program(folder.path(), &["bad.csv"]).output().expect("it runs");
    let expected = "line 3: column 1: expected a time such as 2024-01-01 12:00:00, found \"yesterday\"\n\
                    line 4: column 2: expected a number, found \"x\"\n\
                    plantd-metric: 2 rows left out\n";
    assert_eq!(told(&output), (Some(1), expected));
    assert_eq!(text(&output.stdout).lines().count(), 3, "the rows around them pass");
    let output = program(folder.path(), &["none.csv"]).output().expect("it runs");
    let expected = "plantd-metric: line 1: expected the columns timestamp and value, found \"a,b\"\n";
    assert_eq!(told(&output), (Some(2), expected));
    let output = program(folder.path(), &["absent.csv"]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).starts_with("plantd-metric: can't read absent.csv: "), "{output:?}");
    let output = program(folder.path(), &["bad.csv", "-o", "./bad.csv"]).output().expect("it runs");
    assert_eq!(told(&output), (Some(2), "plantd-metric: ./bad.csv: expected another file for the output\n"));
    assert!(fs::read_to_string(folder.path().join("bad.csv")).expect("it is there").contains("yesterday"));
    assert_eq!(
        program(folder.path(), &["bad.csv", "--method", "magic"]).status().expect("it runs").code(),
        Some(2)
    );
}

#[test]
fn no_configuration_is_asked_for() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("in.csv"), "1,5\n2,6\n").expect("it is written");
    let mut program = program(folder.path(), &["in.csv"]);
    let output = program.env("PLANTD_MODULE_METRIC_INTERVAL", "nonsense").output().expect("it runs");
    assert_eq!(told(&output), (Some(0), ""));
    assert_eq!(text(&output.stdout).lines().count(), 3);
}
