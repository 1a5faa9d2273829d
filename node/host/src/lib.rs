//! The shell around the shards: threads, sockets, clock, lifecycle.
//!
//! The only place where the pure loop of crate `shard` meets IO: it feeds inputs, carries out
//! outputs, and hands services a [`Handle`].

mod handle;

pub use handle::{AdminError, AdminErrorKind, CallError, Consistency, Handle, Phase};
