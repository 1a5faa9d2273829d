//! A data directory put back as it was a while ago.

use std::time::{Duration, Instant};

use multiraft_client::node_info;
use multiraft_e2e::nodes::{Node, Nodes};

use crate::support::{CLIENTS, GROUPS, alone, closed, copy, exchange, group, leader, load, report};

/// What peers remember of a member's disk is at most this old: told each second, and written within
/// the next.
const REMEMBERED: Duration = Duration::from_secs(3);

/// Waits until a node on an older copy has closed the counter's group, and has said so; returns all
/// that it closed.
async fn refused(node: &mut Node) -> Vec<u32> {
    let deadline = Instant::now() + Duration::from_secs(60);
    while Instant::now() < deadline {
        assert_eq!(node.ended(), None, "{}", node.log());
        // Not served while it starts, and never again once it ended.
        if let Ok(info) = node_info(&node.address(), Duration::from_secs(1)).await {
            let closed = closed(&info);
            let said = node.log().contains("the member is closed: replace it");
            if closed.contains(&group()) && said {
                return closed;
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the groups go on, on the older copy");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_on_an_older_copy_of_its_directory_is_refused_by_its_peers() {
    let _alone = alone().await;
    let mut nodes = Nodes::formed(3, GROUPS, 3).await;
    let load = load(&nodes).await;
    let follower = (leader(&nodes).await + 1) % 3;
    let older = copy(&nodes, follower);
    load.progress(300).await;
    tokio::time::sleep(REMEMBERED).await;
    exchange(&mut nodes.nodes[follower], Some(&older));
    let closed = refused(&mut nodes.nodes[follower]).await;
    load.all_go_on().await;
    load.progress(100 * CLIENTS as u64).await;
    let outcome = load.check().await;
    report(&format!("older copies of a follower 1, groups closed {}", closed.len()), outcome);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_on_an_older_copy_of_its_directory_is_refused_by_its_peers() {
    let _alone = alone().await;
    let mut nodes = Nodes::formed(3, GROUPS, 3).await;
    let load = load(&nodes).await;
    let leader = leader(&nodes).await;
    let older = copy(&nodes, leader);
    load.progress(300).await;
    tokio::time::sleep(REMEMBERED).await;
    assert_eq!(crate::support::leader(&nodes).await, leader, "nothing disturbed it");
    exchange(&mut nodes.nodes[leader], Some(&older));
    let closed = refused(&mut nodes.nodes[leader]).await;
    load.all_go_on().await;
    load.progress(100 * CLIENTS as u64).await;
    let outcome = load.check().await;
    report(&format!("older copies of a leader 1, groups closed {}", closed.len()), outcome);
}
