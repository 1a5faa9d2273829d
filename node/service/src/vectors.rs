//! The codec against bytes that Python's protobuf wrote: tests/interop/vectors.py.

use crate::envelope::{
    self, CommandRequest, CommandResponse, Outcome, QueryRequest, QueryResponse, Target, decode,
};
use crate::rsm::create_request;
use crate::wire::Wire;
use bytes::Bytes;
use multiraft_machine::Status;
use multiraft_proto::{counter, map, multimap, v1};
use prost::Message;

const STORED: &str = include_str!("../../../tests/interop/vectors.txt");
const TARGET: Target = Target { group: 3, session_id: 4, primitive_id: 5 };

/// The bytes of a name on both wires.
fn stored(name: &str) -> [(Wire, Bytes); 2] {
    [(Wire::Multiraft, "S"), (Wire::Rsm, "M")].map(|(wire, letter)| {
        let prefix = format!("{letter} {name} ");
        let hex = STORED.lines().find_map(|line| line.strip_prefix(&prefix)).expect("it is stored");
        let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("it is hex");
        (wire, (0..hex.len()).step_by(2).map(byte).collect())
    })
}

#[test]
fn commands_of_python_are_read() {
    for (wire, bytes) in stored("request:Counter/Set") {
        let request: CommandRequest = decode(bytes).unwrap();
        let seen = envelope::command(request.headers.as_ref()).unwrap();
        assert_eq!(seen, (TARGET, 9), "{wire:?}");
        let input = counter::SetInput::decode(request.input).unwrap();
        assert_eq!(input.value, -7, "{wire:?}");
    }
    for (wire, bytes) in stored("request:Map/Put") {
        let request: CommandRequest = decode(bytes).unwrap();
        let input = map::PutInput::decode(request.input).unwrap();
        let ttl = input.ttl.map(|ttl| (ttl.seconds, ttl.nanos));
        assert_eq!((ttl, input.prev_index), (Some((1, 500_000_000)), 300), "{wire:?}");
        assert_eq!((input.key.as_str(), &input.value[..]), ("k", &b"\0\xff"[..]), "{wire:?}");
    }
}

#[test]
fn queries_of_python_are_read() {
    for (wire, bytes) in stored("request:Map/Get") {
        let request: QueryRequest = decode(bytes).unwrap();
        let headers = request.headers.unwrap();
        assert_eq!(envelope::target(headers.operation.as_ref()).unwrap(), TARGET, "{wire:?}");
        assert_eq!((headers.sequence_num, headers.max_received_index), (9, 77), "{wire:?}");
        assert_eq!(map::GetInput::decode(request.input).unwrap().key, "k", "{wire:?}");
    }
}

#[test]
fn a_primitive_has_the_same_spec_on_both_wires() {
    let target = Target { primitive_id: 0, ..TARGET };
    let own = v1::PrimitiveSpec {
        service: "atomix.runtime.multimap.v1.MultiMap".into(),
        namespace: "space".into(),
        name: "orders".into(),
    };
    for (wire, bytes) in stored("request:CreatePrimitive") {
        let request = match wire {
            Wire::Multiraft => decode(bytes).unwrap(),
            Wire::Rsm => create_request(bytes).unwrap(),
        };
        let seen = envelope::command(request.headers.as_ref()).unwrap();
        assert_eq!(seen, (target, 9), "{wire:?}");
        assert_eq!(request.input.unwrap().spec.as_ref(), Some(&own), "{wire:?}");
    }
    for (wire, bytes) in stored("request:ClosePrimitive") {
        let request: v1::ClosePrimitiveRequest = decode(bytes).unwrap();
        let seen = envelope::command(request.headers.as_ref()).unwrap();
        assert_eq!(seen, (target, 9), "{wire:?}");
        assert_eq!(request.input.unwrap().primitive_id, 5, "{wire:?}");
    }
}

#[test]
fn sessions_of_python_are_read() {
    for (wire, bytes) in stored("request:OpenSession") {
        let request: v1::OpenSessionRequest = decode(bytes).unwrap();
        assert_eq!(envelope::group(request.headers.as_ref()).unwrap(), 3, "{wire:?}");
        assert_eq!(request.input.unwrap().timeout.unwrap().seconds, 60, "{wire:?}");
    }
    for (wire, bytes) in stored("request:KeepAlive") {
        let input = decode::<v1::KeepAliveRequest>(bytes).unwrap().input.unwrap();
        assert_eq!((input.session_id, input.last_command_sequence_num), (4, 11), "{wire:?}");
        multiraft_machine::validate_keep_alive(&input).unwrap();
        let received: Vec<_> = input.output_stream_sequence_nums.into_iter().collect();
        assert_eq!(received, [(5, 2), (300, 7)], "{wire:?}");
    }
    for (wire, bytes) in stored("request:CloseSession") {
        let request: v1::CloseSessionRequest = decode(bytes).unwrap();
        assert_eq!(request.input.unwrap().session_id, 4, "{wire:?}");
    }
}

fn outcome(status: Status, sequence: u64) -> Outcome {
    let message = if status == Status::Ok { "" } else { "why" };
    Outcome { index: 12, status, message: message.into(), sequence }
}

/// Whatever is written is what Python would write.
fn assert_written<M: Message>(name: &str, response: impl Fn(Wire) -> M) {
    for (wire, bytes) in stored(name) {
        assert_eq!(response(wire).encode_to_vec(), bytes, "{name} on {wire:?}");
    }
}

fn command(status: Status, output: Option<Bytes>) -> impl Fn(Wire) -> CommandResponse {
    move |wire| {
        let headers = Some(wire.command_response(&outcome(status, 1)));
        CommandResponse { headers, output: output.clone() }
    }
}

fn query(status: Status, output: Option<Bytes>) -> impl Fn(Wire) -> QueryResponse {
    move |wire| {
        let operation = Some(wire.operation_response(&outcome(status, 0)));
        let headers = Some(v1::QueryResponseHeaders { operation });
        QueryResponse { headers, output: output.clone() }
    }
}

#[test]
fn operations_are_answered_in_the_bytes_of_python() {
    let encoded = |bytes: Vec<u8>| Some(Bytes::from(bytes));
    let set = encoded(counter::SetOutput { value: -7 }.encode_to_vec());
    assert_written("response:ok", command(Status::Ok, set));
    assert_written("response:conflict", command(Status::Conflict, None));
    let get = encoded(counter::GetOutput { value: 300 }.encode_to_vec());
    assert_written("response:query", query(Status::Ok, get));
    let empty = encoded(multimap::GetOutput::default().encode_to_vec());
    assert_written("response:empty", query(Status::Ok, empty));
    assert_written("response:missing", query(Status::NotFound, None));
}

#[test]
fn sessions_are_answered_in_the_bytes_of_python() {
    let headers = |wire: Wire, status| Some(wire.command_response(&outcome(status, 0)));
    assert_written("response:created", |wire| v1::CreatePrimitiveResponse {
        headers: headers(wire, Status::Ok),
        output: Some(v1::CreatePrimitiveOutput { primitive_id: 12 }),
    });
    assert_written("response:forbidden", |wire| v1::CreatePrimitiveResponse {
        headers: headers(wire, Status::Forbidden),
        output: None,
    });
    assert_written("response:closed", |wire| v1::ClosePrimitiveResponse {
        headers: headers(wire, Status::Ok),
        output: Some(v1::ClosePrimitiveOutput {}),
    });
    let headers = Some(v1::PartitionResponseHeaders { index: 300 });
    assert_written("response:opened", |_| v1::OpenSessionResponse {
        headers,
        output: Some(v1::OpenSessionOutput { session_id: 300 }),
    });
    assert_written("response:kept", |_| v1::KeepAliveResponse {
        headers,
        output: Some(v1::KeepAliveOutput {}),
    });
    assert_written("response:ended", |_| v1::CloseSessionResponse {
        headers,
        output: Some(v1::CloseSessionOutput {}),
    });
}
