//! A group whose majority is well has a leader, however long nobody has asked anything of it.

use crate::network::Network;
use crate::node::Node;

/// So long nothing has troubled any of the majority: several elections, with their lost votes.
pub const WELL_MICROS: u64 = 10_000_000;

/// A group may be between two leaders for so long.
pub const LEADERLESS_MICROS: u64 = 3_000_000;

/// Those voters (node ids) of a group that are a majority and well, if none of them follows a leader
/// that lives.
pub fn without_leader(
    nodes: &[Node],
    network: &Network,
    now: u64,
    group: u32,
    voters: &[u64],
) -> Option<Vec<u64>> {
    let is_well = |node: &&Node| {
        let until = node.troubled_at.max(node.paused_until).max(node.disk.slow_until);
        node.life.is_some() && now > until + WELL_MICROS
    };
    let well: Vec<&Node> =
        nodes.iter().filter(|n| voters.contains(&n.id())).filter(is_well).collect();
    let joined = |a: &Node, b: &Node| {
        a.place == b.place || network.joined_since(a.place, b.place, now) > WELL_MICROS
    };
    let connected = well.iter().all(|a| well.iter().all(|b| joined(a, b)));
    if !connected || 2 * well.len() <= voters.len() {
        return None;
    }
    let lives = |id: u64| nodes.iter().any(|n| n.id() == id && n.life.is_some());
    let led = |node: &&Node| {
        let state = node.life.as_ref().and_then(|life| life.shard.group_state(group));
        state.is_some_and(|state| lives(state.leader))
    };
    let is_led = well.iter().any(led);
    (!is_led).then(|| well.iter().map(|n| n.id()).collect())
}
