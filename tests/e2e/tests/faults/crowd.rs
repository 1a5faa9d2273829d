//! More writes to one group than it can take.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use multiraft_client::{Error, Map, Options};
use tokio::task::JoinSet;

/// The crowd does not wait for long.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Callers without a pause, and what became of their calls. They have a thread of their own: other
/// callers of this process do not wait for them.
pub struct Crowd {
    stop: Arc<AtomicBool>,
    counts: Arc<Counts>,
    thread: JoinHandle<()>,
}

/// What they call.
#[derive(Clone)]
pub struct Calls {
    pub endpoints: Vec<String>,
    /// All put at this key.
    pub key: String,
    /// Of each client, at once.
    pub count: usize,
    pub bytes: usize,
}

#[derive(Default)]
struct Counts {
    written: AtomicU64,
    refused: AtomicU64,
    late: AtomicU64,
}

impl Crowd {
    pub fn start(clients: usize, calls: Calls) -> Self {
        let (stop, counts) = (Arc::new(AtomicBool::new(false)), Arc::new(Counts::default()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime can be built");
        let (stopped, seen) = (stop.clone(), counts.clone());
        let thread = std::thread::spawn(move || {
            let all = (0..clients).map(|_| client(calls.clone(), stopped.clone(), seen.clone()));
            runtime.block_on(async { all.collect::<JoinSet<()>>().join_all().await });
        });
        Self { stop, counts, thread }
    }

    pub fn written(&self) -> u64 {
        self.counts.written.load(Ordering::Relaxed)
    }

    /// (written, refused, without an answer in time).
    pub async fn end(self) -> (u64, u64, u64) {
        self.stop.store(true, Ordering::Relaxed);
        let joined = tokio::task::spawn_blocking(|| self.thread.join()).await;
        assert!(joined.is_ok_and(|thread| thread.is_ok()), "the crowd has failed");
        let Counts { written, refused, late } = &*self.counts;
        let [written, refused, late] = [written, refused, late].map(|n| n.load(Ordering::Relaxed));
        (written, refused, late)
    }
}

async fn client(calls: Calls, stop: Arc<AtomicBool>, counts: Arc<Counts>) {
    // One that cannot even learn the groups in time is refused as a whole.
    let Ok(cluster) = Options::default().timeout(TIMEOUT).connect(calls.endpoints).await else {
        counts.refused.fetch_add(1, Ordering::Relaxed);
        return;
    };
    let (map, value) = (cluster.map("crowd"), Bytes::from(vec![7; calls.bytes]));
    let put = |_| put(map.clone(), calls.key.clone(), value.clone(), stop.clone(), counts.clone());
    (0..calls.count).map(put).collect::<JoinSet<()>>().join_all().await;
}

/// One of the crowd's calls, again and again.
async fn put(map: Map, key: String, value: Bytes, stop: Arc<AtomicBool>, counts: Arc<Counts>) {
    while !stop.load(Ordering::Relaxed) {
        let count = match map.put(&key, value.clone()).await {
            Ok(_) => &counts.written,
            Err(Error::Unavailable { last, .. }) if last.contains("no answer") => &counts.late,
            Err(_) => &counts.refused,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}
