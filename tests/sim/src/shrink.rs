//! Makes a run that fails small: what is left of its faults, clients and time is what matters.

use crate::options::{Options, Shape};
use crate::schedule::Fault;

/// Leaves out of a run what it fails without: faults first, half of them at a time and at last one
/// by one (delta debugging, Zeller and Hildebrandt 2002), then clients, groups and time.
///
/// `fails` says whether a run fails in the way that is looked for; it is asked at most `attempts`
/// times.
pub fn shrink(options: Options, attempts: usize, fails: impl FnMut(&Options) -> bool) -> Options {
    let mut shrinking = Shrinking { smallest: options, attempts, fails };
    loop {
        let before = shrinking.smallest.clone();
        shrinking.fewer_faults();
        shrinking.simpler_shape();
        if shrinking.smallest == before || shrinking.attempts == 0 {
            return shrinking.smallest;
        }
    }
}

struct Shrinking<F> {
    smallest: Options,
    attempts: usize,
    fails: F,
}

impl<F: FnMut(&Options) -> bool> Shrinking<F> {
    /// Whether the run fails as well, and so is the smallest now.
    fn take(&mut self, options: Options) -> bool {
        if self.attempts == 0 || options == self.smallest {
            return false;
        }
        self.attempts -= 1;
        let fails = (self.fails)(&options);
        if fails {
            self.smallest = options;
        }
        fails
    }

    fn fewer_faults(&mut self) {
        let mut size = self.smallest.faults.len().div_ceil(2);
        while size > 0 {
            let mut from = 0;
            while from < self.smallest.faults.len() {
                let to = (from + size).min(self.smallest.faults.len());
                let rest = without(&self.smallest.faults, from, to);
                if !self.take(Options { faults: rest, ..self.smallest.clone() }) {
                    from = to;
                }
            }
            size = if size == 1 { 0 } else { size.div_ceil(2) };
        }
    }

    fn simpler_shape(&mut self) {
        let simpler: [fn(&mut Shape); 7] = [
            |shape| shape.moves = false,
            |shape| shape.hand_overs = false,
            |shape| shape.users = shape.users.saturating_sub(1),
            |shape| shape.clients = (shape.clients - 1).max(1),
            |shape| shape.groups = (shape.groups - 1).max(1),
            |shape| shape.ticks = (shape.ticks / 2).max(1),
            |shape| shape.ticks -= shape.ticks / 8,
        ];
        for change in simpler {
            loop {
                let mut options = self.smallest.clone();
                change(&mut options.shape);
                if !self.take(options) {
                    break;
                }
            }
        }
    }
}

fn without(faults: &[(u64, Fault)], from: usize, to: usize) -> Vec<(u64, Fault)> {
    [&faults[..from], &faults[to..]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_failure_needs_is_left() {
        let mut options = Options::of_seed(7, 2_000);
        options.shape.users = 2;
        let needed = options.faults[options.faults.len() / 3].clone();
        let fails = |o: &Options| o.faults.contains(&needed) && o.shape.ticks > 100;
        let small = shrink(options, 1_000, fails);
        assert_eq!(small.faults, [needed]);
        assert!(small.shape.ticks < 120, "{}", small.shape.ticks);
        let Shape { clients, users, groups, .. } = small.shape;
        assert_eq!((clients, users, groups), (1, 0, 1));
    }
}
