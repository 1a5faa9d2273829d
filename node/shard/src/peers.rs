//! What peers say: links that open and close, frames, and the items in them.

use crate::call::Reply;
use crate::context::Context;
use crate::frame::{Frame, Item, ItemKind};
use crate::io::Remembered;
use crate::replica::Replica;
use crate::shard::Shard;
use crate::{CallError, Consistency};
use bytes::Bytes;
use multiraft_machine::Query;
use multiraft_proto::link::{
    Ask, AskAnswer, Directory as DirectoryWire, DurableMember, Hello, Proxy, ProxyAnswer, proxy,
};
use multiraft_proto::v1::event::Event;
use multiraft_proto::v1::{
    ConnectionEstablishedEvent, ConnectionFailedEvent, ConnectionInfo, GroupPhase,
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
            self.session_broke(node);
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
            self.session_broke(node);
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
            self.session_broke(from);
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

    /// The session with a peer began: it hears what our disk holds and what we know.
    fn session_up(&mut self, node: u64) {
        let shares = |r: &Replica| r.node_is_member(node);
        let members = self.replicas.values().filter(|r| shares(r) && !r.is_closed());
        let hello = Hello {
            incarnation: self.ctx.identity.incarnation,
            members: members
                .map(|r| {
                    let (term, last_index) = r.group.durable();
                    DurableMember { group_id: r.id, term, last_index }
                })
                .collect(),
        };
        self.ctx.send(node, ItemKind::Hello, 0, &hello.encode_to_vec());
        self.directory.greet(node, &mut self.ctx);
        let shared: Vec<u32> = self.replicas.values().filter(|r| shares(r)).map(|r| r.id).collect();
        for id in shared {
            if let Some(replica) = self.replicas.get_mut(&id) {
                replica.peer_returned(node, &mut self.ctx);
            }
            self.campaign_if_new(id);
            self.mark(id);
        }
        self.resend_proxied(None);
    }

    pub(crate) fn session_broke(&mut self, node: u64) {
        self.ctx.counters.pair_breaks += 1;
        self.incarnations.remove(&node);
        self.resend_proxied(Some(node));
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
        let may = alone || !self.drain.is_on;
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
                    replica.forwarded(&payload);
                    self.mark(group);
                }
            }
            ItemKind::Proxy => decoded(&payload, |p| self.proxied_call(from, group, p)),
            ItemKind::ProxyAnswer => decoded(&payload, |answer: ProxyAnswer| {
                self.proxied.answered(answer, &mut self.ctx);
            }),
            ItemKind::Hello => decoded(&payload, |hello| self.hello(from, hello)),
            ItemKind::RolledBack => self.rolled_back(from, group),
            ItemKind::Directory => decoded(&payload, |wire: DirectoryWire| {
                self.directory.learn(from, wire, &mut self.ctx);
            }),
            ItemKind::Ask => decoded(&payload, |ask: Ask| self.ask(from, group, ask)),
            ItemKind::AskAnswer => {
                decoded(&payload, |answer: AskAnswer| self.ask_answered(group, answer));
            }
        }
    }

    fn raft_message(&mut self, from: u64, group: u32, message: &[u8]) {
        if self.memory.is_refused(from, group) {
            return;
        }
        let Some(replica) = self.replicas.get_mut(&group).filter(|r| !r.is_closed()) else {
            return;
        };
        if let Some(stepped) = replica.step(from, message)
            && let Some(index) = stepped.acknowledged
            && let Some(incarnation) = self.incarnations.get(&from).copied()
        {
            let term = stepped.term;
            self.memory.acknowledged(Remembered { node: from, incarnation, group, term, index });
        }
        self.mark(group);
    }

    fn hello(&mut self, from: u64, hello: Hello) {
        self.incarnations.insert(from, hello.incarnation);
        for member in hello.members {
            let stated = Remembered {
                node: from,
                incarnation: hello.incarnation,
                group: member.group_id,
                term: member.term,
                index: member.last_index,
            };
            if self.memory.is_rolled_back(stated) {
                self.ctx.send(from, ItemKind::RolledBack, member.group_id, &[]);
            }
        }
    }

    /// A peer remembers more of our member than our disk holds: the member never votes again.
    fn rolled_back(&mut self, from: u64, group: u32) {
        let Some(replica) = self.replicas.get_mut(&group) else { return };
        replica.phase = GroupPhase::RolledBack;
        let reason = format!(
            "group {group} is closed on this node: node {from} remembers more of its log than \
             its disk holds"
        );
        replica.close(&reason, &mut self.ctx);
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
                };
                let consistency =
                    if q.local { Consistency::Local } else { Consistency::Linearizable };
                replica.query(reply, query, q.max_received_index, consistency, &mut self.ctx);
            }
            proxy::Call::Cancel(_) => replica.abandon(key, &mut self.ctx),
        }
        self.mark(group);
    }

    fn ask(&mut self, from: u64, group: u32, ask: Ask) {
        let reachable = self.reachable_nodes();
        let Some(replica) = self.replicas.get_mut(&group) else { return };
        if let Some(answer) = replica.answer_ask(ask, &reachable) {
            self.ctx.send(from, ItemKind::AskAnswer, group, &answer.encode_to_vec());
        }
        self.mark(group);
    }
}

impl Replica {
    fn node_is_member(&self, node: u64) -> bool {
        self.group.configuration().on_node(node).is_some()
    }

    /// A member's node is back: probe it instead of trusting what was in flight, and send again
    /// what went to it.
    fn peer_returned(&mut self, node: u64, ctx: &mut Context) {
        if let Some(member) = self.group.configuration().on_node(node) {
            let member_id = member.member_id;
            self.group.unreachable(member_id);
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
