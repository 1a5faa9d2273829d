//! Map.Put and Map.Get by the protocol of Atomix clients (wire M). Its messages have the numbers of our
//! own; only the outcomes are numbered otherwise.

use anyhow::{Context as _, bail};
use http::uri::PathAndQuery;
use multiraft_proto::{map, rsm};
use prost::Message;
use tonic::client::Grpc;
use tonic::transport::Channel;
use tonic_prost::ProstCodec;

const PUT: &str = "/atomix.protocols.rsm.map.v1.Map/Put";
const GET: &str = "/atomix.protocols.rsm.map.v1.Map/Get";

#[derive(Clone, PartialEq, Message)]
struct PutResponse {
    #[prost(message, optional, tag = "1")]
    headers: Option<rsm::ProposalResponseHeaders>,
}

#[derive(Clone, PartialEq, Message)]
struct GetResponse {
    #[prost(message, optional, tag = "1")]
    headers: Option<rsm::QueryResponseHeaders>,
    #[prost(message, optional, tag = "2")]
    output: Option<map::GetOutput>,
}

pub struct Map(Grpc<Channel>);

impl Map {
    pub fn new(channel: Channel) -> Self {
        Self(Grpc::new(channel))
    }

    pub async fn put(&mut self, request: map::PutRequest) -> anyhow::Result<()> {
        let answer: PutResponse = self.call(PUT, request).await?;
        check(answer.headers.and_then(|headers| headers.operation))
    }

    pub async fn get(
        &mut self,
        request: map::GetRequest,
    ) -> anyhow::Result<Option<map::GetOutput>> {
        let answer: GetResponse = self.call(GET, request).await?;
        check(answer.headers.and_then(|headers| headers.operation))?;
        Ok(answer.output)
    }

    async fn call<Q, R>(&mut self, path: &'static str, request: Q) -> anyhow::Result<R>
    where
        Q: Message + 'static,
        R: Message + Default + 'static,
    {
        self.0.ready().await.context("connection")?;
        let path = PathAndQuery::from_static(path);
        let codec = ProstCodec::<Q, R>::default();
        Ok(self.0.unary(tonic::Request::new(request), path, codec).await?.into_inner())
    }
}

fn check(headers: Option<rsm::CallResponseHeaders>) -> anyhow::Result<()> {
    let headers = headers.context("an answer without headers")?;
    match headers.status() {
        rsm::call_response_headers::Status::Ok => Ok(()),
        status => bail!("{}: {}", status.as_str_name(), headers.message),
    }
}
