//! Nodes that write snapshots all the time, and need those of others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use multiraft_client::{Map, Options};
use multiraft_e2e::members::until;
use multiraft_e2e::nodes::Nodes;
use multiraft_e2e::proxy::Fault;
use tokio::task::JoinSet;

use crate::support::{CLIENTS, GROUPS, Said, alone, leader, load, proxied, report, times};

const LAG: u64 = 500;
/// So small that each group has a new snapshot all the time.
const ARGUMENTS: [&str; 2] = ["--snapshot-log-bytes", "65536"];
/// Large entries, written over and over: the state of all groups is the product.
const BULK_KEYS: u64 = 256;
const BULK_BYTES: usize = 32 << 10;
const BULK_WRITERS: u64 = 2;
/// Of a snapshot, before its connection is cut: each group has some 500 KiB.
const CUT_AFTER: usize = 128 << 10;
const CUTS_MIN: u64 = 3;
/// 8 MiB of state: snapshots and what is received of them, logs of the same size, RocksDB's own
/// files (write-ahead logs of up to two memtables).
const DISK_BYTES_MAX: u64 = 256 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_while_snapshots_are_written_sent_cut_and_resumed() {
    let _alone = alone().await;
    let (mut nodes, network, ids) = proxied(&ARGUMENTS).await;
    let load = load(&nodes).await;
    let bulk = Bulk::start(&nodes).await;
    let (mut installed, mut kills, mut disk) = (0, 0, 0);
    for round in 0..times(2, 20) {
        // Away for so long that the others keep no entry that it needs.
        let away = (leader(&nodes).await + usize::from(round % 2 == 0)) % 3;
        nodes.nodes[away].kill();
        nodes.nodes[away].wait();
        kills += 1;
        load.all_go_on().await;
        bulk.progress(3 * BULK_KEYS).await;
        let said = Said::from_now(&nodes.nodes[away]);
        let (cut, resumed) = (network.hits(), network.resumed());
        for other in ids.iter().filter(|id| **id != ids[away]) {
            network.fail(*other, ids[away], Fault::CutSnapshots(CUT_AFTER));
        }
        nodes.nodes[away].start();
        until("snapshots are cut and resumed", async || {
            network.hits() >= cut + CUTS_MIN && network.resumed() > resumed
        })
        .await;
        // In the middle of receiving, and of writing.
        for position in 0..3 {
            nodes.nodes[position].kill();
            nodes.nodes[position].wait();
            nodes.nodes[position].start();
            kills += 1;
            load.all_go_on().await;
        }
        network.heal();
        nodes.until_replicated(GROUPS, 3, LAG).await;
        installed += said.all(&nodes.nodes[away]).matches("snapshot received").count();
        for node in &nodes.nodes {
            disk = disk.max(node.info().await.disk_bytes);
        }
    }
    load.progress(20 * CLIENTS as u64).await;
    let written = bulk.end().await;
    let outcome = load.check().await;
    nodes.until_replicated(GROUPS, 3, 0).await;
    for node in &mut nodes.nodes {
        node.kill();
        node.wait();
        node.start();
    }
    nodes.until_replicated(GROUPS, 3, 0).await;
    let (cut, resumed) = (network.hits(), network.resumed());
    assert!(installed > 0, "no snapshot arrived");
    assert!(disk < DISK_BYTES_MAX, "{} MiB on a disk", disk >> 20);
    let faults = format!(
        "kills {kills}, snapshot transfers cut {cut}, resumed {resumed}, said to be \
         received {installed}, most on one disk {} MiB after {} MiB of large entries",
        disk >> 20,
        (written * BULK_BYTES as u64) >> 20
    );
    report(&faults, outcome);
}

/// Writers of large entries.
struct Bulk {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    tasks: JoinSet<()>,
}

impl Bulk {
    async fn start(nodes: &Nodes) -> Self {
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let mut tasks = JoinSet::new();
        let options = Options::default().timeout(std::time::Duration::from_secs(60));
        let cluster = options.connect(nodes.endpoints()).await.expect("the nodes answer");
        for number in 0..BULK_WRITERS {
            let (stop, written) = (stop.clone(), Arc::clone(&written));
            tasks.spawn(write(cluster.map("bulk"), number, stop, written));
        }
        Self { stop, written, tasks }
    }

    async fn progress(&self, count: u64) {
        let wanted = self.written.load(Ordering::Relaxed) + count;
        until("large entries are written", async || self.written.load(Ordering::Relaxed) >= wanted)
            .await;
    }

    /// Entries written.
    async fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.tasks.join_all().await;
        self.written.load(Ordering::Relaxed)
    }
}

async fn write(map: Map, first: u64, stop: Arc<AtomicBool>, written: Arc<AtomicU64>) {
    for number in (first..).step_by(BULK_WRITERS as usize) {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let value = vec![number as u8; BULK_BYTES];
        let key = format!("bulk-{}", number % BULK_KEYS);
        map.put(&key, value).await.expect("a put is retried to an answer");
        written.fetch_add(1, Ordering::Relaxed);
    }
}
