//! Names of everything that a cluster owns.

use multiraft_api::{CLUSTER_LABEL, ROLE_LABEL};
use std::collections::BTreeMap;

pub fn pod_name(cluster: &str, slot: i32) -> String {
    format!("{cluster}-{slot}")
}

/// The slot of a pod's name.
pub fn slot_of(cluster: &str, pod: &str) -> Option<i32> {
    pod.strip_prefix(cluster)?.strip_prefix('-')?.parse().ok().filter(|slot| *slot >= 0)
}

pub fn volume_name(cluster: &str, slot: i32) -> String {
    format!("data-{cluster}-{slot}")
}

pub fn peers_service(cluster: &str) -> String {
    format!("{cluster}-peers")
}

pub fn slice_name(cluster: &str, number: usize) -> String {
    format!("{cluster}-{number}")
}

/// Name that peers reach a pod by; it outlives the pod's address.
pub fn member_host(cluster: &str, namespace: &str, pod: &str) -> String {
    format!("{pod}.{}.{namespace}.svc", peers_service(cluster))
}

/// The cluster's name in certificates. A namespace has no dot, so no other cluster has the same.
pub fn tls_cluster(cluster: &str, namespace: &str) -> String {
    format!("{cluster}.{namespace}")
}

/// Name of the Certificate that the operator asks for, and of the Secret that it goes into.
pub fn tls_secret(cluster: &str) -> String {
    format!("{cluster}-nodes")
}

/// Labels of everything of a cluster.
pub fn labels(cluster: &str) -> BTreeMap<String, String> {
    BTreeMap::from([
        (CLUSTER_LABEL.to_owned(), cluster.to_owned()),
        ("app.kubernetes.io/name".to_owned(), "multiraft".to_owned()),
        ("app.kubernetes.io/instance".to_owned(), cluster.to_owned()),
        ("app.kubernetes.io/managed-by".to_owned(), "multiraft-operator".to_owned()),
    ])
}

/// Labels that select the nodes' pods.
pub fn node_selector(cluster: &str) -> BTreeMap<String, String> {
    BTreeMap::from([
        (CLUSTER_LABEL.to_owned(), cluster.to_owned()),
        (ROLE_LABEL.to_owned(), "node".to_owned()),
    ])
}

/// FNV-1a, 64 bits, hexadecimal: a stable hash without a hasher's seed.
pub fn hash(bytes: &[u8]) -> String {
    let mut h: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in bytes {
        h = (h ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    format!("{h:016x}")
}
