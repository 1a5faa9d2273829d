//! Requests and responses of all primitives, by shape.
//!
//! On the wire every request of a primitive is `{headers = 1, input = 2}` and every response
//! `{headers = 1, output = 2}`. An embedded message is its bytes, so four types do for all.

use bytes::Bytes;
use multiraft_proto::v1;

#[derive(Clone, PartialEq, prost::Message)]
pub struct CommandRequest {
    #[prost(message, optional, tag = "1")]
    pub headers: Option<v1::CommandRequestHeaders>,
    #[prost(bytes = "bytes", tag = "2")]
    pub input: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct CommandResponse {
    #[prost(message, optional, tag = "1")]
    pub headers: Option<v1::CommandResponseHeaders>,
    #[prost(bytes = "bytes", tag = "2")]
    pub output: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct QueryRequest {
    #[prost(message, optional, tag = "1")]
    pub headers: Option<v1::QueryRequestHeaders>,
    #[prost(bytes = "bytes", tag = "2")]
    pub input: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct QueryResponse {
    #[prost(message, optional, tag = "1")]
    pub headers: Option<v1::QueryResponseHeaders>,
    #[prost(bytes = "bytes", tag = "2")]
    pub output: Bytes,
}

/// Which primitive of which session a call is for.
#[derive(Clone, Copy)]
pub struct Address {
    pub partition: u32,
    pub session: u64,
    /// 0 for calls to the session itself.
    pub primitive: u64,
}

impl Address {
    pub fn headers(self) -> v1::OperationRequestHeaders {
        v1::OperationRequestHeaders {
            session: Some(v1::PrimitiveRequestHeaders {
                session: Some(v1::SessionRequestHeaders {
                    partition: Some(v1::PartitionRequestHeaders { partition_id: self.partition }),
                    session_id: self.session,
                }),
                primitive_id: self.primitive,
            }),
        }
    }
}

/// The partition's index in the headers of a response; 0 when it is missing.
pub fn index(headers: &v1::OperationResponseHeaders) -> u64 {
    let session = headers.session.as_ref().and_then(|primitive| primitive.session.as_ref());
    session.and_then(|session| session.partition.as_ref()).map_or(0, |partition| partition.index)
}

#[cfg(test)]
mod tests {
    use multiraft_proto::counter;
    use prost::Message;

    use super::*;

    #[test]
    fn a_request_is_the_wire_form_of_the_primitives_own() {
        let headers = v1::CommandRequestHeaders {
            operation: Some(Address { partition: 3, session: 5, primitive: 7 }.headers()),
            sequence_num: 9,
        };
        let input = counter::IncrementInput { delta: -4 };
        let ours = CommandRequest { headers: Some(headers), input: input.encode_to_vec().into() };
        let theirs = counter::IncrementRequest { headers: Some(headers), input: Some(input) };
        assert_eq!(ours.encode_to_vec(), theirs.encode_to_vec());
    }
}
