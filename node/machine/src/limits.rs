//! Limits of the machine. All of them are constants of the log's format: replicas that disagreed on
//! one would diverge, so none is ever configuration.

/// Version of the entry envelope that this release reads and writes.
pub const ENTRY_FORMAT: u32 = 1;

/// Highest feature level of entries that this release applies. Leaders stamp 0 so far, and nodes
/// announce 0.
///
/// Until the first release, what is served may change without another level, and so members of
/// different builds must not meet in a group: one that answers NOT_SUPPORTED where another grants
/// diverges from it. With the first release, nodes announce this level and leaders stamp it: it stands
/// for exactly what that release does. From then on, whatever gives an entry another effect (another
/// operation or type of primitive, another limit, another answer) takes the next level, happens in
/// entries of that level only, and a leader stamps it when all members of the group have announced it.
pub const FEATURE_LEVEL: u32 = 1;

/// Timeout of a session that asks for none (or for zero): what the stock client asks for.
pub const SESSION_TIMEOUT_MILLIS_DEFAULT: u64 = 60_000;

/// Below a second, one slow sync or election would expire healthy sessions.
pub const SESSION_TIMEOUT_MILLIS_MIN: u64 = 1_000;

/// A dead client's locks and cached outputs are held for at most an hour.
pub const SESSION_TIMEOUT_MILLIS_MAX: u64 = 3_600_000;

/// Open sessions per group. About 300 B each when idle: 30 MB.
pub const SESSIONS_MAX: usize = 100_000;

/// Unreleased commands per session. A session at 4,000 commands/s with the default keep-alive
/// period of 15 s holds 60,000; faster clients keep alive more often.
pub const COMMANDS_MAX: usize = 65_536;

/// Bytes of unreleased outputs per session; reached before [`COMMANDS_MAX`] only by outputs over
/// 1 KiB on average.
pub const COMMAND_BYTES_MAX: u64 = 64 << 20;

/// What a cached command costs beside its outputs' contents: the command, one output, map space.
pub const COMMAND_OVERHEAD_BYTES: u64 = 256;

/// Started numbers below the released line that a session may still bring for the first time. Same
/// as [`COMMANDS_MAX`]: a client cannot have more calls open than it may have commands.
pub const AWAITED_MAX: usize = 65_536;

/// Answers to opened and closed sessions that are remembered per group, so that a duplicate made by
/// forwarding takes effect once. A duplicate follows its original within a few election timeouts;
/// 8,192 is ten seconds of 800 sessions opened per second.
pub const REMEMBERED_ANSWERS_MAX: usize = 8_192;

/// Primitives per group. They are never deleted by closing, so a loop that creates must end.
pub const PRIMITIVES_MAX: usize = 100_000;

/// Namespaces with a quota per group. Each may have counted 100,000 sessions; and an installation has
/// tenants or teams, not users, in quotas.
pub const QUOTAS_MAX: usize = 1_024;

/// Items in one answer to a list for administrators.
pub const LIST_ITEMS_MAX: usize = 1_000;

/// Such an answer ends behind the item with which it reaches this: the largest item, a session
/// attached to all primitives of the group, takes 300 KB more, and all is far below the 4 MiB message
/// limit.
pub const LIST_BYTES_MAX: usize = 1 << 20;

/// Namespace and name of a primitive, each: they are held in every snapshot and in answers.
pub const NAME_BYTES_MAX: usize = 1_024;

/// A keep-alive's filter, in bytes of JSON: 65,536 members at 6.3 bits each, in base64, is 69 KB.
pub const FILTER_BYTES_MAX: usize = 128 << 10;

/// Hash functions of a filter that are looked at. The stock client uses 5; with no members it
/// states 2^63, which only means that the first bit decides.
pub const FILTER_HASHES_MAX: u64 = 64;

/// Exact open numbers in one keep-alive; as [`COMMANDS_MAX`].
pub const OPEN_NUMBERS_MAX: usize = 65_536;

/// Acknowledged streams in one keep-alive; as [`COMMANDS_MAX`].
pub const ACKNOWLEDGEMENTS_MAX: usize = 65_536;

/// What an entry, an element, a waiter or a listener counts beside its bytes: about what it takes in
/// trees, allocations and shared parts (measured 100 B to 200 B). Quotas are counted with it.
pub const ENTRY_OVERHEAD_BYTES: u64 = 128;

/// Keys are compared on every step of a lookup and stored twice when they have a time to live.
pub const KEY_BYTES_MAX: usize = 1 << 10;

/// An eighth of the 4 MiB message limit, so that an answer with a previous value and a transaction
/// of a few values fit one message.
pub const VALUE_BYTES_MAX: usize = 512 << 10;

/// Writes in one transaction: bounds the time that applying one entry takes.
pub const TRANSACTION_WRITES_MAX: usize = 1_024;

/// Prepared transactions per map: they pin their values and keys until commit or abort.
pub const TRANSACTIONS_MAX: usize = 1_024;

/// Open `Acquire` commands per lock. They are searched one by one when one of them ends early; all
/// sessions of them ending at once stay below half a second.
pub const LOCK_WAITERS_MAX: usize = 4_096;

/// Keys of one request for locks on keys; as [`TRANSACTION_WRITES_MAX`].
pub const LOCK_KEYS_MAX: usize = 1_024;

/// Keys that are locked or waited for per primitive, counted for each request. With the longest keys
/// 64 MiB; a session that has all of them ends within half a second.
pub const KEY_LOCKS_MAX: usize = 65_536;

/// Candidates per election. Every answer lists them all: with names of [`KEY_BYTES_MAX`] that is a
/// quarter of the 4 MiB message limit.
pub const CANDIDATES_MAX: usize = 1_024;

/// Elements per set. At about 150 B each beside their bytes, and clearing a set goes through all of
/// them within one entry.
pub const ELEMENTS_MAX: usize = 1 << 20;

/// Values of one key of a multimap: with the longest values, an answer with all of them stays below
/// the 4 MiB message limit.
pub const KEY_VALUES_MAX: usize = 3_072;

/// Values in one command to a multimap: bounds the time that applying one entry takes.
pub const COMMAND_VALUES_MAX: usize = 8_192;

/// Open `Events` commands per primitive: each is a client's stream and an open command in its
/// session, and a process that listens to keys one by one has thousands.
pub const LISTENERS_MAX: usize = 65_536;

/// Bytes of outputs that one command may cause in others, with [`COMMAND_OVERHEAD_BYTES`] for each:
/// clearing a large map tells every listener of every entry. As [`COMMAND_BYTES_MAX`]: 262,144 short
/// outputs, or 64 of an update from one of the longest values to another.
pub const EMITTED_BYTES_MAX: u64 = 64 << 20;

/// Unacknowledged outputs of one stream: at 4,000 events/s, the default keep-alive period of 15 s
/// brings 60,000.
pub const STREAM_OUTPUTS_MAX: usize = 65_536;

/// A time to live beyond this is the same as one of this length (about 34,000 years): due times
/// stay far from overflow.
pub const TTL_MILLIS_MAX: u64 = 1 << 50;

/// Version of the snapshot format that this release reads and writes.
pub const SNAPSHOT_FORMAT: u32 = 1;

/// A chunk of a snapshot, unless a single record is larger: few enough bytes that a chunk goes
/// between other messages of a link, enough that what a chunk costs by itself does not matter.
pub const SNAPSHOT_CHUNK_BYTES_MAX: usize = 256 << 10;

/// Numbers in one record of a snapshot. At most 10 B each, so that such a record is a fraction of a
/// chunk.
pub const SNAPSHOT_NUMBERS_MAX: usize = 4_096;

/// Values of a key in one record of a snapshot: with the longest values, such a record is a chunk.
pub const SNAPSHOT_VALUES_MAX: usize = 256;

/// Queries that watch a group on one replica. Not part of the log's format: each replica has its own.
pub const WATCHES_MAX: usize = 16_384;
