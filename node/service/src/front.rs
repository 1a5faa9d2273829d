//! What every request meets first: it learns who calls, and operations of primitives leave the way
//! here, past the router of the other services.

use crate::primitives::{Primitives, Served};
use crate::principal::Principal;
use std::convert::Infallible;
use std::task::{Context, Poll};
use tonic::body::Body;
use tonic::service::Routes;
use tower_service::Service;

#[derive(Clone)]
pub struct Front {
    pub primitives: Primitives,
    /// Sessions, administration, health, reflection.
    pub others: Routes,
}

impl Service<http::Request<Body>> for Front {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Served;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Routes are always ready, as the handler of primitives is.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Served {
        request.extensions_mut().insert(Principal::Anonymous);
        match self.primitives.find(request.uri().path()) {
            Some(rpc) => self.primitives.serve(rpc, request),
            None => Box::pin(self.others.call(request)),
        }
    }
}
