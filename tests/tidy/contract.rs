//! `docs/contract.md` names tests that exist.

use std::fs;
use std::path::Path;

use crate::source::{Finding, expect_none, root, word_offsets};

const CONTRACT: &str = "docs/contract.md";

/// What stands for the test of a row that `comes with` something that is still to be made.
const LATER: &str = "later";

const COLUMNS: usize = 4;

/// The rows below each table's head, with their lines.
fn rows(text: &str) -> impl Iterator<Item = (usize, Vec<&str>)> {
    let lines = text.lines().enumerate().filter(|(_, line)| line.starts_with('|'));
    let cells = lines
        .map(|(at, line)| (at + 1, line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>()));
    cells.filter(|(_, cells)| cells[0] != "what" && !cells[0].starts_with("---"))
}

/// What is wrong with one entry of the last column: `path` or `path::name`, several by comma.
fn missing(entry: &str, folder: &Path) -> Option<String> {
    let (path, name) =
        entry.split_once("::").map_or((entry, None), |(path, name)| (path, name.rsplit("::").next()));
    let Ok(text) = fs::read_to_string(folder.join(path)) else {
        return Some(format!("there is no file {path}"));
    };
    let name = name?;
    let is_there = word_offsets(&text, name).any(|at| text[..at].ends_with("fn "));
    (!is_there).then(|| format!("{path} has no test {name}"))
}

fn wrong_rows(text: &str, folder: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (line, cells) in rows(text) {
        if cells.len() != COLUMNS || cells.iter().any(|cell| cell.is_empty()) {
            let what = format!("expected {COLUMNS} cells with something in each, found {}", cells.len());
            findings.push(Finding::new(CONTRACT, line, what));
            continue;
        }
        for entry in cells[COLUMNS - 1].split(',').map(|entry| entry.trim().trim_matches('`')) {
            if entry == LATER && cells[COLUMNS - 2].starts_with("comes with ") {
                continue;
            }
            if let Some(what) = missing(entry, folder) {
                findings.push(Finding::new(CONTRACT, line, what));
            }
        }
    }
    findings
}

#[test]
fn the_contract_names_tests_that_exist() {
    let text = fs::read_to_string(root().join(CONTRACT)).expect("the repository has its contract");
    assert!(rows(&text).count() > 100, "expected the whole document, found {} rows", rows(&text).count());
    expect_none(&wrong_rows(&text, root()));
}

#[test]
fn a_test_that_is_not_there_is_found() {
    let of = |cell: &str| {
        wrong_rows(
            &format!("| what | a | b | tested in |\n|---|---|---|---|\n| x | y | z | {cell} |\n"),
            root(),
        )
    };
    let this = "tests/tidy/contract.rs::a_test_that_is_not_there_is_found";
    assert_eq!(of(this), vec![]);
    assert_eq!(of(&format!("`{this}`, scripts/test")), vec![]);
    let found = of("tests/tidy/contract.rs::no_such_test");
    assert_eq!(found[0].to_string(), "docs/contract.md:3: tests/tidy/contract.rs has no test no_such_test");
    assert_eq!(of("tests/no_such_file.rs::x").len(), 1);
    assert_eq!(of("").len(), 1, "an empty cell");
    assert_eq!(of("scripts/test | more").len(), 1, "a cell too many");
    assert_eq!(of("later").len(), 1, "what works has its test today");
    let waiting = "| what | a | b | tested in |\n|---|---|---|---|\n| x | y | comes with z | later |\n";
    assert_eq!(wrong_rows(waiting, root()), vec![]);
}
