//! Snapshots to write, to read and to send.

use multiraft_log::{SnapshotError, SnapshotId, SnapshotInfo, Snapshots, limits};

pub const CONFIGURATION: &[u8] = b"1,2,3";

pub fn id(group: u32, index: u64) -> SnapshotId {
    SnapshotId { group, index, term: 3 }
}

pub fn write(snapshots: &Snapshots, id: SnapshotId, chunks: &[Vec<u8>]) -> SnapshotInfo {
    let mut writer = snapshots.create(id, CONFIGURATION).expect("create");
    for chunk in chunks {
        writer.push(chunk).expect("push");
    }
    writer.finish().expect("finish")
}

pub fn read(snapshots: &Snapshots, id: SnapshotId) -> Result<Vec<Vec<u8>>, SnapshotError> {
    let reader = snapshots.open(id)?;
    assert_eq!(reader.configuration(), CONFIGURATION);
    reader.map(|chunk| chunk.map(|chunk| chunk.to_vec())).collect()
}

pub fn chunks() -> Vec<Vec<u8>> {
    vec![vec![1; 10], vec![2; limits::SNAPSHOT_CHUNK_BYTES_MAX], vec![3]]
}

pub fn ids(snapshots: &Snapshots) -> Vec<SnapshotId> {
    snapshots.list().expect("list").into_iter().map(|info| info.id).collect()
}

/// Sends all of a snapshot from one directory to another.
pub fn transfer(
    from: &Snapshots,
    to: &Snapshots,
    id: SnapshotId,
) -> Result<SnapshotInfo, SnapshotError> {
    let raw = from.open_raw(id)?;
    let mut incoming = to.receive(id, raw.length(), raw.crc())?;
    while incoming.offset() < raw.length() {
        let bytes = raw.read_at(incoming.offset(), 100_000)?;
        incoming.write_at(incoming.offset(), &bytes)?;
    }
    incoming.finish()
}
