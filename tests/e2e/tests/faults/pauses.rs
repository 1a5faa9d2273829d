//! Nodes that stand still for a while and know nothing of it.

use std::time::Duration;

use multiraft_e2e::nodes::Nodes;

use crate::support::{GROUPS, alone, leader, load, report, times};

/// Shorter than an election, longer than one, and longer than clients wait for one node.
const PAUSES: [Duration; 3] =
    [Duration::from_millis(300), Duration::from_secs(3), Duration::from_secs(12)];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_stood_still_answers_no_stale_read() {
    let _alone = alone().await;
    let nodes = Nodes::formed(3, GROUPS, 3).await;
    let load = load(&nodes).await;
    let rounds = times(1, 20);
    for round in 0..rounds {
        for pause in PAUSES {
            let leader = leader(&nodes).await;
            nodes.nodes[leader].signal("STOP");
            tokio::time::sleep(pause).await;
            nodes.nodes[leader].signal("CONT");
            let gap = load.all_go_on().await;
            println!("round {round}: node {leader} stood for {pause:?}, then all went on {gap:?}");
        }
    }
    load.progress(100).await;
    let outcome = load.check().await;
    // Reads that began while a leader stood still are the ones that could be stale.
    assert!(outcome.late > 0, "no read was waiting when a leader went on");
    report(&format!("pauses of a leader {}, reads they met {}", 3 * rounds, outcome.late), outcome);
}
