//! Where requests part: operations of primitives leave the way here, past the router of the other
//! services.

use crate::primitives::Primitives;
use crate::principal::Principal;
use crate::rsm::{SessionCall, Sessions};
use crate::{deadline, relay, session_stream, stream, unary};
use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use multiraft_host::Handle;
use std::sync::Arc;
use tokio::sync::watch;
use tonic::service::Routes;

const SESSION_STREAM: &str = "/atomix.multiraft.v1.SessionStream/OpenStream";

pub struct Front {
    pub handle: Handle,
    pub primitives: Primitives,
    /// Sessions of wire M.
    pub sessions: Sessions,
    /// Sessions, administration, health, reflection.
    pub others: Routes,
    /// True: streams are to end.
    pub stopping: watch::Receiver<bool>,
}

impl Front {
    /// Answers one request. Dropping the future cancels what it began.
    pub async fn answer(
        self: Arc<Self>,
        principal: Principal,
        request: http::Request<RecvStream>,
        mut respond: SendResponse<Bytes>,
    ) {
        let deadline = deadline::of(request.headers());
        let operation = self.primitives.find(&request);
        if let Some(call) = operation.filter(|call| !call.rpc.streaming) {
            let answer = |message| self.primitives.answer(&principal, call, message);
            unary::serve(request.into_body(), deadline, answer, &mut respond).await;
        // The others are boxed: they are large, and every operation's future would be as large.
        } else if let Some(call) = operation {
            let open = |message| self.primitives.open(&principal, call, message);
            let (body, stopping) = (request.into_body(), self.stopping.clone());
            let served = stream::serve(body, deadline, call, open, stopping, &mut respond);
            Box::pin(served).await;
        } else if let Err(status) = principal.may_call(request.uri().path()) {
            Box::pin(unary::refuse(request.into_body(), status, &mut respond)).await;
        } else if request.uri().path() == SESSION_STREAM {
            let (handle, stopping) = (self.handle.clone(), self.stopping.clone());
            let body = request.into_body();
            let served = session_stream::serve(body, principal, handle, stopping, &mut respond);
            Box::pin(served).await;
        } else if let Some(call) = SessionCall::find(request.uri().path()) {
            let answer = |message| self.sessions.answer(call, message);
            Box::pin(unary::serve(request.into_body(), deadline, answer, &mut respond)).await;
        } else {
            let request = request.map(relay::body);
            Box::pin(relay::serve(self.others.clone(), request, deadline, &mut respond)).await;
        }
    }
}
