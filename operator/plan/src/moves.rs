//! How members of groups get from node to node: an id is written down, the group takes the new member
//! in as a learner, its node starts it empty, it catches up, it votes, and a surplus voter goes.
//!
//! Each pass finds, for each group, the one step that follows from its configuration. A group that is
//! on its way goes on; how many set out is bounded.

use crate::groups::{Group, Led, Member, Standing};
use crate::planning::{Call, NodeCall};
use crate::seats::Seat;
use crate::situation::Situation;
use multiraft_api::{PEER_PORT, PlannedGroup, PlannedMember, PlannedRole, Rebalance};
use multiraft_proto::v1;
use std::collections::BTreeMap;

/// Why a group changes its members; the first that applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// A member's data is lost.
    Lost,
    /// A member is on a node that is to go.
    Leaving,
    /// It has more or fewer voters than it should.
    Count,
    /// Another node holds fewer members, or fails with fewer of them.
    Uneven,
}

/// What all groups together want.
#[derive(Clone, Debug, Default)]
pub struct Moves {
    /// Groups with a new intent, to be written before any call.
    pub intents: BTreeMap<u32, PlannedGroup>,
    pub calls: Vec<NodeCall>,
    /// Groups that are on their way or wait for their turn, each with its cause.
    pub groups: BTreeMap<u32, Cause>,
    /// Groups that want to change and have nowhere to go.
    pub stuck: usize,
}

/// One step of one group.
enum Step {
    /// None while the node to ask is not up.
    Calls(Vec<NodeCall>),
    /// A new member, for this slot.
    Add(i32),
    /// What was planned and not begun is given up.
    Forget,
    /// Something that was begun has to go on elsewhere first.
    Wait,
}

fn calls(call: Option<NodeCall>) -> Step {
    Step::Calls(call.into_iter().collect())
}

pub fn moves(s: &Situation) -> Moves {
    let mut moves = Moves::default();
    let mut loads = s.loads();
    let max = s.cluster.spec.placement.max_concurrent_moves.max(1) as usize;
    let mut wanting: Vec<(Cause, &Group)> =
        s.groups.iter().filter_map(|g| Some((cause(s, g, &loads)?, g))).collect();
    wanting.sort_by_key(|(cause, g)| (rank(s, g), *cause, g.id));
    let mut busy = 0;
    for (_, group) in wanting {
        // What was uneven may be even by a move that was begun just now.
        let Some(cause) = cause(s, group, &loads) else { continue };
        if busy == max && rank(s, group) > 0 {
            moves.groups.insert(group.id, cause);
            continue;
        }
        match step(s, group, cause, &loads) {
            None => {
                moves.stuck += 1;
                continue;
            }
            Some(Step::Wait) => {}
            Some(Step::Calls(calls)) => moves.calls.extend(calls),
            Some(Step::Forget) => {
                let members = group.planned.members.iter();
                let members = members.filter(|m| m.role != PlannedRole::Joining).cloned().collect();
                let planned = PlannedGroup { members, ..group.planned.clone() };
                moves.intents.insert(group.id, planned);
            }
            Some(Step::Add(slot)) => {
                *loads.entry(slot).or_default() += 1;
                let Some(planned) = s.seat(slot).and_then(|seat| plan_member(group, seat)) else {
                    continue;
                };
                if let Some(member) = planned.members.last() {
                    moves.calls.extend(add_member(s, group, member));
                }
                moves.intents.insert(group.id, planned);
            }
        }
        busy += 1;
        moves.groups.insert(group.id, cause);
    }
    moves
}

/// Those on their way come first, then what a change left behind, or took away.
fn rank(s: &Situation, group: &Group) -> u8 {
    let learns = group.members().any(|m| !m.voter);
    match group.joining().is_some() || learns {
        true => 0,
        false if group.voters().count() != s.voters => 1,
        false => 2,
    }
}

fn cause(s: &Situation, group: &Group, loads: &BTreeMap<i32, usize>) -> Option<Cause> {
    group.led.as_ref()?;
    if group.members().any(|m| m.standing == Standing::Lost) {
        return Some(Cause::Lost);
    }
    if group.members().any(|m| is_leaving(s, m)) {
        return Some(Cause::Leaving);
    }
    if rank(s, group) < 2 {
        return Some(Cause::Count);
    }
    let uneven = s.cluster.spec.placement.rebalance == Rebalance::Auto
        && group.is_whole(s.voters)
        && gain(s, group, loads).is_some();
    uneven.then_some(Cause::Uneven)
}

fn is_leaving(s: &Situation, member: &Member) -> bool {
    member.slot.and_then(|slot| s.seat(slot)).is_some_and(|seat| seat.leaving)
}

/// May take a member in.
fn takes(s: &Situation, slot: i32) -> bool {
    s.seat(slot).is_some_and(|seat| !seat.leaving && seat.is_ready() && !seat.is_draining())
}

/// Slots that could take a member in and have none of the group.
fn free(s: &Situation, group: &Group) -> Vec<i32> {
    let held = group.slots(&s.cluster.name);
    let slots = s.seats.iter().map(|seat| seat.slot);
    slots.filter(|slot| !held.contains(slot) && takes(s, *slot)).collect()
}

/// The slot that a member should come to: where it fails with the fewest of those that stay, then the
/// one with the fewest members.
fn destination(s: &Situation, group: &Group, loads: &BTreeMap<i32, usize>) -> Option<i32> {
    let stay: Vec<i32> =
        group.voters().filter(|m| !is_leaving(s, m)).filter_map(|m| m.slot).collect();
    let shared = |slot: i32| s.domain(slot).overlap(stay.iter().map(|other| s.domain(*other)));
    free(s, group).into_iter().min_by_key(|slot| (shared(*slot), loads.get(slot), *slot))
}

/// Where a member should move so that fewer of the group fail together or, with as many, the load is
/// more even.
pub fn gain(s: &Situation, group: &Group, loads: &BTreeMap<i32, usize>) -> Option<i32> {
    let load = |slot: i32| loads.get(&slot).copied().unwrap_or(0);
    let voters: Vec<i32> = group.voters().filter_map(|m| m.slot).collect();
    let fullest = voters.iter().map(|slot| load(*slot)).max()?;
    let now = s.overlap(voters.iter().copied());
    let free = free(s, group);
    if now.is_none() && free.iter().all(|to| fullest < load(*to) + 2) {
        return None;
    }
    let pairs = free.iter().flat_map(|to| voters.iter().map(move |from| (*from, *to)));
    let moved = pairs.map(|(from, to)| {
        let rest = voters.iter().copied().filter(|slot| *slot != from);
        (s.overlap(rest.chain([to])), from, to)
    });
    let better =
        |overlap, from, to| overlap < now || (overlap == now && load(from) >= load(to) + 2);
    let moved = moved.filter(|(overlap, from, to)| better(*overlap, *from, *to));
    moved.map(|(overlap, _, to)| (overlap, load(to), to)).min().map(|(_, _, to)| to)
}

fn step(s: &Situation, group: &Group, cause: Cause, loads: &BTreeMap<i32, usize>) -> Option<Step> {
    let led = group.led.as_ref()?;
    let lost = |m: &&Member| m.standing == Standing::Lost;
    // The new directory has the address of the old one: the old member goes first.
    let lost = led.members.iter().filter(lost).find(|m| can_remove(led, m));
    if let Some(member) = lost {
        return Some(calls(remove(s, group, led, member)));
    }
    if cause == Cause::Lost {
        return None;
    }
    if let Some(learner) = led.members.iter().find(|m| !m.voter) {
        return Some(lead_in(s, group, led, learner));
    }
    if let Some(planned) = group.joining() {
        return Some(begin(s, group, planned));
    }
    let voters = group.voters().count();
    if voters > s.voters {
        let surplus = surplus(s, led, loads)?;
        return Some(calls(remove(s, group, led, surplus)));
    }
    let to = match cause {
        Cause::Uneven => gain(s, group, loads),
        _ => destination(s, group, loads),
    };
    to.map(Step::Add)
}

/// The next step of a learner.
fn lead_in(s: &Situation, group: &Group, led: &Led, learner: &Member) -> Step {
    let seat = learner.slot.and_then(|slot| s.seat(slot));
    let Some(seat) = seat.filter(|seat| !seat.leaving && learner.standing != Standing::Lost) else {
        return calls(remove(s, group, led, learner));
    };
    match learner.standing {
        Standing::Missing => calls(join(s, group, led, seat)),
        Standing::Sound => calls(at_leader(s, led, |fence| {
            let (group_id, version) = (group.id, led.version);
            let member_id = learner.id;
            let fence = Some(fence);
            Call::PromoteMember(v1::PromoteMemberRequest { group_id, member_id, version, fence })
        })),
        Standing::Behind | Standing::Away | Standing::Lost => Step::Wait,
    }
}

/// A member that is written down comes into the group, if its node is still the one that was meant.
fn begin(s: &Situation, group: &Group, planned: &PlannedMember) -> Step {
    let seat = s.seats.iter().find(|seat| seat.name == planned.node);
    let same = |seat: &&Seat| seat.id().is_some_and(|(id, _)| id as i64 == planned.node_id);
    let wanted = group.voters().count() <= s.voters;
    match seat.filter(same) {
        Some(seat) if wanted && takes(s, seat.slot) => calls(add_member(s, group, planned)),
        _ => Step::Forget,
    }
}

fn plan_member(group: &Group, seat: &Seat) -> Option<PlannedGroup> {
    let (node_id, incarnation) = seat.id()?;
    let mut planned = group.planned.clone();
    planned.members.push(PlannedMember {
        id: planned.next_member_id,
        node: seat.name.clone(),
        node_id: node_id as i64,
        incarnation: format!("{incarnation:016x}"),
        role: PlannedRole::Joining,
    });
    planned.next_member_id += 1;
    Some(planned)
}

/// Whom the group can best do without: on a node that is to go, else the one that fails with the most
/// others, else on the fullest one; not the leader if another will do.
fn surplus<'a>(s: &Situation, led: &'a Led, loads: &BTreeMap<i32, usize>) -> Option<&'a Member> {
    let load = |m: &Member| m.slot.and_then(|slot| loads.get(&slot)).copied();
    let shared = |m: &Member| {
        let others = led.members.iter().filter(|other| other.id != m.id);
        let others = others.filter(|other| other.voter && !is_leaving(s, other));
        let domain = m.slot.map(|slot| s.domain(slot)).unwrap_or_default();
        domain.overlap(others.filter_map(|other| Some(s.domain(other.slot?))))
    };
    let voters = led.members.iter().filter(|m| m.voter && can_remove(led, m));
    voters.max_by_key(|m| {
        let dispensable = (is_leaving(s, m), m.standing != Standing::Sound, shared(m));
        (dispensable, load(m), m.slot != Some(led.slot), std::cmp::Reverse(m.id))
    })
}

/// The rest keeps a quorum. The leader looks again.
fn can_remove(led: &Led, member: &Member) -> bool {
    if !member.voter {
        return true;
    }
    let rest = || led.members.iter().filter(|m| m.voter && m.id != member.id);
    let sound = rest().filter(|m| m.standing == Standing::Sound).count();
    2 * sound > rest().count()
}

// ---------------------------------------------------------------------------------------- calls

fn at_leader(s: &Situation, led: &Led, call: impl Fn(v1::Fence) -> Call) -> Option<NodeCall> {
    s.seat(led.slot).and_then(|seat| s.call(seat, call))
}

fn remove(s: &Situation, group: &Group, led: &Led, member: &Member) -> Option<NodeCall> {
    at_leader(s, led, |fence| {
        Call::RemoveMember(v1::RemoveMemberRequest {
            group_id: group.id,
            member_id: member.id,
            version: led.version,
            fence: Some(fence),
        })
    })
}

fn add_member(s: &Situation, group: &Group, planned: &PlannedMember) -> Option<NodeCall> {
    let led = group.led.as_ref()?;
    at_leader(s, led, |fence| {
        Call::AddMember(v1::AddMemberRequest {
            group_id: group.id,
            member: Some(v1::MemberConfig {
                node_id: planned.node_id as u64,
                host: s.host(&planned.node),
                port: i32::from(PEER_PORT),
                role: v1::MemberRole::Observer as i32,
                member_id: planned.id as u64,
            }),
            version: led.version,
            fence: Some(fence),
        })
    })
}

/// The learner's own node creates it; it asks the members that are known to it.
fn join(s: &Situation, group: &Group, led: &Led, seat: &Seat) -> Option<NodeCall> {
    // What an earlier member left there must go first.
    if let Some(old) = seat.node.and_then(|n| n.groups.get(&group.id)) {
        return delete_data(s, seat, group.id, old.member_id);
    }
    let config = |m: &Member| {
        let name = m.slot.and_then(|slot| s.seat(slot)).map(|seat| seat.name.clone())?;
        Some(v1::MemberConfig {
            node_id: m.node_id,
            host: s.host(&name),
            port: i32::from(PEER_PORT),
            role: v1::MemberRole::Unknown as i32,
            member_id: m.id,
        })
    };
    s.call(seat, |fence| {
        Call::Join(v1::JoinRequest {
            group: Some(v1::GroupConfig {
                group_id: group.id,
                members: led.members.iter().filter_map(config).collect(),
                ..Default::default()
            }),
            fence: Some(fence),
            auto_promote: Some(false),
            ..Default::default()
        })
    })
}

pub fn delete_data(s: &Situation, seat: &Seat, group_id: u32, member_id: u64) -> Option<NodeCall> {
    s.call(seat, |fence| {
        Call::DeleteData(v1::DeleteDataRequest { group_id, member_id, fence: Some(fence) })
    })
}
