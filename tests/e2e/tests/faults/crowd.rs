//! More writes to one group than it can take.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
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
    shared: Arc<Shared>,
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
struct Shared {
    stop: AtomicBool,
    /// Of each value.
    bytes: AtomicUsize,
    written: AtomicU64,
    refused: AtomicU64,
    late: AtomicU64,
}

impl Crowd {
    pub fn start(clients: usize, calls: Calls) -> Self {
        let shared = Arc::new(Shared::default());
        shared.bytes.store(calls.bytes, Ordering::Relaxed);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime can be built");
        let of_all = shared.clone();
        let thread = std::thread::spawn(move || {
            let all = (0..clients).map(|_| client(calls.clone(), of_all.clone()));
            runtime.block_on(async { all.collect::<JoinSet<()>>().join_all().await });
        });
        Self { shared, thread }
    }

    /// The next values have so many bytes.
    pub fn resize(&self, bytes: usize) {
        self.shared.bytes.store(bytes, Ordering::Relaxed);
    }

    pub fn written(&self) -> u64 {
        self.shared.written.load(Ordering::Relaxed)
    }

    /// (written, refused, without an answer in time).
    pub async fn end(self) -> (u64, u64, u64) {
        self.shared.stop.store(true, Ordering::Relaxed);
        let joined = tokio::task::spawn_blocking(|| self.thread.join()).await;
        assert!(joined.is_ok_and(|thread| thread.is_ok()), "the crowd has failed");
        let Shared { written, refused, late, .. } = &*self.shared;
        let [written, refused, late] = [written, refused, late].map(|n| n.load(Ordering::Relaxed));
        (written, refused, late)
    }
}

async fn client(calls: Calls, shared: Arc<Shared>) {
    // One that cannot even learn the groups in time is refused as a whole.
    let Ok(cluster) = Options::default().timeout(TIMEOUT).connect(calls.endpoints).await else {
        shared.refused.fetch_add(1, Ordering::Relaxed);
        return;
    };
    let map = cluster.map("crowd");
    let put = |_| put(map.clone(), calls.key.clone(), shared.clone());
    (0..calls.count).map(put).collect::<JoinSet<()>>().join_all().await;
}

/// One of the crowd's calls, again and again.
async fn put(map: Map, key: String, shared: Arc<Shared>) {
    let mut value = Bytes::new();
    while !shared.stop.load(Ordering::Relaxed) {
        let bytes = shared.bytes.load(Ordering::Relaxed);
        if value.len() != bytes {
            value = vec![7; bytes].into();
        }
        let count = match map.put(&key, value.clone()).await {
            Ok(_) => &shared.written,
            Err(Error::Unavailable { last, .. }) if last.contains("no answer") => &shared.late,
            Err(_) => &shared.refused,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}
