//! Raft's own promises, over all nodes (thesis, figure 3.2), and those of membership.

use std::collections::BTreeMap;

use multiraft_proto::v1::{GroupState, MemberRole};
use multiraft_shard::EntryKind;

use crate::disk::StoredGroup;
use crate::node::Node;

#[derive(Debug, Default)]
pub struct Groups {
    /// (group, term) → the node that led.
    leaders: BTreeMap<(u32, u64), u64>,
    /// Group → index → term of the committed entry and a sum of its bytes.
    committed: BTreeMap<u32, BTreeMap<u64, (u64, u64)>>,
    /// Group → version and voters (node ids) of the newest configuration that any member applied. Those
    /// who live may know an older one.
    newest: BTreeMap<u32, (u64, Vec<u64>)>,
    /// (place, group, member id) → what it was before the last step of its present life.
    before: BTreeMap<(usize, u32, u64), Before>,
}

#[derive(Clone, Debug, Default)]
struct Before {
    term: u64,
    commit: u64,
    applied: u64,
    /// Node ids.
    voters: Vec<u64>,
}

impl Groups {
    pub fn died(&mut self, place: usize) {
        self.before.retain(|(p, ..), _| *p != place);
    }

    pub fn elections(&self) -> u64 {
        self.leaders.len() as u64
    }

    /// Highest index of a group that any member ever committed.
    pub fn highest(&self, group: u32) -> u64 {
        self.entries(group).and_then(|c| c.last_key_value()).map_or(0, |(index, _)| *index)
    }

    /// Term of a committed entry.
    pub fn term(&self, group: u32, index: u64) -> Option<u64> {
        self.entries(group)?.get(&index).map(|(term, _)| *term)
    }

    /// Node ids, by the newest configuration that was ever applied.
    pub fn voters(&self, group: u32) -> &[u64] {
        self.newest.get(&group).map_or(&[], |(_, voters)| voters)
    }

    fn entries(&self, group: u32) -> Option<&BTreeMap<u64, (u64, u64)>> {
        self.committed.get(&group)
    }

    /// After a step of a node; whether it applied something.
    pub fn check(&mut self, nodes: &[Node], place: usize, state: &GroupState) -> bool {
        let key = (place, state.group_id, state.member_id);
        let before = self.before.remove(&key).unwrap_or_default();
        self.one_leader(&nodes[place], state);
        in_order(state);
        never_back(&before, state);
        let voters = voters(state);
        let newest = self.newest.entry(state.group_id).or_default();
        if state.config_version >= newest.0 {
            *newest = (state.config_version, voters.clone());
        }
        if let Some(log) = nodes[place].disk.written.groups.get(&state.group_id) {
            if state.commit_index > before.commit {
                self.commit(nodes, place, state, log, &before, &voters);
            }
            self.one_change(log, state);
        }
        let advanced = state.applied_index > before.applied;
        let (term, commit, applied) = (state.term, state.commit_index, state.applied_index);
        self.before.insert(key, Before { term, commit, applied, voters });
        advanced
    }

    /// At most one leader in each term (Election Safety).
    fn one_leader(&mut self, node: &Node, state: &GroupState) {
        if state.leader != node.id() {
            return;
        }
        let key = (state.group_id, state.term);
        let first = *self.leaders.entry(key).or_insert(state.leader);
        assert_eq!(first, state.leader, "[one leader] of group {} in term {}", key.0, key.1);
    }

    /// What is committed never changes (State Machine Safety, Leader Completeness). Whoever commits
    /// it first has it durable on a quorum, and, as a leader, an entry of its own term with it
    /// (Raft §5.4.2).
    fn commit(
        &mut self,
        nodes: &[Node],
        place: usize,
        state: &GroupState,
        log: &StoredGroup,
        before: &Before,
        voters: &[u64],
    ) {
        let (group, end) = (state.group_id, state.commit_index);
        let highest = self.highest(group);
        let term = log.term(end);
        if end > highest && log.first.0 <= end {
            assert!(
                state.leader != nodes[place].id() || term == Some(state.term),
                "[own term] group {group}: the leader of term {} commits entry {end} of term {term:?}",
                state.term
            );
            let holds = |node: &&Node| {
                node.disk.synced.groups.get(&group).is_some_and(|g| g.holds(end, term))
            };
            let holders: Vec<u64> = nodes.iter().filter(holds).map(Node::id).collect();
            let is_quorum = |voters: &[u64]| {
                let holding = voters.iter().filter(|id| holders.contains(id)).count();
                !voters.is_empty() && 2 * holding > voters.len()
            };
            // A step may commit the change of the quorum itself.
            assert!(
                is_quorum(voters) || is_quorum(&before.voters),
                "[durable quorum] group {group}: entry {end} is committed and durable on nodes \
                 {holders:?} of voters {voters:?}"
            );
        }
        let committed = self.committed.entry(group).or_default();
        for (index, entry) in log.entries.range(before.commit + 1..=end) {
            let sum = entry.data.iter().fold(entry.data.len() as u64, |sum, byte| {
                sum.wrapping_mul(31).wrapping_add(u64::from(*byte))
            });
            let seen = (entry.term, sum);
            let first = *committed.entry(*index).or_insert(seen);
            assert_eq!(first, seen, "[committed entries] two entries {index} of group {group}");
        }
    }

    /// A change of the configuration is proposed when the one before is committed and applied, so no
    /// log has two that are not committed.
    fn one_change(&self, log: &StoredGroup, state: &GroupState) {
        let uncommitted = log.entries.range(self.highest(state.group_id) + 1..);
        let changes: Vec<u64> = uncommitted
            .filter(|(_, e)| e.kind != EntryKind::Normal && !e.data.is_empty())
            .map(|(index, _)| *index)
            .collect();
        assert!(changes.len() < 2, "[one change] group {}: {changes:?}", state.group_id);
    }
}

fn voters(state: &GroupState) -> Vec<u64> {
    let voters = state.members.iter().filter(|m| m.role() == MemberRole::Member);
    voters.map(|m| m.node_id).collect()
}

fn in_order(state: &GroupState) {
    assert!(
        state.applied_index <= state.commit_index && state.commit_index <= state.last_index,
        "[applied ≤ committed ≤ last] {} ≤ {} ≤ {} of group {}",
        state.applied_index,
        state.commit_index,
        state.last_index,
        state.group_id
    );
}

fn never_back(before: &Before, state: &GroupState) {
    let now = (state.term, state.commit_index, state.applied_index);
    assert!(
        before.term <= now.0 && before.commit <= now.1 && before.applied <= now.2,
        "[never back] member {} of group {}: from {before:?} to (term, commit, applied) {now:?}",
        state.member_id,
        state.group_id
    );
}
