//! The part of `multiraft-node` that others may read: its configuration.

pub mod config;
mod tls;
