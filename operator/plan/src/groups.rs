//! The groups of a formed cluster as their own configurations say, which is the truth once a group
//! is formed; the slices are what the operator means to do about it.

use crate::names::slot_of;
use crate::observed::Observed;
use crate::seats::Seat;
use multiraft_api::{PlannedGroup, PlannedMember, PlannedRole};
use multiraft_proto::v1;
use std::collections::BTreeMap;

/// What became of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Its node is heard of and runs it, caught up with what was committed when it started.
    Sound,
    /// The same, catching up.
    Behind,
    /// Its node is heard of and does not run it (yet).
    Missing,
    /// Its node is not heard of.
    Away,
    /// Its data is gone for good, or is not to be trusted: it never votes again.
    Lost,
}

/// A member of a group's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub id: u64,
    pub node_id: u64,
    pub voter: bool,
    /// Where it is; none for a node that this operator does not know.
    pub slot: Option<i32>,
    pub standing: Standing,
}

/// A group that has a leader which is heard of.
#[derive(Clone, Debug)]
pub struct Led {
    /// Slot of the leader.
    pub slot: i32,
    /// Version of the configuration.
    pub version: u64,
    pub members: Vec<Member>,
}

/// A group.
#[derive(Clone, Debug)]
pub struct Group {
    pub id: u32,
    /// What the slice says, brought up to date with the configuration.
    pub planned: PlannedGroup,
    /// None while nobody leads it, or the leader is not heard of.
    pub led: Option<Led>,
}

impl Group {
    pub fn voters(&self) -> impl Iterator<Item = &Member> {
        self.members().filter(|m| m.voter)
    }

    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.led.iter().flat_map(|led| &led.members)
    }

    /// The member that was given an id and is not part of the configuration yet.
    pub fn joining(&self) -> Option<&PlannedMember> {
        self.planned.members.iter().find(|m| m.role == PlannedRole::Joining)
    }

    /// Slots of all members, as configured or, without a leader, as planned; joining ones included.
    pub fn slots(&self, cluster: &str) -> Vec<i32> {
        let planned = self.planned.members.iter();
        planned.filter_map(|m| slot_of(cluster, &m.node)).collect()
    }

    /// Whether it keeps a quorum of sound voters without a slot, or has none to lose there.
    pub fn spares(&self, slot: i32) -> bool {
        let Some(led) = &self.led else { return false };
        let voters = self.voters().count();
        if !self.voters().any(|m| m.slot == Some(slot)) {
            return true;
        }
        let left = led.members.iter().filter(|m| m.voter && m.slot != Some(slot));
        2 * left.filter(|m| m.standing == Standing::Sound).count() > voters
    }

    /// Nothing about it is under way, and all its voters are well.
    pub fn is_whole(&self, voters: usize) -> bool {
        let well = self.members().all(|m| m.voter && m.standing == Standing::Sound);
        self.led.is_some() && self.joining().is_none() && well && self.voters().count() == voters
    }
}

/// All groups, by the order of their plan.
pub fn groups(
    cluster: &str,
    observed: &Observed,
    planned: &[PlannedGroup],
    seats: &[Seat],
) -> Vec<Group> {
    let places = Places::of(cluster, planned, seats);
    planned
        .iter()
        .map(|planned| {
            let id = planned.id.unsigned_abs();
            let state = leader_state(id, observed);
            let led = state.and_then(|state| {
                let members = state.members.iter().map(|m| places.member(id, m, seats));
                let slot = places.slots.get(&state.leader).copied()?;
                Some(Led { slot, version: state.config_version, members: members.collect() })
            });
            let mut planned = planned.clone();
            if let (Some(state), Some(led)) = (state, &led) {
                follow(&mut planned, state, led, &places, cluster);
            }
            Group { id, planned, led }
        })
        .collect()
}

/// The state as the leader of the newest term tells it.
fn leader_state(id: u32, observed: &Observed) -> Option<&v1::GroupState> {
    let leads = |n: &&crate::observed::Node| {
        let own = n.id().map(|(node_id, _)| node_id);
        n.connected && n.groups.get(&id).is_some_and(|s| s.leader != 0 && Some(s.leader) == own)
    };
    let states = observed.nodes.values().filter(leads).filter_map(|n| n.groups.get(&id));
    states.max_by_key(|s| s.term)
}

/// Brings what is planned up to date with the configuration. Of what is planned only members that
/// the group never had go on: an id that it had and has no more is used up.
fn follow(
    planned: &mut PlannedGroup,
    state: &v1::GroupState,
    led: &Led,
    places: &Places,
    cluster: &str,
) {
    let max = state.member_id_max as i64;
    let joining = |m: &&PlannedMember| m.role == PlannedRole::Joining && m.id > max;
    let joining: Vec<PlannedMember> = planned.members.iter().filter(joining).cloned().collect();
    let known: BTreeMap<i64, PlannedMember> =
        planned.members.iter().map(|m| (m.id, m.clone())).collect();
    let member = |m: &Member| {
        let role = if m.voter { PlannedRole::Voter } else { PlannedRole::Learner };
        let old = known.get(&(m.id as i64)).filter(|old| old.node_id as u64 == m.node_id);
        match old {
            Some(old) => PlannedMember { role, ..old.clone() },
            None => PlannedMember {
                id: m.id as i64,
                node: m.slot.map(|s| crate::pod_name(cluster, s)).unwrap_or_default(),
                node_id: m.node_id as i64,
                incarnation: places.incarnations.get(&m.node_id).cloned().unwrap_or_default(),
                role,
            },
        }
    };
    planned.members = led.members.iter().map(member).chain(joining).collect();
    planned.members.sort_by_key(|m| m.id);
    planned.next_member_id = planned.next_member_id.max(max + 1);
}

/// Which node is where.
struct Places {
    slots: BTreeMap<u64, i32>,
    incarnations: BTreeMap<u64, String>,
}

impl Places {
    fn of(cluster: &str, planned: &[PlannedGroup], seats: &[Seat]) -> Self {
        let mut this = Places { slots: BTreeMap::new(), incarnations: BTreeMap::new() };
        for member in planned.iter().flat_map(|g| &g.members) {
            let Some(slot) = slot_of(cluster, &member.node) else { continue };
            this.slots.insert(member.node_id as u64, slot);
            this.incarnations.insert(member.node_id as u64, member.incarnation.clone());
        }
        for seat in seats {
            let Some((node_id, incarnation)) = seat.id() else { continue };
            this.slots.insert(node_id, seat.slot);
            this.incarnations.insert(node_id, format!("{incarnation:016x}"));
        }
        this
    }

    fn member(&self, group: u32, config: &v1::MemberConfig, seats: &[Seat]) -> Member {
        let slot = self.slots.get(&config.node_id).copied();
        let seat = slot.and_then(|slot| seats.iter().find(|s| s.slot == slot));
        Member {
            id: config.member_id,
            node_id: config.node_id,
            voter: config.role() != v1::MemberRole::Observer,
            slot,
            standing: seat.map_or(Standing::Away, |seat| standing(group, config, seat)),
        }
    }
}

fn standing(group: u32, config: &v1::MemberConfig, seat: &Seat) -> Standing {
    let Some((node_id, _)) = seat.id() else { return Standing::Away };
    if !seat.node.is_some_and(|n| n.connected) {
        return Standing::Away;
    }
    // Another directory runs in its place: the old one is gone.
    if node_id != config.node_id {
        return Standing::Lost;
    }
    let held = seat.node.and_then(|n| n.groups.get(&group));
    match held {
        Some(held) if held.member_id != config.member_id => Standing::Missing,
        Some(held) if held.phase() == v1::GroupPhase::RolledBack => Standing::Lost,
        Some(held) if held.phase() == v1::GroupPhase::Ready => Standing::Sound,
        Some(_) => Standing::Behind,
        None => Standing::Missing,
    }
}
