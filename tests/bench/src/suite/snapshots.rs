//! A gigabyte of state: what its snapshots cost, and what they are good for.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use multiraft_proto::v1::MemberRole;

use super::{SETTLE_TIME, Suite};
use crate::load::{self, Plan, Run};
use crate::processes::{Cluster, NODES};
use crate::{Operation, System, ours, probe};

const GROUPS: u32 = 16;
const CLIENTS: usize = 64;
const VALUE_BYTES: usize = 1 << 10;
/// More than all that is written, and little beside the state of a group.
const NEVER: &str = "1099511627776";
const OFTEN: &str = "1048576";
const ARGUMENT: &str = "--snapshot-log-bytes";
/// Long enough for some snapshots of each group.
const MEASURE_TIME: Duration = Duration::from_secs(40);
const TAKEN: &str = "multiraft_node_snapshot_duration_seconds_count{action=\"taken\"}";
const MIB: f64 = (1 << 20) as f64;
/// What is given up on after so long.
const PATIENCE: Duration = Duration::from_secs(300);
/// The disk is done with compaction when it holds the same for so long.
const QUIET_TIME: Duration = Duration::from_secs(10);

impl Suite {
    pub(super) async fn snapshots(&mut self) -> anyhow::Result<()> {
        let plan = Plan {
            value_bytes: VALUE_BYTES,
            keys: self.arguments.snapshot_keys / u64::from(GROUPS),
            ..self.plan(CLIENTS, GROUPS)
        };
        let mut cluster = self.ours(GROUPS, &[ARGUMENT, NEVER]).await?;
        self.fill(&cluster, &plan).await.context("fill the state")?;
        let memory = probe::memory(&cluster.pids()) / NODES as f64;
        self.row("1 GB in 16 groups: memory per node", "MiB", memory, None);
        let before = self.put(&cluster, &plan).await.context("closed loop")?;
        let rate = before.ops_per_second / 2.0;
        let plan = Plan { rate: Some(rate), time: MEASURE_TIME, ..plan };
        let without = self.put(&cluster, &plan).await.context("without snapshots")?;
        let full = cluster.disk(0) as f64 / MIB;
        self.row("1 GB, no snapshots yet: disk per node", "MiB", full, None);
        let seconds = restart(&mut cluster, 0).await?;
        self.row("1 GB, no snapshots yet: restart of a node", "s", seconds, None);

        // Now every group has a log that is due for its first snapshot; they begin under load.
        for place in 0..NODES {
            cluster.set_argument(place, ARGUMENT, OFTEN);
            cluster.terminate(place).await?;
        }
        for place in 0..NODES {
            cluster.start_again(place)?;
        }
        for place in 0..NODES {
            caught_up(&mut cluster, place).await?;
        }
        let before = snapshots(&cluster)?;
        let with = self.put(&cluster, &plan).await.context("with snapshots")?;
        let taken = snapshots(&cluster)? - before;
        let compacted = settled_disk(&cluster).await as f64 / MIB;
        self.row("1 GB, with snapshots: disk per node", "MiB", compacted, None);
        for (what, of) in [
            ("p50", (|m| m.p50_us) as fn(&load::Measured) -> u64),
            ("p99", |m| m.p99_us),
            ("p99.9", |m| m.p999_us),
        ] {
            let name = |how| format!("1 GB, {rate:.0} puts/s of 1 KiB {how}: {what}");
            self.row(name("without snapshots"), "µs", of(&without) as f64, None);
            self.row(name("while snapshots are written"), "µs", of(&with) as f64, None);
        }
        self.row("1 GB: snapshots written meanwhile, all nodes", "snapshots", taken as f64, None);
        let seconds = restart(&mut cluster, 0).await?;
        self.row("1 GB, with snapshots: restart of a node", "s", seconds, None);
        let seconds = self.install(&mut cluster).await.context("a new member")?;
        self.row("1 GB: until a new member of all groups votes", "s", seconds, None);
        Ok(())
    }

    async fn fill(&self, cluster: &Cluster, plan: &Plan) -> anyhow::Result<()> {
        let run = Run {
            system: System::Ours,
            operation: Operation::Put,
            endpoints: cluster.endpoints.clone(),
            pids: vec![],
            floor_dir: self.dir(),
        };
        let clients = load::connect(&run, plan).await?;
        for client in load::preload(clients, plan).await? {
            client.close().await;
        }
        Ok(())
    }

    async fn install(&self, cluster: &mut Cluster) -> anyhow::Result<f64> {
        let others = cluster.endpoints.clone();
        let place = cluster.add_ours(&self.node, &[ARGUMENT, OFTEN])?;
        let endpoint = cluster.endpoints[place].clone();
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while ours::node_info(&endpoint).await.is_err() {
            cluster.wait(deadline, "a node does not answer").await?;
        }
        let began = Instant::now();
        let join = |group| {
            let (endpoint, others) = (endpoint.clone(), others.clone());
            tokio::task::spawn_local(async move { ours::join(&endpoint, &others, group).await })
        };
        for joined in (1..=GROUPS).map(join).collect::<Vec<_>>() {
            joined.await??;
        }
        while !votes_everywhere(&endpoint).await? {
            cluster.wait(deadline, "the new member does not vote").await?;
        }
        Ok(began.elapsed().as_secs_f64())
    }
}

/// Ends a node and starts it again; seconds until it has applied all that the others have.
async fn restart(cluster: &mut Cluster, place: usize) -> anyhow::Result<f64> {
    tokio::time::sleep(SETTLE_TIME).await;
    cluster.terminate(place).await?;
    let began = Instant::now();
    cluster.start_again(place)?;
    caught_up(cluster, place).await?;
    Ok(began.elapsed().as_secs_f64())
}

/// Whether a node has applied all of every group, as a voter.
async fn votes_everywhere(endpoint: &str) -> anyhow::Result<bool> {
    let groups = ours::node_info(endpoint).await?.groups;
    let votes = groups.iter().filter(|group| group.role() == MemberRole::Member);
    let votes = votes.filter(|group| group.applied_index > 0 && group.leader != 0).count();
    Ok(votes == GROUPS as usize)
}

/// Waits until a node has applied all that another one knows to be committed.
async fn caught_up(cluster: &mut Cluster, place: usize) -> anyhow::Result<()> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let other = ours::node_info(&cluster.endpoints[(place + 1) % NODES]).await;
        if let (Ok(info), Ok(other)) = (ours::node_info(&cluster.endpoints[place]).await, other) {
            let caught_up = info
                .groups
                .iter()
                .zip(&other.groups)
                .all(|(own, other)| own.leader != 0 && own.applied_index >= other.commit_index);
            if caught_up && info.groups.len() == other.groups.len() {
                return Ok(());
            }
        }
        cluster.wait(deadline, "a node does not catch up").await?;
    }
}

/// Snapshots that the nodes have written since they started.
fn snapshots(cluster: &Cluster) -> anyhow::Result<u64> {
    let mut sum = 0;
    for port in &cluster.http_ports {
        let text = probe::metrics(*port)?;
        let count =
            text.lines().find_map(|line| line.strip_prefix(TAKEN)?.trim().parse::<u64>().ok());
        sum += count.with_context(|| format!("no {TAKEN} in the metrics"))?;
    }
    Ok(sum)
}

async fn settled_disk(cluster: &Cluster) -> u64 {
    let began = Instant::now();
    let mut last = (cluster.disk(0), Instant::now());
    while last.1.elapsed() < QUIET_TIME && began.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = cluster.disk(0);
        if now != last.0 {
            last = (now, Instant::now());
        }
    }
    last.0
}
