//! Peers are trusted to follow Raft, not to be well-formed: what raft 0.7 would panic on, or take
//! although no member ever sends it, is refused here.

use crate::limits::{INDEX_MAX, TERM_LEAP_MAX};
use crate::{Group, SnapshotMark, StepError, conf_state};
use raft::eraftpb::{ConfState, EntryType, Message, MessageType, Snapshot};

impl Group {
    /// Refuses what raft would take or panic on.
    pub(crate) fn check(&self, message: &Message) -> Result<(), StepError> {
        self.check_numbers(message)?;
        let last = self.last_index();
        let entries = message.entries.len();
        match message.msg_type() {
            MessageType::MsgAppend => return require(is_run(message)),
            // raft reads the request out of its only entry.
            MessageType::MsgReadIndex | MessageType::MsgReadIndexResp => {
                return require(entries == 1);
            }
            _ => require(entries == 0)?,
        }
        match message.msg_type() {
            // A leader tells a member to commit only what that member acknowledged.
            MessageType::MsgHeartbeat if message.commit > last => Err(StepError::LogIsShort),
            MessageType::MsgAppendResponse
                if !message.reject
                    && self.is_leader()
                    && message.term == self.term()
                    && message.index > last =>
            {
                Err(StepError::LogsContradict)
            }
            // Who becomes a leader has its whole log on disk: a candidate asks for votes no sooner,
            // and leadership is handed to members that acknowledged everything.
            MessageType::MsgRequestVoteResponse | MessageType::MsgTimeoutNow => {
                require(self.node.raft.raft_log.persisted == last)
            }
            MessageType::MsgAppendResponse
            | MessageType::MsgHeartbeat
            | MessageType::MsgHeartbeatResponse
            | MessageType::MsgRequestVote
            | MessageType::MsgRequestPreVote
            | MessageType::MsgRequestPreVoteResponse => Ok(()),
            // Snapshots come by `install`; the rest a member says to itself only.
            _ => Err(StepError::NotForUs),
        }
    }

    fn check_numbers(&self, message: &Message) -> Result<(), StepError> {
        // raft takes a message without a term as one of its own; this kind has none.
        let has_term = message.term != 0;
        let numbers = [message.index, message.commit, message.reject_hint];
        require(
            message.from != 0
                && message.from != self.member_id
                && has_term != (message.msg_type() == MessageType::MsgReadIndex)
                && message.term.max(message.log_term) <= self.term().saturating_add(TERM_LEAP_MAX)
                && numbers.iter().all(|number| *number <= INDEX_MAX)
                // Nobody here asks for a snapshot by itself.
                && message.request_snapshot == 0,
        )
    }

    /// The mark of a snapshot message.
    pub(crate) fn check_snapshot(&self, message: &Message) -> Result<(), StepError> {
        self.check_numbers(message)?;
        let snapshot = message.snapshot.as_ref();
        let mark = snapshot.and_then(SnapshotMark::from_raft).ok_or(StepError::NotForUs)?;
        let state = snapshot.and_then(of_snapshot).ok_or(StepError::NotForUs)?;
        require(
            message.msg_type() == MessageType::MsgSnapshot
                && message.entries.is_empty()
                && (1..=INDEX_MAX).contains(&mark.index)
                && (1..=message.term).contains(&mark.term)
                && *state == conf_state(&mark.configuration)
                && mark.configuration.check().is_ok(),
        )
    }
}

fn require(holds: bool) -> Result<(), StepError> {
    if holds { Ok(()) } else { Err(StepError::NotForUs) }
}

/// Entries without a gap, of terms that never go back, behind one that exists.
fn is_run(message: &Message) -> bool {
    let mut before = (message.index, message.log_term);
    let follows = message.entries.iter().all(|e| {
        let last = std::mem::replace(&mut before, (e.index, e.term));
        e.index == last.0 + 1 && e.term >= last.1.max(1) && EntryType::is_valid(e.entry_type)
    });
    // raft says term 0 of any index beyond its log, which would match there.
    (message.index == 0) == (message.log_term == 0) && follows && before.1 <= message.term
}

fn of_snapshot(snapshot: &Snapshot) -> Option<&ConfState> {
    snapshot.metadata.as_ref()?.conf_state.as_ref()
}
