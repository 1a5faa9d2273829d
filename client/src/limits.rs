//! Limits and times of the client, each with its reason.

use std::time::Duration;

/// One try of a call on one node, unless the call is one that waits for its turn. A healthy node
/// answers in milliseconds and an election takes about a second, so two seconds of silence mean that
/// another node will do better. It is asked under the same number, so nothing is lost by it.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2);

/// A session stream stands milliseconds after its connection. With one that does not, calls go to
/// another node meanwhile: hosts that are gone never answer.
pub const OPENING_TIMEOUT: Duration = Duration::from_millis(500);

/// A connection on which calls are open and nothing came for so long is asked for a sign of life,
pub const PING_PERIOD: Duration = Duration::from_millis(500);

/// and broken when there is none in this time: the node is frozen or cut off. Calls that wait for a
/// lock are silent for long, and know nothing else of their node.
pub const PING_TIMEOUT: Duration = Duration::from_secs(1);

/// A node that kept a waiting call for so long works, whatever it answered then. Longer than pings
/// take to find one that does not.
pub const WAIT_MIN: Duration = Duration::from_secs(5);
/// The same of one that then took leave in order: longer than one that stops already takes to say so.
pub const FAREWELL_MIN: Duration = Duration::from_millis(250);

/// One try at learning what became of a call that nobody waits for any more.
pub const SETTLE_TIMEOUT: Duration = Duration::from_secs(1);

/// A session stream without an open call ends after this: where one is, the connection is pinged.
pub const IDLE_TIME: Duration = Duration::from_secs(5);

/// Bytes of calls in one message, unless a single one is larger: the node begins with the first while
/// the others are sent. It takes 4 MiB.
pub const FRAME_BYTES_MAX: usize = 64 << 10;

/// Bytes of one call: what the cluster takes as a message, with room for what is around it.
pub const CALL_BYTES_MAX: usize = (4 << 20) - 64;

/// Bytes of one message of a session stream: the largest answer, and what nodes send with it.
pub const STREAM_MESSAGE_BYTES_MAX: usize = 8 << 20;

/// One in so many places on a session stream is for what keeps sessions: a partition without a leader
/// makes others wait, and must not cost them their sessions.
pub const RESERVE_PART: u32 = 16;

/// Of the calls on a session stream (nodes take 4,096) those that may have answers, or wait for one, as
/// long as they like. More have streams of their own: a lock's release must find a place, however many
/// wait for the lock.
pub const LISTENING_MAX: usize = 2_048;

/// Answers of one call, and their bytes, that are kept when nobody takes them. With more the call goes
/// on over a stream of its own, which is not read until they are taken.
pub const UNREAD_ANSWERS_MAX: usize = 4_096;
pub const UNREAD_BYTES_MAX: usize = 1 << 20;

/// What a node may send of a call's own stream that nobody reads,
pub const STREAM_WINDOW_BYTES: u32 = 256 << 10;

/// and of all of them on one connection: 128 that nobody reads do not hold up the others.
pub const STREAMS_WINDOW_BYTES: u32 = 32 << 20;

/// Outputs of a stream, and their bytes, after which a keep-alive says early that they were received.
/// The cluster ends streams at 65,536 of which it does not know that, and has some MiB for them.
pub const UNSTATED_OUTPUTS_MAX: u64 = 8_192;
pub const UNSTATED_BYTES_MAX: usize = 1 << 20;

/// Session timeouts that the cluster takes; it would make these of others.
pub const SESSION_TIMEOUT_MIN: Duration = Duration::from_secs(1);
pub const SESSION_TIMEOUT_MAX: Duration = Duration::from_secs(3600);

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

/// A keep-alive is sent early when so many commands ended since the last one: the cluster holds
/// their answers until then, in memory and in every snapshot. With 16,384 they were a quarter of a
/// loaded node's work; each sixty-fourth command costs little.
pub const RELEASED_COMMANDS_MIN: u64 = 64;
/// And so many for each open call, because a keep-alive lists these.
pub const RELEASED_PER_OPEN: u64 = 2;

/// Partitions asked at the same time by a call to all of them; the others wait their turn.
pub const FAN_OUT_MAX: usize = 64;

/// Nodes that one client talks to; answers that name more are ignored from there on.
pub const NODES_MAX: usize = 1_024;

/// Largest answer accepted: the cluster's own limit for a message, 4 MiB, and room for headers.
pub const MESSAGE_BYTES_MAX: usize = (4 << 20) + (64 << 10);
