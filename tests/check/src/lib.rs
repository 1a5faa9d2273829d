//! Judges histories: whether what clients saw fits the promises of the system. Pure.

pub mod counter;
pub mod indexed;
pub mod outputs;
pub mod register;
