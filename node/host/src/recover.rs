//! From disk to a shard: facts, groups, and their machines rebuilt from the log.

use crate::limits::REPLAY_BYTES_MAX;
use crate::node::StartError;
use crate::snapshots::restore;
use multiraft_log::{Reader, Recovered, SnapshotId, SnapshotInfo, Snapshots};
use multiraft_shard::{
    Entry, EntryKind, HardState, Recovery, Remembered, Shard, StoredGroup, StoredLog,
    StoredSnapshot,
};
use std::collections::{BTreeMap, BTreeSet};

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
pub fn groups(
    recovered: Recovered,
    reader: &Reader,
    snapshots: &Snapshots,
    shard: &mut Shard,
) -> Result<(), StartError> {
    let mut found = BTreeMap::<u32, Vec<SnapshotInfo>>::new();
    for info in snapshots.list().map_err(|e| StartError::Damaged(e.to_string()))? {
        found.entry(info.id.group).or_default().push(info);
    }
    let held: BTreeSet<u32> = recovered.groups.keys().copied().collect();
    // They cost space only; what cannot be removed now is removed at the next start.
    if let Err(e) = snapshots.sweep(&held) {
        tracing::warn!(error = %e, "snapshots of groups that are gone were not removed");
    }
    for (id, group) in recovered.groups {
        let Some(config) = &group.config else {
            return Err(StartError::Damaged(format!("group {id} has no configuration on disk")));
        };
        let mut log = StoredLog {
            group: id,
            state: HardState {
                term: group.state.term,
                vote: group.state.vote,
                commit: group.state.commit,
            },
            first: group.first,
            last_index: group.last_index,
            terms: group.terms.clone(),
            configuration: config.bytes.clone(),
            snapshot: None,
        };
        log.snapshot = snapshot(&log, found.remove(&id).unwrap_or_default(), snapshots)?;
        let stored = replay(log, reader)?;
        shard.restore(stored).map_err(|e| {
            StartError::Damaged(format!("configuration of group {id} does not decode: {e}"))
        })?;
    }
    Ok(())
}

/// The newest snapshot that belongs to the log; the others go.
fn snapshot(
    log: &StoredLog,
    found: Vec<SnapshotInfo>,
    snapshots: &Snapshots,
) -> Result<Option<StoredSnapshot>, StartError> {
    let marks = found.iter().map(|info| (info.id.index, info.id.term));
    let chosen = log.choose(marks).map_err(|e| {
        StartError::Damaged(format!("{e}; remove the member and let it join again elsewhere"))
    })?;
    if let Err(e) = snapshots.keep_only(log.group, chosen) {
        tracing::warn!(group = log.group, error = %e, "old snapshots were not removed");
    }
    let Some((index, term)) = chosen else { return Ok(None) };
    let id = SnapshotId { group: log.group, index, term };
    let bytes = found.iter().find(|info| info.id == id).map_or(0, |info| info.bytes);
    let (machine, configuration) = restore(snapshots, id)
        .map_err(|e| StartError::Damaged(format!("snapshot of group {}: {e}", log.group)))?;
    Ok(Some(StoredSnapshot { index, term, configuration, bytes, machine }))
}

fn replay(log: StoredLog, reader: &Reader) -> Result<StoredGroup, StartError> {
    let (id, last_index) = (log.group, log.last_index);
    let mut recovery = Recovery::new(log);
    let mut next = recovery.next();
    while next <= last_index {
        let read = reader
            .read(id, next, last_index + 1, REPLAY_BYTES_MAX)
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
