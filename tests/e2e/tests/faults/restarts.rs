//! Every node ends in order, and starts again, as in an upgrade.

use std::time::{Duration, Instant};

use multiraft_e2e::nodes::Nodes;

use crate::support::{GROUPS, alone, load, millis, report, times};
use crate::writers::{Writers, Written};

const LAG: u64 = 500;
/// Between two writes of a group's writer.
const PACE: Duration = Duration::from_millis(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_fails_while_all_nodes_restart_one_after_the_other() {
    let _alone = alone().await;
    let mut nodes = Nodes::formed(3, GROUPS, 3).await;
    let load = load(&nodes).await;
    load.pace(50).await;
    let rounds = times(2, 20);
    let (mut gaps, mut ends) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        for position in 0..3 {
            let other = nodes.nodes[(position + 1) % 3].address();
            let name = format!("steady-{}", gaps.len());
            let writers = Writers::start(other, &name, GROUPS, GROUPS, PACE).await;
            let node = &mut nodes.nodes[position];
            let asked = Instant::now();
            node.signal("TERM");
            let status = node.end().await;
            assert!(status.success(), "{status}: {}", node.log());
            // As long as a client has calls in flight the node is there to answer them.
            assert!(!node.log().contains("kept their calls open"), "{}", node.log());
            ends.push(asked.elapsed());
            node.start();
            nodes.until_replicated(GROUPS, 3, LAG).await;
            load.all_go_on().await;
            gaps.extend(writers.end().await.iter().map(Written::longest_gap));
        }
    }
    let outcome = load.check().await;
    let faults = format!(
        "restarts by SIGTERM {}, exit code 0 each, stopping took {}, longest time without an \
         acknowledgement per group and restart: {}, failed calls 0",
        3 * rounds,
        millis(&mut ends),
        millis(&mut gaps)
    );
    report(&faults, outcome);
}
