//! How much memory something takes at most, beyond what was held before.

use crate::ALLOCATOR;

/// Bytes; only right while no other thread allocates.
pub fn peak_of<T>(act: impl FnOnce() -> T) -> (T, usize) {
    ALLOCATOR.reset_peak_usage();
    let before = ALLOCATOR.current_usage();
    let result = act();
    (result, ALLOCATOR.peak_usage().saturating_sub(before))
}
