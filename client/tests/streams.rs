//! Streams of events, against a node that cuts them off.

mod fake;

use std::time::Duration;

use fake::Fake;
use futures::StreamExt;
use multiraft_client::{Cluster, Error, Options};
use tonic::Code;

async fn connect(
    fake: &Fake,
    streams: impl IntoIterator<Item = (&'static [u64], Code)>,
) -> Cluster {
    let streams = streams.into_iter().map(|(numbers, end)| (numbers.to_vec(), end));
    fake.state().streams = streams.collect();
    let options = Options::default().session_timeout(Duration::from_secs(1));
    options.connect([fake.start().await.to_string()]).await.expect("it answers")
}

#[tokio::test]
async fn a_stream_goes_on_under_its_number_and_repeats_nothing() {
    let fake = Fake::default();
    let script: [(&[u64], _); 3] = [
        (&[1, 2, 3], Code::Unavailable),
        (&[], Code::Unavailable),
        (&[2, 3, 4, 5], Code::Unavailable),
    ];
    let cluster = connect(&fake, script).await;
    let mut events = cluster.set("s").events().await.expect("a subscription");
    for expected in ["2", "3", "4", "5"] {
        let event = events.next().await.expect("it goes on").expect("no error");
        assert_eq!(event.value.value(), expected);
    }
    let opened = fake.state().opened.clone();
    assert!(opened.len() >= 3 && opened.iter().all(|number| *number == opened[0]), "{opened:?}");
    // What was received is acknowledged, so that the cluster may forget it.
    loop {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let stated = fake.state().keep_alives.pop();
        let received = stated.map(|s| s.output_stream_sequence_nums);
        if received.is_some_and(|received| received.get(&opened[0]) == Some(&5)) {
            break;
        }
    }
}

#[tokio::test]
async fn a_gap_is_an_error_and_the_end() {
    let fake = Fake::default();
    let script: [(&[u64], _); 1] = [(&[1, 2, 5], Code::Unavailable)];
    let cluster = connect(&fake, script).await;
    let mut events = cluster.set("s").events().await.expect("a subscription");
    assert!(events.next().await.expect("the second output").is_ok());
    let error = events.next().await.expect("an error").expect_err("3 and 4 are missing");
    assert!(matches!(error, Error::Gap { expected: 3, received: 5, .. }), "{error}");
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn a_stream_of_an_expired_session_says_so() {
    let fake = Fake::default();
    let script: [(&[u64], _); 1] = [(&[1, 2], Code::DataLoss)];
    let cluster = connect(&fake, script).await;
    let mut events = cluster.set("s").events().await.expect("a subscription");
    assert!(events.next().await.expect("the second output").is_ok());
    let error = events.next().await.expect("an error").expect_err("the session is gone");
    assert!(matches!(error, Error::SessionExpired { .. }), "{error}");
}
