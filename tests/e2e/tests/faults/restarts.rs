//! Every node ends in order, and starts again, as in an upgrade.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use multiraft_client::{Counter, Options, position};
use multiraft_e2e::nodes::Nodes;
use tokio::task::JoinSet;

use crate::support::{GROUPS, alone, load, millis, report, times};

const LAG: u64 = 500;
/// Between two writes of a group's writer.
const PACE: Duration = Duration::from_millis(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_fails_while_all_nodes_restart_one_after_the_other() {
    let _alone = alone().await;
    let mut nodes = Nodes::formed(3, GROUPS, 3).await;
    let load = load(&nodes).await;
    load.pace(50).await;
    let rounds = times(2, 20);
    let (mut gaps, mut ends) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        for position in 0..3 {
            let other = nodes.nodes[(position + 1) % 3].address();
            let writers = Writers::start(other, &format!("steady-{}", gaps.len())).await;
            let node = &mut nodes.nodes[position];
            let asked = Instant::now();
            node.signal("TERM");
            let status = node.end().await;
            assert!(status.success(), "{status}: {}", node.log());
            // As long as a client has calls in flight the node is there to answer them.
            assert!(!node.log().contains("kept their calls open"), "{}", node.log());
            ends.push(asked.elapsed());
            node.start();
            nodes.until_replicated(GROUPS, 3, LAG).await;
            load.all_go_on().await;
            gaps.extend(writers.end().await);
        }
    }
    let outcome = load.check().await;
    let faults = format!(
        "restarts by SIGTERM {}, exit code 0 each, stopping took {}, longest time without an \
         acknowledgement per group and restart: {}, failed calls 0",
        3 * rounds,
        millis(&mut ends),
        millis(&mut gaps)
    );
    report(&faults, outcome);
}

/// One small steady writer for each group, all through one node.
struct Writers {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<Duration>,
}

impl Writers {
    async fn start(node: String, prefix: &str) -> Self {
        let options = Options::default().only_endpoints().groups(GROUPS as usize);
        let cluster = options.connect([node]).await.expect("the node answers");
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for group in 0..GROUPS as usize {
            let is_there = |name: &String| position(name.as_bytes(), GROUPS as usize) == group;
            let name = (0..).map(|n| format!("{prefix}-{n}")).find(is_there);
            let counter = cluster.counter(name.expect("names go on for ever"));
            counter.increment(1).await.expect("all are up");
            tasks.spawn(write(counter, stop.clone()));
        }
        Self { stop, tasks }
    }

    /// The longest time between two acknowledgements, of each group.
    async fn end(self) -> Vec<Duration> {
        self.stop.store(true, Ordering::Relaxed);
        self.tasks.join_all().await
    }
}

async fn write(counter: Counter, stop: Arc<AtomicBool>) -> Duration {
    let (mut longest, mut last) = (Duration::ZERO, Instant::now());
    while !stop.load(Ordering::Relaxed) {
        counter.increment(1).await.expect("a call is retried to an answer");
        longest = longest.max(last.elapsed());
        last = Instant::now();
        tokio::time::sleep(PACE).await;
    }
    longest
}
