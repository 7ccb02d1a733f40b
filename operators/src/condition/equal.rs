//! `==` and `!=`: the value is the threshold, or is not. Zero equals minus zero.

use super::{Condition, NOWHERE};

pub(super) const EQUAL: Condition = Condition {
    symbol: "==",
    words: &["=", "eq", "equal"],
    of_range: false,
    holds: |value, bounds| value == bounds.lower,
    quiet: |_| NOWHERE,
    complement: "!=",
};

pub(super) const NOT_EQUAL: Condition = Condition {
    symbol: "!=",
    words: &["<>", "ne", "neq", "not_equal"],
    of_range: false,
    holds: |value, bounds| value != bounds.lower,
    quiet: |bounds| (bounds.lower, bounds.lower),
    complement: "==",
};

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    #[test]
    fn equal_has_no_tolerance() {
        check(&EQUAL, &[(1.0, 1.0, true), (0.1 + 0.2, 0.3, false), (-0.0, 0.0, true), (2.0, 1.0, false)]);
    }

    #[test]
    fn not_equal_has_no_tolerance() {
        check(&NOT_EQUAL, &[(1.0, 1.0, false), (0.1 + 0.2, 0.3, true), (-0.0, 0.0, false), (2.0, 1.0, true)]);
    }
}
