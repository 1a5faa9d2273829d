//! More nodes than copies: most nodes hold only some of the groups.

use std::time::Duration;

use multiraft_client::{Options, position};

use multiraft_e2e::nodes::Nodes;

const GROUPS: u32 = 16;
const INCREMENTS: i64 = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_takes_every_command_also_for_groups_that_it_does_not_hold() {
    let nodes = Nodes::formed(5, GROUPS, 3).await;
    let counters = one_for_each_group();
    for node in &nodes.nodes {
        assert!(node.info().await.groups.len() < GROUPS as usize, "a node holds only some groups");
        let only_here = Options::default()
            .timeout(Duration::from_secs(60))
            .only_endpoints()
            .groups(GROUPS as usize)
            .connect([node.address()])
            .await
            .expect("the node answers");
        for name in &counters {
            for _ in 0..INCREMENTS {
                only_here.counter(name).increment(1).await.expect("any node takes any command");
            }
        }
        only_here.close().await;
    }
    let cluster = Options::default().connect(nodes.endpoints()).await.expect("all answer");
    for name in &counters {
        let value = cluster.counter(name).get().await.expect("readable").value;
        assert_eq!(value, INCREMENTS * nodes.nodes.len() as i64, "counter {name}");
    }
    cluster.close().await;
}

/// Names of counters, the first for the first group and so on.
fn one_for_each_group() -> Vec<String> {
    let name = |group| {
        let mut names = (0..).map(|n| format!("counter-{n}"));
        names.find(|name| position(name.as_bytes(), GROUPS as usize) == group)
    };
    (0..GROUPS as usize).filter_map(name).collect()
}
