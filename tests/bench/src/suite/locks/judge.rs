//! Whether locks have one holder at a time: by what clients sent and received, and nothing else.
//!
//! A session holds a lock from when it received the grant until it sends what gives the lock up, or
//! until the cluster may have ended it. Grants are told in the order in which they were received; a
//! later one of the same lock can have been made only after the earlier one was given up, so tokens
//! have to grow in this order.

use std::rc::Rc;

use tokio::time::Instant;

use crate::session::Life;

#[derive(Default)]
pub struct Judge {
    /// The newest grant of each lock.
    locks: Vec<Option<Grant>>,
}

struct Grant {
    token: u64,
    life: Rc<Life>,
    given_up: bool,
}

impl Judge {
    pub fn new(locks: usize) -> Self {
        Self { locks: (0..locks).map(|_| None).collect() }
    }

    /// A session has received a grant. The error names lock, sessions and tokens.
    pub fn granted(
        &mut self,
        lock: usize,
        token: u64,
        life: &Rc<Life>,
        now: Instant,
    ) -> Result<(), String> {
        let session = life.session;
        if let Some(last) = &self.locks[lock] {
            let (before, other) = (last.token, last.life.session);
            if token == before || (token < before && !life.may_be_over(now)) {
                return Err(format!(
                    "lock {lock}: session {session} has token {token} after session {other} had {before}"
                ));
            }
            if token < before {
                return Ok(());
            }
            if !last.given_up && !last.life.may_be_over(now) {
                return Err(format!(
                    "lock {lock}: session {other} with token {before} and session {session} with token {token} hold it at once"
                ));
            }
        }
        self.locks[lock] = Some(Grant { token, life: life.clone(), given_up: false });
        Ok(())
    }

    /// A session is about to send what gives the lock up.
    pub fn gives_up(&mut self, lock: usize, token: u64) {
        if let Some(last) = self.locks[lock].as_mut().filter(|last| last.token == token) {
            last.given_up = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const TIMEOUT: Duration = Duration::from_secs(10);

    fn life(session: u64, kept: Instant) -> Rc<Life> {
        Life::new(session, TIMEOUT, kept)
    }

    #[test]
    fn a_lock_that_is_given_up_may_have_another_holder() {
        let (mut judge, now) = (Judge::new(1), Instant::now());
        let (a, b) = (life(1, now), life(2, now));
        judge.granted(0, 5, &a, now).unwrap();
        judge.gives_up(0, 5);
        judge.granted(0, 6, &b, now).unwrap();
        b.closed.set(true);
        judge.granted(0, 9, &a, now).unwrap();
    }

    #[test]
    fn two_holders_at_once_are_named() {
        let (mut judge, now) = (Judge::new(4), Instant::now());
        judge.granted(3, 5, &life(1, now), now).unwrap();
        let second = judge.granted(3, 6, &life(2, now), now + TIMEOUT / 2).unwrap_err();
        let expected = "lock 3: session 1 with token 5 and session 2 with token 6 hold it at once";
        assert_eq!(second, expected);
    }

    #[test]
    fn what_another_grant_gave_up_frees_nobody() {
        let (mut judge, now) = (Judge::new(1), Instant::now());
        judge.granted(0, 5, &life(1, now), now).unwrap();
        judge.gives_up(0, 4);
        judge.granted(0, 6, &life(2, now), now).unwrap_err();
    }

    #[test]
    fn a_session_that_may_have_expired_may_be_followed() {
        let (mut judge, now) = (Judge::new(1), Instant::now());
        judge.granted(0, 5, &life(1, now), now).unwrap();
        let soonest = now + TIMEOUT * 4 / 5;
        judge.granted(0, 6, &life(2, soonest), soonest - Duration::from_millis(1)).unwrap_err();
        judge.granted(0, 6, &life(2, soonest), soonest).unwrap();
    }

    #[test]
    fn tokens_that_do_not_grow_are_named() {
        for token in [4, 5] {
            let (mut judge, now) = (Judge::new(1), Instant::now());
            judge.granted(0, 5, &life(1, now), now).unwrap();
            judge.gives_up(0, 5);
            let second = judge.granted(0, token, &life(2, now), now).unwrap_err();
            let expected = format!("lock 0: session 2 has token {token} after session 1 had 5");
            assert_eq!(second, expected);
        }
    }

    #[test]
    fn a_grant_that_comes_late_to_a_session_that_is_over_counts_for_nothing() {
        let (mut judge, now) = (Judge::new(1), Instant::now());
        let later = now + TIMEOUT;
        judge.granted(0, 5, &life(2, later), later).unwrap();
        judge.granted(0, 4, &life(1, now), later).unwrap();
        judge.granted(0, 6, &life(3, later), later).unwrap_err();
    }
}
