//! Nodes with little of the processor and of memory.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::time::Duration;

use multiraft_e2e::nodes::{Node, Nodes};

use crate::control_group::ControlGroup;
use crate::crowd::{Calls, Crowd};
use crate::support::{CLIENTS, GROUPS, alone, leader, load, report, times};

const PERCENT: u64 = 20;
const MEMORY: u64 = 512 << 20;

/// Ten times the clients that are checked, each with many calls at once. With 16 KiB, a leader takes
/// 500 MiB today, and its sockets the rest: it is killed.
const CROWD: usize = 10 * CLIENTS;
const CALLS: usize = 40;
const VALUE_BYTES: usize = 1 << 10;

fn crowd(nodes: &Nodes) -> Crowd {
    let (endpoints, key) = (nodes.endpoints(), "hot".to_owned());
    Crowd::start(CROWD, Calls { endpoints, key, count: CALLS, bytes: VALUE_BYTES })
}

/// A cluster whose nodes have a fifth of a core and 512 MiB each. The nodes come last, so that they
/// end before their groups.
async fn small() -> Option<(Vec<ControlGroup>, Nodes)> {
    let mut groups = Vec::new();
    let mut nodes = Nodes::prepared(3);
    for (position, node) in nodes.nodes.iter_mut().enumerate() {
        let group = ControlGroup::make(&position.to_string())?;
        group.limit(PERCENT, MEMORY).expect("limits can be set where groups can be made");
        node.under = group.command();
        node.start();
        groups.push(group);
    }
    nodes.form(GROUPS, 3).await;
    Some((groups, nodes))
}

/// What is resident of the process, in bytes: now (`VmRSS`), or the most that ever was (`VmHWM`).
fn resident(node: &Node, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", node.pid())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kilobytes = line.and_then(|l| {
        l.trim_start_matches(':').trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()
    });
    kilobytes.expect("the system tells it") << 10
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_overloaded_cluster_refuses_and_stays_within_its_memory() {
    let _alone = alone().await;
    let Some((groups, mut nodes)) = small().await else { return };
    let load = load(&nodes).await;
    let callers = crowd(&nodes);
    tokio::time::sleep(Duration::from_secs(times(20, 120).into())).await;
    let (written, refused, late) = callers.end().await;
    let gap = load.all_go_on().await;
    load.progress(100).await;
    let mebibytes = |bytes: u64| bytes >> 20;
    for (node, group) in nodes.nodes.iter_mut().zip(&groups) {
        if let Some(status) = node.ended() {
            panic!("a node ended: {status}, {} kills, peak {}", group.kills(), group.peak());
        }
        let (resident, peak) = (resident(node, "VmHWM"), group.peak());
        println!(
            "resident at most {} MiB, with files {} MiB",
            mebibytes(resident),
            mebibytes(peak)
        );
        assert!(resident < MEMORY, "{resident} bytes");
        assert_eq!(group.kills(), 0);
    }
    println!(
        "the crowd wrote {written}, was refused {refused} times and not answered in time {late} \
         times; then all went on {gap:.1?}"
    );
    assert!(written > 0, "the crowd was served, too");
    groups.iter().for_each(|group| group.limit(100, MEMORY).expect("a limit can be changed"));
    let outcome = load.check().await;
    report(&format!("overload of {CROWD} clients 1, refused {refused}, late {late}"), outcome);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_starved_leader_and_one_without_memory_lose_nothing() {
    let _alone = alone().await;
    let Some((groups, mut nodes)) = small().await else { return };
    let load = load(&nodes).await;
    let rounds = times(1, 20);
    for _ in 0..rounds {
        let starved = leader(&nodes).await;
        groups[starved].limit(10, MEMORY).expect("a limit can be changed");
        let took = load.progress(100).await;
        load.all_go_on().await;
        groups[starved].limit(PERCENT, MEMORY).expect("a limit can be changed");
        println!("a tenth of a core for node {starved}: 100 increments in {took:.1?}");

        let killed = leader(&nodes).await;
        let (group, before) = (&groups[killed], groups[killed].kills());
        let limit = resident(&nodes.nodes[killed], "VmRSS") + (4 << 20);
        group.limit(PERCENT, limit).expect("what is used fits");
        let callers = crowd(&nodes);
        let status = nodes.nodes[killed].end().await;
        callers.end().await;
        println!("{} MiB for node {killed}: {status}", limit >> 20);
        assert_eq!(status.signal(), Some(9), "{status}");
        assert_eq!(group.kills(), before + 1);
        group.limit(PERCENT, MEMORY).expect("a limit can be changed");
        nodes.nodes[killed].start();
        nodes.nodes[killed].info().await;
        load.all_go_on().await;
    }
    groups.iter().for_each(|group| group.limit(100, MEMORY).expect("a limit can be changed"));
    let outcome = load.check().await;
    report(&format!("processor quotas {rounds}, kills out of memory {rounds}"), outcome);
}
