//! One client's session.

use imbl::OrdSet;

use crate::commands::Commands;
use crate::digest::Digest;
use crate::limits::{
    SESSION_TIMEOUT_MILLIS_DEFAULT, SESSION_TIMEOUT_MILLIS_MAX, SESSION_TIMEOUT_MILLIS_MIN,
};
use crate::timers::Timer;

#[derive(Clone, Debug)]
pub struct Session {
    pub timeout_millis: u64,
    /// Re-armed by every keep-alive, and by nothing else.
    pub expiry: Timer,
    /// Primitives that this session created or found and has not closed.
    pub attached: OrdSet<u64>,
    pub commands: Commands,
}

impl Session {
    pub fn digest(&self, digest: &mut Digest) {
        let Self { timeout_millis, expiry, attached, commands } = self;
        digest.word(*timeout_millis);
        digest.timer(*expiry);
        digest.number(attached.len());
        attached.iter().for_each(|id| digest.word(*id));
        commands.digest(digest);
    }
}

/// The timeout that a session gets for the one that it asked for.
pub fn clamp_timeout(asked_millis: u64) -> u64 {
    if asked_millis == 0 {
        return SESSION_TIMEOUT_MILLIS_DEFAULT;
    }
    asked_millis.clamp(SESSION_TIMEOUT_MILLIS_MIN, SESSION_TIMEOUT_MILLIS_MAX)
}

/// A protobuf duration in whole milliseconds, rounded up.
pub fn duration_millis(seconds: i64, nanos: i32) -> Result<u64, &'static str> {
    if !(0..1_000_000_000).contains(&nanos) || seconds < 0 {
        return Err("must not be negative, and nanos below 1,000,000,000");
    }
    let millis = i128::from(seconds) * 1_000 + i128::from(nanos).div_euclid(1_000_000);
    let rest = i128::from(nanos % 1_000_000 != 0);
    Ok(u64::try_from(millis + rest).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::{Open, Waiter};
    use crate::digest::each_field_changes_the_digest;

    #[test]
    fn each_field_of_a_session_is_in_the_digest() {
        let open = Open { waiter: Waiter { origin: 1, number: 2 }, primitive_id: 3 };
        let session = Session {
            timeout_millis: 1,
            expiry: Timer { due: 2, id: 3 },
            attached: OrdSet::unit(4),
            commands: Commands::default(),
        };
        each_field_changes_the_digest!(session.clone(), Session::digest, Session {
            timeout_millis => *timeout_millis = 2,
            expiry => expiry.due = 3,
            attached => attached.insert(5),
            commands => commands.open(1, open),
        });
        each_field_changes_the_digest!(session, Session::digest, Session {
            timeout_millis => *timeout_millis = 0,
            expiry => expiry.id = 4,
            attached => attached.remove(&4),
            commands => commands.open(2, open),
        });
    }

    #[test]
    fn durations_round_up_to_milliseconds() {
        assert_eq!(duration_millis(0, 0), Ok(0));
        assert_eq!(duration_millis(0, 1), Ok(1));
        assert_eq!(duration_millis(1, 500_000_000), Ok(1_500));
        assert_eq!(duration_millis(i64::MAX, 999_999_999), Ok(u64::MAX));
        assert!(duration_millis(-1, 0).is_err());
        assert!(duration_millis(0, -1).is_err());
    }

    #[test]
    fn timeouts_are_clamped() {
        assert_eq!([0, 1, 30_000, u64::MAX].map(clamp_timeout), [60_000, 1_000, 30_000, 3_600_000]);
    }
}
