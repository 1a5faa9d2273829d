//! Why a call did not succeed.

use std::fmt;
use std::time::Duration;

use crate::Status;

/// Why a call did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The cluster decided against it; asking again gives the same answer until something changes.
    #[error("{0}")]
    Rejected(Rejection),
    /// No node could carry the call out before its deadline.
    #[error(
        "no node answered within {}: {attempts} tries, the last one at {node}: {last}; \
         check that the nodes run and can be reached, and that a majority of them is up",
        Seconds(*.timeout)
    )]
    Unavailable { timeout: Duration, attempts: u32, node: String, last: String },
    /// The cluster has given the session up, because it heard nothing of it for its whole timeout.
    #[error(
        "session {session} of partition {partition} expired: whether the call took effect is \
         unknown; read the present state and call again, a new session is opened by itself"
    )]
    SessionExpired { partition: u32, session: u64 },
    /// The call was malformed; nothing happened.
    #[error("invalid call: {message}")]
    Invalid { message: String },
    /// A node answered in a way that leaves nothing to retry.
    #[error("node {node} refused the call ({code:?}): {message}")]
    Refused { node: String, code: tonic::Code, message: String },
    /// The list of partitions could not be learned.
    #[error("{message}")]
    Discovery { message: String },
    /// A stream has lost outputs: what it tells is not all that happened.
    #[error(
        "outputs {expected} to {} of a stream of partition {partition} are missing; read the present \
         state and open the stream again",
        received - 1
    )]
    Gap { partition: u32, expected: u64, received: u64 },
    /// [`crate::Cluster::close`] was called.
    #[error("the client is closed")]
    Closed,
}

impl Error {
    /// True: a command may have taken effect, or may still do so. Never more than once.
    pub fn is_outcome_unknown(&self) -> bool {
        match self {
            Error::Unavailable { .. } | Error::SessionExpired { .. } | Error::Refused { .. } => {
                true
            }
            Error::Rejected(_)
            | Error::Invalid { .. }
            | Error::Discovery { .. }
            | Error::Gap { .. }
            | Error::Closed => false,
        }
    }

    /// True: a condition does not hold, such as a version, or somebody else has a lock.
    pub fn is_conflict(&self) -> bool {
        self.status() == Some(Status::Conflict)
    }

    /// True: what was to be changed is not there.
    pub fn is_not_found(&self) -> bool {
        self.status() == Some(Status::NotFound)
    }

    /// True: what was to be made is there.
    pub fn is_already_exists(&self) -> bool {
        self.status() == Some(Status::AlreadyExists)
    }

    /// The status of a rejection.
    pub fn status(&self) -> Option<Status> {
        match self {
            Error::Rejected(rejection) => Some(rejection.status),
            _ => None,
        }
    }
}

/// An answer of the cluster that is not a success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    pub status: Status,
    /// The cluster's own words; may be empty.
    pub message: String,
    /// Group that answered.
    pub partition: u32,
    /// The partition's index when it was decided.
    pub index: u64,
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self.status.as_str_name().to_lowercase().replace('_', " ");
        if self.message.is_empty() {
            write!(f, "{status}")
        } else {
            write!(f, "{status}: {}", self.message)
        }
    }
}

/// A duration as people read it.
struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        if millis.is_multiple_of(1000) {
            write!(f, "{} s", millis / 1000)
        } else {
            write!(f, "{millis} ms")
        }
    }
}
