//! What every part of a shard shares: who we are, what time it is, the peers, the outputs.

use crate::calls::Held;
use crate::frame::{ItemKind, Outbox};
use crate::io::{
    AdminAnswer, GroupPersist, Identity, LinkCommand, NodeFacts, Now, Outputs, Persist,
};
use crate::limits::FRAME_BYTES_MAX;
use crate::pair::Pair;
use bytes::Bytes;
use multiraft_proto::v1::event::Event;
use std::collections::{BTreeMap, BTreeSet};

/// A node that we keep a connection to.
pub(crate) struct Peer {
    pub pair: Pair,
    pub address: String,
    pub client_address: String,
    pub outbox: Outbox,
}

/// Counters since the start of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub rounds: u64,
    pub entries: u64,
    pub applied_items: u64,
    pub reads: u64,
    pub read_rounds: u64,
    pub forwarded: u64,
    /// Terms that began in groups of this node, as far as it heard of them.
    pub elections: u64,
    /// Other leaders of groups of this node.
    pub leader_changes: u64,
    /// Sessions with peers that broke.
    pub pair_breaks: u64,
}

pub(crate) struct Context {
    pub identity: Identity,
    pub origin: u64,
    pub now: Now,
    pub facts: NodeFacts,
    pub peers: BTreeMap<u64, Peer>,
    /// Peers that said in their present session what their disks hold. Raft hears of nobody before.
    pub introduced: BTreeSet<u64>,
    /// Members whose disks went back: (node, group).
    pub refused: BTreeSet<(u64, u32)>,
    /// For callers, in all groups.
    pub held: Held,
    pub out: Outputs,
    pub counters: Counters,
    /// Number of the last record.
    pub record: u64,
    /// Members that this node had in this life of it.
    pub lives: u64,
    /// What the record of this round makes durable.
    pub acks: Vec<Ack>,
    /// What may be told when the record of this round is durable.
    pub durable_events: Vec<(u32, Event)>,
    /// Administration calls to answer when the record of this round is durable.
    pub tokens: Vec<(u64, AdminAnswer)>,
}

/// What a record makes durable of a group: the ready with this number. A record may outlast the member:
/// one that joins the group again counts its readies from the start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ack {
    pub group: u32,
    pub life: u64,
    pub number: u64,
}

impl Context {
    pub fn new(identity: Identity, facts: NodeFacts, now: Now) -> Self {
        let origin = identity.origin();
        Context {
            identity,
            origin,
            now,
            facts,
            peers: BTreeMap::new(),
            introduced: BTreeSet::new(),
            refused: BTreeSet::new(),
            held: Held::default(),
            out: Outputs::default(),
            counters: Counters::default(),
            record: 0,
            lives: 0,
            acks: Vec::new(),
            durable_events: Vec::new(),
            tokens: Vec::new(),
        }
    }

    /// For a member that is made now.
    pub fn next_life(&mut self) -> u64 {
        self.lives += 1;
        self.lives
    }

    /// The record of this round.
    pub fn record(&mut self) -> &mut Persist {
        let round = self.record + 1;
        self.out.persist.get_or_insert_with(|| Persist { round, ..Default::default() })
    }

    /// A new part of this round's record; parts of one group hold in their order.
    pub fn record_group(&mut self, group: u32) -> &mut GroupPersist {
        let groups = &mut self.record().groups;
        groups.push(GroupPersist { group, ..Default::default() });
        groups.last_mut().expect("pushed above")
    }

    pub fn node_id(&self) -> u64 {
        self.identity.node_id
    }

    /// Keeps a connection to the node from now on.
    pub fn know_peer(&mut self, node: u64, address: String) {
        if node == self.identity.node_id || node == 0 {
            return;
        }
        let (boot, now) = (self.identity.boot, self.now.micros);
        let peer = self.peers.entry(node).or_insert_with(|| Peer {
            pair: Pair::new(boot, now),
            address: String::new(),
            client_address: String::new(),
            outbox: Outbox::default(),
        });
        if !address.is_empty() && peer.address != address {
            peer.address.clone_from(&address);
            self.out.links.push(LinkCommand::Dial { node, address });
        }
    }

    pub fn is_up(&self, node: u64) -> bool {
        self.peers.get(&node).is_some_and(|p| p.pair.is_up())
    }

    /// Whether raft messages of a group may pass between us and the node.
    pub fn trusts(&self, node: u64, group: u32) -> bool {
        self.introduced.contains(&node) && !self.refused.contains(&(node, group))
    }

    /// Queues an item for a peer; false when no session stands and the item is dropped.
    pub fn send(&mut self, node: u64, kind: ItemKind, group: u32, payload: &[u8]) -> bool {
        let from = self.identity.node_id;
        let Some(peer) = self.peers.get_mut(&node).filter(|p| p.pair.is_up()) else {
            return false;
        };
        if peer.outbox.len() + payload.len() > FRAME_BYTES_MAX && !peer.outbox.is_empty() {
            let frame = peer.outbox.take(from, node, peer.pair.header());
            self.out.frames.push((node, frame));
        }
        peer.outbox.put(kind, group, payload);
        true
    }

    /// A frame to one peer, empty when nothing is queued: the heartbeat.
    pub fn flush_to(&mut self, node: u64) {
        let from = self.identity.node_id;
        let Some(peer) = self.peers.get_mut(&node).filter(|p| p.pair.is_connected()) else {
            return;
        };
        let frame: Bytes = peer.outbox.take(from, node, peer.pair.header());
        self.out.frames.push((node, frame));
    }

    /// One frame per peer that has something queued.
    pub fn flush(&mut self) {
        let waiting = self.peers.iter().filter(|(_, p)| !p.outbox.is_empty());
        let nodes: Vec<u64> = waiting.map(|(n, _)| *n).collect();
        for node in nodes {
            self.flush_to(node);
        }
    }
}
