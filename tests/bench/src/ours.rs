//! Our unary calls, by the generated clients.

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use multiraft_proto::map;
use multiraft_proto::map::map_client::MapClient;
use multiraft_proto::v1;
use multiraft_proto::v1::node_client::NodeClient;
use multiraft_proto::v1::partition_client::PartitionClient;
use multiraft_proto::v1::session_client::SessionClient;
use tokio::task::AbortHandle;
use tonic::transport::{Channel, Endpoint};

use crate::load::Plan;

const SESSION_TIMEOUT_SECONDS: i64 = 30;
/// Releases cached answers long before a session may hold no more.
const KEEP_ALIVE_PERIOD: Duration = Duration::from_secs(2);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Counters over all nodes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    pub entries: u64,
    pub syncs: u64,
}

/// One client: a session of its own, one map for all.
pub struct Client {
    map: MapClient<Channel>,
    partition: PartitionClient<Channel>,
    headers: v1::OperationRequestHeaders,
    group: u32,
    session: u64,
    numbers: Rc<Numbers>,
    keep_alive: AbortHandle,
}

/// Sequence numbers: one call is in flight at a time.
#[derive(Default)]
struct Numbers {
    last: Cell<u64>,
    open: Cell<Option<u64>>,
}

impl Client {
    pub async fn put(&mut self, key: String, value: &[u8]) -> anyhow::Result<()> {
        let number = self.numbers.last.get() + 1;
        self.numbers.last.set(number);
        self.numbers.open.set(Some(number));
        let operation = Some(self.headers);
        let request = map::PutRequest {
            headers: Some(v1::CommandRequestHeaders { operation, sequence_num: number }),
            input: Some(map::PutInput { key, value: value.to_vec().into(), ..Default::default() }),
        };
        let answer = self.map.put(request).await?.into_inner();
        self.numbers.open.set(None);
        check(answer.headers.and_then(|headers| headers.operation))
    }

    pub async fn get(&mut self, key: String) -> anyhow::Result<usize> {
        let headers = v1::QueryRequestHeaders {
            operation: Some(self.headers),
            max_received_index: self.session,
            ..Default::default()
        };
        let request =
            map::GetRequest { headers: Some(headers), input: Some(map::GetInput { key }) };
        let answer = self.map.get(request).await?.into_inner();
        check(answer.headers.and_then(|headers| headers.operation))?;
        let value = answer.output.and_then(|output| output.value);
        Ok(value.map_or(0, |value| value.value.len()))
    }

    /// A session that is not closed expires by itself.
    pub async fn close(mut self) {
        self.keep_alive.abort();
        let request = v1::CloseSessionRequest {
            headers: Some(v1::PartitionRequestHeaders { partition_id: self.group }),
            input: Some(v1::CloseSessionInput { session_id: self.session }),
        };
        let _ = self.partition.close_session(request).await;
    }

    async fn open(channel: Channel, group: u32) -> anyhow::Result<Self> {
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
        let numbers = Rc::new(Numbers::default());
        numbers.last.set(1);
        let alive = keep_alive(partition.clone(), group, session, numbers.clone());
        Ok(Self {
            map: MapClient::new(channel),
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

async fn keep_alive(
    mut partition: PartitionClient<Channel>,
    group: u32,
    session: u64,
    numbers: Rc<Numbers>,
) {
    loop {
        tokio::time::sleep(KEEP_ALIVE_PERIOD).await;
        let request = v1::KeepAliveRequest {
            headers: Some(v1::PartitionRequestHeaders { partition_id: group }),
            input: Some(v1::KeepAliveInput {
                session_id: session,
                last_command_sequence_num: numbers.last.get(),
                open_sequence_nums: numbers.open.get().into_iter().collect(),
                exact: true,
                ..Default::default()
            }),
        };
        // A lost one is made up for by the next.
        let _ = partition.keep_alive(request).await;
    }
}

fn check(headers: Option<v1::OperationResponseHeaders>) -> anyhow::Result<()> {
    let headers = headers.context("an answer without headers")?;
    match headers.status() {
        v1::operation_response_headers::Status::Ok => Ok(()),
        status => bail!("{}: {}", status.as_str_name(), headers.message),
    }
}

/// Clients spread over the groups, each on the node that leads its group unless told otherwise.
pub async fn connect(endpoints: &[String], plan: &Plan) -> anyhow::Result<Vec<Client>> {
    let mut nodes = HashMap::new();
    let mut channels = Vec::new();
    let mut leaders = HashMap::new();
    for endpoint in endpoints {
        let channel = channel(endpoint).await?;
        let info = info(channel.clone()).await?;
        leaders.extend(info.groups.iter().map(|group| (group.group_id, group.leader)));
        nodes.insert(info.node_id, channels.len());
        channels.push(channel);
    }
    let mut clients = Vec::with_capacity(plan.clients);
    for number in 0..plan.clients {
        let group = 1 + number as u32 % plan.groups;
        let place = match plan.to {
            Some(node) => node.checked_sub(1),
            None => leaders.get(&group).and_then(|leader| nodes.get(leader)).copied(),
        };
        let channel = place.and_then(|place| channels.get(place));
        let channel = channel.with_context(|| format!("no node for group {group}"))?;
        clients.push(Client::open(channel.clone(), group).await?);
    }
    Ok(clients)
}

async fn channel(endpoint: &str) -> anyhow::Result<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{endpoint}"))?
        .tcp_nodelay(true)
        .connect_timeout(CONNECT_TIMEOUT)
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(16 << 20);
    Ok(endpoint.connect().await?)
}

async fn info(channel: Channel) -> anyhow::Result<v1::GetInfoResponse> {
    Ok(NodeClient::new(channel).get_info(v1::GetInfoRequest {}).await?.into_inner())
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
