//! More writes to one group than it can take.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use multiraft_client::{Error, Map, Options};
use tokio::task::JoinSet;

/// The crowd does not wait for long.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Callers without a pause, and what became of their calls.
pub struct Crowd {
    stop: Arc<AtomicBool>,
    counts: Arc<Counts>,
    tasks: JoinSet<()>,
}

#[derive(Default)]
struct Counts {
    written: AtomicU64,
    refused: AtomicU64,
    late: AtomicU64,
}

impl Crowd {
    /// `clients` with so many `calls` at once each; all put values of so many `bytes` at one key.
    pub fn start(
        endpoints: Vec<String>,
        key: &'static str,
        clients: usize,
        calls: usize,
        bytes: usize,
    ) -> Self {
        let (stop, counts) = (Arc::new(AtomicBool::new(false)), Arc::new(Counts::default()));
        let mut tasks = JoinSet::new();
        let value = Bytes::from(vec![7; bytes]);
        for _ in 0..clients {
            let options = Options::default().timeout(TIMEOUT);
            let (endpoints, stop, counts) = (endpoints.clone(), stop.clone(), counts.clone());
            let value = value.clone();
            tasks.spawn(async move {
                // One that cannot even learn the groups in time is refused as a whole.
                let Ok(cluster) = options.connect(endpoints).await else {
                    counts.refused.fetch_add(1, Ordering::Relaxed);
                    return;
                };
                let map = cluster.map("crowd");
                let calls = (0..calls)
                    .map(|_| put(map.clone(), key, value.clone(), stop.clone(), counts.clone()));
                calls.collect::<JoinSet<()>>().join_all().await;
            });
        }
        Self { stop, counts, tasks }
    }

    /// (written, refused, without an answer in time).
    pub async fn end(self) -> (u64, u64, u64) {
        self.stop.store(true, Ordering::Relaxed);
        self.tasks.join_all().await;
        let Counts { written, refused, late } = &*self.counts;
        let [written, refused, late] = [written, refused, late].map(|n| n.load(Ordering::Relaxed));
        (written, refused, late)
    }
}

/// One of the crowd's calls, again and again.
async fn put(map: Map, key: &str, value: Bytes, stop: Arc<AtomicBool>, counts: Arc<Counts>) {
    while !stop.load(Ordering::Relaxed) {
        let count = match map.put(key, value.clone()).await {
            Ok(_) => &counts.written,
            Err(Error::Unavailable { last, .. }) if last.contains("no answer") => &counts.late,
            Err(_) => &counts.refused,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}
