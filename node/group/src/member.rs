//! Members of a group and the configuration that lists them.

use multiraft_proto::log::StoredConfiguration;
use multiraft_proto::v1::{GroupConfig, MemberConfig, MemberRole};
use std::collections::BTreeSet;

/// Role of a member. Witnesses do not exist here: they are refused where requests come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Votes and counts for the quorum.
    Voter,
    /// Receives the log, never votes.
    Learner,
}

/// A replica of a group and where it lives.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Member {
    /// The Raft id: per group, used once and never again.
    pub member_id: u64,
    pub node_id: u64,
    /// Peer address.
    pub host: String,
    pub port: u16,
    pub role: Role,
}

/// The configuration of a group as of an applied entry.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Configuration {
    /// Raft index of the entry that made it; 0 = the first configuration.
    pub version: u64,
    /// Ordered by member id.
    pub members: Vec<Member>,
    /// Highest member id that was ever part of the group: ids are never used again.
    pub member_id_max: u64,
    /// The first configuration. It stands in no log entry, so whoever is fed the log from its
    /// start must be told.
    pub initial: Vec<Member>,
    /// How often the group was recovered by force ([`crate::Group::recover`]).
    pub recovery: u64,
}

impl Configuration {
    /// The first configuration of a group.
    pub fn first(mut members: Vec<Member>) -> Self {
        members.sort();
        let member_id_max = members.iter().map(|m| m.member_id).max().unwrap_or(0);
        Configuration { initial: members.clone(), members, member_id_max, ..Default::default() }
    }

    /// Refuses what raft cannot start with; a peer or a disk may say anything.
    ///
    /// # Errors
    /// There are no voters, or a member has no id or stands there twice.
    pub fn check(&self) -> Result<(), &'static str> {
        let ids: BTreeSet<u64> = self.members.iter().map(|m| m.member_id).collect();
        if self.voters().next().is_none() {
            return Err("the configuration has no voters");
        }
        if ids.len() < self.members.len() || ids.contains(&0) {
            return Err("the configuration has a member without an id, or twice");
        }
        Ok(())
    }

    pub fn member(&self, member_id: u64) -> Option<&Member> {
        self.members.iter().find(|m| m.member_id == member_id)
    }

    pub fn on_node(&self, node_id: u64) -> Option<&Member> {
        self.members.iter().find(|m| m.node_id == node_id)
    }

    pub fn voters(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|m| m.role == Role::Voter)
    }

    pub(crate) fn upsert(&mut self, member: Member) {
        self.member_id_max = self.member_id_max.max(member.member_id);
        self.members.retain(|m| m.member_id != member.member_id);
        self.members.push(member);
        self.members.sort();
    }

    pub(crate) fn remove(&mut self, member_id: u64) {
        self.members.retain(|m| m.member_id != member_id);
    }

    /// The form that requests and answers use.
    pub fn to_wire(&self, group: u32, own: u64) -> GroupConfig {
        GroupConfig {
            group_id: group,
            member_id: own,
            role: self.member(own).map_or(MemberRole::Unknown, |m| m.role.to_wire()) as i32,
            members: to_wire(&self.members),
            version: self.version,
        }
    }

    /// The form that is stored and sent to joining members; the storing node fills in the rest.
    pub fn to_stored(&self) -> StoredConfiguration {
        StoredConfiguration {
            version: self.version,
            member_id_max: self.member_id_max,
            members: to_wire(&self.members),
            initial: to_wire(&self.initial),
            recovery: self.recovery,
            ..Default::default()
        }
    }

    pub fn from_stored(stored: &StoredConfiguration) -> Self {
        Configuration {
            version: stored.version,
            member_id_max: stored.member_id_max,
            members: from_wire(&stored.members),
            initial: from_wire(&stored.initial),
            recovery: stored.recovery,
        }
    }
}

fn to_wire(members: &[Member]) -> Vec<MemberConfig> {
    members.iter().map(Member::to_wire).collect()
}

fn from_wire(members: &[MemberConfig]) -> Vec<Member> {
    let mut members: Vec<Member> = members.iter().map(Member::from_wire).collect();
    members.sort();
    members
}

impl Role {
    pub fn to_wire(self) -> MemberRole {
        match self {
            Role::Voter => MemberRole::Member,
            Role::Learner => MemberRole::Observer,
        }
    }
}

impl Member {
    pub fn to_wire(&self) -> MemberConfig {
        MemberConfig {
            node_id: self.node_id,
            host: self.host.clone(),
            port: i32::from(self.port),
            role: self.role.to_wire() as i32,
            member_id: self.member_id,
        }
    }

    /// Reads what [`Member::to_wire`] wrote; a request is validated before it comes here.
    pub fn from_wire(wire: &MemberConfig) -> Self {
        Member {
            member_id: wire.member_id,
            node_id: wire.node_id,
            host: wire.host.clone(),
            port: u16::try_from(wire.port).unwrap_or(0),
            role: if wire.role() == MemberRole::Observer { Role::Learner } else { Role::Voter },
        }
    }

    /// `host:port` of the peer port.
    pub fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}
