//! The methods a detector can go by, one row each.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::component::Component;

/// A row of [`METHODS`].
#[derive(Debug, PartialEq, Eq)]
pub struct MethodRow {
    /// Its name in rules and on the command line.
    pub name: &'static str,
    /// What it does, in a sentence.
    pub about: &'static str,
    /// What it looks at; the strangest counts.
    pub components: &'static [Component],
    /// Whether the season is taken out first.
    pub seasonal: bool,
    method: Method,
}

/// Every method.
pub const METHODS: &[MethodRow] = &[
    MethodRow {
        name: "default",
        about: "everything together, the season taken out",
        components: &[
            Component::Spike,
            Component::Record,
            Component::RawRecord,
            Component::Step,
            Component::Level,
            Component::Variation,
        ],
        seasonal: true,
        method: Method::Default,
    },
    MethodRow {
        name: "robust_z",
        about: "distance from the median of the newest 64 samples, by their median absolute deviation",
        components: &[Component::Spike],
        seasonal: false,
        method: Method::RobustZ,
    },
    MethodRow {
        name: "ewma",
        about: "distance from an exponentially weighted mean, by the standard deviation",
        components: &[Component::Deviation],
        seasonal: false,
        method: Method::Ewma,
    },
    MethodRow {
        name: "seasonal",
        about: "the same, the mean of the time of day and of the week taken out first",
        components: &[Component::Deviation],
        seasonal: true,
        method: Method::Seasonal,
    },
];

/// How a sample is judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// All components, the season taken out.
    #[default]
    Default,
    /// Median and median absolute deviation.
    RobustZ,
    /// Exponentially weighted mean and variance.
    Ewma,
    /// Time of day and of the week.
    Seasonal,
}

impl Method {
    /// Its row.
    pub fn row(self) -> &'static MethodRow {
        // Each method has its row: a test goes through them.
        METHODS.iter().find(|row| row.method == self).unwrap_or(&METHODS[0])
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.row().name)
    }
}

impl FromStr for Method {
    type Err = UnknownMethod;

    /// By name, whatever the case and the blanks around.
    fn from_str(text: &str) -> Result<Self, UnknownMethod> {
        let wanted = text.trim().to_ascii_lowercase();
        let row = METHODS.iter().find(|row| row.name == wanted);
        row.map(|row| row.method).ok_or_else(|| UnknownMethod { found: text.to_owned() })
    }
}

/// A text that names no method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownMethod {
    /// The text.
    pub found: String,
}

impl fmt::Display for UnknownMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = METHODS.iter().map(|row| row.name).collect();
        write!(f, "expected a method ({}), found {:?}", names.join(", "), self.found)
    }
}

impl std::error::Error for UnknownMethod {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_has_a_row_and_reads_back_its_name() {
        for method in [Method::Default, Method::RobustZ, Method::Ewma, Method::Seasonal] {
            assert_eq!(method.row().method, method);
            assert_eq!(method.to_string().to_uppercase().parse(), Ok(method));
            assert_eq!(serde_json::to_string(&method).unwrap(), format!("{:?}", method.row().name));
        }
        assert_eq!(METHODS.len(), 4);
    }

    #[test]
    fn an_unknown_method_says_what_there_is() {
        let error = "prophet".parse::<Method>().unwrap_err().to_string();
        assert_eq!(error, "expected a method (default, robust_z, ewma, seasonal), found \"prophet\"");
    }
}
