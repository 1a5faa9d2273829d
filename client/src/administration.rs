//! Calls to one node about itself, each of its own and without tries at other nodes.

use std::error::Error as _;
use std::time::Duration;

use multiraft_proto::v1;
use tonic::client::Grpc;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::calls::{Failure, describe, within};
use crate::limits::MESSAGE_BYTES_MAX;
use crate::nodes::Nodes;
use crate::{Error, Tls};

/// One call to one node.
pub async fn unary<Q, R>(channel: &Channel, path: &'static str, request: Q) -> Result<R, Status>
where
    Q: prost::Message + 'static,
    R: prost::Message + Default + 'static,
{
    let mut grpc = Grpc::new(channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX);
    grpc.ready().await.map_err(|error| Status::from_error(error.into()))?;
    let path = http::uri::PathAndQuery::from_static(path);
    let codec = tonic_prost::ProstCodec::default();
    Ok(grpc.unary(tonic::Request::new(request), path, codec).await?.into_inner())
}

/// Calls to single nodes about themselves.
#[derive(Clone, Debug, Default)]
pub struct Administration {
    tls: Option<Tls>,
}

impl Administration {
    /// In plain text if there is no TLS.
    pub fn new(tls: Option<Tls>) -> Self {
        Self { tls }
    }

    /// What one node says of itself and its groups.
    pub async fn info(
        &self,
        endpoint: &str,
        timeout: Duration,
    ) -> Result<v1::GetInfoResponse, Error> {
        let path = "/atomix.multiraft.v1.Node/GetInfo";
        self.call(endpoint, path, &v1::GetInfoRequest {}, timeout).await
    }

    /// One call to one node's administration, by its path, without retries.
    pub async fn call<Q, R>(
        &self,
        endpoint: &str,
        path: &'static str,
        request: &Q,
        timeout: Duration,
    ) -> Result<R, Error>
    where
        Q: prost::Message + Clone + 'static,
        R: prost::Message + Default + 'static,
    {
        let routing = crate::Routing::InOrder;
        let tls = self.tls.as_ref().map(Tls::connector).transpose()?;
        let nodes = Nodes::new(&[endpoint.to_owned()], routing, tls)?;
        let node = nodes.next(0, &mut Vec::new());
        let call = unary(&node.channel, path, request.clone());
        let status = match within(timeout, call).await {
            Ok(response) => return Ok(response),
            Err(status) => status,
        };
        // Whatever the node itself answered is for the caller to judge: there is no other to ask.
        let is_answer = status.source().is_none() && status.code() != Code::DeadlineExceeded;
        if is_answer {
            return Err(Failure::Final { node: endpoint.into(), status }.into());
        }
        let last = describe(&status);
        Err(Error::Unavailable { timeout, attempts: 1, node: endpoint.into(), last })
    }
}

/// What one node says of itself and its groups, asked in plain text.
pub async fn node_info(endpoint: &str, timeout: Duration) -> Result<v1::GetInfoResponse, Error> {
    Administration::default().info(endpoint, timeout).await
}

/// One call to one node's administration, by its path, in plain text and without retries.
pub async fn node_service<Q, R>(
    endpoint: &str,
    path: &'static str,
    request: &Q,
    timeout: Duration,
) -> Result<R, Error>
where
    Q: prost::Message + Clone + 'static,
    R: prost::Message + Default + 'static,
{
    Administration::default().call(endpoint, path, request, timeout).await
}
