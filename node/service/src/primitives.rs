//! Every operation of every primitive on both wires, served from one table by one handler: headers
//! are data, inputs pass through undecoded.

use crate::envelope::{
    self, CommandRequest, CommandResponse, Outcome, QueryResponse, Reading, Target,
};
use crate::limits::STREAM_ANSWERS_MAX;
use crate::principal::Principal;
use crate::status::{call_error, output, unexpected};
use crate::unary::Framed;
use crate::wire::Wire;
use bytes::Bytes;
use multiraft_host::{Calls, Consistency, Handle};
use multiraft_machine::{Answer, Body as OutputBody, Output, Status as OperationStatus};
use multiraft_proto::rpc::{Kind, RPCS, Rpc};
use multiraft_proto::v1;
use std::collections::HashMap;
use tonic::Status;

/// The handler of all primitive operations.
pub struct Primitives {
    handle: Handle,
    table: HashMap<&'static str, &'static Rpc>,
}

/// An operation that somebody calls.
#[derive(Clone, Copy)]
pub struct Operation {
    pub wire: Wire,
    pub rpc: &'static Rpc,
    /// What the caller's metadata asks of a query.
    consistency: Consistency,
}

impl Primitives {
    pub fn new(handle: Handle) -> Self {
        let calls = RPCS.iter().filter_map(|rpc| Some((Wire::of(rpc.path)?.1, rpc)));
        Primitives { handle, table: calls.collect() }
    }

    pub fn find<T>(&self, request: &http::Request<T>) -> Option<Operation> {
        let (wire, call) = Wire::of(request.uri().path())?;
        let rpc = *self.table.get(call)?;
        Some(Operation { wire, rpc, consistency: consistency(rpc.kind, request.headers()) })
    }

    /// Answers a call; dropping the future cancels the command.
    pub async fn answer(
        &self,
        principal: &Principal,
        operation: Operation,
        message: Bytes,
    ) -> Result<Framed, Status> {
        principal.may_operate(operation.rpc)?;
        self.called(operation, message).await.map_err(|status| operation.wire.refusal(status))
    }

    async fn called(&self, operation: Operation, message: Bytes) -> Result<Framed, Status> {
        let Operation { wire, rpc, consistency } = operation;
        match rpc.kind {
            Kind::Command => {
                let (group, input, cancel) = command(rpc, message)?;
                let answer = self.handle.command(group, input, Some(cancel)).await;
                let answer = answer.map_err(|e| call_error(&e))?;
                Ok(Framed::new(&command_response(wire, answer)?))
            }
            Kind::Query => {
                let Reading { group, query, max_received_index, consistency } =
                    envelope::query(rpc.operation, consistency, envelope::decode(message)?)?;
                let asked = self.handle.query(group, query, max_received_index, consistency);
                let answer = asked.await.map_err(|e| call_error(&e))?;
                Ok(Framed::new(&query_response(wire, answer)?))
            }
        }
    }

    /// Begins a call that is answered by a stream.
    pub fn open(
        &self,
        principal: &Principal,
        operation: Operation,
        message: Bytes,
    ) -> Result<Calls, Status> {
        principal.may_operate(operation.rpc)?;
        let Operation { rpc, consistency, .. } = operation;
        let mut calls = self.handle.calls(STREAM_ANSWERS_MAX);
        match rpc.kind {
            Kind::Command => {
                let (group, input, _) = command(rpc, message)?;
                calls.command(0, group, input, None);
            }
            Kind::Query => {
                let Reading { group, query, max_received_index, consistency } =
                    envelope::query(rpc.operation, consistency, envelope::decode(message)?)?;
                calls.query(0, group, query, max_received_index, consistency, true);
            }
        }
        Ok(calls)
    }
}

/// `sync: false` asks a query for a local answer.
fn consistency(kind: Kind, metadata: &http::HeaderMap) -> Consistency {
    match kind {
        Kind::Query if metadata.get("sync").is_some_and(|v| v == "false") => Consistency::Local,
        _ => Consistency::Linearizable,
    }
}

/// (group, encoded input, (session, sequence number)) of a command.
fn command(rpc: &Rpc, bytes: Bytes) -> Result<(u32, Bytes, (u64, u64)), Status> {
    let request: CommandRequest = envelope::decode(bytes)?;
    let (target, sequence_num) = envelope::command(request.headers.as_ref())?;
    let Target { group, session_id, primitive_id } = target;
    let input = v1::ServiceInput {
        service_id: primitive_id,
        payload: request.input,
        operation: rpc.operation,
    };
    let payload = v1::session_input::Payload::ServiceInput(input);
    let input = envelope::session_input(session_id, sequence_num, payload);
    Ok((group, input, (session_id, sequence_num)))
}

/// One output of a command.
pub fn command_response(wire: Wire, answer: Answer) -> Result<CommandResponse, Status> {
    let (outcome, output) = outcome(answer)?;
    Ok(CommandResponse { headers: Some(wire.command_response(&outcome)), output })
}

/// One output of a query.
pub fn query_response(wire: Wire, answer: Answer) -> Result<QueryResponse, Status> {
    let (outcome, output) = outcome(answer)?;
    let operation = Some(wire.operation_response(&outcome));
    Ok(QueryResponse { headers: Some(v1::QueryResponseHeaders { operation }), output })
}

/// The outcome of an operation and its encoded output; OK always has one.
fn outcome(answer: Answer) -> Result<(Outcome, Option<Bytes>), Status> {
    let (index, output) = output(answer)?;
    let Output::Operation { sequence, status, message, body, .. } = output else {
        return Err(unexpected());
    };
    let output = match body {
        OutputBody::Payload(bytes) => Some(bytes),
        _ if status == OperationStatus::Ok => Some(Bytes::new()),
        _ => None,
    };
    Ok((Outcome { index, status, message, sequence }, output))
}
