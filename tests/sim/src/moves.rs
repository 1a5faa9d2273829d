//! What an operator does: moves members between nodes, one change of a group at a time.

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use multiraft_proto::v1::{GroupConfig, MemberRole};
use multiraft_shard::{AdminRequest, GroupSpec, Input, Wanted};

use crate::node::{Node, member, place_of};
use crate::world::{Event, World};

/// Average time between calls of the operator.
const PERIOD_MICROS: u64 = 1_500_000;

/// What was asked of a group and is not seen done yet.
#[derive(Debug)]
pub struct Moves {
    pub rng: Rng,
    /// Group → (node id, member id) that joins.
    joining: BTreeMap<u32, (u64, u64)>,
    /// Group → node id that leaves.
    leaving: BTreeMap<u32, u64>,
    /// Group → highest member id ever asked for.
    highest: BTreeMap<u32, u64>,
    calls: u64,
    /// Places whose nodes drain.
    draining: BTreeSet<usize>,
    /// Crashes that wait for the next step: (of the leader, this much later, for how long).
    pub traps: Vec<(bool, u64, u64)>,
}

impl Moves {
    pub fn new(seed: u64) -> Self {
        let (joining, leaving, highest, calls, draining, traps) = Default::default();
        let rng = Rng::with_seed(seed ^ 0x3333_3333);
        Moves { rng, joining, leaving, highest, calls, draining, traps }
    }

    /// The node of a place is another one now.
    pub fn forget(&mut self, node_id: u64) {
        self.joining.retain(|_, (id, _)| *id != node_id);
        self.leaving.retain(|_, id| *id != node_id);
        self.draining.remove(&place_of(node_id));
    }

    /// A member id that the group has not used.
    fn fresh_member(&mut self, group: u32, now: &GroupConfig) -> u64 {
        let present = now.members.iter().map(|m| m.member_id).max().unwrap_or(0);
        let known = self.highest.entry(group).or_default();
        *known = (*known).max(present) + 1;
        *known
    }
}

impl World {
    /// Calls for the next step of one group.
    pub(crate) fn change(&mut self) {
        let next = self.moves.rng.u64(1..2 * PERIOD_MICROS);
        self.at(next, Event::Change);
        let group = self.moves.rng.u32(1..=self.options.shape.groups);
        let Some(now) = self.configuration(group).filter(|_| self.renewal.is_none()) else {
            return;
        };
        let on_node = |id: u64| now.members.iter().find(|m| m.node_id == id);
        let voters = now.members.iter().filter(|m| m.role() == MemberRole::Member).count();
        if let Some((id, member_id)) = self.moves.joining.get(&group).copied() {
            let joined = on_node(id);
            if joined.is_none_or(|m| m.role() != MemberRole::Member) {
                if joined.is_some() && self.moves.rng.bool() {
                    return self.ask_leader(group, Wanted::Voter(member_id));
                }
                return self.join_group(group, place_of(id), member_id, &now);
            }
            self.moves.joining.remove(&group);
            self.report.membership_changes += 1;
        }
        if let Some(id) = self.moves.leaving.get(&group).copied() {
            if let Some(member) = on_node(id) {
                if self.moves.rng.bool() {
                    return self.ask_leader(group, Wanted::Removed(member.member_id));
                }
                return self.leave_group(group, place_of(id));
            }
            self.moves.leaving.remove(&group);
            self.report.membership_changes += 1;
        }
        let (inside, outside): (Vec<u64>, Vec<u64>) =
            self.nodes.iter().map(Node::id).partition(|id| on_node(*id).is_some());
        if voters > self.options.shape.voters {
            let id = inside[self.moves.rng.usize(..inside.len())];
            self.moves.leaving.insert(group, id);
            self.leave_group(group, place_of(id));
        } else if !outside.is_empty() {
            let id = outside[self.moves.rng.usize(..outside.len())];
            let member_id = self.moves.fresh_member(group, &now);
            self.moves.joining.insert(group, (id, member_id));
            self.join_group(group, place_of(id), member_id, &now);
        }
    }

    /// The newest configuration that any living node knows.
    pub(crate) fn configuration(&self, group: u32) -> Option<GroupConfig> {
        let lives = self.nodes.iter().filter_map(|node| node.life.as_ref());
        lives.filter_map(|life| life.shard.group_config(group)).max_by_key(|c| c.version)
    }

    /// A node joins a group under a new member id.
    pub(crate) fn join_anew(&mut self, group: u32, place: usize) {
        let Some(now) = self.configuration(group) else { return };
        let id = self.nodes[place].id();
        let known = now.members.iter().find(|m| m.node_id == id).map(|m| m.member_id);
        let member_id = known.unwrap_or_else(|| self.moves.fresh_member(group, &now));
        self.join_group(group, place, member_id, &now);
    }

    fn join_group(&mut self, group: u32, place: usize, member_id: u64, now: &GroupConfig) {
        let joining = &self.nodes[place];
        let others = now.members.iter().filter(|m| m.node_id != joining.id());
        let others = others.map(multiraft_shard::Member::from_wire);
        let members = others.chain([member(member_id, joining)]).collect();
        let group = GroupSpec { group, member_id, members };
        let auto_promote = self.moves.rng.bool();
        self.step_of_change(place, AdminRequest::Join { group, auto_promote, fence: None });
    }

    /// Calls for another leader of a group, or for the absence of a node.
    pub(crate) fn hand_over(&mut self) {
        let next = self.moves.rng.u64(1..2 * PERIOD_MICROS);
        self.at(next, Event::HandOver);
        if self.renewal.is_some() {
            return;
        }
        let place = self.moves.rng.usize(..self.nodes.len());
        if self.moves.rng.u32(..4) > 0 {
            let group = self.moves.rng.u32(1..=self.options.shape.groups);
            let to = if self.moves.rng.bool() { 0 } else { self.nodes[place].id() };
            return self.ask_leader(group, Wanted::Leader(to));
        }
        let drain = self.moves.draining.insert(place);
        if !drain {
            self.moves.draining.remove(&place);
        }
        self.call(place, AdminRequest::Drain { drain, fence: None });
    }

    /// All nodes take leaderships again.
    pub(crate) fn end_drains(&mut self) {
        for place in std::mem::take(&mut self.moves.draining) {
            self.call(place, AdminRequest::Drain { drain: false, fence: None });
        }
    }

    /// Place of the leader with the highest term.
    pub(crate) fn leader_of(&self, group: u32) -> Option<usize> {
        let states = self.nodes.iter().filter_map(|node| {
            let state = node.life.as_ref()?.shard.group_state(group)?;
            (state.leader == node.id()).then_some((state.term, node.place))
        });
        states.max().map(|(_, place)| place)
    }

    pub(crate) fn ask_leader(&mut self, group: u32, wanted: Wanted) {
        let Some(place) = self.leader_of(group) else { return };
        let request =
            AdminRequest::Change { group, wanted: wanted.clone(), version: 0, fence: None };
        match wanted {
            Wanted::Leader(_) => self.call(place, request),
            _ => self.step_of_change(place, request),
        }
    }

    fn leave_group(&mut self, group: u32, place: usize) {
        self.step_of_change(place, AdminRequest::Leave { group, fence: None });
    }

    /// A call that changes who is a member, and the crashes that were to come with one.
    fn step_of_change(&mut self, place: usize, request: AdminRequest) {
        let group = match &request {
            AdminRequest::Join { group, .. } => group.group,
            AdminRequest::Leave { group, .. } | AdminRequest::Change { group, .. } => *group,
            _ => 0,
        };
        self.call(place, request);
        for (leader, after, micros) in std::mem::take(&mut self.moves.traps) {
            let leader = if leader { self.leader_of(group) } else { None };
            let place = leader.unwrap_or(place);
            self.at(after, Event::CrashAtStep { place, micros });
        }
    }

    pub(crate) fn call(&mut self, place: usize, request: AdminRequest) {
        self.moves.calls += 1;
        let token = self.moves.calls;
        self.input(place, Input::Admin { token, request });
    }
}
