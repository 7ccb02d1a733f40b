//! `avg`: arithmetic mean of the values.

use super::WindowFunction;
use crate::aggregate::Aggregate;

/// See the module.
pub struct Avg;

impl WindowFunction for Avg {
    fn name(&self) -> &'static str {
        "avg"
    }

    fn help(&self) -> &'static str {
        "arithmetic mean of the values"
    }

    fn finish(&self, _parameter: f64, window: &Aggregate) -> Option<f64> {
        window.moments.map(|m| m.mean())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::function::check;

    #[test]
    fn on_a_small_window() {
        check(&Avg, 0.0, &[2.0, 4.0, 4.0, 10.0], 5.0);
    }
}
