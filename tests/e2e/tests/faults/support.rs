//! What every scenario needs.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use multiraft_client::{position, v1};
use multiraft_e2e::load::{Load, Outcome};
use multiraft_e2e::nodes::{Node, Nodes};
use multiraft_e2e::proxy::Network;
use multiraft_porcupine::{History, Verdict, verdicts};
use tokio::sync::{Mutex, MutexGuard};

/// Groups of every cluster here.
pub const GROUPS: u32 = 16;
/// Clients of every entry: what the search for an order can take.
pub const CLIENTS: usize = 5;
/// The counter of all clients. The leader of its group is the node that most faults are for.
const NAME: &str = "count";

/// Exit code of a node that cannot use its directory.
pub const REFUSED: i32 = 3;
/// Exit code of a node that broke while it ran.
pub const BROKEN: i32 = 4;

/// One scenario at a time: each wants the machine for itself.
pub async fn alone() -> MutexGuard<'static, ()> {
    static RUNNING: Mutex<()> = Mutex::const_new(());
    RUNNING.lock().await
}

/// How often a fault is injected: by default, and with `FAULTS=long`.
pub fn times(short: u32, long: u32) -> u32 {
    match std::env::var("FAULTS").as_deref() {
        Ok("long") => long,
        _ => short,
    }
}

/// A load, at work, of every kind of primitive, with readers of every node.
pub async fn load(nodes: &Nodes) -> Load {
    let mut load = Load::start(nodes.endpoints(), NAME, CLIENTS).await;
    load.read_everywhere().await;
    load.use_all().await;
    load.progress(50).await;
    load
}

/// Position of the node that leads the counter's group.
pub async fn leader(nodes: &Nodes) -> usize {
    nodes.leader(group()).await
}

/// The counter's group.
pub fn group() -> u32 {
    position(NAME.as_bytes(), GROUPS as usize) as u32 + 1
}

/// A cluster whose peers reach each other through proxies; its nodes run with these arguments, too.
pub async fn proxied(arguments: &[&str]) -> (Nodes, Network, Vec<u64>) {
    let mut nodes = Nodes::prepared(3);
    let mut network = Network::default();
    for (node, number) in nodes.nodes.iter_mut().zip(1..) {
        node.arguments = arguments.iter().map(|&a| a.to_owned()).collect();
        node.host = format!("127.0.1.{number}");
        node.peer_host = format!("127.0.2.{number}");
        let [public, own] = node.peer_addresses();
        network.stand_between(&public, &own).await.expect("the port is free");
        node.start();
    }
    nodes.form(GROUPS, 3).await;
    let mut ids = Vec::new();
    for node in &nodes.nodes {
        ids.push(node.info().await.node_id);
    }
    (nodes, network, ids)
}

/// What a node says from now on.
pub struct Said {
    from: usize,
}

impl Said {
    pub fn from_now(node: &Node) -> Self {
        Self { from: node.log().len() }
    }

    pub fn all(&self, node: &Node) -> String {
        node.log()[self.from..].to_owned()
    }

    /// The line that has these words; fails when there is none.
    pub fn line_with(&self, node: &Node, words: &str) -> String {
        let said = self.all(node);
        let line = said.lines().find(|line| line.contains(words)).map(str::to_owned);
        line.unwrap_or_else(|| panic!("it does not say {words:?}, but:\n{said}"))
    }
}

/// A line on a scenario that passed: what was injected, and what the clients saw. Where Go is,
/// Porcupine must agree that it passed.
pub fn report(faults: &str, outcome: Outcome) {
    let Outcome { acknowledged, longest, shared, .. } = outcome;
    let histories: Vec<History> = shared.iter().map(|seen| History::of_register(seen)).collect();
    if let Some(verdicts) = verdicts(&histories) {
        let illegal = verdicts.iter().position(|verdict| *verdict == Verdict::Illegal);
        if let Some(number) = illegal {
            panic!("for Porcupine illegal: {}", histories[number]);
        }
        let ok = verdicts.iter().filter(|verdict| **verdict == Verdict::Ok).count();
        println!("{ok} of {} histories are linearizable for Porcupine, too", histories.len());
    }
    println!(
        "faults: {faults}, acknowledged {acknowledged}, violations 0, longest gap {:.1} s",
        longest.as_secs_f64()
    );
}

/// Copies a directory that nobody writes to.
pub fn duplicate(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("writable");
    for entry in fs::read_dir(from).expect("readable").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            duplicate(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("can be copied");
        }
    }
}

/// Copies the directory of a node that stands still meanwhile: what a volume's snapshot is.
pub fn copy(nodes: &Nodes, position: usize) -> PathBuf {
    let older = nodes.folder.path().join(format!("older-{position}"));
    nodes.nodes[position].signal("STOP");
    duplicate(&nodes.nodes[position].data(), &older);
    nodes.nodes[position].signal("CONT");
    older
}

/// Kills a node and replaces its directory by another one, or by none; starts it.
pub fn exchange(node: &mut Node, directory: Option<&Path>) {
    node.kill();
    node.wait();
    fs::remove_dir_all(node.data()).expect("nobody uses it");
    if let Some(directory) = directory {
        fs::rename(directory, node.data()).expect("same file system");
    }
    node.start();
}

/// Groups that a node has closed, since its peers know more of its disk than it does.
pub fn closed(info: &v1::GetInfoResponse) -> Vec<u32> {
    let closed = info.groups.iter().filter(|g| g.phase() == v1::GroupPhase::RolledBack);
    closed.map(|g| g.group_id).collect()
}

/// Half, longest, of some times in milliseconds.
pub fn millis(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let millis = |time: Option<&Duration>| time.map_or(0.0, |t| t.as_secs_f64() * 1e3);
    let (half, most) = (millis(times.get(times.len() / 2)), millis(times.last()));
    format!("p50 {half:.0} ms, max {most:.0} ms of {}", times.len())
}
