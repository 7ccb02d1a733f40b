//! `>` and `>=`: the value is above the threshold, or not below it.

use super::Condition;

pub(super) const ABOVE: Condition = Condition {
    symbol: ">",
    words: &["gt", "above"],
    of_range: false,
    holds: |value, bounds| value > bounds.lower,
    quiet: |bounds| (f64::NEG_INFINITY, bounds.upper),
    complement: "<=",
};

pub(super) const ABOVE_OR_EQUAL: Condition = Condition {
    symbol: ">=",
    words: &["ge", "gte", "above_or_equal"],
    of_range: false,
    holds: |value, bounds| value >= bounds.lower,
    quiet: |bounds| (f64::NEG_INFINITY, bounds.upper.next_down()),
    complement: "<",
};

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    #[test]
    fn above_excludes_the_threshold() {
        check(&ABOVE, &[(80.1, 80.0, true), (80.0, 80.0, false), (79.9, 80.0, false), (0.0, -0.0, false)]);
    }

    #[test]
    fn above_or_equal_includes_the_threshold() {
        check(
            &ABOVE_OR_EQUAL,
            &[(80.1, 80.0, true), (80.0, 80.0, true), (79.9, 80.0, false), (-0.0, 0.0, true)],
        );
    }
}
