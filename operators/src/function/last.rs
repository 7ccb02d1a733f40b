//! `last`: value of the latest sample.

use super::WindowFunction;
use crate::aggregate::Aggregate;

/// See the module.
pub struct Last;

impl WindowFunction for Last {
    fn name(&self) -> &'static str {
        "last"
    }

    fn help(&self) -> &'static str {
        "value of the latest sample"
    }

    fn finish(&self, _parameter: f64, window: &Aggregate) -> Option<f64> {
        window.moments.map(|m| m.last.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::function::check;

    #[test]
    fn on_a_small_window() {
        check(&Last, 0.0, &[2.0, 4.0, 4.0, 10.0], 10.0);
    }
}
