//! What a closed window says, and which functions it is asked for.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::function::{Function, names};
use crate::sample::{DurationNs, SECOND, SeriesId, TimeNs};
use crate::tier::WindowPlan;

/// The row of one closed pane. Its key is the series, the start and the width; of one key the row with the
/// highest revision counts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClosedWindow {
    /// The series.
    pub series: SeriesId,
    /// Start of the window.
    pub start_ns: TimeNs,
    /// Its width: that of the finest panes.
    pub width_ns: DurationNs,
    /// The epoch at whose end it was so.
    pub revision: u64,
    /// Number of samples, at least one.
    pub count: u64,
    /// A value for each of the plan's functions, in their order. NaN where the function has none, such as the
    /// increase of a first sample; no function gives NaN otherwise. In a serialised row it is no number but none.
    #[serde(with = "none_for_nan")]
    pub values: Vec<f64>,
}

/// Two rows are the same when they are, bit for bit.
impl PartialEq for ClosedWindow {
    fn eq(&self, other: &ClosedWindow) -> bool {
        let key = |row: &ClosedWindow| (row.series, row.start_ns, row.width_ns, row.revision, row.count);
        let bits = |row: &ClosedWindow| row.values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        key(self) == key(other) && bits(self) == bits(other)
    }
}

impl Eq for ClosedWindow {}

/// Not every format has a NaN.
mod none_for_nan {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(values: &[f64], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(values.iter().map(|value| Some(*value).filter(|value| !value.is_nan())))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f64>, D::Error> {
        let values = Vec::<Option<f64>>::deserialize(deserializer)?;
        Ok(values.into_iter().map(|value| value.unwrap_or(f64::NAN)).collect())
    }
}

/// What closed windows say.
#[derive(Clone)]
pub struct ClosingPlan {
    /// Names, and the functions they stand for, in the order of a row's values.
    pub functions: Vec<(Arc<str>, Function)>,
}

impl fmt::Debug for ClosingPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.functions.iter().map(|(name, _)| name)).finish()
    }
}

impl ClosingPlan {
    /// Closed windows with these functions, by the names that queries use.
    ///
    /// # Errors
    /// If there is no function of a name.
    pub fn parse<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<ClosingPlan, String> {
        let function = |name: &'a str| match Function::parse(name) {
            Some(function) => Ok((name.into(), function)),
            None => Err(format!("expected one of {}, found {name:?}", self::names())),
        };
        Ok(ClosingPlan { functions: names.into_iter().map(function).collect::<Result<_, _>>()? })
    }

    /// Checks what closing relies on; the error names the first thing wrong.
    pub fn check(&self, windows: &WindowPlan) -> Result<(), String> {
        if self.functions.is_empty() {
            return Err("expected at least one function for closed windows, found none".into());
        }
        for (at, (name, _)) in self.functions.iter().enumerate() {
            if self.functions[..at].iter().any(|(before, _)| before == name) {
                return Err(format!("expected each function of closed windows once, found {name} twice"));
            }
        }
        let held_ns = windows.tiers.first().map_or(0, |tier| tier.retention_ns);
        if held_ns < windows.lateness_ns {
            return Err(format!(
                "expected the finest panes to be held for at least the lateness of {} s, so that they can close, found {} s",
                windows.lateness_ns / SECOND,
                held_ns / SECOND
            ));
        }
        Ok(())
    }

    /// Whether a function wants the window's values.
    pub(super) fn needs_values(&self) -> bool {
        self.functions.iter().any(|(_, function)| function.needs_values())
    }

    /// Whether a function wants the last sample before the window.
    pub(super) fn needs_before(&self) -> bool {
        self.functions.iter().any(|(_, function)| function.needs_before())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_written_and_read_without_nan() {
        let row = ClosedWindow {
            series: 3,
            start_ns: -10 * SECOND,
            width_ns: 10 * SECOND,
            revision: 8,
            count: 1,
            values: vec![0.1, f64::NAN, -0.0],
        };
        let text = serde_json::to_string(&row).unwrap();
        assert!(text.ends_with(r#""count":1,"values":[0.1,null,-0.0]}"#), "{text}");
        assert_eq!(serde_json::from_str::<ClosedWindow>(&text).unwrap(), row);
        assert_ne!(ClosedWindow { values: vec![0.1, f64::NAN, 0.0], ..row.clone() }, row);
    }

    #[test]
    fn plans_that_can_not_close_are_refused() {
        let short = || {
            let mut windows = WindowPlan::default();
            windows.tiers[0].retention_ns = windows.lateness_ns - 1;
            windows
        };
        for (names, windows, expected) in [
            (vec!["avg", "p95", "rate"], WindowPlan::default(), Ok(())),
            (vec![], WindowPlan::default(), Err("at least one function")),
            (vec!["avg", "max", "avg"], WindowPlan::default(), Err("found avg twice")),
            (vec!["avg"], short(), Err("held for at least the lateness of 30 s")),
        ] {
            match (ClosingPlan::parse(names).unwrap().check(&windows), expected) {
                (Ok(()), Ok(())) => {}
                (Err(found), Err(expected)) => assert!(found.contains(expected), "{found}"),
                (found, expected) => panic!("{found:?}, expected {expected:?}"),
            }
        }
        assert!(ClosingPlan::parse(["mode"]).unwrap_err().contains("found \"mode\""));
    }
}
