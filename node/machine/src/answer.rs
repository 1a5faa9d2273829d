//! What goes into the machine besides entries, and what comes out of it.

use bytes::Bytes;
use multiraft_proto::v1::operation_response_headers;

/// Outcome of an operation as the headers of a response carry it.
pub type Status = operation_response_headers::Status;

/// A read of one primitive, answered from the applied state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    pub session_id: u64,
    pub primitive_id: u64,
    pub operation: u32,
    pub input: Bytes,
}

/// The answer to one item or query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The machine's index when the result was produced; a repeated answer keeps the first index.
    pub index: u64,
    pub result: Result<Output, Rejection>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    SessionOpened {
        session_id: u64,
    },
    SessionKept,
    SessionClosed,
    /// One output of a session command, or the answer to a query.
    Operation {
        /// Counts 1, 2, … per command; 0 for creating or closing a primitive, and for queries.
        sequence: u64,
        status: Status,
        message: String,
        body: Body,
        /// No further output of this command follows.
        last: bool,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    None,
    PrimitiveCreated {
        primitive_id: u64,
    },
    PrimitiveClosed,
    /// The encoded output message of the operation.
    Payload(Bytes),
}

/// Why an item had no effect beyond raising the index; the same on every replica.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    #[error("session {session_id} is not open")]
    UnknownSession { session_id: u64 },
    /// A late duplicate: its outputs were released by a keep-alive, and it is never executed again.
    #[error("command {sequence_num} of session {session_id} was released by a keep-alive")]
    Released { session_id: u64, sequence_num: u64 },
    /// The command was open when its session or primitive was closed or its caller gave it up.
    #[error("command canceled")]
    Canceled,
    #[error("{message}")]
    Invalid { message: String },
    #[error("too many open sessions in this group")]
    TooManySessions,
    /// Nothing happened; the command may be retried after a keep-alive has released others.
    #[error("too many unreleased commands in this session: send a keep-alive")]
    TooManyCommands,
}

/// What applying an entry asks of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// For whoever waits for (`origin`, `number`); nobody may.
    Answer {
        origin: u64,
        number: u64,
        answer: Answer,
    },
    SessionEnded {
        session_id: u64,
        expired: bool,
    },
}

/// The entry cannot have been proposed by a working member: this node must stop.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    #[error("entry after index {index} does not decode")]
    Undecodable {
        index: u64,
        #[source]
        source: prost::DecodeError,
    },
    #[error("entry after index {index} has format {format}, this release knows {known}")]
    Format { index: u64, format: u32, known: u32 },
    #[error("entry after index {index} needs feature level {level}, this release has {known}")]
    FeatureLevel { index: u64, level: u32, known: u32 },
    #[error("entry after index {index} has an item of an unknown kind")]
    UnknownItem { index: u64 },
}
