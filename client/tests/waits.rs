//! Commands that wait for their turn, against a node that answers as the test wants.

mod fake;

use std::time::Duration;

use fake::Fake;
use multiraft_client::{Lock, Options};
use tonic::Code;

const ACQUIRE: &str = "/atomix.multiraft.lock.v1.Lock/Acquire";
const RELEASE: &str = "/atomix.multiraft.lock.v1.Lock/Release";

async fn lock(fake: &Fake, answers: impl IntoIterator<Item = Option<Code>>) -> Lock {
    fake.state().lock_answers = answers.into_iter().collect();
    let options = Options::default().session_timeout(Duration::from_secs(1));
    let cluster = options.connect([fake.start().await.to_string()]).await.expect("it answers");
    cluster.lock("l")
}

/// Number and operation of the calls so far, once there are as many.
async fn calls(fake: &Fake, count: usize) -> Vec<(u64, String)> {
    loop {
        let calls = fake.state().lock_calls.clone();
        if calls.len() >= count {
            return calls;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_wait_that_a_node_cuts_off_goes_on_under_its_number() {
    let fake = Fake::default();
    let lock = lock(&fake, [Some(Code::Unavailable), Some(Code::Unavailable)]).await;
    let guard = lock.acquire().await.expect("granted in the end");
    let acquired = calls(&fake, 3).await;
    assert!(acquired.iter().all(|call| *call == acquired[0]), "{acquired:?}");
    guard.release().await.expect("it is held");
    let released = calls(&fake, 4).await.pop().expect("four");
    assert!(released.0 > acquired[0].0 && released.1 == RELEASE, "{released:?}");
}

#[tokio::test]
async fn a_wait_that_was_taken_back_for_a_lost_connection_begins_again() {
    let fake = Fake::default();
    let lock = lock(&fake, [Some(Code::Unavailable), Some(Code::Cancelled)]).await;
    let _guard = lock.acquire().await.expect("granted in the end");
    let calls = calls(&fake, 3).await;
    let [first, second, third] = [calls[0].0, calls[1].0, calls[2].0];
    assert!(first == second && third > second, "{calls:?}");
}

#[tokio::test]
async fn what_a_dropped_wait_may_have_got_is_learned_and_given_back() {
    let fake = Fake::default();
    let lock = lock(&fake, [None]).await;
    let wait = tokio::spawn({
        let lock = lock.clone();
        async move { lock.acquire().await }
    });
    let first = calls(&fake, 1).await[0].clone();
    wait.abort();
    let all = calls(&fake, 3).await;
    assert_eq!(all[1], first, "asked again under its number");
    assert_eq!(all[2].1, RELEASE, "it had been granted");
}

#[tokio::test]
async fn nothing_is_given_back_of_a_dropped_wait_that_was_taken_back() {
    let fake = Fake::default();
    let lock = lock(&fake, [None, Some(Code::Cancelled)]).await;
    let wait = tokio::spawn({
        let lock = lock.clone();
        async move { lock.acquire().await }
    });
    calls(&fake, 1).await;
    wait.abort();
    calls(&fake, 2).await;
    // A call of the same session that comes after whatever the dropped one still does.
    let guard = lock.acquire().await.expect("granted");
    drop(guard);
    let all = calls(&fake, 4).await;
    let paths: Vec<_> = all.iter().map(|call| call.1.as_str()).collect();
    assert_eq!(paths, [ACQUIRE, ACQUIRE, ACQUIRE, RELEASE], "{all:?}");
}

#[tokio::test]
async fn a_guard_is_lost_when_the_session_is() {
    let fake = Fake::default();
    let lock = lock(&fake, []).await;
    let guard = lock.acquire().await.expect("granted");
    let session = fake.session();
    fake.state().lost.push(session);
    guard.lost().await;
}
