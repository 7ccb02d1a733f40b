//! `increase`: growth of a counter, resets counted as new starts from zero; the step into the window is part of it.

use super::WindowFunction;
use crate::aggregate::Aggregate;

/// See the module.
pub struct Increase;

impl WindowFunction for Increase {
    fn name(&self) -> &'static str {
        "increase"
    }

    fn help(&self) -> &'static str {
        "growth of a counter, resets counted as new starts from zero; the step into the window is part of it"
    }

    fn needs_before(&self) -> bool {
        true
    }

    fn finish(&self, _parameter: f64, window: &Aggregate) -> Option<f64> {
        window.increase
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::function::check;

    #[test]
    fn on_a_small_window() {
        check(&Increase, 0.0, &[2.0, 4.0, 4.0, 10.0], 8.0);
    }
}
