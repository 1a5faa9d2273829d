//! Real nodes under TLS: who comes in and what they may do, and nothing that is lost while modes and
//! certificates change.

#[path = "../../../../tls/tests/authority/mod.rs"]
mod authority;
mod callers;
mod changes;
mod rights;
mod support;
