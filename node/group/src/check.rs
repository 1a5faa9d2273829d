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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Configuration, Member, Origin, Role, Timing, encode};
    use raft::eraftpb::{Entry, SnapshotMetadata};

    fn configuration() -> Configuration {
        let (host, role) = ("host".to_owned(), Role::Voter);
        let member = |id| Member { member_id: id, node_id: id, host: host.clone(), port: 1, role };
        Configuration::first((1..=3).map(member).collect())
    }

    fn follower() -> Group {
        let timing = Timing { election_ticks: 10, heartbeat_ticks: 1, seed: 1 };
        Group::start(Origin::fresh(1, configuration()), timing)
    }

    fn message(kind: MessageType) -> Message {
        let mut message = Message { to: 1, from: 2, term: 1, ..Default::default() };
        message.set_msg_type(kind);
        message
    }

    fn append(indexes: &[(u64, u64)]) -> Message {
        let entry =
            |(index, term): &(u64, u64)| Entry { index: *index, term: *term, ..Default::default() };
        Message { entries: indexes.iter().map(entry).collect(), ..message(MessageType::MsgAppend) }
    }

    fn snapshot(change: impl FnOnce(&mut SnapshotMetadata)) -> Message {
        let mark = SnapshotMark { index: 5, term: 1, configuration: configuration() };
        let mut snapshot = mark.to_raft();
        snapshot.metadata.as_mut().map(change).expect("it has one");
        Message { snapshot: Some(snapshot), ..message(MessageType::MsgSnapshot) }
    }

    #[test]
    fn a_message_that_no_member_sends_is_refused() {
        use MessageType::*;
        let refused = [
            Message { from: 0, ..append(&[]) },
            Message { from: 1, ..append(&[]) },
            Message { term: 0, ..append(&[]) },
            Message { term: u64::MAX, ..append(&[]) },
            Message { term: u64::MAX, ..message(MsgRequestVote) },
            // A gap, a step back, an index beyond the log in no term, a term of the future.
            append(&[(2, 1)]),
            append(&[(1, 1), (3, 1)]),
            append(&[(1, 1), (2, 0)]),
            Message { index: 9, ..append(&[(10, 1)]) },
            append(&[(1, 2)]),
            Message { reject: true, reject_hint: u64::MAX, ..message(MsgAppendResponse) },
            Message { request_snapshot: 1, ..message(MsgAppendResponse) },
            Message { term: 0, ..message(MsgReadIndex) },
            message(MsgReadIndexResp),
            message(MsgPropose),
            message(MsgTransferLeader),
            message(MsgHup),
        ];
        for message in refused {
            let stepped = follower().step(&encode(&message), false);
            assert_eq!(stepped, Err(StepError::NotForUs), "{message:?}");
        }
        assert!(follower().step(&encode(&append(&[(1, 1), (2, 1)])), false).is_ok());
    }

    #[test]
    fn a_snapshot_that_raft_cannot_restore_is_refused() {
        for message in [
            snapshot(|metadata| metadata.index = 0),
            snapshot(|metadata| metadata.term = 2),
            snapshot(|metadata| metadata.conf_state = None),
            snapshot(|metadata| metadata.conf_state = Some(ConfState::default())),
        ] {
            let installed = follower().install(&encode(&message));
            assert_eq!(installed, Err(StepError::NotForUs), "{message:?}");
        }
        assert!(follower().install(&encode(&snapshot(|_| ()))).is_ok());
    }

    #[test]
    fn nobody_leads_on_what_is_not_on_disk() {
        let mut group = follower();
        group.step(&encode(&append(&[(1, 1)])), false).expect("an entry");
        assert!(group.ready().persist.is_some());
        let now = message(MessageType::MsgTimeoutNow);
        assert_eq!(group.step(&encode(&now), false), Err(StepError::NotForUs));
        group.persisted(1);
        assert!(group.step(&encode(&now), false).is_ok());
    }
}
