//! Every limit and period of the operator, with its reason.

use std::time::Duration;

/// Changes of one object are gathered this long before a pass: one pass per burst of events.
pub const DEBOUNCE: Duration = Duration::from_millis(200);

/// Passes in flight. Each holds one object's snapshot; 16 keeps a fleet of 100 clusters moving.
pub const CONCURRENCY: usize = 16;

/// One pass, all calls included. Longer means something hangs: abort, back off, look again.
pub const PASS_TIME_MAX: Duration = Duration::from_secs(30);

/// Everything is looked at again this often, less up to a tenth, in case an event was lost.
pub const RESYNC: Duration = Duration::from_secs(300);

/// Delay after the first failed pass of an object; doubles.
pub const ERROR_DELAY_MIN: Duration = Duration::from_secs(1);
/// Highest delay after failed passes of an object.
pub const ERROR_DELAY_MAX: Duration = Duration::from_secs(60);

/// A node that did not take a call is asked again after this long: an election takes about as much.
pub const REFUSED_DELAY: Duration = Duration::from_secs(1);

/// TCP and TLS to the API server. A stalled server accepts and says nothing: this notices.
pub const API_CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// One ordinary request to the API server (reads, lists, writes). Half of the lease, so that a
/// write begun by a leader is over before another can lead.
pub const API_REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Period of the question whether the API server answers, and its time limit. Their sum bounds
/// how long a stall that ended goes unnoticed.
pub const API_PROBE_PERIOD: Duration = Duration::from_secs(2);
/// Time limit of the probe.
pub const API_PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// First delay of a failing watch.
pub const WATCH_DELAY_MIN: Duration = Duration::from_millis(250);
/// Highest delay of a failing watch: with the connect timeout it keeps recovery under 15 s.
pub const WATCH_DELAY_MAX: Duration = Duration::from_secs(5);
/// The initial list of a watch must go on at this pace, else the watch starts again.
pub const WATCH_LIST_PACE: Duration = Duration::from_secs(10);
/// The server ends a watch after this time; a dead connection is noticed 5 s later at the latest.
pub const WATCH_SERVER_TIMEOUT_SECONDS: u32 = 240;
/// A watch in error this long, while the API server answers, fails liveness.
pub const WATCH_DEAD: Duration = Duration::from_secs(300);

/// Connecting to a node.
pub const NODE_CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// One unary call to a node; Bootstrap syncs a disk, which may be slow.
pub const NODE_CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// A node's stream that is silent this long is unknown; nodes send a heartbeat every 5 s.
pub const NODE_SILENT: Duration = Duration::from_secs(15);
/// First delay before a node is tried again.
pub const NODE_DELAY_MIN: Duration = Duration::from_millis(200);
/// Highest delay before a node is tried again.
pub const NODE_DELAY_MAX: Duration = Duration::from_secs(5);
/// A node's whole state is fetched this often: progress of members is not in the deltas.
pub const NODE_REFRESH: Duration = Duration::from_secs(10);
/// After a delta that GetInfo explains better, wait this long for more before asking.
pub const NODE_REFRESH_SOON: Duration = Duration::from_millis(100);
/// Largest message from a node: 1,024 groups with 7 members each are under 1 MiB.
pub const NODE_MESSAGE_BYTES_MAX: usize = 16 << 20;

/// A Kubernetes event's note, as the API server bounds it.
pub const EVENT_NOTE_BYTES_MAX: usize = 1024;

/// Other than transitions of conditions, the status of a cluster is written at most this often.
pub const STATUS_PERIOD: Duration = Duration::from_secs(2);
/// One slice's status is written at most this often.
pub const SLICE_PERIOD: Duration = Duration::from_secs(1);
