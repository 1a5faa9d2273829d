//! Members and leaders change, on real nodes: what each call does, and that it may be repeated.

use crate::nodes::{Code, Nodes, eventually, number};
use serde_json::{Value, json};

fn role_of(group: &Value, member_id: u64) -> Option<String> {
    let members = group["members"].as_array()?;
    let member = members.iter().find(|m| number(&m["memberId"]) == member_id)?;
    member["role"].as_str().map(str::to_owned)
}

/// Answers that say the same, whoever is asked.
fn same(first: &Value, second: &Value) {
    assert_eq!(first["group"]["version"], second["group"]["version"]);
    assert_eq!(first["group"]["members"], second["group"]["members"]);
}

#[test]
fn a_member_is_added_promoted_and_removed() {
    let mut nodes = Nodes::start(4);
    nodes.form(1, 3);
    let leader = nodes.leader(1);
    let (at, fourth) = (&nodes.nodes[leader], &nodes.nodes[3]);

    let add = json!({"groupId": 1, "member": fourth.member(4)});
    let added = at.ok("Node/AddMember", &add);
    assert_eq!(role_of(&added["group"], 4).as_deref(), Some("OBSERVER"), "{added}");
    same(&added, &at.ok("Node/AddMember", &add));

    let promote = json!({"groupId": 1, "memberId": "4"});
    let words = ["member_id 4", "has not answered yet"];
    at.refused("Node/PromoteMember", &promote, Code::FailedPrecondition, &words);
    let members = json!([fourth.member(4), at.member(leader as u64 + 1)]);
    let group = json!({"groupId": 1, "members": members});
    fourth.ok("Node/Join", &json!({"group": group, "autoPromote": false}));
    let mut promoted = Value::Null;
    eventually("promotion", || {
        let version = at.ok("Node/GetConfig", &json!({"groupId": 1}))["group"]["version"].clone();
        let exact = json!({"groupId": 1, "memberId": "4", "version": version});
        promoted = at.call("Node/PromoteMember", &exact).unwrap_or_default();
        promoted.is_object()
    });
    assert_eq!(role_of(&promoted["group"], 4).as_deref(), Some("MEMBER"), "{promoted}");
    same(&promoted, &at.ok("Node/PromoteMember", &promote));
    nodes.assert_serving();

    let (at, fourth) = (&nodes.nodes[leader], &nodes.nodes[3]);
    let remove = json!({"groupId": 1, "memberId": "4"});
    let removed = at.ok("Node/RemoveMember", &remove);
    assert_eq!(role_of(&removed["group"], 4), None, "{removed}");
    same(&removed, &at.ok("Node/RemoveMember", &remove));
    eventually("the end of the removed member", || fourth.group(1).is_none());
    let delete = json!({"groupId": 1, "memberId": "4"});
    assert_eq!(fourth.ok("Node/DeleteData", &delete), json!({}));
    assert_eq!(fourth.ok("Node/DeleteData", &delete), json!({}), "deleted is deleted");
    nodes.assert_serving();
}

/// The leader hands over instead of removing itself; whoever repeats the call reaches the next one.
#[test]
fn the_leader_is_removed_by_its_successor() {
    let mut nodes = Nodes::formed();
    let leader = nodes.leader(1);
    let remove = json!({"groupId": 1, "memberId": (leader + 1).to_string()});
    eventually("followers that were heard", || {
        let check = nodes.nodes[leader].ok("Node/CheckDisruption", &json!({}));
        check["groups"] == json!([])
    });
    let words = ["is handing that over"];
    nodes.nodes[leader].refused("Node/RemoveMember", &remove, Code::Unavailable, &words);
    eventually("removal by another leader", || {
        nodes.nodes.iter().any(|node| node.call("Node/RemoveMember", &remove).is_ok())
    });
    eventually("the end of the removed member", || nodes.nodes[leader].group(1).is_none());
    nodes.assert_serving();
}

/// A client that counts it would wait for its answer, and could not begin (seen after a scale-down).
#[test]
fn a_node_that_left_and_ended_is_no_peer() {
    let mut nodes = Nodes::formed();
    let leader = nodes.leader(1);
    let gone = (leader + 1) % 3;
    let remove = json!({"groupId": 1, "memberId": (gone + 1).to_string()});
    eventually("its removal", || nodes.nodes[leader].call("Node/RemoveMember", &remove).is_ok());
    nodes.kill(gone);
    let id = nodes.nodes[gone].id;
    for position in [leader, (leader + 2) % 3] {
        eventually("a list of peers without it", || {
            let info = nodes.nodes[position].ok("Node/GetInfo", &json!({}));
            let peers = info["peers"].as_array().cloned().unwrap_or_default();
            peers.len() == 1 && number(&peers[0]["nodeId"]) != id
        });
    }
}

#[test]
fn leadership_goes_where_it_is_asked_to() {
    let mut nodes = Nodes::formed();
    let leader = nodes.leader(1);
    let next = (leader + 1) % 3;
    let to = nodes.nodes[next].id;
    let transfer = json!({"groupId": 1, "to": to.to_string()});
    let answer = nodes.nodes[leader].ok("Node/TransferLeadership", &transfer);
    assert_eq!(number(&answer["leader"]), to, "{answer}");
    for node in &nodes.nodes {
        eventually("the same answer everywhere", || {
            node.call("Node/TransferLeadership", &transfer).is_ok_and(|again| again == answer)
        });
    }
    let away = nodes.nodes[next].ok("Node/TransferLeadership", &json!({"groupId": 1}));
    assert_ne!(number(&away["leader"]), to, "{away}");
    assert!(number(&away["term"]) > number(&answer["term"]), "{away}");
    nodes.assert_serving();
}

/// A change that cannot be committed stays the only one; repeated, it is waited for together.
#[test]
fn one_change_at_a_time() {
    // Long elections: the leader of two stays in office while the other one is stopped.
    let nodes = Nodes::start_with(4, &["--election-timeout", "30s"]);
    nodes.form(1, 2);
    let leader = nodes.leader(1);
    let (at, other) = (&nodes.nodes[leader], &nodes.nodes[1 - leader]);
    let before = number(&at.group(1).expect("a member")["lastIndex"]);
    let add = |position: usize, id: u64| json!({"groupId": 1, "member": nodes.nodes[position].member(id)});
    other.pause(true);
    let (first, repeated) = std::thread::scope(|scope| {
        let first = scope.spawn(|| at.call("Node/AddMember", &add(2, 3)));
        eventually("a proposed change", || {
            at.group(1).is_some_and(|group| number(&group["lastIndex"]) > before)
        });
        let words = ["group_id 1", "another change is under way"];
        at.refused("Node/AddMember", &add(3, 3), Code::FailedPrecondition, &words);
        let repeated = scope.spawn(|| at.call("Node/AddMember", &add(2, 3)));
        other.pause(false);
        (first.join().expect("it ends"), repeated.join().expect("it ends"))
    });
    same(&first.expect("the other one goes on"), &repeated.expect("it is the same change"));
}
