//! Planned absence under load: no call of a client fails.

use std::time::{Duration, Instant};

use multiraft_client::{node_service, v1};
use multiraft_e2e::load::Load;
use multiraft_e2e::nodes::{Node, Nodes};

const GROUPS: u32 = 32;
const CLIENTS: usize = 8;
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_is_drained_in_turn_and_no_client_notices() {
    let nodes = Nodes::formed(3, GROUPS, 3).await;
    let load = Load::start(nodes.endpoints(), "count", CLIENTS).await;
    for node in &nodes.nodes {
        load.progress(200).await;
        let started = Instant::now();
        while !drain(node, true).await.is_empty() {
            assert!(started.elapsed() < PATIENCE, "{:?}", drain(node, true).await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        println!("drained after {:?}", started.elapsed());
        load.progress(200).await;
        assert_eq!(led(node).await, 0, "nothing came back");
        assert_eq!(drain(node, false).await, [0; 0]);
    }
    // Whoever does not drain may lead again.
    load.check().await;
}

async fn drain(node: &Node, drain: bool) -> Vec<u32> {
    let request = v1::DrainRequest { drain, ..Default::default() };
    let path = "/atomix.multiraft.v1.Node/Drain";
    let answer: v1::DrainResponse =
        node_service(&node.address(), path, &request, PATIENCE).await.expect("the node answers");
    answer.led_groups
}

async fn led(node: &Node) -> usize {
    let info = node.info().await;
    info.groups.iter().filter(|group| group.leader == info.node_id).count()
}
