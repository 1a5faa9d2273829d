//! Every call of the original pages: what it does, and one way in which it is refused.

use crate::nodes::{Code, Nodes, eventually, number, status};
use serde_json::{Value, json};

const COUNTER: &str = "atomix.runtime.counter.v1.Counter";
const LOCK: &str = "atomix.runtime.lock.v1.Lock";
const MAP: &str = "atomix.runtime.map.v1.Map";

/// The event of a stream's message, as the one field that is not common to all.
fn kinds(messages: &[Value]) -> Vec<&str> {
    let common = ["timestamp", "sequence", "partitionId"];
    let keys = messages.iter().flat_map(|m| m.as_object().into_iter().flat_map(|m| m.keys()));
    keys.map(String::as_str).filter(|key| !common.contains(key)).collect()
}

#[test]
fn reflection_lists_every_call_of_the_pages() {
    let nodes = Nodes::start(1);
    let services = nodes.nodes[0].list(None);
    for service in ["Node", "Partition", "Session"] {
        assert!(services.contains(&format!("atomix.multiraft.v1.{service}")), "{services:?}");
    }
    for service in ["counter.v1.Counter", "map.v1.Map", "value.v1.Value"] {
        assert!(services.contains(&format!("atomix.multiraft.{service}")), "{services:?}");
    }
    assert!(services.contains(&"grpc.health.v1.Health".to_owned()), "{services:?}");
    let methods = nodes.nodes[0].list(Some("atomix.multiraft.v1.Partition"));
    for method in ["OpenSession", "KeepAlive", "CloseSession", "Watch"] {
        assert!(
            methods.contains(&format!("atomix.multiraft.v1.Partition.{method}")),
            "{methods:?}"
        );
    }
    let methods = nodes.nodes[0].list(Some("atomix.multiraft.v1.Node"));
    for method in ["Bootstrap", "Join", "Leave", "Watch"] {
        assert!(methods.contains(&format!("atomix.multiraft.v1.Node.{method}")), "{methods:?}");
    }
}

#[test]
fn bootstrap_forms_a_group() {
    let mut nodes = Nodes::start(3);
    let request = json!({"group": {"groupId": 1, "members": nodes.members(3)}});
    for node in &nodes.nodes {
        assert_eq!(node.ok("Node/Bootstrap", &request), json!({}));
        assert_eq!(node.ok("Node/Bootstrap", &request), json!({}), "the same again is fine");
    }
    nodes.wait_for_leader(1);
    nodes.assert_serving();
    let nothing = json!({"group": {"groupId": 2}});
    nodes.nodes[0].refused("Node/Bootstrap", &nothing, Code::InvalidArgument, &["members", "2"]);
}

#[test]
fn bootstrap_forms_several_partitions() {
    let mut nodes = Nodes::start(3);
    let partition = |id: u32| {
        let mut members = nodes.members(3);
        members.iter_mut().for_each(|m| m["memberId"] = json!("0"));
        json!({"partitionId": id, "members": members})
    };
    let request = json!({"partitions": [partition(1), partition(2)]});
    for node in &nodes.nodes {
        node.ok("Node/Bootstrap", &request);
    }
    nodes.wait_for_leader(2);
    nodes.wait_for_leader(1);
    let twice = json!({"partitions": [partition(3), partition(3)]});
    nodes.nodes[0].refused("Node/Bootstrap", &twice, Code::InvalidArgument, &["partition_id"]);
    assert!(nodes.nodes[0].group(3).is_none(), "a refused call forms nothing");
    nodes.assert_serving();
}

#[test]
fn join_and_leave_change_a_group() {
    join_and_leave("group", "groupId");
}

#[test]
fn join_and_leave_change_a_partition() {
    join_and_leave("partition", "partitionId");
}

/// The third node joins a group of two, is promoted, leaves again.
fn join_and_leave(form: &str, id: &str) {
    let mut nodes = Nodes::start(3);
    nodes.form(1, 2);
    let third = &nodes.nodes[2];
    let alone = json!({form: {id: 1, "members": [third.member(3)]}});
    third.refused("Node/Join", &alone, Code::InvalidArgument, &["members"]);
    let both = json!({
        "group": {"groupId": 1, "members": nodes.members(3)},
        "partition": {"partitionId": 1, "members": nodes.members(3)},
    });
    third.refused("Node/Join", &both, Code::InvalidArgument, &["group and partition"]);

    let counter = "counter.v1.Counter/Increment";
    let session = nodes.nodes[0].session(1);
    let before = session.primitive(1, COUNTER, "joined").ok(counter, 2, json!({"delta": 5}));
    let request = json!({form: {id: 1, "members": nodes.members(3)}});
    assert_eq!(third.ok("Node/Join", &request), json!({}));
    eventually("promotion of the joined member", || {
        let state = third.group(1).unwrap_or_default();
        let is_voter = |m: &Value| number(&m["nodeId"]) == third.id && m["role"] == "MEMBER";
        let voters = state["members"].as_array().is_some_and(|m| m.iter().any(is_voter));
        voters && state["phase"] == "GROUP_PHASE_READY"
    });
    let session = third.session(1);
    let read = session.primitive(1, COUNTER, "joined").ok("counter.v1.Counter/Get", 2, json!({}));
    assert_eq!(read["output"]["value"], before["output"]["value"]);

    let unset = json!({});
    third.refused("Node/Leave", &unset, Code::InvalidArgument, &["group_id"]);
    let leave = json!({id: 1});
    let leave = if form == "group" { leave } else { json!({"partitionId": 1}) };
    assert_eq!(third.ok("Node/Leave", &leave), json!({}));
    assert_eq!(third.ok("Node/Leave", &leave), json!({}), "leaving again is fine");
    assert!(third.group(1).is_none());
    eventually("two members left", || {
        let state = nodes.nodes[0].group(1).unwrap_or_default();
        state["members"].as_array().is_some_and(|m| m.len() == 2)
    });
    nodes.assert_serving();
}

#[test]
fn node_watch_begins_with_the_present() {
    let nodes = Nodes::formed();
    let messages = nodes.nodes[0].stream("Node/Watch", &json!({}));
    let kinds = kinds(&messages);
    assert_eq!(kinds[..2], ["snapshot", "synced"], "{kinds:?}");
    let group = &messages[0]["snapshot"]["groups"][0];
    assert_eq!(group["groupId"], 1);
    assert_ne!(number(&group["leader"]), 0, "{group}");
    let bad = nodes.nodes[0].call("Node/Watch", &json!({"groups": ["one"]}));
    assert!(bad.is_err(), "{bad:?}");
}

#[test]
fn node_watch_tells_of_a_new_group() {
    let nodes = Nodes::formed();
    std::thread::scope(|scope| {
        let watch = scope.spawn(|| nodes.nodes[0].stream("Node/Watch", &json!({})));
        nodes.form(2, 3);
        let messages = watch.join().expect("the watch ends");
        let told = kinds(&messages);
        assert!(told.contains(&"synced"), "{told:?}");
    });
    eventually("a leader of group 2 in the snapshot", || {
        let messages = nodes.nodes[0].stream("Node/Watch", &json!({"groups": [2]}));
        let groups = messages[0]["snapshot"]["groups"].as_array().cloned().unwrap_or_default();
        groups.len() == 1 && groups[0]["groupId"] == 2 && number(&groups[0]["leader"]) != 0
    });
}

/// A watcher tells a quiet node from a dead one: a heartbeat comes at least every 5 s, with the
/// number of the last change, and numbers never go back.
#[test]
fn node_watch_has_a_heartbeat() {
    let nodes = Nodes::formed();
    let time = std::time::Duration::from_secs(6);
    let messages = nodes.nodes[1].stream_for(time, "Node/Watch", &json!({}));
    assert!(kinds(&messages).contains(&"heartbeat"), "{messages:?}");
    let sequences: Vec<u64> = messages.iter().map(|m| number(&m["sequence"])).collect();
    assert!(sequences.is_sorted(), "{sequences:?}");
}

#[test]
fn partition_watch_tells_of_one_group() {
    let nodes = Nodes::formed();
    let messages = nodes.nodes[0].stream("Partition/Watch", &json!({"partitionId": 1}));
    assert!(messages.iter().all(|m| m["partitionId"] == 1), "{messages:?}");
    let kinds = kinds(&messages);
    assert!(kinds.contains(&"leaderUpdated"), "{kinds:?}");
    assert!(kinds.contains(&"membershipChanged"), "{kinds:?}");
    let node = &nodes.nodes[0];
    node.refused("Partition/Watch", &json!({"partitionId": 9}), Code::NotFound, &["9"]);
    node.refused("Partition/Watch", &json!({}), Code::InvalidArgument, &["partition_id"]);
}

#[test]
fn a_session_is_opened_kept_and_closed() {
    let nodes = Nodes::formed();
    let node = &nodes.nodes[1];
    node.refused("Partition/OpenSession", &json!({}), Code::InvalidArgument, &["partition"]);
    let session = node.session(1);
    let id = session.id.to_string();
    let headers = json!({"partitionId": 1});
    let keep = json!({"headers": headers, "input": {"sessionId": id, "exact": true}});
    let kept = node.ok("Partition/KeepAlive", &keep);
    assert!(number(&kept["headers"]["index"]) > session.id, "{kept}");
    let filter = json!({"headers": headers, "input": {
        "sessionId": id, "pendingCommandsFilter": "e30=", "lastCommandSequenceNum": "1"}});
    node.refused("Partition/KeepAlive", &filter, Code::InvalidArgument, &["filter"]);

    let close = json!({"headers": headers, "input": {"sessionId": id}});
    nodes.nodes[2].ok("Partition/CloseSession", &close);
    node.refused("Partition/CloseSession", &close, Code::DataLoss, &[&id]);
    node.refused("Partition/KeepAlive", &keep, Code::DataLoss, &[&id]);
}

#[test]
fn a_primitive_is_created_used_and_closed() {
    let nodes = Nodes::formed();
    let session = nodes.nodes[2].session(1);
    let counter = session.primitive(1, COUNTER, "c");
    assert_eq!(number(&session.create(1, COUNTER, "c")["output"]["primitiveId"]), counter.id);
    assert_eq!(status(&session.create(2, MAP, "c")), "FORBIDDEN", "the name is in use");

    let answer = counter.ok("counter.v1.Counter/Increment", 3, json!({"delta": 2}));
    let repeated = counter.ok("counter.v1.Counter/Increment", 3, json!({"delta": 2}));
    assert_eq!(answer["output"], json!({"value": "2"}));
    assert_eq!(repeated["output"], answer["output"], "the same number is the same command");
    let wrong = json!({"compare": 7, "update": 8});
    counter.answered("counter.v1.Counter/Update", 4, wrong, "CONFLICT", "");

    let map = session.primitive(5, MAP, "m");
    map.ok("map.v1.Map/Put", 6, json!({"key": "k", "value": "dg=="}));
    let read = map.ok("map.v1.Map/Get", 7, json!({"key": "k"}));
    assert_eq!(read["output"]["value"]["value"], "dg==");
    map.answered("map.v1.Map/Get", 8, json!({"key": "other"}), "NOT_FOUND", "");

    let close = json!({
        "headers": {"operation": session.target(0), "sequenceNum": "9"},
        "input": {"primitiveId": counter.id.to_string()},
    });
    let closed = nodes.nodes[2].ok("Session/ClosePrimitive", &close);
    assert_eq!(status(&closed), "OK", "{closed}");
    let again = json!({
        "headers": {"operation": session.target(0), "sequenceNum": "10"},
        "input": {"primitiveId": counter.id.to_string()},
    });
    let closed = nodes.nodes[2].ok("Session/ClosePrimitive", &again);
    assert_eq!(status(&closed), "FORBIDDEN", "{closed}");
    let late = counter.operate("counter.v1.Counter/Get", 11, json!({}));
    assert_eq!(status(&late), "FORBIDDEN", "{late}");
}

/// Whether the holder gives the lock up before or after the other asks: it is granted.
#[test]
fn a_held_lock_is_waited_for() {
    let nodes = Nodes::formed();
    let sessions = [nodes.nodes[0].session(1), nodes.nodes[2].session(1)];
    let [alice, bob] = [&sessions[0], &sessions[1]].map(|session| session.primitive(1, LOCK, "l"));
    let token = |answer: &Value| number(&answer["output"]["index"]);
    let first = token(&alice.ok("lock.v1.Lock/Acquire", 2, json!({})));
    let a_second = json!({"timeout": "1s"});
    bob.answered("lock.v1.Lock/Acquire", 2, a_second, "CONFLICT", "timeout");
    let second = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| bob.ok("lock.v1.Lock/Acquire", 3, json!({})));
        alice.ok("lock.v1.Lock/Release", 3, json!({}));
        token(&waiting.join().expect("the lock is granted"))
    });
    assert!(second > first, "the token {second} follows {first}");
    alice.answered("lock.v1.Lock/Release", 4, json!({}), "CONFLICT", "");
}

#[test]
fn the_state_of_a_node_can_be_read() {
    let nodes = Nodes::formed();
    let node = &nodes.nodes[0];
    let info = node.ok("Node/GetInfo", &json!({}));
    assert_eq!(info["activated"], true, "{info}");
    let config = node.ok("Node/GetConfig", &json!({"groupId": 1}));
    assert_eq!(config["group"]["members"].as_array().map(Vec::len), Some(3), "{config}");
    node.refused("Node/GetConfig", &json!({"groupId": 9}), Code::NotFound, &["9"]);
}
