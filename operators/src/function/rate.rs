//! `rate`: growth of a counter per second, between the last sample before the window and the last in it.

use super::WindowFunction;
use crate::aggregate::Aggregate;

/// See the module.
pub struct Rate;

impl WindowFunction for Rate {
    fn name(&self) -> &'static str {
        "rate"
    }

    fn help(&self) -> &'static str {
        "growth of a counter per second, between the last sample before the window and the last in it"
    }

    fn needs_before(&self) -> bool {
        true
    }

    fn finish(&self, _parameter: f64, window: &Aggregate) -> Option<f64> {
        window.rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::function::check;

    #[test]
    fn on_a_small_window() {
        check(&Rate, 0.0, &[2.0, 4.0, 4.0, 10.0], 8.0 / 3.0);
    }
}
