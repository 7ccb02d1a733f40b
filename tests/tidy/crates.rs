//! What comes in from outside: one version of each crate, under licences that are allowed.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

use crate::source::{Finding, expect_none, root};

/// Crates of which Cargo.lock has more than one version, and why it must.
const SEVERAL_VERSIONS: &[(&str, &str)] = &[
    ("embedded-io", "postcard names two that it could serve; neither is compiled"),
    (
        "getrandom",
        "0.2 for ring, 0.3 for parquet's ahash, 0.4 for tempfile and uuid: the last two are tests' or windows'",
    ),
    ("itertools", "0.13 is criterion's, for benches only; timely has 0.14"),
    ("r-efi", "comes with getrandom; compiled for UEFI only"),
    ("syn", "2 for the macros of tracing, timely and clap, 3 for serde's; at build time only"),
    ("windows-sys", "compiled for Windows only; ring asks for the older one"),
];

/// Licences under which a crate may come in.
const LICENCES: &[&str] =
    &["MIT", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "Unicode-3.0", "Zlib", "MPL-2.0"];

/// Crates under another licence, and why they may come in.
const OTHER_LICENCES: &[(&str, &str, &str)] = &[(
    "tiny-keccak",
    "CC0-1.0",
    "part of a build-time macro (the seeds of parquet's ahash), not of the binary",
)];

/// Name and version of each package of a Cargo.lock, with the line on which it stands.
fn locked(lock: &str) -> Vec<(&str, &str, usize)> {
    let mut found = Vec::new();
    let mut name = "";
    for (at, line) in lock.lines().enumerate() {
        if let Some(value) = line.strip_prefix("name = ") {
            name = value.trim_matches('"');
        } else if let Some(value) = line.strip_prefix("version = ")
            && !name.is_empty()
        {
            found.push((name, value.trim_matches('"'), at + 1));
            name = "";
        }
    }
    found
}

fn several_versions(lock: &str, allowed: &[(&str, &str)]) -> Vec<Finding> {
    let mut versions: BTreeMap<&str, Vec<(&str, usize)>> = BTreeMap::new();
    for (name, version, line) in locked(lock) {
        versions.entry(name).or_default().push((version, line));
    }
    let mut findings = Vec::new();
    for (name, of) in versions.iter().filter(|(_, of)| of.len() > 1) {
        if !allowed.iter().any(|(crate_name, _)| crate_name == name) {
            let list: Vec<&str> = of.iter().map(|(version, _)| *version).collect();
            findings.push(Finding::new(
                "Cargo.lock",
                of[1].1,
                format!("{name} has {} versions: {}", of.len(), list.join(", ")),
            ));
        }
    }
    for (name, _) in allowed.iter().filter(|(name, _)| versions.get(name).is_none_or(|of| of.len() < 2)) {
        findings.push(Finding::new(
            "Cargo.lock",
            1,
            format!("{name} has one version now: take it out of SEVERAL_VERSIONS"),
        ));
    }
    findings
}

/// Whether an SPDX expression (or the older `A/B`) can be met by `LICENCES`.
fn allowed(expression: &str) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let (met, rest) = any_of(&words);
    met && rest.is_empty()
}

fn any_of<'a>(words: &'a [&'a str]) -> (bool, &'a [&'a str]) {
    let (mut met, mut rest) = all_of(words);
    while let Some(("OR", after)) = rest.split_first().map(|(first, after)| (*first, after)) {
        let (other, left) = all_of(after);
        (met, rest) = (met || other, left);
    }
    (met, rest)
}

fn all_of<'a>(words: &'a [&'a str]) -> (bool, &'a [&'a str]) {
    let (mut met, mut rest) = one(words);
    while let Some(("AND", after)) = rest.split_first().map(|(first, after)| (*first, after)) {
        let (other, left) = one(after);
        (met, rest) = (met && other, left);
    }
    (met, rest)
}

fn one<'a>(words: &'a [&'a str]) -> (bool, &'a [&'a str]) {
    match words {
        ["(", inner @ ..] => match any_of(inner) {
            (met, [")", rest @ ..]) => (met, rest),
            (_, rest) => (false, rest),
        },
        // An exception grants more than the licence does, so the licence alone is enough.
        [licence, "WITH", _, rest @ ..] => (LICENCES.contains(licence), rest),
        [licence, rest @ ..] => (LICENCES.contains(licence), rest),
        [] => (false, words),
    }
}

fn licence_findings(metadata: &Value, others: &[(&str, &str, &str)]) -> Vec<Finding> {
    let packages = metadata["packages"].as_array().expect("cargo metadata lists packages");
    let mut findings = Vec::new();
    let mut used = Vec::new();
    for package in packages {
        let text = |key: &str| package[key].as_str().unwrap_or_default();
        let (name, licence) = (text("name"), text("license"));
        let other = others.iter().find(|(crate_name, its, _)| *crate_name == name && *its == licence);
        match other {
            Some(row) => used.push(row.0),
            None if allowed(licence) => {}
            None => {
                let what = format!(
                    "{name} {} is under \"{licence}\", expected one of {LICENCES:?}",
                    text("version")
                );
                findings.push(Finding::new("Cargo.lock", 1, what));
            }
        }
    }
    for (name, ..) in others.iter().filter(|(name, ..)| !used.contains(name)) {
        findings.push(Finding::new(
            "Cargo.lock",
            1,
            format!("{name} is gone: take it out of OTHER_LICENCES"),
        ));
    }
    findings
}

/// What a command prints; the tests can't go on without it.
fn output(program: &str, arguments: &[&str]) -> String {
    let out = Command::new(program).args(arguments).current_dir(root()).output();
    let out = out.unwrap_or_else(|e| panic!("can't run {program}: {e}"));
    assert!(out.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).expect("cargo and rustc print UTF-8")
}

#[test]
fn one_version_of_each_crate() {
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).expect("the repository has a Cargo.lock");
    assert!(locked(&lock).len() > 100, "expected the whole tree of crates, found {}", locked(&lock).len());
    expect_none(&several_versions(&lock, SEVERAL_VERSIONS));
}

#[test]
fn licences_are_allowed() {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let rustc = output("rustc", &["-vV"]);
    let host = rustc.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc names its host");
    // Crates for other systems are not downloaded, so their licences can't be read here.
    let metadata =
        output(&cargo, &["metadata", "--format-version", "1", "--locked", "--filter-platform", host]);
    let metadata = serde_json::from_str(&metadata).expect("cargo metadata prints JSON");
    expect_none(&licence_findings(&metadata, OTHER_LICENCES));
}

#[test]
fn a_second_version_is_found() {
    let lock = "version = 4\n\n[[package]]\nname = \"a\"\nversion = \"1.0.0\"\n\n[[package]]\nname = \"a\"\nversion = \"2.0.0\"\n";
    let found = several_versions(lock, &[]);
    assert_eq!(
        found.iter().map(Finding::to_string).collect::<Vec<_>>(),
        ["Cargo.lock:9: a has 2 versions: 1.0.0, 2.0.0"]
    );
    assert_eq!(several_versions(lock, &[("a", "why")]), vec![]);
    assert_eq!(several_versions(lock, &[("a", "why"), ("b", "why")]).len(), 1, "the row is stale");
}

#[test]
fn licence_expressions_are_read() {
    for (expression, expected) in [
        ("MIT", true),
        ("MIT/Apache-2.0", true),
        ("CC0-1.0", false),
        ("CC0-1.0 OR MIT", true),
        ("Unlicense OR 0BSD", false),
        ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
        ("MIT AND GPL-3.0-only", false),
        ("(GPL-3.0-only OR MIT) AND (ISC OR GPL-2.0-only)", true),
        ("GPL-3.0-only AND MIT OR Zlib", true),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("GPL-3.0-only WITH Classpath-exception-2.0", false),
        ("(MIT", false),
        ("", false),
    ] {
        assert_eq!(allowed(expression), expected, "{expression}");
    }
}

#[test]
fn another_licence_is_found() {
    let metadata = serde_json::json!({"packages": [
        {"name": "a", "version": "1.0.0", "license": "GPL-3.0-only"},
        {"name": "b", "version": "1.0.0", "license": null},
        {"name": "c", "version": "1.0.0", "license": "CC0-1.0"},
    ]});
    assert_eq!(licence_findings(&metadata, &[("c", "CC0-1.0", "why")]).len(), 2);
    assert_eq!(licence_findings(&metadata, &[("c", "CC0-1.0", "why"), ("d", "CC0-1.0", "why")]).len(), 3);
}
