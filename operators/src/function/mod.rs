//! Window functions: one file and one row in [`FUNCTIONS`] each.

mod avg;
mod count;
mod first;
mod increase;
mod last;
mod max;
mod min;
mod quantile;
mod rate;
mod stddev;
mod sum;

use crate::aggregate::Aggregate;

/// One window function: a name and how to finish an [`Aggregate`].
pub trait WindowFunction: Sync {
    /// The name in queries and answers.
    fn name(&self) -> &'static str;
    /// One line for people.
    fn help(&self) -> &'static str;
    /// The parameter that `text` stands for, if it names this function.
    fn parse(&self, text: &str) -> Option<f64> {
        (text == self.name()).then_some(0.0)
    }
    /// Whether the window's values must be kept: only for percentiles.
    fn needs_values(&self) -> bool {
        false
    }
    /// Whether the result depends on the last sample before the window too.
    fn needs_before(&self) -> bool {
        false
    }
    /// The result; `None` for a window without what the function needs.
    fn finish(&self, parameter: f64, window: &Aggregate) -> Option<f64>;
}

/// All window functions.
pub static FUNCTIONS: &[&dyn WindowFunction] = &[
    &avg::Avg,
    &count::Count,
    &first::First,
    &increase::Increase,
    &last::Last,
    &max::Max,
    &min::Min,
    &quantile::Quantile,
    &rate::Rate,
    &stddev::Stddev,
    &sum::Sum,
];

/// A window function as a query names it.
#[derive(Clone, Copy)]
pub struct Function {
    entry: &'static dyn WindowFunction,
    parameter: f64,
}

impl Function {
    /// Finds the function that `text` names: `avg`, `p95`, ...
    pub fn parse(text: &str) -> Option<Function> {
        FUNCTIONS.iter().find_map(|entry| Some(Function { entry: *entry, parameter: entry.parse(text)? }))
    }

    /// Whether the window must keep its values.
    pub fn needs_values(&self) -> bool {
        self.entry.needs_values()
    }

    /// Whether the result depends on the last sample before the window too.
    pub fn needs_before(&self) -> bool {
        self.entry.needs_before()
    }

    /// The result for a window; none also where it is too great for a number.
    pub fn finish(&self, window: &Aggregate) -> Option<f64> {
        self.entry.finish(self.parameter, window).filter(|result| result.is_finite())
    }
}

/// The functions there are, for error texts: `avg, count, ..., median, pNN (p50, p99.9)`.
pub fn names() -> String {
    let plain = FUNCTIONS.iter().filter(|f| f.parse(f.name()).is_some()).map(|f| f.name());
    plain.chain(["median", "pNN (such as p50, p99.9)"]).collect::<Vec<_>>().join(", ")
}

/// Folds `values`, a second apart, and compares.
#[cfg(test)]
fn check(function: &dyn WindowFunction, parameter: f64, values: &[f64], expected: f64) {
    let window = tests::window_of(values, 0, None);
    let result = function.finish(parameter, &window).unwrap();
    assert!((result - expected).abs() < 1e-12, "{}: {result}, expected {expected}", function.name());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pane::{Obs, Pane};
    use crate::sample::SECOND;

    pub(super) fn window_of(values: &[f64], from_s: i64, before: Option<Obs>) -> Aggregate {
        let mut pane = Pane::new(from_s * SECOND, values.len());
        for (i, value) in values.iter().enumerate() {
            pane.insert(Obs { time_ns: (from_s + i as i64) * SECOND, value: *value });
        }
        let mut window = Aggregate::new(true);
        window.append_pane(&pane);
        window.close(before);
        window
    }

    #[test]
    fn what_is_too_great_for_a_number_is_no_result() {
        // Two panes, so that folds are merged as well.
        let mut window = Aggregate::new(true);
        for (at, values) in [(0, [f64::MAX, -f64::MAX]), (10, [f64::MAX, f64::MAX])] {
            let mut pane = Pane::new(at * SECOND, 1);
            values.iter().for_each(|value| pane.insert(Obs { time_ns: at * SECOND, value: *value }));
            window.append_pane(&pane);
        }
        window.close(None);
        for (text, expected) in [
            ("count", Some(4.0)),
            ("min", Some(-f64::MAX)),
            ("max", Some(f64::MAX)),
            ("stddev", None),
            ("increase", None),
            ("p0", Some(-f64::MAX)),
            // Halfway between the least and the greatest number there is.
            ("p16.666666666666664", Some(0.0)),
            ("p100", Some(f64::MAX)),
        ] {
            let found = Function::parse(text).unwrap().finish(&window);
            let near = |a: f64, b: f64| (a - b).abs() <= f64::MAX * 1e-9;
            let close = match (found, expected) {
                (Some(a), Some(b)) => near(a, b),
                (a, b) => a == b,
            };
            assert!(close, "{text}: {found:?}, expected {expected:?}");
        }
    }

    /// Laws of every row: an empty window finishes to nothing; panes merged agree with one fold;
    /// a group of one is its member.
    #[test]
    fn laws_hold_for_every_function() {
        let values: Vec<f64> = (0..50).map(|i| f64::from((i * 37) % 23)).collect();
        for text in [
            "avg", "count", "first", "increase", "last", "max", "min", "median", "p90", "rate", "stddev",
            "sum",
        ] {
            let function = Function::parse(text).unwrap();
            let mut empty = Aggregate::new(true);
            empty.close(None);
            assert_eq!(function.finish(&empty), None, "{text}");

            let whole = window_of(&values, 0, None);
            let mut merged = Aggregate::new(true);
            for (at, part) in [(0, &values[..20]), (20, &values[20..21]), (21, &values[21..])] {
                let mut pane = Pane::new(at * SECOND, 1);
                part.iter().enumerate().for_each(|(i, v)| {
                    pane.insert(Obs { time_ns: (at + i as i64) * SECOND, value: *v });
                });
                merged.append_pane(&pane);
            }
            merged.close(None);
            let (a, b) = (function.finish(&whole).unwrap(), function.finish(&merged).unwrap());
            assert!((a - b).abs() <= 1e-12 * a.abs().max(1.0), "{text}: {a} and {b}");

            let mut group = Aggregate::new(true);
            group.pool(&whole);
            assert_eq!(function.finish(&group), Some(a), "{text}");
        }
        assert!(FUNCTIONS.iter().all(|f| !f.help().is_empty()));
        assert!(Function::parse("mode").is_none());
    }
}
