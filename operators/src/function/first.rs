//! `first`: value of the earliest sample.

use super::WindowFunction;
use crate::aggregate::Aggregate;

/// See the module.
pub struct First;

impl WindowFunction for First {
    fn name(&self) -> &'static str {
        "first"
    }

    fn help(&self) -> &'static str {
        "value of the earliest sample"
    }

    fn finish(&self, _parameter: f64, window: &Aggregate) -> Option<f64> {
        window.moments.map(|m| m.first.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::function::check;

    #[test]
    fn on_a_small_window() {
        check(&First, 0.0, &[2.0, 4.0, 4.0, 10.0], 2.0);
    }
}
