//! `min`: smallest value.

use super::WindowFunction;
use crate::aggregate::Aggregate;

/// See the module.
pub struct Min;

impl WindowFunction for Min {
    fn name(&self) -> &'static str {
        "min"
    }

    fn help(&self) -> &'static str {
        "smallest value"
    }

    fn finish(&self, _parameter: f64, window: &Aggregate) -> Option<f64> {
        window.moments.map(|m| m.min)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::function::check;

    #[test]
    fn on_a_small_window() {
        check(&Min, 0.0, &[2.0, 4.0, 4.0, 10.0], 2.0);
    }
}
