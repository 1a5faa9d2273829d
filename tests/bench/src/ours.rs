//! Our unary calls, by the generated clients.

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use multiraft_proto::map::map_client::MapClient;
use multiraft_proto::v1;
use multiraft_proto::v1::node_client::NodeClient;
use multiraft_proto::v1::partition_client::PartitionClient;
use multiraft_proto::v1::session_client::SessionClient;
use multiraft_proto::{map, rpc};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tonic::transport::{Channel, Endpoint};

use crate::System;
use crate::load::Plan;
use crate::rsm;
use crate::streamed::Stream;

const SESSION_TIMEOUT_SECONDS: i64 = 30;
const KEEP_ALIVE_PERIOD: Duration = Duration::from_secs(2);
/// Answers are released after so many commands at the latest, as our client does.
const RELEASED_COMMANDS: u64 = 64;
/// With more sessions than this their keep-alives would be a load of their own.
const MANY_SESSIONS: usize = 512;
const OPENED_AT_ONCE: usize = 64;
/// What a node says of some ten thousand groups.
const INFO_BYTES_MAX: usize = 64 << 20;
pub const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Counters over all nodes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    pub entries: u64,
    pub syncs: u64,
}

/// One client with one call in flight, in turn in the groups that it has a session with.
pub struct Client {
    sessions: Vec<Session>,
    turn: usize,
}

impl Client {
    pub async fn put(&mut self, key: String, value: &[u8]) -> anyhow::Result<()> {
        self.next().put(key, value).await
    }

    pub async fn get(&mut self, key: String) -> anyhow::Result<usize> {
        self.next().get(key).await
    }

    pub async fn close(self) {
        for session in self.sessions {
            session.close().await;
        }
    }

    fn next(&mut self) -> &mut Session {
        self.turn = (self.turn + 1) % self.sessions.len();
        &mut self.sessions[self.turn]
    }
}

/// A session with one group; one map for all.
struct Session {
    map: Map,
    primitive: u64,
    partition: PartitionClient<Channel>,
    headers: v1::OperationRequestHeaders,
    group: u32,
    session: u64,
    numbers: Rc<Numbers>,
    keep_alive: AbortHandle,
}

/// What operations go over.
enum Map {
    Unary(MapClient<Channel>),
    Streamed(Rc<Stream>),
    Rsm(rsm::Map),
}

/// Sequence numbers: one call is in flight at a time.
#[derive(Default)]
struct Numbers {
    last: Cell<u64>,
    open: Cell<Option<u64>>,
    release: Notify,
}

impl Session {
    async fn put(&mut self, key: String, value: &[u8]) -> anyhow::Result<()> {
        let number = self.numbers.last.get() + 1;
        self.numbers.last.set(number);
        self.numbers.open.set(Some(number));
        if number.is_multiple_of(RELEASED_COMMANDS) {
            self.numbers.release.notify_one();
        }
        let input = map::PutInput { key, value: value.to_vec().into(), ..Default::default() };
        let operation = Some(self.headers);
        let headers = v1::CommandRequestHeaders { operation, sequence_num: number };
        let request = |input| map::PutRequest { headers: Some(headers), input: Some(input) };
        match &mut self.map {
            Map::Streamed(stream) => {
                let (of, put) = ((self.session, self.primitive), (number, rpc::map::PUT));
                stream.command(self.group, of, put, &input).await?;
            }
            Map::Rsm(map) => map.put(request(input)).await?,
            Map::Unary(map) => {
                let answer = map.put(request(input)).await?.into_inner();
                check(answer.headers.and_then(|headers| headers.operation))?;
            }
        }
        self.numbers.open.set(None);
        Ok(())
    }

    async fn get(&mut self, key: String) -> anyhow::Result<usize> {
        let headers = v1::QueryRequestHeaders {
            operation: Some(self.headers),
            max_received_index: self.session,
            ..Default::default()
        };
        let input = map::GetInput { key };
        let request = |input| map::GetRequest { headers: Some(headers), input: Some(input) };
        let output = match &mut self.map {
            Map::Streamed(stream) => {
                let of = (self.session, self.primitive);
                Some(stream.query(self.group, of, rpc::map::GET, &input).await?)
            }
            Map::Rsm(map) => map.get(request(input)).await?,
            Map::Unary(map) => {
                let answer = map.get(request(input)).await?.into_inner();
                check(answer.headers.and_then(|headers| headers.operation))?;
                answer.output
            }
        };
        let value = output.and_then(|map::GetOutput { value }| value);
        Ok(value.map_or(0, |value| value.value.len()))
    }

    /// A session that is not closed expires by itself.
    async fn close(mut self) {
        self.keep_alive.abort();
        let request = v1::CloseSessionRequest {
            headers: Some(v1::PartitionRequestHeaders { partition_id: self.group }),
            input: Some(v1::CloseSessionInput { session_id: self.session }),
        };
        let _ = self.partition.close_session(request).await;
    }

    async fn open(
        Way { channel, stream, rsm }: Way,
        group: u32,
        period: Duration,
    ) -> anyhow::Result<Self> {
        let mut partition = PartitionClient::new(channel.clone());
        let in_partition = v1::PartitionRequestHeaders { partition_id: group };
        let timeout = prost_types::Duration { seconds: SESSION_TIMEOUT_SECONDS, nanos: 0 };
        let request = v1::OpenSessionRequest {
            headers: Some(in_partition),
            input: Some(v1::OpenSessionInput { timeout: Some(timeout) }),
        };
        let answer = partition.open_session(request).await.context("open a session")?.into_inner();
        let session = answer.output.context("a session without an id")?.session_id;
        let headers = |primitive_id| v1::OperationRequestHeaders {
            session: Some(v1::PrimitiveRequestHeaders {
                session: Some(v1::SessionRequestHeaders {
                    partition: Some(in_partition),
                    session_id: session,
                }),
                primitive_id,
            }),
        };
        let primitive = create(channel.clone(), headers(0)).await?;
        let map = match stream {
            Some(stream) => Map::Streamed(stream),
            None if rsm => Map::Rsm(rsm::Map::new(channel)),
            None => Map::Unary(MapClient::new(channel)),
        };
        let numbers = Rc::new(Numbers::default());
        numbers.last.set(1);
        let way = match &map {
            Map::Streamed(stream) => Ok(stream.clone()),
            Map::Unary(_) | Map::Rsm(_) => Err(partition.clone()),
        };
        let alive = keep_alive(way, group, session, numbers.clone(), period);
        Ok(Self {
            map,
            primitive,
            partition,
            headers: headers(primitive),
            group,
            session,
            numbers,
            keep_alive: tokio::task::spawn_local(alive).abort_handle(),
        })
    }
}

/// The map that all clients share, as the session's first command.
async fn create(channel: Channel, headers: v1::OperationRequestHeaders) -> anyhow::Result<u64> {
    let spec = v1::PrimitiveSpec {
        service: "atomix.runtime.map.v1.Map".into(),
        namespace: "bench".into(),
        name: "load".into(),
    };
    let request = v1::CreatePrimitiveRequest {
        headers: Some(v1::CommandRequestHeaders { operation: Some(headers), sequence_num: 1 }),
        input: Some(v1::CreatePrimitiveInput { spec: Some(spec) }),
    };
    let answer = SessionClient::new(channel).create_primitive(request).await?.into_inner();
    check(answer.headers.and_then(|headers| headers.operation))?;
    Ok(answer.output.context("a primitive without an id")?.primitive_id)
}

/// Over the stream, or by calls.
async fn keep_alive(
    mut way: Result<Rc<Stream>, PartitionClient<Channel>>,
    group: u32,
    session: u64,
    numbers: Rc<Numbers>,
    period: Duration,
) {
    loop {
        let _ = tokio::time::timeout(period, numbers.release.notified()).await;
        let input = v1::KeepAliveInput {
            session_id: session,
            last_command_sequence_num: numbers.last.get(),
            open_sequence_nums: numbers.open.get().into_iter().collect(),
            exact: true,
            ..Default::default()
        };
        // A lost one is made up for by the next.
        match &mut way {
            Ok(stream) => drop(stream.keep_alive(group, input).await),
            Err(partition) => {
                let headers = Some(v1::PartitionRequestHeaders { partition_id: group });
                let request = v1::KeepAliveRequest { headers, input: Some(input) };
                drop(partition.keep_alive(request).await);
            }
        }
    }
}

fn check(headers: Option<v1::OperationResponseHeaders>) -> anyhow::Result<()> {
    let headers = headers.context("an answer without headers")?;
    match headers.status() {
        v1::operation_response_headers::Status::Ok => Ok(()),
        status => bail!("{}: {}", status.as_str_name(), headers.message),
    }
}

/// Clients spread over the groups, each on the nodes that lead its groups unless told otherwise.
pub async fn connect(
    endpoints: &[String],
    plan: &Plan,
    system: System,
) -> anyhow::Result<Vec<Client>> {
    let mut nodes = HashMap::new();
    let mut channels = Vec::new();
    let mut leaders = HashMap::new();
    for endpoint in endpoints {
        let channel = channel(endpoint).await?;
        let info = info(channel.clone()).await?;
        leaders.extend(info.groups.iter().map(|group| (group.group_id, group.leader)));
        nodes.insert(info.node_id, channels.len());
        let stream = match system {
            System::Streamed => Some(Stream::open(channel.clone()).await?),
            _ => None,
        };
        channels.push(Way { channel, stream, rsm: system == System::Rsm });
    }
    // With more groups than clients each of them has several.
    let count = plan.clients.max(plan.groups as usize);
    let mut wanted = Vec::with_capacity(count);
    for number in 0..count {
        let group = 1 + number as u32 % plan.groups;
        let place = match plan.to {
            Some(node) => node.checked_sub(1),
            None => leaders.get(&group).and_then(|leader| nodes.get(leader)).copied(),
        };
        let channel = place.and_then(|place| channels.get(place));
        wanted
            .push((channel.with_context(|| format!("no node for group {group}"))?.clone(), group));
    }
    let mut clients: Vec<Client> =
        (0..plan.clients).map(|_| Client { sessions: vec![], turn: 0 }).collect();
    for (number, session) in open(wanted).await?.into_iter().enumerate() {
        clients[number % plan.clients].sessions.push(session);
    }
    Ok(clients)
}

/// One client for each of the groups, on one node.
pub async fn on(endpoint: &str, groups: &[u32]) -> anyhow::Result<Vec<Client>> {
    let channel = channel(endpoint).await?;
    let way = |group: &u32| (Way { channel: channel.clone(), stream: None, rsm: false }, *group);
    let sessions = open(groups.iter().map(way).collect()).await?;
    Ok(sessions.into_iter().map(|session| Client { sessions: vec![session], turn: 0 }).collect())
}

/// A node's channel, and how operations go over it.
#[derive(Clone)]
struct Way {
    channel: Channel,
    /// Over this stream.
    stream: Option<Rc<Stream>>,
    /// By wire M.
    rsm: bool,
}

async fn open(wanted: Vec<(Way, u32)>) -> anyhow::Result<Vec<Session>> {
    let period =
        if wanted.len() > MANY_SESSIONS { 4 * KEEP_ALIVE_PERIOD } else { KEEP_ALIVE_PERIOD };
    let mut sessions = Vec::with_capacity(wanted.len());
    for some in wanted.chunks(OPENED_AT_ONCE) {
        let open = |(way, group): &(Way, u32)| {
            tokio::task::spawn_local(Session::open(way.clone(), *group, period))
        };
        for opened in some.iter().map(open).collect::<Vec<_>>() {
            sessions.push(opened.await??);
        }
    }
    Ok(sessions)
}

/// A node joins a group that others have, as a voter; returns when it is one.
pub async fn join(endpoint: &str, others: &[String], group: u32) -> anyhow::Result<()> {
    let own = node_info(endpoint).await?;
    let (host, port) = own.peer_address.rsplit_once(':').context("host:port")?;
    let of = |info: v1::GetInfoResponse| info.groups.into_iter().find(|g| g.group_id == group);
    let mut found = Vec::new();
    for other in others {
        found.extend(of(node_info(other).await?));
    }
    let state = found.into_iter().max_by_key(|state| state.term);
    let state = state.with_context(|| format!("nobody has group {group}"))?;
    let member = v1::MemberConfig {
        node_id: own.node_id,
        member_id: state.member_id_max + 1,
        host: host.into(),
        port: port.parse()?,
        ..Default::default()
    };
    let members = state.members.into_iter().chain([member]).collect();
    let config = v1::GroupConfig { group_id: group, members, ..Default::default() };
    let request = v1::JoinRequest { group: Some(config), ..Default::default() };
    let mut node = NodeClient::new(channel(endpoint).await?);
    while let Err(status) = node.join(request.clone()).await {
        // It is answered within ten seconds, done or not.
        let retry = matches!(status.code(), tonic::Code::Unavailable);
        anyhow::ensure!(retry, "join group {group}: {status}");
    }
    Ok(())
}

pub async fn channel(endpoint: &str) -> anyhow::Result<Channel> {
    channel_with(endpoint, STREAM_WINDOW_BYTES).await
}

/// With so many bytes that may wait for a stream's reader.
pub async fn channel_with(endpoint: &str, window: u32) -> anyhow::Result<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{endpoint}"))?
        .tcp_nodelay(true)
        .connect_timeout(CONNECT_TIMEOUT)
        .initial_stream_window_size(window)
        .initial_connection_window_size(4 * window);
    Ok(endpoint.connect().await?)
}

async fn info(channel: Channel) -> anyhow::Result<v1::GetInfoResponse> {
    let mut node = NodeClient::new(channel).max_decoding_message_size(INFO_BYTES_MAX);
    Ok(node.get_info(v1::GetInfoRequest {}).await?.into_inner())
}

pub async fn node_info(endpoint: &str) -> anyhow::Result<v1::GetInfoResponse> {
    info(channel(endpoint).await?).await
}

pub async fn bootstrap(endpoint: &str, request: v1::BootstrapRequest) -> anyhow::Result<()> {
    NodeClient::new(channel(endpoint).await?).bootstrap(request).await?;
    Ok(())
}

pub async fn stats(endpoints: &[String]) -> anyhow::Result<Stats> {
    let mut sum = Stats::default();
    for endpoint in endpoints {
        let stats = node_info(endpoint).await?.stats.unwrap_or_default();
        sum.entries += stats.entries;
        sum.syncs += stats.syncs;
    }
    Ok(sum)
}
