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
use multiraft_proto::rpc::{self, RPCS};
use multiraft_proto::v1::operation_response_headers::Status as Outcome;
use multiraft_proto::v1::partition_input::Payload;
use multiraft_proto::v1::session_input::Payload as InSession;
use multiraft_proto::v1::session_stream_server::{SessionStream, SessionStreamServer};
use multiraft_proto::v1::stream_call::Call;
use multiraft_proto::{counter, lock, set, v1};
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::body::Body;
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::{Code, Request, Response, Status, Streaming, async_trait};

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
    /// The same of streams that stay open; taken when there are none of the others.
    #[allow(dead_code, reason = "each test program uses its part")]
    pub open_streams: VecDeque<Vec<u64>>,
    /// Sequence number of every stream as it was opened.
    pub opened: Vec<u64>,
    /// Sequence number and path of every call of the lock as it arrived.
    pub lock_calls: Vec<(u64, String)>,
    /// Sequence number of every command that was taken back.
    pub canceled: Vec<u64>,
    /// Calls that it takes at once; 0 = 4,096.
    pub window: u32,
    /// Who it says leads the partition.
    pub leader: String,
    /// The most that came in one message.
    pub most_calls: usize,
    /// Session streams that were opened.
    pub session_streams: usize,
    /// Those that the client ended.
    pub ended: usize,
    /// It knows no session streams.
    pub is_old: bool,
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
            .add_service(SessionStreamServer::new(self.clone()))
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

type Answers = mpsc::UnboundedSender<Result<v1::OpenStreamResponse, Status>>;

#[async_trait]
impl SessionStream for Fake {
    type OpenStreamStream = BoxStream<'static, Result<v1::OpenStreamResponse, Status>>;

    async fn open_stream(
        &self,
        request: Request<Streaming<v1::OpenStreamRequest>>,
    ) -> Result<Response<Self::OpenStreamStream>, Status> {
        let (answers, come) = mpsc::unbounded_channel();
        let mut state = self.state();
        if state.is_old {
            return Err(Status::unimplemented("unknown service"));
        }
        state.session_streams += 1;
        let window = if state.window == 0 { 4096 } else { state.window };
        let leaders = vec![v1::StreamLeader { partition_id: 1, address: state.leader.clone() }];
        let first = v1::OpenStreamResponse { window, leaders, ..Default::default() };
        answers.send(Ok(first)).expect("it is received below");
        tokio::spawn(self.clone().serve(request.into_inner(), answers));
        Ok(Response::new(UnboundedReceiverStream::new(come).boxed()))
    }
}

impl Fake {
    async fn serve(self, mut requests: Streaming<v1::OpenStreamRequest>, answers: Answers) {
        // Number of each command by the id of its call.
        let mut numbers = BTreeMap::new();
        while let Ok(Some(request)) = requests.message().await {
            let mut state = self.state();
            state.most_calls = state.most_calls.max(request.calls.len());
            for v1::StreamCall { call_id, call, .. } in request.calls {
                let answer = match call.expect("a call") {
                    Call::Cancel(_) => {
                        state.canceled.extend(numbers.get(&call_id));
                        continue;
                    }
                    Call::Query(_) => Some(refused(Code::Unimplemented)),
                    Call::Command(input) => {
                        let payload = input.payload.expect("a payload");
                        if let Payload::SessionInput(input) = &payload {
                            numbers.insert(call_id, input.sequence_num);
                        }
                        state.command(payload, call_id, &answers)
                    }
                };
                if let Some(answer) = answer {
                    send(&answers, v1::StreamAnswer { call_id, ..answer });
                }
            }
        }
        self.state().ended += 1;
    }
}

fn send(answers: &Answers, answer: v1::StreamAnswer) {
    let message = v1::OpenStreamResponse { answers: vec![answer], ..Default::default() };
    // Fails when the client is gone.
    let _ = answers.send(Ok(message));
}

fn refused(code: Code) -> v1::StreamAnswer {
    let message = "as the test wants".into();
    v1::StreamAnswer { last: true, code: code as u32, message, ..Default::default() }
}

fn answered(index: u64, output: &impl Message) -> v1::StreamAnswer {
    v1::StreamAnswer {
        index,
        last: true,
        output_sequence_num: 1,
        status: Outcome::Ok.into(),
        output: Some(output.encode_to_vec().into()),
        ..Default::default()
    }
}

impl State {
    /// `None`: it is not answered here.
    fn command(
        &mut self,
        payload: Payload,
        call_id: u64,
        answers: &Answers,
    ) -> Option<v1::StreamAnswer> {
        let ok = v1::StreamAnswer { last: true, ..Default::default() };
        match payload {
            Payload::OpenSession(_) => {
                self.index += 1;
                Some(v1::StreamAnswer { session_id: self.index, ..ok })
            }
            Payload::KeepAlive(input) if self.lost.contains(&input.session_id) => {
                Some(refused(Code::DataLoss))
            }
            Payload::KeepAlive(input) => {
                self.keep_alives.push(input);
                Some(ok)
            }
            Payload::CloseSession(input) => {
                self.closed.push(input.session_id);
                Some(ok)
            }
            Payload::SessionInput(input) => {
                let key = (input.session_id, input.sequence_num);
                match input.payload.expect("a command") {
                    InSession::ServiceInput(input) => self.operation(key, input, call_id, answers),
                    _ => {
                        Some(v1::StreamAnswer { primitive_id: 7, status: Outcome::Ok.into(), ..ok })
                    }
                }
            }
            other => panic!("no client sends {other:?}"),
        }
    }

    fn operation(
        &mut self,
        key: (u64, u64),
        input: v1::ServiceInput,
        call_id: u64,
        answers: &Answers,
    ) -> Option<v1::StreamAnswer> {
        match input.operation {
            rpc::counter::INCREMENT => {
                let input = counter::IncrementInput::decode(input.payload).expect("an input");
                Some(self.increment(key, &input))
            }
            rpc::lock::ACQUIRE | rpc::lock::RELEASE => self.lock(key.1, input.operation),
            rpc::set::EVENTS => {
                self.opened.push(key.1);
                self.events(call_id, answers);
                None
            }
            other => panic!("operation {other} is not served"),
        }
    }

    fn increment(&mut self, key: (u64, u64), input: &counter::IncrementInput) -> v1::StreamAnswer {
        self.arrived.push(key);
        if self.lost.contains(&key.0) {
            return refused(Code::DataLoss);
        }
        let failure = self.failures.pop_front();
        if let Some(code) = failure.filter(|code| *code != Code::Ok) {
            return refused(code);
        }
        if !self.answers.contains_key(&key) {
            self.index += 1;
            self.value += input.delta;
            let answer = (self.index, self.value);
            self.answers.insert(key, answer);
        }
        if failure.is_some() {
            return refused(Code::Unavailable);
        }
        let (index, value) = self.answers[&key];
        answered(index, &counter::IncrementOutput { value })
    }

    /// Acquire and Release: both answers have no more than an index, which Release has not and nobody
    /// reads there.
    fn lock(&mut self, number: u64, operation: u32) -> Option<v1::StreamAnswer> {
        let rpc = RPCS.iter().find(|rpc| rpc.operation == operation).expect("it is in the table");
        self.lock_calls.push((number, rpc.path.into()));
        let answer = self.lock_answers.pop_front();
        self.index += 1;
        let index = self.index;
        match answer {
            Some(code) => code.map(refused),
            None => Some(answered(index, &lock::AcquireOutput { index })),
        }
    }

    /// Output n says that the element n was added.
    fn events(&mut self, call_id: u64, answers: &Answers) {
        let (numbers, end) = match self.streams.pop_front() {
            Some((numbers, end)) => (numbers, Some(end)),
            None => (self.open_streams.pop_front().unwrap_or_default(), None),
        };
        for n in numbers {
            send(answers, v1::StreamAnswer { call_id, ..set_event(n) });
        }
        if let Some(end) = end {
            send(answers, v1::StreamAnswer { call_id, ..refused(end) });
        }
    }
}

fn set_event(n: u64) -> v1::StreamAnswer {
    let element = Some(set::Element { value: n.to_string() });
    let added = set::event::Event::Added(set::event::Added { element });
    // The first says that the subscription has begun.
    let event = set::Event { event: (n > 1).then_some(added) };
    let output = set::EventsOutput { event: Some(event) };
    v1::StreamAnswer { last: false, output_sequence_num: n, ..answered(n, &output) }
}

#[derive(Clone)]
struct NodeServer(Fake);

impl NamedService for NodeServer {
    const NAME: &'static str = "atomix.multiraft.v1.Node";
}

impl tonic::codegen::Service<http::Request<Body>> for NodeServer {
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
