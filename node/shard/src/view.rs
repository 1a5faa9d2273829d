//! What a shard tells of itself: group states, peers, counters.

use crate::replica::Replica;
use crate::shard::Shard;
use crate::{Counters, NodeFacts};
use multiraft_machine::Machine;
use multiraft_proto::v1::{
    GroupConfig, GroupState, MemberProgress, MemberRole, PeerState, ServiceConfig,
};
use std::collections::BTreeSet;

impl Shard {
    pub fn facts(&self) -> &NodeFacts {
        &self.ctx.facts
    }

    /// Commands are refused: the disk is nearly full.
    pub fn space_is_low(&self) -> bool {
        self.space_is_low
    }

    pub fn counters(&self) -> Counters {
        self.ctx.counters
    }

    /// Whether this node hands over what it leads and takes no leadership.
    pub fn is_draining(&self) -> bool {
        self.drain.is_on()
    }

    /// This node's member of a group and its term.
    pub fn member(&self, id: u32) -> Option<(u64, u64)> {
        self.replicas.get(&id).map(|r| (r.group.member_id(), r.group.term()))
    }

    pub fn group_states(&self) -> Vec<GroupState> {
        self.replicas.values().map(state).collect()
    }

    pub fn group_state(&self, id: u32) -> Option<GroupState> {
        self.replicas.get(&id).map(state)
    }

    pub fn group_config(&self, id: u32) -> Option<GroupConfig> {
        let replica = self.replicas.get(&id)?;
        Some(replica.group.configuration().to_wire(id, replica.group.member_id()))
    }

    /// Nodes that there is a session with, or a group in common. One that left every group and ended
    /// is nobody any more: a client that counted it would miss its answer for ever.
    pub fn peers(&self) -> Vec<PeerState> {
        let configurations = self.replicas.values().map(|r| r.group.configuration());
        let members: BTreeSet<u64> =
            configurations.flat_map(|c| &c.members).map(|m| m.node_id).collect();
        let peers = self.ctx.peers.iter();
        peers
            .filter(|(node, peer)| peer.pair.is_up() || members.contains(node))
            .map(|(node, peer)| PeerState {
                node_id: *node,
                address: peer.address.clone(),
                connected: peer.pair.is_up(),
                client_address: peer.client_address.clone(),
            })
            .collect()
    }

    /// Client addresses of a group: what `ServiceConfigChangedEvent` carries.
    pub fn service_config(&self, id: u32) -> Option<ServiceConfig> {
        let replica = self.replicas.get(&id)?;
        let leader = replica.leader_node();
        let members = replica.group.configuration().members.iter().map(|m| m.node_id);
        let followers = members.filter(|n| *n != leader).map(|n| self.client_address(n));
        Some(ServiceConfig {
            leader: self.client_address(leader),
            followers: followers.filter(|a| !a.is_empty()).collect(),
        })
    }

    /// Whether this node leads the group and lets it sleep.
    pub fn sleeps(&self, id: u32) -> bool {
        self.replicas.get(&id).is_some_and(Replica::sleeps)
    }

    /// A hash of a group's machine, for checks that compare replicas.
    pub fn digest(&self, id: u32) -> Option<(u64, u64)> {
        self.replicas.get(&id).map(|r| (r.group.applied_index(), r.machine.digest()))
    }

    /// (applied raft index, a view of the machine), for checks that compare replicas.
    pub fn machine(&self, id: u32) -> Option<(u64, Machine)> {
        self.replicas.get(&id).map(|r| (r.group.applied_index(), r.machine.clone()))
    }

    fn client_address(&self, node: u64) -> String {
        if node == self.ctx.node_id() {
            return self.ctx.identity.client_address.clone();
        }
        self.ctx.peers.get(&node).map(|p| p.client_address.clone()).unwrap_or_default()
    }
}

fn state(replica: &Replica) -> GroupState {
    let group = &replica.group;
    let config = group.configuration();
    let progress = group.progress().into_iter();
    GroupState {
        group_id: replica.id,
        member_id: group.member_id(),
        role: replica.role().map_or(MemberRole::Unknown, |r| r.to_wire()) as i32,
        phase: replica.phase as i32,
        term: group.term(),
        leader: replica.leader_node(),
        commit_index: group.commit_index(),
        applied_index: group.applied_index(),
        last_index: group.last_index(),
        members: config.members.iter().map(|m| m.to_wire()).collect(),
        config_version: config.version,
        plan_hash: replica.plan_hash.clone(),
        progress: progress
            .map(|(member_id, matched_index, active)| MemberProgress {
                member_id,
                matched_index,
                active,
            })
            .collect(),
        index: replica.machine.index(),
        snapshot_index: group.snapshot().map_or(0, |(index, _)| index),
        first_index: group.first_index(),
        log_bytes: replica.snapshots.log_bytes,
        sessions: replica.machine.session_count() as u32,
        member_id_max: config.member_id_max,
        last_term: group.last_entry().0,
        recovery: config.recovery,
    }
}
