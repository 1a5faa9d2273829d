//! Every operation of every primitive on both wires, served from one table by one handler: headers
//! are data, inputs pass through undecoded.

use crate::envelope::{
    self, CommandRequest, CommandResponse, Outcome, QueryRequest, QueryResponse, Target,
};
use crate::principal::Principal;
use crate::status::{call_error, output, unexpected};
use crate::unary::Framed;
use crate::wire::Wire;
use bytes::Bytes;
use multiraft_host::{Consistency, Handle};
use multiraft_machine::{Answer, Body as OutputBody, Output, Query, Status as OperationStatus};
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

    /// Answers a call; dropping the future cancels the command. Everybody may do everything so far.
    pub async fn answer(
        &self,
        _: &Principal,
        operation: Operation,
        message: Bytes,
    ) -> Result<Framed, Status> {
        let Operation { wire, rpc, .. } = operation;
        if rpc.streaming {
            return Err(Status::unimplemented(format!(
                "{}: streams of events and entries come with a later release",
                rpc.path
            )));
        }
        let answered = match rpc.kind {
            Kind::Command => command(&self.handle, operation, message).await,
            Kind::Query => query(&self.handle, operation, message).await,
        };
        answered.map_err(|status| wire.refusal(status))
    }
}

/// `sync: false` asks a query for a local answer.
fn consistency(kind: Kind, metadata: &http::HeaderMap) -> Consistency {
    match kind {
        Kind::Query if metadata.get("sync").is_some_and(|v| v == "false") => Consistency::Local,
        _ => Consistency::Linearizable,
    }
}

async fn command(handle: &Handle, call: Operation, bytes: Bytes) -> Result<Framed, Status> {
    let request: CommandRequest = envelope::decode(bytes)?;
    let (target, sequence_num) = envelope::command(request.headers.as_ref())?;
    let Target { group, session_id, primitive_id } = target;
    let input = v1::ServiceInput {
        service_id: primitive_id,
        payload: request.input,
        operation: call.rpc.operation,
    };
    let payload = v1::session_input::Payload::ServiceInput(input);
    let input = envelope::session_input(session_id, sequence_num, payload);
    let cancel = Some((session_id, sequence_num));
    let answer = handle.command(group, input, cancel).await.map_err(|e| call_error(&e))?;
    let (outcome, output) = outcome(answer)?;
    let headers = Some(call.wire.command_response(&outcome));
    Ok(Framed::new(&CommandResponse { headers, output }))
}

async fn query(handle: &Handle, call: Operation, bytes: Bytes) -> Result<Framed, Status> {
    let request: QueryRequest = envelope::decode(bytes)?;
    let headers = request.headers.as_ref().ok_or_else(|| crate::status::missing("headers"))?;
    let target = envelope::target(headers.operation.as_ref())?;
    let consistency = match headers.consistency() {
        v1::Consistency::Linearizable => call.consistency,
        v1::Consistency::Local => Consistency::Local,
    };
    let mut index = headers.max_received_index;
    if consistency == Consistency::Local {
        // A replica that lags behind the opening of a session does not know it, and must not say
        // that it is gone. A session's id is the index of its opening.
        index = index.max(target.session_id);
    }
    let query = Query {
        session_id: target.session_id,
        primitive_id: target.primitive_id,
        operation: call.rpc.operation,
        input: request.input,
    };
    let asked = handle.query(target.group, query, index, consistency);
    let (outcome, output) = outcome(asked.await.map_err(|e| call_error(&e))?)?;
    let operation = Some(call.wire.operation_response(&outcome));
    let headers = Some(v1::QueryResponseHeaders { operation });
    Ok(Framed::new(&QueryResponse { headers, output }))
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
