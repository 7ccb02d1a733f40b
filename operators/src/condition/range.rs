//! `outside` and `inside`: the value is out of a range, or in it. Both ends belong to the range.

use super::{Condition, NOWHERE};

pub(super) const OUTSIDE: Condition = Condition {
    symbol: "outside",
    words: &["outside_range", "not_between"],
    of_range: true,
    holds: |value, bounds| value < bounds.lower || value > bounds.upper,
    quiet: |bounds| (bounds.lower, bounds.upper),
    complement: "inside",
};

pub(super) const INSIDE: Condition = Condition {
    symbol: "inside",
    words: &["inside_range", "within_range", "between"],
    of_range: true,
    holds: |value, bounds| (bounds.lower..=bounds.upper).contains(&value),
    quiet: |_| NOWHERE,
    complement: "outside",
};

#[cfg(test)]
mod tests {
    use super::super::Bounds;
    use super::*;

    #[test]
    fn both_ends_are_inside() {
        let range = Bounds { lower: 10.0, upper: 20.0 };
        for (value, inside) in [(9.9, false), (10.0, true), (15.0, true), (20.0, true), (20.1, false)] {
            assert_eq!((INSIDE.holds)(value, range), inside, "{value}");
            assert_eq!((OUTSIDE.holds)(value, range), !inside, "{value}");
        }
    }
}
