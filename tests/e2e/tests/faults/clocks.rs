//! Wall clocks that jump, go back and drift while their nodes run. The monotonic clock goes on.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use multiraft_client::{Cluster, Options, node_service, v1};
use multiraft_e2e::members::until;
use multiraft_e2e::mixed::Mixed;
use multiraft_e2e::nodes::{Node, Nodes};
use multiraft_proto::v1::node_client::NodeClient;

use crate::support::{CLIENTS, GROUPS, alone, group, leader, load, report, times};

/// What changes the time of a process, and what it is told, in seconds and as a rate.
const LIBRARY: &str = "libfaketimeMT.so.1";
const TRUE: &str = "+0 x1.0";
const WRONG: [&str; 4] = ["+3600 x1.0", "-3600 x1.0", "+0 x1.2", "+0 x0.8"];

const ASK_TIMEOUT: Duration = Duration::from_secs(10);
/// Of a session whose client goes away; a clock that is an hour wrong must not make it an hour.
const FORGOTTEN: Duration = Duration::from_secs(1);

/// The wall clock of one node.
struct Clock {
    file: PathBuf,
}

impl Clock {
    /// Lets the node's program run with a clock of its own; says so when that cannot be done here.
    fn of(node: &mut Node, file: PathBuf) -> Option<Self> {
        let clock = Self { file };
        clock.tell(TRUE);
        let Some(library) = library() else {
            println!("fault skipped: no {LIBRARY} here: install the package faketime");
            return None;
        };
        node.under = vec![
            "env".to_owned(),
            format!("LD_PRELOAD={}", library.display()),
            format!("FAKETIME_TIMESTAMP_FILE={}", clock.file.display()),
            "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
            "FAKETIME_NO_CACHE=1".to_owned(),
        ];
        Some(clock)
    }

    /// Written aside: it is read all the time.
    fn tell(&self, time: &str) {
        let aside = self.file.with_extension("next");
        fs::write(&aside, time).expect("the folder is writable");
        fs::rename(aside, &self.file).expect("same folder");
    }

    /// Makes the clock wrong, or right again, and sees that the running node's own time is so.
    async fn set(&self, node: &Node, time: &str) {
        let before = ahead(node).await;
        self.tell(time);
        let after = ahead(node).await;
        let what = format!("{time}: ahead by {before:.2} s before and by {after:.2} s after");
        // A rate counts from the start of the process.
        let wanted: f64 = time.split(' ').next().and_then(|t| t.parse().ok()).expect("seconds");
        let is_set = (after - wanted).abs() < 600.0 && (after - before).abs() > 0.01;
        assert!(is_set, "{what}");
        println!("clock of {}: {what}", node.address());
    }
}

/// Where the library is: the folder depends on the processor.
fn library() -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let mut places = folders.map(|folder| folder.path().join("faketime").join(LIBRARY));
    let library = places.find(|place| place.exists())?;
    let works = Command::new("date").env("LD_PRELOAD", &library).env("FAKETIME", "-1d").output();
    works.is_ok_and(|date| date.status.success()).then_some(library)
}

/// By how many seconds a node's wall clock is ahead, as its events tell.
async fn ahead(node: &Node) -> f64 {
    let mut client =
        NodeClient::connect(format!("http://{}", node.address())).await.expect("is up");
    let mut events = client.watch(v1::WatchRequest::default()).await.expect("is up").into_inner();
    let event = events.message().await.expect("is up").expect("a watch begins with a snapshot");
    let told = event.timestamp.expect("every event has one");
    let own = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64();
    told.seconds as f64 + f64::from(told.nanos) / 1e9 - own
}

/// Open sessions of each group, as whoever applied most of it knows.
async fn sessions(nodes: &Nodes) -> Vec<u32> {
    let mut newest = vec![(0, 0); GROUPS as usize];
    for node in &nodes.nodes {
        for state in node.info().await.groups {
            let known = &mut newest[state.group_id as usize - 1];
            *known = (*known).max((state.applied_index, state.sessions));
        }
    }
    newest.into_iter().map(|(_, count)| count).collect()
}

/// A client with a session in every group.
async fn everywhere(nodes: &Nodes, timeout: Duration) -> Cluster {
    let cluster = Options::default().session_timeout(timeout).connect(nodes.endpoints()).await;
    let cluster = cluster.expect("all are up");
    cluster.map("everywhere").size().await.expect("all are up");
    cluster
}

/// The node leads the counter's group.
async fn lead(nodes: &Nodes, position: usize) {
    let to = nodes.nodes[position].info().await.node_id;
    until("the leadership goes there", async || {
        let from = leader(nodes).await;
        let request = v1::TransferLeadershipRequest { group_id: group(), to, ..Default::default() };
        let path = "/atomix.multiraft.v1.Node/TransferLeadership";
        let address = nodes.nodes[from].address();
        let _: Result<v1::TransferLeadershipResponse, _> =
            node_service(&address, path, &request, ASK_TIMEOUT).await;
        leader(nodes).await == position
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_live_as_long_as_promised_while_clocks_jump_and_drift() {
    let _alone = alone().await;
    let mut nodes = Nodes::prepared(3);
    let mut clocks = Vec::new();
    for (number, node) in nodes.nodes.iter_mut().enumerate() {
        let file = nodes.folder.path().join(format!("clock-{number}"));
        let Some(clock) = Clock::of(node, file) else { return };
        clocks.push(clock);
        node.start();
    }
    nodes.form(GROUPS, 3).await;
    let load = load(&nodes).await;
    let _kept = everywhere(&nodes, Duration::from_secs(60)).await;
    // One more in the counter's group is of a reader of each node.
    until("every client has a session with every group", async || {
        sessions(&nodes).await.iter().all(|&count| count as usize > CLIENTS + Mixed::CLUSTERS)
    })
    .await;
    let kept = sessions(&nodes).await;
    let (mut jumps, mut drifts) = (0, 0);
    let mut longest = Duration::ZERO;
    for _ in 0..times(1, 20) {
        for time in WRONG {
            let wrong = leader(&nodes).await;
            let right = (wrong + 1) % 3;
            // The leader; then it is one of the others, and leads again.
            clocks[wrong].set(&nodes.nodes[wrong], time).await;
            drop(everywhere(&nodes, FORGOTTEN).await);
            for leader in [wrong, right, wrong] {
                lead(&nodes, leader).await;
                load.progress(20).await;
                load.all_go_on().await;
                let now = sessions(&nodes).await;
                let none_ended = now.iter().zip(&kept).all(|(now, kept)| now >= kept);
                assert!(none_ended, "{time} on node {wrong}: of sessions {kept:?} live {now:?}");
            }
            let began = Instant::now();
            until("sessions of clients that are gone end", async || sessions(&nodes).await == kept)
                .await;
            longest = longest.max(began.elapsed());
            clocks[wrong].set(&nodes.nodes[wrong], TRUE).await;
            load.progress(20).await;
            match time.contains("3600") {
                true => jumps += 2,
                false => drifts += 1,
            }
        }
    }
    load.all_go_on().await;
    assert_eq!(sessions(&nodes).await, kept);
    let outcome = load.check().await;
    assert!(jumps >= times(4, 80) && drifts >= times(2, 40), "{jumps} jumps, {drifts} drifts");
    report(
        &format!(
            "clock jumps by an hour {jumps}, drifts by a fifth {drifts}, sessions that ended early \
             0 of {}, forgotten ones ended within {longest:.1?}",
            kept.iter().sum::<u32>()
        ),
        outcome,
    );
}
