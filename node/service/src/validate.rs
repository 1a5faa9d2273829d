//! Configuration requests, checked before anything happens. Every error names the field and says
//! what would be right.

use crate::limits::{BOOTSTRAP_GROUPS_MAX, MEMBERS_MAX};
use multiraft_host::{Fence, GroupSpec, Member, Role};
use multiraft_machine::limits::NAME_BYTES_MAX;
use multiraft_proto::v1;
use std::collections::BTreeSet;
use tonic::Status;

/// How this node finds itself in a member list.
#[derive(Clone, Copy)]
enum Own {
    NodeId(u64),
    MemberId(u64),
}

fn invalid(message: impl Into<String>) -> Status {
    Status::invalid_argument(message)
}

pub fn fence(fence: Option<v1::Fence>) -> Option<Fence> {
    fence.map(|f| Fence {
        cluster_id: f.cluster_id,
        operator_epoch: f.operator_epoch,
        plan_hash: f.plan_hash,
        incarnation: f.incarnation,
    })
}

/// The groups of a Bootstrap, in either form.
pub fn bootstrap(request: v1::BootstrapRequest, node_id: u64) -> Result<Vec<GroupSpec>, Status> {
    let specs = match (request.group, request.partitions) {
        (Some(group), partitions) if partitions.is_empty() => vec![group_form(group, node_id)?],
        (Some(_), _) => return Err(invalid("group and partitions: set one of them, not both")),
        (None, partitions) if partitions.is_empty() => {
            return Err(invalid("group or partitions: one of them must be set"));
        }
        (None, partitions) if partitions.len() > BOOTSTRAP_GROUPS_MAX => {
            return Err(invalid(format!("partitions: at most {BOOTSTRAP_GROUPS_MAX} in one call")));
        }
        (None, partitions) => {
            let forms = partitions.into_iter().map(|p| partition_form(p, node_id));
            forms.collect::<Result<_, _>>()?
        }
    };
    let distinct: BTreeSet<u32> = specs.iter().map(|s| s.group).collect();
    if distinct.len() != specs.len() {
        return Err(invalid("partitions: a partition_id is named twice"));
    }
    Ok(specs)
}

/// The group of a Join, in either form.
pub fn join(
    group: Option<v1::GroupConfig>,
    partition: Option<v1::PartitionConfig>,
    node_id: u64,
) -> Result<GroupSpec, Status> {
    match (group, partition) {
        (Some(_), Some(_)) => Err(invalid("group and partition: set one of them, not both")),
        (Some(group), None) => group_form(group, node_id),
        (None, Some(partition)) => partition_form(partition, node_id),
        (None, None) => Err(invalid("group or partition: one of them must be set")),
    }
}

/// The group of a Leave, in either form.
pub fn leave(request: &v1::LeaveRequest) -> Result<u32, Status> {
    match (request.group_id, request.partition_id) {
        (0, 0) => Err(invalid("group_id: must be set")),
        (id, 0) | (0, id) => Ok(id),
        (a, b) if a == b => Ok(a),
        _ => Err(invalid("group_id and partition_id: set one of them, not both")),
    }
}

/// The new member of an AddMember.
pub fn new_member(group: u32, wire: Option<v1::MemberConfig>) -> Result<Member, Status> {
    let wire = wire.ok_or_else(|| invalid("member: must be set"))?;
    if wire.role() == v1::MemberRole::Member {
        return Err(invalid("member.role: a member begins as OBSERVER; promote it later"));
    }
    if wire.member_id == 0 {
        return Err(invalid("member.member_id: must be set"));
    }
    member(group, &wire)
}

/// The quota of a SetQuota.
pub fn quota(quota: Option<v1::Quota>) -> Result<v1::Quota, Status> {
    let quota =
        quota.ok_or_else(|| invalid("quota: must be set; without a limit it is removed"))?;
    let length = quota.namespace.len();
    if length > NAME_BYTES_MAX {
        return Err(invalid(format!("quota.namespace: {length} bytes, at most {NAME_BYTES_MAX}")));
    }
    Ok(quota)
}

/// A group id or member id that must be given.
pub fn id<T: Default + PartialEq>(field: &str, id: T) -> Result<T, Status> {
    if id == T::default() { Err(invalid(format!("{field}: must be set"))) } else { Ok(id) }
}

fn group_form(group: v1::GroupConfig, node_id: u64) -> Result<GroupSpec, Status> {
    if group.role() == v1::MemberRole::Witness {
        return Err(witness("group.role"));
    }
    let own = match group.member_id {
        0 => Own::NodeId(node_id),
        id => Own::MemberId(id),
    };
    spec("group.group_id", group.group_id, group.members, own, node_id)
}

fn partition_form(partition: v1::PartitionConfig, node_id: u64) -> Result<GroupSpec, Status> {
    let (id, members) = (partition.partition_id, partition.members);
    spec("partitions.partition_id", id, members, Own::NodeId(node_id), node_id)
}

fn spec(
    field: &str,
    group: u32,
    wire: Vec<v1::MemberConfig>,
    own: Own,
    node_id: u64,
) -> Result<GroupSpec, Status> {
    if group == 0 || group > i32::MAX as u32 {
        return Err(invalid(format!("{field}: must be between 1 and {}", i32::MAX)));
    }
    if wire.is_empty() || wire.len() > MEMBERS_MAX {
        return Err(invalid(format!("members of group {group}: name 1 to {MEMBERS_MAX}")));
    }
    let mut members =
        wire.iter().map(|m| member(group, m)).collect::<Result<Vec<Member>, Status>>()?;
    number(group, &mut members)?;
    distinct(group, &members)?;
    let own = members.iter().find(|m| match own {
        Own::NodeId(id) => m.node_id == id,
        Own::MemberId(id) => m.member_id == id && (m.node_id == node_id || m.node_id == 0),
    });
    let Some(member_id) = own.map(|m| m.member_id) else {
        return Err(invalid(format!(
            "members of group {group}: this node (node_id {node_id}) is not among them"
        )));
    };
    if !members.iter().any(|m| m.role == Role::Voter) {
        return Err(invalid(format!("members of group {group}: none has role MEMBER")));
    }
    Ok(GroupSpec { group, member_id, members })
}

fn member(group: u32, m: &v1::MemberConfig) -> Result<Member, Status> {
    let role = match m.role() {
        v1::MemberRole::Unknown | v1::MemberRole::Member => Role::Voter,
        v1::MemberRole::Observer => Role::Learner,
        v1::MemberRole::Witness => return Err(witness("members.role")),
    };
    if m.node_id == 0 {
        return Err(invalid(format!("members.node_id of group {group}: must be set")));
    }
    if m.host.is_empty() || m.host.len() > 253 {
        return Err(invalid(format!(
            "members.host of node {} in group {group}: must be a host name or address",
            m.node_id
        )));
    }
    let port = u16::try_from(m.port).ok().filter(|p| *p != 0).ok_or_else(|| {
        invalid(format!(
            "members.port of node {} in group {group}: {} is not between 1 and 65535",
            m.node_id, m.port
        ))
    })?;
    Ok(Member { member_id: m.member_id, node_id: m.node_id, host: m.host.clone(), port, role })
}

/// Member ids are all given, or all left out: then they count from 1 in the order of node ids.
fn number(group: u32, members: &mut [Member]) -> Result<(), Status> {
    let missing = members.iter().filter(|m| m.member_id == 0).count();
    if missing == members.len() {
        members.sort_by_key(|m| m.node_id);
        for (member, id) in members.iter_mut().zip(1..) {
            member.member_id = id;
        }
    } else if missing > 0 {
        return Err(invalid(format!(
            "members.member_id of group {group}: set it for all members or for none"
        )));
    }
    members.sort();
    Ok(())
}

fn distinct(group: u32, members: &[Member]) -> Result<(), Status> {
    let ids: BTreeSet<u64> = members.iter().map(|m| m.member_id).collect();
    let nodes: BTreeSet<u64> = members.iter().map(|m| m.node_id).collect();
    if ids.len() != members.len() {
        return Err(invalid(format!("members.member_id of group {group}: named twice")));
    }
    if nodes.len() != members.len() {
        return Err(invalid(format!("members.node_id of group {group}: named twice")));
    }
    Ok(())
}

fn witness(field: &str) -> Status {
    invalid(format!("{field}: WITNESS is not supported, use MEMBER or OBSERVER"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(member_id: u64, node_id: u64) -> v1::MemberConfig {
        v1::MemberConfig { node_id, member_id, host: "h".into(), port: 1, role: 1 }
    }

    fn group(members: Vec<v1::MemberConfig>) -> v1::BootstrapRequest {
        let group = v1::GroupConfig { group_id: 1, member_id: 1, members, ..Default::default() };
        v1::BootstrapRequest { group: Some(group), ..Default::default() }
    }

    fn refused(request: v1::BootstrapRequest, words: &str) {
        let status = bootstrap(request, 7).unwrap_err();
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        assert!(status.message().contains(words), "{}", status.message());
    }

    #[test]
    fn bootstrap_names_the_field_that_is_wrong() {
        let mut both = group(vec![member(1, 7)]);
        both.partitions.push(v1::PartitionConfig::default());
        refused(both, "not both");
        refused(v1::BootstrapRequest::default(), "must be set");
        refused(group(vec![]), "members of group 1");
        refused(group(vec![member(1, 8)]), "is not among them");
        refused(group(vec![member(1, 7), member(1, 8)]), "member_id of group 1: named twice");
        refused(group(vec![member(1, 7), member(2, 7)]), "node_id of group 1: named twice");
        refused(group(vec![member(1, 7), member(0, 8)]), "for all members or for none");
        let port = v1::MemberConfig { port: 70_000, ..member(1, 7) };
        refused(group(vec![port]), "members.port of node 7");
        let role = v1::MemberConfig { role: 3, ..member(1, 7) };
        refused(group(vec![role]), "WITNESS");
        let host = v1::MemberConfig { host: String::new(), ..member(1, 7) };
        refused(group(vec![host]), "members.host");
        let mut zero = group(vec![member(1, 7)]);
        zero.group.as_mut().unwrap().group_id = 0;
        refused(zero, "group_id");
    }

    #[test]
    fn members_without_ids_count_in_the_order_of_nodes() {
        let partition = v1::PartitionConfig {
            partition_id: 3,
            members: vec![member(0, 9), member(0, 7)],
            ..Default::default()
        };
        let request = v1::BootstrapRequest { partitions: vec![partition], ..Default::default() };
        let specs = bootstrap(request, 7).unwrap();
        assert_eq!((specs[0].group, specs[0].member_id), (3, 1));
        assert_eq!(specs[0].members[1].node_id, 9);
    }
}
