//! The tree's Rust files, each with a copy of its text in which comments and literals are blanked.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// One Rust file.
pub struct Source {
    /// Relative to the repository, with `/`.
    pub path: String,
    /// As it is on disk.
    pub text: String,
    /// The same lines and columns, with the contents of comments, strings and characters blanked.
    pub code: String,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Source {
        Source { path: path.to_owned(), text: text.to_owned(), code: blank(text) }
    }

    /// The first line (from 1) of the tests at the file's end, if it has any.
    pub fn tests_from(&self) -> Option<usize> {
        if self.path.contains("/tests/") || self.path.ends_with("tests.rs") {
            return Some(1);
        }
        self.code.lines().position(|line| line.trim() == "#[cfg(test)]").map(|at| at + 1)
    }
}

/// Where a rule is broken, and how.
#[derive(Debug, PartialEq)]
pub struct Finding {
    pub path: String,
    pub line: usize,
    pub what: String,
}

impl Finding {
    pub fn new(path: &str, line: usize, what: impl Into<String>) -> Finding {
        Finding { path: path.to_owned(), line, what: what.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

/// Fails with one line for each finding.
#[track_caller]
pub fn expect_none(findings: &[Finding]) {
    let lines: Vec<String> = findings.iter().map(Finding::to_string).collect();
    assert!(findings.is_empty(), "{} found:\n{}", findings.len(), lines.join("\n"));
}

/// The repository's root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file of the workspace, by path.
pub fn tree() -> Vec<Source> {
    let mut paths = Vec::new();
    for top in ["operators", "dataflows", "src", "tests", "benches", "examples"] {
        collect(&root().join(top), &mut paths);
    }
    paths.sort();
    let files: Vec<Source> = paths.iter().map(|path| read(path)).collect();
    assert!(
        files.iter().any(|f| f.path == "src/lib.rs"),
        "the tree at {} has no src/lib.rs",
        root().display()
    );
    files
}

fn read(path: &Path) -> Source {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let relative = path.strip_prefix(root()).expect("collected below the root");
    Source::new(&relative.to_string_lossy().replace('\\', "/"), &text)
}

fn collect(folder: &Path, into: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() {
            if name != "target" && !name.to_string_lossy().starts_with('.') {
                collect(&path, into);
            }
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push(path);
        }
    }
}

/// `text` with everything inside comments and literals replaced by spaces; line breaks stay.
fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = literal_end(&chars, at);
        if end == at {
            out.push(chars[at]);
            at += 1;
        } else {
            out.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    out
}

/// Where the comment or literal that begins at `at` ends; `at` itself if none begins there.
fn literal_end(chars: &[char], at: usize) -> usize {
    let next = |n: usize| chars.get(at + n).copied().unwrap_or('\0');
    match chars[at] {
        '/' if next(1) == '/' => find(chars, at, |c| c == '\n'),
        '/' if next(1) == '*' => block_comment_end(chars, at),
        '"' => quoted_end(chars, at + 1, '"'),
        'r' | 'b' | 'c' if at == 0 || !is_word(chars[at - 1]) => prefixed_end(chars, at),
        // A lifetime has no closing quote: 'a is two characters, 'a' three.
        '\'' if next(1) == '\\' || next(2) == '\'' => quoted_end(chars, at + 1, '\''),
        _ => at,
    }
}

/// The end of a literal such as `r#".."#`, `b"..."` or `b'x'`; `at` if it is only a word.
fn prefixed_end(chars: &[char], at: usize) -> usize {
    let mut quote = at;
    while quote < at + 2 && matches!(chars.get(quote), Some('r' | 'b' | 'c')) {
        quote += 1;
    }
    let raw = chars[at..quote].contains(&'r');
    let opening = quote;
    while raw && chars.get(quote) == Some(&'#') {
        quote += 1;
    }
    let hashes = quote - opening;
    match chars.get(quote) {
        Some('"') if raw => {
            let closes = |i: usize| chars[i] == '"' && (1..=hashes).all(|n| chars.get(i + n) == Some(&'#'));
            (quote + 1..chars.len()).find(|i| closes(*i)).map_or(chars.len(), |i| i + 1 + hashes)
        }
        Some(c @ ('"' | '\'')) if chars[at] != 'r' => quoted_end(chars, quote + 1, *c),
        _ => at,
    }
}

fn quoted_end(chars: &[char], mut at: usize, quote: char) -> usize {
    while at < chars.len() && chars[at] != quote {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

fn block_comment_end(chars: &[char], mut at: usize) -> usize {
    let mut depth = 0;
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at.min(chars.len())
}

fn find(chars: &[char], at: usize, wanted: impl Fn(char) -> bool) -> usize {
    (at..chars.len()).find(|i| wanted(chars[*i])).unwrap_or(chars.len())
}

/// Whether `c` can be part of a Rust name.
pub fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Byte offsets at which `word` stands in `code` as a whole name.
pub fn word_offsets<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(word)
        .map(|(at, _)| at)
        .filter(move |at| !code[..*at].ends_with(is_word) && !code[at + word.len()..].starts_with(is_word))
}

/// The line, from 1, of a byte offset.
pub fn line_of(text: &str, offset: usize) -> usize {
    text[..offset].matches('\n').count() + 1
}

#[test]
fn comments_and_literals_are_blanked() {
    for (text, left) in [
        ("a // tokio", "a"),
        ("a /* b /* c */ d */ e", "a e"),
        ("f(\"x\\\"y\") + 1", "f( ) + 1"),
        ("r#\"a\"b\"# z", "z"),
        ("br\"q\" b'x' 'y' '\\'' k", "k"),
        ("fn f<'a>(x: &'a str)", "fn f<'a>(x: &'a str)"),
        ("var_b = rb + r", "var_b = rb + r"),
        ("\"a\nb\" c", "c"),
    ] {
        let found = blank(text);
        assert_eq!(found.chars().count(), text.chars().count(), "{text}");
        assert_eq!(found.matches('\n').count(), text.matches('\n').count(), "{text}");
        assert_eq!(found.split_whitespace().collect::<Vec<_>>().join(" "), left, "{text}");
    }
}

#[test]
fn tests_at_the_end_are_found() {
    assert_eq!(
        Source::new("src/a.rs", "//! A.\nfn a() {}\n#[cfg(test)]\nmod tests {}\n").tests_from(),
        Some(3)
    );
    assert_eq!(Source::new("src/a.rs", "//! A.\nfn a() {}\n").tests_from(), None);
}
