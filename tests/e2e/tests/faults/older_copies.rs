//! A data directory put back as it was a while ago.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use multiraft_client::node_info;
use multiraft_client::v1::{GetInfoResponse, GroupPhase};
use multiraft_e2e::nodes::{Node, Nodes};

use crate::support::{BROKEN, CLIENTS, GROUPS, alone, group, leader, load, report};

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

/// Waits until a node on an older copy is refused: the groups that it closed, or none when it ended.
///
/// A defect: the leader goes on sending how much is committed, as of what the member once
/// acknowledged. When that arrives before the peer's word that the member went back, the raft library
/// panics, and the node ends instead of closing its groups.
async fn refused(node: &mut Node, enough: impl Fn(&[u32]) -> bool) -> Option<Vec<u32>> {
    let deadline = Instant::now() + Duration::from_secs(60);
    while Instant::now() < deadline {
        if let Some(status) = node.ended() {
            let log = node.log();
            let panicked = log.contains("to_commit") && log.contains("is out of range");
            assert!(status.code() == Some(BROKEN) && panicked, "{status}: {log}");
            println!("the node ended by the panic of a group");
            return None;
        }
        // Not served while it starts, and never again once it ended.
        if let Ok(info) = node_info(&node.address(), Duration::from_secs(1)).await {
            let closed = closed(&info);
            if enough(&closed) {
                return Some(closed);
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
    put_back(&mut nodes, follower, &older);
    let closed = refused(&mut nodes.nodes[follower], |closed| closed.contains(&group())).await;
    load.all_go_on().await;
    load.progress(100 * CLIENTS as u64).await;
    let outcome = load.check().await;
    let count = closed.map_or(0, |closed| closed.len());
    report(&format!("older copies of a follower 1, groups closed {count}"), outcome);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_on_an_older_copy_of_its_directory_does_no_harm_to_a_majority() {
    let _alone = alone().await;
    let mut nodes = Nodes::formed(3, GROUPS, 3).await;
    let load = load(&nodes).await;
    let leader = leader(&nodes).await;
    let older = copy(&nodes, leader);
    load.progress(300).await;
    assert_eq!(crate::support::leader(&nodes).await, leader, "nothing disturbed it");
    put_back(&mut nodes, leader, &older);
    // Of groups that it followed.
    let closed = refused(&mut nodes.nodes[leader], |closed| !closed.is_empty()).await;
    load.all_go_on().await;
    load.progress(100 * CLIENTS as u64).await;
    // A defect: a leader acknowledges to nobody, so no peer remembers how far its disk was, and it
    // votes again. Once peers remember, this group is closed as well.
    let closed = closed.unwrap_or_default();
    assert!(!closed.contains(&group()), "the defect is mended: wait until this group is closed");
    let outcome = load.check().await;
    report(&format!("older copies of a leader 1, groups closed {}", closed.len()), outcome);
}
