//! Nodes that end, at once or in order, under a small constant load on every group.

use std::time::Duration;

use anyhow::Context as _;

use super::{SETTLE_TIME, Suite};
use crate::load::Client;
use crate::processes::{Cluster, NODES};
use crate::steady::{Gaps, Steady};
use crate::{System, etcd, ours};

/// Until every group has another leader and a while longer.
const WATCH_TIME: Duration = Duration::from_secs(10);
/// Groups of a rolling restart.
const RESTART_GROUPS: u32 = 16;

/// Clients for each group, and how often each of them writes: many groups would be a large load.
fn pace(groups: u32) -> (usize, Duration) {
    match groups {
        0..=16 => (4, Duration::from_millis(40)),
        17..=100 => (2, Duration::from_millis(100)),
        _ => (1, Duration::from_millis(200)),
    }
}

/// Milliseconds at p50, p99 and the longest.
pub(super) fn spread(gaps: &[Duration]) -> [f64; 3] {
    let mut sorted = gaps.to_vec();
    sorted.sort_unstable();
    let at = |part: f64| {
        let place = (sorted.len() as f64 * part).ceil() as usize;
        sorted.get(place.saturating_sub(1)).map_or(0.0, |gap| gap.as_secs_f64() * 1e3)
    };
    [at(0.5), at(0.99), at(1.0)]
}

impl Suite {
    /// SIGKILL of a node: how long the groups that it led go without an answer.
    pub(super) async fn kill(&mut self) -> anyhow::Result<()> {
        let mut peer = None;
        for groups in self.arguments.kill_groups.clone() {
            let cluster = self.ours(groups, &[]).await?;
            let (gaps, led) = killed(System::Ours, cluster, groups).await?;
            if groups == 1 {
                let etcd = self.etcd().await?;
                peer = Some(killed(System::Etcd, etcd, 1).await.context("etcd")?.0);
            }
            let name = format!("SIGKILL of a leader, {groups} groups");
            self.row(format!("{name}: it led"), "groups", led as f64, None);
            self.add_gaps(&name, groups, &[gaps], peer.take().as_slice());
        }
        Ok(())
    }

    /// SIGTERM of every node in turn: how long any group goes without an answer.
    pub(super) async fn restart(&mut self) -> anyhow::Result<()> {
        for groups in [1, RESTART_GROUPS] {
            let ours = restarted(System::Ours, self.ours(groups, &[]).await?, groups).await?;
            let etcd = match groups {
                1 => restarted(System::Etcd, self.etcd().await?, 1).await.context("etcd")?,
                _ => Vec::new(),
            };
            let name = format!("rolling restart by SIGTERM, {groups} groups");
            self.add_gaps(&name, groups, &ours, &etcd);
        }
        Ok(())
    }

    fn add_gaps(&mut self, name: &str, groups: u32, ours: &[Gaps], peer: &[Gaps]) {
        let all = |of: &[Gaps]| -> Vec<Duration> {
            of.iter().flat_map(|gaps| gaps.longest.iter().map(|(_, gap)| *gap)).collect()
        };
        let has_peer = !peer.is_empty();
        let (own, other) = (spread(&all(ours)), spread(&all(peer)));
        let (clients, period) = pace(groups);
        let usual = period / clients as u32;
        for (what, (own, other)) in
            ["p50", "p99", "max"].into_iter().zip(own.into_iter().zip(other))
        {
            let name = format!("{name}: gap {what} (a call each {} ms)", usual.as_millis());
            self.row(name, "ms", own, has_peer.then_some(other));
        }
        let sum = |of: &[Gaps], what: fn(&Gaps) -> u64| of.iter().map(what).sum::<u64>() as f64;
        for (what, of) in
            [("calls failed", (|g| g.failed) as fn(&Gaps) -> u64), ("calls", |g| g.calls)]
        {
            let name = format!("{name}: {what}");
            self.row(name, "calls", sum(ours, of), has_peer.then(|| sum(peer, of)));
        }
    }
}

/// Kills the node that leads most; returns the gaps of what it led, and how many that were.
async fn killed(
    system: System,
    mut cluster: Cluster,
    groups: u32,
) -> anyhow::Result<(Gaps, usize)> {
    tokio::time::sleep(SETTLE_TIME).await;
    let mut led = Vec::new();
    for place in 0..NODES {
        led.push(led_by(system, &cluster, place).await?);
    }
    let victim = (0..NODES).max_by_key(|place| led[*place].len()).unwrap_or(0);
    let led = led.swap_remove(victim);
    let others: Vec<_> = (0..NODES).filter(|place| *place != victim).collect();
    let (clients, period) = pace(groups);
    let writers = writers(system, &cluster, &others, groups, clients).await?;
    let steady = Steady::start(writers, period);
    tokio::time::sleep(SETTLE_TIME).await;
    steady.mark();
    cluster.kill(victim)?;
    tokio::time::sleep(WATCH_TIME).await;
    let mut gaps = steady.end().await;
    gaps.longest.retain(|(group, _)| led.contains(group));
    Ok((gaps, led.len()))
}

/// Restarts every node; returns the gaps of each restart.
async fn restarted(system: System, mut cluster: Cluster, groups: u32) -> anyhow::Result<Vec<Gaps>> {
    let mut all = Vec::new();
    for place in 0..NODES {
        tokio::time::sleep(SETTLE_TIME).await;
        let others: Vec<_> = (0..NODES).filter(|other| *other != place).collect();
        let (clients, period) = pace(groups);
        let writers = writers(system, &cluster, &others, groups, clients).await?;
        let steady = Steady::start(writers, period);
        tokio::time::sleep(SETTLE_TIME).await;
        steady.mark();
        cluster.terminate(place).await?;
        cluster.start_again(place)?;
        match system {
            System::Ours | System::Streamed | System::Rsm => {
                cluster.wait_for_leaders(groups).await?
            }
            System::Etcd => cluster.wait_for_etcd().await?,
        }
        tokio::time::sleep(SETTLE_TIME).await;
        all.push(steady.end().await);
    }
    Ok(all)
}

/// Groups that a node leads; etcd has one, number 1.
async fn led_by(system: System, cluster: &Cluster, place: usize) -> anyhow::Result<Vec<u32>> {
    let endpoint = &cluster.endpoints[place];
    match system {
        System::Ours | System::Streamed | System::Rsm => {
            let info = ours::node_info(endpoint).await?;
            let led = info.groups.iter().filter(|group| group.leader == info.node_id);
            Ok(led.map(|group| group.group_id).collect())
        }
        System::Etcd => {
            let leads = etcd::leader(&cluster.endpoints).await == Some(endpoint);
            Ok(if leads { vec![1] } else { vec![] })
        }
    }
}

/// So many clients for each group, on these nodes in turn.
async fn writers(
    system: System,
    cluster: &Cluster,
    places: &[usize],
    groups: u32,
    clients: usize,
) -> anyhow::Result<Vec<(u32, Client)>> {
    let mut writers = Vec::new();
    for number in 0..clients {
        for (turn, place) in places.iter().enumerate() {
            let here: Vec<u32> = (1..=groups)
                .filter(|group| (*group as usize + number) % places.len() == turn)
                .collect();
            let endpoint = &cluster.endpoints[*place];
            match system {
                System::Ours | System::Streamed | System::Rsm => {
                    let clients = ours::on(endpoint, &here).await?.into_iter().map(Client::Ours);
                    writers.extend(here.into_iter().zip(clients));
                }
                System::Etcd => {
                    for group in here {
                        writers.push((group, Client::Etcd(etcd::on(endpoint).await?.into())));
                    }
                }
            }
        }
    }
    Ok(writers)
}
