//! One small steady writer for each group.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use multiraft_client::{Counter, Options, position};
use tokio::task::JoinSet;

/// Writers at work, each with a counter of its own.
pub struct Writers {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<Written>,
}

/// When each call of one writer began and was acknowledged.
pub struct Written {
    pub calls: Vec<(Instant, Instant)>,
}

impl Writers {
    /// Starts writers of the first `written` of all `groups`, through one node; each waits for its
    /// `pace` between two calls.
    pub async fn start(
        node: String,
        prefix: &str,
        groups: u32,
        written: u32,
        pace: Duration,
    ) -> Self {
        let options = Options::default().only_endpoints().groups(groups as usize);
        let cluster = options.connect([node]).await.expect("the node answers");
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for group in 0..written {
            let counter = cluster.counter(name_in(group + 1, groups, prefix));
            counter.increment(1).await.expect("all are up");
            tasks.spawn(write(counter, pace, stop.clone()));
        }
        Self { stop, tasks }
    }

    /// What each has written.
    pub async fn end(self) -> Vec<Written> {
        self.stop.store(true, Ordering::Relaxed);
        self.tasks.join_all().await
    }
}

impl Written {
    /// The longest time between two acknowledgements.
    pub fn longest_gap(&self) -> Duration {
        let gaps = self.calls.windows(2).map(|calls| calls[1].1 - calls[0].1);
        gaps.max().unwrap_or_default()
    }
}

/// A name that begins so and belongs to this group.
pub fn name_in(group: u32, groups: u32, prefix: &str) -> String {
    let is_there = |name: &String| position(name.as_bytes(), groups as usize) as u32 + 1 == group;
    (0..).map(|n| format!("{prefix}-{n}")).find(is_there).expect("names go on for ever")
}

/// Nobody else writes here: each answer says that all before it took effect, and once.
async fn write(counter: Counter, pace: Duration, stop: Arc<AtomicBool>) -> Written {
    let mut calls = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        let value = counter.increment(1).await.expect("a call is retried to an answer").value;
        calls.push((began, Instant::now()));
        assert_eq!(value as usize, calls.len() + 1, "increments that took effect");
        tokio::time::sleep(pace).await;
    }
    let value = counter.get().await.expect("a call is retried to an answer").value;
    assert_eq!(value as usize, calls.len() + 1, "increments that took effect");
    Written { calls }
}
