//! From disk to a shard: facts, groups, and their machines rebuilt from the log.

use crate::limits::REPLAY_BYTES_MAX;
use crate::node::StartError;
use bytes::Bytes;
use multiraft_log::{Reader, Recovered, RecoveredGroup};
use multiraft_shard::{
    Entry, EntryKind, HardState, Recovery, Remembered, Shard, StoredGroup, StoredLog,
};

pub fn memory(recovered: &Recovered) -> Vec<Remembered> {
    let peers = recovered.peers.iter();
    peers
        .map(|p| Remembered {
            node: p.node,
            incarnation: p.incarnation,
            group: p.group,
            term: p.term,
            index: p.index,
        })
        .collect()
}

/// Starts every group that is on disk.
pub fn groups(recovered: Recovered, reader: &Reader, shard: &mut Shard) -> Result<(), StartError> {
    for (id, group) in recovered.groups {
        let Some(config) = &group.config else {
            return Err(StartError::Damaged(format!("group {id} has no configuration on disk")));
        };
        let stored = replay(id, &group, config.bytes.clone(), reader)?;
        shard.restore(stored).map_err(|e| {
            StartError::Damaged(format!("configuration of group {id} does not decode: {e}"))
        })?;
    }
    Ok(())
}

fn replay(
    id: u32,
    group: &RecoveredGroup,
    configuration: Bytes,
    reader: &Reader,
) -> Result<StoredGroup, StartError> {
    let mut recovery = Recovery::new(StoredLog {
        group: id,
        state: HardState {
            term: group.state.term,
            vote: group.state.vote,
            commit: group.state.commit,
        },
        first: group.first,
        last_index: group.last_index,
        terms: group.terms.clone(),
        configuration,
        snapshot: None,
    });
    let mut next = group.first.0;
    while next <= group.last_index {
        let read = reader
            .read(id, next, group.last_index + 1, REPLAY_BYTES_MAX)
            .map_err(|e| StartError::Damaged(format!("read log of group {id}: {e}")))?;
        for entry in read {
            let entry = from_log(entry).ok_or_else(|| {
                StartError::Damaged(format!("group {id} has an entry of an unknown kind"))
            })?;
            let index = entry.index;
            recovery.entry(entry).map_err(|e| {
                StartError::Damaged(format!("apply entry {index} of group {id}: {e}"))
            })?;
            next = index + 1;
        }
    }
    Ok(recovery.finish())
}

pub fn from_log(entry: multiraft_log::Entry) -> Option<Entry> {
    Some(Entry {
        index: entry.index,
        term: entry.term,
        kind: EntryKind::from_code(entry.kind)?,
        data: entry.data,
        context: entry.context,
    })
}
