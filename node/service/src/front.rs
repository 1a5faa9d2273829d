//! Where requests part: operations of primitives leave the way here, past the router of the other
//! services.

use crate::primitives::Primitives;
use crate::principal::Principal;
use crate::{deadline, relay, stream, unary};
use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use std::sync::Arc;
use tokio::sync::watch;
use tonic::service::Routes;

pub struct Front {
    pub primitives: Primitives,
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
        match self.primitives.find(request.uri().path()) {
            Some(rpc) if rpc.streaming => {
                let open = |message| self.primitives.open(&principal, rpc, message);
                let (body, stopping) = (request.into_body(), self.stopping.clone());
                // Boxed: it is large, and every operation's future would be as large.
                let served = stream::serve(body, deadline, rpc.kind, open, stopping, &mut respond);
                Box::pin(served).await;
            }
            Some(rpc) => {
                let answer = |message| self.primitives.answer(&principal, rpc, message);
                unary::serve(request.into_body(), deadline, answer, &mut respond).await;
            }
            None => {
                let (mut head, body) = request.into_parts();
                head.extensions.insert(principal);
                let request = http::Request::from_parts(head, relay::body(body));
                // Boxed: it is large, and every operation's future would be as large.
                Box::pin(relay::serve(self.others.clone(), request, deadline, &mut respond)).await;
            }
        }
    }
}
