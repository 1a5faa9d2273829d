//! Every operation of every primitive, served from one table by one handler: headers are data,
//! inputs pass through undecoded.

use crate::envelope::{
    self, CommandRequest, CommandResponse, Outcome, QueryRequest, QueryResponse, Target,
};
use crate::principal::Principal;
use crate::status::{call_error, output, unexpected};
use crate::unary::Framed;
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

impl Primitives {
    pub fn new(handle: Handle) -> Self {
        Primitives { handle, table: RPCS.iter().map(|rpc| (rpc.path, rpc)).collect() }
    }

    pub fn find(&self, path: &str) -> Option<&'static Rpc> {
        self.table.get(path).copied()
    }

    /// Answers a call; dropping the future cancels the command. Everybody may do everything so far.
    pub async fn answer(
        &self,
        _: &Principal,
        rpc: &'static Rpc,
        message: Bytes,
    ) -> Result<Framed, Status> {
        if rpc.streaming {
            return Err(Status::unimplemented(format!(
                "{}: streams of events and entries come with a later release",
                rpc.path
            )));
        }
        match rpc.kind {
            Kind::Command => command(&self.handle, rpc, message).await,
            Kind::Query => query(&self.handle, rpc, message).await,
        }
    }
}

async fn command(handle: &Handle, rpc: &Rpc, bytes: Bytes) -> Result<Framed, Status> {
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
    let cancel = Some((session_id, sequence_num));
    let answer = handle.command(group, input, cancel).await.map_err(|e| call_error(&e))?;
    let (outcome, output) = operation(answer)?;
    let headers = Some(envelope::command_response(&outcome));
    Ok(Framed::new(&CommandResponse { headers, output }))
}

async fn query(handle: &Handle, rpc: &Rpc, bytes: Bytes) -> Result<Framed, Status> {
    let request: QueryRequest = envelope::decode(bytes)?;
    let headers = request.headers.as_ref().ok_or_else(|| crate::status::missing("headers"))?;
    let target = envelope::target(headers.operation.as_ref())?;
    let consistency = match headers.consistency() {
        v1::Consistency::Linearizable => Consistency::Linearizable,
        v1::Consistency::Local => Consistency::Local,
    };
    let query = Query {
        session_id: target.session_id,
        primitive_id: target.primitive_id,
        operation: rpc.operation,
        input: request.input,
    };
    let asked = handle.query(target.group, query, headers.max_received_index, consistency);
    let (outcome, output) = operation(asked.await.map_err(|e| call_error(&e))?)?;
    let operation = Some(envelope::operation_response(&outcome));
    let headers = Some(v1::QueryResponseHeaders { operation });
    Ok(Framed::new(&QueryResponse { headers, output }))
}

/// The outcome of an operation and its encoded output; OK always has one.
fn operation(answer: Answer) -> Result<(Outcome, Option<Bytes>), Status> {
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
