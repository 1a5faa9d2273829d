//! Many calls over one session stream, against a node that counts.

mod fake;

use std::time::Duration;

use fake::Fake;
use futures::future::join_all;
use futures::stream::{FuturesUnordered, StreamExt};
use multiraft_client::{Cluster, Error, Options, Routing};
use tonic::Code;

const ACQUIRE: &str = "/atomix.multiraft.lock.v1.Lock/Acquire";

fn options() -> Options {
    Options::default().timeout(Duration::from_secs(20)).routing(Routing::InOrder)
}

async fn connect(fake: &Fake) -> Cluster {
    options().connect([fake.start().await.to_string()]).await.expect("it answers")
}

#[tokio::test]
async fn calls_beyond_the_window_wait_for_a_place() {
    let fake = Fake::default();
    fake.state().window = 3;
    let cluster = connect(&fake).await;
    let counter = cluster.counter("visits");
    let answers = join_all((0..200).map(|_| counter.increment(1))).await;
    let mut values: Vec<_> =
        answers.into_iter().map(|answer| answer.expect("answered in the end").value).collect();
    values.sort_unstable();
    assert_eq!(values, (1..=200).collect::<Vec<_>>());
    let state = fake.state();
    assert_eq!(state.arrived.len(), 200, "none was sent again");
    assert!(state.most_calls <= 3, "{} at once", state.most_calls);
    assert_eq!(state.session_streams, 1);
}

#[tokio::test]
async fn calls_of_many_tasks_share_messages() {
    let fake = Fake::default();
    let cluster = connect(&fake).await;
    let counter = cluster.counter("visits");
    counter.increment(1).await.expect("healthy");
    join_all((0..100).map(|_| counter.increment(1))).await;
    assert!(fake.state().most_calls > 10, "{} at most", fake.state().most_calls);
}

#[tokio::test]
async fn a_dropped_call_is_taken_back() {
    let fake = Fake::default();
    // The wait, and what asks what became of it.
    fake.state().lock_answers = [None, Some(Code::Cancelled)].into();
    let cluster = connect(&fake).await;
    let wait = tokio::spawn({
        let lock = cluster.lock("l");
        async move { lock.acquire().await }
    });
    let number = loop {
        if let Some((number, path)) = fake.state().lock_calls.first() {
            assert_eq!(path, ACQUIRE);
            break *number;
        }
        tokio::task::yield_now().await;
    };
    wait.abort();
    while fake.state().canceled.is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(fake.state().canceled, [number]);
}

#[tokio::test]
async fn an_answered_call_is_not_taken_back() {
    let fake = Fake::default();
    let cluster = connect(&fake).await;
    let counter = cluster.counter("visits");
    let mut calls: FuturesUnordered<_> = (0..50).map(|_| counter.increment(1)).collect();
    while calls.next().await.is_some() {}
    // Behind whatever the others sent.
    counter.increment(1).await.expect("healthy");
    assert_eq!(fake.state().canceled, []);
}

#[tokio::test]
async fn a_subscription_that_is_dropped_is_taken_back() {
    let fake = Fake::default();
    fake.state().open_streams = [vec![1, 2]].into();
    let cluster = connect(&fake).await;
    let events = cluster.set("s").events().await.expect("a subscription");
    let number = fake.state().opened[0];
    drop(events);
    while fake.state().canceled.is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(fake.state().canceled, [number]);
}

#[tokio::test]
async fn a_node_without_session_streams_is_told_which_version_is_needed() {
    let fake = Fake::default();
    fake.state().is_old = true;
    let cluster = connect(&fake).await;
    let error = cluster.counter("visits").increment(1).await.expect_err("no session streams");
    assert!(matches!(error, Error::Refused { code: Code::Unimplemented, .. }), "{error}");
    assert!(error.to_string().contains("Multiraft 0.1.0 or later"), "{error}");
}

#[tokio::test]
async fn a_node_without_session_streams_is_passed_over() {
    let (old, new) = (Fake::default(), Fake::default());
    old.state().is_old = true;
    let endpoints = [old.start().await.to_string(), new.start().await.to_string()];
    let cluster = options().connect(endpoints).await.expect("they answer");
    assert_eq!(cluster.counter("visits").increment(1).await.expect("the other").value, 1);
}

#[tokio::test]
async fn a_stream_without_calls_ends_and_the_next_call_opens_another() {
    let fake = Fake::default();
    let cluster = connect(&fake).await;
    let counter = cluster.counter("visits");
    counter.increment(1).await.expect("healthy");
    while fake.state().ended == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(counter.increment(1).await.expect("healthy").value, 2);
    assert_eq!(fake.state().session_streams, 2);
}

#[tokio::test]
async fn calls_go_to_the_leader_that_a_stream_told_of() {
    let (follower, leader) = (Fake::default(), Fake::default());
    let endpoints = [follower.start().await.to_string(), leader.start().await.to_string()];
    for fake in [&follower, &leader] {
        fake.state().leader = endpoints[1].clone();
    }
    let cluster = Options::default().connect(endpoints).await.expect("they answer");
    for _ in 0..20 {
        cluster.counter("visits").increment(1).await.expect("healthy");
    }
    assert_eq!((follower.state().arrived.len(), leader.state().arrived.len()), (0, 20));
}

#[tokio::test]
async fn a_call_that_would_end_the_stream_is_not_sent() {
    let fake = Fake::default();
    let cluster = connect(&fake).await;
    let error = cluster.set("s").add(&"x".repeat(5 << 20)).await.expect_err("over 4 MiB");
    assert!(matches!(error, Error::Invalid { .. }), "{error}");
    assert!(!error.is_outcome_unknown());
    let key = "x".repeat(5 << 20);
    let events = cluster.map("m").events(Some(&key)).await;
    let error = events.err().expect("over 4 MiB");
    assert!(matches!(error, Error::Invalid { .. }), "{error}");
    assert_eq!(cluster.counter("visits").increment(1).await.expect("healthy").value, 1);
    assert_eq!(fake.state().session_streams, 1);
}
