//! A lock that clients take and give back in turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use multiraft_client::{Cluster, Lock};
use tokio::task::JoinHandle;

use super::{FLOOR, PAUSE};

const HELD: Duration = Duration::from_millis(2);

/// The lock was held. Times are in nanoseconds since the load began: from when the holder knew of it
/// to when it began to give it back.
#[derive(Clone, Copy, Debug)]
pub struct Grant {
    pub token: u64,
    pub from: u64,
    pub to: u64,
}

pub fn contend(
    cluster: &Cluster,
    name: &str,
    epoch: Instant,
    stop: &Arc<AtomicBool>,
) -> JoinHandle<Vec<Grant>> {
    tokio::spawn(take_turns(cluster.lock(format!("{name}-lock")), epoch, stop.clone()))
}

async fn take_turns(lock: Lock, epoch: Instant, stop: Arc<AtomicBool>) -> Vec<Grant> {
    let mut grants = Vec::new();
    while !stop.load(Ordering::Relaxed) || grants.len() < FLOOR {
        let guard = lock.acquire().await.expect("it is waited for until it is granted");
        let from = epoch.elapsed().as_nanos() as u64;
        tokio::time::sleep(HELD).await;
        let to = epoch.elapsed().as_nanos() as u64;
        grants.push(Grant { token: guard.token().0, from, to });
        guard.release().await.expect("it is retried to an answer");
        tokio::time::sleep(PAUSE).await;
    }
    grants
}

/// Never two holders, and each has a higher token than the one before.
pub fn judge(mut grants: Vec<Grant>) -> u64 {
    grants.sort_by_key(|grant| grant.from);
    for pair in grants.windows(2) {
        let [first, second] = [pair[0], pair[1]];
        assert!(first.to <= second.from, "lock: two holders: {first:?} and {second:?}");
        assert!(first.token < second.token, "lock: {second:?} comes after {first:?}");
    }
    grants.len() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_refused(grants: [(u64, u64, u64); 2]) -> bool {
        let grants = grants.map(|(token, from, to)| Grant { token, from, to });
        std::panic::catch_unwind(|| judge(grants.to_vec())).is_err()
    }

    #[test]
    fn two_holders_at_a_time_and_tokens_that_do_not_grow_are_refused() {
        assert!(!is_refused([(1, 10, 20), (2, 20, 30)]));
        assert!(!is_refused([(2, 20, 30), (1, 10, 20)]));
        assert!(is_refused([(1, 10, 20), (2, 19, 30)]));
        assert!(is_refused([(2, 10, 20), (2, 20, 30)]));
        assert!(is_refused([(3, 10, 20), (2, 20, 30)]));
    }
}
