//! What peers say: links that open and close, frames, and the items in them.

use crate::call::{Read, Reply};
use crate::context::Context;
use crate::frame::{Frame, Item, ItemKind};
use crate::io::Remembered;
use crate::item::Promise;
use crate::limits::{SMALL_MESSAGE_BYTES, UNSYNCED_BYTES_MAX};
use crate::replica::Replica;
use crate::shard::Shard;
use crate::{CallError, Consistency};
use bytes::Bytes;
use multiraft_group::StepError;
use multiraft_machine::Query;
use multiraft_proto::link::{
    Ask, AskAnswer, Directory as DirectoryWire, Hello, Proxy, ProxyAnswer, ProxyQuery, ask, proxy,
};
use multiraft_proto::log::Cancel;
use multiraft_proto::v1::event::Event;
use multiraft_proto::v1::{
    ConnectionEstablishedEvent, ConnectionFailedEvent, ConnectionInfo, GroupPhase,
    MemberClosedEvent,
};
use prost::Message as _;

impl Shard {
    pub(crate) fn link_opened(&mut self, node: u64) {
        let Some(peer) = self.ctx.peers.get_mut(&node) else { return };
        let broke = peer.pair.opened();
        peer.outbox.clear();
        let info = ConnectionInfo { address: peer.address.clone(), snapshot: false };
        let event = ConnectionEstablishedEvent { info: Some(info) };
        self.ctx.out.events.push((0, Event::ConnectionEstablished(event)));
        if broke {
            self.session_broke(node, false);
        }
        self.directory.introduce(node, &mut self.ctx);
    }

    pub(crate) fn link_closed(&mut self, node: u64) {
        let Some(peer) = self.ctx.peers.get_mut(&node) else { return };
        let was_connected = peer.pair.is_connected();
        let broke = peer.pair.closed();
        peer.outbox.clear();
        if was_connected {
            let info = ConnectionInfo { address: peer.address.clone(), snapshot: false };
            let event = ConnectionFailedEvent { info: Some(info) };
            self.ctx.out.events.push((0, Event::ConnectionFailed(event)));
        }
        if broke {
            self.session_broke(node, false);
        }
    }

    pub(crate) fn frame(&mut self, bytes: Bytes) {
        let Ok(frame) = Frame::parse(bytes) else { return };
        let (from, now) = (frame.from, self.ctx.now.micros);
        if frame.to != self.ctx.node_id() || from == frame.to {
            return;
        }
        // A node that we do not know yet dials us first when it wants to join, and introduces itself.
        if !self.ctx.peers.contains_key(&from) {
            self.ctx.know_peer(from, String::new());
        }
        let Some(peer) = self.ctx.peers.get_mut(&from) else { return };
        let heard = peer.pair.hear(frame.pair, now);
        if heard.broke {
            peer.outbox.clear();
            self.session_broke(from, heard.dead);
        } else if heard.dead {
            self.node_died(from);
        }
        if heard.came_up {
            self.session_up(from);
        }
        if heard.reply {
            self.ctx.flush_to(from);
        }
        for item in frame {
            let Ok(item) = item else { return };
            // Outside a session only an introduction counts: records are ordered by themselves.
            if heard.accept || item.kind == ItemKind::Directory {
                self.item(from, item);
            }
        }
    }

    pub(crate) fn resend_proxied(&mut self, lost: Option<u64>) {
        let Shard { proxied, directory, ctx, .. } = self;
        proxied.resend(lost, |group, ctx| directory.route(group, ctx), ctx);
    }

    /// A group that never had a leader begins with the member that placement prefers, unless its
    /// node drains and there is another.
    pub(crate) fn campaign_if_new(&mut self, id: u32) {
        let Some(replica) = self.replicas.get_mut(&id) else { return };
        let alone = replica.group.configuration().voters().count() == 1;
        let may = alone || !self.drain.is_on();
        if replica.group.term() == 0 && replica.is_preferred_leader() && may {
            replica.group.campaign();
        }
    }

    // ------------------------------------------------------------------------------- items

    fn item(&mut self, from: u64, item: Item) {
        let Item { kind, group, payload } = item;
        match kind {
            ItemKind::Raft => self.raft_message(from, group, &payload),
            ItemKind::Forward => {
                if let Some(replica) = self.replicas.get_mut(&group) {
                    replica.forwarded_by_peer(payload);
                    self.mark(group);
                }
            }
            ItemKind::Proxy => decoded(&payload, |p| self.proxied_call(from, group, p)),
            ItemKind::ProxyAnswer => decoded(&payload, |answer: ProxyAnswer| {
                self.proxied.answered(answer, &mut self.ctx);
            }),
            ItemKind::Hello => decoded(&payload, |hello| self.hello(from, hello)),
            ItemKind::RolledBack => self.rolled_back(from, group),
            ItemKind::Contradiction => self.contradicted(from, group),
            ItemKind::ShutOut => self.shut_out(from, group),
            ItemKind::Promise => self.promised(from, group, &payload),
            ItemKind::Directory => decoded(&payload, |wire: DirectoryWire| {
                self.directory.learn(from, wire, &mut self.ctx);
            }),
            ItemKind::Ask => decoded(&payload, |ask: Ask| self.ask(from, group, ask)),
            ItemKind::AskAnswer => {
                decoded(&payload, |answer: AskAnswer| self.ask_answered(group, answer));
            }
            ItemKind::Offer | ItemKind::Grant | ItemKind::Revoke | ItemKind::Resign => {
                self.contract_item(from, kind, group, &payload);
            }
        }
    }

    fn contract_item(&mut self, from: u64, kind: ItemKind, group: u32, payload: &[u8]) {
        let Some(replica) = self.replicas.get_mut(&group).filter(|r| !r.is_closed()) else {
            return;
        };
        let Ok(term) = payload.try_into().map(u64::from_be_bytes) else { return };
        match kind {
            ItemKind::Offer => replica.offered(from, term, &mut self.ctx),
            ItemKind::Grant => replica.granted(from, term),
            ItemKind::Revoke => replica.revoked(from),
            _ => replica.resigned(from, term),
        }
        self.mark(group);
    }

    fn raft_message(&mut self, from: u64, group: u32, message: &[u8]) {
        let is_behind =
            self.unsynced_bytes > UNSYNCED_BYTES_MAX && message.len() > SMALL_MESSAGE_BYTES;
        if is_behind || !self.ctx.trusts(from, group) {
            return;
        }
        let leader = self.replicas.get(&group).map_or(0, Replica::leader_node);
        let suspect = leader != 0 && self.is_suspect(leader);
        let Some(replica) = self.replicas.get_mut(&group).filter(|r| !r.is_closed()) else {
            return;
        };
        match replica.step(from, message, suspect, &mut self.ctx) {
            Ok(stepped) => {
                if let Some(index) = stepped.acknowledged {
                    self.remember(from, group, stepped.from, (stepped.term, index));
                }
            }
            Err(StepError::NotForUs) => return,
            Err(StepError::LogIsShort) => self.rolled_back(from, group),
            Err(StepError::LogsContradict) => {
                self.ctx.refused.insert((from, group));
                self.ctx.send(from, ItemKind::Contradiction, group, &[]);
            }
        }
        self.mark(group);
    }

    fn promised(&mut self, from: u64, group: u32, payload: &[u8]) {
        if let Some(promise) = Promise::decode(payload) {
            self.hear_promise(from, group, promise);
        }
    }

    /// Of a member that this node has yet to hear of, the promise is kept until then.
    pub(crate) fn hear_promise(&mut self, from: u64, group: u32, promise: Promise) {
        let Some(replica) = self.replicas.get(&group) else { return };
        if promise.member_id > replica.group.configuration().member_id_max {
            return self.memory.promised_early(group, from, promise);
        }
        self.remember(from, group, promise.member_id, (promise.term, promise.index));
    }

    fn remember(&mut self, node: u64, group: u32, member_id: u64, (term, index): (u64, u64)) {
        let Some(incarnation) = self.incarnations.get(&node).copied() else { return };
        // One that was removed may speak still, after it was forgotten.
        if !self.knows_member(node, group, member_id) {
            return;
        }
        self.memory.acknowledged(Remembered { node, incarnation, group, term, index });
    }

    fn hello(&mut self, from: u64, hello: Hello) {
        self.incarnations.insert(from, hello.incarnation);
        for member in hello.members {
            let group = member.group_id;
            let stated = Remembered {
                node: from,
                incarnation: hello.incarnation,
                group,
                term: member.term,
                index: member.last_index,
            };
            let own = self.replicas.get(&group).map(|r| r.group.configuration().recovery);
            if own.is_some_and(|own| member.recovery < own) {
                self.ctx.refused.insert((from, group));
                self.ctx.send(from, ItemKind::ShutOut, group, &[]);
            }
            // It hears so before anything of raft, which would panic on a log that went back.
            let known = member.member_id == 0 || self.knows_member(from, group, member.member_id);
            if known && self.memory.is_rolled_back(stated) {
                self.ctx.refused.insert((from, group));
                self.ctx.send(from, ItemKind::RolledBack, group, &[]);
            }
        }
        self.ctx.introduced.insert(from);
        self.greeted(from);
    }

    /// Whether this is the member that we know on that node: a node may join a group again as
    /// another one, and either side may have missed that.
    fn knows_member(&self, node: u64, group: u32, member_id: u64) -> bool {
        let replica = self.replicas.get(&group);
        let known = replica.and_then(|r| r.group.configuration().on_node(node));
        known.is_some_and(|known| known.member_id == member_id)
    }

    /// A peer remembers more of our member than our disk holds: the member never votes again.
    fn rolled_back(&mut self, from: u64, group: u32) {
        let reason = format!(
            "group {group} is closed on this node: node {from} remembers more of its log than \
             its disk holds"
        );
        self.close_member(group, &reason);
    }

    /// Our member has as committed what the leader never had: others lost it, and nobody can say
    /// which is right.
    fn contradicted(&mut self, from: u64, group: u32) {
        let reason = format!(
            "group {group} is closed on this node: it holds committed entries that the leader on \
             node {from} never had, so acknowledged data was lost on other disks"
        );
        self.close_member(group, &reason);
    }

    /// The group was recovered by force without our member.
    fn shut_out(&mut self, from: u64, group: u32) {
        let reason = format!(
            "group {group} is closed on this node: it was recovered by force without this member, \
             as node {from} says"
        );
        self.close_member(group, &reason);
    }

    fn close_member(&mut self, group: u32, reason: &str) {
        let Some(replica) = self.replicas.get_mut(&group) else { return };
        if !replica.is_closed() {
            let node_id = self.ctx.node_id();
            let event = MemberClosedEvent { group_id: group, node_id, reason: reason.to_owned() };
            self.ctx.out.events.push((group, Event::MemberClosed(event)));
        }
        replica.phase = GroupPhase::RolledBack;
        replica.resign(&mut self.ctx);
        replica.close(reason, &mut self.ctx);
        let up = self.ctx.peers.iter().filter(|(_, peer)| peer.pair.is_up());
        for node in up.map(|(node, _)| *node).collect::<Vec<_>>() {
            self.tell_closed(node, group);
        }
        self.mark(group);
    }

    /// A peer must not count on a closed member of ours: another one may have closed it, for what
    /// this peer does not know.
    pub(crate) fn tell_closed(&mut self, node: u64, group: u32) {
        let Some(replica) = self.replicas.get(&group).filter(|r| r.is_closed()) else { return };
        let ask = Ask { ask: Some(ask::Ask::Closed(replica.group.member_id())) };
        self.ctx.send(node, ItemKind::Ask, group, &ask.encode_to_vec());
    }

    fn proxied_call(&mut self, from: u64, group: u32, proxy: Proxy) {
        let reply = Reply::Peer { node: from, number: proxy.number };
        let open = self.check_open(group);
        let replica = self.replicas.get_mut(&group);
        let (Ok(()), Some(replica), Some(call)) = (open, replica, proxy.call) else {
            let e = CallError::Unavailable(format!("group {group} is not open on that node"));
            return self.ctx.answer(group, reply, Err(e));
        };
        let key = (proxy.origin, proxy.number);
        match call {
            proxy::Call::Command(input) => {
                replica.command(key, reply, input, None, &mut self.ctx);
            }
            proxy::Call::Query(q) => {
                let query = Query {
                    session_id: q.session_id,
                    primitive_id: q.primitive_id,
                    operation: q.operation,
                    input: q.input,
                    sequence_num: q.sequence_num,
                };
                let consistency =
                    if q.local { Consistency::Local } else { Consistency::Linearizable };
                let ProxyQuery { max_received_index, streams, .. } = q;
                let since = self.ctx.now.micros;
                let read = Read { key, reply, query, max_received_index, streams, since };
                if streams {
                    // It may be long until there is something to list.
                    self.ctx.tell_waits(group, reply);
                }
                replica.query(read, consistency, &mut self.ctx);
            }
            proxy::Call::Cancel(Cancel { session_id, sequence_num }) => {
                let cancel = Some((session_id, sequence_num)).filter(|(id, _)| *id != 0);
                replica.abandon(key, cancel, false, &mut self.ctx);
            }
        }
        self.mark(group);
    }

    fn ask(&mut self, from: u64, group: u32, ask: Ask) {
        if let Some(ask::Ask::Closed(member_id)) = ask.ask {
            if self.knows_member(from, group, member_id) {
                self.ctx.refused.insert((from, group));
            }
            return;
        }
        // A closed member keeps its data, whatever it asks; its node may join anew.
        let joins = matches!(ask.ask, Some(ask::Ask::Join(_)));
        if !joins && self.ctx.refused.contains(&(from, group)) {
            return;
        }
        let neighbours = self.neighbours(group);
        let Some(replica) = self.replicas.get_mut(&group) else { return };
        if let Some(answer) = replica.answer_ask(ask, &neighbours) {
            self.ctx.send(from, ItemKind::AskAnswer, group, &answer.encode_to_vec());
        }
        self.mark(group);
    }
}

impl Replica {
    /// A member's node is back: probe it instead of trusting what was in flight, and send again
    /// what went to it.
    pub fn peer_returned(&mut self, node: u64, ctx: &mut Context) {
        self.tell_promise_to(node, ctx);
        if let Some(member) = self.group.configuration().on_node(node) {
            self.feed_again(member.member_id);
        }
        if self.leader_node() == node {
            self.dispatch_all(ctx);
        }
    }
}

/// Items of peers that do not decode are dropped: a newer release may say more than we know.
fn decoded<M: prost::Message + Default>(payload: &[u8], then: impl FnOnce(M)) {
    if let Ok(message) = M::decode(payload) {
        then(message);
    }
}
