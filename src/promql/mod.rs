//! PromQL, as far as alert rules are written in it: text -> [`Expr`] with places, and [`alert`]: what of it our rules
//! can say.
//!
//! The parser reads the whole grammar of expressions, so that what a rule of ours cannot say is refused for what it
//! is and not for its spelling. Grammar: <https://prometheus.io/docs/prometheus/latest/querying/basics/>.

pub mod alert;
mod lexer;
mod parser;

use std::fmt;
use std::time::Duration;

pub use lexer::duration;
pub use parser::parse;

/// What is wrong with an expression, or cannot be said otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The character where, from 1.
    pub column: usize,
    /// What was expected and found, or why not.
    pub text: String,
}

impl Refused {
    fn new<T>(column: usize, text: impl Into<String>) -> Result<T, Refused> {
        Err(Refused { column, text: text.into() })
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "character {}: {}", self.column, self.text)
    }
}

impl std::error::Error for Refused {}

/// An expression, and the character where it begins, from 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Expr {
    /// Where.
    pub column: usize,
    /// What.
    pub kind: Kind,
}

/// What an expression is.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// A number.
    Number(f64),
    /// A text.
    Text(String),
    /// Series.
    Selector(Selector),
    /// A function.
    Call {
        /// Its name.
        name: String,
        /// What it is called with.
        arguments: Vec<Expr>,
    },
    /// An aggregation over series.
    Aggregation {
        /// Its name.
        name: String,
        /// `by` or `without`, and labels.
        grouping: Option<(bool, Vec<String>)>,
        /// What it is called with.
        arguments: Vec<Expr>,
    },
    /// Two expressions and what is between them.
    Binary {
        /// The operator, such as `>`.
        operator: String,
        /// Where it stands.
        at: usize,
        /// Words behind it: `bool`, `on`, `ignoring`, `group_left`, `group_right`.
        modifier: Option<(usize, String)>,
        /// Left.
        left: Box<Expr>,
        /// Right.
        right: Box<Expr>,
    },
    /// With a minus before it.
    Negative(Box<Expr>),
    /// With a word behind it: `offset`, `@`, or a subquery.
    Modified(Box<Expr>, usize, &'static str),
}

/// Series by name and labels, perhaps over a range.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selector {
    /// The metric name; empty if there is none.
    pub metric: String,
    /// What labels must be.
    pub matchers: Vec<Matcher>,
    /// Width of a range.
    pub range: Option<Duration>,
}

/// What a label must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matcher {
    /// Where it stands.
    pub column: usize,
    /// The label.
    pub name: String,
    /// `=`, `!=`, `=~` or `!~`.
    pub operator: String,
    /// The text.
    pub value: String,
}
