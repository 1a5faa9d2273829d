//! Bounds of a shard, each with its reason. Times are microseconds unless named otherwise.

/// One tick: the unit of raft's clocks and the period of the node-pair heartbeat.
pub const TICK_MICROS: u64 = 100_000;

/// Silence after which a node-pair session breaks: six missed heartbeats (`quiet-groups.md`).
pub const PAIR_SILENCE_MICROS: u64 = 600_000;

/// The same, when no connection to the node stands any more: its process has ended, most likely.
pub const PAIR_SILENCE_UNCONNECTED_MICROS: u64 = 350_000;

/// A leader whose node is silent for this long is not protected from candidates any more.
pub const SUSPECT_MICROS: u64 = 350_000;

/// A leader offers rest to a follower again after this many ticks without an answer.
pub const OFFER_AGAIN_TICKS: u32 = 10;

/// A leader at rest sleeps after so many ticks without work: its caches are emptied, and its old log
/// is taken for a snapshot. Groups that are used now and then must not fall asleep and wake all the
/// time (cockroach#103266).
pub const SLEEP_AFTER_TICKS: u32 = 20;

/// Lost requests for pre-votes that are repeated within ticks after a node died.
pub const CAMPAIGN_RETRIES: u8 = 3;

/// Orphaned groups that campaign in one round.
pub const CAMPAIGNS_PER_ROUND: usize = 64;

/// A tick that comes later than this says that this node itself slept: what it did not hear
/// meanwhile proves nothing about its peers.
pub const LATE_TICK_MICROS: u64 = 300_000;

/// A changed pair header is answered at once, but at most this often.
pub const PAIR_REPLY_MICROS: u64 = 10_000;

/// Items of one log entry: one slow apply must not hurt its neighbours.
pub const ENTRY_ITEMS_MAX: usize = 256;
/// Bytes of one log entry, unless a single command is larger.
pub const ENTRY_BYTES_MAX: usize = 64 << 10;

/// What an entry takes in a record beside its payload.
pub const ENTRY_OVERHEAD_BYTES: u64 = 32;

/// Bytes of commands of one group that wait to be proposed. Twice the largest message that a client
/// may send (4 MiB); more is refused with a retry hint.
pub const PROPOSAL_BYTES_MAX: usize = 8 << 20;

/// Calls that wait for an answer on this node, commands and queries each: bounds memory when groups
/// have no leader. One group may have half of the commands: 256 clients with 64 calls each.
pub const CALLS_MAX: usize = 32_768;
/// Bytes of their commands, with what each takes beside its input.
pub const CALLS_BYTES_MAX: usize = 64 << 20;
pub const CALL_OVERHEAD_BYTES: usize = 256;

/// When even the quickest command of a second waited this long, new ones are refused: a client that
/// is told to wait does better than one whose call is given up.
pub const DELAY_MICROS_MAX: u64 = 1_000_000;
/// Fewer commands are no queue.
pub const DELAY_CALLS_MIN: usize = 64;

/// Bytes of records that are not durable. With more the disk is behind, and large messages of peers
/// are dropped: raft sends them again.
pub const UNSYNCED_BYTES_MAX: usize = 64 << 20;
/// Heartbeats and votes are smaller than this.
pub const SMALL_MESSAGE_BYTES: usize = 1 << 10;

/// A call without an answer is given up after this long; its client retries with the same number.
pub const CALL_MICROS_MAX: u64 = 15_000_000;

/// A forwarded call is sent again after this long without an answer: its frame may have been
/// dropped where the other side's queue was full.
pub const CALL_RESEND_MICROS: u64 = 3_000_000;

/// Streams that a node serves end when it has heard of no leader for this long: an election takes less.
pub const STREAM_CONTACT_MICROS: u64 = 5_000_000;

/// Bytes of the answer to one query that streams, for a node that holds no member of the group. More
/// is for who asks a node that does: it is read there as fast as the client takes it.
pub const PROXY_LIST_BYTES_MAX: usize = 16 << 20;

/// A read round that brought no index is asked again after this long (raft drops such requests
/// silently around leader changes).
pub const READ_RETRY_MICROS: u64 = 500_000;

/// Bytes of one frame between nodes. The receiver accepts twice that plus one largest item.
pub const FRAME_BYTES_MAX: usize = 4 << 20;

/// Bytes of entries that all groups of the shard keep in memory for lagging members.
pub const CACHE_BYTES_MAX: usize = 64 << 20;
/// Each group may keep at least this much of it.
pub const CACHE_BYTES_MIN: usize = 64 << 10;

/// A group's log is trimmed behind a new snapshot when it has grown by this many bytes, or by the
/// size of the last snapshot if that is more: replaying it at a start takes a moment, and twice
/// the state is what a group needs on disk.
pub const SNAPSHOT_LOG_BYTES_MAX: u64 = 4 << 20;
/// The logs of all groups together stay about this small: with many groups each gets less.
pub const SNAPSHOT_LOG_BYTES_ALL: u64 = 512 << 20;
/// A group that comes to rest with more than this in its log is snapshotted then.
pub const RESTING_LOG_BYTES_MAX: u64 = 1 << 20;
/// Snapshots that are written at a time: each holds on to a view of its machine.
pub const SNAPSHOTS_AT_ONCE: usize = 2;
/// After a snapshot that could not be written (no space, most likely).
pub const SNAPSHOT_RETRY_MICROS: u64 = 5_000_000;

/// What peers' members acknowledged is written along at least this often.
pub const MEMORY_MICROS_MAX: u64 = 1_000_000;

/// A joining or leaving member asks the leader this often.
pub const ASK_MICROS: u64 = 200_000;
/// A member without a leader for this long asks whether it is a member still.
pub const FORLORN_MICROS: u64 = 5_000_000;
/// A join or leave that is not done after this long is answered UNAVAILABLE; it may be repeated.
pub const ADMIN_MICROS_MAX: u64 = 10_000_000;

/// Leaderships that a draining node hands over at a time (etcd and CockroachDB use similar numbers):
/// the receivers write one entry for each.
pub const HAND_OVERS_AT_ONCE: usize = 50;
/// A hand-over that has not happened after this long is tried again, with another member perhaps;
/// raft gives it up after an election timeout.
pub const HAND_OVER_MICROS: u64 = 1_500_000;
/// Entries that a member may be behind and still count as caught up when a node is to stop.
pub const DRAIN_LAG_MAX: u64 = 64;

/// A record that is not durable after this long: the disk stands still, and whoever leads must go
/// elsewhere (design: node decisions, 2).
pub const DISK_STALL_MICROS: u64 = 1_000_000;

/// With less space than this, commands are refused: what is left is for the log's own files (one
/// memtable is written out while the next fills), for snapshots and for being mended. RocksDB 7.8
/// aborts when it runs out while it recovers from running out.
/// On a small volume an eighth of it.
pub const SPACE_LOW_BYTES: u64 = 96 << 20;
pub const SPACE_LOW_SHARE: u64 = 8;
/// With less than this share of that the node stops in order, before the log's engine is in the
/// middle of a write.
pub const SPACE_NONE_SHARE: u64 = 6;

/// Log time goes slower or faster than the leader's monotonic clock by one in so many at most, until
/// it is where the wall clock is: clients keep sessions alive four times as often as they must, and
/// a clock that is repaired by an hour is followed within four.
pub const LOG_TIME_SLACK: u64 = 4;

/// A learner is promoted when it lags by no more than this many entries.
pub const PROMOTE_LAG_MAX: u64 = 64;
