//! Bounds of the host.

use std::time::Duration;

/// Bytes of a group's log that are read back at once while its machine is rebuilt.
pub const REPLAY_BYTES_MAX: usize = 4 << 20;

/// Events that wait for one subscriber of `Watch`; a slower one is cut off and starts again from
/// a snapshot. Four snapshots' worth at 1,024 groups.
pub const WATCH_EVENTS_MAX: usize = 4096;

/// Bytes of answers that wait for a client that streams them. A slower one is cut off; it may go on
/// where it was, from the outputs that its session keeps.
pub const STREAM_BYTES_MAX: usize = 4 << 20;

/// Group states in one part of a watch snapshot: keeps each message far below 4 MiB.
pub const WATCH_SNAPSHOT_GROUPS: usize = 64;

/// Pause between heartbeats of a watch; the contract says at most 5 s.
pub const WATCH_HEARTBEAT: Duration = Duration::from_secs(3);

/// Growth of a group's log after which a snapshot is taken, unless configured otherwise.
pub const SNAPSHOT_LOG_BYTES: u64 = multiraft_shard::limits::SNAPSHOT_LOG_BYTES_MAX;

/// Old rounds are deleted, and the disk's space is looked at, this often.
pub const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// Bytes that one deletion of old rounds may copy out of them: some milliseconds of the disk.
pub const TRIM_COPY_BYTES: usize = 1 << 20;

/// Bytes of a snapshot that are read or received at once.
pub const SNAPSHOT_READ_BYTES: usize = 256 << 10;

/// Snapshots that are received at a time: each takes its machine's memory before it is whole.
pub const SNAPSHOTS_RECEIVED_AT_ONCE: usize = 2;

/// Leaderships get this long to move when the node stops: 10,000 groups, 50 at a time, and well
/// within the 30 s that Kubernetes gives a pod.
pub const HAND_OVER_TIME: Duration = Duration::from_secs(10);

/// Lines of one kind in the log for each [`JOURNAL_PERIOD`]; what is more is counted.
pub const JOURNAL_LINES_MAX: usize = 5;
pub const JOURNAL_PERIOD: Duration = Duration::from_secs(1);
