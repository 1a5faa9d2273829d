//! A disk that goes back, is emptied or is lost, and the member's replacement.
//!
//! A disk that goes back is more than Raft allows for: its member breaks what it promised. Its peers
//! remember what it held and refuse it, each what it heard up to a second or two ago. So the world
//! is calm from before the disk goes back until a new member has taken the old one's place, but for
//! the leaders, which may stand still: the others have to refuse the old member all the same.

use std::collections::{BTreeMap, BTreeSet};

use multiraft_proto::v1::{GroupPhase, GroupState, MemberRole};
use multiraft_shard::{AdminRequest, GroupSpec, Input, Wanted};

use crate::disk::{Disk, Unsynced};
use crate::schedule::Fault;
use crate::world::{Event, World};

const POLL_MICROS: u64 = 200_000;
/// The groups are to be whole before a disk goes back; if this takes longer, it does not.
const GATHER_MICROS: u64 = 20_000_000;
/// What a member holds is known to all within this time: it is told and written every second.
const TELL_MICROS: u64 = 3_000_000;
/// The peers refuse the member within this time: connections are made, and a Hello is sent.
const REFUSE_MICROS: u64 = 4_000_000;
/// Leaders that pause come back after the member was to be refused without them.
const PAUSE_MICROS: u64 = REFUSE_MICROS + 2 * POLL_MICROS;
/// The member is replaced within this time.
const REPLACE_MICROS: u64 = 60_000_000;

/// A replacement under way.
#[derive(Debug)]
pub struct Renewal {
    place: usize,
    fault: Fault,
    stage: Stage,
    since: u64,
    /// What the node's members acknowledged, by group: it has to have a member there again.
    groups: BTreeMap<u32, Acknowledged>,
}

/// Of one member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Acknowledged {
    member_id: u64,
    term: u64,
    index: u64,
}

#[derive(Debug, PartialEq, Eq)]
enum Stage {
    /// Until all groups of the node are whole.
    Gather,
    /// Until all peers know what its members hold.
    Tell,
    /// The old disk is in place; the peers refuse it in these groups.
    Refused(BTreeSet<u32>),
    /// The old member is removed.
    Remove,
    /// A new one joins.
    Join,
}

impl World {
    pub(crate) fn renew(&mut self, place: usize, fault: Fault) {
        if matches!(fault, Fault::RollBack { .. }) && self.nodes[place].copy.is_none() {
            return;
        }
        let (stage, since, groups) = (Stage::Gather, self.now, BTreeMap::new());
        self.renewal = Some(Renewal { place, fault, stage, since, groups });
        self.mend();
        self.end_drains();
        self.at(POLL_MICROS, Event::Renew);
    }

    pub(crate) fn renewal_step(&mut self) {
        let Some(mut renewal) = self.renewal.take() else { return };
        let stays = self.move_on(&mut renewal);
        if stays {
            self.renewal = Some(renewal);
            self.at(POLL_MICROS, Event::Renew);
        }
    }

    /// False when it is over.
    fn move_on(&mut self, renewal: &mut Renewal) -> bool {
        let place = renewal.place;
        let took = self.now - renewal.since;
        match &renewal.stage {
            Stage::Gather => {
                if took > GATHER_MICROS {
                    return false;
                }
                let Some(groups) = self.whole_groups(place) else { return true };
                renewal.groups = groups;
                (renewal.stage, renewal.since) = (Stage::Tell, self.now);
            }
            Stage::Tell if took < TELL_MICROS => {}
            Stage::Tell => {
                let same = |a: &Acknowledged, b: &Acknowledged| {
                    (a.member_id, a.term) == (b.member_id, b.term)
                };
                let now = self.whole_groups(place).unwrap_or_default();
                let then = &renewal.groups;
                let stays = now.len() == then.len()
                    && then.iter().all(|(g, a)| now.get(g).is_some_and(|b| same(a, b)));
                match stays {
                    true => self.set_back(renewal),
                    false => (renewal.stage, renewal.since) = (Stage::Gather, self.now),
                }
            }
            Stage::Refused(groups) => {
                let open: Vec<u32> =
                    groups.iter().copied().filter(|g| !self.is_refused(place, *g)).collect();
                assert!(
                    open.is_empty() || took < REFUSE_MICROS,
                    "[refused] {:?}: the peers take the member at place {place} for a sound one in \
                     groups {open:?}",
                    renewal.fault
                );
                if took >= REFUSE_MICROS {
                    (renewal.stage, renewal.since) = (Stage::Remove, self.now);
                }
            }
            Stage::Remove => {
                self.assert_in_time(renewal, "removed");
                let id = self.nodes[place].id();
                let mut left = false;
                for group in renewal.groups.keys().copied() {
                    let member = self.member_on(group, id);
                    left |= member.is_some();
                    if let Some(member_id) = member {
                        self.ask_leader(group, Wanted::Removed(member_id));
                    }
                }
                if !left {
                    self.replace(place);
                    (renewal.stage, renewal.since) = (Stage::Join, self.now);
                }
            }
            Stage::Join => {
                self.assert_in_time(renewal, "replaced");
                let id = self.nodes[place].id();
                let mut missing = false;
                for group in renewal.groups.keys().copied() {
                    let votes = self.configuration(group).is_some_and(|c| {
                        c.members.iter().any(|m| m.node_id == id && m.role() == MemberRole::Member)
                    });
                    missing |= !votes;
                    if votes {
                        continue;
                    }
                    self.join_anew(group, place);
                    if let Some(member_id) = self.member_on(group, id) {
                        self.ask_leader(group, Wanted::Voter(member_id));
                    }
                }
                return missing;
            }
        }
        true
    }

    fn assert_in_time(&self, renewal: &Renewal, what: &str) {
        assert!(
            self.now - renewal.since < REPLACE_MICROS,
            "[replaced in time] {:?}: the member is not {what} after {REPLACE_MICROS} µs without \
             faults: {}",
            renewal.fault,
            self.describe()
        );
    }

    fn member_on(&self, group: u32, node_id: u64) -> Option<u64> {
        let members = self.configuration(group)?.members;
        members.iter().find(|m| m.node_id == node_id).map(|m| m.member_id)
    }

    /// The groups of a node, if in each of them another node leads, hears all members, and all of
    /// them hold the whole log.
    fn whole_groups(&mut self, place: usize) -> Option<BTreeMap<u32, Acknowledged>> {
        let id = self.nodes[place].id();
        let mut groups = BTreeMap::new();
        let mut whole = self.nodes.iter().all(|node| node.life.is_some());
        for group in 1..=self.options.shape.groups {
            let Some(state) = self.leader_state(group) else {
                whole = false;
                continue;
            };
            let held = self.nodes[place].disk.synced.groups.contains_key(&group);
            let member = state.members.iter().find(|m| m.node_id == id);
            whole &= held == member.is_some();
            let Some(member) = member else { continue };
            let (member_id, term, index) = (member.member_id, state.term, state.last_index);
            groups.insert(group, Acknowledged { member_id, term, index });
            if state.leader == id {
                whole = false;
                self.ask_leader(group, Wanted::Leader(0));
            }
            let has_all = |m: u64| {
                state
                    .progress
                    .iter()
                    .any(|p| p.member_id == m && p.matched_index == state.last_index)
            };
            whole &= state.members.iter().all(|m| has_all(m.member_id));
            whole &= state.applied_index == state.last_index;
        }
        whole.then_some(groups)
    }

    fn leader_state(&self, group: u32) -> Option<GroupState> {
        let node = &self.nodes[self.leader_of(group)?];
        node.life.as_ref()?.shard.group_state(group)
    }

    /// Puts the old, empty or new disk in place.
    fn set_back(&mut self, renewal: &mut Renewal) {
        let place = renewal.place;
        self.kill(place, Unsynced::Torn, 100_000);
        renewal.since = self.now;
        let mut pause = false;
        match renewal.fault {
            Fault::RollBack { leaders_pause, .. } => {
                pause = leaders_pause;
                let disk = self.nodes[place].copy.take().expect("asked when the fault began");
                self.report.roll_backs += 1;
                let behind = renewal.groups.iter().filter(|(g, held)| is_behind(&disk, **g, held));
                renewal.stage = Stage::Refused(behind.map(|(group, _)| *group).collect());
                self.nodes[place].disk = disk;
            }
            Fault::Wipe { leaders_pause, .. } => {
                pause = leaders_pause;
                self.report.wiped_disks += 1;
                // An operator forms a group with a member that it never removed.
                let first = renewal.groups.iter().filter_map(|(group, held)| {
                    self.spec(*group, place).filter(|spec| spec.member_id == held.member_id)
                });
                let formed: Vec<GroupSpec> = first.collect();
                renewal.stage = Stage::Refused(formed.iter().map(|spec| spec.group).collect());
                self.nodes[place].disk.wipe();
                self.formed_again = Some((place, formed));
            }
            _ => {
                self.report.lost_disks += 1;
                renewal.stage = Stage::Remove;
                self.nodes[place].disk.lose();
            }
        }
        for group in renewal.groups.keys().filter(|_| pause) {
            if let Some(leader) = self.leader_of(*group) {
                self.nodes[leader].paused_until = self.now + PAUSE_MICROS;
            }
        }
        self.nodes[place].set_back += 1;
        self.invariants.set_back = Some(place);
    }

    /// Closed, or not heard at all.
    fn is_refused(&self, place: usize, group: u32) -> bool {
        let Some(life) = &self.nodes[place].life else { return false };
        let Some(state) = life.shard.group_state(group) else { return false };
        let peers = life.shard.peers();
        let heard = |id: u64| peers.iter().any(|peer| peer.node_id == id && peer.connected);
        let members = self.configuration(group).map(|c| c.members).unwrap_or_default();
        let heard = members.iter().any(|m| heard(m.node_id));
        state.phase() == GroupPhase::RolledBack || !heard
    }

    /// A node with an empty directory, and so with another id, takes the place.
    fn replace(&mut self, place: usize) {
        let old = self.nodes[place].id();
        self.kill(place, Unsynced::Torn, 100_000);
        let node = &mut self.nodes[place];
        node.disk.lose();
        node.set_back += 1;
        node.lost += 1;
        self.invariants.set_back = None;
        self.moves.forget(old);
    }

    /// After a process start: who forms groups on an empty disk does so now.
    pub(crate) fn form_again(&mut self, place: usize) {
        if let Some((_, groups)) = self.formed_again.take_if(|(p, _)| *p == place) {
            let request = AdminRequest::Bootstrap { groups, fence: None };
            self.input(place, Input::Admin { token: 1, request });
        } else if self.nodes[place].disk.synced.groups.is_empty() {
            let request = AdminRequest::Activate { groups: 0, fence: None };
            self.input(place, Input::Admin { token: 1, request });
        }
    }
}

/// Whether a disk holds less of a group than its member acknowledged. An earlier member of the node
/// has no part in the group any more.
fn is_behind(disk: &Disk, group: u32, held: &Acknowledged) -> bool {
    let Some(old) = disk.synced.groups.get(&group) else { return false };
    old.member_id() == held.member_id
        && (old.state.term, old.last_index()) < (held.term, held.index)
}
