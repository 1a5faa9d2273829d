//! The nodes' configuration file.

use super::owned;
use crate::validate::Validated;
use k8s_openapi::api::core::v1::ConfigMap;
use multiraft_api::{CLIENT_PORT, HTTP_PORT, PEER_PORT};
use serde_json::json;
use std::collections::BTreeMap;

/// Where the volume is mounted; the node's own directory lies below, beside what a file system
/// keeps at its root.
pub const VOLUME_PATH: &str = "/var/lib/multiraft";

pub fn config_map(cluster: &Validated) -> ConfigMap {
    ConfigMap {
        metadata: owned(cluster, cluster.name.clone()),
        data: Some(BTreeMap::from([("config.yaml".to_owned(), config(cluster))])),
        ..Default::default()
    }
}

pub fn config(cluster: &Validated) -> String {
    let raft = &cluster.spec.raft;
    let config = json!({
        "data_dir": format!("{VOLUME_PATH}/node"),
        "client_address": format!("0.0.0.0:{CLIENT_PORT}"),
        "peer_address": format!("0.0.0.0:{PEER_PORT}"),
        "http_address": format!("0.0.0.0:{HTTP_PORT}"),
        "election_timeout": raft.election_timeout,
        "heartbeat": raft.heartbeat,
        "log": {"format": "json", "level": "info"},
    });
    serde_yaml::to_string(&config).unwrap_or_default()
}
