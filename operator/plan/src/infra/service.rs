//! How peers find each other, and how clients find the nodes.

use super::owned;
use crate::names::{node_selector, peers_service};
use crate::validate::Validated;
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use multiraft_api::{CLIENT_PORT, PEER_PORT};

fn port(name: &str, number: u16) -> ServicePort {
    ServicePort {
        name: Some(name.to_owned()),
        port: i32::from(number),
        target_port: Some(IntOrString::String(name.to_owned())),
        protocol: Some("TCP".to_owned()),
        ..Default::default()
    }
}

/// Headless; nodes must find each other before they are ready.
pub fn peers(cluster: &Validated) -> Service {
    Service {
        metadata: owned(cluster, peers_service(&cluster.name)),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".to_owned()),
            publish_not_ready_addresses: Some(true),
            selector: Some(node_selector(&cluster.name)),
            ports: Some(vec![port("client", CLIENT_PORT), port("peer", PEER_PORT)]),
            ..Default::default()
        }),
        status: None,
    }
}

pub fn clients(cluster: &Validated) -> Service {
    Service {
        metadata: owned(cluster, cluster.name.clone()),
        spec: Some(ServiceSpec {
            selector: Some(node_selector(&cluster.name)),
            ports: Some(vec![port("client", CLIENT_PORT)]),
            ..Default::default()
        }),
        status: None,
    }
}
