//! Snapshots of a group: the log is trimmed behind them, and a member that lags further is given one.
//!
//! raft moves only what names a snapshot (index, term, configuration). The state itself travels
//! beside it, so the owner hands a snapshot message to [`Group::install`] when the state is here
//! and durable, and never before.

use crate::{Configuration, Group, StepError, Stepped, conf_state};
use bytes::Bytes;
use prost::Message as _;
use raft::SnapshotStatus;
use raft::eraftpb::{Snapshot, SnapshotMetadata};

/// Names a snapshot of a group's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotMark {
    /// Index and term of the last entry that it contains.
    pub index: u64,
    pub term: u64,
    /// As of that index.
    pub configuration: Configuration,
}

impl SnapshotMark {
    pub(crate) fn to_raft(&self) -> Snapshot {
        let metadata = SnapshotMetadata {
            conf_state: Some(conf_state(&self.configuration)),
            index: self.index,
            term: self.term,
        };
        let data = self.configuration.to_stored().encode_to_vec();
        Snapshot { data, metadata: Some(metadata) }
    }

    /// `None` when the configuration does not decode: then it is no snapshot of ours.
    pub(crate) fn from_raft(snapshot: &Snapshot) -> Option<Self> {
        let metadata = snapshot.metadata.as_ref()?;
        let stored = multiraft_proto::log::StoredConfiguration::decode(&snapshot.data[..]).ok()?;
        let configuration = Configuration::from_stored(&stored);
        Some(SnapshotMark { index: metadata.index, term: metadata.term, configuration })
    }
}

/// A snapshot that a member needs; `message` goes to its node together with the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotToSend {
    /// Member id of the receiver.
    pub to: u64,
    pub index: u64,
    pub term: u64,
    pub message: Bytes,
}

impl Group {
    /// (index, term) of the newest snapshot; `None` before the first.
    pub fn snapshot(&self) -> Option<(u64, u64)> {
        self.node.store().snapshot_mark().map(|mark| (mark.index, mark.term))
    }

    /// A member needs a snapshot, and the newest is from before it was added.
    pub fn is_snapshot_outdated(&self) -> bool {
        self.node.store().is_snapshot_outdated()
    }

    /// Term of an entry that is in the log; `None` when it is trimmed or not there yet.
    pub fn term_of(&self, index: u64) -> Option<u64> {
        self.node.raft.raft_log.term(index).ok()
    }

    /// A snapshot of applied state is durable: trims the log behind it. Entries that a connected
    /// member still needs stay until the next snapshot. Returns the first index that is left and
    /// the term of the entry before it.
    pub fn compact(&mut self, mark: SnapshotMark) -> (u64, u64) {
        let before = self.snapshot().map_or(0, |(index, _)| index);
        let waiting = self.progress().into_iter();
        let waiting = waiting.filter(|(id, _, active)| *active && *id != self.member_id);
        let needed = waiting.map(|(_, matched, _)| matched).min().unwrap_or(mark.index);
        let trimmed = mark.index.min(needed.max(before));
        let store = self.node.mut_store();
        store.set_snapshot(mark);
        store.trim(trimmed);
        store.first()
    }

    /// The transfer of a snapshot to a member ended.
    pub fn snapshot_sent(&mut self, member_id: u64, arrived: bool) {
        if self.is_leader() {
            let status = if arrived { SnapshotStatus::Finish } else { SnapshotStatus::Failure };
            self.node.report_snapshot(member_id, status);
        }
    }

    /// Takes a snapshot message whose state is durable here. When raft takes it in, the next
    /// [`Group::ready`] says so; it may as well not need it any more.
    ///
    /// # Errors
    /// The bytes are no snapshot for this member.
    pub fn install(&mut self, message: &[u8]) -> Result<Stepped, StepError> {
        let message = self.decode(message)?;
        self.check_snapshot(&message)?;
        Ok(self.take(message))
    }
}
