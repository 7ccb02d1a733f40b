//! Counters that may start again from zero: the increase between two readings.

/// How much a counter grew from `before` to `after`, its next reading in event time. A reading below
/// the previous one means a reset: the counter began again at zero (as Prometheus reads it).
#[inline]
pub fn step(before: f64, after: f64) -> f64 {
    if after >= before { after - before } else { after }
}

#[cfg(test)]
mod tests {
    use super::step;

    #[test]
    fn a_fall_is_a_reset() {
        for (before, after, grown) in [(1.0, 4.0, 3.0), (4.0, 4.0, 0.0), (100.0, 7.0, 7.0), (5.0, 0.0, 0.0)] {
            assert_eq!(step(before, after), grown);
        }
    }
}
