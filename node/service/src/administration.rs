//! Calls of service `Node` on what is in a group: they go through its log, or read its machine, from
//! any node.

use crate::envelope::partition_input;
use crate::node::Node;
use crate::status::{admin_error, administered, call_error, output, unexpected};
use crate::validate;
use multiraft_host::{AdminRequest, Consistency};
use multiraft_machine::{Answer, Body, List, Output};
use multiraft_proto::v1::{self, partition_input::Payload};
use prost::Message;
use tonic::{Response, Status};

impl Node {
    /// Checks the fence on this node, then has the group change itself. To be repeated when nothing
    /// is known of its outcome.
    pub async fn administer(
        &self,
        group_id: u32,
        payload: Payload,
        fence: Option<v1::Fence>,
    ) -> Result<(), Status> {
        let group = validate::id("group_id", group_id)?;
        let fence = AdminRequest::Fence { fence: validate::fence(fence) };
        self.handle.admin(fence).await.map_err(|e| admin_error(&e))?;
        let answer = self.handle.command(group, partition_input(payload), None).await;
        body(answer.map_err(|e| call_error(&e))?).map(drop)
    }

    /// Answers a list with what the group's machine lists.
    pub async fn list<M: Message + Default>(
        &self,
        group_id: u32,
        list: List,
        request: &impl Message,
    ) -> Result<Response<M>, Status> {
        let group = validate::id("group_id", group_id)?;
        let asked = self.handle.query(group, list.query(request), 0, Consistency::Linearizable);
        let Body::Payload(listed) = body(asked.await.map_err(|e| call_error(&e))?)? else {
            return Err(unexpected());
        };
        M::decode(listed).map(Response::new).map_err(|_| unexpected())
    }
}

fn body(answer: Answer) -> Result<Body, Status> {
    let (_, Output::Operation { status, message, body, .. }) = output(answer)? else {
        return Err(unexpected());
    };
    administered(status, message).map(|()| body)
}
