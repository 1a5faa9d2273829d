//! What goes wrong, and how it is mended.

use crate::disk::Unsynced;
use crate::schedule::{Fault, Target};
use crate::world::{Event, World};

impl World {
    /// Makes one fault of the schedule happen.
    pub(crate) fn fault(&mut self, fault: Fault) {
        // While a disk is replaced nothing else fails: two at a time may be too many.
        if self.renewal.is_some() {
            return;
        }
        match fault {
            Fault::Crash { node, micros } => {
                if let Some(place) = self.target(node)
                    && self.kill(place, Unsynced::Kept, micros)
                {
                    self.report.crashes += 1;
                }
            }
            Fault::PowerLoss { node, micros } => {
                if let Some(place) = self.target(node)
                    && self.kill(place, Unsynced::Torn, micros)
                {
                    self.report.power_losses += 1;
                }
            }
            Fault::PowerLossAll { micros } => {
                for place in 0..self.nodes.len() {
                    let back = self.rng.u64(5_000..=micros.max(5_000));
                    if self.kill(place, Unsynced::Torn, back) {
                        self.report.power_losses += 1;
                    }
                }
            }
            Fault::Pause { node, micros } => {
                if let Some(place) = self.target(node) {
                    self.nodes[place].paused_until = self.now + micros;
                    self.report.pauses += 1;
                }
            }
            Fault::CutOneWay { from, to, micros } => self.cut([(from, to)], 0, micros),
            Fault::Flap { from, to, micros, times } => {
                for n in 0..times {
                    self.cut([(from, to)], 2 * n * micros, micros);
                }
            }
            Fault::Isolate { node, micros } => {
                let Some(place) = self.target(node) else { return };
                let others = (0..self.nodes.len()).filter(|other| *other != place);
                let both = |other| [(place, other), (other, place)];
                self.cut(others.flat_map(both).collect::<Vec<_>>(), 0, micros);
            }
            Fault::Split { place, micros } => {
                let count = self.nodes.len();
                let pairs = (0..place).flat_map(|a| (place..count).map(move |b| (a, b)));
                self.cut(pairs.flat_map(|(a, b)| [(a, b), (b, a)]).collect::<Vec<_>>(), 0, micros);
            }
            Fault::Break { from, to } => {
                let (from, to) = (self.nodes[from].id(), self.nodes[to].id());
                self.disconnect(from, to);
                self.report.broken_connections += 1;
            }
            Fault::Stall { from, to } => {
                let (from, to) = (self.nodes[from].id(), self.nodes[to].id());
                self.report.stalled_connections += u64::from(self.network.stall(from, to));
            }
            Fault::SlowDisk { node, micros } => {
                if let Some(place) = self.target(node) {
                    self.nodes[place].disk.slow_until = self.now + micros;
                    self.report.slow_disks += 1;
                }
            }
            Fault::JumpClock { node, millis } => {
                self.nodes[node].wall_offset += millis;
                self.report.clock_jumps += 1;
            }
            Fault::CrashAtStep { leader, after, micros } => {
                self.moves.traps.push((leader, after, micros));
            }
            Fault::Copy { node } => self.nodes[node].copy = Some(self.nodes[node].disk.copy()),
            Fault::RollBack { node, .. } | Fault::Wipe { node, .. } | Fault::Lose { node } => {
                self.renew(node, fault);
            }
        }
    }

    fn target(&self, target: Target) -> Option<usize> {
        match target {
            Target::Node(place) => Some(place),
            Target::Leader(group) => self.leader_of(group),
        }
    }

    /// Cuts directions for a while, later.
    fn cut(&mut self, pairs: impl IntoIterator<Item = (usize, usize)>, after: u64, micros: u64) {
        for (from, to) in pairs {
            self.at(after, Event::Cut { from, to });
            self.at(after + micros, Event::Join { from, to });
        }
        self.report.partitions += 1;
    }

    /// Ends a process; it starts again after this long.
    pub(crate) fn kill(&mut self, place: usize, unsynced: Unsynced, micros: u64) -> bool {
        let node = &mut self.nodes[place];
        let id = node.id();
        if node.life.take().is_none() {
            return false;
        }
        node.disk.crash(unsynced, self.options.planted, &mut self.rng);
        node.paused_until = 0;
        self.network.die(id, &mut self.rng);
        for caller in self.network.callers(id) {
            self.disconnect(caller, id);
        }
        self.invariants.died(place);
        self.serves_no_more(place);
        self.at(micros, Event::Start { node: place });
        true
    }

    /// Ends all faults that last.
    pub(crate) fn mend(&mut self) {
        for from in 0..self.nodes.len() {
            self.nodes[from].paused_until = 0;
            let synced_at = self.nodes[from].disk.mend();
            self.nodes[from].troubled_at = self.now.max(synced_at);
            // The step of a paused process was put off to the end of the pause.
            let boot = self.nodes[from].boot;
            self.at(0, Event::Step { node: from, boot });
            self.at(0, Event::Start { node: from });
            for to in 0..self.nodes.len() {
                self.join(from, to);
            }
        }
    }
}
