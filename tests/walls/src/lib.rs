//! Holds what each crate may depend on; all of it is in `tests/walls.rs`.
