//! Changes of members and leaders that a node must refuse, each with its reason. They change nothing.

use crate::nodes::{Code, Nodes, eventually, number};
use serde_json::{Value, json};

/// A formed cluster of three with a spare node. Its leader has committed, each of the three knows
/// it, and it leads as long as a test takes, however busy the machine is.
fn formed_with_spare() -> (Nodes, usize) {
    let nodes = Nodes::start_with(4, &["--election-timeout", "30s"]);
    nodes.form(1, 3);
    nodes.nodes[0].session(1);
    let leader = nodes.leader(1);
    let id = nodes.nodes[leader].id;
    eventually("leader that all know", || {
        let known = |g: Value| number(&g["leader"]) == id;
        nodes.nodes[..3].iter().all(|node| node.group(1).is_some_and(known))
    });
    (nodes, leader)
}

fn version(nodes: &Nodes, position: usize) -> u64 {
    number(&nodes.nodes[position].ok("Node/GetConfig", &json!({"groupId": 1}))["group"]["version"])
}

/// One good request for each call.
fn changes(nodes: &Nodes, leader: usize) -> [(&'static str, Value); 4] {
    let follower = (leader + 1) % 3;
    [
        ("Node/AddMember", json!({"groupId": 1, "member": nodes.nodes[3].member(4)})),
        ("Node/PromoteMember", json!({"groupId": 1, "memberId": "4"})),
        ("Node/RemoveMember", json!({"groupId": 1, "memberId": (follower + 1).to_string()})),
        (
            "Node/TransferLeadership",
            json!({"groupId": 1, "to": nodes.nodes[follower].id.to_string()}),
        ),
    ]
}

#[test]
fn a_missing_field_is_named() {
    let nodes = Nodes::formed();
    let node = &nodes.nodes[0];
    let member = |change: &dyn Fn(&mut Value)| {
        let mut member = node.member(9);
        change(&mut member);
        json!({"groupId": 1, "member": member})
    };
    for (call, request, field) in [
        ("AddMember", json!({"member": node.member(9)}), "group_id"),
        ("AddMember", json!({"groupId": 1}), "member:"),
        ("AddMember", member(&|m| m["memberId"] = json!("0")), "member.member_id"),
        ("AddMember", member(&|m| m["nodeId"] = json!("0")), "node_id"),
        ("AddMember", member(&|m| m["host"] = json!("")), "host"),
        ("AddMember", member(&|m| m["port"] = json!(0)), "port"),
        ("AddMember", member(&|m| m["role"] = json!("MEMBER")), "member.role"),
        ("AddMember", member(&|m| m["role"] = json!("WITNESS")), "role"),
        ("PromoteMember", json!({"memberId": "1"}), "group_id"),
        ("PromoteMember", json!({"groupId": 1}), "member_id"),
        ("RemoveMember", json!({"memberId": "1"}), "group_id"),
        ("RemoveMember", json!({"groupId": 1}), "member_id"),
        ("TransferLeadership", json!({}), "group_id"),
        ("DeleteData", json!({"memberId": "1"}), "group_id"),
        ("DeleteData", json!({"groupId": 1}), "member_id"),
        ("Drain", json!({"fence": {"operatorEpoch": 1}}), "cluster_id"),
    ] {
        node.refused(&format!("Node/{call}"), &request, Code::InvalidArgument, &[field]);
    }
    assert_eq!(version(&nodes, 0), 0, "nothing changed");
}

#[test]
fn a_group_that_is_not_here() {
    let (nodes, leader) = formed_with_spare();
    for (call, mut request) in changes(&nodes, leader) {
        request["groupId"] = json!(9);
        nodes.nodes[leader].refused(call, &request, Code::NotFound, &["group_id 9"]);
    }
}

#[test]
fn another_version_than_expected() {
    let (nodes, leader) = formed_with_spare();
    for (call, mut request) in changes(&nodes, leader) {
        request["version"] = json!("999");
        let words = ["version", "999", "read it again"];
        nodes.nodes[leader].refused(call, &request, Code::FailedPrecondition, &words);
    }
    assert_eq!(version(&nodes, leader), 0, "nothing changed");
}

#[test]
fn a_node_that_does_not_lead_names_the_one_that_does() {
    let (nodes, leader) = formed_with_spare();
    let follower = &nodes.nodes[(leader + 1) % 3];
    for (call, request) in changes(&nodes, leader) {
        follower.refused(call, &request, Code::Unavailable, &["group_id 1", "leads it"]);
    }
}

#[test]
fn a_recovery_by_force_wants_a_fence_and_a_group_without_a_majority() {
    let (nodes, leader) = formed_with_spare();
    let at = &nodes.nodes[leader];
    at.refused("Node/ForceRecover", &json!({}), Code::InvalidArgument, &["group_id"]);
    let member = at.group(1).expect("it leads it")["memberId"].clone();
    let unfenced = json!({"groupId": 1, "memberId": member, "recovery": "1"});
    at.refused("Node/ForceRecover", &unfenced, Code::InvalidArgument, &["fence"]);
    let fence = json!({"clusterId": "c", "operatorEpoch": "1"});
    let fenced = json!({"groupId": 1, "memberId": member, "recovery": "1", "fence": fence});
    at.refused(
        "Node/ForceRecover",
        &fenced,
        Code::FailedPrecondition,
        &["3 of 3", "change members"],
    );
}

#[test]
fn members_that_are_not_what_they_should_be() {
    let (nodes, leader) = formed_with_spare();
    let at = &nodes.nodes[leader];
    let again = json!({"groupId": 1, "member": nodes.nodes[0].member(9)});
    let words = ["member.node_id", "is member 1 of group 1 already"];
    at.refused("Node/AddMember", &again, Code::FailedPrecondition, &words);
    let used = json!({"groupId": 1, "member": nodes.nodes[3].member(2)});
    let words = ["member.member_id", "used", "above 3"];
    at.refused("Node/AddMember", &used, Code::FailedPrecondition, &words);
    let unknown = json!({"groupId": 1, "memberId": "9"});
    for call in ["Node/PromoteMember", "Node/RemoveMember"] {
        at.refused(call, &unknown, Code::NotFound, &["member_id 9"]);
    }
    let present = json!({"groupId": 1, "memberId": "1"});
    let words = ["member_id 1", "remove it first"];
    nodes.nodes[0].refused("Node/DeleteData", &present, Code::FailedPrecondition, &words);
    assert!(nodes.nodes[0].group(1).is_some());
    assert_eq!(version(&nodes, leader), 0, "nothing changed");
}

#[test]
fn the_last_voter_is_neither_removed_nor_relieved() {
    let mut nodes = Nodes::start(1);
    nodes.form(1, 1);
    let remove = json!({"groupId": 1, "memberId": "1"});
    let node = &nodes.nodes[0];
    node.refused("Node/RemoveMember", &remove, Code::FailedPrecondition, &["last voter"]);
    let words = ["no other voter"];
    let transfer = json!({"groupId": 1});
    node.refused("Node/TransferLeadership", &transfer, Code::FailedPrecondition, &words);
    nodes.assert_serving();
}

/// A member that is gone counts as gone at once, not after an election timeout.
#[test]
fn a_removal_that_would_leave_no_majority() {
    let mut nodes = Nodes::start_with(3, &["--election-timeout", "30s"]);
    nodes.form(1, 3);
    let leader = nodes.leader(1);
    let (gone, other) = ((leader + 1) % 3, (leader + 2) % 3);
    nodes.kill(gone);
    let at = &nodes.nodes[leader];
    let remove = |position: usize| json!({"groupId": 1, "memberId": (position + 1).to_string()});
    let words = ["of the 2 voters", "only 1 are connected"];
    at.refused("Node/RemoveMember", &remove(other), Code::FailedPrecondition, &words);
    let to_gone = json!({"groupId": 1, "to": nodes.nodes[gone].id.to_string()});
    let words = ["to: node", "not connected"];
    at.refused("Node/TransferLeadership", &to_gone, Code::FailedPrecondition, &words);
    // The one that is gone may go.
    at.ok("Node/RemoveMember", &remove(gone));
}

#[test]
fn a_successor_that_cannot_lead() {
    let (nodes, leader) = formed_with_spare();
    let at = &nodes.nodes[leader];
    let to = |position: usize| json!({"groupId": 1, "to": nodes.nodes[position].id.to_string()});
    let words = ["has no voter of group 1"];
    at.refused("Node/TransferLeadership", &to(3), Code::FailedPrecondition, &words);
    let stranger = json!({"groupId": 1, "to": "77"});
    at.refused("Node/TransferLeadership", &stranger, Code::FailedPrecondition, &words);
    let drained = (leader + 1) % 3;
    nodes.nodes[drained].ok("Node/Drain", &json!({"drain": true}));
    eventually("a refusal, as soon as the leader has heard of the drain", || {
        let leader = nodes.leader(1);
        let answer = nodes.nodes[leader].call("Node/TransferLeadership", &to(drained));
        let precondition = Code::FailedPrecondition as u32;
        answer.is_err_and(|e| e.code == precondition && e.message.contains("drains"))
    });
}
