//! Headers in. Both wires have the same ones by number. The input of an operation stays opaque bytes on the way through.

use crate::status::missing;
use bytes::Bytes;
use multiraft_host::Consistency;
use multiraft_machine::{Query, Status as OperationStatus};
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
        return Err(missing("headers.operation.session.session.session_id"));
    }
    Ok(Target {
        group: group(session.partition.as_ref())?,
        session_id: session.session_id,
        primitive_id: primitive.primitive_id,
    })
}

/// What a query is for, and from which state it may be answered.
pub struct Reading {
    pub group: u32,
    pub query: Query,
    pub max_received_index: u64,
    pub consistency: Consistency,
}

pub fn consistency(asked: v1::Consistency, otherwise: Consistency) -> Consistency {
    match asked {
        v1::Consistency::Linearizable => otherwise,
        v1::Consistency::Local => Consistency::Local,
    }
}

/// `otherwise`: when the headers do not ask for a local answer.
pub fn query(
    operation: u32,
    otherwise: Consistency,
    request: QueryRequest,
) -> Result<Reading, Status> {
    let headers = request.headers.ok_or_else(|| missing("headers"))?;
    let Target { group, session_id, primitive_id } = target(headers.operation.as_ref())?;
    let consistency = consistency(headers.consistency(), otherwise);
    let sequence_num = headers.sequence_num;
    let query = Query { session_id, primitive_id, operation, input: request.input, sequence_num };
    Ok(Reading { group, query, max_received_index: headers.max_received_index, consistency })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Wire;
    use multiraft_proto::map;

    fn headers(session_id: u64) -> v1::CommandRequestHeaders {
        let partition = Some(v1::PartitionRequestHeaders { partition_id: 3 });
        let session = Some(v1::SessionRequestHeaders { partition, session_id });
        let primitive = Some(v1::PrimitiveRequestHeaders { session, primitive_id: 5 });
        let operation = Some(v1::OperationRequestHeaders { session: primitive });
        v1::CommandRequestHeaders { operation, sequence_num: 9 }
    }

    #[test]
    fn a_request_is_read_without_its_input() {
        let input = map::PutInput { key: "k".into(), value: "v".into(), ..Default::default() };
        let request = map::PutRequest { headers: Some(headers(4)), input: Some(input.clone()) };
        let read: CommandRequest = decode(request.encode_to_vec().into()).unwrap();
        let target = Target { group: 3, session_id: 4, primitive_id: 5 };
        assert_eq!(command(read.headers.as_ref()).unwrap(), (target, 9));
        assert_eq!(map::PutInput::decode(read.input).unwrap(), input);
    }

    #[test]
    fn a_response_has_every_level_of_headers_also_when_all_is_default() {
        let outcome =
            Outcome { index: 0, status: OperationStatus::Ok, message: String::new(), sequence: 0 };
        let headers = Some(Wire::Multiraft.command_response(&outcome));
        let response = CommandResponse { headers, output: Some(Bytes::new()) };
        let seen = map::PutResponse::decode(response.encode_to_vec().as_slice()).unwrap();
        let operation = seen.headers.unwrap().operation.unwrap();
        assert!(operation.session.unwrap().session.unwrap().partition.is_some());
        assert_eq!(seen.output, Some(map::PutOutput::default()));
    }

    #[test]
    fn an_absent_level_is_named() {
        let mut without = headers(4);
        let operation = without.operation.as_mut().unwrap();
        operation.session.as_mut().unwrap().session = None;
        let mut no_number = headers(4);
        no_number.sequence_num = 0;
        for (headers, field) in [
            (None, "headers:"),
            (Some(v1::CommandRequestHeaders::default()), "headers.operation:"),
            (Some(without), "headers.operation.session.session:"),
            (Some(headers(0)), "headers.operation.session.session.session_id:"),
            (Some(no_number), "headers.sequence_num:"),
        ] {
            let status = command(headers.as_ref()).unwrap_err();
            assert_eq!(status.code(), tonic::Code::InvalidArgument);
            assert!(status.message().starts_with(field), "{}", status.message());
        }
    }

    #[test]
    fn bytes_that_are_no_message_are_an_invalid_argument() {
        let status = decode::<QueryRequest>(Bytes::from_static(&[0x0f, 1, 2])).unwrap_err();
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
    }
}
