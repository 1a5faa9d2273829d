//! What people write: the node's configuration and the operator's resources.

use super::Seeds;
use multiraft_api::MultiRaftCluster;
use multiraft_plan::{Observed, Surroundings, plan, validate};
use multiraft_server::config::Config;

pub fn settings(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(config) = Config::read(text) {
        let again = Config::read(&config.to_yaml()).expect("what it writes, it reads");
        assert_eq!(again, config);
    }
}

pub fn yaml() -> Seeds {
    let full = Config::read("").map(|config| config.to_yaml()).unwrap_or_default();
    let short = "data_dir: x\nheartbeat: 50ms\nelection_timeout: 2s\nlog: {level: 'warn,a=info'}\n";
    let huge = "heartbeat: 18446744073709551615s\n";
    vec![("full", full.into()), ("short", short.into()), ("huge", huge.into())]
}

/// A resource through validation to a plan.
pub fn cluster(bytes: &[u8]) {
    let Ok(cluster) = serde_json::from_slice::<MultiRaftCluster>(bytes) else { return };
    let again = serde_json::to_value(&cluster).expect("a resource is JSON");
    let decoded: MultiRaftCluster = serde_json::from_value(again.clone()).expect("its own JSON");
    assert_eq!(serde_json::to_value(decoded).expect("a resource is JSON"), again);
    let env = Surroundings {
        now: serde_json::from_str("\"2026-01-01T00:00:00Z\"").expect("a time"),
        operator_epoch: 1,
        node_image: "multiraft-node".to_owned(),
        node_pull_policy: None,
        operator_pods: None,
        certificate: Ok(()),
    };
    plan(&cluster, &validate(&cluster), &Observed::default(), &env);
}

pub fn json() -> Seeds {
    let resource = |spec| {
        let metadata = r#"{"name":"orders","namespace":"n","uid":"u1","generation":1}"#;
        format!(
            r#"{{"apiVersion":"multiraft.atomix.io/v1beta1","kind":"MultiRaftCluster","metadata":{metadata},"spec":{spec}}}"#
        )
        .into_bytes()
    };
    let small = r#"{"replicas":3,"groups":4,"version":"0.1.0","storage":{"size":"1Gi"}}"#;
    let full = r#"{"replicas":5,"groups":8,"replicationFactor":3,"version":"0.1.0","image":{"repository":"r","tag":"0.1.0","pullPolicy":"IfNotPresent"},"storage":{"size":"10Gi","className":"standard","retention":{"whenDeleted":"Delete"}},"raft":{"electionTimeout":"2s","heartbeat":"200ms"},"pod":{"labels":{"a":"b"},"env":[{"name":"A","value":"1"}],"terminationGracePeriodSeconds":90},"placement":{"rebalance":"Manual","maxConcurrentMoves":4},"updateStrategy":{"type":"OnDelete","leaderDrainTimeout":"30s","stepTimeout":"1h"},"replacement":{"policy":"Manual","nodeLostAfter":"10m"},"recovery":{"requestID":"a","clusterID":"u1","groups":[1],"keepNodes":["orders-0"],"acceptDataLoss":true},"disruptionBudget":{"enabled":true},"paused":false}"#;
    let huge = r#"{"replicas":3,"groups":4,"version":"0.1.0","storage":{"size":"1Gi"},"raft":{"electionTimeout":"1s","heartbeat":"18446744073709551615ms"}}"#;
    vec![("small", resource(small)), ("full", resource(full)), ("huge", resource(huge))]
}
