//! Joining, being promoted, leaving: a member asks the leader until it is done.
//!
//! The asker repeats, the leader's answer is a function of the configuration, so every step may be
//! lost or repeated. Nothing of it needs to be remembered but the learner's wish to be promoted,
//! which is stored with its configuration.

use crate::changes::Neighbours;
use crate::context::Context;
use crate::frame::ItemKind;
use crate::limits::{FORLORN_MICROS, PROMOTE_LAG_MAX};
use crate::replica::Replica;
use multiraft_group::{Change, Member, Role};
use multiraft_proto::link::{Ask, AskAnswer, ask, ask_answer};
use prost::Message as _;
use std::collections::BTreeSet;

impl Replica {
    /// What the leader says to an ask; `None` = not now (not the leader, or a step is under way).
    pub fn answer_ask(&mut self, ask: Ask, neighbours: &Neighbours) -> Option<AskAnswer> {
        if !self.group.is_settled() || self.is_closed() {
            return None;
        }
        let answer = match ask.ask? {
            ask::Ask::Join(wire) => self.ask_join(Member::from_wire(&wire))?,
            ask::Ask::Promote(member_id) => self.ask_promote(member_id)?,
            ask::Ask::Present(member_id) => self.left(member_id)?,
            ask::Ask::Leave(member_id) => self.ask_leave(member_id, neighbours)?,
            ask::Ask::Closed(_) => return None,
        };
        Some(AskAnswer { answer: Some(answer) })
    }

    fn ask_join(&mut self, member: Member) -> Option<ask_answer::Answer> {
        let configuration = self.group.configuration();
        if configuration.member(member.member_id).is_some_and(|m| m.node_id == member.node_id) {
            return Some(ask_answer::Answer::Joined(configuration.to_stored()));
        }
        if let Some(other) = configuration.on_node(member.node_id) {
            return Some(refused(format!(
                "node {} is member {} of group {} already",
                member.node_id, other.member_id, self.id
            )));
        }
        if member.member_id <= configuration.member_id_max {
            return Some(refused(format!(
                "member_id {} of group {} was used before: choose one above {}",
                member.member_id, self.id, configuration.member_id_max
            )));
        }
        self.propose_change(&Change::Put(Member { role: Role::Learner, ..member }));
        None
    }

    fn ask_promote(&mut self, member_id: u64) -> Option<ask_answer::Answer> {
        let Some(member) = self.group.configuration().member(member_id).cloned() else {
            // A learner that was removed goes on to ask.
            return self.left(member_id);
        };
        let caught_up = self.lag(member_id)? <= PROMOTE_LAG_MAX;
        if member.role == Role::Learner && caught_up {
            self.propose_change(&Change::Put(Member { role: Role::Voter, ..member }));
        }
        None
    }

    fn ask_leave(&mut self, member_id: u64, neighbours: &Neighbours) -> Option<ask_answer::Answer> {
        if self.group.configuration().member(member_id).is_none() {
            return self.left(member_id);
        }
        if let Err(reason) = self.check_removal(member_id, neighbours) {
            return Some(refused(reason));
        }
        if member_id == self.group.member_id() {
            self.hand_over(&neighbours.willing);
        } else {
            self.propose_change(&Change::Remove { member_id });
        }
        None
    }

    /// For a member that is gone and needed no more.
    fn left(&self, member_id: u64) -> Option<ask_answer::Answer> {
        let gone = self.group.configuration().member(member_id).is_none();
        (gone && self.has_departed(member_id)).then_some(ask_answer::Answer::Left(member_id))
    }

    /// Most voters know of the last removal: the removed member's vote is not needed any more. A
    /// leader that was deposed without noticing may not even know that it was added: then its number
    /// is above all that this leader ever knew.
    fn has_departed(&self, member_id: u64) -> bool {
        let configuration = self.group.configuration();
        member_id <= configuration.member_id_max
            && self.group.is_known_by_quorum(configuration.version)
    }

    fn propose_change(&mut self, change: &Change) {
        // Refused while another is in flight: the asker asks again.
        let _ = self.group.propose_change(change);
    }

    /// Whether this member has reached what a join or start asked for.
    pub fn wants_promotion(&self) -> bool {
        self.auto_promote && self.role() == Some(Role::Learner)
    }

    /// Whether it was removed, or has been without a leader for so long that it may have been removed meanwhile.
    pub fn is_forlorn(&mut self, now: u64) -> bool {
        if self.role().is_none() {
            return true;
        }
        if self.group.leader() != 0 {
            self.led_at = now;
        }
        now >= self.led_at + FORLORN_MICROS
    }

    /// Asks the leader, wherever it is; an own leader answers itself.
    pub fn ask_leader(
        &mut self,
        ask: ask::Ask,
        neighbours: &Neighbours,
        holders: &[u64],
        ctx: &mut Context,
    ) -> Option<AskAnswer> {
        let ask = Ask { ask: Some(ask) };
        if self.group.is_leader() {
            return self.answer_ask(ask, neighbours);
        }
        // Nobody tells a removed member who leads next: the leader that it knows may have been
        // removed after it.
        let leader = self.role().map_or(0, |_| self.leader_node());
        if leader != 0 {
            ctx.send(leader, ItemKind::Ask, self.id, &ask.encode_to_vec());
        } else {
            // All that it knows may have left since: whoever leads will answer.
            let known = self.group.configuration().members.iter().map(|m| m.node_id);
            for node in known.chain(holders.iter().copied()).collect::<BTreeSet<u64>>() {
                ctx.send(node, ItemKind::Ask, self.id, &ask.encode_to_vec());
            }
        }
        None
    }
}

fn refused(reason: String) -> ask_answer::Answer {
    ask_answer::Answer::Refused(reason)
}
