//! What an alert rule compares: the table [`CONDITIONS`] and the [`Operator`] that a rule holds.
//!
//! To add a condition: a file with its row and its test, and the row in [`CONDITIONS`]. The rows here compare
//! one value with one threshold and remember nothing; what needs more than that (a range, a time without
//! samples, a baseline) adds a field to [`Condition`] for it, and the rows here say what they do there.
//!
//! Values and thresholds are compared as they are, without a tolerance. A threshold is finite: the settings
//! refuse others.

mod above;
mod below;
mod equal;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One way to compare a value with a threshold.
#[derive(Debug)]
pub struct Condition {
    /// As the document writes it, such as `>`; unique.
    pub symbol: &'static str,
    /// Other spellings, in lowercase; unique.
    pub words: &'static [&'static str],
    /// Whether the condition holds for a value (first) and a threshold (second).
    pub holds: fn(f64, f64) -> bool,
    /// The symbol of the condition that holds exactly when this one does not.
    pub complement: &'static str,
}

/// Every condition there is.
pub static CONDITIONS: &[Condition] = &[
    above::ABOVE,
    above::ABOVE_OR_EQUAL,
    below::BELOW,
    below::BELOW_OR_EQUAL,
    equal::EQUAL,
    equal::NOT_EQUAL,
];

/// A condition as a rule refers to it. Written and read as its symbol.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Operator(&'static Condition);

impl Operator {
    /// Whether `value` breaches `threshold`.
    #[inline]
    pub fn holds(self, value: f64, threshold: f64) -> bool {
        (self.0.holds)(value, threshold)
    }

    /// The symbol, such as `>`.
    pub fn symbol(self) -> &'static str {
        self.0.symbol
    }

    /// The operator that holds exactly when this one does not.
    pub fn complement(self) -> Operator {
        // A row names a symbol of the table; the laws below check each.
        CONDITIONS.iter().find(|row| row.symbol == self.0.complement).map_or(self, Operator)
    }
}

impl PartialEq for Operator {
    fn eq(&self, other: &Self) -> bool {
        self.symbol() == other.symbol()
    }
}

impl Eq for Operator {}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.symbol())
    }
}

impl From<Operator> for String {
    fn from(operator: Operator) -> String {
        operator.symbol().to_owned()
    }
}

impl TryFrom<String> for Operator {
    type Error = UnknownOperator;

    fn try_from(text: String) -> Result<Self, UnknownOperator> {
        text.parse()
    }
}

impl FromStr for Operator {
    type Err = UnknownOperator;

    /// By symbol or word, whatever the case and the blanks around.
    fn from_str(text: &str) -> Result<Self, UnknownOperator> {
        let wanted = text.trim().to_ascii_lowercase();
        CONDITIONS
            .iter()
            .find(|row| row.symbol == wanted || row.words.contains(&wanted.as_str()))
            .map(Operator)
            .ok_or_else(|| UnknownOperator { found: text.to_owned() })
    }
}

/// A text that names no condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownOperator {
    /// The text.
    pub found: String,
}

impl fmt::Display for UnknownOperator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let symbols: Vec<&str> = CONDITIONS.iter().map(|row| row.symbol).collect();
        write!(f, "expected an operator ({}), found {:?}", symbols.join(" "), self.found)
    }
}

impl std::error::Error for UnknownOperator {}

/// Checks a row against cases of (value, threshold, whether it holds).
#[cfg(test)]
fn check(row: &Condition, cases: &[(f64, f64, bool)]) {
    for (value, threshold, expect) in cases {
        assert_eq!((row.holds)(*value, *threshold), *expect, "{value} {} {threshold}", row.symbol);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const VALUES: &[f64] = &[
        f64::MIN,
        -80.0,
        -1e-300,
        -5e-324,
        -0.0,
        0.0,
        5e-324,
        0.1,
        0.30000000000000004,
        0.3,
        79.999,
        80.0,
        f64::MAX,
    ];

    #[test]
    fn every_spelling_is_unique_and_means_its_row() {
        let mut seen = BTreeSet::new();
        for row in CONDITIONS {
            for spelling in row.words.iter().chain([&row.symbol]) {
                assert!(seen.insert(*spelling), "{spelling} stands twice");
                for text in [spelling.to_string(), format!(" {} ", spelling.to_uppercase())] {
                    assert_eq!(text.parse::<Operator>().map(Operator::symbol), Ok(row.symbol), "{text:?}");
                }
            }
        }
    }

    #[test]
    fn the_documented_symbols_are_there() {
        let symbols: BTreeSet<&str> = CONDITIONS.iter().map(|row| row.symbol).collect();
        assert!(
            [">", ">=", "<", "<=", "==", "!="].iter().all(|symbol| symbols.contains(symbol)),
            "{symbols:?}"
        );
    }

    #[test]
    fn a_complement_holds_exactly_when_its_condition_does_not() {
        for row in CONDITIONS {
            let operator = Operator(row);
            assert_ne!(operator.complement(), operator, "{operator}");
            assert_eq!(operator.complement().complement(), operator);
            for value in VALUES {
                for threshold in VALUES {
                    let (one, other) =
                        (operator.holds(*value, *threshold), operator.complement().holds(*value, *threshold));
                    assert!(one != other, "{value} {operator} {threshold}");
                }
            }
        }
    }

    #[test]
    fn a_row_reads_back_what_it_writes() {
        for row in CONDITIONS {
            let json = serde_json::to_string(&Operator(row)).unwrap();
            assert_eq!(json, format!("{:?}", row.symbol));
            assert_eq!(serde_json::from_str::<Operator>(&json).unwrap(), Operator(row));
        }
    }

    #[test]
    fn an_unknown_operator_says_what_there_is() {
        for text in ["", "=>", "about", "> 5"] {
            let error = text.parse::<Operator>().unwrap_err().to_string();
            assert_eq!(error, format!("expected an operator (> >= < <= == !=), found {text:?}"));
        }
    }
}
