//! Requests whose end arrives after they were answered, frame by frame: a client sends its message
//! and then, in a frame of its own, that there is no more.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::nodes::Nodes;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

/// h2 remembers 50 streams that it has closed early, and ends a connection after 1,024 frames for
/// others.
const CALLS_AT_ONCE: u32 = 256;
const TIMES: u32 = 10;

struct Frames(TcpStream);

impl Frames {
    fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = (payload.len() as u32).to_be_bytes();
        let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
        self.0.write_all(&[&head, payload].concat()).expect("the connection stands");
    }

    /// Kind and flags of the next frame.
    fn next(&mut self) -> (u8, u8) {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).expect("the connection stands");
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        self.0.read_exact(&mut payload).expect("a whole frame");
        assert_ne!(head[3], GOAWAY, "{:?}", String::from_utf8_lossy(&payload));
        (head[3], head[4])
    }
}

/// Headers without compression, each by name and value.
fn headers(path: &str) -> Vec<u8> {
    let all = [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "node"),
        (":path", path),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    let mut out = Vec::new();
    for (name, value) in all {
        out.push(0);
        for text in [name, value] {
            out.push(u8::try_from(text.len()).expect("short"));
            out.extend_from_slice(text.as_bytes());
        }
    }
    out
}

#[test]
fn requests_that_end_after_their_answer_do_not_cost_the_connection() {
    let nodes = Nodes::formed();
    let stream = TcpStream::connect(&nodes.nodes[0].address).expect("the node accepts");
    stream.set_nodelay(true).expect("an option");
    let mut frames = Frames(stream);
    frames.0.write_all(PREFACE).expect("the connection stands");
    frames.send(SETTINGS, 0, 0, &[]);
    frames.send(WINDOW_UPDATE, 0, 0, &(1_u32 << 30).to_be_bytes());
    let headers = headers("/atomix.multiraft.counter.v1.Counter/Get");
    let mut first = 1;
    for _ in 0..TIMES {
        let streams = (first..).step_by(2).take(CALLS_AT_ONCE as usize);
        first += 2 * CALLS_AT_ONCE;
        for stream in streams.clone() {
            frames.send(HEADERS, END_HEADERS, stream, &headers);
            // An empty message: refused, but answered.
            frames.send(DATA, 0, stream, &[0; 5]);
        }
        let mut answered = 0;
        while answered < CALLS_AT_ONCE {
            let (kind, flags) = frames.next();
            answered += u32::from(kind == HEADERS && flags & END_STREAM != 0);
        }
        for stream in streams {
            frames.send(DATA, END_STREAM, stream, &[]);
        }
    }
    frames.send(PING, 0, 0, &[0; 8]);
    while frames.next() != (PING, ACK) {}
}
