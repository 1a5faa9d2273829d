//! Numbers, retries and sessions, against a node that fails on demand.

mod fake;

use std::time::Duration;

use fake::Fake;
use multiraft_client::{Cluster, Error, Options, Routing};
use tonic::Code;

async fn connect(fake: &Fake) -> Cluster {
    let address = fake.start().await.to_string();
    options().connect([address]).await.expect("the fake answers")
}

fn options() -> Options {
    Options::default().timeout(Duration::from_secs(5)).session_timeout(Duration::from_secs(1))
}

#[tokio::test]
async fn a_command_is_repeated_under_its_number_and_takes_effect_once() {
    let fake = Fake::default();
    let counter = connect(&fake).await.counter("visits");
    assert_eq!(counter.increment(5).await.expect("healthy").value, 5);
    fake.state().failures = [Code::Unavailable, Code::Ok, Code::Unavailable].into();

    let answer = counter.increment(2).await.expect("a later try succeeds");

    assert_eq!((answer.value, answer.partition), (7, 1));
    let arrived = fake.state().arrived.clone();
    assert_eq!(arrived.len(), 5, "one, then four tries: {arrived:?}");
    assert!(arrived[1..].iter().all(|call| *call == arrived[1]), "{arrived:?}");
    assert!(arrived[1].1 > arrived[0].1);
}

#[tokio::test]
async fn another_node_is_asked_when_one_cannot_be_reached() {
    let fake = Fake::default();
    let address = fake.start().await.to_string();
    let nobody = "127.0.0.1:1".to_owned();
    let cluster = options().routing(Routing::InOrder).connect([nobody, address]).await;
    let counter = cluster.expect("one of them answers").counter("visits");
    assert_eq!(counter.increment(1).await.expect("the second node").value, 1);
}

/// A host that is gone takes no connection; this one takes it, and says nothing either.
#[tokio::test]
async fn another_node_is_asked_while_one_says_nothing() {
    let fake = Fake::default();
    let address = fake.start().await.to_string();
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let nobody = silent.local_addr().expect("bound").to_string();
    let options = options().routing(Routing::InOrder).timeout(Duration::from_millis(1900));
    let cluster = options.connect([nobody, address]).await.expect("one of them answers");
    // Less than the time that one try is given.
    let counter = cluster.counter("visits");
    assert_eq!(counter.increment(1).await.expect("the second node").value, 1);
}

#[tokio::test]
async fn a_lost_session_is_told_and_replaced_by_the_next_call() {
    let fake = Fake::default();
    let counter = connect(&fake).await.counter("visits");
    counter.increment(1).await.expect("healthy");
    let first = fake.state().arrived[0].0;
    fake.state().lost.push(first);

    let error = counter.increment(1).await.expect_err("the session is gone");

    assert!(matches!(error, Error::SessionExpired { partition: 1, session } if session == first));
    assert!(error.is_outcome_unknown());
    assert_eq!(counter.increment(1).await.expect("a new session").value, 2);
    assert_ne!(fake.state().arrived.last().expect("arrived").0, first);
}

#[tokio::test]
async fn the_deadline_ends_the_tries() {
    let fake = Fake::default();
    let counter = connect(&fake).await.counter("visits").timeout(Duration::from_millis(300));
    counter.increment(1).await.expect("healthy");
    fake.state().failures = [Code::Unavailable; 100].into();

    let error = counter.increment(1).await.expect_err("never answered");

    assert!(matches!(error, Error::Unavailable { attempts: 3.., .. }), "{error}");
    assert!(error.to_string().contains("within 300 ms"), "{error}");
}

#[tokio::test]
async fn invalid_input_is_not_repeated() {
    let fake = Fake::default();
    let counter = connect(&fake).await.counter("visits");
    fake.state().failures = [Code::InvalidArgument].into();
    let error = counter.increment(1).await.expect_err("refused");
    assert!(matches!(error, Error::Invalid { .. }), "{error}");
    assert_eq!(fake.state().arrived.len(), 1);
}

#[tokio::test]
async fn keep_alives_state_exactly_what_is_open_and_close_ends_the_session() {
    let fake = Fake::default();
    let cluster = connect(&fake).await;
    let counter = cluster.counter("visits");
    counter.increment(1).await.expect("healthy");
    fake.state().failures = [Code::Unavailable; 1000].into();
    let open = tokio::spawn({
        let counter = counter.clone();
        async move { counter.increment(1).await }
    });
    let (session, number) = loop {
        tokio::time::sleep(Duration::from_millis(1)).await;
        if let [_, .., last] = fake.state().arrived[..] {
            break last;
        }
    };
    fake.state().keep_alives.clear();
    let stated = loop {
        tokio::time::sleep(Duration::from_millis(1)).await;
        if let Some(stated) = fake.state().keep_alives.pop() {
            break stated;
        }
    };
    assert!(stated.exact);
    assert_eq!((stated.session_id, stated.last_command_sequence_num), (session, number));
    assert_eq!(stated.open_sequence_nums, [number]);

    fake.state().failures.clear();
    assert_eq!(open.await.expect("no panic").expect("answered at last").value, 2);
    cluster.close().await;
    assert_eq!(fake.state().closed, [session]);
    assert!(matches!(counter.increment(1).await, Err(Error::Closed)));
}
