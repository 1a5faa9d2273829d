//! Headers in, headers out. The input of an operation stays opaque bytes on the way through.

use crate::status::missing;
use bytes::Bytes;
use multiraft_machine::Status as OperationStatus;
use multiraft_proto::v1;
use prost::Message;
use tonic::Status;

/// A command of any primitive: `XRequest{headers = 1, input = 2}`.
#[derive(Clone, PartialEq, Message)]
pub struct CommandRequest {
    #[prost(message, optional, tag = "1")]
    pub headers: Option<v1::CommandRequestHeaders>,
    #[prost(bytes = "bytes", tag = "2")]
    pub input: Bytes,
}

/// `XResponse{headers = 1, output = 2}`.
#[derive(Clone, PartialEq, Message)]
pub struct CommandResponse {
    #[prost(message, optional, tag = "1")]
    pub headers: Option<v1::CommandResponseHeaders>,
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub output: Option<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
pub struct QueryRequest {
    #[prost(message, optional, tag = "1")]
    pub headers: Option<v1::QueryRequestHeaders>,
    #[prost(bytes = "bytes", tag = "2")]
    pub input: Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub struct QueryResponse {
    #[prost(message, optional, tag = "1")]
    pub headers: Option<v1::QueryResponseHeaders>,
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub output: Option<Bytes>,
}

/// Whom an operation is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    pub group: u32,
    pub session_id: u64,
    pub primitive_id: u64,
}

/// What an operation brought.
pub struct Outcome {
    pub index: u64,
    pub status: OperationStatus,
    pub message: String,
    pub sequence: u64,
}

pub fn decode<M: Message + Default>(bytes: Bytes) -> Result<M, Status> {
    M::decode(bytes).map_err(|e| Status::invalid_argument(format!("request does not decode: {e}")))
}

/// The partition of a call.
pub fn group(headers: Option<&v1::PartitionRequestHeaders>) -> Result<u32, Status> {
    let headers = headers.ok_or_else(|| missing("headers.partition"))?;
    match headers.partition_id {
        0 => Err(missing("headers.partition.partition_id")),
        id => Ok(id),
    }
}

pub fn target(headers: Option<&v1::OperationRequestHeaders>) -> Result<Target, Status> {
    let operation = headers.ok_or_else(|| missing("headers.operation"))?;
    let primitive = operation.session.as_ref();
    let primitive = primitive.ok_or_else(|| missing("headers.operation.session"))?;
    let session = primitive.session.as_ref();
    let session = session.ok_or_else(|| missing("headers.operation.session.session"))?;
    if session.session_id == 0 {
        return Err(missing("headers…session_id"));
    }
    Ok(Target {
        group: group(session.partition.as_ref())?,
        session_id: session.session_id,
        primitive_id: primitive.primitive_id,
    })
}

/// Session and sequence number of a command.
pub fn command(headers: Option<&v1::CommandRequestHeaders>) -> Result<(Target, u64), Status> {
    let headers = headers.ok_or_else(|| missing("headers"))?;
    let target = target(headers.operation.as_ref())?;
    match headers.sequence_num {
        0 => Err(missing("headers.sequence_num")),
        n => Ok((target, n)),
    }
}

/// Every level is present, also when it is empty: clients reach fields through them.
pub fn operation_response(outcome: &Outcome) -> v1::OperationResponseHeaders {
    let partition = v1::PartitionResponseHeaders { index: outcome.index };
    let session = v1::SessionResponseHeaders { partition: Some(partition) };
    v1::OperationResponseHeaders {
        session: Some(v1::PrimitiveResponseHeaders { session: Some(session) }),
        status: outcome.status as i32,
        message: outcome.message.clone(),
    }
}

pub fn command_response(outcome: &Outcome) -> v1::CommandResponseHeaders {
    v1::CommandResponseHeaders {
        operation: Some(operation_response(outcome)),
        output_sequence_num: outcome.sequence,
    }
}

/// An encoded `PartitionInput` of a session's command.
pub fn session_input(
    session_id: u64,
    sequence_num: u64,
    payload: v1::session_input::Payload,
) -> Bytes {
    let input = v1::SessionInput { session_id, sequence_num, payload: Some(payload) };
    partition_input(v1::partition_input::Payload::SessionInput(input))
}

pub fn partition_input(payload: v1::partition_input::Payload) -> Bytes {
    Bytes::from(v1::PartitionInput { payload: Some(payload) }.encode_to_vec())
}
