//! The Ready loop: what a group wants done after its inputs were stepped.

use crate::storage::FETCH_BYTES;
use crate::{
    Configuration, Entry, EntryKind, Group, HardState, Member, Role, SnapshotMark, SnapshotToSend,
    encode,
};
use bytes::Bytes;
use prost011::Message as _;
use raft::StateRole;
use raft::eraftpb::{
    ConfChange, ConfChangeType, Entry as RaftEntry, Message, MessageType, SnapshotMetadata,
};

/// A message for another member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Member id of the receiver.
    pub to: u64,
    pub message: Bytes,
}

/// What must be durable before [`Group::persisted`] is called with its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Persist {
    pub number: u64,
    pub state: Option<HardState>,
    /// The log restarts empty at this index, behind an installed snapshot; with the term before it.
    pub first: Option<(u64, u64)>,
    /// Replaces any suffix of the log from the first entry's index on.
    pub entries: Vec<Entry>,
}

/// An entry that is committed and must be applied now, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Committed {
    /// A payload for the machine; empty for a leader's first entry.
    Payload { index: u64, term: u64, data: Bytes },
    /// The configuration changed; the group follows it already. `member_id` is the one that was put
    /// or removed, `node_id` its node.
    Changed { index: u64, member_id: u64, node_id: u64, configuration: Configuration },
}

/// A confirmed read: answer once `index` is applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadState {
    pub context: Vec<u8>,
    pub index: u64,
}

/// A snapshot that raft took in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    pub mark: SnapshotMark,
    /// The configuration before it.
    pub replaced: Configuration,
}

/// Entries to read back from the log for a member that lags; answer with [`Group::fetched`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fetch {
    pub ticket: u64,
    pub low: u64,
    /// Exclusive.
    pub high: u64,
    pub bytes_max: usize,
}

/// One step's work.
#[derive(Clone, Debug, Default)]
pub struct Ready {
    /// May leave at once, before `persist` is durable.
    pub messages: Vec<Envelope>,
    /// Durable before anything that [`Group::persisted`] then returns.
    pub persist: Option<Persist>,
    /// The state of this snapshot replaces the machine, before anything is applied.
    pub installed: Option<Installed>,
    /// Apply now.
    pub committed: Vec<Committed>,
    pub reads: Vec<ReadState>,
    pub fetches: Vec<Fetch>,
    /// Members that lag behind the log's first entry.
    pub snapshots: Vec<SnapshotToSend>,
}

impl Group {
    pub fn has_ready(&self) -> bool {
        self.node.has_ready()
    }

    /// Takes one step's work. Entries handed out as committed count as applied.
    pub fn ready(&mut self) -> Ready {
        let mut rd = self.node.ready();
        let mut out = Ready::default();
        let mut messages = rd.take_messages();
        if let Some(state) = rd.hs() {
            self.node.mut_store().state = state.clone();
            self.state_changed = true;
        }
        let committed = rd.take_committed_entries();
        let entries = rd.take_entries();
        let after_sync = rd.take_persisted_messages();
        let (number, must_sync) = (rd.number(), rd.must_sync());
        // Checked by `install`: what does not decode never came so far.
        let mark = SnapshotMark::from_raft(rd.snapshot()).filter(|mark| mark.index != 0);
        let first = mark.as_ref().map(|mark| (mark.index + 1, mark.term));
        out.installed = mark.map(|mark| self.install_mark(number, mark));
        for read in rd.take_read_states() {
            out.reads.push(ReadState { context: read.request_ctx, index: read.index });
        }
        if must_sync {
            out.persist = Some(Persist {
                number,
                state: self.take_state(),
                first,
                entries: entries.iter().cloned().map(Entry::from_raft).collect(),
            });
        }
        self.node.mut_store().append(entries);
        self.node.advance_append_async(rd);
        // A ready without a record still waits behind earlier ones: first in, first out.
        if must_sync || !self.outstanding.is_empty() {
            self.outstanding.push_back((number, must_sync, after_sync));
        } else {
            messages.extend(after_sync);
            self.node.on_persist_ready(number);
        }
        self.route(messages, &mut out.messages, &mut out.snapshots);
        for entry in committed {
            self.apply(entry, &mut out.committed);
        }
        self.take_fetches(&mut out.fetches);
        self.set_election_timeout();
        out
    }

    fn install_mark(&mut self, number: u64, mark: SnapshotMark) -> Installed {
        self.installing = Some((number, mark.index));
        self.applied = mark.index;
        self.node.mut_store().restart(mark.clone());
        let replaced = std::mem::replace(&mut self.configuration, mark.configuration.clone());
        Installed { mark, replaced }
    }

    /// The record of ready `number` is durable; returns the messages that waited for it.
    pub fn persisted(&mut self, number: u64) -> Vec<Envelope> {
        let mut upto = number;
        let mut messages = Vec::new();
        while let Some((n, wrote, _)) = self.outstanding.front() {
            if *n > number && *wrote {
                break;
            }
            upto = upto.max(*n);
            if let Some((_, _, waited)) = self.outstanding.pop_front() {
                messages.extend(waited);
            }
        }
        self.node.on_persist_ready(upto);
        #[cfg(feature = "planted")]
        self.planted_commit();
        if let Some((_, index)) = self.installing.take_if(|(number, _)| *number <= upto) {
            self.node.advance_apply_to(index);
        }
        // Only a leader sends snapshots, and a leader's messages never wait.
        let mut out = Vec::new();
        self.route(messages, &mut out, &mut Vec::new());
        out
    }

    fn route(
        &mut self,
        messages: Vec<Message>,
        out: &mut Vec<Envelope>,
        snapshots: &mut Vec<SnapshotToSend>,
    ) {
        for message in messages {
            if message.msg_type == MessageType::MsgAppendResponse as i32 && !message.reject {
                // Terms first: within one, a lower index says nothing new.
                self.acknowledged = self.acknowledged.max((message.term, message.index));
            }
            let (to, bytes) = (message.to, encode(&message));
            match message.snapshot.and_then(|s| s.metadata) {
                Some(SnapshotMetadata { index, term, .. })
                    if message.msg_type == MessageType::MsgSnapshot as i32 =>
                {
                    snapshots.push(SnapshotToSend { to, index, term, message: bytes });
                }
                _ => out.push(Envelope { to, message: bytes }),
            }
        }
    }

    /// The state that no record carries yet, for a record that is written anyway.
    pub fn take_state(&mut self) -> Option<HardState> {
        std::mem::take(&mut self.state_changed)
            .then(|| HardState::from_raft(&self.node.store().state))
    }

    /// Entries that a [`Fetch`] asked for.
    pub fn fetched(&mut self, ticket: u64, entries: Vec<Entry>) {
        let Some((_, wanted)) = self.fetching.take_if(|(t, _)| *t == ticket) else { return };
        let entries = entries.into_iter().map(Entry::into_raft).collect();
        self.node.mut_store().set_fetched(entries);
        self.node.on_entries_fetched(wanted.context);
        self.node.mut_store().drop_fetched();
    }

    fn take_fetches(&mut self, out: &mut Vec<Fetch>) {
        for wanted in self.node.mut_store().take_wanted() {
            // One at a time: raft asks again for what is dropped here, on the next answer.
            if self.fetching.is_some() {
                continue;
            }
            self.fetches += 1;
            let (low, high) = (wanted.low, wanted.high);
            out.push(Fetch { ticket: self.fetches, low, high, bytes_max: FETCH_BYTES });
            self.fetching = Some((self.fetches, wanted));
        }
    }

    fn apply(&mut self, entry: RaftEntry, out: &mut Vec<Committed>) {
        let entry = Entry::from_raft(entry);
        let index = entry.index;
        match entry.kind {
            EntryKind::Normal => {
                out.push(Committed::Payload { index, term: entry.term, data: entry.data });
            }
            // Known already: it was applied before the last start, or a recovery overruled it.
            EntryKind::Change if index <= self.configuration.version => {}
            EntryKind::Change => {
                if let Some((member_id, node_id)) = self.apply_change(index, &entry.data) {
                    let configuration = self.configuration.clone();
                    out.push(Committed::Changed { index, member_id, node_id, configuration });
                }
            }
            // Proposed by later versions only: the feature level keeps them away.
            EntryKind::JointChange => {}
        }
        self.applied = index;
        if self.member_removed_while_leading() {
            self.step_down();
        } else {
            self.node.advance_apply_to(index);
        }
    }

    /// Returns the changed member's id and node.
    fn apply_change(&mut self, index: u64, data: &[u8]) -> Option<(u64, u64)> {
        let Ok(change) = ConfChange::decode(data) else { return None };
        // raft proposes an empty change in place of one that it refuses.
        if change.node_id == 0 {
            return None;
        }
        self.node.apply_conf_change(&change).ok()?;
        #[cfg(feature = "planted")]
        self.planted_promotion(&change);
        self.configuration.version = index;
        let node_id = match change.change_type() {
            ConfChangeType::RemoveNode => {
                let node_id = self.configuration.member(change.node_id).map_or(0, |m| m.node_id);
                self.configuration.remove(change.node_id);
                node_id
            }
            kind @ (ConfChangeType::AddNode | ConfChangeType::AddLearnerNode) => {
                let wire = prost::Message::decode(&change.context[..]).ok()?;
                let mut member = Member::from_wire(&wire);
                member.role =
                    if kind == ConfChangeType::AddNode { Role::Voter } else { Role::Learner };
                let node_id = member.node_id;
                self.configuration.upsert(member);
                node_id
            }
        };
        Some((change.node_id, node_id))
    }

    fn member_removed_while_leading(&self) -> bool {
        self.node.raft.state == StateRole::Leader
            && self.configuration.member(self.member_id).is_none()
    }

    /// raft 0.7 panics when a leader outside its configuration commits or persists (raft.rs:943):
    /// hand over and step down at once.
    fn step_down(&mut self) {
        let progress = self.node.raft.prs().iter();
        let best = progress.map(|(id, p)| (p.committed_index, p.matched, *id)).max();
        if let Some((_, _, member_id)) = best {
            self.node.raft.send_timeout_now(member_id);
        }
        let term = self.node.raft.term;
        self.node.raft.become_follower(term, 0);
        self.node.advance_apply_to(self.applied);
    }
}
