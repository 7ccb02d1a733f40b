//! Imports point down, and each third-party crate stays in the rooms that are its place.

use crate::source::{Finding, Source, expect_none, is_word, line_of, tree, word_offsets};

/// Paths that may not be named in one part of the tree, but for the rooms excepted.
struct Fence {
    /// Where the rule holds.
    within: &'static str,
    /// What may not be named there: a crate or a path, with all that is below it.
    paths: &'static [&'static str],
    /// Rooms and files below `within` where it may.
    except: &'static [&'static str],
    /// Rooms where it may in tests.
    except_in_tests: &'static [&'static str],
    why: &'static str,
}

impl Fence {
    const fn new(within: &'static str, paths: &'static [&'static str], why: &'static str) -> Fence {
        Fence { within, paths, except: &[], except_in_tests: &[], why }
    }

    const fn except(mut self, rooms: &'static [&'static str]) -> Fence {
        self.except = rooms;
        self
    }

    const fn except_in_tests(mut self, rooms: &'static [&'static str]) -> Fence {
        self.except_in_tests = rooms;
        self
    }
}

const FENCES: &[Fence] = &[
    Fence::new(
        "operators/",
        &[
            "dataflows",
            "plantd_metric",
            "tokio",
            "std::fs",
            "std::net",
            "std::process",
            "std::thread",
            "std::time::SystemTime",
            "std::time::Instant",
        ],
        "operators read no clock, no file, no socket, start no thread and know no floor above",
    )
    // Benches measure the process they run in.
    .except(&["operators/benches/"])
    // Tests that print timings.
    .except_in_tests(&["operators/src/alert_tests.rs", "operators/src/sketch/tests.rs"]),
    Fence::new(
        "dataflows/",
        &[
            "plantd_metric",
            "tokio",
            "axum",
            "hyper",
            "reqwest",
            "zeromq",
            "std::net",
            "std::fs",
            "std::process",
        ],
        "the dataflow has threads and channels, no sockets and files, and knows no floor above",
    )
    .except(&["dataflows/benches/"])
    // Scenarios are data files.
    .except_in_tests(&["dataflows/tests/scenarios.rs"]),
    Fence::new("src/", &["timely", "differential_dataflow"], "nothing above dataflows/ knows timely"),
    Fence::new(
        "src/",
        &["axum", "hyper", "hyper_util", "http_body_util", "tower", "tower_http"],
        "src/http serves HTTP",
    )
    .except(&["src/http/", "src/http.rs"])
    .except_in_tests(&["src/collectors/", "src/notify/"]),
    Fence::new("src/", &["sysinfo"], "src/collectors measures the host; src/settings asks for its memory")
        .except(&["src/collectors/", "src/settings/"]),
    Fence::new("src/", &["zeromq", "zmq", "omq_tokio"], "src/bus is the transport").except(&["src/bus/"]),
    Fence::new("src/", &["parquet"], "src/sinks writes files").except(&["src/sinks/"]),
    Fence::new("src/", &["serde_saphyr"], "src/settings reads YAML").except(&["src/settings/"]),
    Fence::new("src/", &["reqwest"], "three rooms call out over HTTP").except(&[
        "src/collectors/",
        "src/notify/",
        "src/sinks/",
    ]),
    Fence::new("src/bus/", &["crate::sinks", "crate::notify", "crate::delivery"], "inputs never see sinks"),
    Fence::new("src/codec/", &["crate::sinks", "crate::notify", "crate::delivery"], "inputs never see sinks"),
    Fence::new(
        "src/collectors/",
        &["crate::sinks", "crate::notify", "crate::delivery"],
        "inputs never see sinks",
    ),
    Fence::new("src/sinks/", &["crate::bus", "crate::codec", "crate::collectors"], "sinks never see inputs"),
];

/// A path as it is named in code.
#[derive(Debug, PartialEq)]
struct Named {
    path: String,
    line: usize,
    /// In a `use`, where naming a module opens all that is below it.
    imported: bool,
}

impl Named {
    fn reaches(&self, fenced: &str) -> bool {
        let below = |path: &str, top: &str| {
            path.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        };
        below(&self.path, fenced) || (self.imported && below(fenced, &self.path))
    }
}

/// Every path named in `code`: each leaf of each `use`, and each `a::b` elsewhere.
fn paths(code: &str) -> Vec<Named> {
    let mut found = Vec::new();
    let mut uses = Vec::new();
    for word in ["use", "extern crate"] {
        for at in word_offsets(code, word) {
            let start = at + word.len();
            let end = start + code[start..].find(';').unwrap_or(0);
            uses.push(start..end);
            leaves(&code[start..end], "", &mut |path| {
                found.push(Named { path, line: line_of(code, at), imported: true });
            });
        }
    }
    let mut at = 0;
    while let Some(step) = code[at..].find("::") {
        let colons = at + step;
        let start = code[..colons]
            .rfind(|c: char| !is_word(c))
            .map_or(0, |i| i + code[i..].chars().next().map_or(1, char::len_utf8));
        let is_part = |c: char| is_word(c) || c == ':';
        let end = code[colons..].find(|c| !is_part(c)).map_or(code.len(), |i| colons + i);
        let path = code[start..end].trim_end_matches(':').trim_start_matches(':');
        if !path.is_empty() && !uses.iter().any(|u| u.contains(&colons)) {
            found.push(Named { path: path.to_owned(), line: line_of(code, colons), imported: false });
        }
        at = end.max(colons + 2);
    }
    found
}

/// The full paths of a `use` tree such as `std::{fs, time::{self, Instant as Now}}`.
fn leaves(tree: &str, above: &str, each: &mut impl FnMut(String)) {
    let tree = tree.trim();
    if let Some(open) = tree.find('{') {
        let prefix = join(above, tree[..open].trim().trim_end_matches("::"));
        let inner = tree[open + 1..].strip_suffix('}').unwrap_or(&tree[open + 1..]);
        let (mut depth, mut from) = (0, 0);
        for (at, c) in inner.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    leaves(&inner[from..at], &prefix, each);
                    from = at + 1;
                }
                _ => {}
            }
        }
        leaves(&inner[from..], &prefix, each);
    } else if !tree.is_empty() {
        let name = tree.split_whitespace().next().unwrap_or_default();
        let name = name.trim_start_matches("::").trim_end_matches("::*");
        each(if name == "self" || name == "*" { above.to_owned() } else { join(above, name) });
    }
}

fn join(above: &str, name: &str) -> String {
    let name = name.trim_start_matches("::");
    match (above, name) {
        ("", _) => name.to_owned(),
        (_, "") => above.to_owned(),
        _ => format!("{above}::{name}"),
    }
}

fn over_the_fence(file: &Source, fences: &[Fence]) -> Vec<Finding> {
    let tests_from = file.tests_from().unwrap_or(usize::MAX);
    let named = paths(&file.code);
    let mut findings = Vec::new();
    for fence in fences.iter().filter(|f| file.path.starts_with(f.within)) {
        if fence.except.iter().any(|room| file.path.starts_with(room)) {
            continue;
        }
        let in_tests = fence.except_in_tests.iter().any(|room| file.path.starts_with(room));
        for name in named.iter().filter(|name| !(in_tests && name.line >= tests_from)) {
            if fence.paths.iter().any(|path| name.reaches(path)) {
                findings.push(Finding::new(
                    &file.path,
                    name.line,
                    format!("names {}: {}", name.path, fence.why),
                ));
            }
        }
    }
    findings
}

#[test]
fn imports_point_down_and_crates_stay_in_their_rooms() {
    let findings: Vec<_> = tree().iter().flat_map(|file| over_the_fence(file, FENCES)).collect();
    expect_none(&findings);
}

#[test]
fn paths_are_found() {
    let code = "use std::{fs, time::{self, Instant as Now}};\nextern crate tokio;\nfn a(x: ::std::net::IpAddr) -> b::C<d> { e() }\nuse super::*;\n";
    let mut found: Vec<_> = paths(code).into_iter().map(|n| (n.line, n.path)).collect();
    found.sort();
    let expected = [
        (1, "std::fs"),
        (1, "std::time"),
        (1, "std::time::Instant"),
        (2, "tokio"),
        (3, "b::C"),
        (3, "std::net::IpAddr"),
        (4, "super"),
    ];
    assert_eq!(found, expected.map(|(line, path)| (line, path.to_owned())));
}

#[test]
fn a_path_over_a_fence_is_found() {
    for (path, code, count) in [
        ("operators/src/a.rs", "use std::{thread, fmt};", 1),
        ("operators/src/a.rs", "use std::time::Duration;", 0),
        ("operators/src/a.rs", "use std::time;", 1),
        ("operators/src/a.rs", "fn a() -> std::time::Instant {}", 1),
        ("operators/src/a.rs", "use dataflows::spec;", 1),
        ("operators/src/a.rs", "// use std::fs;", 0),
        ("dataflows/src/a.rs", "#[tokio::main] fn a() {}", 1),
        ("dataflows/src/a.rs", "use std::{thread, sync::mpsc};", 0),
        ("dataflows/src/a.rs", "use timely::dataflow::Scope;", 0),
        ("src/service.rs", "use timely::dataflow::Scope;", 1),
        ("src/service.rs", "use differential_dataflow as dd;", 1),
        ("src/http/mod.rs", "use axum::Router;", 0),
        ("src/service.rs", "use axum::Router;", 1),
        ("src/notify/webhook.rs", "use axum::Router;", 1),
        ("src/notify/webhook.rs", "fn a() {}\n#[cfg(test)]\nmod tests { use axum::Router; }", 0),
        ("src/notify/webhook.rs", "use reqwest::Client;", 0),
        ("src/bus/mod.rs", "use zeromq::SubSocket; use reqwest::Client; use crate::sinks::Sink;", 2),
        ("src/settings/mod.rs", "let y: T = serde_saphyr::from_str(s)?; let m = sysinfo::System::new();", 0),
        ("src/codec/mod.rs", "serde_saphyr::from_str(s); parquet::file(); sysinfo::System::new()", 3),
        ("tests/a.rs", "use std::fs; use tokio::net::TcpListener;", 0),
    ] {
        let findings = over_the_fence(&Source::new(path, code), FENCES);
        assert_eq!(findings.len(), count, "{path}: {code}: {findings:?}");
    }
    let found = over_the_fence(&Source::new("src/a.rs", "//! A.\n\nuse parquet::file;\n"), FENCES);
    assert_eq!(found[0].to_string(), "src/a.rs:3: names parquet::file: src/sinks writes files");
}
