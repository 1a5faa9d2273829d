//! What groups cost: at rest, at work, when they are formed and when they come back.

use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::{SETTLE_TIME, Suite};
use crate::probe;
use crate::processes::{Cluster, NODES};

const CLIENTS: usize = 256;
/// Groups that have load while others rest.
const ACTIVE: u32 = 16;
/// Until groups that nobody uses rest, and the log's housekeeping is done.
const REST_TIME: Duration = Duration::from_secs(8);
/// What, unit, and where it is found.
type Figure = (&'static str, &'static str, fn(&Idle) -> Option<f64>);

/// What each node has when nothing happens.
struct Idle {
    cpu_percent: f64,
    memory_mib: f64,
    disk_mib: f64,
    segments: Option<f64>,
}

impl Suite {
    /// A node while nothing happens; etcd has one group only.
    pub(super) async fn idle(&mut self) -> anyhow::Result<()> {
        let etcd = self.etcd().await?;
        let peer = self.watch(&etcd).await;
        drop(etcd);
        for groups in self.arguments.idle_groups.clone() {
            let cluster = self.ours(groups, &[]).await?;
            let ours = self.watch(&cluster).await;
            drop(cluster);
            let figures: [Figure; 4] = [
                ("CPU", "% of a core", |idle| Some(idle.cpu_percent)),
                ("memory", "MiB", |idle| Some(idle.memory_mib)),
                ("disk", "MiB", |idle| Some(idle.disk_mib)),
                ("TCP segments to peers", "1/s", |idle| idle.segments),
            ];
            for (what, unit, of) in figures {
                let name = format!("idle, {groups} groups: {what} per node");
                if let Some(ours) = of(&ours) {
                    let peer = of(&peer).filter(|_| groups == 1);
                    self.row(name, unit, ours, peer);
                }
            }
        }
        Ok(())
    }

    async fn watch(&self, cluster: &Cluster) -> Idle {
        tokio::time::sleep(REST_TIME).await;
        let (pids, seconds) = (cluster.pids(), self.arguments.idle_seconds);
        let sent = || probe::segments(&cluster.peer_ports);
        let before = (probe::cpu(&pids), sent());
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        let after = (probe::cpu(&pids), sent());
        let per_node = |sum: f64| sum / NODES as f64;
        let rate = |sum: f64| per_node(sum) / seconds as f64;
        let segments = after.1.zip(before.1).map(|(a, b)| rate(a.saturating_sub(b) as f64));
        let disk: u64 = (0..NODES).map(|place| cluster.disk(place)).sum();
        Idle {
            cpu_percent: 100.0 * rate(after.0 - before.0),
            memory_mib: per_node(probe::memory(&pids)),
            disk_mib: per_node(disk as f64 / f64::from(1 << 20)),
            segments,
        }
    }

    /// The same clients over more and more groups; rates relative to the first count.
    pub(super) async fn active(&mut self) -> anyhow::Result<()> {
        let mut first = None;
        for groups in self.arguments.active_groups.clone() {
            let cluster = self.ours(groups, &[]).await?;
            tokio::time::sleep(SETTLE_TIME).await;
            let measured = self.put(&cluster, &self.plan(CLIENTS, groups)).await;
            let measured = measured.with_context(|| format!("{groups} groups with load"))?;
            let rate = measured.ops_per_second;
            let base = *first.get_or_insert((groups, rate));
            let name = |what: &str| format!("put, 256 clients over {groups} groups: {what}");
            self.row(name("rate"), "op/s", rate, None);
            self.row(name("p99"), "µs", measured.p99_us as f64, None);
            self.row(name("server CPU"), "µs/op", measured.server_us_per_op, None);
            let relative = format!("rate relative to {}", base.0);
            self.row(name(&relative), "%", 100.0 * rate / base.1, None);
        }
        Ok(())
    }

    /// 16 groups with load among more and more without.
    pub(super) async fn sparse(&mut self) -> anyhow::Result<()> {
        let mut first = None;
        for groups in self.arguments.sparse_groups.clone() {
            let cluster = self.ours(groups, &[]).await?;
            tokio::time::sleep(REST_TIME).await;
            let measured = self.put(&cluster, &self.plan(CLIENTS, ACTIVE)).await?;
            let rate = measured.ops_per_second;
            let base = *first.get_or_insert((groups, rate));
            let name = |what: &str| format!("put, 16 active of {groups} groups: {what}");
            self.row(name("rate"), "op/s", rate, None);
            self.row(name("p99"), "µs", measured.p99_us as f64, None);
            let relative = format!("rate relative to {}", base.0);
            self.row(name(&relative), "%", 100.0 * rate / base.1, None);
        }
        Ok(())
    }

    /// Forming groups, and the restart of a node with many.
    pub(super) async fn start(&mut self) -> anyhow::Result<()> {
        let groups = self.arguments.formed_groups;
        let nodes = Instant::now();
        drop(self.ours(1, &[]).await?);
        let nodes = nodes.elapsed();
        let formed = Instant::now();
        drop(self.ours(groups, &[]).await?);
        let formed = formed.elapsed().saturating_sub(nodes).as_secs_f64();
        self.row(format!("form {groups} groups until all are led"), "s", formed, None);

        let groups = self.arguments.restart_groups;
        let mut cluster = self.ours(groups, &[]).await?;
        tokio::time::sleep(REST_TIME).await;
        for (signal, name) in [(true, "SIGKILL"), (false, "SIGTERM")] {
            let stopped = Instant::now();
            if signal {
                cluster.kill(0)?;
                // Those that it led have another leader before it is back.
                cluster.wait_for_leaders(groups).await?;
                tokio::time::sleep(SETTLE_TIME).await;
                cluster.wait_for_leaders(groups).await?;
            } else {
                cluster.terminate(0).await?;
                let name = format!("SIGTERM with {groups} groups: until the node has ended");
                self.row(name, "s", stopped.elapsed().as_secs_f64(), None);
            }
            let started = Instant::now();
            cluster.start_again(0)?;
            cluster.wait_for_leaders(groups).await?;
            let name = format!("node with {groups} groups started after {name}: all are led");
            self.row(name, "s", started.elapsed().as_secs_f64(), None);
            tokio::time::sleep(SETTLE_TIME).await;
        }
        Ok(())
    }
}
