//! Disks that refuse a write or a sync.

use std::time::{Duration, Instant};

use multiraft_e2e::nodes::Nodes;

use crate::strace::{self, Injected};
use crate::support::{BROKEN, GROUPS, Said, alone, leader, load, report, times};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_disk_refuses_a_write_or_sync_stops_and_nothing_is_lost() {
    let _alone = alone().await;
    if !strace::is_there() {
        return;
    }
    let mut nodes = Nodes::formed(3, GROUPS, 3).await;
    let load = load(&nodes).await;
    let (points, mut slowest) = (times(12, 200), Duration::ZERO);
    for point in 0..points {
        let call = ["fdatasync", "write"][point as usize % 2];
        let nth = 1 + point / 2 * 3;
        // Every third point is for a follower.
        let position = (leader(&nodes).await + usize::from(point % 3 == 2)) % 3;
        let node = &mut nodes.nodes[position];
        let said = Said::from_now(node);
        let injected = Injected::into(node, &format!("{call}:error=EIO:when={nth}"));
        let started = Instant::now();
        let status = node.end().await;
        drop(injected);
        let took = started.elapsed();
        slowest = slowest.max(took);
        let named = said.line_with(node, "Input/output error");
        assert_eq!(status.code(), Some(BROKEN), "{call} {nth}: {named}");
        println!("{call} {nth} of node {position}, after {took:.1?}: {named}");
        load.all_go_on().await;
        nodes.nodes[position].start();
        nodes.nodes[position].info().await;
    }
    load.all_go_on().await;
    let outcome = load.check().await;
    report(&format!("failed writes and syncs {points}, slowest exit {slowest:.1?}"), outcome);
}
