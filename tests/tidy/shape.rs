//! The shape of a file: its header, its length and its functions', its name, words that are left for later.

use crate::source::{Finding, Source, expect_none, is_word, line_of, tree, word_offsets};

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 90;

/// Files that may be longer: path, lines, why.
const LONG_FILES: &[(&str, usize, &str)] = &[];

/// Functions that may be longer: path, name, lines, why.
const LONG_FUNCTIONS: &[(&str, &str, usize, &str)] = &[];

/// Words that say nothing about what a file is for.
const EMPTY_WORDS: &[&str] = &["manager", "processor", "handler", "helper", "util", "common"];

/// What is left for later does not come in.
const FOR_LATER: &[&str] = &["todo", "unimplemented", "dbg"];

/// What a file says while nothing is in it; with code below, it needs a header of its own.
const PLACEHOLDER: &str = "//! (under construction)";

fn header(file: &Source) -> Option<Finding> {
    let first = file.text.lines().next().unwrap_or_default();
    if !first.starts_with("//! ") || first.len() < "//! Abc.".len() {
        return Some(Finding::new(
            &file.path,
            1,
            "opens without a `//!` line that says what the file is for",
        ));
    }
    let empty = file.code.trim().is_empty();
    (first == PLACEHOLDER && !empty)
        .then(|| Finding::new(&file.path, 1, "has code below a placeholder's header"))
}

fn file_length(file: &Source, longer: &[(&str, usize, &str)]) -> Option<Finding> {
    let lines = file.text.lines().count();
    let allowed = longer.iter().find(|(path, ..)| *path == file.path);
    let max = allowed.map_or(FILE_LINES_MAX, |(_, lines, _)| *lines);
    if lines > max {
        return Some(Finding::new(&file.path, max + 1, format!("{lines} lines, expected at most {max}")));
    }
    let needless = allowed.is_some() && lines <= FILE_LINES_MAX;
    needless.then(|| Finding::new(&file.path, 1, "is short enough now: take it out of LONG_FILES"))
}

/// Name, first and last line of every function that has a body.
fn functions(code: &str) -> Vec<(String, usize, usize)> {
    let mut found = Vec::new();
    for at in word_offsets(code, "fn") {
        let name: String = code[at + 2..].trim_start().chars().take_while(|c| is_word(*c)).collect();
        let Some(end) = body_end(code, at) else { continue };
        if !name.is_empty() {
            found.push((name, line_of(code, at), line_of(code, end)));
        }
    }
    found
}

/// The offset of the brace that closes the body of the function at `at`; none if it has no body.
fn body_end(code: &str, at: usize) -> Option<usize> {
    let (mut braces, mut others) = (0, 0);
    for (offset, c) in code[at..].char_indices() {
        match c {
            '(' | '[' => others += 1,
            ')' | ']' => others -= 1,
            '{' => braces += 1,
            '}' if braces == 1 => return Some(at + offset),
            '}' => braces -= 1,
            ';' if braces == 0 && others == 0 => return None,
            _ => {}
        }
    }
    None
}

fn function_lengths(file: &Source, longer: &[(&str, &str, usize, &str)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, first, last) in functions(&file.code) {
        let lines = last - first + 1;
        let allowed = longer.iter().find(|(path, function, ..)| *path == file.path && *function == name);
        let max = allowed.map_or(FUNCTION_LINES_MAX, |(_, _, lines, _)| *lines);
        if lines > max {
            let what = format!("fn {name} has {lines} lines, expected at most {max}");
            findings.push(Finding::new(&file.path, first, what));
        } else if allowed.is_some() && lines <= FUNCTION_LINES_MAX {
            let what = format!("fn {name} is short enough now: take it out of LONG_FUNCTIONS");
            findings.push(Finding::new(&file.path, first, what));
        }
    }
    findings
}

fn empty_name(file: &Source) -> Option<Finding> {
    let stem = file.path.trim_end_matches(".rs").to_lowercase();
    let mut words = stem.split(['/', '_', '-']);
    let word = words.find(|w| EMPTY_WORDS.contains(w) || EMPTY_WORDS.contains(&w.trim_end_matches('s')))?;
    Some(Finding::new(&file.path, 1, format!("\"{word}\" does not say what the file is for")))
}

fn left_for_later(file: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for word in FOR_LATER {
        for at in word_offsets(&file.code, word).filter(|at| file.code[at + word.len()..].starts_with('!')) {
            findings.push(Finding::new(
                &file.path,
                line_of(&file.code, at),
                format!("{word}! is left for later"),
            ));
        }
    }
    findings
}

/// Rows of the tables above that name a file which is not there.
fn stale(paths: &[&str], files: &[Source]) -> Vec<Finding> {
    let gone = paths.iter().filter(|path| !files.iter().any(|f| f.path == **path));
    gone.map(|path| Finding::new(path, 1, "is in a table of exceptions, but there is no such file")).collect()
}

#[test]
fn every_file_opens_with_what_it_is_for() {
    expect_none(&tree().iter().filter_map(header).collect::<Vec<_>>());
}

#[test]
fn files_are_short() {
    let files = tree();
    let mut findings: Vec<_> = files.iter().filter_map(|f| file_length(f, LONG_FILES)).collect();
    findings.extend(stale(&LONG_FILES.iter().map(|row| row.0).collect::<Vec<_>>(), &files));
    expect_none(&findings);
}

#[test]
fn functions_are_short() {
    let files = tree();
    let mut findings: Vec<_> = files.iter().flat_map(|f| function_lengths(f, LONG_FUNCTIONS)).collect();
    findings.extend(stale(&LONG_FUNCTIONS.iter().map(|row| row.0).collect::<Vec<_>>(), &files));
    expect_none(&findings);
}

#[test]
fn names_say_something() {
    expect_none(&tree().iter().filter_map(empty_name).collect::<Vec<_>>());
}

#[test]
fn nothing_is_left_for_later() {
    expect_none(&tree().iter().flat_map(left_for_later).collect::<Vec<_>>());
}

/// These rules can fail.
mod can_fail {
    use super::*;

    #[test]
    fn header_rule() {
        for (text, broken) in [
            ("//! What it is for.\nfn a() {}\n", false),
            ("// What it is for.\nfn a() {}\n", true),
            ("//!\nfn a() {}\n", true),
            ("use std::fmt;\n", true),
            ("", true),
            ("//! (under construction)\n", false),
            ("//! (under construction)\nfn a() {}\n", true),
        ] {
            assert_eq!(header(&Source::new("src/a.rs", text)).is_some(), broken, "{text}");
        }
    }

    #[test]
    fn file_length_rule() {
        let long = Source::new("src/a.rs", &"\n".repeat(FILE_LINES_MAX + 1));
        let short = Source::new("src/a.rs", &"\n".repeat(FILE_LINES_MAX));
        let found = file_length(&long, &[]).expect("too long");
        assert_eq!(found.to_string(), "src/a.rs:501: 501 lines, expected at most 500");
        assert_eq!(file_length(&short, &[]), None);
        assert_eq!(file_length(&long, &[("src/a.rs", 600, "why")]), None);
        assert!(file_length(&short, &[("src/a.rs", 600, "why")]).is_some(), "the row is stale");
        assert_eq!(stale(&["src/b.rs"], &[short]).len(), 1);
    }

    #[test]
    fn function_length_rule() {
        let text = |lines: usize| {
            format!("trait T {{ fn no_body(&self) -> [u8; 2]; }}\nfn a() {{\n{}}}\n", "x;\n".repeat(lines))
        };
        let of = |lines, longer: &[_]| function_lengths(&Source::new("src/a.rs", &text(lines)), longer);
        assert_eq!(of(88, &[]), vec![]);
        assert_eq!(of(89, &[])[0].to_string(), "src/a.rs:2: fn a has 91 lines, expected at most 90");
        assert_eq!(of(89, &[("src/a.rs", "a", 91, "why")]), vec![]);
        assert_eq!(of(1, &[("src/a.rs", "a", 91, "why")]).len(), 1, "the row is stale");
        let braces = "fn a() { let s = \"}\"; if x { y() } }\nfn b() {}\n";
        assert_eq!(
            functions(&Source::new("a.rs", braces).code),
            vec![("a".into(), 1, 1), ("b".into(), 2, 2)]
        );
    }

    #[test]
    fn name_rule() {
        for (path, broken) in [
            ("src/http/query.rs", false),
            ("src/http/error_handlers.rs", true),
            ("src/utils.rs", true),
            ("src/common/mod.rs", true),
            ("src/utilisation.rs", false),
        ] {
            assert_eq!(empty_name(&Source::new(path, "")).is_some(), broken, "{path}");
        }
    }

    #[test]
    fn later_rule() {
        for (text, count) in [
            ("fn a() { todo!() }", 1),
            ("fn a() { dbg!(x); std::unimplemented!(); }", 2),
            ("fn a() { let s = \"todo!()\"; } // dbg!(x)", 0),
            ("fn todo() {}", 0),
        ] {
            assert_eq!(left_for_later(&Source::new("src/a.rs", text)).len(), count, "{text}");
        }
    }
}
