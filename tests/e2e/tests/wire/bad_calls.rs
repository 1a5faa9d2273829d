//! Calls of clients that are wrong: each is refused with the field's name, and changes nothing.

use crate::nodes::{Code, Nodes, status};
use crate::raw;
use serde_json::json;

const COUNTER: &str = "atomix.runtime.counter.v1.Counter";
const MAP: &str = "atomix.runtime.map.v1.Map";

/// `count` bytes as JSON writes them.
pub fn base64_zeros(count: usize) -> String {
    assert_eq!(count % 3, 0, "whole groups only");
    "AAAA".repeat(count / 3)
}

#[test]
fn unknown_session() {
    let mut nodes = Nodes::formed();
    let node = &nodes.nodes[0];
    let session = crate::nodes::Session { node, partition: 1, id: 999_999 };
    let counter = crate::nodes::Primitive { session: &session, id: 1 };
    let request = counter.request(1, json!({}));
    for method in ["Increment", "Get"] {
        let method = format!("counter.v1.Counter/{method}");
        node.refused(&method, &request, Code::DataLoss, &["999999"]);
    }
    let create = json!({
        "headers": {"operation": session.target(0), "sequenceNum": "1"},
        "input": {"spec": {"service": COUNTER, "name": "c"}},
    });
    node.refused("Session/CreatePrimitive", &create, Code::DataLoss, &["999999"]);
    let input = json!({"sessionId": "999999", "exact": true});
    let keep = json!({"headers": {"partitionId": 1}, "input": input});
    node.refused("Partition/KeepAlive", &keep, Code::DataLoss, &["999999"]);
    nodes.assert_serving();
}

#[test]
fn unknown_primitive() {
    let mut nodes = Nodes::formed();
    let session = nodes.nodes[0].session(1);
    let counter = crate::nodes::Primitive { session: &session, id: 888_888 };
    counter.answered("counter.v1.Counter/Increment", 1, json!({}), "FORBIDDEN", "888888");
    counter.answered("counter.v1.Counter/Get", 2, json!({}), "FORBIDDEN", "888888");
    nodes.assert_serving();
}

#[test]
fn a_primitive_of_another_type() {
    let mut nodes = Nodes::formed();
    let session = nodes.nodes[0].session(1);
    let counter = session.primitive(1, COUNTER, "c");
    let answer = counter.operate("map.v1.Map/Put", 2, json!({"key": "k", "value": "dg=="}));
    assert_ne!(status(&answer), "OK", "{answer}");
    let answer = counter.ok("counter.v1.Counter/Get", 3, json!({}));
    assert_eq!(answer["output"]["value"], "0");
    nodes.assert_serving();
}

#[test]
fn unknown_type() {
    let mut nodes = Nodes::formed();
    let session = nodes.nodes[0].session(1);
    assert_eq!(status(&session.create(1, "atomix.runtime.list.v1.List", "l")), "FORBIDDEN");
    nodes.assert_serving();
}

#[test]
fn unknown_partition() {
    let mut nodes = Nodes::formed();
    let open = json!({"headers": {"partitionId": 7}});
    nodes.nodes[0].refused("Partition/OpenSession", &open, Code::NotFound, &["partition_id", "7"]);
    nodes.assert_serving();
}

#[test]
fn absent_headers() {
    let mut nodes = Nodes::formed();
    let node = &nodes.nodes[0];
    for method in [
        "Partition/OpenSession",
        "Partition/KeepAlive",
        "Partition/CloseSession",
        "Session/CreatePrimitive",
        "Session/ClosePrimitive",
        "counter.v1.Counter/Increment",
        "counter.v1.Counter/Get",
        "map.v1.Map/Put",
    ] {
        let input = match method {
            "Session/CreatePrimitive" => json!({"spec": {"service": COUNTER, "name": "c"}}),
            _ => json!({}),
        };
        node.refused(method, &json!({"input": input}), Code::InvalidArgument, &["headers"]);
    }
    let session = node.session(1);
    let mut request = json!({"headers": {"operation": session.target(1)}});
    let words = ["sequence_num"];
    node.refused("counter.v1.Counter/Increment", &request, Code::InvalidArgument, &words);
    request["headers"]["operation"]["session"]["session"]["partition"] = json!({});
    let words = ["partition_id"];
    node.refused("counter.v1.Counter/Get", &request, Code::InvalidArgument, &words);
    nodes.assert_serving();
}

#[test]
fn key_over_the_limit() {
    let mut nodes = Nodes::formed();
    let session = nodes.nodes[0].session(1);
    let map = session.primitive(1, MAP, "m");
    map.ok("map.v1.Map/Put", 2, json!({"key": "k".repeat(1024), "value": "dg=="}));
    let long = "k".repeat(1025);
    for (method, sequence) in [("Put", 3), ("Insert", 4), ("Update", 5), ("Remove", 6), ("Get", 7)]
    {
        let method = format!("map.v1.Map/{method}");
        map.answered(&method, sequence, json!({"key": long}), "INVALID", "key");
    }
    nodes.assert_serving();
}

#[test]
fn value_over_the_limit() {
    let mut nodes = Nodes::formed();
    let session = nodes.nodes[0].session(1);
    let map = session.primitive(1, MAP, "m");
    let limit = 512 << 10;
    let most = base64_zeros(limit - limit % 3);
    map.ok("map.v1.Map/Put", 2, json!({"key": "k", "value": most}));
    let over = base64_zeros(limit + 3 - limit % 3);
    for (method, sequence) in [("Put", 3), ("Insert", 4), ("Update", 5)] {
        let method = format!("map.v1.Map/{method}");
        map.answered(&method, sequence, json!({"key": "l", "value": over}), "INVALID", "value");
    }
    nodes.assert_serving();
}

#[test]
fn message_over_four_mebibytes() {
    let mut nodes = Nodes::formed();
    let session = nodes.nodes[0].session(1);
    let map = session.primitive(1, MAP, "m");
    let request = map.request(2, json!({"key": "k", "value": base64_zeros(4_500_000)}));
    let words = ["4194304"];
    nodes.nodes[0].refused("map.v1.Map/Put", &request, Code::OutOfRange, &words);
    map.answered("map.v1.Map/Get", 3, json!({"key": "k"}), "NOT_FOUND", "");
    nodes.assert_serving();
}

#[test]
fn random_bytes_as_a_message() {
    let mut nodes = Nodes::formed();
    let mut random = raw::Random(0x5eed);
    let mut channel = raw::Channel::open(&nodes.nodes[0].address);
    for path in [
        "/atomix.multiraft.v1.Node/Bootstrap",
        "/atomix.multiraft.v1.Node/Watch",
        "/atomix.multiraft.v1.Partition/OpenSession",
        "/atomix.multiraft.v1.Partition/KeepAlive",
        "/atomix.multiraft.v1.Session/CreatePrimitive",
        "/atomix.multiraft.counter.v1.Counter/Increment",
        "/atomix.multiraft.counter.v1.Counter/Get",
        "/atomix.multiraft.map.v1.Map/Put",
    ] {
        for length in [1, 7, 64, 4096] {
            let answer = channel.call(path, garbage(&mut random, length));
            let status = answer.expect_err("no such bytes are a message");
            assert_eq!(status.code(), tonic::Code::InvalidArgument, "{path}: {status:?}");
        }
    }
    let nowhere = channel.call("/atomix.multiraft.v1.Nothing/Call", vec![]);
    assert_eq!(nowhere.map_err(|s| s.code()), Err(tonic::Code::Unimplemented));
    nodes.assert_serving();
}

#[test]
fn random_bytes_as_an_input() {
    let mut nodes = Nodes::formed();
    let mut random = raw::Random(0xbad);
    let session = nodes.nodes[0].session(1);
    let counter = session.primitive(1, COUNTER, "c");
    let map = session.primitive(2, MAP, "m");
    let mut channel = raw::Channel::open(&nodes.nodes[0].address);
    let mut sequence = 2;
    for (primitive, path, is_query) in [
        (&counter, "/atomix.multiraft.counter.v1.Counter/Increment", false),
        (&counter, "/atomix.multiraft.counter.v1.Counter/Set", false),
        (&map, "/atomix.multiraft.map.v1.Map/Put", false),
        (&map, "/atomix.multiraft.map.v1.Map/Remove", false),
        (&map, "/atomix.multiraft.map.v1.Map/Get", true),
    ] {
        for length in [1, 7, 64, 4096] {
            sequence += 1;
            let target = raw::Target { session_id: session.id, primitive_id: primitive.id };
            let input = garbage(&mut random, length);
            let request = match is_query {
                true => raw::query(target, input),
                false => raw::command(target, sequence, input),
            };
            let answer = channel.call(path, request).unwrap_or_else(|e| panic!("{path}: {e:?}"));
            assert_eq!(raw::status(&answer, is_query), "INVALID", "{path}");
        }
    }
    let value = counter.ok("counter.v1.Counter/Get", sequence + 1, json!({}));
    assert_eq!(value["output"]["value"], "0", "nothing was changed");
    nodes.assert_serving();
}

/// Bytes that begin with what no message begins with: a field with the reserved wire type 7.
fn garbage(random: &mut raw::Random, length: usize) -> Vec<u8> {
    let mut bytes = random.bytes(length);
    bytes[0] = 0x0f;
    bytes
}
