//! Planned absence: Drain and CheckDisruption, on real nodes.

use crate::nodes::{Node, Nodes, eventually, number};
use serde_json::{Value, json};

fn drain(node: &Node, drain: bool) -> Vec<u64> {
    let answer = node.ok("Node/Drain", &json!({"drain": drain}));
    answer["ledGroups"].as_array().into_iter().flatten().map(number).collect()
}

fn leads(node: &Node) -> Vec<u64> {
    let info = node.ok("Node/GetInfo", &json!({}));
    let groups = info["groups"].as_array().cloned().unwrap_or_default();
    let led = groups.iter().filter(|g| number(&g["leader"]) == node.id);
    led.map(|g| number(&g["groupId"])).collect()
}

#[test]
fn a_draining_node_leads_nothing_until_it_is_told_otherwise() {
    let mut nodes = Nodes::start(3);
    (1..=6).for_each(|group| nodes.form(group, 3));
    let node = &nodes.nodes[0];
    drain(node, true);
    eventually("nothing led", || drain(node, true).is_empty());
    assert_eq!(leads(node), [0; 0]);
    assert_eq!(node.ok("Node/GetInfo", &json!({}))["draining"], true);

    // A group that would begin with this node's member begins with another.
    nodes.form(9, 3);
    assert_ne!(nodes.wait_for_leader(9), nodes.nodes[0].id);

    nodes.kill(1);
    let (node, third) = (&nodes.nodes[0], &nodes.nodes[2]);
    eventually("everything led by the third node", || leads(third).len() == 7);
    assert_eq!(leads(node), [0; 0]);

    assert_eq!(drain(node, false), [0; 0]);
    assert_eq!(node.ok("Node/GetInfo", &json!({}))["draining"], false);
    let transfer = json!({"groupId": 1, "to": node.id.to_string()});
    eventually("a leadership", || third.call("Node/TransferLeadership", &transfer).is_ok());
    assert_eq!(leads(node), [1]);
}

/// Nobody else could lead: the group goes on being served, and the answer does not hide it.
#[test]
fn what_nobody_else_can_lead_stays() {
    let mut nodes = Nodes::start(1);
    nodes.form(1, 1);
    assert_eq!(drain(&nodes.nodes[0], true), [1]);
    assert_eq!(drain(&nodes.nodes[0], true), [1]);
    nodes.assert_serving();
}

fn check(node: &Node, other: &Node) -> Value {
    node.ok("Node/CheckDisruption", &json!({"nodeId": other.id.to_string()}))
}

#[test]
fn a_node_that_is_needed_is_named_before_it_stops() {
    let mut nodes = Nodes::start_with(3, &["--election-timeout", "30s"]);
    nodes.form(1, 3);
    let leader = nodes.leader(1);
    let (gone, other) = ((leader + 1) % 3, (leader + 2) % 3);
    eventually("nobody needed", || {
        let at = &nodes.nodes[leader];
        let answer = check(at, &nodes.nodes[other]);
        answer == json!({"groups": [], "checkedGroups": 1})
            && at.ok("Node/CheckDisruption", &json!({})) == answer
    });
    let elsewhere = check(&nodes.nodes[other], &nodes.nodes[gone]);
    assert_eq!(elsewhere["checkedGroups"], 0, "only the leader knows: {elsewhere}");

    nodes.kill(gone);
    let answer = check(&nodes.nodes[leader], &nodes.nodes[other]);
    let missing = nodes.nodes[gone].id.to_string();
    let wanted = json!([{"groupId": 1, "reason": "REASON_QUORUM_LOST", "nodes": [missing]}]);
    assert_eq!(answer["groups"], wanted, "{answer}");
    let answer = check(&nodes.nodes[leader], &nodes.nodes[gone]);
    assert_eq!(answer["groups"], json!([]), "what is gone is not missed: {answer}");
}

#[test]
fn a_group_without_a_leader_is_in_danger() {
    let mut nodes = Nodes::formed();
    nodes.kill(1);
    nodes.kill(2);
    eventually("a group without a leader", || {
        let answer = nodes.nodes[0].ok("Node/CheckDisruption", &json!({}));
        answer["groups"][0]["reason"] == "REASON_NO_LEADER"
    });
}
