//! Groups with nothing to do cost nothing: the contract between a leader and its followers.
//!
//! A follower hands its election clock to the session with the leader's node: as long as that stands
//! the leader lives. It stays so through later traffic. Once all members that can be reached have
//! done so and hold everything, the leader stops its own clock too, between two commands as well as
//! for hours: neither stopping nor waking costs a message. Without any for a while it is not even
//! looked at. Offers and grants hold within one session and one term. (Worked out and simulated on
//! 11,200 seeds: `quiet-groups.md`, there with a rest that begins after 2 s. With 4,096 groups and a
//! command in each twice a second, heartbeats were most of what the nodes did.)

use crate::context::Context;
use crate::frame::ItemKind;
use crate::limits::{CAMPAIGN_RETRIES, OFFER_AGAIN_TICKS, SLEEP_AFTER_TICKS};
use crate::replica::Replica;
use std::collections::BTreeMap;

/// Where a member stands in the contract.
#[derive(Debug, Default)]
pub(crate) struct Contract {
    /// Ticks since anything happened in the group.
    idle: u32,
    /// The term that this member leads in.
    led: Option<u64>,
    /// The leader rests: raft's clock stands still, and with it the heartbeats.
    rests: bool,
    /// A follower's clock is with the session to (node, term): it is not ticked.
    delegated: Option<(u64, u64)>,
    /// On the leader: nodes whose members delegated their clocks, with the term of it.
    grants: BTreeMap<u64, u64>,
    /// On the leader: nodes that an offer went to, with the idle time then.
    offered: BTreeMap<u64, u32>,
    /// Lost requests for pre-votes that are repeated soon.
    pub retries: u8,
}

impl Replica {
    /// Whether raft's clock runs here.
    pub fn is_ticking(&self) -> bool {
        self.contract.delegated.is_none() && !self.contract.rests
    }

    pub fn rests(&self) -> bool {
        self.contract.rests
    }

    /// It rests, and not only between two commands.
    pub fn sleeps(&self) -> bool {
        self.rests() && self.contract.idle >= SLEEP_AFTER_TICKS
    }

    /// One tick of raft's clock, unless it stands still.
    pub fn tick_group(&mut self, ctx: &mut Context) {
        self.contract.idle = self.contract.idle.saturating_add(1);
        // First, for whoever rests sends no heartbeats any more.
        if self.group.is_leader() && !self.rests() {
            self.offer_rest(ctx);
        }
        if !self.is_ticking() {
            return;
        }
        self.group.tick();
        if self.contract.retries > 0 && self.group.has_just_asked() {
            self.contract.retries -= 1;
            self.group.retry_campaign();
        }
    }

    /// Something happens: the leader's clock runs from now on.
    pub fn wake(&mut self) {
        self.contract.idle = 0;
        self.contract.offered.clear();
        if std::mem::take(&mut self.contract.rests) {
            self.group.reset_clock();
        }
    }

    /// Offers rest to members that have everything, and rests when all of them accepted.
    fn offer_rest(&mut self, ctx: &mut Context) {
        let term = self.group.term();
        if !self.group.is_settled() {
            return;
        }
        let own = self.group.member_id();
        let members = &self.group.configuration().members;
        let others = members.iter().filter(|m| m.member_id != own && ctx.is_up(m.node_id));
        let (mut all, mut offers) = (true, Vec::new());
        for member in others {
            let (node, is_fed) = (member.node_id, self.group.is_fed(member.member_id));
            let granted = self.contract.grants.get(&node) == Some(&term);
            all &= is_fed && granted;
            let again = |at: &u32| self.contract.idle.saturating_sub(*at) >= OFFER_AGAIN_TICKS;
            if is_fed && !granted && self.contract.offered.get(&node).is_none_or(again) {
                offers.push(node);
            }
        }
        for node in offers {
            self.contract.offered.insert(node, self.contract.idle);
            ctx.send(node, ItemKind::Offer, self.id, &term.to_be_bytes());
        }
        let settled = self.group.is_at_rest() && self.has_nothing_pending();
        self.contract.rests = all && settled && self.hears_quorum(ctx);
    }

    /// On the leader: a majority of the voters is in session.
    fn hears_quorum(&self, ctx: &Context) -> bool {
        let voters: Vec<u64> = self.group.configuration().voters().map(|m| m.node_id).collect();
        let hears = |node: &&u64| **node == ctx.node_id() || ctx.is_up(**node);
        2 * voters.iter().filter(hears).count() > voters.len()
    }

    pub fn offered(&mut self, node: u64, term: u64, ctx: &mut Context) {
        let follows =
            self.group.is_follower() && self.group.term() == term && self.leader_node() == node;
        if !follows {
            return;
        }
        self.contract.delegated = Some((node, term));
        self.contract.retries = 0;
        self.group.reset_clock();
        ctx.send(node, ItemKind::Grant, self.id, &term.to_be_bytes());
    }

    pub fn granted(&mut self, node: u64, term: u64) {
        if self.group.is_leader() && self.group.term() == term {
            self.contract.grants.insert(node, term);
        }
    }

    /// A follower took its clock back although the session stands.
    pub fn revoked(&mut self, node: u64) {
        self.contract.grants.remove(&node);
        if self.group.is_leader() {
            self.wake();
            self.group.ping();
        }
    }

    /// The leader leads no more.
    pub fn resigned(&mut self, node: u64, term: u64) {
        if self.group.term() == term && self.leader_node() == node {
            self.group.forget_leader();
            self.contract.delegated = None;
        }
    }

    /// After every drive: leaderships that began or ended, delegations that lost their ground.
    pub fn keep_contract(&mut self, ctx: &mut Context) {
        let (leads, term) = (self.group.is_leader(), self.group.term());
        if let Some((node, since)) = self.contract.delegated
            && (!self.group.is_follower() || since != term || self.leader_node() != node)
        {
            self.undelegate();
            ctx.send(node, ItemKind::Revoke, self.id, &since.to_be_bytes());
        }
        if let Some(led) = self.contract.led
            && (!leads || led != term)
        {
            self.resign(ctx);
        }
        if leads && self.contract.led.is_none() {
            self.contract = Contract { led: Some(term), ..Contract::default() };
        }
    }

    /// This member leads no more, or is closed: whoever gave it its clock takes it back.
    pub fn resign(&mut self, ctx: &mut Context) {
        let Some(led) = self.contract.led.take() else { return };
        self.contract.rests = false;
        self.contract.offered.clear();
        for node in std::mem::take(&mut self.contract.grants).into_keys() {
            ctx.send(node, ItemKind::Resign, self.id, &led.to_be_bytes());
        }
    }

    fn undelegate(&mut self) {
        #[cfg(feature = "planted")]
        if self.planted_sleeps() {
            return;
        }
        self.contract.delegated = None;
        if self.group.is_follower() {
            self.group.reset_clock();
        }
    }

    /// A candidate asks for this member's vote. The age of the session protects a leader, not the
    /// group's clock, which stands still while it is delegated.
    pub fn vote_asked(&mut self, ctx: &mut Context) {
        if let Some((node, term)) = self.contract.delegated {
            self.undelegate();
            ctx.send(node, ItemKind::Revoke, self.id, &term.to_be_bytes());
        }
    }

    /// The session with a node broke: what was agreed in it is void.
    pub fn session_broke(&mut self, node: u64, ctx: &Context) {
        if self.leader_node() == node {
            self.undelegate();
        } else if self.group.is_leader() {
            self.contract.grants.remove(&node);
            self.contract.offered.remove(&node);
            if self.contract.rests && !self.hears_quorum(ctx) {
                self.wake();
                self.group.forget_activity();
            }
        }
    }

    /// A member's node is back in session: it is fed, and may rest as soon as it is.
    pub fn feed_again(&mut self, member_id: u64) {
        if self.group.is_leader() {
            self.wake();
            self.contract.idle = SLEEP_AFTER_TICKS / 2;
            self.group.unreachable(member_id);
            self.group.ping();
        }
    }

    /// The leader's node is dead, or began anew: whoever ranks first campaigns now (true), the
    /// others some ticks later each, in case it does not.
    pub fn orphaned(&mut self, rank: usize) -> bool {
        #[cfg(feature = "planted")]
        if self.planted_sleeps() {
            return false;
        }
        self.group.forget_leader();
        self.contract.delegated = None;
        if !self.group.is_follower() || !self.group.may_lead() {
            return false;
        }
        self.contract.retries = CAMPAIGN_RETRIES;
        match rank {
            // Should the first attempt fail.
            0 => self.group.retry_campaign(),
            _ => self.group.campaign_in(1 + 3 * rank),
        }
        rank == 0
    }
}
