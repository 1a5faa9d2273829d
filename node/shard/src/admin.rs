//! Administration of the node: fences, bootstrap, activation, the state of joins and leaves.

use crate::changes::failed;
use crate::io::{AdminAnswer, GroupPersist, NodeFacts};
use crate::limits::ADMIN_MICROS_MAX;
use crate::replica::Replica;
use crate::shard::Shard;
use crate::{AdminError, AdminErrorKind, AdminRequest, Fence, GroupSpec};
use multiraft_group::{Configuration, Group, Member, Origin};
use multiraft_machine::Machine;
use multiraft_proto::link::{AskAnswer, ask, ask_answer};
use multiraft_proto::log::StoredConfiguration;
use std::collections::BTreeSet;

/// A join that waits for the leader.
pub(crate) struct Join {
    token: u64,
    spec: GroupSpec,
    auto_promote: bool,
    plan_hash: String,
    deadline: u64,
}

/// A leave that waits for the leader.
pub(crate) struct Leave {
    token: u64,
    deadline: u64,
}

impl Shard {
    pub(crate) fn admin(&mut self, token: u64, request: AdminRequest) {
        let result = match request {
            AdminRequest::Bootstrap { groups, fence } => self.bootstrap(token, groups, fence),
            AdminRequest::Join { group, auto_promote, fence } => {
                self.join(token, group, auto_promote, fence)
            }
            AdminRequest::Leave { group, fence } => self.leave(token, group, fence),
            AdminRequest::Activate { groups, fence } => self.activate(token, groups, fence),
            AdminRequest::Change { group, wanted, version, fence } => {
                self.change(token, group, wanted, version, fence.as_ref())
            }
            AdminRequest::Drain { drain, fence } => self.drain(token, drain, fence.as_ref()),
            AdminRequest::HandOver => {
                self.hand_over_all(token);
                Ok(())
            }
            AdminRequest::CheckDisruption { node, lag_max } => {
                let answer = self.check_disruption(node, lag_max);
                self.ctx.out.admin.push((token, Ok(answer)));
                Ok(())
            }
            AdminRequest::ForceRecover { group, member_id, recovery, version, fence } => {
                self.force_recover(token, group, member_id, (recovery, version), fence.as_ref())
            }
            AdminRequest::DeleteData { group, member_id, fence } => {
                self.delete_data(token, group, member_id, fence.as_ref())
            }
            AdminRequest::Fence { fence } => self.check_fence(fence.as_ref()).map(|facts| {
                self.store_facts(facts);
                self.answer_when_durable(token);
            }),
        };
        if let Err(e) = result {
            self.ctx.out.admin.push((token, Err(e)));
        }
    }

    /// Checks a fence against the node's facts and returns the facts as they will be.
    pub(crate) fn check_fence(&self, fence: Option<&Fence>) -> Result<NodeFacts, AdminError> {
        let facts = self.ctx.facts.clone();
        let Some(fence) = fence else {
            if facts.operator_epoch == 0 {
                return Ok(facts);
            }
            return Err(AdminError::new(
                AdminErrorKind::PermissionDenied,
                "fence: this node belongs to an operator and refuses unfenced changes",
            ));
        };
        let own = self.ctx.identity.incarnation;
        if fence.cluster_id.is_empty() || fence.operator_epoch == 0 {
            return Err(AdminError::new(
                AdminErrorKind::InvalidArgument,
                "fence: cluster_id and operator_epoch must be set",
            ));
        }
        if fence.incarnation != 0 && fence.incarnation != own {
            return Err(failed(format!(
                "fence.incarnation: means directory {:016x}, this node runs on {own:016x}",
                fence.incarnation
            )));
        }
        if !facts.cluster_id.is_empty() && facts.cluster_id != fence.cluster_id {
            return Err(failed(format!(
                "fence.cluster_id: this directory belongs to cluster {}",
                facts.cluster_id
            )));
        }
        if fence.operator_epoch < facts.operator_epoch {
            return Err(AdminError::new(
                AdminErrorKind::PermissionDenied,
                format!(
                    "fence.operator_epoch: {} is older than {}, another operator took over",
                    fence.operator_epoch, facts.operator_epoch
                ),
            ));
        }
        Ok(NodeFacts {
            cluster_id: fence.cluster_id.clone(),
            operator_epoch: fence.operator_epoch,
            activated: facts.activated,
            cluster_groups: facts.cluster_groups,
        })
    }

    pub(crate) fn store_facts(&mut self, facts: NodeFacts) {
        if facts != self.ctx.facts {
            self.ctx.facts = facts.clone();
            self.ctx.record().facts = Some(facts);
        }
    }

    /// Answers the call when this round's record is durable, or now when it changes nothing.
    pub(crate) fn answer_when_durable(&mut self, token: u64) {
        self.answer_durably(token, AdminAnswer::Done);
    }

    /// The same with an answer: the epoch of its fence must not be forgotten once it is told.
    pub(crate) fn answer_durably(&mut self, token: u64, answer: AdminAnswer) {
        if self.ctx.out.persist.is_some() || self.has_unsynced_records() {
            self.ctx.record();
            self.ctx.tokens.push((token, answer));
        } else {
            self.ctx.out.admin.push((token, Ok(answer)));
        }
    }

    fn bootstrap(
        &mut self,
        token: u64,
        groups: Vec<GroupSpec>,
        fence: Option<Fence>,
    ) -> Result<(), AdminError> {
        let mut facts = self.check_fence(fence.as_ref())?;
        let plan_hash = fence.as_ref().map(|f| f.plan_hash.clone()).unwrap_or_default();
        let mut new = Vec::new();
        for spec in groups {
            if !self.is_bootstrapped(&spec, &plan_hash)? {
                new.push(spec);
            }
        }
        // Without an operator nobody would activate the node.
        facts.activated |= fence.is_none();
        self.store_facts(facts);
        for spec in new {
            let configuration = Configuration::first(spec.members);
            self.create(spec.group, spec.member_id, configuration, plan_hash.clone(), false);
        }
        self.announce_groups();
        self.answer_when_durable(token);
        Ok(())
    }

    /// Whether the group exists with just this first configuration; another one is an error.
    fn is_bootstrapped(&self, spec: &GroupSpec, plan_hash: &str) -> Result<bool, AdminError> {
        let id = spec.group;
        if self.joins.contains_key(&id) {
            return Err(failed(format!("group_id {id}: a join of this group is under way")));
        }
        let Some(replica) = self.replicas.get(&id) else { return Ok(false) };
        let mut members = spec.members.clone();
        members.sort();
        let same = replica.group.configuration().initial == members
            && replica.group.member_id() == spec.member_id
            && (plan_hash.is_empty() || replica.plan_hash == plan_hash);
        if same {
            return Ok(true);
        }
        Err(AdminError::new(
            AdminErrorKind::AlreadyExists,
            format!(
                "group_id {id}: exists with other members or another plan ({}); a group is \
                 bootstrapped once, later changes go through Join and Leave",
                replica.plan_hash
            ),
        ))
    }

    /// Creates an empty member; its record is part of this round.
    fn create(
        &mut self,
        id: u32,
        member_id: u64,
        configuration: Configuration,
        plan_hash: String,
        auto_promote: bool,
    ) {
        let origin = Origin::fresh(member_id, configuration);
        let group = Group::start(origin, self.timing);
        let mut replica = Replica::new(id, self.ctx.next_life(), group, Machine::new());
        #[cfg(feature = "planted")]
        replica.plant(self.planted);
        replica.plan_hash = plan_hash;
        replica.auto_promote = auto_promote;
        replica.group.set_reluctant(self.drain.is_on());
        let part: &mut GroupPersist = self.ctx.record_group(id);
        part.first = Some((1, 0));
        part.configuration = Some((0, replica.stored_configuration()));
        self.know_members(&replica.group.configuration().members.clone());
        self.replicas.insert(id, replica);
        self.campaign_if_new(id);
        self.mark(id);
    }

    fn activate(
        &mut self,
        token: u64,
        groups: u32,
        fence: Option<Fence>,
    ) -> Result<(), AdminError> {
        let mut facts = self.check_fence(fence.as_ref())?;
        if groups != 0 && facts.cluster_groups != 0 && groups != facts.cluster_groups {
            return Err(AdminError::new(
                AdminErrorKind::FailedPrecondition,
                format!(
                    "groups: this cluster has {}, and keys are hashed onto so many",
                    facts.cluster_groups
                ),
            ));
        }
        facts.activated = true;
        facts.cluster_groups = facts.cluster_groups.max(groups);
        self.store_facts(facts);
        self.answer_when_durable(token);
        Ok(())
    }

    // ------------------------------------------------------------------------ join and leave

    fn join(
        &mut self,
        token: u64,
        spec: GroupSpec,
        auto_promote: bool,
        fence: Option<Fence>,
    ) -> Result<(), AdminError> {
        let mut facts = self.check_fence(fence.as_ref())?;
        if let Some(replica) = self.replicas.get(&spec.group) {
            if replica.group.member_id() == spec.member_id {
                self.store_facts(facts);
                self.answer_when_durable(token);
                return Ok(());
            }
            return Err(AdminError::new(
                AdminErrorKind::AlreadyExists,
                format!(
                    "group_id {}: this node is member {} already",
                    spec.group,
                    replica.group.member_id()
                ),
            ));
        }
        if spec.members.iter().all(|m| m.node_id == self.ctx.node_id()) {
            return Err(AdminError::new(
                AdminErrorKind::InvalidArgument,
                "members: name at least one present member to ask",
            ));
        }
        facts.activated |= fence.is_none();
        self.store_facts(facts);
        self.know_members(&spec.members);
        let deadline = self.ctx.now.micros + ADMIN_MICROS_MAX;
        let plan_hash = fence.map(|f| f.plan_hash).unwrap_or_default();
        let group = spec.group;
        self.joins.insert(group, Join { token, spec, auto_promote, plan_hash, deadline });
        Ok(())
    }

    fn leave(&mut self, token: u64, id: u32, fence: Option<Fence>) -> Result<(), AdminError> {
        let facts = self.check_fence(fence.as_ref())?;
        self.store_facts(facts);
        if !self.replicas.contains_key(&id) {
            // Left before, or never here: the wished-for state holds.
            self.answer_when_durable(token);
            return Ok(());
        }
        let deadline = self.ctx.now.micros + ADMIN_MICROS_MAX;
        self.leaves.insert(id, Leave { token, deadline });
        Ok(())
    }

    /// Every [`crate::limits::ASK_MICROS`]: asks leaders for what is under way.
    pub(crate) fn ask_leaders(&mut self) {
        let now = self.ctx.now.micros;
        for (id, join) in self.joins.extract_if(.., |_, j| now >= j.deadline).collect::<Vec<_>>() {
            let e = AdminError::new(
                AdminErrorKind::Unavailable,
                format!("group_id {id}: no leader took this member in yet; repeat the call"),
            );
            self.ctx.out.admin.push((join.token, Err(e)));
        }
        for (id, leave) in self.leaves.extract_if(.., |_, l| now >= l.deadline).collect::<Vec<_>>()
        {
            let e = AdminError::new(
                AdminErrorKind::Unavailable,
                format!("group_id {id}: the leader has not removed this member yet; repeat"),
            );
            self.ctx.out.admin.push((leave.token, Err(e)));
        }
        self.ask_joins();
        self.settle_all_changes();
        let mut answers = Vec::new();
        let asking = self.awake.iter().chain(self.leaves.keys()).copied();
        for id in asking.collect::<BTreeSet<u32>>() {
            let Some(ask) = self.ask_of(id) else { continue };
            let neighbours = self.neighbours(id);
            let Some(replica) = self.replicas.get_mut(&id) else { continue };
            let holders = self.directory.holders(id);
            if let Some(answer) = replica.ask_leader(ask, &neighbours, holders, &mut self.ctx) {
                answers.push((id, answer));
            }
        }
        for (id, answer) in answers {
            self.ask_answered(id, answer);
        }
        let asked: Vec<u32> = self.leaves.keys().copied().collect();
        asked.into_iter().for_each(|id| self.mark(id));
    }

    /// What a group's leader has to be asked for.
    fn ask_of(&mut self, id: u32) -> Option<ask::Ask> {
        let replica = self.replicas.get_mut(&id)?;
        let member_id = replica.group.member_id();
        if self.leaves.contains_key(&id) {
            return Some(ask::Ask::Leave(member_id));
        }
        if replica.wants_promotion() {
            return Some(ask::Ask::Promote(member_id));
        }
        let is_forlorn = replica.is_forlorn(self.ctx.now.micros);
        is_forlorn.then_some(ask::Ask::Present(member_id))
    }

    fn ask_joins(&mut self) {
        let own_node = self.ctx.node_id();
        for (id, join) in &self.joins {
            let Some(own) = join.spec.members.iter().find(|m| m.node_id == own_node) else {
                continue;
            };
            let ask = ask::Ask::Join(own.to_wire());
            let encoded =
                prost::Message::encode_to_vec(&multiraft_proto::link::Ask { ask: Some(ask) });
            // Whoever leads answers; it may be none of those that the caller named.
            let named = join.spec.members.iter().map(|m| m.node_id);
            let holders = self.directory.holders(*id).iter().copied();
            let nodes: BTreeSet<u64> = named.chain(holders).filter(|n| *n != own_node).collect();
            for node in nodes {
                self.ctx.send(node, crate::frame::ItemKind::Ask, *id, &encoded);
            }
        }
    }

    /// The leader answered an ask of this node.
    pub(crate) fn ask_answered(&mut self, id: u32, answer: AskAnswer) {
        match answer.answer {
            Some(ask_answer::Answer::Joined(stored)) => self.joined(id, &stored),
            Some(ask_answer::Answer::Left(member_id)) => self.left(id, member_id),
            Some(ask_answer::Answer::Refused(reason)) => {
                let joins = self.joins.remove(&id).map(|j| j.token);
                let leaves = self.leaves.remove(&id).map(|l| l.token);
                for token in joins.into_iter().chain(leaves) {
                    self.ctx.out.admin.push((token, Err(failed(reason.clone()))));
                }
            }
            None => {}
        }
    }

    fn joined(&mut self, id: u32, stored: &StoredConfiguration) {
        let now = Configuration::from_stored(stored);
        // The log is fed from its start, so the member begins where the group began.
        let mut first = Configuration::first(now.initial);
        if first.check().is_err() {
            return;
        }
        let Some(join) = self.joins.remove(&id) else { return };
        self.know_members(&now.members);
        first.member_id_max = first.member_id_max.max(join.spec.member_id);
        // Else it would be taken for one that a recovery shut out.
        first.recovery = now.recovery;
        self.create(id, join.spec.member_id, first, join.plan_hash, join.auto_promote);
        self.announce_groups();
        self.answer_when_durable(join.token);
    }

    /// This node's member was removed: its data goes.
    pub(crate) fn left(&mut self, id: u32, member_id: u64) {
        let gone = self.replicas.get(&id).is_some_and(|r| r.group.member_id() == member_id);
        if !gone {
            return;
        }
        let mut snapshot = None;
        if let Some(mut replica) = self.replicas.remove(&id) {
            replica.close("this node left the group; retry", &mut self.ctx);
            snapshot = replica.group.snapshot().map(|(index, _)| index + 1);
        }
        // Not all snapshots: this node may join again, and be given one before the record is durable.
        let part = self.ctx.record_group(id);
        (part.delete, part.snapshot) = (true, snapshot);
        self.announce_groups();
        if let Some(leave) = self.leaves.remove(&id) {
            self.answer_when_durable(leave.token);
        }
    }

    fn know_members(&mut self, members: &[Member]) {
        for member in members {
            self.ctx.know_peer(member.node_id, member.address());
        }
    }
}
