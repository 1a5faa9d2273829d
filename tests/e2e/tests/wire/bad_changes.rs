//! Changes of groups that a node must refuse, each naming the field. Nothing is formed by them.

use crate::nodes::{Code, Nodes};
use serde_json::{Value, json};

/// A Bootstrap of group 1 that one fresh node refuses with these words; it forms nothing.
fn refused(change: impl Fn(&Nodes, &mut Value), code: Code, words: &[&str]) {
    let nodes = Nodes::start(1);
    let node = &nodes.nodes[0];
    let mut request = json!({"group": {"groupId": 1, "members": [node.member(1)]}});
    let good = request.clone();
    change(&nodes, &mut request);
    node.refused("Node/Bootstrap", &request, code, words);
    assert!(node.group(1).is_none(), "a refused call forms nothing");
    node.ok("Node/Bootstrap", &good);
}

/// Another member that exists nowhere.
fn other(member_id: u64, node_id: u64) -> Value {
    json!({"memberId": member_id, "nodeId": node_id, "host": "127.0.0.1", "port": 9})
}

#[test]
fn both_forms_at_once() {
    let both = |_: &Nodes, r: &mut Value| r["partitions"] = json!([{"partitionId": 2}]);
    refused(both, Code::InvalidArgument, &["group and partitions"]);
}

#[test]
fn neither_form() {
    refused(|_, r| *r = json!({}), Code::InvalidArgument, &["group or partitions"]);
}

#[test]
fn group_id_zero() {
    refused(|_, r| r["group"]["groupId"] = json!(0), Code::InvalidArgument, &["group_id"]);
}

#[test]
fn group_id_too_large() {
    let large = |_: &Nodes, r: &mut Value| r["group"]["groupId"] = json!(u32::MAX);
    refused(large, Code::InvalidArgument, &["group_id"]);
}

#[test]
fn members_without_this_node() {
    let others = |_: &Nodes, r: &mut Value| r["group"]["members"] = json!([other(1, 77)]);
    refused(others, Code::InvalidArgument, &["members", "not among them"]);
}

#[test]
fn a_node_named_twice() {
    let twice = |nodes: &Nodes, r: &mut Value| {
        let node = &nodes.nodes[0];
        r["group"]["members"] = json!([node.member(1), node.member(2)]);
    };
    refused(twice, Code::InvalidArgument, &["members.node_id", "twice"]);
}

#[test]
fn a_member_id_named_twice() {
    let twice = |nodes: &Nodes, r: &mut Value| {
        r["group"]["members"] = json!([nodes.nodes[0].member(1), other(1, 77)]);
    };
    refused(twice, Code::InvalidArgument, &["members.member_id", "twice"]);
}

#[test]
fn role_witness() {
    let witness = |_: &Nodes, r: &mut Value| r["group"]["members"][0]["role"] = json!("WITNESS");
    refused(witness, Code::InvalidArgument, &["role", "WITNESS"]);
}

#[test]
fn port_out_of_range() {
    for port in [0, -1, 65_536, 70_000] {
        let change = |_: &Nodes, r: &mut Value| r["group"]["members"][0]["port"] = json!(port);
        refused(change, Code::InvalidArgument, &["members.port", &port.to_string()]);
    }
}

#[test]
fn host_missing() {
    let change = |_: &Nodes, r: &mut Value| r["group"]["members"][0]["host"] = json!("");
    refused(change, Code::InvalidArgument, &["members.host"]);
}

#[test]
fn a_fence_for_another_incarnation() {
    let change = |nodes: &Nodes, r: &mut Value| {
        let incarnation = nodes.nodes[0].incarnation ^ 1;
        r["fence"] = fence(1, json!(incarnation.to_string()));
    };
    refused(change, Code::FailedPrecondition, &["fence.incarnation"]);
}

#[test]
fn a_fence_without_a_cluster() {
    let change = |_: &Nodes, r: &mut Value| r["fence"] = json!({"operatorEpoch": 1});
    refused(change, Code::InvalidArgument, &["fence", "cluster_id"]);
}

#[test]
fn a_second_bootstrap_with_other_members() {
    let mut nodes = Nodes::formed();
    let node = &nodes.nodes[0];
    let two = json!({"group": {"groupId": 1, "members": nodes.members(2)}});
    node.refused("Node/Bootstrap", &two, Code::AlreadyExists, &["group_id 1"]);
    let renumbered = [4, 5, 6].iter().zip(&nodes.nodes).map(|(id, node)| node.member(*id));
    let other = json!({"group": {"groupId": 1, "members": renumbered.collect::<Vec<_>>()}});
    node.refused("Node/Bootstrap", &other, Code::AlreadyExists, &["group_id 1"]);
    assert_eq!(node.group(1).map(|g| g["members"].as_array().map(Vec::len)), Some(Some(3)));
    nodes.assert_serving();
}

#[test]
fn an_unknown_group() {
    let nodes = Nodes::formed();
    let node = &nodes.nodes[0];
    node.refused("Node/GetConfig", &json!({"groupId": 5}), Code::NotFound, &["5"]);
    node.refused("Partition/Watch", &json!({"partitionId": 5}), Code::NotFound, &["5"]);
}

#[test]
fn two_ids_to_leave() {
    let mut nodes = Nodes::formed();
    let request = json!({"groupId": 1, "partitionId": 2});
    let words = ["group_id and partition_id"];
    nodes.nodes[0].refused("Node/Leave", &request, Code::InvalidArgument, &words);
    nodes.assert_serving();
}

#[test]
fn the_last_member_does_not_leave() {
    let mut nodes = Nodes::start(1);
    nodes.form(1, 1);
    let leave = json!({"groupId": 1});
    nodes.nodes[0].refused("Node/Leave", &leave, Code::FailedPrecondition, &["last voter"]);
    nodes.assert_serving();
}

#[test]
fn a_member_id_used_before_does_not_join() {
    let mut nodes = Nodes::start(3);
    nodes.form(1, 2);
    let members = json!([nodes.nodes[0].member(1), nodes.nodes[2].member(2)]);
    let join = json!({"group": {"groupId": 1, "members": members}});
    nodes.nodes[2].refused("Node/Join", &join, Code::FailedPrecondition, &["member_id 2"]);
    nodes.assert_serving();
}

fn fence(epoch: u64, incarnation: Value) -> Value {
    json!({"clusterId": "cluster-a", "operatorEpoch": epoch, "incarnation": incarnation})
}

/// A node that was fenced once refuses older epochs, other clusters and no fence, in every call
/// that changes something, and waits for Activate before it serves clients.
#[test]
fn fences_hold() {
    let mut nodes = Nodes::start(1);
    let node = &nodes.nodes[0];
    let own = || json!(node.incarnation.to_string());
    let mut request = json!({"group": {"groupId": 1, "members": [node.member(1)]}});
    request["fence"] = fence(5, own());
    node.ok("Node/Bootstrap", &request);

    let open = json!({"headers": {"partitionId": 1}});
    node.refused("Partition/OpenSession", &open, Code::Unavailable, &["activated"]);
    let older = fence(4, own());
    let changes = [
        ("Node/Bootstrap", json!({"group": {"groupId": 2, "members": [node.member(1)]}})),
        ("Node/Join", json!({"group": {"groupId": 2, "members": [node.member(3), other(1, 77)]}})),
        ("Node/Leave", json!({"groupId": 1})),
        ("Node/Activate", json!({})),
        ("Node/AddMember", json!({"groupId": 1, "member": other(2, 77)})),
        ("Node/PromoteMember", json!({"groupId": 1, "memberId": 1})),
        ("Node/RemoveMember", json!({"groupId": 1, "memberId": 1})),
        ("Node/TransferLeadership", json!({"groupId": 1})),
        ("Node/Drain", json!({"drain": true})),
        ("Node/DeleteData", json!({"groupId": 1, "memberId": 9})),
    ];
    for (call, request) in changes {
        let with = |fence: &Value| {
            let mut request = request.clone();
            request["fence"] = fence.clone();
            request
        };
        node.refused(call, &request, Code::PermissionDenied, &["fence"]);
        node.refused(call, &with(&older), Code::PermissionDenied, &["fence.operator_epoch", "5"]);
        let mut foreign = fence(5, own());
        foreign["clusterId"] = json!("cluster-b");
        node.refused(call, &with(&foreign), Code::FailedPrecondition, &["fence.cluster_id"]);
        let elsewhere = fence(5, json!((node.incarnation ^ 1).to_string()));
        node.refused(call, &with(&elsewhere), Code::FailedPrecondition, &["fence.incarnation"]);
    }
    assert!(node.group(2).is_none());
    assert_eq!(node.ok("Node/GetInfo", &json!({}))["draining"], false);
    node.ok("Node/Activate", &json!({"fence": fence(6, own())}));
    node.ok("Node/Activate", &json!({"fence": fence(6, own())}));
    node.refused(
        "Node/Activate",
        &json!({"fence": fence(5, own())}),
        Code::PermissionDenied,
        &["6"],
    );
    nodes.wait_for_leader(1);
    nodes.assert_serving();
}
