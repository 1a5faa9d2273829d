//! The Rust client against real nodes: every operation of every primitive, and what it does when
//! nodes and clients fail.
#![allow(clippy::unwrap_used, reason = "hundreds of calls, each of which is expected to be served")]

mod examples;
mod locks;
mod operations;
mod sharing;
mod silence;
mod streams;
mod transactions;

use multiraft_client::{Cluster, Options};
use multiraft_e2e::nodes::Nodes;

/// More than one, so that keys and names spread.
const GROUPS: u32 = 4;

async fn three() -> Nodes {
    Nodes::formed(3, GROUPS, 3).await
}

async fn connect(nodes: &Nodes) -> Cluster {
    Options::default().connect(nodes.endpoints()).await.expect("the nodes answer")
}
