//! Entries and state as the log stores them.

use bytes::Bytes;
use raft::eraftpb::{Entry as RaftEntry, EntryType};

/// What an entry holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EntryKind {
    /// A payload for the machine, or nothing (a leader's first entry).
    Normal,
    /// A single-step change of the configuration.
    Change,
    /// A joint change of the configuration.
    JointChange,
}

impl EntryKind {
    /// The number that the log stores.
    pub fn code(self) -> u8 {
        match self {
            EntryKind::Normal => 0,
            EntryKind::Change => 1,
            EntryKind::JointChange => 2,
        }
    }

    pub fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(EntryKind::Normal),
            1 => Some(EntryKind::Change),
            2 => Some(EntryKind::JointChange),
            _ => None,
        }
    }
}

/// An entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub index: u64,
    pub term: u64,
    pub kind: EntryKind,
    pub data: Bytes,
    pub context: Bytes,
}

impl Entry {
    pub(crate) fn from_raft(entry: RaftEntry) -> Self {
        let kind = match entry.entry_type() {
            EntryType::EntryNormal => EntryKind::Normal,
            EntryType::EntryConfChange => EntryKind::Change,
            EntryType::EntryConfChangeV2 => EntryKind::JointChange,
        };
        Entry {
            index: entry.index,
            term: entry.term,
            kind,
            data: Bytes::from(entry.data),
            context: Bytes::from(entry.context),
        }
    }

    pub(crate) fn into_raft(self) -> RaftEntry {
        RaftEntry {
            index: self.index,
            term: self.term,
            entry_type: i32::from(self.kind.code()),
            data: self.data.into(),
            context: self.context.into(),
            ..Default::default()
        }
    }
}

/// The durable part of a member's state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    pub term: u64,
    pub vote: u64,
    pub commit: u64,
}
