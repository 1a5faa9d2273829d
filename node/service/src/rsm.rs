//! Services `Partition` and `Session` of wire M: the calls of wire S under other paths.

use crate::envelope::{CommandRequest, decode};
use crate::partition::Partition;
use crate::session::Session;
use crate::unary::Framed;
use crate::wire::{Wire, primitive_spec};
use bytes::Bytes;
use multiraft_host::Handle;
use multiraft_proto::{rsm, v1};
use tonic::Status;

/// The handler of wire M's sessions.
pub struct Sessions {
    partition: Partition,
    session: Session,
}

/// A call of wire M that is no operation of a primitive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionCall {
    Open,
    KeepAlive,
    Close,
    CreatePrimitive,
    ClosePrimitive,
}

impl SessionCall {
    pub fn find(path: &str) -> Option<Self> {
        Some(match Wire::of(path)? {
            (Wire::Rsm, "v1.Partition/OpenSession") => Self::Open,
            (Wire::Rsm, "v1.Partition/KeepAlive") => Self::KeepAlive,
            (Wire::Rsm, "v1.Partition/CloseSession") => Self::Close,
            (Wire::Rsm, "v1.Session/CreatePrimitive") => Self::CreatePrimitive,
            (Wire::Rsm, "v1.Session/ClosePrimitive") => Self::ClosePrimitive,
            _ => return None,
        })
    }
}

impl Sessions {
    pub fn new(handle: Handle) -> Self {
        let partition = Partition { handle: handle.clone() };
        Sessions { partition, session: Session { handle } }
    }

    pub async fn answer(&self, call: SessionCall, message: Bytes) -> Result<Framed, Status> {
        let Sessions { partition, session } = self;
        let answered = match call {
            SessionCall::Open => partition.open(decode(message)?).await.map(|r| Framed::new(&r)),
            SessionCall::KeepAlive => {
                partition.keep(decode(message)?).await.map(|r| Framed::new(&r))
            }
            SessionCall::Close => partition.close(decode(message)?).await.map(|r| Framed::new(&r)),
            SessionCall::CreatePrimitive => {
                let request = create_request(message)?;
                session.create(Wire::Rsm, request).await.map(|r| Framed::new(&r))
            }
            SessionCall::ClosePrimitive => {
                session.close(Wire::Rsm, decode(message)?).await.map(|r| Framed::new(&r))
            }
        };
        answered.map_err(|status| Wire::Rsm.refusal(status))
    }
}

/// The only request of wire M whose input has another shape than ours.
pub fn create_request(message: Bytes) -> Result<v1::CreatePrimitiveRequest, Status> {
    let CommandRequest { headers, input } = decode(message)?;
    let rsm::CreatePrimitiveInput { spec } = decode(input)?;
    let spec = Some(primitive_spec(spec.unwrap_or_default()));
    let input = Some(v1::CreatePrimitiveInput { spec });
    Ok(v1::CreatePrimitiveRequest { headers, input })
}
