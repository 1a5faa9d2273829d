//! What is in a group, as administrators see and change it: sessions, primitives, quotas.

use crate::nodes::{Code, Node, Nodes, eventually, number, status};
use serde_json::{Value, json};

const COUNTER: &str = "atomix.runtime.counter.v1.Counter";
const LOCK: &str = "atomix.runtime.lock.v1.Lock";
const MAP: &str = "atomix.runtime.map.v1.Map";

/// Three nodes with group 2; group 1 is on the first two only, and the third knows of it.
fn nodes() -> Nodes {
    let nodes = Nodes::start(3);
    nodes.form(2, 3);
    nodes.form(1, 2);
    nodes
}

fn ids(answer: &Value, list: &str, id: &str) -> Vec<u64> {
    answer[list].as_array().into_iter().flatten().map(|one| number(&one[id])).collect()
}

fn sessions(node: &Node) -> Vec<u64> {
    let answer = node.ok("Node/ListSessions", &json!({"groupId": 1}));
    ids(&answer, "sessions", "sessionId")
}

fn primitives(node: &Node) -> Value {
    node.ok("Node/ListPrimitives", &json!({"groupId": 1}))
}

#[test]
fn sessions_are_listed_page_by_page_and_on_any_node() {
    let mut nodes = nodes();
    let [node, _, other] = &nodes.nodes[..] else { panic!("three nodes") };
    let (first, second) = (node.session(1), node.session(1));
    let counter = first.primitive(1, COUNTER, "c");
    counter.ok("counter.v1.Counter/Increment", 2, json!({}));
    let all = other.ok("Node/ListSessions", &json!({"groupId": 1}));
    assert_eq!(ids(&all, "sessions", "sessionId"), [first.id, second.id]);
    assert_eq!((&all["more"], number(&all["index"]) >= 4), (&json!(false), true), "{all}");
    let one = &all["sessions"][0];
    assert_eq!((&one["timeout"], &one["unreleasedCommands"]), (&json!("30s"), &json!(2)), "{one}");
    assert_eq!(one["primitives"], json!([counter.id.to_string()]), "{one}");
    assert_eq!(one["openCommands"], 0, "{one}");
    assert!(number(&one["bytes"]) > 0, "{one}");
    let remaining = one["remaining"].as_str().and_then(|text| text.strip_suffix('s'));
    let remaining: f64 = remaining.expect("a duration").parse().expect("seconds");
    assert!(remaining > 0.0 && remaining <= 30.0, "{one}");

    let page = |after: u64| json!({"groupId": 1, "limit": 1, "after": after.to_string()});
    let answer = node.ok("Node/ListSessions", &page(0));
    assert_eq!(
        (ids(&answer, "sessions", "sessionId"), &answer["more"]),
        (vec![first.id], &json!(true))
    );
    let answer = node.ok("Node/ListSessions", &page(first.id));
    assert_eq!(
        (ids(&answer, "sessions", "sessionId"), &answer["more"]),
        (vec![second.id], &json!(false))
    );
    node.refused("Node/ListSessions", &json!({}), Code::InvalidArgument, &["group_id"]);
    let unknown = json!({"groupId": 7});
    node.refused("Node/ListSessions", &unknown, Code::NotFound, &["7"]);
    nodes.assert_serving();
}

#[test]
fn an_expired_session_is_gone_with_what_it_holds() {
    let mut nodes = nodes();
    let [node, _, other] = &nodes.nodes[..] else { panic!("three nodes") };
    let (holder, next) = (node.session(1), other.session(1));
    holder.primitive(1, LOCK, "l").ok("lock.v1.Lock/Acquire", 2, json!({}));
    let expire = json!({"groupId": 1, "sessionId": holder.id.to_string()});
    assert_eq!(other.ok("Node/ExpireSession", &expire), json!({}));
    assert_eq!(node.ok("Node/ExpireSession", &expire), json!({}), "expiring again is fine");
    assert_eq!(sessions(node), [next.id]);
    next.primitive(1, LOCK, "l").ok("lock.v1.Lock/Acquire", 2, json!({"timeout": "0s"}));
    let keep = json!({
        "headers": {"partitionId": 1},
        "input": {"sessionId": holder.id.to_string(), "exact": true},
    });
    node.refused("Partition/KeepAlive", &keep, Code::DataLoss, &[&holder.id.to_string()]);
    let unset = json!({"groupId": 1});
    node.refused("Node/ExpireSession", &unset, Code::InvalidArgument, &["session_id"]);
    let unset = json!({"sessionId": "1"});
    node.refused("Node/ExpireSession", &unset, Code::InvalidArgument, &["group_id"]);
    nodes.assert_serving();
}

#[test]
fn primitives_are_listed_with_their_sizes_and_sessions() {
    let mut nodes = nodes();
    let [node, _, other] = &nodes.nodes[..] else { panic!("three nodes") };
    let (session, second) = (node.session(1), node.session(1));
    let map = session.primitive(1, MAP, "m");
    map.ok("map.v1.Map/Put", 2, json!({"key": "k", "value": "dmFsdWU="}));
    let counter = session.primitive(3, COUNTER, "c");
    second.primitive(1, MAP, "m");
    let all = primitives(other);
    assert_eq!(ids(&all, "primitives", "primitiveId"), [map.id, counter.id]);
    let [first, last] = [&all["primitives"][0], &all["primitives"][1]];
    assert_eq!(first["spec"], json!({"service": MAP, "namespace": "", "name": "m"}));
    assert_eq!((&first["sessions"], number(&first["entries"])), (&json!(2), 1), "{first}");
    assert!(number(&first["bytes"]) > 6, "{first}");
    assert_eq!((&last["sessions"], number(&last["entries"])), (&json!(1), 0), "{last}");
    let page = json!({"groupId": 1, "limit": 1});
    let answer = node.ok("Node/ListPrimitives", &page);
    let found = (ids(&answer, "primitives", "primitiveId"), &answer["more"]);
    assert_eq!(found, (vec![map.id], &json!(true)));
    node.refused("Node/ListPrimitives", &json!({}), Code::InvalidArgument, &["group_id"]);
    nodes.assert_serving();
}

#[test]
fn a_destroyed_primitive_is_gone_and_cancels_what_waits_for_it() {
    let mut nodes = nodes();
    let [node, _, other] = &nodes.nodes[..] else { panic!("three nodes") };
    let (holder, waiter) = (node.session(1), other.session(1));
    let lock = holder.primitive(1, LOCK, "l");
    lock.ok("lock.v1.Lock/Acquire", 2, json!({}));
    let waiting = waiter.primitive(1, LOCK, "l");
    let request = waiting.request(2, json!({}));
    let destroy = json!({"groupId": 1, "primitiveId": lock.id.to_string()});
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| other.call("lock.v1.Lock/Acquire", &request));
        eventually("a waiting command", || {
            number(&primitives(node)["primitives"][0]["entries"]) == 2
        });
        assert_eq!(other.ok("Node/DestroyPrimitive", &destroy), json!({}));
        let refused = waits.join().expect("the call ends").expect_err("nobody grants it");
        refused.assert("Acquire", Code::Cancelled, &["cancel"]);
    });
    assert_eq!(node.ok("Node/DestroyPrimitive", &destroy), json!({}), "again is fine");
    assert_eq!(primitives(node)["primitives"], json!([]));
    lock.answered("lock.v1.Lock/Get", 3, json!({}), "FORBIDDEN", "not open");
    let again = holder.primitive(4, LOCK, "l");
    assert_ne!(again.id, lock.id);
    again.answered("lock.v1.Lock/Get", 5, json!({}), "NOT_FOUND", "free");
    let unset = json!({"groupId": 1});
    node.refused("Node/DestroyPrimitive", &unset, Code::InvalidArgument, &["primitive_id"]);
    nodes.assert_serving();
}

#[test]
fn a_quota_is_held_until_it_is_removed() {
    let mut nodes = nodes();
    let [node, _, other] = &nodes.nodes[..] else { panic!("three nodes") };
    let session = node.session(1);
    let map = session.primitive(1, MAP, "m");
    let quota = json!({"primitives": "1", "bytes": "200", "sessions": "1"});
    assert_eq!(other.ok("Node/SetQuota", &json!({"groupId": 1, "quota": quota})), json!({}));
    map.ok("map.v1.Map/Put", 2, json!({"key": "k", "value": "dmFsdWU="}));
    let (put, entry) = ("map.v1.Map/Put", json!({"key": "l", "value": "dmFsdWU="}));
    map.answered(put, 3, entry.clone(), "INVALID", "bytes: limit 200");
    let refused = session.create(4, COUNTER, "c");
    assert_eq!(status(&refused), "INVALID", "{refused}");
    let refused = other.session(1).create(1, MAP, "m");
    assert_eq!(status(&refused), "INVALID", "{refused}");
    let message = refused["headers"]["operation"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("sessions: limit 1") && message.contains("SetQuota"), "{message}");

    let quotas = node.ok("Node/GetQuotas", &json!({"groupId": 1}));
    let [one] = &quotas["quotas"].as_array().expect("a list")[..] else { panic!("{quotas}") };
    assert_eq!(number(&one["quota"]["bytes"]), 200, "{one}");
    assert_eq!(one["quota"]["namespace"], "", "{one}");
    assert_eq!((number(&one["used"]["primitives"]), number(&one["used"]["sessions"])), (1, 1));
    let listed = &primitives(node)["primitives"][0]["bytes"];
    assert_eq!(&one["used"]["bytes"], listed, "both say the same");

    other.ok("Node/SetQuota", &json!({"groupId": 1, "quota": {}}));
    assert_eq!(node.ok("Node/GetQuotas", &json!({"groupId": 1}))["quotas"], json!([]));
    map.ok(put, 5, entry);
    nodes.assert_serving();
}

#[test]
fn a_quota_that_makes_no_sense_is_refused() {
    let mut nodes = Nodes::formed();
    let node = &nodes.nodes[0];
    let refused = |request: Value, words: &[&str]| {
        node.refused("Node/SetQuota", &request, Code::InvalidArgument, words);
    };
    refused(json!({"groupId": 1}), &["quota"]);
    refused(json!({"quota": {"bytes": "1"}}), &["group_id"]);
    let quota = json!({"namespace": "x".repeat(1025), "bytes": "1"});
    refused(json!({"groupId": 1, "quota": quota}), &["quota.namespace", "1024"]);
    node.refused("Node/GetQuotas", &json!({}), Code::InvalidArgument, &["group_id"]);
    nodes.assert_serving();
}

#[test]
fn a_node_of_an_operator_wants_its_fence() {
    let nodes = Nodes::start(1);
    let node = &nodes.nodes[0];
    let fence = |epoch: u64| json!({"clusterId": "c", "operatorEpoch": epoch.to_string()});
    let group = json!({"groupId": 1, "members": nodes.members(1)});
    node.ok("Node/Bootstrap", &json!({"group": group, "fence": fence(2)}));
    node.ok("Node/Activate", &json!({"fence": fence(2)}));
    nodes.wait_for_leader(1);
    for (method, mut request) in [
        ("Node/ExpireSession", json!({"groupId": 1, "sessionId": "1"})),
        ("Node/DestroyPrimitive", json!({"groupId": 1, "primitiveId": "1"})),
        ("Node/SetQuota", json!({"groupId": 1, "quota": {"namespace": "a", "bytes": "1"}})),
    ] {
        node.refused(method, &request, Code::PermissionDenied, &["fence"]);
        request["fence"] = fence(1);
        node.refused(method, &request, Code::PermissionDenied, &["operator_epoch"]);
        request["fence"] = fence(2);
        node.ok(method, &request);
    }
    // Nothing changes by looking.
    let quotas = node.ok("Node/GetQuotas", &json!({"groupId": 1}));
    assert_eq!(quotas["quotas"].as_array().map(Vec::len), Some(1), "{quotas}");
}

/// Clients hash keys onto so many groups: a node must not forget the number, nor take another.
#[test]
fn the_number_of_groups_is_told_once_and_kept() {
    let mut nodes = Nodes::start(1);
    let told =
        |nodes: &Nodes| nodes.nodes[0].ok("Node/GetInfo", &json!({}))["clusterGroups"].clone();
    assert_eq!(told(&nodes), 0, "nobody said it");
    nodes.nodes[0].ok("Node/Activate", &json!({"groups": 4}));
    nodes.nodes[0].ok("Node/Activate", &json!({}));
    assert_eq!(told(&nodes), 4);
    let another = json!({"groups": 5});
    nodes.nodes[0].refused("Node/Activate", &another, Code::FailedPrecondition, &["groups", "4"]);
    nodes.restart(0);
    assert_eq!(told(&nodes), 4, "after a restart");
}
