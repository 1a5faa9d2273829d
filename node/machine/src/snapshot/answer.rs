//! Answers as they are written into snapshots.

use bytes::Bytes;
use multiraft_proto::log::{
    SnapshotAnswer, SnapshotCanceled, SnapshotOperation, SnapshotPrimitiveClosed,
    SnapshotRejection, SnapshotReleased, SnapshotSessionClosed, SnapshotSessionKept,
    SnapshotTooManyCommands, SnapshotTooManySessions, snapshot_answer, snapshot_operation,
    snapshot_rejection,
};

use crate::answer::{Answer, Body, Output, Rejection, Status};

impl From<&Answer> for SnapshotAnswer {
    fn from(Answer { index, result }: &Answer) -> Self {
        use snapshot_answer::Result as Wire;
        let result = match result {
            Ok(Output::SessionOpened { session_id }) => Wire::SessionOpened(*session_id),
            Ok(Output::SessionKept) => Wire::SessionKept(SnapshotSessionKept {}),
            Ok(Output::SessionClosed) => Wire::SessionClosed(SnapshotSessionClosed {}),
            Ok(Output::Operation { sequence, status, message, body, last }) => {
                Wire::Operation(SnapshotOperation {
                    sequence: *sequence,
                    status: (*status).into(),
                    message: message.clone(),
                    last: *last,
                    body: write_body(body),
                })
            }
            Err(rejection) => Wire::Rejection(write_rejection(rejection)),
        };
        Self { index: *index, result: Some(result) }
    }
}

fn write_body(body: &Body) -> Option<snapshot_operation::Body> {
    use snapshot_operation::Body as Wire;
    match body {
        Body::None => None,
        Body::PrimitiveCreated { primitive_id } => Some(Wire::PrimitiveCreated(*primitive_id)),
        Body::PrimitiveClosed => Some(Wire::PrimitiveClosed(SnapshotPrimitiveClosed {})),
        Body::Payload(payload) => Some(Wire::Payload(payload.clone())),
    }
}

fn write_rejection(rejection: &Rejection) -> SnapshotRejection {
    use snapshot_rejection::Reason as Wire;
    let reason = match rejection {
        Rejection::UnknownSession { session_id } => Wire::UnknownSession(*session_id),
        Rejection::Released { session_id, sequence_num } => Wire::Released(SnapshotReleased {
            session_id: *session_id,
            sequence_num: *sequence_num,
        }),
        Rejection::Canceled => Wire::Canceled(SnapshotCanceled {}),
        Rejection::Invalid { message } => Wire::Invalid(message.clone()),
        Rejection::TooManySessions => Wire::TooManySessions(SnapshotTooManySessions {}),
        Rejection::TooManyCommands => Wire::TooManyCommands(SnapshotTooManyCommands {}),
    };
    SnapshotRejection { reason: Some(reason) }
}

pub fn read_answer(answer: Option<SnapshotAnswer>) -> Result<Answer, String> {
    use snapshot_answer::Result as Wire;
    let SnapshotAnswer { index, result } = answer.ok_or("answer: is absent")?;
    let result = match result.ok_or("answer.result: is absent, or of an unknown kind")? {
        Wire::SessionOpened(session_id) => Ok(Output::SessionOpened { session_id }),
        Wire::SessionKept(SnapshotSessionKept {}) => Ok(Output::SessionKept),
        Wire::SessionClosed(SnapshotSessionClosed {}) => Ok(Output::SessionClosed),
        Wire::Operation(operation) => Ok(read_operation(operation)?),
        Wire::Rejection(rejection) => Err(read_rejection(rejection)?),
    };
    Ok(Answer { index, result })
}

fn read_operation(operation: SnapshotOperation) -> Result<Output, String> {
    use snapshot_operation::Body as Wire;
    let SnapshotOperation { sequence, status, message, last, body } = operation;
    let body = match body {
        None => Body::None,
        Some(Wire::PrimitiveCreated(primitive_id)) => Body::PrimitiveCreated { primitive_id },
        Some(Wire::PrimitiveClosed(SnapshotPrimitiveClosed {})) => Body::PrimitiveClosed,
        // A copy: a part would keep the whole chunk in memory.
        Some(Wire::Payload(payload)) => Body::Payload(Bytes::copy_from_slice(&payload)),
    };
    let status = Status::try_from(status)
        .map_err(|_| format!("answer.operation.status: {status} is unknown"))?;
    Ok(Output::Operation { sequence, status, message, body, last })
}

fn read_rejection(rejection: SnapshotRejection) -> Result<Rejection, String> {
    use snapshot_rejection::Reason as Wire;
    let reason = rejection.reason;
    Ok(match reason.ok_or("answer.rejection.reason: is absent, or of an unknown kind")? {
        Wire::UnknownSession(session_id) => Rejection::UnknownSession { session_id },
        Wire::Released(SnapshotReleased { session_id, sequence_num }) => {
            Rejection::Released { session_id, sequence_num }
        }
        Wire::Canceled(SnapshotCanceled {}) => Rejection::Canceled,
        Wire::Invalid(message) => Rejection::Invalid { message },
        Wire::TooManySessions(SnapshotTooManySessions {}) => Rejection::TooManySessions,
        Wire::TooManyCommands(SnapshotTooManyCommands {}) => Rejection::TooManyCommands,
    })
}
