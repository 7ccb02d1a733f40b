//! `count`: number of samples.

use super::WindowFunction;
use crate::aggregate::Aggregate;

/// See the module.
pub struct Count;

impl WindowFunction for Count {
    fn name(&self) -> &'static str {
        "count"
    }

    fn help(&self) -> &'static str {
        "number of samples"
    }

    fn finish(&self, _parameter: f64, window: &Aggregate) -> Option<f64> {
        window.moments.map(|m| m.count as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::function::check;

    #[test]
    fn on_a_small_window() {
        check(&Count, 0.0, &[2.0, 4.0, 4.0, 10.0], 4.0);
    }
}
