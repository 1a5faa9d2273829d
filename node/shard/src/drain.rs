//! Planned absence: leaderships go to caught-up members before a node stops, some at a time, and
//! a probe says what would be in danger if it stopped now.

use crate::changes::Neighbours;
use crate::io::AdminAnswer;
use crate::limits::{DRAIN_LAG_MAX, HAND_OVER_MICROS, HAND_OVERS_AT_ONCE};
use crate::replica::Replica;
use crate::shard::Shard;
use crate::{AdminError, Fence};
use multiraft_group::Role;
use multiraft_proto::v1::group_disruption::Reason;
use multiraft_proto::v1::{CheckDisruptionResponse, GroupDisruption};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Default)]
pub(crate) struct Drain {
    /// Somebody asked for it.
    wanted: bool,
    /// The disk stands still, or has no space: it must lead nothing.
    disk_fails: bool,
    announced: bool,
    /// Led groups that wait for their turn.
    queue: BTreeSet<u32>,
    /// Transfers under way, with the time at which they count as failed.
    in_flight: BTreeMap<u32, u64>,
}

impl Drain {
    pub fn is_on(&self) -> bool {
        self.wanted || self.disk_fails
    }
}

impl Shard {
    /// Starts or ends draining; answers all that is led still.
    pub(crate) fn drain(
        &mut self,
        token: u64,
        drain: bool,
        fence: Option<&Fence>,
    ) -> Result<(), AdminError> {
        let facts = self.check_fence(fence)?;
        self.store_facts(facts);
        self.set_draining(drain);
        let led = self.replicas.values().filter(|r| r.group.is_leader()).map(|r| r.id).collect();
        self.answer_durably(token, AdminAnswer::Led(led));
        Ok(())
    }

    /// The process itself is about to stop: needs no fence, and answers only what somebody else
    /// could lead, for it is not worth waiting for the rest.
    pub(crate) fn hand_over_all(&mut self, token: u64) {
        self.set_draining(true);
        let led =
            self.replicas.values().filter(|r| r.heir(&self.neighbours(r.id).willing).is_some());
        let led = led.map(|r| r.id).collect();
        self.ctx.out.admin.push((token, Ok(AdminAnswer::Led(led))));
    }

    fn set_draining(&mut self, drain: bool) {
        self.drain.wanted = drain;
        self.drain_tick();
    }

    /// Every tick: whatever is led has to go.
    pub(crate) fn drain_tick(&mut self) {
        self.drain.disk_fails = self.disk_stands_still() || self.space_is_low;
        let is_on = self.drain.is_on();
        if is_on != self.drain.announced {
            self.drain.announced = is_on;
            for replica in self.replicas.values_mut() {
                replica.group.set_reluctant(is_on);
            }
            self.announce_groups();
        }
        if !is_on {
            (self.drain.queue, self.drain.in_flight) = Default::default();
            return;
        }
        let now = self.ctx.now.micros;
        self.drain.in_flight.retain(|_, deadline| now < *deadline);
        let led = self.replicas.values().filter(|r| r.group.is_leader()).map(|r| r.id);
        let waits = |id: &u32| !self.drain.in_flight.contains_key(id);
        self.drain.queue = led.filter(waits).collect();
        self.drain_some();
    }

    /// After a group was driven: the next one may have its turn.
    pub(crate) fn drained(&mut self, id: u32) {
        let leads = self.replicas.get(&id).is_some_and(|r| r.group.is_leader());
        if self.drain.is_on() && !leads && self.drain.in_flight.remove(&id).is_some() {
            self.drain_some();
        }
    }

    fn drain_some(&mut self) {
        while self.drain.in_flight.len() < HAND_OVERS_AT_ONCE {
            let Some(id) = self.drain.queue.pop_first() else { return };
            let willing = self.neighbours(id).willing;
            let handed = self.replicas.get_mut(&id).is_some_and(|r| r.hand_over(&willing));
            if handed {
                let deadline = self.ctx.now.micros + HAND_OVER_MICROS;
                self.drain.in_flight.insert(id, deadline);
                self.mark(id);
            }
        }
    }

    /// Which groups would be in danger if a node stopped now.
    pub(crate) fn check_disruption(&self, node: u64, lag_max: u64) -> AdminAnswer {
        let node = if node == 0 { self.ctx.node_id() } else { node };
        let lag_max = if lag_max == 0 { DRAIN_LAG_MAX } else { lag_max };
        let mut answer = CheckDisruptionResponse::default();
        for replica in self.replicas.values().filter(|r| !r.is_closed()) {
            let concerned = replica.group.configuration().on_node(node).is_some();
            if !concerned || (replica.leader_node() != 0 && !replica.group.is_leader()) {
                continue;
            }
            answer.checked_groups += 1;
            answer.groups.extend(replica.disruption(node, &self.neighbours(replica.id), lag_max));
        }
        AdminAnswer::Disruption(answer)
    }
}

impl Replica {
    fn disruption(
        &self,
        node: u64,
        neighbours: &Neighbours,
        lag_max: u64,
    ) -> Option<GroupDisruption> {
        let danger = |reason: Reason, nodes| {
            Some(GroupDisruption { group_id: self.id, reason: reason as i32, nodes })
        };
        if !self.group.is_leader() {
            return danger(Reason::NoLeader, Vec::new());
        }
        let (sound, own) = (self.sound_voters(neighbours), self.group.member_id());
        let voters: Vec<_> = self.group.configuration().voters().collect();
        let majority = voters.len() / 2 + 1;
        let others = || voters.iter().filter(|m| m.node_id != node);
        let missing = others().filter(|m| !sound.contains(&m.member_id));
        let missing: Vec<u64> = missing.map(|m| m.node_id).collect();
        let stays = others().count() - missing.len();
        if stays < majority && voters.iter().any(|m| m.node_id == node) {
            return danger(Reason::QuorumLost, missing);
        }
        let behind = |id: u64| id != own && self.lag(id).is_none_or(|lag| lag > lag_max);
        let behind: Vec<u64> =
            others().filter(|m| behind(m.member_id)).map(|m| m.node_id).collect();
        if others().count() - behind.len() < majority {
            return danger(Reason::MemberBehind, behind);
        }
        None
    }

    /// On the leader: the voter on one of these nodes that has most of the log.
    fn heir(&self, willing: &BTreeSet<u64>) -> Option<u64> {
        let configuration = self.group.configuration();
        let own = self.group.member_id();
        let is_candidate = |id: u64| {
            let member = configuration.member(id).filter(|m| m.role == Role::Voter && id != own);
            member.is_some_and(|m| willing.contains(&m.node_id))
        };
        let candidates = self.group.progress().into_iter().filter(|(id, _, _)| is_candidate(*id));
        candidates.max_by_key(|(id, matched, _)| (*matched, *id)).map(|(id, _, _)| id)
    }

    /// Hands leadership over. False: this member does not lead, or nobody takes it.
    pub fn hand_over(&mut self, willing: &BTreeSet<u64>) -> bool {
        let heir = self.heir(willing);
        if let Some(member_id) = heir {
            self.group.transfer(member_id);
        }
        heir.is_some()
    }
}
