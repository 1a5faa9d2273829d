//! Streams of events and entries, and calls that wait, at real nodes.

use std::time::Duration;

use multiraft_proto::lock::lock_client::LockClient;
use multiraft_proto::lock::{AcquireInput, AcquireRequest, ReleaseInput, ReleaseRequest};
use multiraft_proto::map::event::Event;
use multiraft_proto::map::map_client::MapClient;
use multiraft_proto::map::{
    EntriesInput, EntriesRequest, EntriesResponse, EventsInput, EventsRequest, EventsResponse,
    PutInput, PutRequest,
};
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use crate::nodes::Nodes;
use crate::session::{Session, connect};

const MAP: &str = "atomix.runtime.map.v1.Map";
const LOCK: &str = "atomix.runtime.lock.v1.Lock";
/// What has not come by then never will.
const PATIENCE: Duration = Duration::from_secs(30);

/// Four nodes, of which the last holds no member of group 1.
async fn four() -> (Nodes, Vec<Channel>) {
    let nodes = Nodes::start(4);
    nodes.form(1, 3);
    nodes.form(2, 4);
    nodes.wait_for_leader(1);
    let mut channels = Vec::new();
    for node in &nodes.nodes {
        channels.push(connect(node).await);
    }
    (nodes, channels)
}

async fn put(node: &Channel, session: &mut Session, key: &str, value: Vec<u8>) {
    let headers = Some(session.next());
    let input = PutInput { key: key.into(), value: value.into(), ..Default::default() };
    let request = PutRequest { headers, input: Some(input) };
    let put = MapClient::new(node.clone()).put(request).await.expect("answered").into_inner();
    assert_eq!(put.headers.expect("set").operation.expect("set").status, 1, "put {key}");
}

async fn listen(node: &Channel, session: &Session, number: u64) -> Streaming<EventsResponse> {
    let headers = Some(session.command(number));
    let input = Some(EventsInput::default());
    let request = EventsRequest { headers, input };
    MapClient::new(node.clone()).events(request).await.expect("a stream").into_inner()
}

async fn watch(node: &Channel, session: &Session) -> Streaming<EntriesResponse> {
    let input = Some(EntriesInput { watch: true, ..Default::default() });
    let request = EntriesRequest { headers: Some(session.query()), input };
    MapClient::new(node.clone()).entries(request).await.expect("a stream").into_inner()
}

async fn next<T>(stream: &mut Streaming<T>) -> Result<Option<T>, Status> {
    tokio::time::timeout(PATIENCE, stream.message()).await.expect("in time")
}

/// (number of the output, key that was put); the first says that the client listens.
fn event(response: EventsResponse) -> (u64, String) {
    let number = response.headers.expect("headers").output_sequence_num;
    let event = response.output.expect("an output").event.expect("an event");
    match event.event {
        None => (number, "listens".to_owned()),
        Some(Event::Inserted(_)) => (number, event.key),
        Some(other) => panic!("nothing else happened: {other:?}"),
    }
}

/// Reads so many events, the first of which has this number.
async fn events(stream: &mut Streaming<EventsResponse>, first: u64, count: u64) {
    for number in first..first + count {
        let event = event(next(stream).await.expect("no end").expect("an event"));
        let name = if number == 1 { "listens".to_owned() } else { format!("key-{}", number - 2) };
        assert_eq!(event, (number, name));
    }
}

#[tokio::test]
async fn events_reach_subscribers_of_all_nodes_and_go_on_elsewhere_when_one_is_killed() {
    let (mut nodes, channels) = four().await;
    let mut streams = Vec::new();
    for node in &channels {
        let mut session = Session::open(node, 1, MAP, "events", 60).await;
        session.next();
        let mut stream = listen(node, &session, session.last).await;
        events(&mut stream, 1, 1).await;
        streams.push((session, stream));
    }
    let leader = nodes.wait_for_leader(1);
    let killed = nodes.nodes.iter().position(|node| node.id == leader).expect("one of them");
    let writer = (killed + 1) % 3;
    let mut session = Session::open(&channels[writer], 1, MAP, "events", 60).await;
    for number in 0..20 {
        put(&channels[writer], &mut session, &format!("key-{number}"), vec![1]).await;
    }
    for (_, stream) in &mut streams {
        events(stream, 2, 10).await;
    }
    nodes.kill(killed);
    for number in 20..40 {
        put(&channels[writer], &mut session, &format!("key-{number}"), vec![1]).await;
    }
    for (place, (session, mut stream)) in streams.into_iter().enumerate() {
        if place == killed {
            // What it had read of is acknowledged, the rest comes again.
            session.keep_alive(&channels[writer], &[session.last], &[(session.last, 11)]).await;
            stream = listen(&channels[writer], &session, session.last).await;
        }
        events(&mut stream, 12, 30).await;
        session.close(&channels[writer]).await;
        assert!(next(&mut stream).await.expect("ends well").is_none(), "closed with its session");
    }
}

#[tokio::test]
async fn entries_go_on_with_what_changes_at_any_node() {
    let (_nodes, channels) = four().await;
    let mut writer = Session::open(&channels[0], 1, MAP, "entries", 60).await;
    for key in ["a", "b"] {
        put(&channels[0], &mut writer, key, vec![1]).await;
    }
    for node in &channels {
        let mut session = Session::open(node, 1, MAP, "entries", 60).await;
        let mut stream = watch(node, &session).await;
        let value = session.session_id.to_be_bytes().to_vec();
        put(node, &mut session, "b", value).await;
        let mut seen = Vec::new();
        while seen.len() < 3 {
            let entry = next(&mut stream).await.expect("no end").expect("an entry");
            let entry = entry.output.expect("an output").entry.expect("an entry");
            seen.push((entry.key, entry.value.expect("a value").value.len()));
        }
        assert_eq!(seen[0].0, "a");
        assert_eq!(seen[2], ("b".to_owned(), 8), "{seen:?}");
        session.close(node).await;
        assert!(next(&mut stream).await.expect("ends well").is_none(), "closed with its session");
    }
}

#[tokio::test]
async fn a_subscriber_that_does_not_read_is_cut_off_and_hurts_nobody() {
    let (_nodes, channels) = four().await;
    let node = &channels[0];
    let stalled = Session::open(node, 1, MAP, "slow", 60).await;
    let mut stalled_stream = watch(node, &stalled).await;
    let quick = Session::open(node, 1, MAP, "slow", 60).await;
    let mut quick_stream = watch(node, &quick).await;
    let mut writer = Session::open(node, 1, MAP, "slow", 60).await;
    // More than connection and node hold for one stream.
    for number in 0..200 {
        put(node, &mut writer, &format!("key-{number}"), vec![0; 128 << 10]).await;
        let entry = next(&mut quick_stream).await.expect("no end").expect("an entry");
        let entry = entry.output.expect("an output").entry.expect("an entry");
        assert_eq!(entry.key, format!("key-{number}"));
    }
    let end = loop {
        match next(&mut stalled_stream).await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("an end without a reason"),
            Err(status) => break status,
        }
    };
    assert_eq!(end.code(), Code::Unavailable);
    assert!(end.message().contains("too slowly"), "{end}");
}

async fn acquire(node: Channel, mut session: Session) -> Result<u64, Status> {
    let headers = Some(session.next());
    let request = AcquireRequest { headers, input: Some(AcquireInput::default()) };
    let acquired = LockClient::new(node).acquire(request).await?.into_inner();
    Ok(acquired.output.expect("an output").index)
}

#[tokio::test]
async fn a_lock_is_not_granted_to_a_caller_that_went_away() {
    let (_nodes, channels) = four().await;
    for node in [&channels[0], &channels[1], &channels[3]] {
        let mut holder = Session::open(node, 1, LOCK, "lock", 60).await;
        acquire(node.clone(), holder).await.expect("it is free");
        holder.last += 1;
        let gone = Session::open(node, 1, LOCK, "lock", 60).await;
        let gone = tokio::time::timeout(Duration::from_millis(500), acquire(node.clone(), gone));
        assert!(gone.await.is_err(), "it is held");
        let waits = Session::open(node, 1, LOCK, "lock", 60).await;
        let granted = tokio::spawn(acquire(node.clone(), waits));
        // The cancel of the first is in the log before the second waits, or both are on their way.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let headers = Some(holder.next());
        let release = ReleaseRequest { headers, input: Some(ReleaseInput {}) };
        LockClient::new(node.clone()).release(release).await.expect("released");
        let granted = tokio::time::timeout(PATIENCE, granted).await.expect("in time");
        granted.expect("no panic").expect("granted");
        waits.close(node).await;
    }
}

#[tokio::test]
async fn streams_end_with_their_node_and_say_so() {
    let (nodes, channels) = four().await;
    let node = &channels[2];
    let session = Session::open(node, 1, MAP, "stop", 60).await;
    let mut stream = watch(node, &session).await;
    nodes.nodes[2].terminate();
    let end = next(&mut stream).await.expect_err("it cannot go on");
    assert_eq!(end.code(), Code::Unavailable);
    assert!(end.message().contains("the node is stopping"), "{end}");
}
