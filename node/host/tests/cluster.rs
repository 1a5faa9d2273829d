//! Three and five nodes in one process: real sockets, real logs, no gRPC.
#![allow(clippy::unwrap_used)]

mod support;

use bytes::Bytes;
use multiraft_host::{CallError, Member};
use multiraft_machine::Rejection;
use multiraft_proto::v1;
use support::{Client, bootstrap, run, spec, start, wait};

#[test]
fn commands_take_effect_once_through_any_node_and_survive_restarts() {
    run(async {
        let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
        let a = start(dirs[0].path(), 0).await;
        let b = start(dirs[1].path(), 0).await;
        let c = start(dirs[2].path(), 0).await;
        bootstrap(&[&a, &b, &c], 4).await;
        for group in 1..=4 {
            let mut client = Client::open(&a.handle, group).await;
            for (i, node) in [&a, &b, &c, &a, &b, &c].into_iter().enumerate() {
                assert_eq!(client.increment(&node.handle).await, i as i64 + 1);
                assert_eq!(client.repeat(&a.handle).await, i as i64 + 1, "repeated, not run again");
                assert_eq!(client.get(&c.handle).await, i as i64 + 1);
            }
        }
        let mut client = Client::open(&a.handle, 1).await;
        assert_eq!(client.increment(&a.handle).await, 7);
        let ports = [a.stop().await, b.stop().await, c.stop().await];
        let a = start(dirs[0].path(), ports[0]).await;
        let b = start(dirs[1].path(), ports[1]).await;
        let c = start(dirs[2].path(), ports[2]).await;
        assert_eq!(client.repeat(&b.handle).await, 7);
        assert_eq!(client.increment(&c.handle).await, 8);
        assert_eq!(client.get(&a.handle).await, 8);
        for node in [a, b, c] {
            node.stop().await;
        }
    });
}

#[test]
fn group_goes_on_when_its_leader_stops() {
    run(async {
        let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
        let mut nodes = Vec::new();
        for dir in &dirs {
            nodes.push(start(dir.path(), 0).await);
        }
        bootstrap(&nodes.iter().collect::<Vec<_>>(), 1).await;
        let mut client = Client::open(&nodes[0].handle, 1).await;
        assert_eq!(client.increment(&nodes[0].handle).await, 1);
        let leader = nodes[0].handle.info().await.unwrap().groups[0].leader;
        let at = nodes.iter().position(|n| n.node_id == leader).unwrap();
        nodes.remove(at).stop().await;
        assert_eq!(client.increment(&nodes[0].handle).await, 2);
        assert_eq!(client.get(&nodes[1].handle).await, 2);
        for node in nodes {
            node.stop().await;
        }
    });
}

#[test]
fn node_without_a_member_passes_calls_on() {
    run(async {
        let dirs: Vec<_> = (0..4).map(|_| tempfile::tempdir().unwrap()).collect();
        let mut nodes = Vec::new();
        for dir in &dirs {
            nodes.push(start(dir.path(), 0).await);
        }
        let (first, last) = ([&nodes[0], &nodes[1], &nodes[2]], [&nodes[1], &nodes[2], &nodes[3]]);
        for (group, members) in [(1, first), (2, last)] {
            for node in members {
                node.handle.bootstrap(vec![spec(group, &members, node)], None).await.unwrap();
            }
        }
        let mut client = Client::open(&nodes[3].handle, 1).await;
        assert_eq!(client.increment(&nodes[3].handle).await, 1);
        assert_eq!(client.repeat(&nodes[0].handle).await, 1);
        assert_eq!(client.get(&nodes[3].handle).await, 1);
        let unknown = nodes[0].handle.command(9, Bytes::new(), None).await;
        assert_eq!(unknown.unwrap_err(), CallError::UnknownGroup(9));
        for node in nodes {
            node.stop().await;
        }
    });
}

#[test]
fn member_joins_is_promoted_and_leaves() {
    run(async {
        let dirs: Vec<_> = (0..4).map(|_| tempfile::tempdir().unwrap()).collect();
        let mut nodes = Vec::new();
        for dir in &dirs {
            nodes.push(start(dir.path(), 0).await);
        }
        let three = [&nodes[0], &nodes[1], &nodes[2]];
        bootstrap(&three, 1).await;
        let mut client = Client::open(&nodes[0].handle, 1).await;
        for i in 1..=200 {
            assert_eq!(client.increment(&nodes[0].handle).await, i);
        }
        let mut join = spec(1, &[&nodes[0], &nodes[1], &nodes[2], &nodes[3]], &nodes[3]);
        join.members.retain(|m| m.member_id != 3);
        nodes[3].handle.join(join, true, None).await.unwrap();
        let voter = v1::MemberRole::Member as i32;
        wait(&nodes[3].handle, |g| g.role == voter && g.index > 200).await;
        let digest = nodes[3].handle.digest(1).await.unwrap();
        assert_eq!(nodes[0].handle.digest(1).await.unwrap(), digest);
        let leader = nodes[0].handle.info().await.unwrap().groups[0].leader;
        let at = nodes.iter().position(|n| n.node_id == leader).unwrap();
        nodes[at].handle.leave(1, None).await.unwrap();
        assert!(nodes[at].handle.info().await.unwrap().groups.is_empty());
        let other = (at + 1) % 4;
        assert_eq!(client.increment(&nodes[other].handle).await, 201);
        wait(&nodes[other].handle, |g| g.members.len() == 3).await;
        // The log that feeds it tells of its own removal, which meant an earlier member.
        let mut again = spec(1, &[&nodes[0], &nodes[1], &nodes[2], &nodes[3]], &nodes[at]);
        again.members.retain(|m| m.node_id != nodes[at].node_id);
        let template = again.members[0].clone();
        let (node_id, port) = (nodes[at].node_id, nodes[at].port);
        again.members.push(Member { member_id: 5, node_id, port, ..template });
        again.member_id = 5;
        nodes[at].handle.join(again, true, None).await.unwrap();
        wait(&nodes[at].handle, |g| g.role == voter && g.index > 201).await;
        let digest = nodes[at].handle.digest(1).await.unwrap();
        assert_eq!(nodes[other].handle.digest(1).await.unwrap(), digest);
        for node in nodes {
            node.stop().await;
        }
    });
}

#[test]
fn second_different_bootstrap_is_refused_and_the_first_repeats() {
    run(async {
        let dirs: Vec<_> = (0..2).map(|_| tempfile::tempdir().unwrap()).collect();
        let a = start(dirs[0].path(), 0).await;
        let b = start(dirs[1].path(), 0).await;
        let one = spec(1, &[&a], &a);
        a.handle.bootstrap(vec![one.clone()], None).await.unwrap();
        a.handle.bootstrap(vec![one], None).await.unwrap();
        let other = a.handle.bootstrap(vec![spec(1, &[&a, &b], &a)], None).await.unwrap_err();
        assert!(other.message.contains("group_id 1"), "{other}");
        let mut client = Client::open(&a.handle, 1).await;
        assert_eq!(client.increment(&a.handle).await, 1);
        let rejected = a.handle.command(1, Bytes::from_static(b"\xff\xff"), None).await.unwrap();
        assert!(matches!(rejected.result, Err(Rejection::Invalid { .. })));
        for node in [a, b] {
            node.stop().await;
        }
    });
}
