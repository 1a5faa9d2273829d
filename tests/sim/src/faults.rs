//! What goes wrong, and how it is mended.

use crate::options::{Defect, Fault};
use crate::world::{Event, World};

impl World {
    /// Makes one fault happen and schedules the next.
    pub(crate) fn fault(&mut self) {
        let next = self.rng.u64(1..2 * self.options.fault_micros);
        self.at(next, Event::Fault);
        let kind = self.options.faults[self.rng.usize(..self.options.faults.len())];
        let node = self.rng.usize(..self.nodes.len());
        let lasting = match self.rng.u32(..10) {
            0 => self.rng.u64(3_000_000..20_000_000),
            _ => self.rng.u64(10_000..3_000_000),
        };
        self.trace.word(kind as u64);
        match kind {
            Fault::Kill => self.kill(node, lasting),
            Fault::KillAll => {
                for node in 0..self.nodes.len() {
                    let lasting = self.rng.u64(10_000..2_000_000);
                    self.kill(node, lasting);
                }
            }
            Fault::Pause => self.nodes[node].paused_until = self.now + lasting,
            Fault::CutOneWay => {
                let other = self.another(node);
                self.network.cut(node, other);
                self.at(lasting, Event::Join { from: node, to: other });
            }
            Fault::Isolate => {
                for other in 0..self.nodes.len() {
                    for (from, to) in [(node, other), (other, node)] {
                        self.network.cut(from, to);
                        self.at(lasting, Event::Join { from, to });
                    }
                }
            }
            Fault::Break => {
                let other = self.another(node);
                self.disconnect(node, other);
            }
            Fault::SlowDisk => self.nodes[node].disk.slow_until = self.now + lasting,
            Fault::JumpClock => {
                let jump = self.rng.i64(-20_000..20_000);
                self.nodes[node].wall_offset += jump;
            }
        }
        self.report.faults += 1;
    }

    fn another(&mut self, node: usize) -> usize {
        (node + self.rng.usize(1..self.nodes.len())) % self.nodes.len()
    }

    pub(crate) fn kill(&mut self, node: usize, lasting: u64) {
        if self.nodes[node].life.take().is_none() {
            return;
        }
        self.report.kills += 1;
        let forgets_votes = self.options.planted == Some(Defect::VotesForgotten);
        self.nodes[node].disk.crash(forgets_votes, &mut self.rng);
        self.nodes[node].paused_until = 0;
        self.network.die(node, &mut self.rng);
        for caller in self.network.callers(node) {
            self.disconnect(caller, node);
        }
        self.invariants.died(node);
        self.at(lasting, Event::Start { node });
    }
}
