//! `stddev`: population standard deviation of the values.

use super::WindowFunction;
use crate::aggregate::Aggregate;

/// See the module.
pub struct Stddev;

impl WindowFunction for Stddev {
    fn name(&self) -> &'static str {
        "stddev"
    }

    fn help(&self) -> &'static str {
        "population standard deviation of the values"
    }

    fn finish(&self, _parameter: f64, window: &Aggregate) -> Option<f64> {
        window.moments.map(|m| m.stddev())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::function::check;

    #[test]
    fn on_a_small_window() {
        check(&Stddev, 0.0, &[2.0, 4.0, 4.0, 10.0], 3.0);
    }
}
