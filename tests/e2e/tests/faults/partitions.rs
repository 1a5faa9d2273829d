//! Nodes that do not hear each other.

use std::time::Duration;

use multiraft_e2e::proxy::{Fault, Network};

use crate::support::{alone, leader, load, proxied, report, times};

/// Who does not hear whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    /// Neither the leader the others, nor they the leader.
    Full,
    /// The others do not hear the leader.
    Out,
    /// The leader does not hear the others.
    In,
    /// Connections end, to and from the leader, over and over.
    Flapping,
}

/// The faults of a cut between one node and the others.
fn cut(network: &Network, ids: &[u64], alone: usize, outward: bool, inward: bool, fault: Fault) {
    for other in ids.iter().filter(|id| **id != ids[alone]) {
        if outward {
            network.fail(ids[alone], *other, fault);
        }
        if inward {
            network.fail(*other, ids[alone], fault);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_client_goes_on_after_partitions_around_the_leader() {
    let _alone = alone().await;
    let (nodes, network, ids) = proxied(&[]).await;
    let load = load(&nodes).await;
    let mut counts = [0; 4];
    for round in 0..times(6, 200) {
        let kind = [Cut::Out, Cut::In, Cut::Full, Cut::Flapping][round as usize % 4];
        let (leader, before) = (leader(&nodes).await, network.hits());
        match kind {
            Cut::Flapping => {
                for _ in 0..5 {
                    cut(&network, &ids, leader, true, true, Fault::Reset);
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    network.heal();
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
            _ => {
                let (outward, inward) = (kind != Cut::In, kind != Cut::Out);
                cut(&network, &ids, leader, outward, inward, Fault::Silence);
                // Only the others can answer now, and only when they have a leader.
                load.progress(50).await;
            }
        }
        network.heal();
        let gap = load.all_go_on().await;
        assert!(network.hits() > before, "{kind:?}: nothing was sent meanwhile");
        println!("{kind:?} around node {leader}: all clients went on {gap:?} after it");
        counts[kind as usize] += 1;
    }
    let outcome = load.check().await;
    let [full, out, inward, flapping] = counts;
    assert!(full + out + inward + flapping >= times(6, 200), "{counts:?}");
    let one_way = out + inward;
    let faults = format!("one-way partitions {one_way}, full {full}, flapping {flapping}");
    report(&faults, outcome);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_go_on_while_frames_come_late() {
    let _alone = alone().await;
    let (nodes, network, ids) = proxied(&[]).await;
    let load = load(&nodes).await;
    let rounds = times(1, 20);
    for _ in 0..rounds {
        let leader = leader(&nodes).await;
        cut(&network, &ids, leader, true, true, Fault::Delay(Duration::from_millis(10)));
        load.progress(20).await;
        load.all_go_on().await;
        network.heal();
    }
    assert!(network.hits() > 0, "nothing came late");
    let outcome = load.check().await;
    report(&format!("delays of 10 ms each way {rounds}"), outcome);
}
