//! What an alert rule compares: the table [`CONDITIONS`] and the [`Operator`] that a rule holds.
//!
//! To add a condition: a file with its row and its test, and the row in [`CONDITIONS`]. A row compares one value
//! with one threshold, or with the two of a range, and remembers nothing. What the value is, a sample's, a
//! window's, the time without samples, is the [`Signal`](crate::rule::Signal) of a rule.
//!
//! Values and thresholds are compared as they are, without a tolerance. A threshold is finite: the settings
//! refuse others.

mod above;
mod below;
mod equal;
mod range;

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
    /// Whether it compares with a range of two thresholds.
    pub of_range: bool,
    /// Whether the condition holds for a value.
    pub holds: fn(f64, Bounds) -> bool,
    /// An interval, both ends included, in which it holds for no value; an empty one (its first end above its
    /// second) where there is none worth knowing.
    pub quiet: fn(Bounds) -> (f64, f64),
    /// The symbol of the condition that holds exactly when this one does not.
    pub complement: &'static str,
}

/// What a value is compared with: one threshold, or the two ends of a range.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bounds {
    /// The threshold, or the lower end.
    pub lower: f64,
    /// The threshold, or the upper end.
    pub upper: f64,
}

impl From<f64> for Bounds {
    fn from(threshold: f64) -> Bounds {
        Bounds { lower: threshold, upper: threshold }
    }
}

impl fmt::Display for Bounds {
    /// The threshold; for a range both, as `10 to 20`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.lower == self.upper {
            write!(f, "{}", self.lower)
        } else {
            write!(f, "{} to {}", self.lower, self.upper)
        }
    }
}

/// No value at all: what [`Condition::quiet`] gives where it promises nothing.
const NOWHERE: (f64, f64) = (f64::INFINITY, f64::NEG_INFINITY);

/// Every condition there is.
pub static CONDITIONS: &[Condition] = &[
    above::ABOVE,
    above::ABOVE_OR_EQUAL,
    below::BELOW,
    below::BELOW_OR_EQUAL,
    equal::EQUAL,
    equal::NOT_EQUAL,
    range::OUTSIDE,
    range::INSIDE,
];

/// A condition as a rule refers to it. Written and read as its symbol.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Operator(&'static Condition);

impl Operator {
    /// Whether `value` breaches the threshold, or the range.
    #[inline]
    pub fn holds(self, value: f64, bounds: impl Into<Bounds>) -> bool {
        (self.0.holds)(value, bounds.into())
    }

    /// Values from the first to the second, both included, do not breach; nothing is said of others.
    pub fn quiet(self, bounds: impl Into<Bounds>) -> (f64, f64) {
        (self.0.quiet)(bounds.into())
    }

    /// Whether it compares with a range of two thresholds.
    pub fn is_of_range(self) -> bool {
        self.0.of_range
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

impl Default for Operator {
    /// Above.
    fn default() -> Operator {
        Operator(&above::ABOVE)
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
        let holds = (row.holds)(*value, Bounds::from(*threshold));
        assert_eq!(holds, *expect, "{value} {} {threshold}", row.symbol);
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
    fn no_quiet_value_breaches() {
        for row in CONDITIONS {
            let operator = Operator(row);
            let bounds = VALUES.iter().flat_map(|lower| {
                VALUES
                    .iter()
                    .map(|upper| Bounds { lower: *lower, upper: *upper })
                    .filter(|b| b.lower <= b.upper)
            });
            for bounds in bounds.filter(|b| row.of_range || b.lower == b.upper) {
                let (from, till) = operator.quiet(bounds);
                for value in VALUES.iter().filter(|value| (from..=till).contains(*value)) {
                    assert!(!operator.holds(*value, bounds), "{value} {operator} {bounds}");
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
            assert_eq!(
                error,
                format!("expected an operator (> >= < <= == != outside inside), found {text:?}")
            );
        }
    }
}
