//! The wire as a stranger's tool sees it: real node processes, called through `grpcurl`, which knows
//! only what reflection tells it. And as our own client sees it: module `client`.

mod administration;
mod bad_calls;
mod bad_changes;
mod bad_files;
mod bad_members;
mod client;
mod drain;
mod examples;
mod http2;
mod late_ends;
mod members;
mod metrics;
mod nodes;
mod pages;
mod raw;
mod session;
mod session_stream;
mod streams;
