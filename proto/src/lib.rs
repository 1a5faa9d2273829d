//! The wire contract of Multiraft: generated code, and the codec of its servers.
//!
//! Module paths follow the proto packages: `multiraft_proto::atomix::multiraft::v1::GroupConfig`
//! is message `atomix.multiraft.v1.GroupConfig`. Of wire M (`atomix.protocols.rsm.*`) only the core
//! package has messages here; the descriptors have all of it. gRPC clients, and servers of the core services,
//! are behind feature `grpc`; module [`rpc`] is the table from which primitives are served.
#![allow(clippy::all)]

#[cfg(feature = "grpc")]
pub mod codec;
pub mod rpc;

include!(concat!(env!("OUT_DIR"), "/all.rs"));

pub use atomix::multiraft::{
    counter::v1 as counter, countermap::v1 as countermap, election::v1 as election,
    indexedmap::v1 as indexedmap, link::v1 as link, lock::v1 as lock, log::v1 as log,
    map::v1 as map, multimap::v1 as multimap, set::v1 as set, v1, value::v1 as value,
};
pub use atomix::protocols::rsm::v1 as rsm;

/// The compiled descriptors of every message and service (a `google.protobuf.FileDescriptorSet`),
/// for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
