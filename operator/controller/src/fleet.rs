//! What the statuses of all clusters say, as metrics: read when somebody asks, so that nothing is
//! left of a cluster that is gone. Standbys say the same as the leader.

use std::fmt;

use multiraft_api::MultiRaftCluster;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::store::{Key, Store};

#[derive(Debug)]
pub struct Fleet(pub Store<MultiRaftCluster>);

/// Values of one metric: namespace and cluster, further labels, the value.
type Values = Vec<(Key, Vec<(&'static str, String)>, i64)>;

impl Collector for Fleet {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let clusters = self.0.all();
        let of = |values: fn(&MultiRaftCluster, &Key) -> Values| {
            clusters.iter().flat_map(|c| values(c, &Key::of(c.as_ref()))).collect()
        };
        put(&mut encoder, "nodes", "Nodes of a cluster by state", of(nodes))?;
        put(&mut encoder, "groups", "Raft groups of a cluster by state", of(groups))?;
        let help = "Conditions of a cluster: 1 when true, with the reason that they have now";
        put(&mut encoder, "condition", help, of(conditions))
    }
}

fn put(encoder: &mut DescriptorEncoder, name: &str, help: &str, values: Values) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (key, more, value) in values {
        let mut labels = vec![("namespace", key.namespace), ("cluster", key.name)];
        labels.extend(more);
        ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn nodes(cluster: &MultiRaftCluster, key: &Key) -> Values {
    let ready = cluster.status.as_ref().map_or(0, |status| status.ready_replicas);
    let states = [("desired", cluster.spec.replicas), ("ready", ready)];
    states.map(|(state, count)| counted(key, state, count)).into()
}

fn groups(cluster: &MultiRaftCluster, key: &Key) -> Values {
    let Some(groups) = cluster.status.as_ref().and_then(|status| status.groups) else {
        return vec![counted(key, "desired", cluster.spec.groups)];
    };
    [
        ("desired", groups.desired),
        ("formed", groups.formed),
        ("available", groups.available),
        ("fully_replicated", groups.fully_replicated),
        ("leaderless", groups.leaderless),
        ("quorum_lost", groups.quorum_lost),
    ]
    .map(|(state, count)| counted(key, state, count))
    .into()
}

fn conditions(cluster: &MultiRaftCluster, key: &Key) -> Values {
    let conditions = cluster.status.iter().flat_map(|status| &status.conditions);
    let value = |is_true: bool| i64::from(is_true);
    conditions
        .map(|c| {
            let labels = vec![("type", c.type_.clone()), ("reason", c.reason.clone())];
            (key.clone(), labels, value(c.status == "True"))
        })
        .collect()
}

fn counted(key: &Key, state: &str, count: i32) -> (Key, Vec<(&'static str, String)>, i64) {
    (key.clone(), vec![("state", state.to_owned())], i64::from(count))
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_cluster_is_told_of_while_it_is_there() {
        let cluster: MultiRaftCluster = serde_json::from_value(json!({
            "apiVersion": "multiraft.atomix.io/v1beta1",
            "kind": "MultiRaftCluster",
            "metadata": {"name": "orders", "namespace": "shop", "resourceVersion": "1"},
            "spec": {"replicas": 3, "groups": 16, "version": "0.1.0"},
            "status": {
                "readyReplicas": 2,
                "groups": {
                    "desired": 16, "formed": 16, "available": 15, "fullyReplicated": 9,
                    "leaderless": 1, "quorumLost": 0, "leaderSpreadMin": 5, "leaderSpreadMax": 6,
                },
                "conditions": [{
                    "type": "Ready", "status": "False", "reason": "Degraded", "message": "",
                    "lastTransitionTime": "2026-01-01T00:00:00Z",
                }],
            },
        }))
        .expect("a cluster");
        let store = Store::default();
        let mut registry = Registry::with_prefix("multiraft_operator");
        registry.register_collector(Box::new(Fleet(store.clone())));
        let text = || {
            let mut text = String::new();
            encode(&mut text, &registry).expect("encodes");
            text
        };
        store.put(cluster.clone());
        let told = text();
        for line in [
            r#"multiraft_operator_nodes{namespace="shop",cluster="orders",state="ready"} 2"#,
            r#"multiraft_operator_groups{namespace="shop",cluster="orders",state="leaderless"} 1"#,
            r#"multiraft_operator_condition{namespace="shop",cluster="orders",type="Ready",reason="Degraded"} 0"#,
        ] {
            assert!(told.contains(line), "{line} is not in {told}");
        }
        store.remove(&cluster);
        assert!(!text().contains("orders"));
    }
}
