//! The loop: inputs are handled one by one, then a round drives every group that has work.

use crate::admin::{Join, Leave};
use crate::call::{Read, Reply};
use crate::changes::Changes;
use crate::context::{Ack, Context};
use crate::directory::Directory;
use crate::drain::Drain;
use crate::io::{AdminAnswer, GroupPersist, Identity, Input, NodeFacts, Now, Outputs, Remembered};
use crate::limits::{
    DISK_STALL_MICROS, SNAPSHOT_LOG_BYTES_MAX, SPACE_LOW_BYTES, SPACE_LOW_SHARE, SPACE_NONE_SHARE,
};
use crate::memory::Memory;
use crate::proxy::Proxied;
use crate::recovery::StoredGroup;
use crate::replica::{Driven, Replica};
use crate::snapshots::SnapshotQueue;
use crate::{CallError, Consistency};
use bytes::Bytes;
use multiraft_group::{Configuration, Group, Origin, SnapshotMark, Timing};
use multiraft_proto::link::{Proxy, ProxyQuery, proxy};
use multiraft_proto::log::StoredConfiguration;
use multiraft_proto::v1::ServiceConfigChangedEvent;
use multiraft_proto::v1::event::Event;
use prost::Message as _;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A record on its way to the disk.
struct Unsynced {
    record: u64,
    since: u64,
    bytes: usize,
    acks: Vec<Ack>,
    /// What may be told then.
    events: Vec<(u32, Event)>,
    /// Administration calls to answer then.
    tokens: Vec<(u64, AdminAnswer)>,
}

/// All groups of one thread.
pub struct Shard {
    pub(crate) ctx: Context,
    pub(crate) timing: Timing,
    pub(crate) replicas: BTreeMap<u32, Replica>,
    pub(crate) joins: BTreeMap<u32, Join>,
    pub(crate) leaves: BTreeMap<u32, Leave>,
    dirty: Vec<u32>,
    /// Groups that want their ticks; the others cost nothing.
    pub(crate) awake: BTreeSet<u32>,
    /// Groups at rest that are to wake: (time by the monotonic clock, group).
    pub(crate) alarms: BTreeSet<(u64, u32)>,
    /// Orphaned groups whose turn to campaign comes.
    pub(crate) campaigns: VecDeque<u32>,
    pub(crate) memory: Memory,
    pub(crate) directory: Directory,
    pub(crate) proxied: Proxied,
    /// Incarnation that each peer stated in its present session.
    pub(crate) incarnations: BTreeMap<u64, u64>,
    /// Records that are not durable yet, oldest first.
    unsynced: VecDeque<Unsynced>,
    /// Bytes of their entries.
    pub(crate) unsynced_bytes: usize,
    pub(crate) changes: Changes,
    pub(crate) drain: Drain,
    pub(crate) space_is_low: bool,
    pub(crate) snapshots: SnapshotQueue,
    pub(crate) snapshot_log_bytes: u64,
    pub(crate) ticks: u64,
    /// When the last one was.
    pub(crate) ticked: u64,
    #[cfg(feature = "planted")]
    pub(crate) planted: Option<crate::planted::Defect>,
}

impl Shard {
    pub fn new(
        identity: Identity,
        facts: NodeFacts,
        timing: Timing,
        memory: Vec<Remembered>,
        now: Now,
    ) -> Self {
        Shard {
            ctx: Context::new(identity, facts, now),
            timing,
            replicas: BTreeMap::new(),
            joins: BTreeMap::new(),
            leaves: BTreeMap::new(),
            dirty: Vec::new(),
            awake: BTreeSet::new(),
            alarms: BTreeSet::new(),
            campaigns: VecDeque::new(),
            memory: Memory::new(memory),
            directory: Directory::default(),
            proxied: Proxied::default(),
            incarnations: BTreeMap::new(),
            unsynced: VecDeque::new(),
            unsynced_bytes: 0,
            changes: Changes::default(),
            drain: Drain::default(),
            space_is_low: false,
            snapshots: SnapshotQueue::default(),
            snapshot_log_bytes: SNAPSHOT_LOG_BYTES_MAX,
            ticks: 0,
            ticked: now.micros,
            #[cfg(feature = "planted")]
            planted: None,
        }
    }

    /// Takes snapshots when a log has grown by this many bytes, instead of
    /// [`crate::limits::SNAPSHOT_LOG_BYTES_MAX`].
    pub fn set_snapshot_log_bytes(&mut self, bytes: u64) {
        self.snapshot_log_bytes = bytes;
    }

    /// Starts a group from disk.
    ///
    /// # Errors
    /// The stored configuration does not decode.
    pub fn restore(&mut self, stored: StoredGroup) -> Result<(), prost::DecodeError> {
        let StoredGroup { log, machine, applied, tail, replayed_bytes } = stored;
        let wire = StoredConfiguration::decode(&log.configuration[..])?;
        let configuration = Configuration::from_stored(&wire);
        let mark = match &log.snapshot {
            Some(s) => Some(SnapshotMark {
                index: s.index,
                term: s.term,
                configuration: Configuration::from_stored(&StoredConfiguration::decode(
                    &s.configuration[..],
                )?),
            }),
            None => None,
        };
        for member in configuration.members.iter().chain(&configuration.initial) {
            self.ctx.know_peer(member.node_id, member.address());
        }
        let origin = Origin {
            member_id: wire.own_member_id,
            state: log.state,
            first: log.first,
            last_index: log.last_index,
            terms: log.terms,
            configuration,
            snapshot: mark,
            applied,
            tail,
        };
        let group = Group::start(origin, self.timing);
        let mut replica = Replica::new(log.group, self.ctx.next_life(), group, machine);
        #[cfg(feature = "planted")]
        replica.plant(self.planted);
        replica.plan_hash = wire.plan_hash;
        replica.auto_promote = wire.auto_promote;
        replica.snapshots.log_bytes = replayed_bytes;
        replica.snapshots.bytes = log.snapshot.map_or(0, |s| s.bytes);
        self.replicas.insert(log.group, replica);
        self.snapshot_if_due(log.group);
        self.mark(log.group);
        Ok(())
    }

    /// All groups from disk are here: peers may hear of them.
    pub fn start(&mut self) {
        self.announce_groups();
    }

    pub fn set_time(&mut self, now: Now) {
        self.ctx.now = now;
    }

    pub(crate) fn mark(&mut self, id: u32) {
        if let Some(replica) = self.replicas.get_mut(&id)
            && !replica.dirty
        {
            replica.dirty = true;
            self.dirty.push(id);
        }
    }

    /// Records that are not durable yet.
    pub fn unsynced_records(&self) -> usize {
        self.unsynced.len()
    }

    pub(crate) fn disk_stands_still(&self) -> bool {
        let oldest = self.unsynced.front().map(|u| u.since);
        oldest.is_some_and(|since| self.ctx.now.micros >= since + DISK_STALL_MICROS)
    }

    pub(crate) fn has_unsynced_records(&self) -> bool {
        !self.unsynced.is_empty()
    }

    pub(crate) fn announce_groups(&mut self) {
        let groups = self.replicas.keys().copied().collect();
        self.directory.announce(groups, self.drain.is_on(), &mut self.ctx);
    }

    // ------------------------------------------------------------------------------ inputs

    pub fn handle(&mut self, input: Input) {
        match input {
            Input::Tick => self.tick(),
            Input::Frame(bytes) => self.frame(bytes),
            Input::LinkOpened { peer } => self.link_opened(peer),
            Input::LinkClosed { peer } => self.link_closed(peer),
            Input::Persisted { round } => self.persisted(round),
            Input::Fetched { group, life, ticket, entries } => {
                if let Some(replica) = living(&mut self.replicas, group, life) {
                    replica.group.fetched(ticket, entries);
                    self.mark(group);
                }
            }
            Input::Space { free, total } => self.space(free, total),
            Input::SnapshotTaken { group, life, bytes } => self.snapshot_taken(group, life, bytes),
            Input::SnapshotSent { group, member_id, index, arrived } => {
                self.snapshot_sent(group, member_id, index, arrived);
            }
            received @ Input::SnapshotReceived { .. } => self.snapshot_received(received),
            Input::Command { call, group, input, cancel } => {
                self.command(call, group, input, cancel);
            }
            Input::Query { call, group, query, max_received_index, consistency, streams } => {
                let key = (self.ctx.origin, call);
                let (reply, since) = (Reply::Local { call }, self.ctx.now.micros);
                let read = Read { key, reply, query, max_received_index, streams, since };
                self.query(call, group, read, consistency);
            }
            Input::Abandon { call, group, keeps } => match self.replicas.get_mut(&group) {
                Some(replica) => {
                    let key = (self.ctx.origin, call);
                    replica.abandon(key, None, keeps, &mut self.ctx);
                    self.mark(group);
                }
                None => self.proxied.abandon(call, keeps, &mut self.ctx),
            },
            Input::Admin { token, request } => self.admin(token, request),
        }
    }

    fn command(&mut self, call: u64, group: u32, input: Bytes, cancel: Option<(u64, u64)>) {
        if let Err(e) = self.check_open(group).and_then(|()| self.check_space(cancel)) {
            return self.ctx.out.answers.push((call, Err(e)));
        }
        let origin = self.ctx.origin;
        match self.replicas.get_mut(&group) {
            Some(replica) => {
                let reply = Reply::Local { call };
                replica.command((origin, call), reply, input, cancel, &mut self.ctx);
                self.mark(group);
            }
            None => self.proxy(call, group, proxy::Call::Command(input), cancel),
        }
    }

    fn query(&mut self, call: u64, group: u32, read: Read, consistency: Consistency) {
        if let Err(e) = self.check_open(group) {
            return self.ctx.out.answers.push((call, Err(e)));
        }
        match self.replicas.get_mut(&group) {
            Some(replica) => {
                replica.query(read, consistency, &mut self.ctx);
                self.mark(group);
            }
            None => {
                let Read { query, max_received_index, streams, .. } = read;
                let query = ProxyQuery {
                    session_id: query.session_id,
                    primitive_id: query.primitive_id,
                    operation: query.operation,
                    input: query.input,
                    max_received_index,
                    local: consistency == Consistency::Local,
                    sequence_num: query.sequence_num,
                    streams,
                };
                self.proxy(call, group, proxy::Call::Query(query), None);
            }
        }
    }

    fn space(&mut self, free: u64, total: u64) {
        let low = SPACE_LOW_BYTES.min(total / SPACE_LOW_SHARE);
        // Taken again when there is clearly more.
        let enough = if self.space_is_low { low + low / 3 } else { low };
        self.space_is_low = free < enough;
        if free < low / SPACE_NONE_SHARE {
            let broken = format!("the disk is full: {free} bytes are left, make space");
            self.ctx.out.broken.get_or_insert(broken);
        }
    }

    /// Operations are refused while space is low; sessions live on.
    fn check_space(&self, operation: Option<(u64, u64)>) -> Result<(), CallError> {
        if self.space_is_low && operation.is_some() {
            let reason = "this node's disk is nearly full: make space, or use another node";
            return Err(CallError::Overloaded(reason.into()));
        }
        Ok(())
    }

    /// Whether clients may call the group through this node.
    pub(crate) fn check_open(&self, group: u32) -> Result<(), CallError> {
        if !self.ctx.facts.activated {
            return Err(CallError::NotActivated);
        }
        match self.replicas.get(&group) {
            Some(replica) if replica.is_closed() => Err(CallError::Unavailable(format!(
                "group {group} is closed on this node: its log went back; use another node"
            ))),
            Some(_) => Ok(()),
            None if self.directory.knows(group) => Ok(()),
            None => Err(CallError::UnknownGroup(group)),
        }
    }

    fn proxy(&mut self, number: u64, group: u32, call: proxy::Call, cancel: Option<(u64, u64)>) {
        let to = self.directory.route(group, &self.ctx);
        let proxy = Proxy { origin: self.ctx.origin, number, call: Some(call) };
        self.proxied.call(group, &proxy, cancel, to, &mut self.ctx);
    }

    fn persisted(&mut self, round: u64) {
        while let Some(Unsynced { bytes, acks, events, tokens, .. }) =
            self.unsynced.pop_front_if(|u| u.record <= round)
        {
            for Ack { group, life, number } in acks {
                if let Some(replica) = living(&mut self.replicas, group, life) {
                    replica.persisted(number, &mut self.ctx);
                    self.mark(group);
                }
            }
            self.unsynced_bytes -= bytes;
            self.ctx.out.events.extend(events);
            let answers = tokens.into_iter().map(|(token, answer)| (token, Ok(answer)));
            self.ctx.out.admin.extend(answers);
        }
    }

    // ------------------------------------------------------------------------------ rounds

    /// Whether the next round should come at once, although nothing came in: there is more than one
    /// round should do.
    pub fn is_busy(&self) -> bool {
        !self.campaigns.is_empty()
    }

    /// Drives the groups that have work and returns everything to be done outside.
    pub fn round(&mut self) -> Outputs {
        self.campaign_some();
        let dirty = std::mem::take(&mut self.dirty);
        self.ctx.counters.rounds += u64::from(!dirty.is_empty());
        for id in dirty {
            self.drive(id);
        }
        self.describe_services();
        self.ctx.flush();
        if self.ctx.out.persist.is_some() {
            self.close_record();
        }
        std::mem::take(&mut self.ctx.out)
    }

    fn drive(&mut self, id: u32) {
        let Some(replica) = self.replicas.get_mut(&id) else { return };
        replica.dirty = false;
        if replica.is_closed() {
            // A closed leader would go on to offer rest, and who accepts waits for it for ever.
            self.awake.remove(&id);
            return;
        }
        let driven = replica.drive(&mut self.ctx);
        if driven.reconfigured {
            self.reconfigured(id, driven);
        }
        self.snapshot_if_due(id);
        self.settle_changes(id);
        self.drained(id);
        self.keep_awake(id);
        // What a drive itself brought up (a new leader's commands) is the next round's.
        if let Some(replica) = self.replicas.get_mut(&id)
            && replica.has_work()
            && !replica.dirty
        {
            replica.dirty = true;
            self.dirty.push(id);
        }
    }

    fn reconfigured(&mut self, id: u32, driven: Driven) {
        let Some(replica) = self.replicas.get(&id) else { return };
        let configuration = replica.group.configuration().clone();
        let stored = replica.stored_configuration();
        let part: &mut GroupPersist = self.ctx.record_group(id);
        part.configuration = Some((configuration.version, stored));
        for member in &configuration.members {
            self.ctx.know_peer(member.node_id, member.address());
        }
        // This member may be one of them: it goes when the leader says that most voters know.
        for node in driven.departed.into_iter().chain(driven.arrived) {
            let forgotten = self.memory.forget(node, id);
            self.ctx.record().memory.extend(forgotten);
            self.ctx.refused.remove(&(node, id));
        }
        for (node, promise) in self.memory.take_early(id) {
            self.hear_promise(node, id, promise);
        }
    }

    /// Beside each change of leader goes what clients need of it.
    fn describe_services(&mut self) {
        let led =
            self.ctx.out.events.iter().filter(|(_, e)| {
                matches!(e, Event::LeaderUpdated(_) | Event::MembershipChanged(_))
            });
        let changed: Vec<u32> = led.map(|(group, _)| *group).collect();
        for group_id in changed {
            let config = self.service_config(group_id);
            let event = ServiceConfigChangedEvent { config, group_id };
            self.ctx.out.events.push((group_id, Event::ServiceConfigChanged(event)));
        }
    }

    fn close_record(&mut self) {
        let due = self.memory.take_due(self.ctx.now.micros);
        let record = self.ctx.record();
        record.memory.extend(due);
        self.ctx.record += 1;
        let acks = std::mem::take(&mut self.ctx.acks);
        let events = std::mem::take(&mut self.ctx.durable_events);
        let tokens = std::mem::take(&mut self.ctx.tokens);
        let (record, since) = (self.ctx.record, self.ctx.now.micros);
        let bytes =
            self.ctx.record().groups.iter().flat_map(|g| &g.entries).map(|e| e.data.len()).sum();
        self.unsynced_bytes += bytes;
        self.unsynced.push_back(Unsynced { record, since, bytes, acks, events, tokens });
    }
}

/// The member that something was asked for, if it has not left meanwhile.
pub(crate) fn living(
    replicas: &mut BTreeMap<u32, Replica>,
    group: u32,
    life: u64,
) -> Option<&mut Replica> {
    replicas.get_mut(&group).filter(|replica| replica.life == life)
}
