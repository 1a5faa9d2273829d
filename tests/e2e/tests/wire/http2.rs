//! Calls as frames of HTTP/2, cut, delayed and broken off as no library for gRPC would.

use std::time::Duration;

use bytes::{Buf, Bytes};
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, SendStream};
use http::HeaderMap;
use serde_json::json;
use tokio::net::TcpStream;

use crate::bad_calls::base64_zeros;
use crate::nodes::{Node, Nodes};
use crate::raw::{self, Target};

const COUNTER: &str = "atomix.runtime.counter.v1.Counter";
const GET: &str = "/atomix.multiraft.counter.v1.Counter/Get";
const INCREMENT: &str = "/atomix.multiraft.counter.v1.Counter/Increment";
const MAP: &str = "atomix.runtime.map.v1.Map";
const GET_INFO: &str = "/atomix.multiraft.v1.Node/GetInfo";
const BOOTSTRAP: &str = "/atomix.multiraft.v1.Node/Bootstrap";

const OK: &str = "0";
const INVALID_ARGUMENT: &str = "3";
const DEADLINE_EXCEEDED: &str = "4";
const OUT_OF_RANGE: &str = "11";
const UNIMPLEMENTED: &str = "12";

/// An index that no group reaches: a query after it waits.
const NEVER: u64 = 1 << 40;

/// One connection to a node, which is driven in the background.
struct Connection(SendRequest<Bytes>);

impl Connection {
    async fn open(node: &Node) -> Self {
        Self::with(node, &h2::client::Builder::new()).await
    }

    async fn with(node: &Node, builder: &h2::client::Builder) -> Self {
        let stream = TcpStream::connect(&node.address).await.expect("the node accepts");
        let (requests, connection) = builder.handshake(stream).await.expect("HTTP/2");
        tokio::spawn(connection);
        Self(requests)
    }

    async fn call(&mut self, path: &str, timeout: Option<&str>) -> Call {
        let mut request = http::Request::post(format!("http://node{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        if let Some(timeout) = timeout {
            request = request.header("grpc-timeout", timeout);
        }
        let mut ready = self.0.clone().ready().await.expect("the connection stands");
        let request = request.body(()).expect("a request");
        let (response, body) = ready.send_request(request, false).expect("a stream");
        Call { response, body }
    }
}

struct Call {
    response: ResponseFuture,
    body: SendStream<Bytes>,
}

impl Call {
    fn send(&mut self, bytes: &[u8], end: bool) {
        self.body.send_data(Bytes::copy_from_slice(bytes), end).expect("the stream stands");
    }

    /// Sends all in one frame.
    fn send_whole(&mut self, message: &[u8]) {
        self.send(&framed(message), true);
    }

    /// (grpc-status, its words, the message answered)
    async fn answer(self) -> (String, String, Bytes) {
        let answered = tokio::time::timeout(Duration::from_secs(20), self.response).await;
        let response = answered.expect("an answer in time").expect("a response");
        let (head, mut body) = response.into_parts();
        let mut data = Vec::new();
        while let Some(chunk) = body.data().await {
            let chunk = chunk.expect("data");
            body.flow_control().release_capacity(chunk.len()).expect("held before");
            data.extend_from_slice(&chunk);
        }
        let trailers = body.trailers().await.expect("trailers");
        let trailers: HeaderMap = trailers.unwrap_or(head.headers);
        let text = |name| {
            let value = trailers.get(name).map(|value| value.to_str().expect("text").to_owned());
            value.unwrap_or_default()
        };
        let mut message = Bytes::from(data);
        if !message.is_empty() {
            assert_eq!(message.get_u8(), 0, "not compressed");
            assert_eq!(message.get_u32() as usize, message.len(), "the length is right");
        }
        (text("grpc-status"), text("grpc-message").replace("%20", " "), message)
    }
}

fn framed(message: &[u8]) -> Vec<u8> {
    let length = (message.len() as u32).to_be_bytes();
    [&[0], length.as_slice(), message].concat()
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(test);
}

/// A counter in group 1 of fresh nodes.
fn counter() -> (Nodes, Target) {
    let nodes = Nodes::formed();
    let session = nodes.nodes[0].session(1);
    let primitive_id = session.primitive(1, COUNTER, "c").id;
    let target = Target { session_id: session.id, primitive_id };
    (nodes, target)
}

#[test]
fn a_message_in_pieces_is_taken_as_one() {
    let (nodes, target) = counter();
    run(async {
        let mut connection = Connection::open(&nodes.nodes[0]).await;
        for (sequence, piece) in [(2, 1), (3, 4), (4, 5), (5, 6), (6, 1000)] {
            let mut call = connection.call(INCREMENT, None).await;
            for piece in framed(&raw::command(target, sequence, vec![0x08, 1])).chunks(piece) {
                call.send(piece, false);
                tokio::task::yield_now().await;
            }
            call.send(&[], true);
            let (status, words, message) = call.answer().await;
            assert_eq!((status.as_str(), words.as_str()), (OK, ""));
            assert_eq!(raw::status(&message, false), "OK");
        }
    });
}

#[test]
fn a_message_that_is_cut_compressed_or_too_long_is_refused() {
    let (mut nodes, _) = counter();
    run(async {
        let mut connection = Connection::open(&nodes.nodes[0]).await;
        let too_long = [&[0], (5_u32 << 20).to_be_bytes().as_slice()].concat();
        for (bytes, code, word) in [
            (vec![], INVALID_ARGUMENT, "ends before"),
            (vec![0, 0, 0], INVALID_ARGUMENT, "ends before"),
            (vec![0, 0, 0, 0, 9, 1, 2], INVALID_ARGUMENT, "ends before"),
            (vec![1, 0, 0, 0, 1, 0], UNIMPLEMENTED, "compressed"),
            (too_long, OUT_OF_RANGE, "4194304"),
        ] {
            let mut call = connection.call(INCREMENT, None).await;
            call.send(&bytes, true);
            let (status, words, _) = call.answer().await;
            assert_eq!(status, code, "{bytes:?}: {words}");
            assert!(words.contains(word), "{bytes:?}: {words}");
        }
    });
    nodes.assert_serving();
}

#[test]
fn a_deadline_ends_a_call_that_waits() {
    let (mut nodes, target) = counter();
    run(async {
        let mut connection = Connection::open(&nodes.nodes[0]).await;
        let mut call = connection.call(GET, Some("150m")).await;
        call.send_whole(&raw::query_after(target, vec![], NEVER));
        let (status, words, _) = call.answer().await;
        assert_eq!(status, DEADLINE_EXCEEDED, "{words}");
        assert!(words.contains("150 ms"), "{words}");
    });
    nodes.assert_serving();
}

#[test]
fn calls_that_wait_do_not_hold_up_others_and_may_be_given_up() {
    let (mut nodes, target) = counter();
    run(async {
        let mut connection = Connection::open(&nodes.nodes[0]).await;
        let mut waiting = Vec::new();
        for _ in 0..100 {
            let mut call = connection.call(GET, None).await;
            call.send_whole(&raw::query_after(target, vec![], NEVER));
            waiting.push(call);
        }
        for given_up in [50, 0] {
            // Also sees to it that they have begun: calls given up in the burst that brings them
            // are taken for an attack.
            let mut call = connection.call(GET_INFO, None).await;
            call.send_whole(&[]);
            assert_eq!(call.answer().await.0, OK);
            for mut call in waiting.drain(..given_up) {
                call.body.send_reset(Reason::CANCEL);
            }
        }
        // The other fifty end with their connection.
        drop((connection, waiting));
    });
    nodes.assert_serving();
}

#[test]
fn a_slow_reader_of_a_long_answer_gets_all_of_it() {
    let nodes = Nodes::formed();
    let session = nodes.nodes[0].session(1);
    let map = session.primitive(1, MAP, "m");
    let value = vec![0; 500_001];
    map.ok("map.v1.Map/Put", 2, json!({"key": "k", "value": base64_zeros(value.len())}));
    let target = Target { session_id: session.id, primitive_id: map.id };
    run(async {
        let mut narrow = h2::client::Builder::new();
        narrow.initial_window_size(1_000).initial_connection_window_size(70_000);
        let mut connection = Connection::with(&nodes.nodes[0], &narrow).await;
        let mut call = connection.call("/atomix.multiraft.map.v1.Map/Get", None).await;
        call.send_whole(&raw::query(target, vec![0x0a, 1, b'k']));
        let (status, words, message) = call.answer().await;
        assert_eq!((status.as_str(), words.as_str()), (OK, ""));
        let found = message.windows(value.len()).any(|window| window == value);
        assert!(found, "{} bytes without the value", message.len());
    });
}

#[test]
fn requests_of_other_services_may_be_cut_and_long_too() {
    let mut nodes = Nodes::formed();
    run(async {
        let mut connection = Connection::open(&nodes.nodes[0]).await;
        let mut call = connection.call(GET_INFO, None).await;
        for byte in framed(&[]) {
            call.send(&[byte], false);
            tokio::task::yield_now().await;
        }
        call.send(&[], true);
        assert_eq!(call.answer().await.0, OK);
        let mut call = connection.call(BOOTSTRAP, None).await;
        call.send_whole(&vec![0x0f; 1 << 20]);
        let (status, words, _) = call.answer().await;
        assert_eq!(status, INVALID_ARGUMENT, "{words}");
    });
    nodes.assert_serving();
}

#[test]
fn what_is_no_http2_is_closed() {
    use std::io::{Read as _, Write as _};
    let mut nodes = Nodes::formed();
    let mut stream = std::net::TcpStream::connect(&nodes.nodes[0].address).expect("accepted");
    stream.write_all(b"GET / HTTP/1.1\r\nhost: node\r\n\r\n").expect("written");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    let mut answer = Vec::new();
    // The end or a reset, not a silence.
    if let Err(error) = stream.read_to_end(&mut answer) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
    }
    nodes.assert_serving();
}
