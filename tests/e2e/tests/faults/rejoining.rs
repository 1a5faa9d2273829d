//! A node that lost its disk, and the disk that comes back too late.

use std::time::{Duration, Instant};

use multiraft_client::{Options, node_info, v1};
use multiraft_e2e::members::until;
use multiraft_e2e::nodes::Nodes;

use crate::support::{CLIENTS, GROUPS, alone, closed, copy, exchange, leader, load, report};

/// Entries that a member may be behind while commands run.
const LAG: u64 = 500;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_killed_its_directory_wiped_and_it_joins_again_under_new_member_ids() {
    let _alone = alone().await;
    let mut nodes = Nodes::formed(3, GROUPS, 3).await;
    let load = load(&nodes).await;
    let (most, rate) = load.pace(50).await;
    let wiped = leader(&nodes).await;
    let older = copy(&nodes, wiped);
    load.progress(200).await;
    let before = nodes.nodes[wiped].info().await;

    let began = Instant::now();
    exchange(&mut nodes.nodes[wiped], None);
    let after = nodes.nodes[wiped].info().await;
    assert_ne!(after.node_id, before.node_id, "another directory is another node");
    for member in &before.groups {
        nodes.remove(member.group_id, member.member_id).await;
        nodes.join(wiped, member.group_id, true).await;
    }
    nodes.until_replicated(GROUPS, 3, LAG).await;
    let replicated = began.elapsed();
    load.all_go_on().await;

    // The volume that was lost turns up again: nobody there is a member of anything.
    let newer = nodes.folder.path().join("newer");
    nodes.nodes[wiped].kill();
    nodes.nodes[wiped].wait();
    std::fs::rename(nodes.nodes[wiped].data(), &newer).expect("nobody uses it");
    std::fs::rename(&older, nodes.nodes[wiped].data()).expect("same file system");
    nodes.nodes[wiped].start();
    let mut refused = 0;
    until("the old directory is refused", async || {
        let address = nodes.nodes[wiped].address();
        let Ok(info) = node_info(&address, Duration::from_secs(1)).await else { return false };
        assert_eq!(info.node_id, before.node_id);
        refused = closed(&info).len();
        let leads = |g: &v1::GroupState| g.leader == info.node_id;
        assert!(!info.groups.iter().any(leads), "a member that was removed leads: {info:?}");
        refused == info.groups.len()
    })
    .await;
    load.progress(100 * CLIENTS as u64).await;

    exchange(&mut nodes.nodes[wiped], Some(&newer));
    nodes.until_replicated(GROUPS, 3, LAG).await;
    load.all_go_on().await;
    let outcome = load.check().await;
    nodes.until_replicated(GROUPS, 3, 0).await;
    same_state(&nodes).await;
    let faults = format!(
        "wiped nodes 1, groups joined {GROUPS}, fully replicated after {:.1} s, old directories \
         refused 1 (groups closed {refused}, left {}), increments/s {rate:.0} of {most:.0}",
        replicated.as_secs_f64(),
        before.groups.len() - refused,
    );
    report(&faults, outcome);
}

/// Every node's own state holds as much as the others'.
async fn same_state(nodes: &Nodes) {
    let mut sizes = Vec::new();
    for node in &nodes.nodes {
        let options = Options::default().only_endpoints().groups(GROUPS as usize);
        let cluster = options.connect([node.address()]).await.expect("the node answers");
        let entries = cluster.map("count-entries").local().size().await.expect("countable");
        let count = cluster.counter("count").local().get().await.expect("readable");
        sizes.push((entries.value, count.value));
        cluster.close().await;
    }
    assert!(sizes.iter().all(|size| *size == sizes[0]), "{sizes:?}");
}
