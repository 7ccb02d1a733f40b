//! `<` and `<=`: the value is below the threshold, or not above it.

use super::Condition;

pub(super) const BELOW: Condition = Condition {
    symbol: "<",
    words: &["lt", "below"],
    of_range: false,
    holds: |value, bounds| value < bounds.lower,
    quiet: |bounds| (bounds.lower, f64::INFINITY),
    complement: ">=",
};

pub(super) const BELOW_OR_EQUAL: Condition = Condition {
    symbol: "<=",
    words: &["le", "lte", "below_or_equal"],
    of_range: false,
    holds: |value, bounds| value <= bounds.lower,
    quiet: |bounds| (bounds.lower.next_up(), f64::INFINITY),
    complement: ">",
};

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    #[test]
    fn below_excludes_the_threshold() {
        check(&BELOW, &[(59.9, 60.0, true), (60.0, 60.0, false), (60.1, 60.0, false), (-0.0, 0.0, false)]);
    }

    #[test]
    fn below_or_equal_includes_the_threshold() {
        check(
            &BELOW_OR_EQUAL,
            &[(59.9, 60.0, true), (60.0, 60.0, true), (60.1, 60.0, false), (0.0, -0.0, true)],
        );
    }
}
