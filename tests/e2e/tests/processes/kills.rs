//! Nodes that end without a word.

use std::time::Instant;

use multiraft_client::position;
use multiraft_e2e::load::Load;

use multiraft_e2e::nodes::Nodes;

const GROUPS: u32 = 16;
const CLIENTS: usize = 8;
const NAME: &str = "count";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_command_takes_effect_once_while_leaders_are_killed() {
    let mut nodes = Nodes::formed(3, GROUPS, 3).await;
    let load = Load::start(nodes.endpoints(), NAME, CLIENTS).await;
    let group = position(NAME.as_bytes(), GROUPS as usize) as u32 + 1;
    for _ in 0..3 {
        load.progress(500).await;
        let leader = nodes.leader(group).await;
        nodes.nodes[leader].kill();
        nodes.nodes[leader].wait();
        let gap = load.all_go_on().await;
        println!("leader killed; all clients went on after {gap:?}");
        load.progress(500).await;
        nodes.nodes[leader].start();
        nodes.nodes[leader].info().await;
    }
    load.progress(500).await;
    load.check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_all_nodes_are_killed_at_once() {
    let mut nodes = Nodes::formed(3, GROUPS, 3).await;
    let load = Load::start(nodes.endpoints(), NAME, CLIENTS).await;
    for _ in 0..10 {
        load.progress(200).await;
        let killed = Instant::now();
        for node in &mut nodes.nodes {
            node.kill();
        }
        for node in &mut nodes.nodes {
            node.wait();
            node.start();
        }
        load.all_go_on().await;
        println!("all killed; all clients went on after {:?}", killed.elapsed());
    }
    load.check().await;
}
