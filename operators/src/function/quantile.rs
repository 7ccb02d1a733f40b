//! `median` and any percentile `pNN`: `p50`, `p95`, `p99.9`, `p100`.

use super::WindowFunction;
use crate::aggregate::Aggregate;

/// See the module. The parameter is the quantile in `[0, 1]`.
pub struct Quantile;

impl WindowFunction for Quantile {
    fn name(&self) -> &'static str {
        "quantile"
    }

    fn help(&self) -> &'static str {
        "median, or a percentile such as p95 or p99.9; exact for few samples, else within error_bound"
    }

    fn parse(&self, text: &str) -> Option<f64> {
        if text == "median" {
            return Some(0.5);
        }
        let digits = text.strip_prefix('p')?;
        let plain = digits.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        let percent: f64 = digits.parse().ok().filter(|_| plain)?;
        (0.0..=100.0).contains(&percent).then_some(percent / 100.0)
    }

    fn needs_values(&self) -> bool {
        true
    }

    fn finish(&self, parameter: f64, window: &Aggregate) -> Option<f64> {
        window.quantile(parameter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::function::check;

    #[test]
    fn percentiles_are_read_from_their_names() {
        for (text, expected) in [
            ("median", Some(0.5)),
            ("p50", Some(0.5)),
            ("p99.9", Some(0.9990000000000001)),
            ("p100", Some(1.0)),
            ("p101", None),
            ("p-1", None),
            ("p1e1", None),
            ("p", None),
            ("pnan", None),
            ("95", None),
        ] {
            let parsed = Quantile.parse(text);
            let close = match (parsed, expected) {
                (Some(a), Some(b)) => (a - b).abs() < 1e-12,
                (a, b) => a == b,
            };
            assert!(close, "{text}: {parsed:?}");
        }
    }

    #[test]
    fn on_a_small_window() {
        check(&Quantile, 0.5, &[2.0, 4.0, 4.0, 10.0], 4.0);
        check(&Quantile, 0.9, &[2.0, 4.0, 4.0, 10.0], 8.2);
    }
}
