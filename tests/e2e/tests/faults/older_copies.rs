//! A data directory put back as it was a while ago.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use multiraft_client::node_info;
use multiraft_client::v1::{GetInfoResponse, GroupPhase};
use multiraft_e2e::nodes::{Node, Nodes};

use crate::support::{CLIENTS, GROUPS, alone, group, leader, load, report};

/// Copies the directory of a node that stands still: what a volume's snapshot is.
fn copy(nodes: &Nodes, position: usize) -> PathBuf {
    let older = nodes.folder.path().join(format!("older-{position}"));
    nodes.nodes[position].signal("STOP");
    duplicate(&nodes.nodes[position].data(), &older);
    nodes.nodes[position].signal("CONT");
    older
}

fn duplicate(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("writable");
    for entry in fs::read_dir(from).expect("readable").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            duplicate(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("can be copied");
        }
    }
}

/// Kills the node and starts it on the older copy.
fn put_back(nodes: &mut Nodes, position: usize, older: &Path) {
    let node = &mut nodes.nodes[position];
    node.kill();
    node.wait();
    fs::remove_dir_all(node.data()).expect("nobody uses it");
    fs::rename(older, node.data()).expect("same file system");
    node.start();
}

fn closed(info: &GetInfoResponse) -> Vec<u32> {
    let closed = info.groups.iter().filter(|g| g.phase() == GroupPhase::RolledBack);
    closed.map(|g| g.group_id).collect()
}

/// What peers remember of a member's disk is at most this old: told each second, and written within
/// the next.
const REMEMBERED: Duration = Duration::from_secs(3);

/// Waits until a node on an older copy has closed the counter's group; returns all that it closed.
async fn refused(node: &mut Node) -> Vec<u32> {
    let deadline = Instant::now() + Duration::from_secs(60);
    while Instant::now() < deadline {
        assert_eq!(node.ended(), None, "{}", node.log());
        // Not served while it starts, and never again once it ended.
        if let Ok(info) = node_info(&node.address(), Duration::from_secs(1)).await {
            let closed = closed(&info);
            if closed.contains(&group()) {
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
    put_back(&mut nodes, follower, &older);
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
    put_back(&mut nodes, leader, &older);
    let closed = refused(&mut nodes.nodes[leader]).await;
    load.all_go_on().await;
    load.progress(100 * CLIENTS as u64).await;
    let outcome = load.check().await;
    report(&format!("older copies of a leader 1, groups closed {}", closed.len()), outcome);
}
