//! Nodes in one process: real sockets, real logs, no gRPC.
#![allow(clippy::unwrap_used, dead_code)]

use bytes::Bytes;
use multiraft_host::{CallError, Consistency, GroupSpec, Handle, Member, Node, Options, Role};
use multiraft_machine::{Body, Output, Query};
use multiraft_proto::atomix::multiraft::counter::v1 as counter;
use multiraft_proto::rpc;
use multiraft_proto::v1::{self, partition_input::Payload, session_input};
use prost::Message as _;
use std::path::Path;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub struct Running {
    pub handle: Handle,
    pub node_id: u64,
    pub port: u16,
    stop: oneshot::Sender<()>,
    run: JoinHandle<()>,
}

pub async fn start(dir: &Path, port: u16) -> Running {
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let options = Options {
        data_dir: dir.to_path_buf(),
        advertise_host: "127.0.0.1".into(),
        client_port: 1,
        peer_port: port,
        version: "test".into(),
        election_timeout: Duration::from_secs(1),
        heartbeat: Duration::from_millis(100),
        // Little enough for a test to fill.
        snapshot_log_bytes: 16 << 10,
        tls: multiraft_tls::Tls::disabled(),
    };
    let node = Node::start(options, listener).await.unwrap();
    let handle = node.handle();
    let node_id = handle.info().await.unwrap().node_id;
    let (stop, stopped) = oneshot::channel::<()>();
    let run = tokio::task::spawn(async move {
        node.run_until(async { drop(stopped.await) }).await.unwrap();
    });
    Running { handle, node_id, port, stop, run }
}

impl Running {
    pub async fn stop(self) -> u16 {
        self.stop.send(()).unwrap();
        self.run.await.unwrap();
        self.port
    }
}

pub fn spec(group: u32, nodes: &[&Running], own: &Running) -> GroupSpec {
    let members: Vec<Member> = nodes
        .iter()
        .enumerate()
        .map(|(i, n)| Member {
            member_id: i as u64 + 1,
            node_id: n.node_id,
            host: "127.0.0.1".into(),
            port: n.port,
            role: Role::Voter,
        })
        .collect();
    let own = members.iter().find(|m| m.node_id == own.node_id).unwrap().member_id;
    GroupSpec { group, member_id: own, members }
}

pub async fn command(handle: &Handle, group: u32, payload: Payload) -> Output {
    let input = Bytes::from(v1::PartitionInput { payload: Some(payload) }.encode_to_vec());
    for _ in 0..100 {
        match handle.command(group, input.clone(), None).await {
            Ok(answer) => return answer.result.unwrap(),
            Err(CallError::Unavailable(_) | CallError::UnknownGroup(_)) => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(e) => panic!("{e}"),
        }
    }
    panic!("no answer")
}

fn session_command(session_id: u64, sequence_num: u64, payload: session_input::Payload) -> Payload {
    Payload::SessionInput(v1::SessionInput { session_id, sequence_num, payload: Some(payload) })
}

pub struct Client {
    pub session_id: u64,
    pub primitive_id: u64,
    pub sequence: u64,
    group: u32,
}

impl Client {
    pub async fn open(handle: &Handle, group: u32) -> Client {
        let opened =
            command(handle, group, Payload::OpenSession(v1::OpenSessionInput::default())).await;
        let Output::SessionOpened { session_id } = opened else { panic!("{opened:?}") };
        let create = v1::CreateServiceInput {
            service: rpc::counter::TYPE.into(),
            namespace: String::new(),
            name: "c".into(),
        };
        let payload = session_input::Payload::CreateService(create);
        let created = command(handle, group, session_command(session_id, 1, payload)).await;
        let Output::Operation { body: Body::PrimitiveCreated { primitive_id }, .. } = created
        else {
            panic!("{created:?}")
        };
        Client { session_id, primitive_id, sequence: 1, group }
    }

    pub async fn increment(&mut self, handle: &Handle) -> i64 {
        self.sequence += 1;
        self.repeat(handle).await
    }

    /// Sends the last command again.
    pub async fn repeat(&self, handle: &Handle) -> i64 {
        let input = v1::ServiceInput {
            service_id: self.primitive_id,
            operation: rpc::counter::INCREMENT,
            payload: counter::IncrementInput { delta: 1 }.encode_to_vec().into(),
        };
        let payload = session_input::Payload::ServiceInput(input);
        let payload = session_command(self.session_id, self.sequence, payload);
        match command(handle, self.group, payload).await {
            Output::Operation { body: Body::Payload(bytes), .. } => {
                counter::IncrementOutput::decode(bytes).unwrap().value
            }
            other => panic!("{other:?}"),
        }
    }

    pub async fn get(&self, handle: &Handle) -> i64 {
        let query = Query {
            session_id: self.session_id,
            primitive_id: self.primitive_id,
            operation: rpc::counter::GET,
            input: Bytes::new(),
            sequence_num: 0,
        };
        let answer = handle.query(self.group, query, 0, Consistency::Linearizable).await.unwrap();
        match answer.result.unwrap() {
            Output::Operation { body: Body::Payload(bytes), .. } => {
                counter::GetOutput::decode(bytes).unwrap().value
            }
            other => panic!("{other:?}"),
        }
    }
}

pub async fn bootstrap(nodes: &[&Running], groups: u32) {
    for node in nodes {
        let specs = (1..=groups).map(|g| spec(g, nodes, node)).collect();
        node.handle.bootstrap(specs, None).await.unwrap();
    }
}

pub fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(100), test).await.expect("test hangs");
    });
}

pub async fn wait(handle: &Handle, done: impl Fn(&v1::GroupState) -> bool) {
    for _ in 0..100 {
        let info = handle.info().await.unwrap();
        if info.groups.first().is_some_and(&done) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{:#?}", handle.info().await);
}
