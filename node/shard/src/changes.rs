//! Administration calls that change who is a member or who leads, one at a time in each group. Each
//! says what it wants; it is answered when that holds, so that it may be repeated at will.

use crate::io::AdminAnswer;
use crate::limits::{ADMIN_MICROS_MAX, HAND_OVER_MICROS, PROMOTE_LAG_MAX};
use crate::replica::Replica;
use crate::shard::Shard;
use crate::{AdminError, AdminErrorKind, Fence};
use multiraft_group::{Change, Member, Role};
use std::collections::{BTreeMap, BTreeSet};

/// What a call wants of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// This member, a learner at least.
    Learner(Member),
    /// That this member, present already, votes.
    Voter(u64),
    /// That this member is none any more.
    Removed(u64),
    /// That this node leads, or (0) any other than the one that is asked.
    Leader(u64),
}

/// A call that waits for its change.
#[derive(Debug)]
pub(crate) struct Waiting {
    token: u64,
    wanted: Wanted,
    deadline: u64,
}

/// Nodes in session, as far as one group is concerned.
#[derive(Debug)]
pub(crate) struct Neighbours {
    /// Their member of the group, if they have one, is not refused for its disk.
    pub sound: BTreeSet<u64>,
    /// Of these, those that take leaderships.
    pub willing: BTreeSet<u64>,
}

pub(crate) type Changes = BTreeMap<u32, Vec<Waiting>>;

impl Shard {
    pub(crate) fn change(
        &mut self,
        token: u64,
        id: u32,
        wanted: Wanted,
        version: u64,
        fence: Option<&Fence>,
    ) -> Result<(), AdminError> {
        let facts = self.check_fence(fence)?;
        self.store_facts(facts);
        let own_node = self.ctx.node_id();
        let neighbours = self.neighbours(id);
        let replica = self.open_replica(id)?;
        if let Some(answer) = replica.holds(&wanted, own_node) {
            self.answer_durably(token, answer);
            return Ok(());
        }
        let others = self.changes.get(&id).into_iter().flatten();
        let repeated = others.clone().any(|w| w.wanted == wanted);
        if !repeated {
            if others.count() > 0 {
                return Err(failed(format!(
                    "group_id {id}: another change is under way; repeat when it is done"
                )));
            }
            let replica = self.open_replica(id)?;
            replica.start_change(&wanted, version, &neighbours)?;
            self.mark(id);
        }
        let patience = match wanted {
            Wanted::Leader(_) => HAND_OVER_MICROS,
            _ => ADMIN_MICROS_MAX,
        };
        let deadline = self.ctx.now.micros + patience;
        self.changes.entry(id).or_default().push(Waiting { token, wanted, deadline });
        Ok(())
    }

    fn open_replica(&mut self, id: u32) -> Result<&mut Replica, AdminError> {
        let replica = self.replicas.get_mut(&id).filter(|r| !r.is_closed());
        replica.ok_or_else(|| {
            let message = format!("group_id {id}: this node is no member of it");
            AdminError::new(AdminErrorKind::NotFound, message)
        })
    }

    /// Whom this node can count on in a group.
    pub(crate) fn neighbours(&self, group: u32) -> Neighbours {
        let peers = self.ctx.peers.iter().filter(|(_, p)| p.pair.is_up()).map(|(n, _)| *n);
        let sound = peers.filter(|n| !self.ctx.refused.contains(&(*n, group)));
        let sound: BTreeSet<u64> = sound.collect();
        let willing = sound.iter().copied().filter(|n| !self.directory.is_draining(*n)).collect();
        Neighbours { sound, willing }
    }

    /// Answers the calls whose change is done, or can no more be done by this member.
    pub(crate) fn settle_changes(&mut self, id: u32) {
        let Some(waiting) = self.changes.remove(&id) else { return };
        let (now, own_node) = (self.ctx.now.micros, self.ctx.node_id());
        let mut left = Vec::new();
        for call in waiting {
            let replica = self.replicas.get(&id);
            let holds = replica.and_then(|r| r.holds(&call.wanted, own_node));
            let leads = replica.is_some_and(|r| r.group.is_leader());
            let elects = matches!(call.wanted, Wanted::Leader(_)) && replica.is_some();
            match holds {
                Some(answer) => self.answer_durably(call.token, answer),
                None if now < call.deadline && (leads || elects) => {
                    left.push(call);
                }
                None => {
                    let e = unavailable(format!(
                        "group_id {id}: the change is not seen done, and may still happen; repeat"
                    ));
                    self.ctx.out.admin.push((call.token, Err(e)));
                }
            }
        }
        if !left.is_empty() {
            self.changes.insert(id, left);
        }
    }

    pub(crate) fn settle_all_changes(&mut self) {
        let groups: Vec<u32> = self.changes.keys().copied().collect();
        groups.into_iter().for_each(|id| self.settle_changes(id));
    }

    /// Deletes what is left of a member that its group removed.
    pub(crate) fn delete_data(
        &mut self,
        token: u64,
        id: u32,
        member_id: u64,
        fence: Option<&Fence>,
    ) -> Result<(), AdminError> {
        let facts = self.check_fence(fence)?;
        let replica = self.replicas.get(&id).filter(|r| r.group.member_id() == member_id);
        if let Some(replica) = replica
            && replica.role().is_some()
            && !replica.is_closed()
        {
            return Err(failed(format!(
                "member_id {member_id}: is part of group {id} as far as this node knows; remove \
                 it first"
            )));
        }
        self.store_facts(facts);
        self.left(id, member_id);
        self.answer_when_durable(token);
        Ok(())
    }
}

impl Replica {
    /// The answer to a call whose wish is true already.
    fn holds(&self, wanted: &Wanted, own_node: u64) -> Option<AdminAnswer> {
        let configuration = self.group.configuration();
        let config =
            || AdminAnswer::Configuration(configuration.to_wire(self.id, self.group.member_id()));
        match wanted {
            Wanted::Learner(member) => {
                let present = configuration.member(member.member_id)?;
                (present.node_id == member.node_id).then(config)
            }
            Wanted::Voter(member_id) => {
                let present = configuration.member(*member_id)?;
                (present.role == Role::Voter).then(config)
            }
            Wanted::Removed(member_id) => {
                let used = *member_id <= configuration.member_id_max;
                (used && configuration.member(*member_id).is_none()).then(config)
            }
            Wanted::Leader(node) => {
                let leader = self.leader_node();
                let right = if *node == 0 { leader != own_node } else { leader == *node };
                let term = self.group.term();
                (leader != 0 && right).then_some(AdminAnswer::Leader { leader, term })
            }
        }
    }

    fn start_change(
        &mut self,
        wanted: &Wanted,
        version: u64,
        neighbours: &Neighbours,
    ) -> Result<(), AdminError> {
        let id = self.id;
        if !self.group.is_leader() {
            return Err(unavailable(match self.leader_node() {
                0 => format!("group_id {id}: has no leader now; repeat"),
                node => format!("group_id {id}: node {node} leads it; ask there"),
            }));
        }
        if !self.group.is_settled() {
            return Err(unavailable(format!("group_id {id}: its leader is new; repeat")));
        }
        let present = self.group.configuration().version;
        if version != 0 && version != present {
            return Err(failed(format!(
                "version: group {id} has version {present}, not {version}: read it again"
            )));
        }
        let change = match wanted {
            Wanted::Leader(node) => return self.start_transfer(*node, &neighbours.willing),
            Wanted::Learner(member) => self.addition(member)?,
            Wanted::Voter(member_id) => self.promotion(*member_id)?,
            Wanted::Removed(member_id) => self.removal(*member_id, neighbours)?,
        };
        self.group.propose_change(&change).map_err(|e| match e {
            multiraft_group::ProposeError::ChangeInFlight => {
                failed(format!("group_id {id}: {e}; repeat when it is done"))
            }
            e => unavailable(format!("group_id {id}: {e}; repeat")),
        })
    }

    fn addition(&self, member: &Member) -> Result<Change, AdminError> {
        let configuration = self.group.configuration();
        if let Some(other) = configuration.on_node(member.node_id) {
            return Err(failed(format!(
                "member.node_id: node {} is member {} of group {} already",
                member.node_id, other.member_id, self.id
            )));
        }
        if member.member_id <= configuration.member_id_max {
            return Err(failed(format!(
                "member.member_id: {} was used in group {} before; choose one above {}",
                member.member_id, self.id, configuration.member_id_max
            )));
        }
        Ok(Change::Put(Member { role: Role::Learner, ..member.clone() }))
    }

    fn promotion(&self, member_id: u64) -> Result<Change, AdminError> {
        let member = self.present(member_id)?;
        let lag = self.lag(member_id).ok_or_else(|| {
            failed(format!("member_id {member_id}: has not answered yet; promote it later"))
        })?;
        if lag > PROMOTE_LAG_MAX {
            return Err(failed(format!(
                "member_id {member_id}: lags {lag} entries behind the leader of group {}; promote \
                 it when that is at most {PROMOTE_LAG_MAX}",
                self.id
            )));
        }
        Ok(Change::Put(Member { role: Role::Voter, ..member.clone() }))
    }

    fn removal(&mut self, member_id: u64, neighbours: &Neighbours) -> Result<Change, AdminError> {
        let id = self.id;
        self.present(member_id)?;
        self.check_removal(member_id, neighbours).map_err(failed)?;
        if member_id == self.group.member_id() {
            self.hand_over(&neighbours.willing);
            return Err(unavailable(format!(
                "member_id {member_id}: leads group {id} and is handing that over; repeat at the \
                 next leader"
            )));
        }
        Ok(Change::Remove { member_id })
    }

    /// Whether the group can go on without a member of it; if not, the reason.
    pub fn check_removal(&self, member_id: u64, neighbours: &Neighbours) -> Result<(), String> {
        let (id, configuration) = (self.id, self.group.configuration());
        if configuration.member(member_id).is_none_or(|m| m.role != Role::Voter) {
            return Ok(());
        }
        let left = configuration.voters().count() - 1;
        if left == 0 {
            return Err(format!(
                "member_id {member_id}: is the last voter of group {id}: deleting the group needs \
                 another way"
            ));
        }
        let sound = self.sound_voters(neighbours).into_iter().filter(|m| *m != member_id).count();
        if sound <= left / 2 {
            return Err(format!(
                "member_id {member_id}: of the {left} voters that group {id} would be left with \
                 only {sound} are connected and sound"
            ));
        }
        Ok(())
    }

    fn present(&self, member_id: u64) -> Result<&Member, AdminError> {
        self.group.configuration().member(member_id).ok_or_else(|| {
            let message = format!("member_id {member_id}: is no member of group {}", self.id);
            AdminError::new(AdminErrorKind::NotFound, message)
        })
    }

    fn start_transfer(&mut self, node: u64, willing: &BTreeSet<u64>) -> Result<(), AdminError> {
        let id = self.id;
        if node == 0 {
            if self.hand_over(willing) {
                return Ok(());
            }
            return Err(failed(format!(
                "group_id {id}: no other voter is connected and takes leadership"
            )));
        }
        let member = self.group.configuration().on_node(node).cloned();
        let Some(member) = member.filter(|m| m.role == Role::Voter) else {
            return Err(failed(format!("to: node {node} has no voter of group {id}")));
        };
        // raft would leave a leader without followers in office for as long as it is asked.
        if !willing.contains(&node) {
            return Err(failed(format!("to: node {node} is not connected, or it drains")));
        }
        self.group.transfer(member.member_id);
        Ok(())
    }

    /// On the leader: entries that a member is behind; `None` as long as it has said nothing, for it
    /// may not even exist.
    pub fn lag(&self, member_id: u64) -> Option<u64> {
        let progress = self.group.progress();
        let (_, matched, _) = progress.iter().find(|(id, _, _)| *id == member_id)?;
        (*matched > 0).then(|| self.group.last_index().saturating_sub(*matched))
    }

    /// Voters on connected nodes that nobody refuses, this one included: member ids. raft's own
    /// record of who was active stands still while a group rests.
    pub fn sound_voters(&self, neighbours: &Neighbours) -> Vec<u64> {
        let own = self.group.member_id();
        let voters = self.group.configuration().voters();
        let hears = |m: &&Member| m.member_id == own || neighbours.sound.contains(&m.node_id);
        voters.filter(hears).map(|m| m.member_id).collect()
    }
}

pub(crate) fn failed(message: String) -> AdminError {
    AdminError::new(AdminErrorKind::FailedPrecondition, message)
}

pub(crate) fn unavailable(message: String) -> AdminError {
    AdminError::new(AdminErrorKind::Unavailable, message)
}
