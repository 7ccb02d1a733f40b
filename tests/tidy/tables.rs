//! The five doors: every file of a room with a registration table has its row in it.

use crate::source::{Finding, Source, expect_none, line_of, tree, word_offsets};

/// Room and its table, which stands in the room's `mod.rs`.
const TABLES: &[(&str, &str)] = &[
    ("operators/src/function", "FUNCTIONS"),
    ("operators/src/condition", "CONDITIONS"),
    ("src/codec", "CODECS"),
    ("src/sinks", "SINKS"),
    ("src/collectors", "COLLECTORS"),
];

/// Files of these rooms that are no entry of the table: path, what they are.
const NOT_ENTRIES: &[(&str, &str)] = &[
    ("src/codec/decoder.rs", "what every codec decodes into"),
    ("src/codec/exposition.rs", "the grammar of prometheus_text, for scrapes too"),
    ("src/codec/exposition_tests.rs", "tests"),
    ("src/codec/json_tests.rs", "tests"),
    ("src/codec/labels.rs", "what a series with Prometheus's labels is called"),
    ("src/codec/number.rs", "decimal numbers, for all codecs"),
    ("src/codec/reject.rs", "why samples are turned away"),
    ("src/codec/statsd/mod.rs", "its lines are counted for an interval before they are samples"),
    ("src/codec/time.rs", "event times, for all codecs"),
    ("src/collectors/own.rs", "given by the service, which alone knows the process's own metrics"),
    ("src/collectors/runtime.rs", "waits for sockets and children on a collector's thread"),
    ("src/collectors/together.rs", "several collectors as one"),
    ("src/sinks/status.rs", "what a sink says of itself"),
    ("src/sinks/target.rs", "the HTTP client of the sinks that have a server"),
];

/// The text of the table's value, and the line on which it is declared.
fn table<'a>(code: &'a str, name: &str) -> Option<(&'a str, usize)> {
    let declared = word_offsets(code, name).find(|at| {
        let before = code[..*at].trim_end();
        before.ends_with("const") || before.ends_with("static")
    })?;
    let value = declared + code[declared..].find('=')?;
    let mut depth = 0;
    for (offset, c) in code[value..].char_indices() {
        match c {
            '[' | '(' | '{' => depth += 1,
            ']' | ')' | '}' => depth -= 1,
            ';' if depth == 0 => return Some((&code[value..value + offset], line_of(code, declared))),
            _ => {}
        }
    }
    None
}

/// The name under which a room's `mod.rs` knows a file: `a` of `room/a.rs` and of `room/a/mod.rs`.
fn entry<'a>(room: &str, path: &'a str) -> Option<&'a str> {
    let inside = path.strip_prefix(room)?.strip_prefix('/')?;
    let name = inside.strip_suffix("/mod.rs").or_else(|| inside.strip_suffix(".rs"))?;
    (name != "mod" && name != "tests" && !name.contains('/')).then_some(name)
}

fn without_row(room: &str, name: &str, files: &[Source], not_entries: &[(&str, &str)]) -> Vec<Finding> {
    let home = format!("{room}/mod.rs");
    let Some((rows, line)) = files.iter().find(|f| f.path == home).and_then(|f| table(&f.code, name)) else {
        return Vec::new();
    };
    let mut findings = Vec::new();
    for file in files {
        let Some(entry) = entry(room, &file.path) else { continue };
        let has_row = word_offsets(rows, entry).next().is_some();
        let exempt = not_entries.iter().any(|(path, _)| *path == file.path);
        if !has_row && !exempt {
            findings.push(Finding::new(&file.path, 1, format!("has no row in {name} ({home}:{line})")));
        } else if has_row && exempt {
            findings.push(Finding::new(
                &file.path,
                1,
                format!("has its row in {name}: take it out of NOT_ENTRIES"),
            ));
        }
    }
    findings
}

/// Exceptions of a room that has its table, for files that are not there.
fn gone(not_entries: &[(&str, &str)], files: &[Source]) -> Vec<Finding> {
    let has_table = |path: &str| {
        let mut rooms = TABLES.iter().filter(|(room, _)| entry(room, path).is_some());
        rooms.any(|(room, name)| {
            files.iter().any(|f| f.path == format!("{room}/mod.rs") && table(&f.code, name).is_some())
        })
    };
    let absent = |path: &str| !files.iter().any(|f| f.path == path);
    let rows = not_entries.iter().filter(|(path, _)| has_table(path) && absent(path));
    rows.map(|(path, _)| Finding::new(path, 1, "is in NOT_ENTRIES, but there is no such file")).collect()
}

#[test]
fn registration_tables_are_complete() {
    let files = tree();
    let mut findings: Vec<_> =
        TABLES.iter().flat_map(|(room, name)| without_row(room, name, &files, NOT_ENTRIES)).collect();
    findings.extend(gone(NOT_ENTRIES, &files));
    expect_none(&findings);
}

#[test]
fn a_missing_row_is_found() {
    let room = "operators/src/function";
    let of = |rows: &str, not_entries: &[(&str, &str)]| {
        let home = format!(
            "//! Table.\nmod avg;\nmod sum;\npub static FUNCTIONS: &[&dyn F; 2] = &[{rows}];\nfn after() {{ sum }}\n"
        );
        let files = [
            Source::new("operators/src/function/mod.rs", &home),
            Source::new("operators/src/function/sum.rs", ""),
            Source::new("operators/src/function/avg/mod.rs", ""),
            Source::new("operators/src/function/avg/inner.rs", ""),
            Source::new("src/codec/json.rs", ""),
        ];
        without_row(room, "FUNCTIONS", &files, not_entries)
    };
    assert_eq!(of("&avg::Avg, &sum::Sum", &[]), vec![]);
    let found = of("&avg::Avg", &[]);
    let expected =
        "operators/src/function/sum.rs:1: has no row in FUNCTIONS (operators/src/function/mod.rs:4)";
    assert_eq!(found.iter().map(Finding::to_string).collect::<Vec<_>>(), [expected]);
    assert_eq!(of("&avg::Avg /* &sum::Sum */", &[]).len(), 1, "a comment is no row");
    assert_eq!(of("&avg::Avg", &[("operators/src/function/sum.rs", "why")]), vec![]);
    assert_eq!(of("&avg::Avg, &sum::Sum", &[("operators/src/function/sum.rs", "why")]).len(), 1, "needless");
}

#[test]
fn an_exception_for_a_file_that_is_gone_is_found() {
    let row = &[("src/sinks/status.rs", "why")];
    let home = Source::new("src/sinks/mod.rs", "pub const SINKS: &[Sink] = &[];");
    assert_eq!(gone(row, std::slice::from_ref(&home)).len(), 1);
    assert_eq!(gone(row, &[home, Source::new("src/sinks/status.rs", "")]), vec![]);
    assert_eq!(gone(row, &[Source::new("src/sinks/mod.rs", "")]), vec![], "the room has no table yet");
}
