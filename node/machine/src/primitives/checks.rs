//! Limits on what inputs carry.

use bytes::Bytes;

use super::Failure;
use crate::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};

/// Also for values that are found by themselves, as keys are.
pub fn check_key(field: &str, key: &str) -> Result<(), Failure> {
    check_length(field, key.len(), KEY_BYTES_MAX)
}

pub fn check_value(field: &str, value: &Bytes) -> Result<(), Failure> {
    check_length(field, value.len(), VALUE_BYTES_MAX)
}

fn check_length(field: &str, length: usize, max: usize) -> Result<(), Failure> {
    if length > max {
        return Err(Failure::invalid(format!("{field}: {length} bytes, at most {max}")));
    }
    Ok(())
}
