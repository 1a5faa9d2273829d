//! A node with one partition, one counter, one lock and the events of a set,
//! in memory, that fails on demand. For tests of the
//! client's own logic only: it keeps no log and knows no peers.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use multiraft_proto::{counter, lock, set, v1};
use tonic::body::Body;
use tonic::server::{Grpc, NamedService, ServerStreamingService, UnaryService};
use tonic::{Code, Request, Response, Status, async_trait};

/// What happened at the node, and what shall happen next.
#[derive(Default)]
pub struct State {
    /// The next calls of the counter fail so. `Code::Ok` = apply the command and lose the answer.
    pub failures: VecDeque<Code>,
    /// Keep-alives and commands of these sessions end with DATA_LOSS.
    pub lost: Vec<u64>,
    /// Session and sequence number of every command as it arrived.
    pub arrived: Vec<(u64, u64)>,
    pub keep_alives: Vec<v1::KeepAliveInput>,
    pub closed: Vec<u64>,
    /// The next calls of the lock end so, whether they acquire or release it; after them they are
    /// granted. `None`: the call is not answered.
    pub lock_answers: VecDeque<Option<Code>>,
    /// What the next streams of events bring: the numbers of their outputs, and how they end. After
    /// them streams stay open.
    pub streams: VecDeque<(Vec<u64>, Code)>,
    /// Sequence number of every stream as it was opened.
    pub opened: Vec<u64>,
    /// Sequence number and path of every call of the lock as it arrived.
    pub lock_calls: Vec<(u64, String)>,
    index: u64,
    value: i64,
    answers: BTreeMap<(u64, u64), (u64, i64)>,
}

#[derive(Clone, Default)]
pub struct Fake(pub Arc<Mutex<State>>);

impl Fake {
    /// Serves on a free port of loopback.
    pub async fn start(&self) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        let server = tonic::transport::Server::builder()
            .add_service(NodeServer(self.clone()))
            .add_service(v1::partition_server::PartitionServer::new(self.clone()))
            .add_service(v1::session_server::SessionServer::new(self.clone()))
            .add_service(CounterServer(self.clone()))
            .add_service(LockServer(self.clone()))
            .add_service(SetServer(self.clone()))
            .serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener));
        tokio::spawn(server);
        address
    }

    /// The session that was opened first.
    #[allow(dead_code, reason = "each test program uses its part")]
    pub fn session(&self) -> u64 {
        1
    }

    pub fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().expect("no test panics while it holds the state")
    }
}

fn answered(index: u64) -> v1::OperationResponseHeaders {
    let partition = v1::PartitionResponseHeaders { index };
    let session = v1::SessionResponseHeaders { partition: Some(partition) };
    let primitive = v1::PrimitiveResponseHeaders { session: Some(session) };
    v1::OperationResponseHeaders {
        session: Some(primitive),
        status: v1::operation_response_headers::Status::Ok.into(),
        message: String::new(),
    }
}

fn caller(headers: &v1::CommandRequestHeaders) -> (u64, u64) {
    let operation = headers.operation.expect("operation headers");
    let session = operation.session.and_then(|primitive| primitive.session).expect("session");
    (session.session_id, headers.sequence_num)
}

#[async_trait]
impl v1::partition_server::Partition for Fake {
    async fn open_session(
        &self,
        _: Request<v1::OpenSessionRequest>,
    ) -> Result<Response<v1::OpenSessionResponse>, Status> {
        let mut state = self.state();
        state.index += 1;
        let output = v1::OpenSessionOutput { session_id: state.index };
        Ok(Response::new(v1::OpenSessionResponse { headers: None, output: Some(output) }))
    }

    async fn keep_alive(
        &self,
        request: Request<v1::KeepAliveRequest>,
    ) -> Result<Response<v1::KeepAliveResponse>, Status> {
        let input = request.into_inner().input.expect("input");
        let mut state = self.state();
        if state.lost.contains(&input.session_id) {
            return Err(Status::data_loss("session unknown"));
        }
        state.keep_alives.push(input);
        Ok(Response::new(v1::KeepAliveResponse::default()))
    }

    async fn close_session(
        &self,
        request: Request<v1::CloseSessionRequest>,
    ) -> Result<Response<v1::CloseSessionResponse>, Status> {
        let input = request.into_inner().input.expect("input");
        self.state().closed.push(input.session_id);
        Ok(Response::new(v1::CloseSessionResponse::default()))
    }

    type WatchStream = tokio_stream::Empty<Result<v1::PartitionEvent, Status>>;

    async fn watch(
        &self,
        _: Request<v1::WatchPartitionRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        Ok(Response::new(tokio_stream::empty()))
    }
}

#[async_trait]
impl v1::session_server::Session for Fake {
    async fn create_primitive(
        &self,
        _: Request<v1::CreatePrimitiveRequest>,
    ) -> Result<Response<v1::CreatePrimitiveResponse>, Status> {
        let operation = Some(answered(self.state().index));
        let headers = v1::CommandResponseHeaders { operation, output_sequence_num: 1 };
        let output = v1::CreatePrimitiveOutput { primitive_id: 7 };
        Ok(Response::new(v1::CreatePrimitiveResponse {
            headers: Some(headers),
            output: Some(output),
        }))
    }

    async fn close_primitive(
        &self,
        _: Request<v1::ClosePrimitiveRequest>,
    ) -> Result<Response<v1::ClosePrimitiveResponse>, Status> {
        Err(Status::unimplemented("not used"))
    }
}

/// One unary call under the name of its service: what the tests need of services that have no
/// generated server, or one with many calls.
macro_rules! one_call {
    ($server:ident, $name:literal) => {
        #[derive(Clone)]
        struct $server(Fake);

        impl NamedService for $server {
            const NAME: &'static str = $name;
        }

        impl tonic::codegen::Service<http::Request<Body>> for $server {
            type Response = http::Response<Body>;
            type Error = Infallible;
            type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

            fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
                Poll::Ready(Ok(()))
            }

            fn call(&mut self, request: http::Request<Body>) -> Self::Future {
                let service = self.clone();
                let codec = tonic_prost::ProstCodec::default();
                Box::pin(async move { Ok(Grpc::new(codec).unary(service, request).await) })
            }
        }
    };
}

one_call!(CounterServer, "atomix.multiraft.counter.v1.Counter");
one_call!(NodeServer, "atomix.multiraft.v1.Node");

impl UnaryService<v1::GetInfoRequest> for NodeServer {
    type Response = v1::GetInfoResponse;
    type Future = BoxFuture<'static, Result<Response<Self::Response>, Status>>;

    fn call(&mut self, _: Request<v1::GetInfoRequest>) -> Self::Future {
        let member = v1::MemberConfig { node_id: 1, ..Default::default() };
        let group = v1::GroupState {
            group_id: 1,
            index: self.0.state().index,
            members: vec![member; 3],
            ..Default::default()
        };
        let info = v1::GetInfoResponse {
            node_id: 1,
            activated: true,
            groups: vec![group],
            ..Default::default()
        };
        Box::pin(async move { Ok(Response::new(info)) })
    }
}

impl UnaryService<counter::IncrementRequest> for CounterServer {
    type Response = counter::IncrementResponse;
    type Future = BoxFuture<'static, Result<Response<Self::Response>, Status>>;

    fn call(&mut self, request: Request<counter::IncrementRequest>) -> Self::Future {
        let fake = self.0.clone();
        Box::pin(async move { fake.increment(request.into_inner()) })
    }
}

impl Fake {
    fn increment(
        &self,
        request: counter::IncrementRequest,
    ) -> Result<Response<counter::IncrementResponse>, Status> {
        let key = caller(&request.headers.expect("headers"));
        let mut state = self.state();
        state.arrived.push(key);
        if state.lost.contains(&key.0) {
            return Err(Status::data_loss("session unknown"));
        }
        let failure = state.failures.pop_front();
        if let Some(code) = failure.filter(|code| *code != Code::Ok) {
            return Err(Status::new(code, "as the test wants"));
        }
        if !state.answers.contains_key(&key) {
            state.index += 1;
            state.value += request.input.map_or(0, |input| input.delta);
            let answer = (state.index, state.value);
            state.answers.insert(key, answer);
        }
        if failure.is_some() {
            return Err(Status::unavailable("the answer was lost"));
        }
        let (index, value) = state.answers[&key];
        Ok(Response::new(counter::IncrementResponse {
            headers: Some(v1::CommandResponseHeaders {
                operation: Some(answered(index)),
                output_sequence_num: 1,
            }),
            output: Some(counter::IncrementOutput { value }),
        }))
    }
}

/// Acquire and Release: both answers have no more than an index, which Release has not and nobody
/// reads there.
#[derive(Clone)]
struct LockServer(Fake);

impl NamedService for LockServer {
    const NAME: &'static str = "atomix.multiraft.lock.v1.Lock";
}

impl tonic::codegen::Service<http::Request<Body>> for LockServer {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let path = request.uri().path().to_owned();
        let service = LockCall { fake: self.0.clone(), path };
        let codec = tonic_prost::ProstCodec::default();
        Box::pin(async move { Ok(Grpc::new(codec).unary(service, request).await) })
    }
}

struct LockCall {
    fake: Fake,
    path: String,
}

impl UnaryService<lock::AcquireRequest> for LockCall {
    type Response = lock::AcquireResponse;
    type Future = BoxFuture<'static, Result<Response<Self::Response>, Status>>;

    fn call(&mut self, request: Request<lock::AcquireRequest>) -> Self::Future {
        let (_, number) = caller(&request.into_inner().headers.expect("headers"));
        let mut state = self.fake.state();
        state.lock_calls.push((number, self.path.clone()));
        let answer = state.lock_answers.pop_front();
        state.index += 1;
        let index = state.index;
        Box::pin(async move {
            match answer {
                Some(None) => std::future::pending().await,
                Some(Some(code)) => Err(Status::new(code, "as the test wants")),
                None => Ok(Response::new(lock::AcquireResponse {
                    headers: Some(v1::CommandResponseHeaders {
                        operation: Some(answered(index)),
                        output_sequence_num: 1,
                    }),
                    output: Some(lock::AcquireOutput { index }),
                })),
            }
        })
    }
}

/// Events only: output n says that the element n was added.
#[derive(Clone)]
struct SetServer(Fake);

impl NamedService for SetServer {
    const NAME: &'static str = "atomix.multiraft.set.v1.Set";
}

impl tonic::codegen::Service<http::Request<Body>> for SetServer {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let service = self.clone();
        let codec = tonic_prost::ProstCodec::default();
        Box::pin(async move { Ok(Grpc::new(codec).server_streaming(service, request).await) })
    }
}

impl ServerStreamingService<set::EventsRequest> for SetServer {
    type Response = set::EventsResponse;
    type ResponseStream = BoxStream<'static, Result<Self::Response, Status>>;
    type Future = BoxFuture<'static, Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<set::EventsRequest>) -> Self::Future {
        let (_, number) = caller(&request.into_inner().headers.expect("headers"));
        let mut state = self.0.state();
        state.opened.push(number);
        let script = state.streams.pop_front();
        let (numbers, end) = script.map_or((vec![], None), |(numbers, end)| (numbers, Some(end)));
        let outputs = futures::stream::iter(numbers).map(|n| Ok(set_event(n)));
        let end = futures::stream::once(async move {
            match end {
                Some(code) => Err(Status::new(code, "as the test wants")),
                None => std::future::pending().await,
            }
        });
        Box::pin(async move { Ok(Response::new(outputs.chain(end).boxed())) })
    }
}

fn set_event(n: u64) -> set::EventsResponse {
    let element = Some(set::Element { value: n.to_string() });
    let added = set::event::Event::Added(set::event::Added { element });
    // The first says that the subscription has begun.
    let event = set::Event { event: (n > 1).then_some(added) };
    let headers =
        v1::CommandResponseHeaders { operation: Some(answered(n)), output_sequence_num: n };
    set::EventsResponse {
        headers: Some(headers),
        output: Some(set::EventsOutput { event: Some(event) }),
    }
}
