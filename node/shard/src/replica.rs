//! One group on this node: its raft member, its machine, and the calls that wait for it.

use crate::calls::Calls;
use crate::context::{Ack, Context};
use crate::contract::Contract;
use crate::frame::ItemKind;
use crate::io::FetchEntries;
use crate::limits::ENTRY_OVERHEAD_BYTES;
use crate::log_clock::LogClock;
use crate::proposals::Proposals;
use crate::reads::Reads;
use crate::snapshots::Snapshots;
use crate::watchers::Watchers;
use crate::{CallError, item};
use bytes::Bytes;
use multiraft_group::{Committed, Configuration, Envelope, Group, Persist, Role, StepError};
use multiraft_machine::{Answer, Effect, Machine, Output};
use multiraft_proto::v1::event::Event;
use multiraft_proto::v1::{
    GroupPhase, LeaderUpdatedEvent, MemberReadyEvent, MembershipChangedEvent,
};
use prost::Message as _;
use std::collections::BTreeMap;

pub(crate) struct Replica {
    pub id: u32,
    /// Tells this member from those that the node had in the group before.
    pub life: u64,
    pub group: Group,
    pub machine: Machine,
    /// In the shard's list of groups to drive this round.
    pub dirty: bool,
    pub phase: GroupPhase,
    /// Hash of the plan that formed the group.
    pub plan_hash: String,
    /// A learner that asks to be promoted by itself.
    pub auto_promote: bool,
    /// Node of each member that we heard or that the configuration names.
    nodes: BTreeMap<u64, u64>,
    /// The commit index to reach before the member counts as ready.
    ready_at: Option<u64>,
    /// What peers were told last of what this member promised.
    pub told: (u64, u64),
    /// When it was last seen to have a leader.
    pub led_at: u64,
    /// (term, node id of the leader) as last announced.
    announced: (u64, u64),
    /// Term of the last known leader.
    led_term: u64,
    pub proposals: Proposals,
    pub calls: Calls,
    pub reads: Reads,
    pub watchers: Watchers,
    pub snapshots: Snapshots,
    pub contract: Contract,
    /// On the leader: members that were removed and not told yet: (node, member id, index of it).
    removed: Vec<(u64, u64, u64)>,
    /// Log time of the tick that is on its way; 0 = none.
    pub tick_proposed: u64,
    pub log_clock: LogClock,
    /// When the shard wakes this group at rest, by the monotonic clock; 0 = not.
    pub alarm: u64,
    effects: Vec<Effect>,
    #[cfg(feature = "planted")]
    pub(crate) planted: Option<crate::planted::Defect>,
    #[cfg(feature = "planted")]
    pub(crate) planted_older: Option<Machine>,
}

/// What driving a replica asks of the shard beyond outputs.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Driven {
    /// The configuration changed: peers, record and directory follow.
    pub reconfigured: bool,
    /// Nodes of members that were removed.
    pub departed: Vec<u64>,
    /// Nodes of members that were added, with empty logs.
    pub arrived: Vec<u64>,
}

impl Replica {
    pub fn new(id: u32, life: u64, group: Group, machine: Machine) -> Self {
        let nodes = member_nodes(&group);
        Replica {
            id,
            life,
            group,
            machine,
            dirty: false,
            phase: GroupPhase::Starting,
            plan_hash: String::new(),
            auto_promote: false,
            nodes,
            ready_at: None,
            told: (0, 0),
            led_at: 0,
            announced: (0, 0),
            led_term: 0,
            proposals: Proposals::default(),
            calls: Calls::default(),
            reads: Reads::default(),
            watchers: Watchers::default(),
            snapshots: Snapshots::default(),
            contract: Contract::default(),
            removed: Vec::new(),
            tick_proposed: 0,
            log_clock: LogClock::halted(),
            alarm: 0,
            effects: Vec::new(),
            #[cfg(feature = "planted")]
            planted: None,
            #[cfg(feature = "planted")]
            planted_older: None,
        }
    }

    pub fn is_closed(&self) -> bool {
        self.phase == GroupPhase::RolledBack
    }

    /// Node id of the known leader; 0 = none.
    pub fn leader_node(&self) -> u64 {
        self.nodes.get(&self.group.leader()).copied().unwrap_or(0)
    }

    pub fn node_of(&self, member_id: u64) -> Option<u64> {
        self.nodes.get(&member_id).copied()
    }

    /// The configuration as the log stores it.
    pub fn stored_configuration(&self) -> Bytes {
        let mut stored = self.group.configuration().to_stored();
        stored.own_member_id = self.group.member_id();
        stored.plan_hash.clone_from(&self.plan_hash);
        stored.auto_promote = self.auto_promote;
        Bytes::from(stored.encode_to_vec())
    }

    // ------------------------------------------------------------------------------ rounds

    /// Whether it wants its ticks: raft's clock runs or may soon, or something waits for time to pass.
    pub fn wants_ticks(&self) -> bool {
        let is_awake = self.is_ticking() || self.rests() && !self.sleeps();
        let waits = is_awake || self.calls.any_waits() || !self.reads.is_empty();
        let has_news = self.told != self.group.promised();
        !self.is_closed() && (waits || has_news || self.wants_promotion() || self.role().is_none())
    }

    /// On the leader: nothing that its followers must still hear of.
    pub fn has_nothing_pending(&self) -> bool {
        self.proposals.is_empty() && self.reads.is_empty() && self.removed.is_empty()
    }

    /// Members that were removed, once most voters know it: (node, member id).
    pub fn take_released(&mut self) -> Vec<(u64, u64)> {
        if !self.group.is_leader() {
            self.removed.clear();
        }
        let group = &self.group;
        let known = |(_, _, index): &mut (u64, u64, u64)| group.is_known_by_quorum(*index);
        self.removed.extract_if(.., known).map(|(node, member_id, _)| (node, member_id)).collect()
    }

    /// Steps everything that waits and carries out what raft asks.
    pub fn drive(&mut self, ctx: &mut Context) -> Driven {
        let mut driven = Driven::default();
        let rested = self.rests();
        self.propose(ctx);
        self.reads.start(&mut self.group, ctx);
        while self.group.has_ready() {
            let ready = self.group.ready();
            if rested || ready.persist.is_some() || !ready.committed.is_empty() {
                self.wake();
            }
            self.send(ready.messages, ctx);
            if let Some(persist) = ready.persist {
                ctx.counters.entries += persist.entries.len() as u64;
                ctx.persist_group((self.id, self.life), persist);
            }
            if let Some(installed) = ready.installed {
                self.installed(installed, &mut driven, ctx);
                self.dispatch_skipped(ctx);
            }
            for committed in ready.committed {
                self.apply(committed, &mut driven, ctx);
            }
            for read in &ready.reads {
                self.reads.confirm(read, ctx);
            }
            for f in ready.fetches {
                let fetch = FetchEntries {
                    group: self.id,
                    life: self.life,
                    ticket: f.ticket,
                    low: f.low,
                    high: f.high,
                    bytes_max: f.bytes_max,
                };
                ctx.out.fetches.push(fetch);
            }
            self.send_snapshots(ready.snapshots, ctx);
        }
        self.log_clock.follow(self.machine.log_time(), ctx.now);
        self.forget_received();
        self.keep_contract(ctx);
        let applied = (self.id, self.group.applied_index());
        self.reads.release(applied, &mut self.machine, &mut self.watchers, ctx);
        self.announce_leader(ctx);
        self.check_ready(ctx);
        driven
    }

    /// The record of ready `number` is durable.
    pub fn persisted(&mut self, number: u64, ctx: &mut Context) {
        let messages = self.group.persisted(number);
        self.send(messages, ctx);
    }

    fn propose(&mut self, ctx: &mut Context) {
        if self.proposals.is_empty() {
            return;
        }
        let at_least = self.machine.log_time().max(self.tick_proposed);
        let log_time = self.log_clock.stamp(at_least, ctx.now);
        let mut refused = Vec::new();
        let mut batches = self.proposals.take();
        while let Some(items) = batches.next() {
            let payload = item::entry(self.group.term(), log_time, &items);
            match self.group.propose(payload) {
                Ok(()) => {}
                Err(multiraft_group::ProposeError::Full) => {
                    refused.push(items);
                    refused.extend(batches);
                    break;
                }
                // Not the leader any more: origins send again when they know the next one.
                Err(_) => break,
            }
        }
        self.proposals.put_back(refused);
    }

    pub fn send(&mut self, messages: Vec<Envelope>, ctx: &mut Context) {
        for envelope in messages {
            if let Some(node) = self.node_of(envelope.to)
                && ctx.trusts(node, self.id)
            {
                ctx.send(node, ItemKind::Raft, self.id, &envelope.message);
            }
        }
    }

    fn apply(&mut self, committed: Committed, driven: &mut Driven, ctx: &mut Context) {
        match committed {
            Committed::Payload { data, .. } if data.is_empty() => {}
            Committed::Payload { index, term, data } => {
                self.snapshots.log_bytes += data.len() as u64 + ENTRY_OVERHEAD_BYTES;
                let mut effects = std::mem::take(&mut self.effects);
                #[cfg(feature = "planted")]
                self.planted_view();
                if let Err(e) = self.machine.apply(term, &data, &mut effects) {
                    let broken = format!("apply entry {index} of group {}: {e}", self.id);
                    ctx.out.broken.get_or_insert(broken);
                }
                ctx.counters.applied_items += effects.len() as u64;
                for effect in effects.drain(..) {
                    self.carry_out(effect, ctx);
                }
                self.effects = effects;
            }
            Committed::Changed { index, member_id, node_id, configuration } => {
                self.heard_of(&configuration);
                driven.reconfigured = true;
                let present = configuration.member(member_id);
                if present.is_some_and(|m| m.role == Role::Learner) {
                    driven.arrived.push(node_id);
                }
                if present.is_none() {
                    driven.departed.push(node_id);
                    if self.group.is_leader() {
                        self.removed.push((node_id, member_id, index));
                    }
                }
                let event = Event::MembershipChanged(MembershipChangedEvent {
                    group_id: self.id,
                    node_id,
                    members: configuration.members.iter().map(|m| m.node_id).collect(),
                });
                ctx.out.events.push((self.id, event));
            }
        }
    }

    pub fn heard_of(&mut self, configuration: &Configuration) {
        self.nodes.extend(configuration.members.iter().map(|m| (m.member_id, m.node_id)));
    }

    fn carry_out(&mut self, effect: Effect, ctx: &mut Context) {
        let (origin, number, answer) = match effect {
            Effect::Answer { origin, number, answer } => (origin, number, answer),
            Effect::Begins { origin, number } => {
                if let Some(reply) = self.calls.begun((origin, number)) {
                    ctx.tell_waits(self.id, reply);
                }
                return;
            }
            Effect::Replaced { origin, number } => {
                if let Some(command) = self.calls.remove((origin, number), ctx) {
                    let reason = "another call asked for the outputs of this command";
                    let e = CallError::Unavailable(reason.to_owned());
                    ctx.answer(self.id, command.reply, Err(e));
                }
                return;
            }
            Effect::SessionEnded { .. } => return,
        };
        // Most effects on a node are for callers of other nodes.
        if self.calls.is_empty() && self.watchers.is_empty() {
            return;
        }
        let key = (origin, number);
        let reply = match order(&answer) {
            (sequence, true) if self.calls.lacks(key, sequence) => None,
            (_, true) => match self.calls.ended(key, ctx) {
                Some(command) => Some(command.reply),
                None => {
                    let reply = self.watchers.get(key);
                    self.watchers.remove(key, &mut self.machine);
                    reply
                }
            },
            (sequence, false) => match self.calls.deliver(key, sequence) {
                Some((reply, is_new)) => Some(reply).filter(|_| is_new),
                None => self.watchers.get(key),
            },
        };
        if let Some(reply) = reply {
            ctx.answer(self.id, reply, Ok(answer));
        }
    }

    /// A message of another member; `node` is its sender.
    pub fn step(
        &mut self,
        node: u64,
        message: &[u8],
        suspect: bool,
        ctx: &mut Context,
    ) -> Result<multiraft_group::Stepped, StepError> {
        let stepped = self.group.step(message, suspect)?;
        // A member passes on what another one asks, in that one's name.
        if self.group.configuration().member(stepped.from).is_none() {
            self.nodes.insert(stepped.from, node);
        }
        if stepped.forgot_leader {
            self.vote_asked(ctx);
        }
        if stepped.is_vote && self.rests() {
            self.wake();
            self.group.ping();
        }
        Ok(stepped)
    }

    // ------------------------------------------------------------------------ announcements

    fn announce_leader(&mut self, ctx: &mut Context) {
        let now = (self.group.term(), self.leader_node());
        if now == self.announced {
            return;
        }
        let (term, leader) = now;
        let last_term = std::mem::replace(&mut self.announced, now).0;
        // One of another term may be lost.
        self.tick_proposed = 0;
        // What a group from disk says first is no news.
        let is_news = last_term != 0 || term == 1;
        ctx.counters.elections += u64::from(is_news && term > last_term);
        if leader == 0 {
            self.log_clock.halt(ctx.now);
        }
        if leader != 0 && term > self.led_term {
            self.led_term = term;
            #[cfg(feature = "planted")]
            self.planted_skip();
            ctx.counters.leader_changes += u64::from(is_news);
        }
        let event = LeaderUpdatedEvent { group_id: self.id, term, leader };
        ctx.out.events.push((self.id, Event::LeaderUpdated(event)));
        if leader != 0 {
            self.watchers.in_touch();
            self.log_clock.go_on(ctx.now);
            self.ready_at.get_or_insert(self.group.commit_index());
            self.dispatch_all(ctx);
        }
    }

    fn check_ready(&mut self, ctx: &mut Context) {
        let reached = self.ready_at.is_some_and(|index| self.group.applied_index() >= index);
        if self.phase == GroupPhase::Starting && reached {
            self.phase = GroupPhase::Ready;
            let event = MemberReadyEvent { group_id: self.id, node_id: ctx.node_id() };
            ctx.out.events.push((self.id, Event::MemberReady(event)));
        }
    }

    pub fn has_work(&self) -> bool {
        self.group.has_ready()
            || !self.proposals.is_empty() && self.group.is_leader()
            || self.reads.wants_round() && self.group.leader() != 0
    }

    /// Every call that waits is told that the group went away.
    pub fn close(&mut self, reason: &str, ctx: &mut Context) {
        self.end_watches(reason, ctx);
        let calls = self.calls.drain(ctx).into_iter().map(|c| c.reply);
        let reads = self.reads.drain().into_iter().map(|r| r.reply);
        for reply in calls.chain(reads).collect::<Vec<_>>() {
            ctx.answer(self.id, reply, Err(CallError::Unavailable(reason.to_owned())));
        }
    }

    /// The member that campaigns first when the group is new: leaders spread over the nodes.
    pub fn is_preferred_leader(&self) -> bool {
        let voters: Vec<u64> = self.group.configuration().voters().map(|m| m.member_id).collect();
        let preferred = voters.get(self.id as usize % voters.len().max(1));
        preferred == Some(&self.group.member_id())
    }

    pub fn role(&self) -> Option<Role> {
        self.group.configuration().member(self.group.member_id()).map(|m| m.role)
    }
}

impl Context {
    fn persist_group(&mut self, (group, life): (u32, u64), persist: Persist) {
        self.acks.push(Ack { group, life, number: persist.number });
        let part = self.record_group(group);
        part.state = persist.state;
        part.first = persist.first;
        part.entries = persist.entries;
    }
}

fn member_nodes(group: &Group) -> BTreeMap<u64, u64> {
    group.configuration().members.iter().map(|m| (m.member_id, m.node_id)).collect()
}

/// (number, none follows) of an output.
fn order(answer: &Answer) -> (u64, bool) {
    match answer.result {
        Ok(Output::Operation { sequence, last, .. }) => (sequence, last),
        _ => (0, true),
    }
}
