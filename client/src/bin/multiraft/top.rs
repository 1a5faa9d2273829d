//! `multiraft top`: the cluster at a glance, again and again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use multiraft_client::v1;
use serde_json::{Value, json};

use crate::arguments::{Output, Reach, TopOptions};
use crate::inspect::{led, state};
use crate::report::{Failure, Report};
use crate::screen::{Paint, Screen, bar};
use crate::survey::{Survey, hex};
use crate::table::{Table, bytes};

/// Groups that need attention, at most as many lines.
const TROUBLES_MAX: usize = 8;
/// A lag of as many entries is worth a line.
const LAG_NOTED: u64 = 64;
pub async fn run(reach: &Reach, options: TopOptions, output: Output) -> Result<Report, Failure> {
    let screen = Screen::new(output == Output::Table && !options.once);
    let mut before = Sample::take(reach).await?;
    if options.once {
        tokio::time::sleep(options.interval).await;
        let now = Sample::take(reach).await?;
        let picture = Picture::between(&before, &now);
        return Ok(Report::new(picture.lines(Paint(false)).join("\n"), picture.json()));
    }
    if screen.is_terminal() {
        let waiting = Picture::between(&before, &before);
        screen.show(&waiting.lines(screen.paint()));
    }
    loop {
        tokio::select! {
            () = tokio::time::sleep(options.interval) => {}
            _ = tokio::signal::ctrl_c() => return Ok(Report::nothing()),
        }
        let picture = match Sample::take(reach).await {
            Ok(now) => {
                let picture = Picture::between(&before, &now);
                before = now;
                picture
            }
            // What runs for hours must outlive a restart of the whole cluster.
            Err(failure) if screen.is_terminal() => {
                screen.show(&[failure.to_string()]);
                continue;
            }
            Err(failure) => return Err(failure),
        };
        let shown = match output {
            Output::Table => screen.show(&picture.lines(screen.paint())),
            Output::Json | Output::Yaml => {
                Report::new(Vec::new(), picture.json()).write(output).is_ok()
            }
        };
        if !shown {
            // Whoever reads went away.
            return Ok(Report::nothing());
        }
    }
}

struct Sample {
    at: Instant,
    survey: Survey,
}

impl Sample {
    async fn take(reach: &Reach) -> Result<Self, Failure> {
        let survey = Survey::take(reach).await?;
        Ok(Self { at: Instant::now(), survey })
    }
}

/// One node between two samples.
struct Line {
    node_id: u64,
    address: String,
    state: &'static str,
    groups: usize,
    led: usize,
    puts: f64,
    reads: f64,
    syncs: f64,
    /// Mean time of a sync in milliseconds.
    sync_millis: Option<f64>,
    /// Largest number of entries that a member of the node is behind.
    lag: Option<u64>,
    disk: u64,
    free: u64,
    memory: u64,
    peers: (usize, usize),
}

struct Picture {
    nodes: Vec<Line>,
    groups: usize,
    led: usize,
    troubles: Vec<(u32, String)>,
}

impl Picture {
    fn between(before: &Sample, now: &Sample) -> Self {
        let time = now.at.duration_since(before.at);
        let survey = &now.survey;
        let groups = survey.groups();
        let mut lags: BTreeMap<u64, u64> = BTreeMap::new();
        let mut troubles = Vec::new();
        for (id, group) in &groups {
            for member in &group.state.members {
                let lag = group.lag(member.member_id);
                let worst = lags.entry(member.node_id).or_default();
                *worst = (*worst).max(lag.unwrap_or(0));
                if let Some(lag) = lag.filter(|lag| *lag >= LAG_NOTED) {
                    let name = survey.name(member.node_id);
                    troubles.push((*id, format!("{name} is {lag} entries behind")));
                }
            }
            if group.state.leader == 0 {
                troubles.push((*id, "no leader".into()));
            }
        }
        for node in survey.nodes.values() {
            for group in &node.groups {
                let name = &node.client_address;
                if group.phase() == v1::GroupPhase::RolledBack {
                    troubles.push((group.group_id, format!("closed on {name}: its log went back")));
                }
            }
        }
        troubles.sort();
        let nodes = survey.nodes.values().map(|node| {
            let earlier = before.survey.nodes.get(&node.node_id);
            Line::new(node, earlier, time, lags.get(&node.node_id).copied())
        });
        let silent = survey.silent.iter().map(|(id, address)| Line::down(*id, address));
        Picture {
            nodes: nodes.chain(silent).collect(),
            led: groups.values().filter(|group| group.state.leader != 0).count(),
            groups: groups.len(),
            troubles,
        }
    }

    fn lines(&self, paint: Paint) -> Vec<String> {
        let down = self.nodes.iter().filter(|node| node.state == "down").count();
        let mut summary = format!(
            "multiraft  {} nodes, {} groups: {} led",
            self.nodes.len(),
            self.groups,
            self.led,
        );
        if self.led < self.groups {
            let leaderless = format!(", {} without a leader", self.groups - self.led);
            summary.push_str(&paint.red(&leaderless));
        }
        if down > 0 {
            summary.push_str(&paint.red(&format!(", {down} nodes down")));
        }
        let mut lines = vec![summary, String::new()];
        let table = self.table().lines();
        for (line, node) in table[1..].iter().zip(&self.nodes) {
            lines.push(match node.state {
                "up" => line.replacen(" up ", &format!(" {} ", paint.green("up")), 1),
                "down" => paint.red(line),
                _ => paint.yellow(line),
            });
        }
        lines.insert(2, paint.bold(&table[0]));
        if !self.troubles.is_empty() {
            lines.push(String::new());
        }
        for (group, trouble) in self.troubles.iter().take(TROUBLES_MAX) {
            lines.push(paint.yellow(&format!("group {group}: {trouble}")));
        }
        if self.troubles.len() > TROUBLES_MAX {
            lines.push(format!("and {} more", self.troubles.len() - TROUBLES_MAX));
        }
        lines
    }

    fn table(&self) -> Table {
        let mut table = Table::new([
            "NODE", "ADDRESS", "STATE", "GROUPS", "LEADS", "", "PUT/S", "READ/S", "SYNC/S", "SYNC",
            "LAG", "DISK", "FREE", "MEMORY", "PEERS",
        ]);
        for node in &self.nodes {
            if node.state == "down" {
                let mut cells: [String; 15] = std::array::from_fn(|_| "-".to_owned());
                cells[0] = hex(node.node_id);
                cells[1].clone_from(&node.address);
                cells[2] = node.state.into();
                table.row(cells);
                continue;
            }
            let (connected, peers) = node.peers;
            table.row([
                hex(node.node_id),
                node.address.clone(),
                node.state.into(),
                node.groups.to_string(),
                node.led.to_string(),
                bar(node.led, self.groups),
                rate(node.puts),
                rate(node.reads),
                rate(node.syncs),
                node.sync_millis.map_or("-".into(), |millis| format!("{millis:.2} ms")),
                node.lag.map_or("-".into(), |lag| lag.to_string()),
                bytes(node.disk),
                bytes(node.free),
                bytes(node.memory),
                format!("{connected}/{peers}"),
            ]);
        }
        table
    }

    fn json(&self) -> Value {
        let nodes = self.nodes.iter().map(|node| {
            json!({
                "node": hex(node.node_id), "address": node.address, "state": node.state,
                "groups": node.groups, "leads": node.led, "puts_per_second": node.puts,
                "reads_per_second": node.reads, "syncs_per_second": node.syncs,
                "sync_millis": node.sync_millis, "lag": node.lag, "disk_bytes": node.disk,
                "disk_free_bytes": node.free, "memory_bytes": node.memory,
                "peers": node.peers.1, "peers_connected": node.peers.0,
            })
        });
        let troubles = self.troubles.iter();
        let troubles = troubles.map(|(group, what)| json!({"group": group, "problem": what}));
        json!({
            "groups": self.groups, "groups_led": self.led, "nodes": nodes.collect::<Vec<_>>(),
            "problems": troubles.collect::<Vec<_>>(),
        })
    }
}

impl Line {
    fn new(
        node: &v1::GetInfoResponse,
        earlier: Option<&v1::GetInfoResponse>,
        time: Duration,
        lag: Option<u64>,
    ) -> Self {
        let now = node.stats.unwrap_or_default();
        // Counters of a node that was started anew begin at zero: its first picture has no rates.
        let earlier = earlier.and_then(|node| node.stats).filter(|e| e.rounds <= now.rounds);
        let earlier = earlier.unwrap_or(now);
        let per_second = |now: u64, earlier: u64| match time.as_secs_f64() {
            0.0 => 0.0,
            seconds => now.saturating_sub(earlier) as f64 / seconds,
        };
        let syncs = now.syncs.saturating_sub(earlier.syncs);
        let nanos = now.sync_nanos.saturating_sub(earlier.sync_nanos);
        Self {
            node_id: node.node_id,
            address: node.client_address.clone(),
            state: state(node),
            groups: node.groups.len(),
            led: led(node),
            puts: per_second(now.commands, earlier.commands),
            reads: per_second(now.reads, earlier.reads),
            syncs: per_second(now.syncs, earlier.syncs),
            sync_millis: (syncs > 0).then(|| nanos as f64 / syncs as f64 / 1e6),
            lag,
            disk: node.disk_bytes,
            free: node.free_bytes,
            memory: now.memory_bytes,
            peers: (node.peers.iter().filter(|p| p.connected).count(), node.peers.len()),
        }
    }

    fn down(node_id: u64, address: &str) -> Self {
        let address = if address.is_empty() { "-".to_owned() } else { address.to_owned() };
        let node = v1::GetInfoResponse { node_id, client_address: address, ..Default::default() };
        Self { state: "down", ..Self::new(&node, None, Duration::ZERO, None) }
    }
}

fn rate(per_second: f64) -> String {
    match per_second {
        rate if rate >= 10_000.0 => format!("{:.1}k", rate / 1000.0),
        rate => format!("{rate:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at: Instant, commands: u64, leader: u64) -> Sample {
        let group = v1::GroupState { group_id: 1, leader, term: 1, ..Default::default() };
        let stats = v1::NodeStats {
            rounds: commands,
            commands,
            syncs: commands / 10,
            sync_nanos: commands * 100_000,
            ..Default::default()
        };
        let node = v1::GetInfoResponse {
            node_id: 5,
            client_address: "a:1".into(),
            activated: true,
            groups: vec![group],
            stats: Some(stats),
            ..Default::default()
        };
        let mut survey = Survey::default();
        survey.nodes.insert(5, node);
        survey.silent.insert(6, "b:1".into());
        Sample { at, survey }
    }

    #[test]
    fn rates_are_taken_between_two_samples() {
        let start = Instant::now();
        let before = sample(start, 1_000, 5);
        let now = sample(start + Duration::from_secs(2), 5_000, 5);
        let picture = Picture::between(&before, &now);
        assert_eq!(picture.nodes[0].puts, 2_000.0);
        assert_eq!(picture.nodes[0].syncs, 200.0);
        assert_eq!(picture.nodes[0].sync_millis, Some(1.0));
        let restarted = Picture::between(&now, &before);
        assert_eq!(restarted.nodes[0].puts, 0.0, "its counters began anew");
    }

    #[test]
    fn what_is_wrong_is_said_and_coloured() {
        let start = Instant::now();
        let (before, now) = (sample(start, 0, 0), sample(start + Duration::from_secs(1), 10, 0));
        let picture = Picture::between(&before, &now);
        let plain = picture.lines(Paint(false)).join("\n");
        assert!(!plain.contains('\x1b'), "{plain}");
        for words in
            ["1 without a leader", "1 nodes down", "group 1: no leader", "0000000000000006"]
        {
            assert!(plain.contains(words), "{words}: {plain}");
        }
        let coloured = picture.lines(Paint(true)).join("\n");
        assert!(coloured.contains("\x1b[32mup\x1b[0m"), "{coloured}");
        assert!(coloured.contains("\x1b[31m"), "{coloured}");
    }
}
