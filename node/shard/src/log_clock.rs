//! What time it is for a group: what its leader stamps on entries.

use crate::io::Now;
use crate::limits::LOG_TIME_SLACK;

/// Log time, carried on by this node's monotonic clock from the last stamp that it knows, and led
/// slowly to its wall clock. A wall clock that leaps would end every session at once, and one that
/// goes back would keep all of them for as long.
#[derive(Debug, Default)]
pub(crate) struct LogClock {
    /// The last stamp, in microseconds since the Unix epoch: entries come closer together than
    /// milliseconds. 0 = none yet.
    stamp: u64,
    /// When it was made or seen, by the monotonic clock.
    since: u64,
    /// Since when nobody is known to lead. It stands still then: no session can be kept alive.
    halted: Option<u64>,
}

impl LogClock {
    /// Before anybody leads.
    pub fn halted() -> Self {
        Self { halted: Some(0), ..Self::default() }
    }

    /// Milliseconds since the Unix epoch.
    pub fn millis(&self, now: Now) -> u64 {
        self.micros(now) / 1_000
    }

    fn micros(&self, now: Now) -> u64 {
        let wall = now.unix_millis.saturating_mul(1_000);
        if self.stamp == 0 {
            return wall;
        }
        let passed = self.halted.unwrap_or(now.micros).saturating_sub(self.since);
        let (pace, slack) = (self.stamp.saturating_add(passed), passed / LOG_TIME_SLACK);
        wall.clamp(pace - slack, pace.saturating_add(slack))
    }

    /// The leader's next stamp: now, or a little later than that where it must be.
    pub fn stamp(&mut self, at_least: u64, now: Now) -> u64 {
        self.stamp = self.micros(now);
        self.since = now.micros;
        self.follow(at_least, now);
        self.stamp / 1_000
    }

    /// Nobody is known to lead.
    pub fn halt(&mut self, now: Now) {
        self.halted.get_or_insert(now.micros);
    }

    /// Somebody leads.
    pub fn go_on(&mut self, now: Now) {
        if let Some(halted) = self.halted.take() {
            let passed = halted.saturating_sub(self.since);
            self.since = now.micros.saturating_sub(passed);
        }
    }

    /// Log time has come as far as this.
    pub fn follow(&mut self, log_time: u64, now: Now) {
        let log_time = log_time.saturating_mul(1_000);
        if log_time > self.stamp {
            (self.stamp, self.since) = (log_time, now.micros);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;
    const BEGAN: u64 = 500 * HOUR;

    /// Stamps every 100 microseconds for a second; by how many milliseconds log time went on.
    fn a_second_with(wall: impl Fn(u64) -> u64) -> u64 {
        let mut clock = LogClock::default();
        clock.follow(BEGAN, Now { micros: 7, unix_millis: 0 });
        let stamps = (0..=1_000_000).step_by(100).map(|micros| {
            clock.stamp(0, Now { micros: 7 + micros, unix_millis: wall(micros / 1_000) })
        });
        stamps.last().unwrap() - BEGAN
    }

    #[test]
    fn log_time_goes_by_the_wall_clock_at_about_the_pace_of_the_monotonic_one() {
        let slack = 1_000 / LOG_TIME_SLACK;
        for (passed, wanted) in [
            (a_second_with(|passed| BEGAN + passed), 1_000),
            (a_second_with(|passed| BEGAN + passed * 6 / 5), 1_200),
            (a_second_with(|passed| BEGAN + HOUR + passed), 1_000 + slack),
            (a_second_with(|passed| BEGAN - HOUR + passed), 1_000 - slack),
        ] {
            assert!(passed.abs_diff(wanted) <= 2, "{passed} ms, not {wanted}");
        }
    }

    #[test]
    fn time_without_a_leader_does_not_count() {
        let at = |millis: u64| Now { micros: 1_000 * millis, unix_millis: BEGAN + millis };
        let mut clock = LogClock::default();
        clock.follow(BEGAN, at(0));
        clock.halt(at(100));
        clock.halt(at(5_000));
        assert_eq!(clock.millis(at(9_000)), BEGAN + 100 + 100 / LOG_TIME_SLACK);
        clock.go_on(at(9_100));
        assert_eq!(clock.stamp(0, at(9_100)), BEGAN + 100 + 100 / LOG_TIME_SLACK);
        clock.halt(at(9_200));
        // What was stamped shortly before comes late.
        clock.follow(BEGAN + 300, at(9_300));
        clock.go_on(at(20_000));
        assert_eq!(clock.stamp(0, at(20_000)), BEGAN + 300);
    }

    #[test]
    fn the_first_stamp_of_a_group_is_the_wall_clock() {
        let now = Now { micros: 1, unix_millis: BEGAN };
        assert_eq!(LogClock::default().stamp(0, now), BEGAN);
    }

    #[test]
    fn a_stamp_is_never_behind_what_was_stamped() {
        let mut clock = LogClock::default();
        let now = Now { micros: 1, unix_millis: BEGAN };
        assert_eq!(clock.stamp(BEGAN + 5, now), BEGAN + 5);
        clock.follow(BEGAN + 2, now);
        assert_eq!(clock.stamp(0, now), BEGAN + 5);
    }
}
