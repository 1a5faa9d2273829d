//! Service `Node`: bootstrap, membership, observation.

use crate::partition::too_slow;
use crate::status::{admin_error, missing, unexpected};
use crate::validate;
use multiraft_host::{AdminAnswer, AdminRequest, Handle, Wanted};
use multiraft_machine::List;
use multiraft_proto::v1::{self, partition_input::Payload};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

pub struct Node {
    pub handle: Handle,
}

impl Node {
    async fn node_id(&self) -> Result<u64, Status> {
        Ok(self.handle.info().await.map_err(|e| admin_error(&e))?.node_id)
    }

    async fn admin(&self, request: AdminRequest) -> Result<AdminAnswer, Status> {
        self.handle.admin(request).await.map_err(|e| admin_error(&e))
    }

    async fn change(
        &self,
        group_id: u32,
        wanted: Wanted,
        version: u64,
        fence: Option<v1::Fence>,
    ) -> Result<AdminAnswer, Status> {
        let group = validate::id("group_id", group_id)?;
        let fence = validate::fence(fence);
        self.admin(AdminRequest::Change { group, wanted, version, fence }).await
    }

    async fn reconfigure(
        &self,
        group_id: u32,
        wanted: Wanted,
        version: u64,
        fence: Option<v1::Fence>,
    ) -> Result<Option<v1::GroupConfig>, Status> {
        match self.change(group_id, wanted, version, fence).await? {
            AdminAnswer::Configuration(group) => Ok(Some(group)),
            _ => Err(unexpected()),
        }
    }
}

#[tonic::async_trait]
impl v1::node_server::Node for Node {
    async fn bootstrap(
        &self,
        request: Request<v1::BootstrapRequest>,
    ) -> Result<Response<v1::BootstrapResponse>, Status> {
        let mut request = request.into_inner();
        let fence = validate::fence(request.fence.take());
        let groups = validate::bootstrap(request, self.node_id().await?)?;
        self.handle.bootstrap(groups, fence).await.map_err(|e| admin_error(&e))?;
        Ok(Response::new(v1::BootstrapResponse {}))
    }

    async fn join(
        &self,
        request: Request<v1::JoinRequest>,
    ) -> Result<Response<v1::JoinResponse>, Status> {
        let request = request.into_inner();
        let fence = validate::fence(request.fence);
        let spec = validate::join(request.group, request.partition, self.node_id().await?)?;
        let auto_promote = request.auto_promote.unwrap_or(true);
        self.handle.join(spec, auto_promote, fence).await.map_err(|e| admin_error(&e))?;
        Ok(Response::new(v1::JoinResponse {}))
    }

    async fn leave(
        &self,
        request: Request<v1::LeaveRequest>,
    ) -> Result<Response<v1::LeaveResponse>, Status> {
        let request = request.into_inner();
        let group = validate::leave(&request)?;
        let fence = validate::fence(request.fence);
        self.handle.leave(group, fence).await.map_err(|e| admin_error(&e))?;
        Ok(Response::new(v1::LeaveResponse {}))
    }

    type WatchStream = ReceiverStream<Result<v1::Event, Status>>;

    async fn watch(
        &self,
        request: Request<v1::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let mut events = self.handle.watch(request.into_inner().groups);
        let (sender, stream) = mpsc::channel(64);
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                if sender.send(Ok(event)).await.is_err() {
                    return;
                }
            }
            let _ = sender.send(Err(too_slow())).await;
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn get_info(
        &self,
        _: Request<v1::GetInfoRequest>,
    ) -> Result<Response<v1::GetInfoResponse>, Status> {
        Ok(Response::new(self.handle.info().await.map_err(|e| admin_error(&e))?))
    }

    async fn get_config(
        &self,
        request: Request<v1::GetConfigRequest>,
    ) -> Result<Response<v1::GetConfigResponse>, Status> {
        let group = match request.into_inner().group_id {
            0 => return Err(missing("group_id")),
            id => self.handle.config(id).await.map_err(|e| admin_error(&e))?,
        };
        Ok(Response::new(v1::GetConfigResponse { group: Some(group) }))
    }

    async fn activate(
        &self,
        request: Request<v1::ActivateRequest>,
    ) -> Result<Response<v1::ActivateResponse>, Status> {
        let request = request.into_inner();
        let fence = validate::fence(request.fence);
        self.handle.activate(request.groups, fence).await.map_err(|e| admin_error(&e))?;
        Ok(Response::new(v1::ActivateResponse {}))
    }

    async fn add_member(
        &self,
        request: Request<v1::AddMemberRequest>,
    ) -> Result<Response<v1::AddMemberResponse>, Status> {
        let v1::AddMemberRequest { group_id, member, version, fence } = request.into_inner();
        let wanted = Wanted::Learner(validate::new_member(group_id, member)?);
        let group = self.reconfigure(group_id, wanted, version, fence).await?;
        Ok(Response::new(v1::AddMemberResponse { group }))
    }

    async fn promote_member(
        &self,
        request: Request<v1::PromoteMemberRequest>,
    ) -> Result<Response<v1::PromoteMemberResponse>, Status> {
        let v1::PromoteMemberRequest { group_id, member_id, version, fence } = request.into_inner();
        let wanted = Wanted::Voter(validate::id("member_id", member_id)?);
        let group = self.reconfigure(group_id, wanted, version, fence).await?;
        Ok(Response::new(v1::PromoteMemberResponse { group }))
    }

    async fn remove_member(
        &self,
        request: Request<v1::RemoveMemberRequest>,
    ) -> Result<Response<v1::RemoveMemberResponse>, Status> {
        let v1::RemoveMemberRequest { group_id, member_id, version, fence } = request.into_inner();
        let wanted = Wanted::Removed(validate::id("member_id", member_id)?);
        let group = self.reconfigure(group_id, wanted, version, fence).await?;
        Ok(Response::new(v1::RemoveMemberResponse { group }))
    }

    async fn transfer_leadership(
        &self,
        request: Request<v1::TransferLeadershipRequest>,
    ) -> Result<Response<v1::TransferLeadershipResponse>, Status> {
        let v1::TransferLeadershipRequest { group_id, to, version, fence } = request.into_inner();
        match self.change(group_id, Wanted::Leader(to), version, fence).await? {
            AdminAnswer::Leader { leader, term } => {
                Ok(Response::new(v1::TransferLeadershipResponse { leader, term }))
            }
            _ => Err(unexpected()),
        }
    }

    async fn drain(
        &self,
        request: Request<v1::DrainRequest>,
    ) -> Result<Response<v1::DrainResponse>, Status> {
        let v1::DrainRequest { drain, fence } = request.into_inner();
        let request = AdminRequest::Drain { drain, fence: validate::fence(fence) };
        match self.admin(request).await? {
            AdminAnswer::Led(led_groups) => Ok(Response::new(v1::DrainResponse { led_groups })),
            _ => Err(unexpected()),
        }
    }

    async fn check_disruption(
        &self,
        request: Request<v1::CheckDisruptionRequest>,
    ) -> Result<Response<v1::CheckDisruptionResponse>, Status> {
        let v1::CheckDisruptionRequest { node_id, lag_entries_max } = request.into_inner();
        let request = AdminRequest::CheckDisruption { node: node_id, lag_max: lag_entries_max };
        match self.admin(request).await? {
            AdminAnswer::Disruption(answer) => Ok(Response::new(answer)),
            _ => Err(unexpected()),
        }
    }

    async fn delete_data(
        &self,
        request: Request<v1::DeleteDataRequest>,
    ) -> Result<Response<v1::DeleteDataResponse>, Status> {
        let v1::DeleteDataRequest { group_id, member_id, fence } = request.into_inner();
        let request = AdminRequest::DeleteData {
            group: validate::id("group_id", group_id)?,
            member_id: validate::id("member_id", member_id)?,
            fence: validate::fence(fence),
        };
        self.admin(request).await?;
        Ok(Response::new(v1::DeleteDataResponse {}))
    }

    async fn force_recover(
        &self,
        request: Request<v1::ForceRecoverRequest>,
    ) -> Result<Response<v1::ForceRecoverResponse>, Status> {
        let v1::ForceRecoverRequest { group_id, member_id, recovery, version, fence } =
            request.into_inner();
        let request = AdminRequest::ForceRecover {
            group: validate::id("group_id", group_id)?,
            member_id: validate::id("member_id", member_id)?,
            recovery: validate::id("recovery", recovery)?,
            version,
            fence: validate::fence(fence),
        };
        match self.admin(request).await? {
            AdminAnswer::Recovered(answer) => Ok(Response::new(answer)),
            _ => Err(unexpected()),
        }
    }

    async fn list_sessions(
        &self,
        request: Request<v1::ListSessionsRequest>,
    ) -> Result<Response<v1::ListSessionsResponse>, Status> {
        let request = request.into_inner();
        self.list(request.group_id, List::Sessions, &request).await
    }

    async fn expire_session(
        &self,
        request: Request<v1::ExpireSessionRequest>,
    ) -> Result<Response<v1::ExpireSessionResponse>, Status> {
        let v1::ExpireSessionRequest { group_id, session_id, fence } = request.into_inner();
        let session_id = validate::id("session_id", session_id)?;
        let payload = Payload::ExpireSession(v1::ExpireSessionInput { session_id });
        self.administer(group_id, payload, fence).await?;
        Ok(Response::new(v1::ExpireSessionResponse {}))
    }

    async fn list_primitives(
        &self,
        request: Request<v1::ListPrimitivesRequest>,
    ) -> Result<Response<v1::ListPrimitivesResponse>, Status> {
        let request = request.into_inner();
        self.list(request.group_id, List::Primitives, &request).await
    }

    async fn destroy_primitive(
        &self,
        request: Request<v1::DestroyPrimitiveRequest>,
    ) -> Result<Response<v1::DestroyPrimitiveResponse>, Status> {
        let v1::DestroyPrimitiveRequest { group_id, primitive_id, fence } = request.into_inner();
        let primitive_id = validate::id("primitive_id", primitive_id)?;
        let payload = Payload::DestroyPrimitive(v1::DestroyPrimitiveInput { primitive_id });
        self.administer(group_id, payload, fence).await?;
        Ok(Response::new(v1::DestroyPrimitiveResponse {}))
    }

    async fn set_quota(
        &self,
        request: Request<v1::SetQuotaRequest>,
    ) -> Result<Response<v1::SetQuotaResponse>, Status> {
        let v1::SetQuotaRequest { group_id, quota, fence } = request.into_inner();
        let quota = Some(validate::quota(quota)?);
        let payload = Payload::SetQuota(v1::SetQuotaInput { quota });
        self.administer(group_id, payload, fence).await?;
        Ok(Response::new(v1::SetQuotaResponse {}))
    }

    async fn get_quotas(
        &self,
        request: Request<v1::GetQuotasRequest>,
    ) -> Result<Response<v1::GetQuotasResponse>, Status> {
        let request = request.into_inner();
        self.list(request.group_id, List::Quotas, &request).await
    }
}
