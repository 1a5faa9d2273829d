//! The wire contract of Multiraft: generated code only.
//!
//! Module paths follow the proto packages: `multiraft_proto::atomix::multiraft::v1::GroupConfig`
//! is message `atomix.multiraft.v1.GroupConfig`. gRPC clients and servers are behind feature `grpc`.
#![allow(clippy::all)]

include!(concat!(env!("OUT_DIR"), "/all.rs"));

pub use atomix::multiraft::{log::v1 as log, v1};

/// The compiled descriptors of every message and service (a `google.protobuf.FileDescriptorSet`),
/// for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
