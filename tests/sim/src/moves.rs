//! What an operator does: moves members between nodes, one change of a group at a time.

use std::collections::{BTreeMap, BTreeSet};

use multiraft_proto::v1::{GroupConfig, MemberRole};
use multiraft_shard::{AdminRequest, GroupSpec, Input, Wanted};

use crate::node::{Node, member, node_id, place_of};
use crate::world::{Event, World};

/// Average time between calls of the operator.
const PERIOD_MICROS: u64 = 1_500_000;

/// What was asked of a group and is not seen done yet.
#[derive(Debug, Default)]
pub struct Moves {
    /// Group → (node, member id) that joins.
    joining: BTreeMap<u32, (usize, u64)>,
    /// Group → node that leaves.
    leaving: BTreeMap<u32, usize>,
    /// Group → highest member id ever asked for.
    highest: BTreeMap<u32, u64>,
    calls: u64,
    /// Nodes that drain.
    draining: BTreeSet<usize>,
}

impl World {
    /// Calls for the next step of one group.
    pub(crate) fn change(&mut self) {
        let next = self.rng.u64(1..2 * PERIOD_MICROS);
        self.at(next, Event::Change);
        let group = self.rng.u32(1..=self.options.groups);
        let Some(now) = self.configuration(group) else { return };
        let holds = |place: usize| now.members.iter().any(|m| m.node_id == node_id(place));
        let voters = now.members.iter().filter(|m| m.role() == MemberRole::Member).count();
        if let Some((place, member_id)) = self.moves.joining.get(&group).copied() {
            let joined = now.members.iter().find(|m| m.node_id == node_id(place));
            if joined.is_none_or(|m| m.role() != MemberRole::Member) {
                if joined.is_some() && self.rng.bool() {
                    return self.ask_leader(group, Wanted::Voter(member_id));
                }
                return self.join_group(group, place, member_id, &now);
            }
            self.moves.joining.remove(&group);
            self.report.moves += 1;
        }
        if let Some(place) = self.moves.leaving.get(&group).copied() {
            if holds(place) {
                let member = now.members.iter().find(|m| m.node_id == node_id(place));
                if let Some(member) = member.filter(|_| self.rng.bool()) {
                    return self.ask_leader(group, Wanted::Removed(member.member_id));
                }
                return self.leave_group(group, place);
            }
            self.moves.leaving.remove(&group);
        }
        if voters > self.options.voters {
            let places: Vec<_> = (0..self.nodes.len()).filter(|p| holds(*p)).collect();
            let place = places[self.rng.usize(..places.len())];
            self.moves.leaving.insert(group, place);
            self.leave_group(group, place);
        } else {
            let places: Vec<_> = (0..self.nodes.len()).filter(|p| !holds(*p)).collect();
            let place = places[self.rng.usize(..places.len())];
            let highest = now.members.iter().map(|m| m.member_id).max().unwrap_or(0);
            let known = self.moves.highest.entry(group).or_default();
            *known = (*known).max(highest) + 1;
            let member_id = *known;
            self.moves.joining.insert(group, (place, member_id));
            self.join_group(group, place, member_id, &now);
        }
    }

    /// The newest configuration that any living node knows.
    fn configuration(&self, group: u32) -> Option<GroupConfig> {
        let lives = self.nodes.iter().filter_map(|node| node.life.as_ref());
        lives.filter_map(|life| life.shard.group_config(group)).max_by_key(|c| c.version)
    }

    fn join_group(&mut self, group: u32, place: usize, member_id: u64, now: &GroupConfig) {
        let others = now.members.iter().filter(|m| m.node_id != node_id(place));
        let others = others.map(|m| member(m.member_id, place_of(m.node_id)));
        let members = others.chain([member(member_id, place)]).collect();
        let group = GroupSpec { group, member_id, members };
        let auto_promote = self.rng.bool();
        self.call(place, AdminRequest::Join { group, auto_promote, fence: None });
    }

    /// Calls for another leader of a group, or for the absence of a node.
    pub(crate) fn hand_over(&mut self) {
        let next = self.rng.u64(1..2 * PERIOD_MICROS);
        self.at(next, Event::HandOver);
        let place = self.rng.usize(..self.nodes.len());
        if self.rng.u32(..4) > 0 {
            let group = self.rng.u32(1..=self.options.groups);
            let to = if self.rng.bool() { 0 } else { node_id(place) };
            return self.ask_leader(group, Wanted::Leader(to));
        }
        let drain = self.moves.draining.insert(place);
        if !drain {
            self.moves.draining.remove(&place);
        }
        self.call(place, AdminRequest::Drain { drain, fence: None });
    }

    fn ask_leader(&mut self, group: u32, wanted: Wanted) {
        let lives = self.nodes.iter().filter(|node| node.life.is_some());
        let leads = |node: &&Node| {
            let state = node.life.as_ref().and_then(|life| life.shard.group_state(group));
            state.is_some_and(|s| s.leader == node_id(node.place))
        };
        let Some(place) = lives.filter(leads).map(|node| node.place).next_back() else { return };
        self.call(place, AdminRequest::Change { group, wanted, version: 0, fence: None });
    }

    fn leave_group(&mut self, group: u32, place: usize) {
        self.call(place, AdminRequest::Leave { group, fence: None });
    }

    fn call(&mut self, place: usize, request: AdminRequest) {
        self.moves.calls += 1;
        let token = self.moves.calls;
        self.input(place, Input::Admin { token, request });
    }
}
