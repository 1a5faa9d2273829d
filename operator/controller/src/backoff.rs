//! Delays that double up to a cap, with jitter so that many waiters do not come back at once.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// The delay grows from `min` to `max`; a success resets it.
#[derive(Debug, Clone)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    pub fn new(min: Duration, max: Duration) -> Self {
        Self { min, max, failures: 0 }
    }

    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// The next delay: never above `max`, at least half of the unjittered value.
    pub fn next(&mut self) -> Duration {
        let full = doubled(self.min, self.max, self.failures);
        self.failures = self.failures.saturating_add(1);
        jittered(full, 0.5)
    }
}

fn doubled(min: Duration, max: Duration, times: u32) -> Duration {
    let factor = 1u32.checked_shl(times).unwrap_or(u32::MAX);
    min.checked_mul(factor).map_or(max, |d| d.min(max))
}

/// `full`, less a random part of at most `share` of it.
pub fn jittered(full: Duration, share: f64) -> Duration {
    // A fresh RandomState is seeded per instance; its hash of nothing is a random number.
    let random = RandomState::new().hash_one(0u8);
    let unit = (random >> 11) as f64 / (1u64 << 53) as f64;
    full.mul_f64(1.0 - share * unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_and_stay_under_the_cap() {
        let (min, max) = (Duration::from_secs(1), Duration::from_secs(60));
        let full: Vec<u64> = (0..8).map(|n| doubled(min, max, n).as_secs()).collect();
        assert_eq!(full, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(doubled(min, max, 500), max);
        let mut backoff = Backoff::new(min, max);
        for _ in 0..100 {
            let delay = backoff.next();
            assert!(delay >= min / 2 && delay <= max);
        }
    }
}
