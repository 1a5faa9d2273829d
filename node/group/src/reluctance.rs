//! A member that would rather not lead, for its node drains: it leaves elections to the others as
//! long as they can win.

use crate::limits::RELUCTANT_TICKS;
use crate::{Group, is_vote_request};
use raft::eraftpb::Message;

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reluctance {
    /// Ticks since the election clock moved.
    ticks: u8,
    /// A candidate without a leader lacks what this member has: no vote of it can elect that one.
    is_needed: bool,
}

impl Group {
    /// A node that drains campaigns only when nobody else has done so for three times as long, or
    /// at the usual time when who does cannot win.
    pub fn set_reluctant(&mut self, reluctant: bool) {
        self.reluctance = reluctant.then(Reluctance::default);
    }

    /// Whether this tick moves the election clock not.
    pub(crate) fn waits_as_reluctant(&mut self) -> bool {
        let led = self.leader() != 0;
        let Some(reluctance) = &mut self.reluctance else { return false };
        reluctance.is_needed &= !led;
        reluctance.ticks = (reluctance.ticks + 1) % RELUCTANT_TICKS;
        !reluctance.is_needed && reluctance.ticks != 0
    }

    /// A message is about to be taken.
    pub(crate) fn note_candidate(&mut self, message: &Message) {
        if self.leader() != 0 || !is_vote_request(message) {
            return;
        }
        let log = &self.node.raft.raft_log;
        let is_behind = !log.is_up_to_date(message.index, message.log_term);
        if let Some(reluctance) = &mut self.reluctance {
            reluctance.is_needed |= is_behind;
        }
    }
}
