//! Who may reach the nodes: each other on the peers' port, the operator and clients on the clients'
//! port, whoever reads metrics on the third.

use super::owned;
use crate::names::node_selector;
use crate::observed::{Observed, OperatorPods, Surroundings};
use crate::planning::{Delete, Object, Plan};
use crate::validate::Validated;
use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
    NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;
use multiraft_api::{CLIENT_PORT, HTTP_PORT, PEER_PORT};
use std::collections::BTreeMap;

/// Set by Kubernetes on every namespace.
const NAMESPACE_LABEL: &str = "kubernetes.io/metadata.name";

pub fn plan(cluster: &Validated, observed: &Observed, env: &Surroundings, plan: &mut Plan) {
    if cluster.spec.network_policy.enabled {
        plan.objects.push(Object::NetworkPolicy(policy(cluster, env)));
        return;
    }
    for policy in observed.network_policies.iter().filter(|p| p.name_any() == cluster.name) {
        let uid = policy.uid().unwrap_or_default();
        plan.deletes.push(Delete::NetworkPolicy { name: cluster.name.clone(), uid });
    }
}

fn policy(cluster: &Validated, env: &Surroundings) -> NetworkPolicy {
    let nodes = pods(node_selector(&cluster.name));
    NetworkPolicy {
        metadata: owned(cluster, cluster.name.clone()),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(selector(node_selector(&cluster.name))),
            policy_types: Some(vec!["Ingress".to_owned()]),
            ingress: Some(vec![
                rule(PEER_PORT, Some(vec![nodes.clone()])),
                rule(CLIENT_PORT, callers(cluster, env, nodes)),
                // Probes and metrics: names of keys or clients are not in them.
                rule(HTTP_PORT, None),
            ]),
            ..Default::default()
        }),
    }
}

/// Those of the clients' port; None = everybody.
fn callers(
    cluster: &Validated,
    env: &Surroundings,
    nodes: NetworkPolicyPeer,
) -> Option<Vec<NetworkPolicyPeer>> {
    let clients = &cluster.spec.network_policy.clients;
    if clients.is_empty() {
        return None;
    }
    // One that does not run in a pod cannot be named.
    let operator = env.operator_pods.as_ref().map(operator);
    Some([nodes].into_iter().chain(operator).chain(clients.iter().cloned()).collect())
}

fn operator(place: &OperatorPods) -> NetworkPolicyPeer {
    let namespace = (NAMESPACE_LABEL.to_owned(), place.namespace.clone());
    NetworkPolicyPeer {
        namespace_selector: Some(selector(BTreeMap::from([namespace]))),
        ..pods(place.labels.clone())
    }
}

fn pods(labels: BTreeMap<String, String>) -> NetworkPolicyPeer {
    NetworkPolicyPeer { pod_selector: Some(selector(labels)), ..Default::default() }
}

fn selector(labels: BTreeMap<String, String>) -> LabelSelector {
    LabelSelector { match_labels: Some(labels), ..Default::default() }
}

fn rule(port: u16, from: Option<Vec<NetworkPolicyPeer>>) -> NetworkPolicyIngressRule {
    NetworkPolicyIngressRule {
        ports: Some(vec![NetworkPolicyPort {
            port: Some(IntOrString::Int(i32::from(port))),
            protocol: Some("TCP".to_owned()),
            ..Default::default()
        }]),
        from,
    }
}
