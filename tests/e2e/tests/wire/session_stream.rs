//! The session stream, as a client of one's own would use it.

use std::collections::BTreeMap;
use std::time::Duration;

use multiraft_proto::v1::partition_input::Payload;
use multiraft_proto::v1::session_input::Payload as InSession;
use multiraft_proto::v1::session_stream_client::SessionStreamClient;
use multiraft_proto::v1::stream_call::Call;
use multiraft_proto::{counter, lock, map, rpc, v1};
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use crate::nodes::Nodes;
use crate::session::connect;

const PATIENCE: Duration = Duration::from_secs(30);

/// One stream of calls to partition 1.
struct Client {
    calls: mpsc::Sender<v1::OpenStreamRequest>,
    answers: Streaming<v1::OpenStreamResponse>,
    /// Answers that nobody asked for yet.
    early: BTreeMap<u64, Vec<v1::StreamAnswer>>,
    window: u32,
    leader: String,
}

impl Client {
    async fn open(node: &Channel) -> Self {
        let (calls, requests) = mpsc::channel(64);
        let mut stream = SessionStreamClient::new(node.clone());
        let opened = stream.open_stream(ReceiverStream::new(requests)).await;
        let answers = opened.expect("a stream").into_inner();
        let (early, window, leader) = Default::default();
        Self { calls, answers, early, window, leader }
    }

    async fn send(&self, calls: Vec<(u64, Call)>) {
        let call = |(call_id, call)| v1::StreamCall { call_id, partition_id: 1, call: Some(call) };
        let calls = calls.into_iter().map(call).collect();
        self.calls.send(v1::OpenStreamRequest { calls }).await.expect("the stream stands");
    }

    /// The next message of the node.
    async fn hear(&mut self) -> Result<(), Status> {
        let next =
            tokio::time::timeout(PATIENCE, self.answers.message()).await.expect("in time")?;
        let next = next.expect("the stream goes on");
        self.window = self.window.max(next.window);
        for leader in next.leaders {
            assert_eq!(leader.partition_id, 1);
            self.leader = leader.address;
        }
        for answer in next.answers {
            self.early.entry(answer.call_id).or_default().push(answer);
        }
        Ok(())
    }

    /// The next answer to a call.
    async fn answer(&mut self, call_id: u64) -> v1::StreamAnswer {
        loop {
            if let Some(answers) = self.early.get_mut(&call_id).filter(|a| !a.is_empty()) {
                return answers.remove(0);
            }
            self.hear().await.expect("the stream stands");
        }
    }

    async fn ask(&mut self, call_id: u64, call: Call) -> v1::StreamAnswer {
        self.send(vec![(call_id, call)]).await;
        self.answer(call_id).await
    }

    async fn session(&mut self, call_id: u64) -> u64 {
        let timeout = Some(prost_types::Duration { seconds: 60, nanos: 0 });
        let open = Payload::OpenSession(v1::OpenSessionInput { timeout });
        let opened = self.ask(call_id, command(open)).await;
        assert!(opened.last && opened.session_id > 0, "{opened:?}");
        opened.session_id
    }

    async fn primitive(&mut self, call_id: u64, session_id: u64, number: u64, kind: &str) -> u64 {
        let create = v1::CreateServiceInput {
            service: kind.into(),
            namespace: String::new(),
            name: kind.into(),
        };
        let create = in_session(session_id, number, InSession::CreateService(create));
        let created = self.ask(call_id, create).await;
        assert!(created.status() == v1::operation_response_headers::Status::Ok, "{created:?}");
        created.primitive_id
    }
}

fn command(payload: Payload) -> Call {
    Call::Command(v1::PartitionInput { payload: Some(payload) })
}

fn in_session(session_id: u64, sequence_num: u64, payload: InSession) -> Call {
    let payload = Some(payload);
    command(Payload::SessionInput(v1::SessionInput { session_id, sequence_num, payload }))
}

fn operate(
    (session_id, service_id): (u64, u64),
    number: u64,
    operation: u32,
    input: &impl Message,
) -> Call {
    let payload = input.encode_to_vec().into();
    let input = v1::ServiceInput { service_id, operation, payload };
    in_session(session_id, number, InSession::ServiceInput(input))
}

fn query((session_id, primitive_id): (u64, u64), operation: u32, input: &impl Message) -> Call {
    let input = input.encode_to_vec().into();
    Call::Query(v1::StreamQuery {
        session_id,
        primitive_id,
        operation,
        input,
        ..Default::default()
    })
}

fn output<M: Message + Default>(answer: v1::StreamAnswer) -> M {
    M::decode(answer.output.unwrap_or_else(|| panic!("no output"))).expect("an output decodes")
}

async fn three() -> (Nodes, Vec<Channel>) {
    let nodes = Nodes::start(3);
    nodes.form(1, 3);
    let mut channels = Vec::new();
    for node in &nodes.nodes {
        channels.push(connect(node).await);
    }
    (nodes, channels)
}

#[tokio::test]
async fn a_stream_carries_everything_that_sessions_do() {
    let (nodes, channels) = three().await;
    let mut client = Client::open(&channels[0]).await;
    let session = client.session(1).await;
    let map = (session, client.primitive(2, session, 1, rpc::map::TYPE).await);
    client.send(vec![(3, operate(map, 2, rpc::map::EVENTS, &map::EventsInput::default()))]).await;
    let listens = client.answer(3).await;
    assert!(!listens.last && listens.output_sequence_num == 1, "{listens:?}");

    // Commands in one message, in their order.
    let put = |number: u64| map::PutInput {
        key: format!("{number:03}"),
        value: number.to_be_bytes().to_vec().into(),
        ..Default::default()
    };
    let puts = (10..110).map(|n| (n, operate(map, n, rpc::map::PUT, &put(n)))).collect();
    client.send(puts).await;
    let mut indexes = Vec::new();
    for number in 10..110 {
        let put = client.answer(number).await;
        assert!(put.last && put.code == 0, "{put:?}");
        indexes.push(put.index);
    }
    assert!(indexes.is_sorted(), "{indexes:?}");
    for (place, number) in (10..110).enumerate() {
        let event = client.answer(3).await;
        assert_eq!(event.output_sequence_num, place as u64 + 2);
        let event: map::EventsOutput = output(event);
        assert_eq!(event.event.expect("one").key, format!("{number:03}"));
    }

    let get = query(map, rpc::map::GET, &map::GetInput { key: "042".into() });
    let got: map::GetOutput = output(client.ask(200, get).await);
    assert_eq!(got.value.expect("a value").value, 42u64.to_be_bytes().to_vec());
    let missing = query(map, rpc::map::GET, &map::GetInput { key: "none".into() });
    let missing = client.ask(201, missing).await;
    assert_eq!(missing.status(), v1::operation_response_headers::Status::NotFound);
    assert!(missing.last && missing.output.is_none() && !missing.message.is_empty());

    // A list is as many answers, and one behind them.
    let entries = query(map, rpc::map::ENTRIES, &map::EntriesInput::default());
    client.send(vec![(202, entries)]).await;
    for _ in 0..100 {
        let entry = client.answer(202).await;
        assert!(!entry.last && entry.output.is_some(), "{entry:?}");
    }
    let end = client.answer(202).await;
    assert!(end.last && end.output.is_none(), "{end:?}");

    let keep = v1::KeepAliveInput {
        session_id: session,
        last_command_sequence_num: 110,
        exact: true,
        open_sequence_nums: vec![2],
        output_stream_sequence_nums: [(2, 101)].into(),
        ..Default::default()
    };
    assert_eq!(client.ask(203, command(Payload::KeepAlive(keep))).await.code, 0);
    assert!(client.window > 0);
    let leader = nodes.wait_for_leader(1);
    let leader = nodes.nodes.iter().find(|node| node.id == leader).expect("one of them");
    while client.leader != leader.address {
        client.hear().await.expect("who leads is said");
    }
    let close = v1::CloseSessionInput { session_id: session };
    assert_eq!(client.ask(204, command(Payload::CloseSession(close))).await.code, 0);
    let end = client.answer(3).await;
    assert!(end.last && end.code == Code::Cancelled as u32, "{end:?}");
}

#[tokio::test]
async fn a_bad_call_is_answered_and_the_others_go_on() {
    let (_nodes, channels) = three().await;
    let mut client = Client::open(&channels[1]).await;
    let session = client.session(1).await;
    let lock = (session, client.primitive(2, session, 1, rpc::lock::TYPE).await);
    let acquire =
        |number| operate(lock, number, rpc::lock::ACQUIRE, &lock::AcquireInput::default());
    let get = || query(lock, rpc::lock::GET, &lock::GetInput {});
    assert_eq!(client.ask(3, acquire(2)).await.code, 0);
    // It waits: the id stays in use until the call is given up.
    client.send(vec![(4, acquire(3))]).await;
    for (id, call, code) in [
        (4, get(), Code::AlreadyExists),
        (5, acquire(0), Code::InvalidArgument),
        (6, operate(lock, 9, rpc::lock::GET, &lock::GetInput {}), Code::InvalidArgument),
        (7, operate(lock, 9, 1 << 30, &lock::GetInput {}), Code::InvalidArgument),
        (
            8,
            query(lock, rpc::lock::ACQUIRE, &lock::AcquireInput { ..Default::default() }),
            Code::InvalidArgument,
        ),
        (9, query((0, 1), rpc::lock::GET, &lock::GetInput {}), Code::InvalidArgument),
        (10, query((1 << 40, 1), rpc::lock::GET, &lock::GetInput {}), Code::DataLoss),
        (11, Call::Command(v1::PartitionInput::default()), Code::InvalidArgument),
        (12, command(Payload::KeepAlive(v1::KeepAliveInput::default())), Code::InvalidArgument),
    ] {
        let answer = client.ask(id, call).await;
        assert_eq!((answer.code, answer.last), (code as u32, true), "call {id}: {answer:?}");
        assert!(!answer.message.is_empty(), "call {id}");
    }
    client.send(vec![(4, Call::Cancel(v1::StreamCancel {}))]).await;
    let held: lock::GetOutput = output(client.ask(4, get()).await);
    assert!(held.index > 0);
    assert_eq!(
        client.ask(13, operate(lock, 4, rpc::lock::RELEASE, &lock::ReleaseInput {})).await.code,
        0
    );
    // Nobody got it who had given up.
    let free = client.ask(14, get()).await;
    assert_eq!(free.status(), v1::operation_response_headers::Status::NotFound, "{free:?}");
}

#[tokio::test]
async fn what_was_not_answered_is_asked_again_elsewhere_and_happens_once() {
    let (mut nodes, channels) = three().await;
    let mut first = Client::open(&channels[0]).await;
    let session = first.session(1).await;
    let counter = (session, first.primitive(2, session, 1, rpc::counter::TYPE).await);
    let increment =
        |n| operate(counter, n, rpc::counter::INCREMENT, &counter::IncrementInput { delta: 1 });
    first.send((2..202).map(|n| (n, increment(n))).collect()).await;
    first.answer(2).await;
    nodes.kill(0);
    drop(first);
    let mut second = Client::open(&channels[1]).await;
    second.send((2..202).map(|n| (n, increment(n))).collect()).await;
    for number in 2..202 {
        let incremented: counter::IncrementOutput = output(second.answer(number).await);
        assert_eq!(incremented.value, number as i64 - 1, "command {number}");
    }
    let got: counter::GetOutput =
        output(second.ask(300, query(counter, rpc::counter::GET, &counter::GetInput {})).await);
    assert_eq!(got.value, 200);
}
