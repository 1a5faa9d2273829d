//! What every scenario needs.

use multiraft_client::position;
use multiraft_e2e::load::{Load, Outcome};
use multiraft_e2e::nodes::{Node, Nodes};
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

/// A load, at work, with readers of every node.
pub async fn load(nodes: &Nodes) -> Load {
    let mut load = Load::start(nodes.endpoints(), NAME, CLIENTS).await;
    load.read_everywhere().await;
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

/// One line on a scenario that passed: what was injected, and what the clients saw.
pub fn report(faults: &str, outcome: Outcome) {
    let Outcome { acknowledged, longest, .. } = outcome;
    println!(
        "faults: {faults}, acknowledged {acknowledged}, violations 0, longest gap {:.1} s",
        longest.as_secs_f64()
    );
}
