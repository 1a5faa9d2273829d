//! Service `Partition`: sessions, which both wires open here, and the events of one partition.

use crate::envelope::{group, partition_input};
use crate::status::{call_error, missing, output, unexpected};
use multiraft_host::Handle;
use multiraft_machine::{Output, validate_keep_alive};
use multiraft_proto::v1::{self, event::Event as Kind, partition_event::Event as PartitionKind};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use v1::partition_input::Payload;

pub struct Partition {
    pub handle: Handle,
}

impl Partition {
    pub async fn open(
        &self,
        request: v1::OpenSessionRequest,
    ) -> Result<v1::OpenSessionResponse, Status> {
        let group = group(request.headers.as_ref())?;
        let payload = Payload::OpenSession(request.input.unwrap_or_default());
        let (index, Output::SessionOpened { session_id }) = self.propose(group, payload).await?
        else {
            return Err(unexpected());
        };
        let output = Some(v1::OpenSessionOutput { session_id });
        Ok(v1::OpenSessionResponse { headers: headers(index), output })
    }

    pub async fn keep(
        &self,
        request: v1::KeepAliveRequest,
    ) -> Result<v1::KeepAliveResponse, Status> {
        let group = group(request.headers.as_ref())?;
        let input = request.input.ok_or_else(|| missing("input"))?;
        validate_keep_alive(&input).map_err(Status::invalid_argument)?;
        let (index, _) = self.propose(group, Payload::KeepAlive(input)).await?;
        let output = Some(v1::KeepAliveOutput {});
        Ok(v1::KeepAliveResponse { headers: headers(index), output })
    }

    pub async fn close(
        &self,
        request: v1::CloseSessionRequest,
    ) -> Result<v1::CloseSessionResponse, Status> {
        let group = group(request.headers.as_ref())?;
        let input = request.input.ok_or_else(|| missing("input"))?;
        let (index, _) = self.propose(group, Payload::CloseSession(input)).await?;
        let output = Some(v1::CloseSessionOutput {});
        Ok(v1::CloseSessionResponse { headers: headers(index), output })
    }

    async fn propose(&self, group: u32, payload: Payload) -> Result<(u64, Output), Status> {
        let input = partition_input(payload);
        let answer = self.handle.command(group, input, None).await;
        output(answer.map_err(|e| call_error(&e))?)
    }
}

fn headers(index: u64) -> Option<v1::PartitionResponseHeaders> {
    Some(v1::PartitionResponseHeaders { index })
}

#[tonic::async_trait]
impl v1::partition_server::Partition for Partition {
    async fn open_session(
        &self,
        request: Request<v1::OpenSessionRequest>,
    ) -> Result<Response<v1::OpenSessionResponse>, Status> {
        self.open(request.into_inner()).await.map(Response::new)
    }

    async fn keep_alive(
        &self,
        request: Request<v1::KeepAliveRequest>,
    ) -> Result<Response<v1::KeepAliveResponse>, Status> {
        self.keep(request.into_inner()).await.map(Response::new)
    }

    async fn close_session(
        &self,
        request: Request<v1::CloseSessionRequest>,
    ) -> Result<Response<v1::CloseSessionResponse>, Status> {
        self.close(request.into_inner()).await.map(Response::new)
    }

    type WatchStream = ReceiverStream<Result<v1::PartitionEvent, Status>>;

    async fn watch(
        &self,
        request: Request<v1::WatchPartitionRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let partition_id = request.into_inner().partition_id;
        if partition_id == 0 {
            return Err(missing("partition_id"));
        }
        let config = self.handle.config(partition_id).await;
        config.map_err(|e| crate::status::admin_error(&e))?;
        let mut events = self.handle.watch(vec![partition_id]);
        let (sender, stream) = mpsc::channel(64);
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                for event in partition_events(partition_id, event) {
                    if sender.send(Ok(event)).await.is_err() {
                        return;
                    }
                }
            }
            let _ = sender.send(Err(too_slow())).await;
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

pub fn too_slow() -> Status {
    Status::unavailable("the node is stopping or this subscriber was too slow: watch again")
}

/// A node's event as this partition's watchers see it; the snapshot becomes the events that would
/// have led to it.
fn partition_events(partition_id: u32, event: v1::Event) -> Vec<v1::PartitionEvent> {
    let timestamp = event.timestamp;
    let kinds = match event.event {
        Some(Kind::Snapshot(snapshot)) => {
            let state = snapshot.groups.into_iter().find(|g| g.group_id == partition_id);
            state.map(state_events).unwrap_or_default()
        }
        Some(kind) => to_partition_kind(kind).into_iter().collect(),
        None => Vec::new(),
    };
    let with_kind = |kind| v1::PartitionEvent { timestamp, partition_id, event: Some(kind) };
    kinds.into_iter().map(with_kind).collect()
}

fn state_events(state: v1::GroupState) -> Vec<PartitionKind> {
    let group_id = state.group_id;
    let mut kinds = vec![
        PartitionKind::MembershipChanged(v1::MembershipChangedEvent {
            group_id,
            node_id: 0,
            members: state.members.iter().map(|m| m.node_id).collect(),
        }),
        PartitionKind::LeaderUpdated(v1::LeaderUpdatedEvent {
            group_id,
            term: state.term,
            leader: state.leader,
        }),
    ];
    if state.phase() == v1::GroupPhase::Ready {
        let own = state.members.iter().find(|m| m.member_id == state.member_id);
        let node_id = own.map_or(0, |m| m.node_id);
        kinds.push(PartitionKind::MemberReady(v1::MemberReadyEvent { group_id, node_id }));
    }
    kinds
}

fn to_partition_kind(kind: Kind) -> Option<PartitionKind> {
    Some(match kind {
        Kind::MemberReady(e) => PartitionKind::MemberReady(e),
        Kind::LeaderUpdated(e) => PartitionKind::LeaderUpdated(e),
        Kind::MembershipChanged(e) => PartitionKind::MembershipChanged(e),
        Kind::SendSnapshotStarted(e) => PartitionKind::SendSnapshotStarted(e),
        Kind::SendSnapshotCompleted(e) => PartitionKind::SendSnapshotCompleted(e),
        Kind::SendSnapshotAborted(e) => PartitionKind::SendSnapshotAborted(e),
        Kind::SnapshotReceived(e) => PartitionKind::SnapshotReceived(e),
        Kind::SnapshotRecovered(e) => PartitionKind::SnapshotRecovered(e),
        Kind::SnapshotCreated(e) => PartitionKind::SnapshotCreated(e),
        Kind::SnapshotCompacted(e) => PartitionKind::SnapshotCompacted(e),
        Kind::LogCompacted(e) => PartitionKind::LogCompacted(e),
        Kind::LogdbCompacted(e) => PartitionKind::LogdbCompacted(e),
        Kind::ServiceConfigChanged(e) => PartitionKind::ServiceConfigChanged(e),
        Kind::ConnectionEstablished(_)
        | Kind::ConnectionFailed(_)
        | Kind::Snapshot(_)
        | Kind::Synced(_)
        | Kind::Heartbeat(_)
        | Kind::MemberClosed(_) => return None,
    })
}
