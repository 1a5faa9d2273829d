//! The gRPC services of a node over a [`multiraft_host::Handle`].
//!
//! Primitives are served from one table by one handler ([`primitives`]), on our own wire and on that
//! of today's Atomix clients ([`wire`]); sessions, the node's administration, health and reflection
//! are ordinary services.

mod accept;
mod administration;
mod connection;
mod deadline;
mod envelope;
mod front;
pub mod limits;
mod node;
mod partition;
mod primitives;
mod principal;
mod relay;
mod rights;
mod rsm;
mod session;
mod session_stream;
mod status;
mod stream;
mod stream_calls;
mod unary;
mod validate;
#[cfg(test)]
mod vectors;
mod wire;

pub use principal::Principal;

use limits::*;
use multiraft_host::{Handle, Phase};
use multiraft_proto::v1;
use multiraft_tls::Tls;
use std::pin::pin;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use v1::node_server::NodeServer;
use v1::partition_server::PartitionServer;
use v1::session_server::SessionServer;

/// Serves clients until `shutdown`, then lets calls in flight end. Dropping the future closes all
/// connections.
pub async fn serve(
    listener: TcpListener,
    tls: Arc<Tls>,
    handle: Handle,
    shutdown: impl Future<Output = ()>,
) {
    let (health, health_service) = tonic_health::server::health_reporter();
    let reporter = tokio::spawn(report(handle.phase(), health));
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(multiraft_proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let node = NodeServer::new(node::Node { handle: handle.clone() });
    let partition = PartitionServer::new(partition::Partition { handle: handle.clone() });
    let session = SessionServer::new(session::Session { handle: handle.clone() });
    let mut routes = Routes::new(node.max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(partition.max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(session.max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(health_service);
    if let (Ok(v1), Ok(v1alpha)) = (reflection().build_v1(), reflection().build_v1alpha()) {
        routes = routes.add_service(v1).add_service(v1alpha);
    }
    let others = Routes::from(routes.into_axum_router().fallback(unknown));
    let primitives = primitives::Primitives::new(handle.clone());
    let sessions = rsm::Sessions::new(handle.clone());
    let (stop, stopping) = watch::channel(false);
    let front = front::Front { handle: handle.clone(), primitives, sessions, others, stopping };
    connections(accept::incoming(listener, tls), front, stop, shutdown).await;
    reporter.abort();
}

async fn connections(
    mut incoming: mpsc::Receiver<accept::Accepted>,
    front: front::Front,
    stop: watch::Sender<bool>,
    shutdown: impl Future<Output = ()>,
) {
    let front = Arc::new(front);
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            Some(accepted) = incoming.recv() => {
                connections.spawn(connection::serve(accepted, front.clone(), stop.subscribe()));
            }
            Some(_) = connections.join_next() => {}
            () = &mut shutdown => break,
        }
    }
    drop(incoming);
    stop.send_replace(true);
    while connections.join_next().await.is_some() {}
}

async fn unknown(uri: http::Uri) -> http::Response<tonic::body::Body> {
    tonic::Status::unimplemented(format!("{} is no call of this node", uri.path())).into_http()
}

/// `grpc.health.v1` for the whole node: SERVING while clients are served.
async fn report(mut phase: watch::Receiver<Phase>, health: tonic_health::server::HealthReporter) {
    loop {
        let status = match *phase.borrow_and_update() {
            Phase::Serving => ServingStatus::Serving,
            Phase::Starting | Phase::Waiting | Phase::Stopping => ServingStatus::NotServing,
        };
        health.set_service_status("", status).await;
        if phase.changed().await.is_err() {
            return;
        }
    }
}
