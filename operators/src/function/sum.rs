//! `sum`: sum of the values.

use super::WindowFunction;
use crate::aggregate::Aggregate;

/// See the module.
pub struct Sum;

impl WindowFunction for Sum {
    fn name(&self) -> &'static str {
        "sum"
    }

    fn help(&self) -> &'static str {
        "sum of the values"
    }

    fn finish(&self, _parameter: f64, window: &Aggregate) -> Option<f64> {
        window.moments.map(|m| m.sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::function::check;

    #[test]
    fn on_a_small_window() {
        check(&Sum, 0.0, &[2.0, 4.0, 4.0, 10.0], 20.0);
    }
}
