//! What goes into the machine besides entries, and what comes out of it.

use bytes::Bytes;
use multiraft_proto::v1::operation_response_headers;

use crate::digest::Digest;

/// Outcome of an operation as the headers of a response carry it.
pub type Status = operation_response_headers::Status;

/// A read of one primitive, answered from the applied state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    pub session_id: u64,
    pub primitive_id: u64,
    pub operation: u32,
    pub input: Bytes,
    /// Its number in the session: a keep-alive that does not name it ends a query that goes on. 0 = it
    /// has none.
    pub sequence_num: u64,
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
    /// A command of (`origin`, `number`) that goes on was applied. What follows for it are the outputs
    /// that its client has not acknowledged, from the first of them, then each that comes about.
    Begins {
        origin: u64,
        number: u64,
    },
    /// (`origin`, `number`) is told no more of its command: another call repeated it.
    Replaced {
        origin: u64,
        number: u64,
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

impl Answer {
    pub(crate) fn digest(&self, digest: &mut Digest) {
        let Self { index, result } = self;
        digest.word(*index);
        match result {
            Ok(output) => output.digest(digest),
            Err(rejection) => rejection.digest(digest),
        }
    }
}

impl Output {
    pub(crate) fn set_last(&mut self, is_last: bool) {
        if let Self::Operation { last, .. } = self {
            *last = is_last;
        }
    }

    fn digest(&self, digest: &mut Digest) {
        match self {
            Self::SessionOpened { session_id } => {
                digest.word(1);
                digest.word(*session_id);
            }
            Self::SessionKept => digest.word(2),
            Self::SessionClosed => digest.word(3),
            Self::Operation { sequence, status, message, body, last } => {
                digest.word(4);
                digest.word(*sequence);
                digest.word(*status as u64);
                digest.bytes(message.as_bytes());
                digest.word(u64::from(*last));
                body.digest(digest);
            }
        }
    }
}

impl Body {
    fn digest(&self, digest: &mut Digest) {
        match self {
            Self::None => digest.word(1),
            Self::PrimitiveCreated { primitive_id } => {
                digest.word(2);
                digest.word(*primitive_id);
            }
            Self::PrimitiveClosed => digest.word(3),
            Self::Payload(payload) => {
                digest.word(4);
                digest.bytes(payload);
            }
        }
    }
}

impl Rejection {
    fn digest(&self, digest: &mut Digest) {
        match self {
            Self::UnknownSession { session_id } => {
                digest.word(5);
                digest.word(*session_id);
            }
            Self::Released { session_id, sequence_num } => {
                digest.word(6);
                digest.word(*session_id);
                digest.word(*sequence_num);
            }
            Self::Canceled => digest.word(7),
            Self::Invalid { message } => {
                digest.word(8);
                digest.bytes(message.as_bytes());
            }
            Self::TooManySessions => digest.word(9),
            Self::TooManyCommands => digest.word(10),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn operation(
        change: impl FnOnce(&mut u64, &mut Status, &mut String, &mut Body, &mut bool),
    ) -> Output {
        let (mut sequence, mut status, mut message) = (1, Status::Ok, String::new());
        let (mut body, mut last) = (Body::None, true);
        change(&mut sequence, &mut status, &mut message, &mut body, &mut last);
        Output::Operation { sequence, status, message, body, last }
    }

    #[test]
    fn answers_that_differ_have_different_digests() {
        let results = [
            Ok(Output::SessionOpened { session_id: 1 }),
            Ok(Output::SessionOpened { session_id: 2 }),
            Ok(Output::SessionKept),
            Ok(Output::SessionClosed),
            Ok(operation(|_, _, _, _, _| {})),
            Ok(operation(|sequence, _, _, _, _| *sequence = 2)),
            Ok(operation(|_, status, _, _, _| *status = Status::Conflict)),
            Ok(operation(|_, _, message, _, _| message.push('m'))),
            Ok(operation(|_, _, _, body, _| *body = Body::PrimitiveClosed)),
            Ok(operation(|_, _, _, body, _| *body = Body::PrimitiveCreated { primitive_id: 1 })),
            Ok(operation(|_, _, _, body, _| *body = Body::PrimitiveCreated { primitive_id: 2 })),
            Ok(operation(|_, _, _, body, _| *body = Body::Payload(Bytes::new()))),
            Ok(operation(|_, _, _, body, _| *body = Body::Payload("p".into()))),
            Ok(operation(|_, _, _, _, last| *last = false)),
            Err(Rejection::UnknownSession { session_id: 1 }),
            Err(Rejection::UnknownSession { session_id: 2 }),
            Err(Rejection::Released { session_id: 1, sequence_num: 1 }),
            Err(Rejection::Released { session_id: 2, sequence_num: 1 }),
            Err(Rejection::Released { session_id: 1, sequence_num: 2 }),
            Err(Rejection::Canceled),
            Err(Rejection::Invalid { message: String::new() }),
            // Reads like another rejection.
            Err(Rejection::Invalid { message: Rejection::Canceled.to_string() }),
            Err(Rejection::TooManySessions),
            Err(Rejection::TooManyCommands),
        ];
        let mut seen = BTreeMap::new();
        for index in [1, 2] {
            for result in results.clone() {
                let answer = Answer { index, result };
                let mut digest = Digest::new();
                answer.digest(&mut digest);
                let twin = seen.insert(digest.finish(), answer.clone());
                assert_eq!(twin, None, "{answer:?} has the digest of another answer");
            }
        }
    }
}
