//! Nodes that come and go: what the end of a session, and a peer's death, mean for the groups.

use crate::frame::ItemKind;
use crate::limits::{CAMPAIGNS_PER_ROUND, SUSPECT_MICROS};
use crate::replica::Replica;
use crate::shard::Shard;
use multiraft_group::mix;
use multiraft_proto::link::{AskAnswer, DurableMember, Hello, ask_answer};
use prost::Message as _;

impl Shard {
    /// The session with a peer began: it hears what our disk holds and what we know.
    pub(crate) fn session_up(&mut self, node: u64) {
        // Of all groups: on a disk that went back, the configuration may not name the peer yet.
        let members = self.replicas.values().filter(|r| !r.is_closed());
        let hello = Hello {
            incarnation: self.ctx.identity.incarnation,
            members: members
                .map(|r| {
                    let (term, last_index) = r.group.durable();
                    let recovery = r.group.configuration().recovery;
                    let member_id = r.group.member_id();
                    DurableMember { group_id: r.id, term, last_index, recovery, member_id }
                })
                .collect(),
        };
        self.ctx.send(node, ItemKind::Hello, 0, &hello.encode_to_vec());
        let closed = self.replicas.values().filter(|r| r.is_closed());
        for group in closed.map(|r| r.id).collect::<Vec<_>>() {
            self.tell_closed(node, group);
        }
        self.directory.greet(node, &mut self.ctx);
        self.resend_proxied(None);
    }

    /// The peer said what its disk holds: raft may speak with it.
    pub(crate) fn greeted(&mut self, node: u64) {
        let shares = |r: &&Replica| r.group.configuration().on_node(node).is_some();
        let shared: Vec<u32> = self.replicas.values().filter(shares).map(|r| r.id).collect();
        for id in shared {
            if let Some(replica) = self.replicas.get_mut(&id) {
                replica.peer_returned(node, &mut self.ctx);
            }
            self.campaign_if_new(id);
            self.mark(id);
        }
    }

    /// The session with a peer ended. `dead`: the peer cannot lead what it led: it is silent, has
    /// begun anew, or takes us for dead.
    pub(crate) fn session_broke(&mut self, node: u64, dead: bool) {
        self.ctx.counters.pair_breaks += 1;
        self.incarnations.remove(&node);
        self.ctx.introduced.remove(&node);
        self.resend_proxied(Some(node));
        let groups: Vec<u32> = self.replicas.keys().copied().collect();
        for id in groups {
            let Some(replica) = self.replicas.get_mut(&id) else { continue };
            let led = replica.leader_node() == node;
            let leads = replica.group.is_leader();
            replica.session_broke(node, &self.ctx);
            replica.forget_calls_of(node, &mut self.ctx);
            if led || leads {
                self.mark(id);
            }
        }
        if dead {
            self.node_died(node);
        }
    }

    /// Every group that the node led looks for another leader.
    pub(crate) fn node_died(&mut self, node: u64) {
        let led = self.replicas.values().filter(|r| r.leader_node() == node && !r.is_closed());
        let led: Vec<u32> = led.map(|r| r.id).collect();
        for id in led {
            let rank = self.rank(id, node);
            if self.replicas.get_mut(&id).is_some_and(|r| r.orphaned(rank)) {
                self.campaigns.push_back(id);
            }
            self.mark(id);
        }
    }

    /// This node's place among the voters that may take over, in an order that spreads the groups.
    fn rank(&self, id: u32, dead: u64) -> usize {
        let Some(replica) = self.replicas.get(&id) else { return usize::MAX };
        let own = self.ctx.node_id();
        let lives = |node: &u64| {
            *node != dead
                && (*node == own || self.ctx.peers.get(node).is_some_and(|p| !p.pair.is_dead()))
        };
        let voters = replica.group.configuration().voters().map(|m| m.node_id);
        let mut order: Vec<u64> = voters.filter(lives).collect();
        order.sort_by_key(|node| {
            (self.directory.is_draining(*node), mix(u64::from(id) ^ mix(*node)))
        });
        order.iter().position(|node| *node == own).unwrap_or(order.len())
    }

    /// Elections of orphaned groups, some each round: they are bound by syncs, and what else there
    /// is to do must not wait for thousands of them.
    pub(crate) fn campaign_some(&mut self) {
        for _ in 0..CAMPAIGNS_PER_ROUND {
            let Some(id) = self.campaigns.pop_front() else { return };
            let Some(replica) = self.replicas.get_mut(&id) else { continue };
            if replica.group.leader() == 0 && replica.group.is_follower() {
                replica.group.campaign();
                self.mark(id);
            }
        }
    }

    /// Whether a leader's node has been silent for so long that it protects the leader from
    /// candidates no more.
    pub(crate) fn is_suspect(&self, node: u64) -> bool {
        let now = self.ctx.now.micros;
        let silent =
            |pair: &crate::pair::Pair| pair.is_dead() || pair.silence(now) >= SUSPECT_MICROS;
        node != self.ctx.node_id() && self.ctx.peers.get(&node).is_none_or(|p| silent(&p.pair))
    }

    /// Members that were removed may go when most voters know: until then their votes may be needed
    /// (a removed voter that went at once left a group that could elect nobody).
    pub(crate) fn release_removed(&mut self, id: u32) {
        let Some(replica) = self.replicas.get_mut(&id) else { return };
        for (node, member_id) in replica.take_released() {
            let answer = AskAnswer { answer: Some(ask_answer::Answer::Left(member_id)) };
            self.ctx.send(node, ItemKind::AskAnswer, id, &answer.encode_to_vec());
        }
    }
}
