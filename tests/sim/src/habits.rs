//! How clients behave: when they go on, where they ask, what they give up.

use crate::client::Client;

/// An attempt that brought no answer is repeated after this long, in microseconds.
const PATIENCE_MICROS: u64 = 2_500_000;

impl Client {
    /// How long until the next operation begins: now and then the client stays away for so long
    /// that its session may end.
    pub fn pause(&mut self, longest: u64, ends: bool) -> u64 {
        match self.rng.u32(..60) {
            0 if !ends => self.rng.u64(1_000_000..12_000_000),
            _ if ends => self.rng.u64(100..400_000),
            _ => self.rng.u64(100..longest),
        }
    }

    /// How long until an attempt is repeated: impatient at times, so that a command is under way
    /// more than once.
    pub fn patience(&mut self) -> u64 {
        if self.rng.u32(..10) == 0 { 5_000 } else { PATIENCE_MICROS }
    }

    pub fn place(&mut self, nodes: usize) -> usize {
        self.rng.usize(..nodes)
    }

    /// Whether to tell the node that an unanswered attempt is of no interest any more.
    pub fn abandons(&mut self) -> bool {
        self.rng.u32(..3) == 0
    }
}
