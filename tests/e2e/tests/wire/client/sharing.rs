//! Many calls of one client over one session stream to each node.

use std::time::{Duration, Instant};

use futures::future::join_all;
use futures::stream::{FuturesUnordered, StreamExt};
use multiraft_client::{Lock, Options, Routing};

use super::{connect, three};

/// Twice and a half what a node takes at once.
const MANY: usize = 10_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_under_way_when_their_node_is_killed_happen_once() {
    let mut nodes = three().await;
    let through_first = Options::default().routing(Routing::InOrder);
    let cluster = through_first.connect(nodes.endpoints()).await.expect("they answer");
    let counter = cluster.counter("c");
    for round in 0..3 {
        let before = counter.get().await.unwrap().value;
        let commands: Vec<_> = (0..200)
            .map(|_| {
                let counter = counter.clone();
                tokio::spawn(async move { counter.increment(1).await })
            })
            .collect();
        // While they are sent, carried out or answered.
        tokio::time::sleep(Duration::from_millis(round)).await;
        nodes.nodes[0].kill();
        nodes.nodes[0].wait();
        let mut values = Vec::new();
        for command in commands {
            values.push(command.await.unwrap().unwrap().value);
        }
        values.sort_unstable();
        let expected: Vec<_> = (before + 1..=before + 200).collect();
        assert_eq!(values, expected, "round {round}");
        assert_eq!(counter.get().await.unwrap().value, before + 200, "round {round}");
        nodes.nodes[0].start();
        nodes.nodes[0].info().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_calls_than_a_node_takes_at_once_all_succeed() {
    let nodes = three().await;
    let cluster = connect(&nodes).await;
    let counter = cluster.counter("c");
    let answers = join_all((0..MANY).map(|_| counter.increment(1))).await;
    for answer in answers {
        answer.unwrap();
    }
    assert_eq!(counter.get().await.unwrap().value, MANY as i64);
}

/// Nodes cut off streams for which more than 4 MiB of answers wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_answers_at_once_all_arrive() {
    let nodes = three().await;
    let cluster = connect(&nodes).await;
    let map = cluster.map("m");
    map.put("key", vec![b'x'; 500 << 10]).await.unwrap();
    let began = Instant::now();
    for got in join_all((0..128).map(|_| map.get("key"))).await {
        assert_eq!(got.unwrap().value.expect("put").value.len(), 500 << 10);
    }
    println!("128 answers of 500 KiB: {:?}", began.elapsed());
}

/// A lock's release must get through, whatever waits for the lock.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_waits_than_a_node_takes_at_once_hold_up_nobody() {
    let nodes = three().await;
    let options = Options::default().routing(Routing::InOrder);
    let cluster = options.connect([nodes.nodes[0].address()]).await.expect("it answers");
    // At most 4,096 wait for one.
    let locks = [cluster.lock("l"), cluster.lock("m")];
    let guards = join_all(locks.iter().map(Lock::acquire)).await;
    let waits = (0..4_200).map(|n| {
        let lock = locks[n % 2].clone();
        tokio::spawn(async move { lock.acquire().await.unwrap() })
    });
    let mut waits: FuturesUnordered<_> = waits.collect();
    cluster.counter("c").increment(1).await.unwrap();
    for guard in guards {
        guard.unwrap().release().await.unwrap();
    }
    for _ in locks {
        waits.next().await.unwrap().unwrap().release().await.unwrap();
    }
}

#[tokio::test]
async fn a_wait_that_is_dropped_is_never_granted() {
    let nodes = three().await;
    let (first, second) = (connect(&nodes).await, connect(&nodes).await);
    let guard = first.lock("l").acquire().await.unwrap();
    let wait = tokio::spawn({
        let lock = second.lock("l");
        async move { lock.acquire().await }
    });
    // Behind it in the queue, so it waits by now.
    let behind = second.lock("l").acquire_within(Duration::from_millis(100)).await;
    assert!(behind.expect_err("held").is_conflict());
    wait.abort();
    assert!(wait.await.expect_err("aborted").is_cancelled());
    // Behind the cancel.
    let behind = second.lock("l").acquire_within(Duration::from_millis(100)).await;
    assert!(behind.expect_err("held").is_conflict());
    guard.release().await.unwrap();
    assert_eq!(first.lock("l").holder().await.unwrap().value, None, "nobody got it");
}
