//! Errors as clients see them. Failures of an operation are statuses in the response's headers;
//! everything here is a gRPC status.

use multiraft_host::{AdminError, AdminErrorKind, CallError};
use multiraft_machine::{Answer, Output, Rejection, Status as OperationStatus};
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

/// How long an overloaded client should wait, in gRPC's own retry metadata.
const RETRY_PUSHBACK: (&str, &str) = ("grpc-retry-pushback-ms", "100");

pub fn call_error(error: &CallError) -> Status {
    match error {
        CallError::UnknownGroup(_) => Status::not_found(format!("partition_id: {error}")),
        CallError::NotActivated | CallError::Unavailable(_) => {
            Status::unavailable(error.to_string())
        }
        CallError::Overloaded(_) => with_retry(Status::resource_exhausted(error.to_string())),
    }
}

pub fn admin_error(error: &AdminError) -> Status {
    let code = match error.kind {
        AdminErrorKind::InvalidArgument => Code::InvalidArgument,
        AdminErrorKind::NotFound => Code::NotFound,
        AdminErrorKind::AlreadyExists => Code::AlreadyExists,
        AdminErrorKind::FailedPrecondition => Code::FailedPrecondition,
        AdminErrorKind::PermissionDenied => Code::PermissionDenied,
        AdminErrorKind::Unavailable => Code::Unavailable,
    };
    Status::new(code, error.message.clone())
}

/// The output of an answer and the machine's index.
pub fn output(answer: Answer) -> Result<(u64, Output), Status> {
    match answer.result {
        Ok(output) => Ok((answer.index, output)),
        Err(rejection) => Err(rejected(&rejection)),
    }
}

fn rejected(rejection: &Rejection) -> Status {
    let text = rejection.to_string();
    match rejection {
        // Clients end on this: it is said only when the session is really gone.
        Rejection::UnknownSession { .. } => Status::data_loss(text),
        Rejection::Released { .. } => Status::aborted(text),
        Rejection::Canceled => Status::cancelled(text),
        Rejection::Invalid { .. } => Status::invalid_argument(text),
        Rejection::TooManySessions | Rejection::TooManyCommands => {
            with_retry(Status::resource_exhausted(text))
        }
    }
}

/// What an operation of an administrator failed for; nothing for OK.
pub fn administered(status: OperationStatus, message: String) -> Result<(), Status> {
    match status {
        OperationStatus::Ok => Ok(()),
        OperationStatus::Invalid => Err(Status::invalid_argument(message)),
        // Something has to be removed first: no use in trying again soon.
        OperationStatus::Conflict => Err(Status::resource_exhausted(message)),
        OperationStatus::NotSupported => Err(Status::unimplemented(message)),
        other => Err(Status::internal(format!("{}: {message}", other.as_str_name()))),
    }
}

/// An answer of another kind than the call has: a defect of ours.
pub fn unexpected() -> Status {
    Status::internal("the machine gave an answer of another kind")
}

pub fn missing(field: &str) -> Status {
    Status::invalid_argument(format!("{field}: must be set"))
}

fn with_retry(mut status: Status) -> Status {
    let (key, value) = RETRY_PUSHBACK;
    status.metadata_mut().insert(key, MetadataValue::from_static(value));
    status
}
