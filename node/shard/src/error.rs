//! Why a call brought no answer of the machine.

/// Nothing is known of the call's effect, except where said. A command may be retried with the
/// same sequence number.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Neither this node nor any peer that it hears of holds a member of the group.
    #[error("group {0} is not known to this node or its peers")]
    UnknownGroup(u32),
    #[error("this node is not activated yet: its cluster is still being formed")]
    NotActivated,
    #[error("{0}")]
    Unavailable(String),
    /// Nothing happened: a queue is full.
    #[error("overloaded: {0}; retry later")]
    Overloaded(String),
}

/// Family of an administration error; each maps to one gRPC code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdminErrorKind {
    InvalidArgument,
    NotFound,
    AlreadyExists,
    /// A precondition (version, another incarnation) does not hold.
    FailedPrecondition,
    /// Older epoch or missing fence.
    PermissionDenied,
    /// Retry later.
    Unavailable,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct AdminError {
    pub kind: AdminErrorKind,
    /// Names the field or id and the remedy.
    pub message: String,
}

impl AdminError {
    pub fn new(kind: AdminErrorKind, message: impl Into<String>) -> Self {
        AdminError { kind, message: message.into() }
    }
}
