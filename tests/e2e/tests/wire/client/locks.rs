//! Who has a lock when clients end, give up, or are dropped.

use std::time::Duration;

use multiraft_client::{Cluster, Lock};

use super::{connect, three};

/// A wait that nothing but a lock held by nobody would need.
const LONG: Duration = Duration::from_secs(30);

/// Waits until somebody waits for the lock behind its holder: a try that does not wait tells nothing,
/// so one with a short wait goes behind it.
async fn waiting(
    cluster: &Cluster,
    lock: Lock,
) -> tokio::task::JoinHandle<multiraft_client::LockGuard> {
    let waiting = tokio::spawn(async move { lock.acquire().await.expect("granted in the end") });
    // What is behind it in the queue of the same connection has been seen after it.
    let behind = cluster.lock("l").acquire_within(Duration::from_millis(100)).await;
    assert!(behind.expect_err("held").is_conflict());
    waiting
}

#[tokio::test]
async fn a_lock_is_handed_over_when_its_holders_client_closes() {
    let nodes = three().await;
    let (first, second) = (connect(&nodes).await, connect(&nodes).await);
    let guard = first.lock("l").acquire().await.unwrap();
    let next = waiting(&second, second.lock("l")).await;
    assert!(!next.is_finished());

    first.close().await;

    let next = next.await.unwrap();
    assert!(next.token() > guard.token());
    guard.lost().await;
    assert!(guard.release().await.is_err(), "it has nothing to release");
    assert_eq!(second.lock("l").holder().await.unwrap().value, Some(next.token()));
}

#[tokio::test]
async fn a_dropped_guard_releases_the_lock() {
    let nodes = three().await;
    let (first, second) = (connect(&nodes).await, connect(&nodes).await);
    let guard = first.lock("l").acquire().await.unwrap();
    let token = guard.token();
    drop(guard);
    let next = second.lock("l").acquire_within(LONG).await.expect("released");
    assert!(next.token() > token);
    // Also on the keys of a map.
    drop(first.map("m").lock(["a", "b", "c"], None).await.unwrap());
    second
        .map("m")
        .lock(["c", "b", "a"], Some(LONG))
        .await
        .expect("unlocked")
        .unlock()
        .await
        .unwrap();
}

#[tokio::test]
async fn a_wait_that_was_given_up_leaves_the_lock_to_others() {
    let nodes = three().await;
    let (first, second) = (connect(&nodes).await, connect(&nodes).await);
    for round in 0..20 {
        let guard = first.lock("l").acquire_within(LONG).await.expect("free in the end");
        let dropped = tokio::spawn({
            let lock = second.lock("l");
            async move { lock.acquire().await }
        });
        // At any stage: before it is sent, while it waits, while it is granted.
        tokio::time::sleep(Duration::from_millis(round)).await;
        let (released, ()) = tokio::join!(guard.release(), async { dropped.abort() });
        released.unwrap_or_else(|error| panic!("round {round}: {error}"));
        let next = first.lock("l").acquire_within(LONG).await;
        let next = next.unwrap_or_else(|error| panic!("round {round}: nobody has it: {error}"));
        next.release().await.unwrap();
    }
}

#[tokio::test]
async fn leadership_goes_to_the_next_candidate_when_a_client_closes() {
    let nodes = three().await;
    let (first, second) = (connect(&nodes).await, connect(&nodes).await);
    let leads = first.election("e").campaign("a").await.unwrap();
    let next = tokio::spawn({
        let election = second.election("e");
        async move { election.campaign("b").await.unwrap() }
    });
    while !second.election("e").term().await.unwrap().value.has("b") {}

    first.close().await;

    leads.lost().await;
    let next = next.await.unwrap();
    assert!(next.token() > leads.token());
    // Evicted by somebody: the term is over.
    second.election("e").evict("b").await.unwrap();
    next.lost().await;
}
