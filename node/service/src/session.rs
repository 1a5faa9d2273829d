//! Service `Session`: primitives are created and closed by commands of a session.

use crate::envelope::{self, Outcome, command, session_input};
use crate::status::{call_error, missing, output, unexpected};
use crate::wire::Wire;
use multiraft_host::Handle;
use multiraft_machine::{Body, Output};
use multiraft_proto::v1::{self, session_input::Payload};
use tonic::{Request, Response, Status};

pub struct Session {
    pub handle: Handle,
}

impl Session {
    pub async fn create(
        &self,
        wire: Wire,
        request: v1::CreatePrimitiveRequest,
    ) -> Result<v1::CreatePrimitiveResponse, Status> {
        let spec = request.input.and_then(|i| i.spec).ok_or_else(|| missing("input.spec"))?;
        if spec.name.is_empty() {
            return Err(missing("input.spec.name"));
        }
        let v1::PrimitiveSpec { service, namespace, name } = spec;
        let payload = Payload::CreateService(v1::CreateServiceInput { service, namespace, name });
        let (outcome, body) = self.propose(request.headers.as_ref(), payload).await?;
        let output = match body {
            Body::PrimitiveCreated { primitive_id } => {
                Some(v1::CreatePrimitiveOutput { primitive_id })
            }
            _ => None,
        };
        let headers = Some(wire.command_response(&outcome));
        Ok(v1::CreatePrimitiveResponse { headers, output })
    }

    pub async fn close(
        &self,
        wire: Wire,
        request: v1::ClosePrimitiveRequest,
    ) -> Result<v1::ClosePrimitiveResponse, Status> {
        let input = request.input.ok_or_else(|| missing("input"))?;
        let service_id = input.primitive_id;
        let payload = Payload::CloseService(v1::CloseServiceInput { service_id });
        let (outcome, body) = self.propose(request.headers.as_ref(), payload).await?;
        let output = matches!(body, Body::PrimitiveClosed).then_some(v1::ClosePrimitiveOutput {});
        let headers = Some(wire.command_response(&outcome));
        Ok(v1::ClosePrimitiveResponse { headers, output })
    }

    async fn propose(
        &self,
        headers: Option<&v1::CommandRequestHeaders>,
        payload: Payload,
    ) -> Result<(Outcome, Body), Status> {
        let (target, sequence_num) = command(headers)?;
        let envelope::Target { group, session_id, .. } = target;
        let input = session_input(session_id, sequence_num, payload);
        let cancel = Some((session_id, sequence_num));
        let answer = self.handle.command(group, input, cancel).await;
        let (index, output) = output(answer.map_err(|e| call_error(&e))?)?;
        let Output::Operation { sequence, status, message, body, .. } = output else {
            return Err(unexpected());
        };
        Ok((Outcome { index, status, message, sequence }, body))
    }
}

#[tonic::async_trait]
impl v1::session_server::Session for Session {
    async fn create_primitive(
        &self,
        request: Request<v1::CreatePrimitiveRequest>,
    ) -> Result<Response<v1::CreatePrimitiveResponse>, Status> {
        self.create(Wire::Multiraft, request.into_inner()).await.map(Response::new)
    }

    async fn close_primitive(
        &self,
        request: Request<v1::ClosePrimitiveRequest>,
    ) -> Result<Response<v1::ClosePrimitiveResponse>, Status> {
        self.close(Wire::Multiraft, request.into_inner()).await.map(Response::new)
    }
}
