//! When commands were acknowledged, over all clients: the longest time in which none was.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Times are nanoseconds of the load's clock.
#[derive(Debug, Default)]
pub struct Pulse {
    last: AtomicU64,
    longest: AtomicU64,
    failed: AtomicU64,
}

impl Pulse {
    /// A command was acknowledged at this time. What comes before the first is no gap.
    pub fn acknowledged(&self, at: u64) {
        let before = self.last.fetch_max(at, Ordering::Relaxed);
        if before > 0 {
            self.longest.fetch_max(at.saturating_sub(before), Ordering::Relaxed);
        }
    }

    /// A call ended with an error: its client stops.
    pub fn failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    pub fn failures(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// The longest time between two acknowledgements; one that lasts still counts up to `now`.
    pub fn longest_gap(&self, now: u64) -> Duration {
        let lasting = now.saturating_sub(self.last.load(Ordering::Relaxed));
        Duration::from_nanos(self.longest.load(Ordering::Relaxed).max(lasting))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_time_without_an_acknowledgement_is_told() {
        let pulse = Pulse::default();
        for at in [1_000, 1_200, 1_900, 2_000] {
            pulse.acknowledged(at);
        }
        // Of two clients the later one may be counted first.
        pulse.acknowledged(1_950);
        assert_eq!(pulse.longest_gap(2_100), Duration::from_nanos(700));
        assert_eq!(pulse.longest_gap(9_000), Duration::from_nanos(7_000));
    }
}
