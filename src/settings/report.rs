//! Where values come from, and what is wrong with them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Where a value was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nowhere: it is the default.
    Default,
    /// In the configuration file; lines and columns count from 1.
    File {
        /// The file, as it was named.
        file: Arc<str>,
        /// Line of the value.
        line: usize,
        /// Column of the value, in characters.
        column: usize,
    },
    /// In this environment variable.
    Variable(Arc<str>),
    /// On the command line.
    Flag(Arc<str>),
}

impl Origin {
    /// Order of reading: a higher one stands above a lower one.
    pub(super) fn rank(&self) -> (u8, usize, usize) {
        match self {
            Origin::Default => (0, 0, 0),
            Origin::File { line, column, .. } => (1, *line, *column),
            Origin::Variable(_) => (2, 0, 0),
            Origin::Flag(_) => (3, 0, 0),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { file, line, column } => write!(f, "{file}:{line}:{column}"),
            Origin::Variable(name) | Origin::Flag(name) => f.write_str(name),
        }
    }
}

/// One thing that is wrong: where, which key, and what was expected and found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it was given.
    pub origin: Origin,
    /// Path of the key, such as `alerts.rules[0].operator`; empty where no key is concerned.
    pub key: String,
    /// What was expected and what was found.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key.as_str() {
            "" => write!(f, "{}: {}", self.origin, self.text),
            key => write!(f, "{}: {key}: {}", self.origin, self.text),
        }
    }
}

/// Everything that is wrong with a configuration; at least one problem. Displayed one a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsErrors(pub Vec<Problem>);

impl fmt::Display for SettingsErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.0.iter().enumerate() {
            write!(f, "{}{problem}", if at == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl std::error::Error for SettingsErrors {}

/// Where each key was given, by its path. What is absent has its default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins(BTreeMap<String, Origin>);

impl Origins {
    /// Whether `key` was given anywhere.
    pub fn is_given(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// Every key that was given.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Where `key` was given.
    pub fn of(&self, key: &str) -> Origin {
        self.0.get(key).cloned().unwrap_or(Origin::Default)
    }
}

/// Collects origins and problems while a configuration is read.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) origins: Origins,
    pub(super) problems: Vec<Problem>,
}

impl Report {
    /// The origins, or everything that is wrong: by line, then by variable and flag.
    pub(super) fn finish(mut self) -> Result<Origins, SettingsErrors> {
        if self.problems.is_empty() {
            return Ok(self.origins);
        }
        self.problems.sort_by_key(|problem| problem.origin.rank());
        Err(SettingsErrors(self.problems))
    }

    pub(super) fn given(&mut self, key: &str, origin: &Origin) {
        self.origins.0.insert(key.to_string(), origin.clone());
    }

    pub(super) fn problem(&mut self, origin: &Origin, key: &str, text: impl Into<String>) {
        self.problems.push(Problem { origin: origin.clone(), key: key.to_string(), text: text.into() });
    }

    /// Whether something is wrong already with one of `keys` or below it.
    pub(super) fn has_problem(&self, keys: &[&str]) -> bool {
        self.problems.iter().any(|problem| keys.iter().any(|key| problem.key.starts_with(key)))
    }

    /// Lays a problem at the door of the key that was given: the first of `keys` that is not a default.
    /// Says nothing where one of `keys` has a problem of its own already.
    pub(super) fn conflict(&mut self, keys: &[&str], text: impl Into<String>) {
        if self.has_problem(keys) {
            return;
        }
        let key = keys.iter().find(|key| self.origins.is_given(key)).or(keys.first());
        let key = key.copied().unwrap_or_default();
        let origin = self.origins.of(key);
        self.problem(&origin, key, text);
    }
}

/// The closest of `words` to `word`, if it is close.
pub fn closest<'a>(word: &str, words: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let letters = |word: &str| {
        let mut letters: Vec<char> = word.chars().collect();
        letters.sort_unstable();
        letters
    };
    // Of two that are as close, the one with the same letters: `=>` is `>=` rather than `==`.
    let rank = |candidate| (distance(word, candidate), letters(word) != letters(candidate), candidate);
    let (steps, _, near) = words.into_iter().map(rank).min()?;
    (steps <= 1.max(word.len().min(near.len()) / 3)).then_some(near)
}

/// Insertions, deletions, replacements and swaps of neighbours that make `a` into `b`
/// (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, expected) in
            [("", "", 0), ("", "ab", 2), ("endpont", "endpoint", 1), ("tpye", "type", 1), ("cat", "dog", 3)]
        {
            assert_eq!(distance(a, b), expected, "{a} {b}");
            assert_eq!(distance(b, a), expected, "{b} {a}");
        }
    }

    #[test]
    fn only_close_words_are_proposed() {
        assert_eq!(closest("endpont", ["topics", "endpoint"]), Some("endpoint"));
        assert_eq!(closest("colour", ["topics", "endpoint"]), None);
        assert_eq!(closest("x", []), None);
    }
}
