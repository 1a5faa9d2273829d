//! Nodes that stand still: their connections stay, and nothing comes.

use std::time::{Duration, Instant};

use multiraft_client::{Cluster, Options, Routing};
use multiraft_e2e::nodes::Nodes;

use super::three;

/// A client that asks the first node for everything.
async fn through_first(nodes: &Nodes) -> Cluster {
    let options = Options::default().routing(Routing::InOrder);
    options.connect(nodes.endpoints()).await.expect("the nodes answer")
}

#[tokio::test]
async fn a_call_at_a_frozen_node_is_answered_through_another() {
    let nodes = three().await;
    let cluster = through_first(&nodes).await;
    let counter = cluster.counter("c");
    counter.increment(1).await.unwrap();
    nodes.nodes[0].signal("STOP");
    let began = Instant::now();
    for expected in 2..12 {
        assert_eq!(counter.increment(1).await.unwrap().value, expected, "once each");
    }
    println!("ten commands at a frozen node: {:?}", began.elapsed());
    nodes.nodes[0].signal("CONT");
    assert_eq!(counter.get().await.unwrap().value, 11);
}

/// The wait has no time of its own after which it would ask elsewhere.
const NEVER: Duration = Duration::from_secs(40);

#[tokio::test]
async fn a_wait_at_a_frozen_node_goes_on_at_another() {
    let nodes = three().await;
    let holder = Options::default().routing(Routing::InOrder);
    let holder = holder.connect([nodes.nodes[1].address()]).await.expect("it answers");
    let waiter = through_first(&nodes).await;
    let guard = holder.lock("l").acquire().await.unwrap();
    let wait = tokio::spawn({
        let lock = waiter.lock("l");
        async move { lock.acquire().await.unwrap() }
    });
    // Behind it in the queue, so it waits by now.
    let behind = waiter.lock("l").acquire_within(Duration::from_millis(100)).await;
    assert!(behind.expect_err("held").is_conflict());
    nodes.nodes[0].signal("STOP");
    let began = Instant::now();
    let token = guard.token();
    guard.release().await.unwrap();
    let granted =
        tokio::time::timeout(NEVER, wait).await.expect("granted through another").unwrap();
    println!("a wait at a frozen node was granted after {:?}", began.elapsed());
    assert!(granted.token() > token);
    nodes.nodes[0].signal("CONT");
    granted.release().await.unwrap();
}
