//! Snapshots on real files and real sockets.
#![allow(clippy::unwrap_used)]

mod support;

use multiraft_proto::v1::event::Event;
use multiraft_proto::v1::{self, MemberRole};
use support::{Client, Running, bootstrap, run, spec, start, wait};
use tokio::sync::mpsc::Receiver;

/// Enough increments to pass the threshold of these nodes several times.
async fn fill(client: &mut Client, node: &Running, to: i64) {
    while client.increment(&node.handle).await < to {}
}

/// Reads events until one of them is wanted.
async fn see(events: &mut Receiver<v1::Event>, wanted: impl Fn(&Event) -> bool) {
    while let Some(event) = events.recv().await {
        if event.event.as_ref().is_some_and(&wanted) {
            return;
        }
    }
    panic!("the stream ended");
}

/// Increments until an event that is told meanwhile is wanted.
async fn fill_until(
    client: &mut Client,
    node: &Running,
    events: &mut Receiver<v1::Event>,
    wanted: impl Fn(&Event) -> bool,
) {
    let mut seen = false;
    while !seen {
        client.increment(&node.handle).await;
        while let Ok(event) = events.try_recv() {
            seen |= event.event.as_ref().is_some_and(&wanted);
        }
    }
}

#[test]
fn a_log_is_trimmed_and_a_restart_begins_with_the_snapshot() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let node = start(dir.path(), 0).await;
        let mut events = node.handle.watch(Vec::new());
        node.handle.bootstrap(vec![spec(1, &[&node], &node)], None).await.unwrap();
        let mut client = Client::open(&node.handle, 1).await;
        fill(&mut client, &node, 1_000).await;
        see(&mut events, |e| matches!(e, Event::SnapshotCreated(_))).await;
        see(&mut events, |e| matches!(e, Event::LogCompacted(c) if c.index > 1)).await;
        fill(&mut client, &node, 2_000).await;
        see(&mut events, |e| matches!(e, Event::SnapshotCompacted(_))).await;
        let digest = node.handle.digest(1).await.unwrap();
        let files = || std::fs::read_dir(dir.path().join("snapshots")).unwrap().count();
        assert!((1..=2).contains(&files()), "{} files", files());
        let port = node.stop().await;
        let node = start(dir.path(), port).await;
        wait(&node.handle, |g| g.leader != 0 && g.index >= 2_000).await;
        assert_eq!(client.repeat(&node.handle).await, 2_000, "the session survives");
        assert_eq!(client.increment(&node.handle).await, 2_001);
        assert!(digest.0 > 0);
        node.stop().await;
    });
}

#[test]
fn a_member_that_was_away_and_one_that_is_new_are_given_a_snapshot() {
    run(async {
        let dirs: Vec<_> = (0..4).map(|_| tempfile::tempdir().unwrap()).collect();
        let mut nodes = Vec::new();
        for dir in &dirs[..3] {
            nodes.push(start(dir.path(), 0).await);
        }
        bootstrap(&nodes.iter().collect::<Vec<_>>(), 1).await;
        let mut client = Client::open(&nodes[0].handle, 1).await;
        fill(&mut client, &nodes[0], 100).await;
        let away = nodes.remove(2).stop().await;
        fill(&mut client, &nodes[0], 3_000).await;
        let back = start(dirs[2].path(), away).await;
        let mut events = back.handle.watch(Vec::new());
        see(&mut events, |e| matches!(e, Event::SnapshotRecovered(_))).await;
        wait(&back.handle, |g| g.index >= 3_000).await;
        assert_eq!(client.get(&back.handle).await, 3_000);

        let new = start(dirs[3].path(), 0).await;
        let mut events = new.handle.watch(Vec::new());
        let mut join = spec(1, &[&nodes[0], &nodes[1], &back, &new], &new);
        join.members.retain(|m| m.member_id != 3);
        new.handle.join(join, true, None).await.unwrap();
        see(&mut events, |e| matches!(e, Event::SnapshotReceived(_))).await;
        wait(&new.handle, |g| g.role == MemberRole::Member as i32 && g.index >= 3_000).await;
        assert_eq!(client.increment(&new.handle).await, 3_001);
        assert_eq!(client.get(&new.handle).await, 3_001);
        // Equal at the same index; a read on one member does not wait for the others.
        loop {
            let digest = new.handle.digest(1).await.unwrap();
            let other = nodes[0].handle.digest(1).await.unwrap();
            if other.0 == digest.0 {
                assert_eq!(other, digest);
                break;
            }
            tokio::task::yield_now().await;
        }
        for node in nodes.into_iter().chain([back, new]) {
            node.stop().await;
        }
    });
}

#[test]
fn a_snapshot_that_cannot_be_sent_is_told_of_and_a_newer_one_is_sent() {
    run(async {
        let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
        let mut nodes = Vec::new();
        for dir in &dirs {
            nodes.push(start(dir.path(), 0).await);
        }
        bootstrap(&nodes.iter().collect::<Vec<_>>(), 1).await;
        let mut client = Client::open(&nodes[0].handle, 1).await;
        fill(&mut client, &nodes[0], 100).await;
        let away = nodes.remove(2).stop().await;
        fill(&mut client, &nodes[0], 1_000).await;
        let leader = nodes[0].handle.info().await.unwrap().groups[0].leader;
        let leads = nodes.iter().position(|node| node.node_id == leader).unwrap();
        let mut events = nodes[leads].handle.watch(Vec::new());
        // Behind a new one no other is written for a while, which would be there after all.
        let created = |e: &Event| matches!(e, Event::SnapshotCreated(_));
        fill_until(&mut client, &nodes[0], &mut events, created).await;
        for file in std::fs::read_dir(dirs[leads].path().join("snapshots")).unwrap() {
            // An older one may go by itself meanwhile.
            let _ = std::fs::remove_file(file.unwrap().path());
        }
        let back = start(dirs[2].path(), away).await;
        let to = back.node_id;
        see(&mut events, |e| matches!(e, Event::SendSnapshotStarted(s) if s.to == to)).await;
        see(&mut events, |e| matches!(e, Event::SendSnapshotAborted(s) if s.to == to)).await;
        let completed = |e: &Event| matches!(e, Event::SendSnapshotCompleted(s) if s.to == to);
        fill_until(&mut client, &nodes[0], &mut events, completed).await;
        let count = client.increment(&nodes[0].handle).await;
        wait(&back.handle, |g| g.index >= count as u64).await;
        for node in nodes.into_iter().chain([back]) {
            node.stop().await;
        }
    });
}
