//! What stands in for the host: runs each node's loop and carries out what its shard asks.

use multiraft_shard::limits::TICK_MICROS;
use multiraft_shard::{Frame, Input, LinkCommand, Outputs};

use crate::node::{Node, place_of};
use crate::planted::Defect;
use crate::world::{Event, World};

impl World {
    pub(crate) fn lives(&self, node: usize, boot: u64) -> bool {
        self.nodes[node].boot == boot && self.nodes[node].life.is_some()
    }

    pub(crate) fn start(&mut self, node: usize) {
        if self.nodes[node].life.is_some() {
            return;
        }
        self.nodes[node].start(self.now, &self.options);
        self.invariants.check_disk(&self.nodes[node]);
        self.invariants.check_machines(&self.nodes[node], self.options.shape.groups);
        let boot = self.nodes[node].boot;
        let delay = self.rng.u64(1..TICK_MICROS);
        self.at(delay, Event::Tick { node, boot });
        self.form_again(node);
        self.wake(node);
    }

    pub(crate) fn input(&mut self, node: usize, input: Input) {
        if let Some(life) = &mut self.nodes[node].life {
            life.inputs.push(input);
            self.wake(node);
        }
    }

    pub(crate) fn wake(&mut self, node: usize) {
        let Node { boot, paused_until, .. } = self.nodes[node];
        let Some(life) = &mut self.nodes[node].life else { return };
        if !life.is_awake {
            life.is_awake = true;
            let delay = paused_until.saturating_sub(self.now) + self.rng.u64(5..300);
            self.at(delay, Event::Step { node, boot });
        }
    }

    pub(crate) fn step(&mut self, node: usize) {
        let paused = self.nodes[node].paused_until;
        let boot = self.nodes[node].boot;
        if paused > self.now {
            return self.at(paused - self.now, Event::Step { node, boot });
        }
        let Some(outputs) = self.nodes[node].step(self.now) else { return };
        self.carry_out(node, boot, outputs);
        if self.nodes[node].life.as_ref().is_some_and(|life| life.shard.is_busy()) {
            self.wake(node);
        }
        self.invariants.check(&self.nodes, node);
    }

    pub(crate) fn synced(&mut self, node: usize) {
        let Some(round) = self.nodes[node].disk.sync(self.now) else { return };
        self.invariants.check_disk(&self.nodes[node]);
        if self.options.planted != Some(Defect::AcknowledgesBeforePersist) {
            self.input(node, Input::Persisted { round });
        }
    }

    fn carry_out(&mut self, node: usize, boot: u64, outputs: Outputs) {
        assert_eq!(outputs.broken, None, "[broken] the node at place {node} cannot go on");
        let id = self.nodes[node].id();
        for link in outputs.links {
            match link {
                LinkCommand::Dial { node: to, .. } => {
                    self.at(100, Event::Dial { from: node, to, boot });
                }
                LinkCommand::Redial { node: to } => self.disconnect(id, to),
            }
        }
        for (to, frame) in outputs.frames {
            self.trace.word(to);
            self.trace.bytes(&frame);
            self.items += Frame::parse(frame.clone()).map_or(0, Iterator::count) as u64;
            let sent = self.network.send(id, to, frame, self.now, &mut self.rng);
            if let Some((connection, at)) = sent {
                self.at(at - self.now, Event::Arrive { connection });
            }
        }
        if let Some(record) = outputs.persist {
            if self.options.planted == Some(Defect::AcknowledgesBeforePersist) {
                self.input(node, Input::Persisted { round: record.round });
            }
            let at = self.nodes[node].disk.write(record, self.now, &mut self.rng);
            self.at(at - self.now, Event::Sync { node, boot });
        }
        for fetch in outputs.fetches {
            let delay = self.rng.u64(100..5_000);
            self.at(delay, Event::Fetched { node, boot, fetch });
        }
        for take in outputs.take_snapshots {
            self.write_snapshot(node, boot, take);
        }
        for send in outputs.send_snapshots {
            self.send_snapshot(node, boot, send);
        }
        for (call, list) in outputs.lists {
            let key = (node, boot, call);
            self.listed(key, list.machine.index());
            list.answers().for_each(|answer| self.answered(key, Ok(answer)));
        }
        for (call, result) in outputs.answers {
            self.answered((node, boot, call), result);
        }
    }

    // ----------------------------------------------------------------------------- network

    pub(crate) fn dial(&mut self, from: usize, to: u64) {
        let (id, place) = (self.nodes[from].id(), place_of(to));
        if self.network.is_open(id, to) {
            return;
        }
        let cut = self.network.is_cut(from, place) || self.network.is_cut(place, from);
        let there = self.nodes[place].id() == to && self.nodes[place].life.is_some();
        if cut || !there {
            let boot = self.nodes[from].boot;
            let delay = self.rng.u64(50_000..1_000_000);
            return self.at(delay, Event::Dial { from, to, boot });
        }
        self.network.open(id, to);
        self.input(from, Input::LinkOpened { peer: to });
    }

    /// A connection ends at its maker, who makes it anew. Both are node ids.
    pub(crate) fn disconnect(&mut self, from: u64, to: u64) {
        if !self.network.close(from, to, &mut self.rng) {
            return;
        }
        let maker = place_of(from);
        for place in [maker, place_of(to)] {
            self.nodes[place].troubled_at = self.now;
        }
        let boot = self.nodes[maker].boot;
        self.input(maker, Input::LinkClosed { peer: to });
        let delay = self.rng.u64(20_000..200_000);
        self.at(delay, Event::Dial { from: maker, to, boot });
    }

    pub(crate) fn arrive(&mut self, connection: u64) {
        if let Some((to, frame)) = self.network.arrived(connection, self.now) {
            let place = place_of(to);
            if self.nodes[place].id() == to {
                self.input(place, Input::Frame(frame));
            }
        }
    }

    pub(crate) fn join(&mut self, from: usize, to: usize) {
        for connection in self.network.join(from, to, self.now) {
            // What waited arrives one by one: an event for each frame that may.
            for _ in 0..self.network.waiting(connection) {
                let delay = self.rng.u64(1..500_000);
                self.at(delay, Event::Arrive { connection });
            }
        }
    }
}
