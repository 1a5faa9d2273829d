//! Three and five nodes in one process: real sockets, real logs, no gRPC.
#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use multiraft_host::{CallError, Consistency, GroupSpec, Handle, Member, Node, Options, Role};
use multiraft_machine::{Body, Output, Query, Rejection};
use multiraft_proto::atomix::multiraft::counter::v1 as counter;
use multiraft_proto::rpc;
use multiraft_proto::v1::{self, partition_input::Payload, session_input};
use prost::Message as _;
use std::path::Path;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

struct Running {
    handle: Handle,
    node_id: u64,
    port: u16,
    stop: oneshot::Sender<()>,
    run: JoinHandle<()>,
}

async fn start(dir: &Path, port: u16) -> Running {
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
    async fn stop(self) -> u16 {
        self.stop.send(()).unwrap();
        self.run.await.unwrap();
        self.port
    }
}

fn spec(group: u32, nodes: &[&Running], own: &Running) -> GroupSpec {
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

async fn command(handle: &Handle, group: u32, payload: Payload) -> Output {
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

struct Client {
    session_id: u64,
    primitive_id: u64,
    sequence: u64,
    group: u32,
}

impl Client {
    async fn open(handle: &Handle, group: u32) -> Client {
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

    async fn increment(&mut self, handle: &Handle) -> i64 {
        self.sequence += 1;
        self.repeat(handle).await
    }

    /// Sends the last command again.
    async fn repeat(&self, handle: &Handle) -> i64 {
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

    async fn get(&self, handle: &Handle) -> i64 {
        let query = Query {
            session_id: self.session_id,
            primitive_id: self.primitive_id,
            operation: rpc::counter::GET,
            input: Bytes::new(),
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

async fn bootstrap(nodes: &[&Running], groups: u32) {
    for node in nodes {
        let specs = (1..=groups).map(|g| spec(g, nodes, node)).collect();
        node.handle.bootstrap(specs, None).await.unwrap();
    }
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(100), test).await.expect("test hangs");
    });
}

#[test]
fn commands_take_effect_once_through_any_node_and_survive_restarts() {
    run(async {
        let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
        let a = start(dirs[0].path(), 0).await;
        let b = start(dirs[1].path(), 0).await;
        let c = start(dirs[2].path(), 0).await;
        bootstrap(&[&a, &b, &c], 4).await;
        for group in 1..=4 {
            let mut client = Client::open(&a.handle, group).await;
            for (i, node) in [&a, &b, &c, &a, &b, &c].into_iter().enumerate() {
                assert_eq!(client.increment(&node.handle).await, i as i64 + 1);
                assert_eq!(client.repeat(&a.handle).await, i as i64 + 1, "repeated, not run again");
                assert_eq!(client.get(&c.handle).await, i as i64 + 1);
            }
        }
        let mut client = Client::open(&a.handle, 1).await;
        assert_eq!(client.increment(&a.handle).await, 7);
        let ports = [a.stop().await, b.stop().await, c.stop().await];
        let a = start(dirs[0].path(), ports[0]).await;
        let b = start(dirs[1].path(), ports[1]).await;
        let c = start(dirs[2].path(), ports[2]).await;
        assert_eq!(client.repeat(&b.handle).await, 7);
        assert_eq!(client.increment(&c.handle).await, 8);
        assert_eq!(client.get(&a.handle).await, 8);
        for node in [a, b, c] {
            node.stop().await;
        }
    });
}

#[test]
fn group_goes_on_when_its_leader_stops() {
    run(async {
        let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
        let mut nodes = Vec::new();
        for dir in &dirs {
            nodes.push(start(dir.path(), 0).await);
        }
        bootstrap(&nodes.iter().collect::<Vec<_>>(), 1).await;
        let mut client = Client::open(&nodes[0].handle, 1).await;
        assert_eq!(client.increment(&nodes[0].handle).await, 1);
        let leader = nodes[0].handle.info().await.unwrap().groups[0].leader;
        let at = nodes.iter().position(|n| n.node_id == leader).unwrap();
        nodes.remove(at).stop().await;
        assert_eq!(client.increment(&nodes[0].handle).await, 2);
        assert_eq!(client.get(&nodes[1].handle).await, 2);
        for node in nodes {
            node.stop().await;
        }
    });
}

#[test]
fn node_without_a_member_passes_calls_on() {
    run(async {
        let dirs: Vec<_> = (0..4).map(|_| tempfile::tempdir().unwrap()).collect();
        let mut nodes = Vec::new();
        for dir in &dirs {
            nodes.push(start(dir.path(), 0).await);
        }
        let (first, last) = ([&nodes[0], &nodes[1], &nodes[2]], [&nodes[1], &nodes[2], &nodes[3]]);
        for (group, members) in [(1, first), (2, last)] {
            for node in members {
                node.handle.bootstrap(vec![spec(group, &members, node)], None).await.unwrap();
            }
        }
        let mut client = Client::open(&nodes[3].handle, 1).await;
        assert_eq!(client.increment(&nodes[3].handle).await, 1);
        assert_eq!(client.repeat(&nodes[0].handle).await, 1);
        assert_eq!(client.get(&nodes[3].handle).await, 1);
        let unknown = nodes[0].handle.command(9, Bytes::new(), None).await;
        assert_eq!(unknown.unwrap_err(), CallError::UnknownGroup(9));
        for node in nodes {
            node.stop().await;
        }
    });
}

#[test]
fn member_joins_is_promoted_and_leaves() {
    run(async {
        let dirs: Vec<_> = (0..4).map(|_| tempfile::tempdir().unwrap()).collect();
        let mut nodes = Vec::new();
        for dir in &dirs {
            nodes.push(start(dir.path(), 0).await);
        }
        let three = [&nodes[0], &nodes[1], &nodes[2]];
        bootstrap(&three, 1).await;
        let mut client = Client::open(&nodes[0].handle, 1).await;
        for i in 1..=200 {
            assert_eq!(client.increment(&nodes[0].handle).await, i);
        }
        let mut join = spec(1, &[&nodes[0], &nodes[1], &nodes[2], &nodes[3]], &nodes[3]);
        join.members.retain(|m| m.member_id != 3);
        nodes[3].handle.join(join, true, None).await.unwrap();
        let voter = v1::MemberRole::Member as i32;
        wait(&nodes[3].handle, |g| g.role == voter && g.index > 200).await;
        let digest = nodes[3].handle.digest(1).await.unwrap();
        assert_eq!(nodes[0].handle.digest(1).await.unwrap(), digest);
        let leader = nodes[0].handle.info().await.unwrap().groups[0].leader;
        let at = nodes.iter().position(|n| n.node_id == leader).unwrap();
        nodes[at].handle.leave(1, None).await.unwrap();
        assert!(nodes[at].handle.info().await.unwrap().groups.is_empty());
        let other = (at + 1) % 4;
        assert_eq!(client.increment(&nodes[other].handle).await, 201);
        wait(&nodes[other].handle, |g| g.members.len() == 3).await;
        // The log that feeds it tells of its own removal, which meant an earlier member.
        let mut again = spec(1, &[&nodes[0], &nodes[1], &nodes[2], &nodes[3]], &nodes[at]);
        again.members.retain(|m| m.node_id != nodes[at].node_id);
        let template = again.members[0].clone();
        let (node_id, port) = (nodes[at].node_id, nodes[at].port);
        again.members.push(Member { member_id: 5, node_id, port, ..template });
        again.member_id = 5;
        nodes[at].handle.join(again, true, None).await.unwrap();
        wait(&nodes[at].handle, |g| g.role == voter && g.index > 201).await;
        let digest = nodes[at].handle.digest(1).await.unwrap();
        assert_eq!(nodes[other].handle.digest(1).await.unwrap(), digest);
        for node in nodes {
            node.stop().await;
        }
    });
}

async fn wait(handle: &Handle, done: impl Fn(&v1::GroupState) -> bool) {
    for _ in 0..100 {
        let info = handle.info().await.unwrap();
        if info.groups.first().is_some_and(&done) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{:#?}", handle.info().await);
}

#[test]
fn second_different_bootstrap_is_refused_and_the_first_repeats() {
    run(async {
        let dirs: Vec<_> = (0..2).map(|_| tempfile::tempdir().unwrap()).collect();
        let a = start(dirs[0].path(), 0).await;
        let b = start(dirs[1].path(), 0).await;
        let one = spec(1, &[&a], &a);
        a.handle.bootstrap(vec![one.clone()], None).await.unwrap();
        a.handle.bootstrap(vec![one], None).await.unwrap();
        let other = a.handle.bootstrap(vec![spec(1, &[&a, &b], &a)], None).await.unwrap_err();
        assert!(other.message.contains("group_id 1"), "{other}");
        let mut client = Client::open(&a.handle, 1).await;
        assert_eq!(client.increment(&a.handle).await, 1);
        let rejected = a.handle.command(1, Bytes::from_static(b"\xff\xff"), None).await.unwrap();
        assert!(matches!(rejected.result, Err(Rejection::Invalid { .. })));
        for node in [a, b] {
            node.stop().await;
        }
    });
}
