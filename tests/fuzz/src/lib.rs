//! Hostile bytes for every decoder of the node and the operator.
//!
//! A target is a plain function of bytes. For any bytes it must return: no panic, no hang, no more
//! memory than four times the input and a little, and whatever decodes must come back the same when
//! it is encoded again. What failed once is kept in the corpus for good.

pub mod corpus;
mod memory;
mod mutate;
pub mod run;
mod targets;

pub use targets::{TARGETS, Target};

#[global_allocator]
static ALLOCATOR: peak_alloc::PeakAlloc = peak_alloc::PeakAlloc;
