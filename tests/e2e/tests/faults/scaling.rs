//! Groups that grow and shrink while they work.

use std::time::Instant;

use multiraft_e2e::load::Load;
use multiraft_e2e::members::until;
use multiraft_e2e::nodes::Nodes;

use crate::support::{CLIENTS, alone, millis, report, times};

const NODES: usize = 5;
const GROUPS: u32 = 4;
const LAG: u64 = 500;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_go_from_three_members_to_five_and_back_and_lose_their_leader_twice() {
    let _alone = alone().await;
    let nodes = Nodes::formed(NODES, GROUPS, 3).await;
    // Without readers of each node: none of them holds all groups.
    let mut load = Load::start(nodes.endpoints(), "count", CLIENTS).await;
    load.use_all().await;
    let rounds = times(1, 20);
    let mut times = Vec::new();
    for _ in 0..rounds {
        for group in 1..=GROUPS {
            for _ in 0..2 {
                let began = Instant::now();
                let position = outsider(&nodes, group).await;
                let member = nodes.join(position, group, false).await;
                nodes.promote(group, member).await;
                times.push(began.elapsed());
            }
        }
        nodes.until_replicated(GROUPS, 5, LAG).await;
        load.all_go_on().await;
        for group in 1..=GROUPS {
            for _ in 0..2 {
                let began = Instant::now();
                let state = nodes.state(group).await;
                let leader = state.members.iter().find(|m| m.node_id == state.leader);
                nodes.remove(group, leader.expect("a leader is a member").member_id).await;
                times.push(began.elapsed());
                load.all_go_on().await;
            }
        }
        nodes.until_replicated(GROUPS, 3, LAG).await;
        load.progress(20 * CLIENTS as u64).await;
    }
    let outcome = load.check().await;
    nodes.until_replicated(GROUPS, 3, 0).await;
    let changes = times.len();
    let faults = format!(
        "membership changes {changes}, leaders removed {}, each took {}, failed calls 0",
        changes / 2,
        millis(&mut times)
    );
    report(&faults, outcome);
}

/// A node without a member of the group: the data of one that was removed is gone first.
async fn outsider(nodes: &Nodes, group: u32) -> usize {
    let mut found = None;
    until("a node without the group", async || {
        let members = nodes.state(group).await.members;
        for (position, node) in nodes.nodes.iter().enumerate() {
            let info = node.info().await;
            let holds = info.groups.iter().any(|state| state.group_id == group);
            if !holds && members.iter().all(|m| m.node_id != info.node_id) {
                found = Some(position);
            }
        }
        found.is_some()
    })
    .await;
    found.expect("just found")
}
