//! Limits and times of the client, each with its reason.

use std::time::Duration;

/// One try of a call on one node. A healthy node answers in milliseconds and an election takes
/// about a second, so five seconds of silence mean a frozen node or a cut link.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);

/// A TCP connection on a network that works takes less; a host that is gone never answers.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Pause before the second try; it doubles with every further one.
pub const BACK_OFF_MIN: Duration = Duration::from_millis(10);

/// Longest pause between two tries: a new leader is noticed within a quarter of a second, and a thousand
/// waiting clients make no more than a few thousand calls per second.
pub const BACK_OFF_MAX: Duration = Duration::from_millis(250);

/// For so long a node that could not be reached is asked only when no other is left.
pub const BLAME_TIME: Duration = Duration::from_secs(2);

/// Nodes are asked for their leaders at most so often, however many calls fail,
pub const DISCOVERY_PAUSE: Duration = Duration::from_millis(500);

/// and at least so often, so that hints do not grow old.
pub const DISCOVERY_PERIOD: Duration = Duration::from_secs(30);

/// A node answers for itself within this time, or it is not counted in this discovery.
pub const DISCOVERY_TIMEOUT: Duration = Duration::from_secs(2);

/// Time for one attempt at closing a session; one that is not closed expires by itself.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Finished commands after which a keep-alive is sent early. The cluster holds at most 65,536
/// answers per session until a keep-alive releases them; a quarter leaves time for a slow one.
pub const UNRELEASED_COMMANDS_MAX: u64 = 16_384;

/// Partitions asked at the same time by a call to all of them; the others wait their turn.
pub const FAN_OUT_MAX: usize = 64;

/// Nodes that one client talks to; answers that name more are ignored from there on.
pub const NODES_MAX: usize = 1_024;

/// Largest answer accepted: the cluster's own limit for a message, 4 MiB, and room for headers.
pub const MESSAGE_BYTES_MAX: usize = (4 << 20) + (64 << 10);
