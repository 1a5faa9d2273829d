//! What the operator counts, for Prometheus.

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::fleet::Fleet;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Outcome {
    pub result: PassResult,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum PassResult {
    Ok,
    Error,
    Timeout,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CallLabels {
    pub call: String,
    pub ok: String,
}

/// All metrics; cloning a metric shares it, so the registry and the code see the same.
pub struct Metrics {
    registry: Registry,
    pub passes: Family<Outcome, Counter>,
    pub pass_seconds: Histogram,
    pub queue_depth: Gauge,
    /// Mutating calls, by what was done.
    pub calls: Family<CallLabels, Counter>,
    pub watch_errors: Counter,
    pub watch_restarts: Counter,
    pub watches_failing: Gauge,
    pub node_streams: Gauge,
    pub node_streams_live: Gauge,
    pub node_reconnects: Counter,
    pub leading: Gauge,
    pub epoch: Gauge,
    pub status_writes: Counter,
}

impl Metrics {
    pub fn new(fleet: Fleet) -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("multiraft_operator"),
            passes: Family::default(),
            // 1 ms to 33 s.
            pass_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 16)),
            queue_depth: Gauge::default(),
            calls: Family::default(),
            watch_errors: Counter::default(),
            watch_restarts: Counter::default(),
            watches_failing: Gauge::default(),
            node_streams: Gauge::default(),
            node_streams_live: Gauge::default(),
            node_reconnects: Counter::default(),
            leading: Gauge::default(),
            epoch: Gauge::default(),
            status_writes: Counter::default(),
        };
        metrics.register();
        metrics.registry.register_collector(Box::new(fleet));
        metrics
    }

    fn register(&mut self) {
        let r = &mut self.registry;
        r.register("passes", "Reconcile passes by result", self.passes.clone());
        r.register("pass_seconds", "Duration of a reconcile pass", self.pass_seconds.clone());
        r.register("queue_depth", "Objects that wait for a pass", self.queue_depth.clone());
        r.register("calls", "Mutating calls to the API server and to nodes", self.calls.clone());
        r.register("watch_errors", "Errors of watches", self.watch_errors.clone());
        r.register("watch_restarts", "Watches started again", self.watch_restarts.clone());
        r.register("watches_failing", "Watches in error now", self.watches_failing.clone());
        r.register("node_streams", "Nodes that are followed", self.node_streams.clone());
        r.register(
            "node_streams_live",
            "Nodes whose stream is live",
            self.node_streams_live.clone(),
        );
        r.register(
            "node_reconnects",
            "Streams to nodes that had to be opened again",
            self.node_reconnects.clone(),
        );
        r.register("leading", "1 while this process acts", self.leading.clone());
        r.register("epoch", "Epoch of the lease, when last held", self.epoch.clone());
        r.register(
            "status_writes",
            "Writes of the status of clusters and slices",
            self.status_writes.clone(),
        );
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        r.register("build", "Version of the operator", build);
    }

    /// The text format of OpenMetrics.
    pub fn render(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }

    pub fn call(&self, call: &str, ok: bool) {
        let labels = CallLabels { call: call.to_owned(), ok: ok.to_string() };
        self.calls.get_or_create(&labels).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    #[test]
    fn metrics_render_with_the_prefix() {
        let metrics = Metrics::new(Fleet(Store::default()));
        metrics.call("create Pod", true);
        let text = metrics.render().expect("renders");
        assert!(
            text.contains("multiraft_operator_calls_total{call=\"create Pod\",ok=\"true\"} 1"),
            "{text}"
        );
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn alerts_and_dashboards_name_metrics_that_there_are() {
        let metrics = Metrics::new(Fleet(Store::default()));
        // What never happened is not told of.
        metrics.call("create Pod", true);
        metrics.passes.get_or_create(&Outcome { result: PassResult::Ok }).inc();
        let text = metrics.render().expect("renders");
        let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/../../charts/multiraft-operator/files");
        let mut seen = 0;
        for file in ["alerts.yaml", "dashboards/cluster.json", "dashboards/operator.json"] {
            let file =
                std::fs::read_to_string(format!("{chart}/{file}")).expect("the chart's file");
            for rest in file.split("multiraft_operator_").skip(1) {
                let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                let name = &rest[..end.unwrap_or(rest.len())];
                let name = ["_total", "_bucket", "_count"]
                    .iter()
                    .find_map(|suffix| name.strip_suffix(suffix))
                    .unwrap_or(name);
                let help = format!("# HELP multiraft_operator_{name} ");
                assert!(text.contains(&help), "multiraft_operator_{name} is not served: {text}");
                seen += 1;
            }
        }
        assert!(seen > 20, "only {seen} names were found");
    }
}
