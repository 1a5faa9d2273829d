//! Every limit of the log, with its reason.

use std::time::Duration;

/// Version of the directory's layout and of the records in it.
pub const FORMAT: u32 = 1;

/// One round's record. A round holds at most what the shard's byte budget lets be in flight;
/// this is far above it and far below the 4 GiB at which the record's lengths would overflow.
pub const RECORD_BYTES_MAX: usize = 256 << 20;

/// Key of a small fact.
pub const META_KEY_BYTES_MAX: usize = 256;

/// Small facts are read whole at open; a plan of 1,024 groups takes about 200 KiB.
pub const META_VALUE_BYTES_MAX: usize = 4 << 20;

/// A directory that is locked for longer than this is in use.
pub const LOCK_PATIENCE: Duration = Duration::from_millis(500);

/// Name of a cluster: `namespace/name` and a UID fit several times.
pub const CLUSTER_ID_BYTES_MAX: usize = 1024;

/// A point of the index stands for at most so many rounds, which is what a read may have to
/// skip: 64 records of some 20 KiB are about a millisecond.
pub const POINT_ROUNDS: u64 = 64;

/// A point stands for fewer rounds when these are full: one for at most so many entries.
/// A point takes 24 bytes, at most one per 64 rounds or 4,096 entries of a group: under 1 % of
/// the log that it finds.
pub const POINT_ENTRIES: u64 = 4096;

/// Memtable. Large, so that most entries are trimmed before they reach a table file; a second one
/// takes writes while the first is written out. Together they are a quarter of a small node.
pub const MEMTABLE_BYTES: usize = 64 << 20;
pub const MEMTABLES_MAX: i32 = 2;

/// Old write-ahead logs, bounded also when the small facts' memtable never fills.
pub const WAL_BYTES_MAX: u64 = 256 << 20;

/// Flush and compaction together: the node's two cores have other work.
pub const BACKGROUND_JOBS: i32 = 2;

/// Blocks read again by slow followers; the hot entries are cached by their groups.
pub const BLOCK_CACHE_BYTES: usize = 16 << 20;

/// Read-ahead of the scan at open.
pub const SCAN_READ_AHEAD_BYTES: usize = 2 << 20;

/// The identity file is a few lines.
pub const IDENTITY_BYTES_MAX: u64 = 8 << 10;

/// One chunk of a snapshot: what a reader holds in memory at once, and a message of the link
/// carries a few of them.
pub const SNAPSHOT_CHUNK_BYTES_MAX: usize = 1 << 20;

/// A group's configuration beside its snapshot: a membership is under 1 KiB.
pub const SNAPSHOT_CONFIGURATION_BYTES_MAX: usize = 1 << 20;

/// A snapshot is synced each time so much of it was written: a whole one at its end would hold
/// up the log's own syncs on the same disk.
pub const SNAPSHOT_SYNC_BYTES: u64 = 4 << 20;

/// A checkpoint, where the log can be cut, is written after so much log.
pub const CHECKPOINT_BYTES: u64 = 4 << 20;

/// Log is written at least so many times as much as checkpoints: those of many groups are large.
pub const CHECKPOINT_SHARE: u64 = 16;

/// Less is not worth a trim: a sync, a tombstone and a look at every group.
pub const TRIM_BYTES_MIN: u64 = 8 << 20;

/// A group with more in its log is never copied forward: its snapshot is due.
pub const GROUP_COPY_BYTES_MAX: u64 = 4 << 20;

/// Groups that are copied forward share rounds of about this size: reading one of them later
/// reads all of its round.
pub const COPY_ROUND_BYTES: usize = 64 << 10;
