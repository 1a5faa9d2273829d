//! Disks that are full, slow, or stand still.

use std::os::unix::process::ExitStatusExt as _;
use std::time::{Duration, Instant};

use multiraft_client::node_info;
use multiraft_client::v1::GetInfoResponse;
use multiraft_e2e::nodes::{Node, Nodes};

use crate::strace::{self, Injected};
use crate::support::{BROKEN, GROUPS, REFUSED, Said, alone, leader, load, report, times};
use crate::volume::Volume;

/// SIGABRT.
const ABORTED: i32 = 6;

/// Waits for the end of a node whose disk was filled at once. RocksDB may come first: it tries to
/// recover from ENOSPC by itself, in a thread of its own, and Debian's build fails an assertion
/// there (`sync_without_flush_called_`), so that the node ends by SIGABRT without a word of its own.
/// (A disk that fills in the ordinary way is noticed before.)
async fn ended(node: &mut Node, when: &str) {
    let said = Said::from_now(node);
    let status = node.end().await;
    let said = said.all(node);
    println!("{when} ({status}): {}", said.lines().last().unwrap_or("it says nothing"));
    match status.signal() {
        Some(signal) => {
            assert!(signal == ABORTED && said.contains("Assertion"), "{status}: {said}")
        }
        None => {
            assert!(matches!(status.code(), Some(BROKEN | REFUSED)), "{status}: {said}");
            let full = ["No space left on device", "the disk is full"];
            assert!(full.iter().any(|words| said.contains(words)), "{said}");
        }
    }
}

/// A node that starts on a full disk ends, or opening its log made a little space and it says that it
/// is too little (true).
async fn starts_full(node: &mut Node) -> bool {
    let deadline = Instant::now() + Duration::from_secs(60);
    while Instant::now() < deadline {
        if let Some(status) = node.ended() {
            println!("full at start ({status})");
            assert!(matches!(status.code(), Some(BROKEN | REFUSED)), "{status}: {}", node.log());
            return false;
        }
        let info = node_info(&node.address(), Duration::from_secs(1)).await;
        if info.is_ok_and(|info| info.space_low) {
            println!("nearly full after the start");
            return true;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it says nothing of its disk: {}", node.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_disk_is_full_loses_nothing_and_comes_back_when_it_is_not() {
    let _alone = alone().await;
    let mut nodes = Nodes::prepared(3);
    // A fault of one node: the others keep their space.
    let Some(volume) = Volume::mount(&nodes.nodes[0].data()) else { return };
    nodes.nodes.iter_mut().for_each(|node| node.start());
    nodes.form(GROUPS, 3).await;
    let load = load(&nodes).await;
    let rounds = times(1, 10);
    for round in 0..rounds {
        let ballast = volume.fill();
        let node = &mut nodes.nodes[0];
        ended(node, "full under load").await;
        load.all_go_on().await;
        nodes.nodes[0].start();
        let goes_on = starts_full(&mut nodes.nodes[0]).await;
        load.all_go_on().await;
        drop(ballast);
        if !goes_on {
            nodes.nodes[0].start();
        }
        let info = nodes.nodes[0].info().await;
        assert_eq!(info.groups.len(), GROUPS as usize, "round {round}");
        load.all_go_on().await;
    }
    let outcome = load.check().await;
    report(&format!("full disks {}", 2 * rounds), outcome);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_disk_is_nearly_full_leads_nothing_until_there_is_space() {
    let _alone = alone().await;
    let mut nodes = Nodes::prepared(3);
    let Some(volume) = Volume::mount(&nodes.nodes[0].data()) else { return };
    nodes.nodes.iter_mut().for_each(|node| node.start());
    nodes.form(GROUPS, 3).await;
    // Without a load, which would fill the rest.
    let ballast = volume.nearly_fill();
    let says = |info: &GetInfoResponse, low| info.space_low == low;
    let leads = |info: &GetInfoResponse| info.groups.iter().any(|g| g.leader == info.node_id);
    until(&nodes.nodes[0], |info| says(info, true) && !leads(info)).await;
    drop(ballast);
    until(&nodes.nodes[0], |info| says(info, false)).await;
    let load = load(&nodes).await;
    load.all_go_on().await;
    let outcome = load.check().await;
    report("nearly full disks 1", outcome);
}

/// Waits until a node says this of itself.
async fn until(node: &Node, says: impl Fn(&GetInfoResponse) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let info = node.info().await;
        if says(&info) {
            return;
        }
        assert!(Instant::now() < deadline, "{info:#?}\n{}", node.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_go_on_while_the_leaders_disk_is_slow() {
    let _alone = alone().await;
    if !strace::is_there() {
        return;
    }
    let nodes = Nodes::formed(3, GROUPS, 3).await;
    let load = load(&nodes).await;
    let rounds = times(1, 20);
    for _ in 0..rounds {
        let leader = leader(&nodes).await;
        let slow = Injected::into(&nodes.nodes[leader], "fdatasync:delay_exit=100000");
        let took = load.progress(100).await;
        load.all_go_on().await;
        drop(slow);
        println!("100 ms for each sync of node {leader}: 100 increments in {took:.1?}");
    }
    let outcome = load.check().await;
    report(&format!("slow disks {rounds}"), outcome);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_go_on_while_the_leaders_disk_stands_still() {
    let _alone = alone().await;
    if !strace::is_there() {
        return;
    }
    let nodes = Nodes::formed(3, GROUPS, 3).await;
    let load = load(&nodes).await;
    let rounds = times(1, 20);
    let mut left = Vec::new();
    for _ in 0..rounds {
        let stalled = leader(&nodes).await;
        let before = load.acknowledged();
        let injected =
            Injected::into(&nodes.nodes[stalled], "fdatasync:delay_enter=5000000:when=1");
        let started = Instant::now();
        let mut moved = None;
        while started.elapsed() < Duration::from_secs(5) {
            tokio::time::sleep(Duration::from_millis(50)).await;
            if moved.is_none() && leader(&nodes).await != stalled {
                moved = Some(started.elapsed());
            }
        }
        let meanwhile = load.acknowledged() - before;
        let gap = load.all_go_on().await;
        drop(injected);
        println!(
            "the disk of node {stalled} stood for 5 s: leadership left after {moved:.1?}, \
             {meanwhile} increments meanwhile, all went on {gap:?} later"
        );
        assert!(moved.is_some(), "the stalled node led for 5 s");
        left.push(moved);
    }
    let outcome = load.check().await;
    report(&format!("stalled disks {rounds}, leadership left after {left:.1?}"), outcome);
}
