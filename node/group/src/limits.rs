//! Bounds of one group. Raft's own defaults are never relied on: several are zero or none
//! (`max_size_per_msg` 0 = one entry a message, `max_uncommitted_size` none).

/// Most bytes of entries in one append message, unless one entry has more.
pub const MESSAGE_BYTES_MAX: u64 = 256 << 10;

/// Append messages in flight to one member before the leader waits for acknowledgements.
pub const INFLIGHT_MESSAGES_MAX: usize = 128;

/// Bytes of proposals that are not committed yet. Beyond it proposals are refused with a retry
/// hint, which also bounds raft's unstable log (it never shrinks its buffer: tikv#19593). All groups
/// wait for what one has in a sync and on a connection: beside one that writes values of 64 KiB as
/// fast as it can, the median of 63 others is 2 to 3 times as long as without it, with 1 MiB here
/// it was 6.7 times; the busy one writes three quarters of what it did with that.
pub const UNCOMMITTED_BYTES_MAX: u64 = 256 << 10;

/// Bytes of committed entries handed out in one round: bounds the time that one group takes.
pub const COMMITTED_BYTES_MAX: u64 = 4 << 20;

/// Bytes of entries read back from the log at once for a member that lags behind the cache.
pub const FETCH_BYTES_MAX: u64 = 1 << 20;

/// A reluctant member's election clock moves once in so many ticks.
pub const RELUCTANT_TICKS: u8 = 3;

/// Ticks after which a lost request for pre-votes is repeated when a leader's node died; one more for
/// half of the members, so that they do not ask at once for ever.
pub const WAITING_TICKS: usize = 4;

/// Terms that a message may be ahead of its receiver's: what an election every 100 ms takes 13 years
/// for. A damaged message must not move a group to where its terms end.
pub const TERM_LEAP_MAX: u64 = 1 << 32;

/// Highest index in a message: no log gets there, and raft adds to indexes without a check.
pub const INDEX_MAX: u64 = 1 << 62;
