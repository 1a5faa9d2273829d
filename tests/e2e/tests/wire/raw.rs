//! Calls with bytes of our own choice, which no tool that knows the messages would send.

use bytes::{Buf, BufMut, Bytes};
use multiraft_proto::v1;
use prost::Message;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

#[derive(Clone, Copy, Default)]
struct BytesCodec;

impl Codec for BytesCodec {
    type Encode = Vec<u8>;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        BytesCodec
    }

    fn decoder(&mut self) -> Self {
        BytesCodec
    }
}

impl Encoder for BytesCodec {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put_slice(&item);
        Ok(())
    }
}

impl Decoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, input: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(input.copy_to_bytes(input.remaining())))
    }
}

/// A connection to a node.
pub struct Channel {
    runtime: tokio::runtime::Runtime,
    channel: tonic::transport::Channel,
}

impl Channel {
    pub fn open(address: &str) -> Channel {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}"));
        let endpoint = endpoint.expect("an address is an URI");
        let channel = runtime.block_on(endpoint.connect()).expect("the node accepts");
        Channel { runtime, channel }
    }

    /// Sends one message and reads the first of the answer.
    pub fn call(&mut self, path: &str, message: Vec<u8>) -> Result<Bytes, Status> {
        let mut client = tonic::client::Grpc::new(self.channel.clone());
        let path = http::uri::PathAndQuery::try_from(path).expect("a path");
        self.runtime.block_on(async {
            client.ready().await.expect("the connection stands");
            let request = tonic::Request::new(message);
            let answer = client.server_streaming(request, path, BytesCodec).await?;
            let first = answer.into_inner().message().await?;
            first.ok_or_else(|| Status::unknown("the answer is empty"))
        })
    }
}

/// Whom an operation is for, in partition 1.
#[derive(Clone, Copy)]
pub struct Target {
    pub session_id: u64,
    pub primitive_id: u64,
}

/// `XRequest` with an input of any bytes.
#[derive(Clone, PartialEq, Message)]
struct CommandRequest {
    #[prost(message, optional, tag = "1")]
    headers: Option<v1::CommandRequestHeaders>,
    #[prost(bytes = "vec", tag = "2")]
    input: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct QueryRequest {
    #[prost(message, optional, tag = "1")]
    headers: Option<v1::QueryRequestHeaders>,
    #[prost(bytes = "vec", tag = "2")]
    input: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct CommandResponse {
    #[prost(message, optional, tag = "1")]
    headers: Option<v1::CommandResponseHeaders>,
}

#[derive(Clone, PartialEq, Message)]
struct QueryResponse {
    #[prost(message, optional, tag = "1")]
    headers: Option<v1::QueryResponseHeaders>,
}

fn operation(target: Target) -> Option<v1::OperationRequestHeaders> {
    let partition = Some(v1::PartitionRequestHeaders { partition_id: 1 });
    let session = Some(v1::SessionRequestHeaders { partition, session_id: target.session_id });
    let primitive_id = target.primitive_id;
    let session = Some(v1::PrimitiveRequestHeaders { session, primitive_id });
    Some(v1::OperationRequestHeaders { session })
}

pub fn command(target: Target, sequence_num: u64, input: Vec<u8>) -> Vec<u8> {
    let operation = operation(target);
    let headers = Some(v1::CommandRequestHeaders { operation, sequence_num });
    CommandRequest { headers, input }.encode_to_vec()
}

pub fn query(target: Target, input: Vec<u8>) -> Vec<u8> {
    query_after(target, input, 0)
}

/// Waits until the node has applied an index.
pub fn query_after(target: Target, input: Vec<u8>, max_received_index: u64) -> Vec<u8> {
    let operation = operation(target);
    // A linearizable query knows better than its client which index to wait for.
    let consistency = (max_received_index > 0).then_some(v1::Consistency::Local.into());
    let headers = Some(v1::QueryRequestHeaders {
        operation,
        max_received_index,
        consistency,
        ..Default::default()
    });
    QueryRequest { headers, input }.encode_to_vec()
}

/// Name of the status in an answer.
pub fn status(answer: &Bytes, is_query: bool) -> &'static str {
    let operation = if is_query {
        QueryResponse::decode(answer.clone()).ok().and_then(|r| r.headers?.operation)
    } else {
        CommandResponse::decode(answer.clone()).ok().and_then(|r| r.headers?.operation)
    };
    operation.expect("every answer has headers").status().as_str_name()
}

/// A generator whose numbers a run repeats (xorshift64*).
pub struct Random(pub u64);

impl Random {
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33
    }
}
