//! What Prometheus reads: the node as a whole, by class of work. Series for each group would cost
//! more than the groups; `multiraft top` and GetInfo look at single ones.

use multiraft_host::Measures;
use multiraft_host::measures::{BOUNDS_MICROS, CallKind, Histogram, Outcome, Transfers};
use multiraft_proto::v1::{GroupPhase, GroupState, MemberRole};
use multiraft_tls::State;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use std::collections::BTreeMap;
use std::fmt;

/// The text of `/metrics`.
///
/// # Errors
/// Never, as long as writing to a string works.
pub fn text(measures: Measures) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape(measures)));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

#[derive(Debug)]
struct Scrape(Measures);

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut out = Out(encoder);
        out.build(&self.0)?;
        out.groups(&self.0)?;
        out.peers(&self.0)?;
        out.calls(&self.0)?;
        out.work(&self.0)?;
        out.snapshots(&self.0)?;
        out.resources(&self.0)?;
        out.tls(&self.0.tls)
    }
}

type Labels = Vec<(&'static str, String)>;

struct Out<'a>(DescriptorEncoder<'a>);

impl Out<'_> {
    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        metric.encode_counter::<NoLabelSet, _, u64>(&value, None)
    }

    fn counters(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels, u64)>,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in values {
            metric.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
        }
        Ok(())
    }

    fn seconds(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        metric.encode_counter::<NoLabelSet, _, f64>(&value, None)
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
    }

    fn gauges(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels, u64)>,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in values {
            metric.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    fn histograms<'h>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels, &'h Histogram)>,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (labels, times) in values {
            let (sum, count) = (times.sum.as_secs_f64(), times.count());
            let buckets = buckets(times);
            // Not every reader takes braces around no labels.
            if labels.is_empty() {
                metric.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
            } else {
                let mut one = metric.encode_family(&labels)?;
                one.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
            }
        }
        Ok(())
    }

    fn build(&mut self, measures: &Measures) -> fmt::Result {
        let version = measures.info.version.clone();
        self.gauges(
            "multiraft_node_build_info",
            "Release that runs; always 1",
            [(vec![("version", version)], 1)],
        )?;
        self.gauge(
            "multiraft_node_activated",
            "1 when the node is open for clients",
            u64::from(measures.info.activated),
        )?;
        self.gauge(
            "multiraft_node_draining",
            "1 while the node hands over what it leads and takes no leadership",
            u64::from(measures.info.draining),
        )
    }

    fn groups(&mut self, measures: &Measures) -> fmt::Result {
        let info = &measures.info;
        let mut states =
            BTreeMap::from(["led", "followed", "leaderless", "closed"].map(|s| (s, 0)));
        let mut members = BTreeMap::new();
        for group in &info.groups {
            *states.entry(state(group, info.node_id)).or_default() += 1;
            *members.entry((role(group.role()), phase(group.phase()))).or_default() += 1;
        }
        self.gauges(
            "multiraft_node_groups",
            "Groups with a member on this node, by what the node is to them",
            states.into_iter().map(|(state, count)| (label("state", state), count)),
        )?;
        self.gauges(
            "multiraft_node_members",
            "Members on this node, by role and phase",
            members.into_iter().map(|((role, phase), count)| {
                (vec![("role", role.to_owned()), ("phase", phase.to_owned())], count)
            }),
        )?;
        let led = info.groups.iter().filter(|g| g.leader == info.node_id);
        self.gauge(
            "multiraft_node_sessions",
            "Open sessions of the groups that this node leads",
            led.map(|g| u64::from(g.sessions)).sum(),
        )?;
        self.counter(
            "multiraft_node_elections",
            "Terms that began in groups of this node",
            measures.counters.elections,
        )?;
        self.counter(
            "multiraft_node_leader_changes",
            "New leaders of groups of this node",
            measures.counters.leader_changes,
        )
    }

    fn peers(&mut self, measures: &Measures) -> fmt::Result {
        let peers = &measures.info.peers;
        let up = peers.iter().filter(|p| p.connected).count();
        let counts = [("up", up), ("down", peers.len() - up)];
        self.gauges(
            "multiraft_node_peers",
            "Other nodes that share a group with this one, by whether a session stands",
            counts.map(|(state, count)| (label("state", state), count as u64)),
        )?;
        self.counter(
            "multiraft_node_peer_session_breaks",
            "Sessions with other nodes that broke",
            measures.counters.pair_breaks,
        )
    }

    fn calls(&mut self, measures: &Measures) -> fmt::Result {
        let calls = &measures.calls;
        let labels = |(kind, outcome): &(CallKind, Outcome)| {
            vec![("kind", kind_name(*kind).to_owned()), ("outcome", outcome_name(*outcome).into())]
        };
        self.histograms(
            "multiraft_node_call_duration_seconds",
            "Time of calls of this node's clients from arrival to answer",
            calls.times.iter().map(|(key, times)| (labels(key), times)),
        )?;
        self.counters(
            "multiraft_node_refusals",
            "Calls that were rejected or refused as a whole, by reason",
            calls.refusals.iter().map(|(reason, count)| (label("reason", reason), *count)),
        )?;
        self.counter(
            "multiraft_node_forwarded_calls",
            "Calls sent on to another node",
            measures.counters.forwarded,
        )?;
        self.counter(
            "multiraft_node_read_rounds",
            "Confirmations of leadership for linearizable queries, which share them",
            measures.counters.read_rounds,
        )
    }

    fn work(&mut self, measures: &Measures) -> fmt::Result {
        let (counters, stats) = (&measures.counters, measures.info.stats.unwrap_or_default());
        for (name, help, value) in [
            ("multiraft_node_rounds", "Rounds of the loop that had work", counters.rounds),
            ("multiraft_node_log_records", "Records written to the log", stats.records),
            ("multiraft_node_log_entries", "Raft entries written to the log", counters.entries),
            ("multiraft_node_log_written_bytes", "Bytes written to the log", stats.log_bytes),
            (
                "multiraft_node_applied_items",
                "Commands, ticks and cancels applied to machines",
                counters.applied_items,
            ),
        ] {
            self.counter(name, help, value)?;
        }
        self.histograms(
            "multiraft_node_sync_duration_seconds",
            "Time of writes to the log, each with its sync",
            [(Labels::new(), &measures.syncs)],
        )?;
        let depths = measures.depths;
        let depths =
            [("calls", depths.calls), ("inbox", depths.inbox), ("records", depths.records)];
        self.gauges(
            "multiraft_node_queue_depth",
            "What waits: calls for an answer, messages for the loop, records for the disk",
            depths.map(|(queue, depth)| (label("queue", queue), depth as u64)),
        )
    }

    fn snapshots(&mut self, measures: &Measures) -> fmt::Result {
        let all = &measures.snapshots;
        let all = [("taken", &all.taken), ("sent", &all.sent), ("received", &all.received)];
        let labelled = |of: fn(&Transfers) -> u64| {
            all.map(|(action, transfers)| (label("action", action), of(transfers)))
        };
        self.histograms(
            "multiraft_node_snapshot_duration_seconds",
            "Time of whole snapshots",
            all.map(|(action, transfers)| (label("action", action), &transfers.times)),
        )?;
        self.counters(
            "multiraft_node_snapshot_bytes",
            "Bytes of whole snapshots",
            labelled(|transfers| transfers.bytes),
        )?;
        self.counters(
            "multiraft_node_snapshot_failures",
            "Snapshots that came to nothing",
            labelled(|transfers| transfers.failed),
        )
    }

    fn tls(&mut self, tls: &State) -> fmt::Result {
        let ports = [("client", tls.clients), ("peer", tls.peers)];
        let connections = ports.into_iter().flat_map(|(port, counts)| {
            [
                ("tls", counts.tls),
                ("plain", counts.plain),
                ("refused_plain", counts.refused_plain),
                ("failed_handshake", counts.failed),
            ]
            .map(|(outcome, count)| {
                (vec![("port", port.to_owned()), ("outcome", outcome.to_owned())], count)
            })
        });
        self.counters(
            "multiraft_node_connections",
            "Connections that came in, by port and by what became of them",
            connections,
        )?;
        let dials = [("plain", tls.fallbacks), ("failed", tls.dials_failed)];
        self.counters(
            "multiraft_node_peer_tls_failures",
            "Connections to peers that did not come to TLS, by what became of them",
            dials.map(|(outcome, count)| (label("outcome", outcome), count)),
        )?;
        let ends = [("client", tls.not_after), ("peer", tls.peer_not_after)];
        self.gauges(
            "multiraft_node_certificate_not_after_seconds",
            "When the certificate in use ends, in seconds since 1970; 0 without TLS",
            ends.map(|(port, end)| (label("port", port), end)),
        )?;
        let reloads = [("replaced", tls.reloads), ("refused", tls.reload_failures)];
        self.counters(
            "multiraft_node_certificate_reloads",
            "Changes of the files of certificates, by what became of them",
            reloads.map(|(outcome, count)| (label("outcome", outcome), count)),
        )
    }

    fn resources(&mut self, measures: &Measures) -> fmt::Result {
        let stats = measures.info.stats.unwrap_or_default();
        let unsaved = measures.info.groups.iter().map(|g| g.log_bytes).sum();
        for (name, help, value) in [
            (
                "multiraft_node_log_unsaved_bytes",
                "Bytes of entries applied since the newest snapshot of each group",
                unsaved,
            ),
            (
                "multiraft_node_disk_used_bytes",
                "Bytes of the data directory",
                measures.info.disk_bytes,
            ),
            (
                "multiraft_node_disk_free_bytes",
                "Bytes free on the volume of the data directory",
                measures.info.free_bytes,
            ),
            (
                "multiraft_node_space_low",
                "1 while operations are refused because the volume is nearly full",
                u64::from(measures.info.space_low),
            ),
            ("multiraft_node_memory_bytes", "Resident memory of the process", stats.memory_bytes),
        ] {
            self.gauge(name, help, value)?;
        }
        self.seconds(
            "multiraft_node_sync_seconds",
            "Time spent in writes to the log; near one second each second is a disk at its limit",
            stats.sync_nanos as f64 / 1e9,
        )
    }
}

fn label(name: &'static str, value: &str) -> Labels {
    vec![(name, value.to_owned())]
}

/// (upper bound in seconds, count), the last for what is above all.
fn buckets(times: &Histogram) -> Vec<(f64, u64)> {
    let bounds = BOUNDS_MICROS.iter().map(|micros| *micros as f64 / 1e6);
    bounds.chain([f64::INFINITY]).zip(times.counts).collect()
}

fn state(group: &GroupState, node_id: u64) -> &'static str {
    match group.leader {
        _ if group.phase() == GroupPhase::RolledBack => "closed",
        0 => "leaderless",
        leader if leader == node_id => "led",
        _ => "followed",
    }
}

fn role(role: MemberRole) -> &'static str {
    match role {
        MemberRole::Member => "voter",
        MemberRole::Observer => "learner",
        MemberRole::Witness | MemberRole::Unknown => "none",
    }
}

fn phase(phase: GroupPhase) -> &'static str {
    match phase {
        GroupPhase::Unspecified => "unknown",
        GroupPhase::Starting => "starting",
        GroupPhase::Ready => "ready",
        GroupPhase::RolledBack => "rolled_back",
    }
}

fn kind_name(kind: CallKind) -> &'static str {
    match kind {
        CallKind::Command => "command",
        CallKind::Query => "query",
        CallKind::Administration => "administration",
    }
}

fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Ok => "ok",
        Outcome::Rejected => "rejected",
        Outcome::Refused => "refused",
        Outcome::Abandoned => "abandoned",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use multiraft_host::measures::{CallMeasures, Depths, SnapshotMeasures};
    use multiraft_proto::v1::{GetInfoResponse, NodeStats};
    use std::time::Duration;

    fn measures() -> Measures {
        let group = |leader, phase: GroupPhase| GroupState {
            leader,
            phase: phase as i32,
            sessions: 2,
            ..Default::default()
        };
        let groups = vec![
            group(7, GroupPhase::Ready),
            group(8, GroupPhase::Ready),
            group(0, GroupPhase::RolledBack),
        ];
        let stats = Some(NodeStats { records: 5, ..Default::default() });
        let mut calls = CallMeasures::default();
        let times = calls.times.entry((CallKind::Command, Outcome::Ok)).or_default();
        times.record(Duration::from_micros(300));
        times.record(Duration::from_secs(60));
        calls.refusals.insert("overloaded", 3);
        Measures {
            info: GetInfoResponse { node_id: 7, groups, stats, ..Default::default() },
            calls,
            syncs: Histogram::default(),
            snapshots: SnapshotMeasures::default(),
            counters: Default::default(),
            depths: Depths::default(),
            tls: State::default(),
        }
    }

    #[test]
    fn groups_calls_and_refusals_are_counted_by_class() {
        let text = text(measures()).unwrap();
        let call = "multiraft_node_call_duration_seconds";
        for line in [
            "multiraft_node_groups{state=\"led\"} 1",
            "multiraft_node_groups{state=\"followed\"} 1",
            "multiraft_node_groups{state=\"leaderless\"} 0",
            "multiraft_node_groups{state=\"closed\"} 1",
            "multiraft_node_members{role=\"none\",phase=\"ready\"} 2",
            "multiraft_node_sessions 2",
            "multiraft_node_log_records_total 5",
            "multiraft_node_refusals_total{reason=\"overloaded\"} 3",
            &format!("{call}_bucket{{le=\"0.00025\",kind=\"command\",outcome=\"ok\"}} 0"),
            &format!("{call}_bucket{{le=\"0.0005\",kind=\"command\",outcome=\"ok\"}} 1"),
            &format!("{call}_bucket{{le=\"+Inf\",kind=\"command\",outcome=\"ok\"}} 2"),
            &format!("{call}_count{{kind=\"command\",outcome=\"ok\"}} 2"),
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in {text}");
        }
    }

    #[test]
    fn the_page_on_operation_explains_every_metric() {
        let page = include_str!("../../../docs/operate.md");
        for line in text(measures()).unwrap().lines() {
            let Some(rest) = line.strip_prefix("# TYPE ") else { continue };
            let (name, kind) = rest.split_once(' ').expect("name and type");
            let shown = if kind == "counter" { format!("{name}_total") } else { name.to_owned() };
            assert!(page.contains(&format!("`{shown}`")), "docs/operate.md lacks {shown}");
        }
    }
}
