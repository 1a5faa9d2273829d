//! What must hold after every step of every node. A violation panics with what was seen.

use std::collections::BTreeMap;

use multiraft_proto::v1::{GroupState, MemberRole};

use crate::node::{Node, node_id};

/// What is known of all groups since the run began.
#[derive(Debug, Default)]
pub struct Invariants {
    /// (group, term) → the node that led.
    leaders: BTreeMap<(u32, u64), u64>,
    /// (group, index) → term of the committed entry and a sum of its bytes.
    committed: BTreeMap<(u32, u64), (u64, u64)>,
    /// (node, group, member id) → commit index of its present life.
    commits: BTreeMap<(usize, u32, u64), u64>,
    /// (node, group, times that it was deleted there) → (term, commit) on its disk.
    stored: BTreeMap<(usize, u32, u64), (u64, u64)>,
    /// (group, applied index) → hash of the machine.
    machines: BTreeMap<(u32, u64), u64>,
}

impl Invariants {
    /// A node's process died: it may know less when it comes back, its disk may not.
    pub fn died(&mut self, node: usize) {
        self.commits.retain(|(n, ..), _| *n != node);
    }

    /// After a step of a node.
    pub fn check(&mut self, nodes: &[Node], place: usize) {
        let Some(life) = &nodes[place].life else { return };
        for state in life.shard.group_states() {
            self.one_leader(&state, place);
            self.order(&state);
            self.commit(nodes, place, &state);
        }
    }

    /// At most one leader in each term (Raft thesis, figure 3.2, Election Safety).
    fn one_leader(&mut self, state: &GroupState, place: usize) {
        if state.leader != node_id(place) {
            return;
        }
        let key = (state.group_id, state.term);
        let first = *self.leaders.entry(key).or_insert(state.leader);
        assert_eq!(first, state.leader, "two leaders of group {} in term {}", key.0, key.1);
    }

    fn order(&self, state: &GroupState) {
        assert!(
            state.applied_index <= state.commit_index && state.commit_index <= state.last_index,
            "applied {} ≤ committed {} ≤ last {} of group {}",
            state.applied_index,
            state.commit_index,
            state.last_index,
            state.group_id
        );
    }

    /// What is committed never changes (State Machine Safety, Leader Completeness), never goes back
    /// in a life, and is durable on a quorum when a leader commits it.
    fn commit(&mut self, nodes: &[Node], place: usize, state: &GroupState) {
        let group = state.group_id;
        let known = self.commits.entry((place, group, state.member_id)).or_default();
        assert!(
            *known <= state.commit_index,
            "commit of group {group} on node {place} goes from {known} to {}: {state:?}",
            state.commit_index
        );
        let newly = *known + 1..=state.commit_index;
        *known = state.commit_index;
        if newly.is_empty() {
            return;
        }
        let Some(log) = nodes[place].disk.written.groups.get(&group) else { return };
        if state.leader == node_id(place) {
            let end = newly.end();
            let term = log.term(*end);
            let durable =
                |n: &&Node| n.disk.synced.groups.get(&group).is_some_and(|g| g.holds(*end, term));
            let voters: Vec<u64> = state
                .members
                .iter()
                .filter(|m| m.role() == MemberRole::Member)
                .map(|m| m.node_id)
                .collect();
            let votes = |n: &&Node| voters.contains(&node_id(n.place));
            let holders = nodes.iter().filter(votes).filter(durable).count();
            // One less where the step that added the last voter is what was committed.
            assert!(
                2 * holders + 1 > voters.len(),
                "group {group}: entry {end} is committed and durable on {holders} nodes only"
            );
        }
        for (index, entry) in log.entries.range(newly) {
            let sum = entry.data.iter().fold(entry.data.len() as u64, |sum, byte| {
                sum.wrapping_mul(31).wrapping_add(u64::from(*byte))
            });
            let seen = (entry.term, sum);
            let first = *self.committed.entry((group, *index)).or_insert(seen);
            assert_eq!(first, seen, "two committed entries {index} of group {group}");
        }
    }

    /// After a sync: terms and commit never go back on a disk.
    pub fn check_disk(&mut self, node: &Node) {
        for (group, stored) in &node.disk.synced.groups {
            let now = (stored.state.term, stored.state.commit);
            let key = (node.place, *group, node.disk.synced.deletions(*group));
            let before = self.stored.insert(key, now).unwrap_or_default();
            assert!(
                before.0 <= now.0 && before.1 <= now.1,
                "group {group} on node {}: (term, commit) goes from {before:?} to {now:?}",
                node.place
            );
        }
    }

    /// Equal applied entries make equal machines.
    pub fn check_machines(&mut self, node: &Node, groups: u32) {
        let Some(life) = &node.life else { return };
        for group in 1..=groups {
            let Some((applied, hash)) = life.shard.digest(group) else { continue };
            let first = *self.machines.entry((group, applied)).or_insert(hash);
            assert_eq!(first, hash, "machines of group {group} differ at {applied}");
        }
    }
}
