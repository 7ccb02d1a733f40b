//! How long a delivery waits after a failure: doubling, with jitter, or as long as the target asks.

use std::time::Duration;

use super::DeliveryConfig;

/// Pauses that grow with each failure in a row, from a seed: the same seed, the same pauses.
pub(super) struct Backoff {
    min: Duration,
    max: Duration,
    after_max: Duration,
    state: u64,
    failures: u32,
}

impl Backoff {
    pub(super) fn new(config: &DeliveryConfig) -> Self {
        Backoff {
            min: config.retry_min,
            max: config.retry_max.max(config.retry_min),
            after_max: config.retry_after_max,
            state: config.seed,
            failures: 0,
        }
    }

    /// The pause after one more failure: drawn evenly between `retry_min` and its double of the n-th
    /// failure, at most `retry_max`, so that senders that failed together come back apart ("full jitter":
    /// Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).
    /// A target's own wish is a lower bound, up to `retry_after_max`.
    pub(super) fn pause(&mut self, wish: Option<Duration>) -> Duration {
        let longest = self.min.saturating_mul(1 << self.failures.min(30)).min(self.max);
        self.failures = self.failures.saturating_add(1);
        let share = (self.draw() >> 11) as f64 / (1_u64 << 53) as f64;
        let pause = self.min + (longest - self.min).mul_f64(share);
        pause.max(wish.unwrap_or_default().min(self.after_max))
    }

    /// The next failure is a first one.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
    fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn backoff(seed: u64) -> Backoff {
        let config = DeliveryConfig {
            retry_min: 100 * MS,
            retry_max: 3_000 * MS,
            retry_after_max: 300_000 * MS,
            seed,
            ..DeliveryConfig::default()
        };
        Backoff::new(&config)
    }

    #[test]
    fn pauses_lie_between_the_shortest_and_the_doubled_one() {
        let mut spread = 0;
        for seed in 0..100 {
            let mut backoff = backoff(seed);
            for longest_ms in [100, 200, 400, 800, 1_600, 3_000, 3_000, 3_000] {
                let pause = backoff.pause(None);
                assert!(pause >= 100 * MS && pause <= longest_ms * MS, "{pause:?} of {longest_ms} ms");
                spread += u32::from(longest_ms == 3_000 && pause > 1_550 * MS);
            }
            assert!((0..100).all(|_| backoff.pause(None) <= 3_000 * MS));
            backoff.reset();
            assert_eq!(backoff.pause(None), 100 * MS);
        }
        assert!((100..200).contains(&spread), "{spread} of 300 in the upper half");
        let pauses = |seed| {
            let mut backoff = backoff(seed);
            [(); 5].map(|()| backoff.pause(None))
        };
        assert_eq!(pauses(7), pauses(7));
        assert_ne!(pauses(7), pauses(8));
    }

    #[test]
    fn what_the_target_asks_is_a_lower_bound_with_a_limit() {
        for (wish_s, expect_s) in [(7, 7), (300, 300), (301, 300), (u64::MAX, 300)] {
            let pause = backoff(1).pause(Some(Duration::from_secs(wish_s)));
            assert_eq!(pause, Duration::from_secs(expect_s));
        }
        assert_eq!(backoff(1).pause(Some(MS)), 100 * MS);
    }
}
