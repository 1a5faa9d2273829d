//! Reads of one counter that go to one node each, however long it takes to answer: begun at a
//! steady pace, so that a node that was frozen or cut off finds reads that began meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use multiraft_check::counter::Call;
use multiraft_client::{Counter, Options, Routing};
use tokio::task::{JoinHandle, JoinSet};

/// Time between the beginnings of two reads of one node.
const PACE: Duration = Duration::from_millis(20);

/// A read that a frozen node answers so late says nothing any more.
const TIMEOUT: Duration = Duration::from_secs(4);

/// Readers of every node.
pub struct Reads {
    readers: Vec<JoinHandle<Vec<Call>>>,
}

impl Reads {
    /// Starts one reader of each endpoint, which must answer now; ends when `stop` is set.
    pub async fn start(
        endpoints: &[String],
        counter: &str,
        epoch: Instant,
        stop: Arc<AtomicBool>,
    ) -> Self {
        let mut readers = Vec::new();
        for endpoint in endpoints {
            let options = Options::default().routing(Routing::InOrder).only_endpoints();
            let cluster = options.timeout(TIMEOUT).connect([endpoint]).await;
            let counter = cluster.expect("the node answers").counter(counter);
            readers.push(tokio::spawn(read(counter, epoch, stop.clone())));
        }
        Self { readers }
    }

    /// All reads that were answered.
    pub async fn end(self) -> Vec<Call> {
        let mut calls = Vec::new();
        for reader in self.readers {
            calls.extend(reader.await.expect("a reader never fails"));
        }
        calls
    }
}

async fn read(counter: Counter, epoch: Instant, stop: Arc<AtomicBool>) -> Vec<Call> {
    let mut reads = JoinSet::new();
    let mut answered = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let counter = counter.clone();
        reads.spawn(async move {
            let started = epoch.elapsed().as_nanos() as u64;
            let value = counter.get().await.ok()?.value as u64;
            Some(Call { started, ended: epoch.elapsed().as_nanos() as u64, delta: 0, value })
        });
        tokio::time::sleep(PACE).await;
        while let Some(read) = reads.try_join_next() {
            answered.extend(read.expect("nothing in a read panics"));
        }
    }
    answered
}
