//! Streams of the Rust client: all of them once, and what they tell when their nodes fail.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use multiraft_client::{Answer, Change, Cluster, Event, KeyRange, Options, Routing, Stream, Write};
use multiraft_e2e::nodes::Nodes;

use super::{connect, three};

/// What has not come by then never will.
const PATIENCE: Duration = Duration::from_secs(60);

async fn next<T>(stream: &mut Stream<T>) -> T {
    let next = tokio::time::timeout(PATIENCE, stream.next()).await.expect("in time");
    next.expect("it goes on").expect("no error").value
}

async fn all<T: Ord>(stream: Stream<T>) -> Vec<T> {
    let mut all: Vec<T> =
        stream.map_ok(|answer: Answer<T>| answer.value).try_collect().await.unwrap();
    all.sort();
    all
}

/// The names of as many changes as there are.
async fn names<V: Debug>(stream: &mut Stream<Change<V>>, count: usize) -> Vec<&'static str> {
    let mut names = Vec::new();
    for _ in 0..count {
        names.push(next(stream).await.name());
    }
    names
}

#[tokio::test]
async fn every_stream_is_served() {
    let nodes = three().await;
    let cluster = connect(&nodes).await;
    map(&cluster).await;
    counter_map(&cluster).await;
    multi_map(&cluster).await;
    indexed_map(&cluster).await;
    set(&cluster).await;
    value(&cluster).await;
    election(&cluster).await;
}

async fn map(cluster: &Cluster) {
    let map = cluster.map("m");
    let mut events = map.events(None).await.unwrap();
    let mut of_b = map.events(Some("b")).await.unwrap();
    map.put("a", "1").await.unwrap();
    let inserted = next(&mut events).await;
    assert_eq!((inserted.key.as_str(), inserted.change.name()), ("a", "inserted"));
    map.put("b", "1").await.unwrap();
    map.put("b", "2").await.unwrap();
    map.remove("b").await.unwrap();
    for stream in [&mut events, &mut of_b] {
        assert_eq!(next(stream).await.change.name(), "inserted");
        let updated = next(stream).await;
        let Change::Updated { value, previous } = updated.change else { panic!("{updated:?}") };
        assert_eq!((&value.value[..], &previous.value[..]), (&b"2"[..], &b"1"[..]));
        assert_eq!(next(stream).await.change.name(), "removed");
    }
    map.put_with("brief", "x", Write::with_ttl(Duration::from_millis(20))).await.unwrap();
    assert_eq!(next(&mut events).await.change.name(), "inserted");
    assert_eq!(next(&mut events).await.change.name(), "expired");
    let mut keys: Vec<String> = (0..50).map(|n| format!("key-{n:02}")).collect();
    let mut part = map.events_with_prefix("key-4").await.unwrap();
    for key in &keys {
        map.put(key, "x").await.unwrap();
    }
    let forties: std::collections::BTreeSet<_> = keys[40..].iter().cloned().collect();
    let mut told = std::collections::BTreeSet::new();
    for _ in 0..forties.len() {
        told.insert(next(&mut part).await.key);
    }
    assert_eq!(told, forties);
    let range = KeyRange::prefix("key-4").from("key-43").until("key-45");
    let mut listed: Vec<_> =
        map.entries_in(range).map_ok(|answer| answer.value.0).try_collect().await.unwrap();
    listed.sort();
    assert_eq!(listed, keys[43..45]);
    let entries: Vec<_> =
        map.entries().map_ok(|answer| answer.value.0).try_collect().await.unwrap();
    keys.insert(0, "a".into());
    assert_eq!(entries.len(), keys.len());
    assert_eq!(
        entries.into_iter().collect::<std::collections::BTreeSet<_>>(),
        keys.into_iter().collect()
    );
    let none: Vec<_> = cluster.map("empty").local().entries().try_collect().await.unwrap();
    assert!(none.is_empty());
}

async fn counter_map(cluster: &Cluster) {
    let map = cluster.counter_map("cm");
    let mut events = map.events(Some("a")).await.unwrap();
    map.set("a", 5).await.unwrap();
    map.increment("a", 2).await.unwrap();
    map.remove("a", 7).await.unwrap();
    assert_eq!(next(&mut events).await.change, Change::Inserted(5));
    assert_eq!(next(&mut events).await.change, Change::Updated { value: 7, previous: 5 });
    assert_eq!(next(&mut events).await.change, Change::Removed { value: 7, expired: false });
    map.set("b", 1).await.unwrap();
    map.set("c", 2).await.unwrap();
    assert_eq!(all(map.entries()).await, [("b".to_owned(), 1), ("c".to_owned(), 2)]);
}

async fn multi_map(cluster: &Cluster) {
    let map = cluster.multi_map("mm");
    let mut events = map.events(None).await.unwrap();
    map.put_all("a", ["1", "2"]).await.unwrap();
    map.remove("a", "1").await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..3 {
        let Event { key, change } = next(&mut events).await;
        seen.push(format!("{key} {} {}", change.name(), change.value()));
    }
    assert_eq!(seen, ["a inserted 1", "a inserted 2", "a removed 1"]);
    assert_eq!(all(map.entries()).await, [("a".to_owned(), vec!["2".to_owned()])]);
}

async fn indexed_map(cluster: &Cluster) {
    let map = cluster.indexed_map("im");
    let mut events = map.events(None).await.unwrap();
    map.append("b", "1", None).await.unwrap();
    map.append("a", "1", None).await.unwrap();
    map.update("b", "2", Write::default()).await.unwrap();
    let entries: Vec<_> = map.entries().map_ok(|answer| answer.value).try_collect().await.unwrap();
    let order: Vec<_> = entries.iter().map(|entry| (entry.index, entry.key.as_str())).collect();
    assert_eq!(order, [(1, "b"), (2, "a")]);
    let second: Vec<_> = map.entries_in(2..=2).try_collect().await.unwrap();
    assert_eq!(second.len(), 1);
    assert!(map.entries_in(..1).try_collect::<Vec<_>>().await.unwrap().is_empty());
    map.remove(1, None).await.unwrap();
    assert_eq!(names(&mut events, 4).await, ["inserted", "inserted", "updated", "removed"]);
}

async fn set(cluster: &Cluster) {
    let set = cluster.set("s");
    let mut events = set.events().await.unwrap();
    set.add("a").await.unwrap();
    assert_eq!(next(&mut events).await, Change::Inserted("a".into()));
    set.remove("a").await.unwrap();
    assert_eq!(next(&mut events).await, Change::Removed { value: "a".into(), expired: false });
    set.add("b").await.unwrap();
    set.add("c").await.unwrap();
    assert_eq!(all(set.elements()).await, ["b", "c"]);
}

async fn value(cluster: &Cluster) {
    let value = cluster.value("v");
    let mut events = value.events().await.unwrap();
    let mut watch = value.watch().await.unwrap();
    value.set("1").await.unwrap();
    assert_eq!(next(&mut watch).await.expect("set").value, "1");
    value.set("2").await.unwrap();
    value.delete(None).await.unwrap();
    assert_eq!(next(&mut watch).await.expect("set").value, "2");
    assert_eq!(next(&mut watch).await, None);
    assert_eq!(names(&mut events, 3).await, ["inserted", "updated", "removed"]);
}

async fn election(cluster: &Cluster) {
    let election = cluster.election("e");
    election.enter("a").await.unwrap();
    let mut terms = election.watch().await.unwrap();
    assert_eq!(next(&mut terms).await.leader.as_deref(), Some("a"));
    election.enter("b").await.unwrap();
    assert_eq!(next(&mut terms).await.queue, ["b"]);
    election.evict("a").await.unwrap();
    assert_eq!(next(&mut terms).await.leader.as_deref(), Some("b"));
    election.withdraw("b").await.unwrap();
    assert_eq!(next(&mut terms).await.leader, None);
}

/// Changes one entry after the other, until told to stop; returns how many.
async fn write(cluster: Cluster, stop: tokio::sync::oneshot::Receiver<()>) -> usize {
    let map = cluster.map("m");
    let mut stop = std::pin::pin!(stop);
    for n in 0.. {
        map.put(&format!("key-{}", n % 8), n.to_string()).await.unwrap();
        if futures::poll!(&mut stop).is_ready() {
            return n + 1;
        }
    }
    unreachable!("it is told to stop")
}

/// Every change of every key, in order and once, while nodes are stopped and killed under the stream.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_go_on_at_other_nodes_without_gap_or_repeat() {
    let mut nodes = three().await;
    let writer = connect(&nodes).await;
    let reader = Options::default()
        .routing(Routing::InOrder)
        .session_timeout(Duration::from_secs(4))
        .connect(nodes.endpoints())
        .await
        .unwrap();
    let mut events = reader.map("m").events(None).await.unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let written = tokio::spawn(write(writer, stopped));
    let mut last: BTreeMap<String, usize> = BTreeMap::new();
    let mut seen = 0;
    read(&mut events, &mut last, &mut seen, 200).await;
    disturb(&mut nodes, &mut events, &mut last, &mut seen).await;
    stop.send(()).expect("it writes");
    let written = written.await.unwrap();
    let rest = written - seen;
    read(&mut events, &mut last, &mut seen, rest).await;
    println!("{written} changes, all seen once, through two nodes that failed");
}

async fn disturb(
    nodes: &mut Nodes,
    events: &mut Stream<Event<multiraft_client::Versioned>>,
    last: &mut BTreeMap<String, usize>,
    seen: &mut usize,
) {
    nodes.nodes[0].signal("STOP");
    read(events, last, seen, 300).await;
    nodes.nodes[0].signal("CONT");
    nodes.nodes[1].kill();
    nodes.nodes[1].wait();
    read(events, last, seen, 300).await;
    nodes.nodes[1].start();
    read(events, last, seen, 100).await;
}

async fn read(
    events: &mut Stream<Event<multiraft_client::Versioned>>,
    last: &mut BTreeMap<String, usize>,
    seen: &mut usize,
    count: usize,
) {
    for _ in 0..count {
        let Event { key, change } = next(events).await;
        let text = String::from_utf8(change.value().value.to_vec()).expect("a number");
        let number: usize = text.parse().expect("a number");
        // Each key is written every eighth time.
        let expected = last.get(&key).map_or(number % 8, |last| last + 8);
        assert_eq!(number, expected, "{key} after {seen} changes");
        last.insert(key, number);
        *seen += 1;
    }
}

/// One that is not read must not hold up calls, and tells all when it is.
#[tokio::test]
async fn a_stream_that_nobody_reads_holds_up_nobody() {
    let nodes = three().await;
    let cluster = connect(&nodes).await;
    let map = cluster.map("m");
    let mut events = map.events(None).await.unwrap();
    let value = vec![b'x'; 64 << 10];
    for n in 0..200 {
        let mut value = value.clone();
        value.push(n);
        map.put("key", value).await.unwrap();
    }
    for n in 0..200 {
        let change = next(&mut events).await.change;
        assert_eq!(change.value().value.last(), Some(&n), "{}", change.name());
    }
}
