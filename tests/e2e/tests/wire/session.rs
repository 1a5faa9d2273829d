//! A session on the wire, step by step, as a client of one's own would have it.

use multiraft_proto::v1;
use multiraft_proto::v1::partition_client::PartitionClient;
use multiraft_proto::v1::session_client::SessionClient;
use tonic::transport::Channel;

use crate::nodes::Node;

pub async fn connect(node: &Node) -> Channel {
    let endpoint = Channel::from_shared(format!("http://{}", node.address)).expect("an address");
    endpoint.connect().await.expect("the node accepts")
}

/// A session with one primitive in one group; every call says through which node it goes.
#[derive(Clone, Copy)]
pub struct Session {
    pub group: u32,
    pub session_id: u64,
    pub primitive_id: u64,
    pub last: u64,
}

impl Session {
    pub async fn open(node: &Channel, group: u32, service: &str, name: &str, seconds: i64) -> Self {
        let timeout = Some(prost_types::Duration { seconds, nanos: 0 });
        let request = v1::OpenSessionRequest {
            headers: Some(v1::PartitionRequestHeaders { partition_id: group }),
            input: Some(v1::OpenSessionInput { timeout }),
        };
        let opened = PartitionClient::new(node.clone()).open_session(request).await;
        let session_id = opened.expect("a session").into_inner().output.expect("one").session_id;
        let mut session = Self { group, session_id, primitive_id: 0, last: 0 };
        let request = v1::CreatePrimitiveRequest {
            headers: Some(session.next()),
            input: Some(v1::CreatePrimitiveInput {
                spec: Some(v1::PrimitiveSpec {
                    service: service.to_owned(),
                    namespace: String::new(),
                    name: name.to_owned(),
                }),
            }),
        };
        let created = SessionClient::new(node.clone()).create_primitive(request).await;
        let output = created.expect("a primitive").into_inner().output.expect("one");
        session.primitive_id = output.primitive_id;
        session
    }

    fn operation(&self) -> v1::OperationRequestHeaders {
        let partition = Some(v1::PartitionRequestHeaders { partition_id: self.group });
        let session = Some(v1::SessionRequestHeaders { partition, session_id: self.session_id });
        let primitive_id = self.primitive_id;
        v1::OperationRequestHeaders {
            session: Some(v1::PrimitiveRequestHeaders { session, primitive_id }),
        }
    }

    /// Headers of the next command.
    pub fn next(&mut self) -> v1::CommandRequestHeaders {
        self.last += 1;
        self.command(self.last)
    }

    /// Headers of a command, again perhaps.
    pub fn command(&self, sequence_num: u64) -> v1::CommandRequestHeaders {
        v1::CommandRequestHeaders { operation: Some(self.operation()), sequence_num }
    }

    pub fn query(&self) -> v1::QueryRequestHeaders {
        v1::QueryRequestHeaders { operation: Some(self.operation()), ..Default::default() }
    }

    /// Keeps these commands and releases the others; `outputs` were received.
    pub async fn keep_alive(&self, node: &Channel, open: &[u64], outputs: &[(u64, u64)]) {
        let input = v1::KeepAliveInput {
            session_id: self.session_id,
            last_command_sequence_num: self.last,
            exact: true,
            open_sequence_nums: open.to_vec(),
            output_stream_sequence_nums: outputs.iter().copied().collect(),
            ..Default::default()
        };
        let request = v1::KeepAliveRequest {
            headers: Some(v1::PartitionRequestHeaders { partition_id: self.group }),
            input: Some(input),
        };
        let kept = PartitionClient::new(node.clone()).keep_alive(request).await;
        kept.expect("the session is kept");
    }

    pub async fn close(&self, node: &Channel) {
        let request = v1::CloseSessionRequest {
            headers: Some(v1::PartitionRequestHeaders { partition_id: self.group }),
            input: Some(v1::CloseSessionInput { session_id: self.session_id }),
        };
        let closed = PartitionClient::new(node.clone()).close_session(request).await;
        closed.expect("the session is closed");
    }
}
