//! What nodes tell each other of themselves: where they are and which groups they hold. A node
//! without a member of a group finds one that has; every node's record reaches all by gossip.

use crate::context::Context;
use crate::frame::ItemKind;
use multiraft_proto::link::{Directory as Wire, NodeRecord};
use prost::Message as _;
use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub(crate) struct Directory {
    nodes: BTreeMap<u64, NodeRecord>,
    /// Nodes by group, without this one.
    by_group: BTreeMap<u32, Vec<u64>>,
    revision: u64,
}

impl Directory {
    /// This node's own record changed: everybody hears of it.
    pub fn announce(&mut self, groups: Vec<u32>, draining: bool, ctx: &mut Context) {
        self.revision += 1;
        let id = &ctx.identity;
        let record = NodeRecord {
            node_id: id.node_id,
            boot: id.boot,
            revision: self.revision,
            host: id.host.clone(),
            peer_port: u32::from(id.peer_port),
            client_address: id.client_address.clone(),
            groups,
            draining,
        };
        self.nodes.insert(record.node_id, record.clone());
        tell_all(&[record], None, ctx);
    }

    /// A connection was made: the peer may not know this node at all and has to dial back.
    pub fn introduce(&self, node: u64, ctx: &mut Context) {
        let own = self.nodes.get(&ctx.node_id()).cloned();
        let wire = Wire { nodes: own.into_iter().collect() };
        if let Some(peer) = ctx.peers.get_mut(&node) {
            peer.outbox.put(ItemKind::Directory, 0, &wire.encode_to_vec());
        }
        ctx.flush_to(node);
    }

    /// A session began: the peer hears everything that we know.
    pub fn greet(&self, node: u64, ctx: &mut Context) {
        let wire = Wire { nodes: self.nodes.values().cloned().collect() };
        ctx.send(node, ItemKind::Directory, 0, &wire.encode_to_vec());
    }

    /// Takes in what a peer knows; what is news to us goes on to the others.
    pub fn learn(&mut self, from: u64, wire: Wire, ctx: &mut Context) {
        let mut news = Vec::new();
        for record in wire.nodes {
            let (node, version) = (record.node_id, (record.boot, record.revision));
            let known = self.nodes.get(&node).map(|r| (r.boot, r.revision));
            if node == ctx.node_id() || known.is_some_and(|k| k >= version) {
                continue;
            }
            ctx.know_peer(node, format!("{}:{}", record.host, record.peer_port));
            if let Some(peer) = ctx.peers.get_mut(&node) {
                peer.client_address.clone_from(&record.client_address);
            }
            self.nodes.insert(node, record.clone());
            news.push(record);
        }
        if !news.is_empty() {
            self.index(ctx.node_id());
            tell_all(&news, Some(from), ctx);
        }
    }

    fn index(&mut self, own: u64) {
        self.by_group.clear();
        for (node, record) in self.nodes.iter().filter(|(n, _)| **n != own) {
            for group in &record.groups {
                self.by_group.entry(*group).or_default().push(*node);
            }
        }
    }

    pub fn is_draining(&self, node: u64) -> bool {
        self.nodes.get(&node).is_some_and(|r| r.draining)
    }

    /// Other nodes that hold the group.
    pub fn holders(&self, group: u32) -> &[u64] {
        self.by_group.get(&group).map_or(&[], Vec::as_slice)
    }

    pub fn knows(&self, group: u32) -> bool {
        self.by_group.contains_key(&group)
    }

    /// A node in session that holds the group.
    pub fn route(&self, group: u32, ctx: &Context) -> Option<u64> {
        self.by_group.get(&group)?.iter().copied().find(|n| ctx.is_up(*n))
    }
}

fn tell_all(records: &[NodeRecord], except: Option<u64>, ctx: &mut Context) {
    let wire = Wire { nodes: records.to_vec() }.encode_to_vec();
    let peers: Vec<u64> = ctx.peers.keys().copied().filter(|n| Some(*n) != except).collect();
    for node in peers {
        ctx.send(node, ItemKind::Directory, 0, &wire);
    }
}
