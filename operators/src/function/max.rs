//! `max`: largest value.

use super::WindowFunction;
use crate::aggregate::Aggregate;

/// See the module.
pub struct Max;

impl WindowFunction for Max {
    fn name(&self) -> &'static str {
        "max"
    }

    fn help(&self) -> &'static str {
        "largest value"
    }

    fn finish(&self, _parameter: f64, window: &Aggregate) -> Option<f64> {
        window.moments.map(|m| m.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::function::check;

    #[test]
    fn on_a_small_window() {
        check(&Max, 0.0, &[2.0, 4.0, 4.0, 10.0], 10.0);
    }
}
