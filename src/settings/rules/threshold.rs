//! Thresholds: a number, or the two ends of a range.

use std::fmt;

use operators::condition::Bounds;

use crate::settings::kinds::{Kind, NUMBER, Shown};
use crate::settings::report::Report;
use crate::settings::written::{Node, Value};

/// What values are compared with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Threshold {
    /// A finite number.
    One(f64),
    /// Two of them, the lower end first.
    Range(f64, f64),
}

impl Threshold {
    /// Both ends; those of a number are the same.
    pub fn bounds(self) -> Bounds {
        match self {
            Threshold::One(number) => number.into(),
            Threshold::Range(lower, upper) => Bounds { lower, upper },
        }
    }
}

impl Default for Threshold {
    fn default() -> Threshold {
        Threshold::One(0.0)
    }
}

impl From<f64> for Threshold {
    fn from(number: f64) -> Threshold {
        Threshold::One(number)
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Threshold::One(number) => write!(f, "{number}"),
            Threshold::Range(lower, upper) => write!(f, "[{lower}, {upper}]"),
        }
    }
}

/// A number, or a list of two.
pub(super) struct ThresholdKind;

impl Kind<Threshold> for ThresholdKind {
    fn read(&self, node: &Node, into: &mut Threshold, key: &str, report: &mut Report) {
        let entries: Vec<Node> = match &node.value {
            Value::List(entries) => entries.clone(),
            // As lists are in the environment.
            Value::Raw(text) if text.contains(',') => {
                text.split(',').map(|part| Node::raw(node.origin.clone(), part.trim())).collect()
            }
            _ => {
                let mut number = 0.0;
                let before = report.problems.len();
                NUMBER.read(node, &mut number, key, report);
                if report.problems.len() == before {
                    *into = Threshold::One(number);
                }
                return;
            }
        };
        let [lower, upper] = entries.as_slice() else {
            let text =
                format!("expected a finite number, or the two ends of a range, found {}", entries.len());
            return report.problem(&node.origin, key, text + " of them");
        };
        let before = report.problems.len();
        let (mut low, mut high) = (0.0, 0.0);
        NUMBER.read(lower, &mut low, &format!("{key}[0]"), report);
        NUMBER.read(upper, &mut high, &format!("{key}[1]"), report);
        if report.problems.len() > before {
            return;
        }
        if low > high {
            let text = format!("expected the lower end first, found {low} and {high}");
            return report.problem(&node.origin, key, text);
        }
        *into = Threshold::Range(low, high);
    }

    fn show(&self, value: &Threshold) -> Shown {
        match value {
            Threshold::One(number) => NUMBER.show(number),
            Threshold::Range(lower, upper) => Shown::List(vec![NUMBER.show(lower), NUMBER.show(upper)]),
        }
    }
}
