//! How long to wait before the next attempt: doubling, with jitter, or as long as the receiver asks.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, SystemTime};

/// Waits that double from a shortest to a longest one. Each is drawn from its upper half, so that
/// many senders that failed together don't come back together.
pub(super) struct Backoff {
    min: Duration,
    max: Duration,
    state: u64,
}

impl Backoff {
    /// Without a seed, every process draws other waits.
    pub(super) fn new(min: Duration, max: Duration, seed: Option<u64>) -> Self {
        Backoff { min, max, state: seed.unwrap_or_else(|| RandomState::new().build_hasher().finish()) }
    }

    /// The wait after the failed attempt number `attempt`, from 0.
    pub(super) fn wait(&mut self, attempt: u32) -> Duration {
        let full = self.min.saturating_mul(2_u32.saturating_pow(attempt)).min(self.max);
        let share = (self.draw() >> 11) as f64 / (1_u64 << 53) as f64;
        full.mul_f64(0.5 + share / 2.0)
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

/// The wait that a `Retry-After` asks for (RFC 9110, 10.2.3): seconds, or a date. A date in the past
/// is no wait, and what is neither says nothing.
pub(super) fn retry_after(header: &str, now: SystemTime) -> Option<Duration> {
    let header = header.trim();
    if let Ok(seconds) = header.parse::<u32>() {
        return Some(Duration::from_secs(seconds.into()));
    }
    let at = SystemTime::from(jiff::fmt::rfc2822::parse(header).ok()?.timestamp());
    Some(at.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_within_their_bounds_and_differ() {
        let (min, max) = (Duration::from_millis(100), Duration::from_secs(3));
        let waits = |seed| {
            let mut backoff = Backoff::new(min, max, seed);
            [0, 1, 2, 3, 4, 5, 40, u32::MAX].map(|attempt| backoff.wait(attempt))
        };
        for (wait, full_ms) in waits(Some(7)).into_iter().zip([100, 200, 400, 800, 1600, 3000, 3000, 3000]) {
            let full = Duration::from_millis(full_ms);
            assert!(wait >= full / 2 && wait <= full, "{wait:?} of {full:?}");
        }
        assert_eq!(waits(Some(7)), waits(Some(7)));
        assert_ne!(waits(Some(7)), waits(Some(8)));
        assert_ne!(waits(None), waits(None));
    }

    #[test]
    fn reads_what_a_receiver_asks_for() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_445_412_470);
        for (header, expect_s) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("Wed, 21 Oct 2015 07:28:00 GMT", Some(10)),
            ("Wed, 21 Oct 2015 07:00:00 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
            ("", None),
        ] {
            assert_eq!(retry_after(header, now), expect_s.map(Duration::from_secs), "{header}");
        }
    }
}
