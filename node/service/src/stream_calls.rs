//! Calls as they come over a session stream, and their answers.

use crate::envelope;
use crate::principal::Principal;
use crate::status::{missing, output};
use bytes::Bytes;
use multiraft_host::{Calls, Consistency};
use multiraft_machine::{
    Answer, Body, Output, Query, Status as OperationStatus, validate_keep_alive,
};
use multiraft_proto::rpc::{Kind, RPCS, Rpc};
use multiraft_proto::v1;
use prost::Message;
use std::collections::HashMap;
use std::sync::LazyLock;
use tonic::Status;
use v1::partition_input::Payload;
use v1::session_input::Payload as InSession;

/// `OpenStreamRequest`, with commands as they go into the log.
#[derive(Clone, PartialEq, Message)]
pub struct Request {
    #[prost(message, repeated, tag = "1")]
    pub calls: Vec<RequestedCall>,
}

/// `StreamCall`.
#[derive(Clone, PartialEq, Message)]
pub struct RequestedCall {
    #[prost(uint64, tag = "1")]
    pub call_id: u64,
    #[prost(uint32, tag = "2")]
    pub partition_id: u32,
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub command: Option<Bytes>,
    #[prost(message, optional, tag = "4")]
    pub query: Option<v1::StreamQuery>,
    #[prost(message, optional, tag = "5")]
    pub cancel: Option<v1::StreamCancel>,
}

/// Operations by their numbers.
static OPERATIONS: LazyLock<HashMap<u32, &Rpc>> =
    LazyLock::new(|| RPCS.iter().map(|rpc| (rpc.operation, rpc)).collect());

/// Calls of their own for what is not an operation of a primitive, by which it is judged who may.
const OPEN: &str = "/atomix.multiraft.v1.Partition/OpenSession";
const KEEP: &str = "/atomix.multiraft.v1.Partition/KeepAlive";
const CLOSE: &str = "/atomix.multiraft.v1.Partition/CloseSession";
const CREATE_PRIMITIVE: &str = "/atomix.multiraft.v1.Session/CreatePrimitive";
const CLOSE_PRIMITIVE: &str = "/atomix.multiraft.v1.Session/ClosePrimitive";

/// Begins a command or query.
pub fn begin(
    principal: &Principal,
    calls: &mut Calls,
    id: u64,
    group: u32,
    call: RequestedCall,
) -> Result<(), Status> {
    if group == 0 {
        return Err(missing("partition_id"));
    }
    match (call.command, call.query) {
        (Some(input), None) => {
            let cancel = check_command(principal, &input)?;
            calls.command(id, group, input, cancel);
        }
        (None, Some(query)) => {
            let rpc = operation(query.operation, Kind::Query)?;
            principal.may_operate(rpc)?;
            let consistency = envelope::consistency(query.consistency(), Consistency::Linearizable);
            let v1::StreamQuery {
                session_id, primitive_id, operation, input, sequence_num, ..
            } = query;
            if session_id == 0 {
                return Err(missing("query.session_id"));
            }
            let asked = Query { session_id, primitive_id, operation, input, sequence_num };
            let index = query.max_received_index;
            calls.query(id, group, asked, index, consistency, rpc.streaming);
        }
        _ => return Err(missing("call")),
    }
    Ok(())
}

/// (session, sequence number) of a command that has them. What the machine would reject is refused
/// before it is proposed.
fn check_command(principal: &Principal, input: &Bytes) -> Result<Option<(u64, u64)>, Status> {
    let input: v1::PartitionInput = envelope::decode(input.clone())?;
    let input = match input.payload.ok_or_else(|| missing("command.payload"))? {
        Payload::SessionInput(input) => input,
        Payload::KeepAlive(input) => {
            principal.may_call(KEEP)?;
            return validate_keep_alive(&input).map(|()| None).map_err(Status::invalid_argument);
        }
        Payload::OpenSession(_) => return principal.may_call(OPEN).map(|()| None),
        Payload::CloseSession(_) => return principal.may_call(CLOSE).map(|()| None),
        _ => return Err(Status::invalid_argument("command.payload: is not a client's")),
    };
    let v1::SessionInput { session_id, sequence_num, payload } = input;
    match payload.ok_or_else(|| missing("command.session_input.payload"))? {
        InSession::ServiceInput(input) => {
            principal.may_operate(operation(input.operation, Kind::Command)?)?;
        }
        InSession::CreateService(input) if input.name.is_empty() => {
            return Err(missing("command.session_input.create_service.name"));
        }
        InSession::CreateService(_) => principal.may_call(CREATE_PRIMITIVE)?,
        InSession::CloseService(_) => principal.may_call(CLOSE_PRIMITIVE)?,
    }
    if session_id == 0 {
        return Err(missing("command.session_input.session_id"));
    }
    if sequence_num == 0 {
        return Err(missing("command.session_input.sequence_num"));
    }
    Ok(Some((session_id, sequence_num)))
}

fn operation(number: u32, kind: Kind) -> Result<&'static Rpc, Status> {
    let rpc = OPERATIONS.get(&number).filter(|rpc| rpc.kind == kind);
    rpc.copied().ok_or_else(|| {
        let wanted = if kind == Kind::Query { "query" } else { "command" };
        Status::invalid_argument(format!("operation: {number} is no {wanted}"))
    })
}

/// A call that failed as a whole.
pub fn refused(call_id: u64, status: &Status) -> v1::StreamAnswer {
    let (code, message) = (status.code() as i32 as u32, status.message().to_owned());
    v1::StreamAnswer { call_id, last: true, code, message, ..Default::default() }
}

/// One answer of the machine.
pub fn answer(call_id: u64, answer: Answer) -> v1::StreamAnswer {
    let (index, output) = match output(answer) {
        Ok(found) => found,
        Err(status) => return refused(call_id, &status),
    };
    let empty = v1::StreamAnswer { call_id, index, last: true, ..Default::default() };
    match output {
        Output::SessionOpened { session_id } => v1::StreamAnswer { session_id, ..empty },
        Output::Operation { sequence, status, message, body, last } => {
            let (mut primitive_id, mut output) = (0, None);
            match body {
                Body::PrimitiveCreated { primitive_id: id } => primitive_id = id,
                Body::Payload(payload) => output = Some(payload),
                Body::None | Body::PrimitiveClosed => {}
            }
            let failed = status != OperationStatus::Ok;
            v1::StreamAnswer {
                last,
                output_sequence_num: sequence,
                status: status.into(),
                message: if failed { message } else { String::new() },
                output,
                primitive_id,
                ..empty
            }
        }
        _ => empty,
    }
}
