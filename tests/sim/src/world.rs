//! The loop: takes the next event by time, lets it happen, checks.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use fastrand::Rng;
use multiraft_check::counter;
use multiraft_machine::Answer;
use multiraft_shard::limits::TICK_MICROS;
use multiraft_shard::{
    AdminRequest, CallError, Consistency, Frame, GroupSpec, Input, LinkCommand, Member, Outputs,
};

use crate::client::{Client, PATIENCE_MICROS};
use crate::invariants::Invariants;
use crate::moves::Moves;
use crate::network::Network;
use crate::node::{Node, member, node_id, place_of};
use crate::options::{Defect, Options};
use crate::snapshots::Transfer;
use crate::trace::Trace;

/// After the last fault all clients must have their answers within this time: elections, lost
/// sessions and 15 s calls included.
const SETTLE_MICROS: u64 = 120_000_000;

/// Nodes form their groups before the first fault.
const FORMING_MICROS: u64 = 3_000_000;

/// Machines are compared this often: hashing one reads all of it.
const COMPARE_MICROS: u64 = 5_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Event {
    Start {
        node: usize,
    },
    /// The node's loop runs once; `boot` is the life that was woken.
    Step {
        node: usize,
        boot: u64,
    },
    Tick {
        node: usize,
        boot: u64,
    },
    Sync {
        node: usize,
        boot: u64,
    },
    Fetched {
        node: usize,
        boot: u64,
        group: u32,
        ticket: u64,
        low: u64,
        high: u64,
    },
    SnapshotWritten {
        node: usize,
        boot: u64,
        group: u32,
        index: u64,
    },
    SnapshotArrives {
        transfer: u64,
    },
    Dial {
        from: usize,
        to: usize,
        boot: u64,
    },
    Arrive {
        connection: u64,
    },
    Join {
        from: usize,
        to: usize,
    },
    /// The client sends, or sends again what was not answered.
    Send {
        client: usize,
        operation: u64,
        attempt: u64,
    },
    Fault,
    Change,
    HandOver,
    Heal,
    Compare,
}

/// What a run came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub trace: u64,
    pub events: u64,
    pub faults: u64,
    pub kills: u64,
    /// Members that joined and became voters.
    pub moves: u64,
    /// Snapshots that were written, and that went to another node.
    pub snapshots: u64,
    pub transfers: u64,
    pub increments: u64,
    pub reads: u64,
}

impl std::ops::AddAssign for Report {
    fn add_assign(&mut self, other: Report) {
        self.trace ^= other.trace;
        self.events += other.events;
        self.faults += other.faults;
        self.kills += other.kills;
        self.moves += other.moves;
        self.snapshots += other.snapshots;
        self.transfers += other.transfers;
        self.increments += other.increments;
        self.reads += other.reads;
    }
}

pub(crate) struct World {
    pub options: Options,
    pub rng: Rng,
    pub now: u64,
    queue: BinaryHeap<Reverse<(u64, u64, Event)>>,
    queued: u64,
    pub nodes: Vec<Node>,
    pub network: Network,
    pub transfers: Vec<Option<Transfer>>,
    clients: Vec<Client>,
    /// (node, boot, call) → (client, operation).
    calls: BTreeMap<(usize, u64, u64), (usize, u64)>,
    call: u64,
    pub moves: Moves,
    pub invariants: Invariants,
    pub trace: Trace,
    pub report: Report,
    /// Items in all frames so far: everything but heartbeats between nodes.
    pub items: u64,
    /// Answers to calls of a script, by number.
    pub answers: BTreeMap<u64, Result<Answer, CallError>>,
    healed: bool,
}

/// Runs a seed to its end.
///
/// # Panics
/// A promise was broken; the message says which.
pub fn run(options: Options) -> Report {
    let mut world = World::new(options);
    world.begin();
    world.go_on();
    world.judge()
}

impl World {
    pub fn new(options: Options) -> Self {
        let mut rng = Rng::with_seed(options.seed ^ 0x5151_5151);
        let node = |place, rng: &mut Rng| Node::new(place, rng.i64(-500..500), rng.u64(..200));
        let nodes = (0..options.nodes).map(|place| node(place, &mut rng)).collect();
        let clients =
            (0..options.clients).map(|_| Client::new(rng.u32(1..=options.groups))).collect();
        World {
            options,
            rng,
            now: 0,
            queue: BinaryHeap::new(),
            queued: 0,
            nodes,
            network: Network::default(),
            transfers: Vec::new(),
            clients,
            calls: BTreeMap::new(),
            call: 0,
            moves: Moves::default(),
            invariants: Invariants::default(),
            trace: Trace::new(),
            report: Report::default(),
            items: 0,
            answers: BTreeMap::new(),
            healed: false,
        }
    }

    pub fn at(&mut self, delay: u64, event: Event) {
        self.queued += 1;
        self.queue.push(Reverse((self.now + delay, self.queued, event)));
    }

    fn begin(&mut self) {
        for node in 0..self.nodes.len() {
            self.start(node);
            let groups: Vec<GroupSpec> =
                (1..=self.options.groups).filter_map(|group| self.spec(group, node)).collect();
            let request = match groups.is_empty() {
                true => AdminRequest::Activate { fence: None },
                false => AdminRequest::Bootstrap { groups, fence: None },
            };
            self.input(node, Input::Admin { token: 1, request });
        }
        for client in 0..self.clients.len() {
            let delay = FORMING_MICROS + self.rng.u64(..1_000_000);
            self.at(delay, Event::Send { client, operation: 1, attempt: 0 });
        }
        self.at(FORMING_MICROS, Event::Fault);
        if self.options.moves {
            self.at(FORMING_MICROS, Event::Change);
        }
        if self.options.hand_overs {
            self.at(FORMING_MICROS, Event::HandOver);
        }
        self.at(FORMING_MICROS + self.options.ticks * TICK_MICROS, Event::Heal);
        self.at(COMPARE_MICROS, Event::Compare);
    }

    /// The group as a node is to bootstrap it; members lie on nodes in turn.
    pub fn spec(&self, group: u32, node: usize) -> Option<GroupSpec> {
        let place = |n: usize| (group as usize + n) % self.options.nodes;
        let members: Vec<Member> =
            (0..self.options.voters).map(|n| member(n as u64 + 1, place(n))).collect();
        let own = members.iter().find(|m| m.node_id == node_id(node))?;
        Some(GroupSpec { group, member_id: own.member_id, members })
    }

    /// Lets the next event happen, if it is due by `until`.
    pub fn next_event(&mut self, until: u64) -> bool {
        if self.queue.peek().is_none_or(|Reverse((at, ..))| *at > until) {
            return false;
        }
        let Some(Reverse((at, _, event))) = self.queue.pop() else { return false };
        self.now = at;
        self.report.events += 1;
        self.trace.word(at);
        self.happen(event);
        true
    }

    fn go_on(&mut self) {
        while self.next_event(u64::MAX) {
            if self.healed && self.clients.iter().all(|c| c.done) {
                return;
            }
            let end = FORMING_MICROS + self.options.ticks * TICK_MICROS + SETTLE_MICROS;
            assert!(
                self.now < end,
                "clients have no answers {SETTLE_MICROS} µs after all is well: {}",
                self.describe()
            );
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Start { node } => self.start(node),
            Event::Step { node, boot } if self.lives(node, boot) => self.step(node),
            Event::Tick { node, boot } if self.lives(node, boot) => {
                self.wake(node);
                self.at(TICK_MICROS, Event::Tick { node, boot });
            }
            Event::Sync { node, boot } if self.lives(node, boot) => {
                if let Some(round) = self.nodes[node].disk.sync(self.now) {
                    self.invariants.check_disk(&self.nodes[node]);
                    if self.options.planted != Some(Defect::SyncLies) {
                        self.input(node, Input::Persisted { round });
                    }
                }
            }
            Event::Fetched { node, boot, group, ticket, low, high } if self.lives(node, boot) => {
                let stored = self.nodes[node].disk.synced.groups.get(&group);
                let range = stored.map(|g| g.entries.range(low..high));
                let entries = range.into_iter().flatten().map(|(_, e)| e.clone()).collect();
                self.input(node, Input::Fetched { group, ticket, entries });
            }
            Event::SnapshotWritten { node, boot, group, index } if self.lives(node, boot) => {
                self.snapshot_written(node, group, index);
            }
            Event::SnapshotArrives { transfer } => self.snapshot_arrives(transfer),
            Event::Dial { from, to, boot } if self.lives(from, boot) => self.dial(from, to),
            Event::Arrive { connection } => {
                if let Some((to, frame)) = self.network.arrived(connection, self.now) {
                    self.input(to, Input::Frame(frame));
                }
            }
            Event::Join { from, to } => self.join(from, to),
            Event::Send { client, operation, attempt } => self.send(client, operation, attempt),
            Event::Fault if !self.healed => self.fault(),
            Event::Change if !self.healed => self.change(),
            Event::HandOver if !self.healed => self.hand_over(),
            Event::Heal => self.heal(),
            Event::Compare => {
                self.compare();
                self.at(COMPARE_MICROS, Event::Compare);
            }
            // Of an earlier life, or a fault after the end of faults.
            Event::Step { .. }
            | Event::Tick { .. }
            | Event::Sync { .. }
            | Event::Fetched { .. }
            | Event::SnapshotWritten { .. }
            | Event::Dial { .. }
            | Event::Fault
            | Event::Change
            | Event::HandOver => {}
        }
    }

    // ------------------------------------------------------------------------------- nodes

    fn lives(&self, node: usize, boot: u64) -> bool {
        self.nodes[node].boot == boot && self.nodes[node].life.is_some()
    }

    pub fn start(&mut self, node: usize) {
        if self.nodes[node].life.is_some() {
            return;
        }
        self.nodes[node].start(self.now, self.options.seed, self.options.snapshot_log_bytes);
        self.invariants.check_disk(&self.nodes[node]);
        let boot = self.nodes[node].boot;
        let delay = self.rng.u64(1..TICK_MICROS);
        self.at(delay, Event::Tick { node, boot });
        self.wake(node);
    }

    pub fn input(&mut self, node: usize, input: Input) {
        if let Some(life) = &mut self.nodes[node].life {
            life.inputs.push(input);
            self.wake(node);
        }
    }

    fn wake(&mut self, node: usize) {
        let Node { boot, paused_until, .. } = self.nodes[node];
        let Some(life) = &mut self.nodes[node].life else { return };
        if !life.is_awake {
            life.is_awake = true;
            let delay = paused_until.saturating_sub(self.now) + self.rng.u64(5..300);
            self.at(delay, Event::Step { node, boot });
        }
    }

    fn step(&mut self, node: usize) {
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

    fn carry_out(&mut self, node: usize, boot: u64, outputs: Outputs) {
        assert_eq!(outputs.broken, None, "node {node} cannot go on");
        for link in outputs.links {
            match link {
                LinkCommand::Dial { node: to, .. } => {
                    self.at(100, Event::Dial { from: node, to: place_of(to), boot });
                }
                LinkCommand::Redial { node: to } => self.disconnect(node, place_of(to)),
            }
        }
        for (to, frame) in outputs.frames {
            self.trace.word(to);
            self.trace.bytes(&frame);
            self.items += Frame::parse(frame.clone()).map_or(0, Iterator::count) as u64;
            let sent = self.network.send(node, place_of(to), frame, self.now, &mut self.rng);
            if let Some((connection, at)) = sent {
                self.at(at - self.now, Event::Arrive { connection });
            }
        }
        if let Some(record) = outputs.persist {
            if self.options.planted == Some(Defect::SyncLies) {
                self.input(node, Input::Persisted { round: record.round });
            }
            let at = self.nodes[node].disk.write(record, self.now, &mut self.rng);
            self.at(at - self.now, Event::Sync { node, boot });
        }
        for fetch in outputs.fetches {
            let delay = self.rng.u64(100..5_000);
            let (group, ticket, low, high) = (fetch.group, fetch.ticket, fetch.low, fetch.high);
            self.at(delay, Event::Fetched { node, boot, group, ticket, low, high });
        }
        for take in outputs.take_snapshots {
            self.write_snapshot(node, boot, take);
        }
        for send in outputs.send_snapshots {
            self.send_snapshot(node, boot, send);
        }
        for (call, result) in outputs.answers {
            let Some((client, operation)) = self.calls.remove(&(node, boot, call)) else {
                self.answers.insert(call, result);
                continue;
            };
            let one = &mut self.clients[client];
            let fresh = operation == one.operation && !one.done;
            if fresh && one.answered(result, self.now) {
                one.next(self.now, &mut self.rng);
                let (operation, attempt) = (one.operation, one.attempt);
                // No client begins anything after the end, but each hears of what it began.
                one.done = self.healed;
                let pause = self.rng.u64(100..self.options.pause_micros);
                self.at(pause, Event::Send { client, operation, attempt });
            }
        }
    }

    /// Where every member stands, for a run that does not end well.
    pub fn describe(&self) -> String {
        let mut text = String::new();
        for node in &self.nodes {
            let states = node.life.as_ref().map(|life| life.shard.group_states());
            for s in states.unwrap_or_default() {
                let members: Vec<_> =
                    s.members.iter().map(|m| (m.node_id, m.member_id, m.role)).collect();
                text += &format!(
                    "\nnode {} group {} member {}: {:?} term {} leader {} commit {} applied {} last \
                     {} members (node, id, role) {members:?}",
                    node_id(node.place),
                    s.group_id,
                    s.member_id,
                    s.phase(),
                    s.term,
                    s.leader,
                    s.commit_index,
                    s.applied_index,
                    s.last_index,
                );
            }
        }
        text
    }

    fn compare(&mut self) {
        for node in &self.nodes {
            self.invariants.check_machines(node, self.options.groups);
        }
    }

    // ----------------------------------------------------------------------------- network

    fn dial(&mut self, from: usize, to: usize) {
        if self.network.is_open(from, to) {
            return;
        }
        let cut = self.network.is_cut(from, to) || self.network.is_cut(to, from);
        if cut || self.nodes[to].life.is_none() {
            let boot = self.nodes[from].boot;
            let delay = self.rng.u64(50_000..1_000_000);
            return self.at(delay, Event::Dial { from, to, boot });
        }
        self.network.open(from, to);
        self.input(from, Input::LinkOpened { peer: node_id(to) });
    }

    /// A connection ends at its maker, who makes it anew.
    pub fn disconnect(&mut self, from: usize, to: usize) {
        if !self.network.close(from, to, &mut self.rng) {
            return;
        }
        let boot = self.nodes[from].boot;
        self.input(from, Input::LinkClosed { peer: node_id(to) });
        let delay = self.rng.u64(20_000..200_000);
        self.at(delay, Event::Dial { from, to, boot });
    }

    pub fn join(&mut self, from: usize, to: usize) {
        for connection in self.network.join(from, to) {
            // What waited arrives one by one: an event for each frame that may.
            for _ in 0..self.network.waiting(connection) {
                let delay = self.rng.u64(1..500_000);
                self.at(delay, Event::Arrive { connection });
            }
        }
    }

    fn heal(&mut self) {
        self.healed = true;
        for from in 0..self.nodes.len() {
            self.nodes[from].paused_until = 0;
            self.nodes[from].disk.slow_until = 0;
            self.at(0, Event::Start { node: from });
            for to in 0..self.nodes.len() {
                self.join(from, to);
            }
        }
    }

    // ----------------------------------------------------------------------------- clients

    fn send(&mut self, client: usize, operation: u64, attempt: u64) {
        let one = &mut self.clients[client];
        if one.done || one.operation != operation || one.attempt != attempt {
            return;
        }
        one.attempt += 1;
        let attempt = one.attempt;
        self.call += 1;
        let node = self.rng.usize(..self.nodes.len());
        if self.options.planted == Some(Defect::RepeatedUnderNewNumber) {
            one.renumber();
        }
        let mut input = one.request(self.call);
        if let Input::Query { consistency, .. } = &mut input
            && self.options.planted == Some(Defect::ReadsAreLocal)
        {
            *consistency = Consistency::Local;
        }
        self.calls.insert((node, self.nodes[node].boot, self.call), (client, operation));
        self.input(node, input);
        // Impatient at times, so that a command is under way more than once.
        let patience = if self.rng.u32(..10) == 0 { 5_000 } else { PATIENCE_MICROS };
        self.at(patience, Event::Send { client, operation, attempt });
    }

    fn judge(mut self) -> Report {
        for group in 1..=self.options.groups {
            let of_group = self.clients.iter().filter(|c| c.group == group);
            let calls: Vec<_> = of_group.flat_map(|c| c.calls.iter().copied()).collect();
            let increments = calls.iter().filter(|call| call.delta > 0).count() as u64;
            counter::check(&calls, increments)
                .unwrap_or_else(|fault| panic!("counter of group {group}: {fault:?}"));
            self.report.increments += increments;
            self.report.reads += calls.len() as u64 - increments;
        }
        self.compare();
        self.report.trace = self.trace.hash();
        self.report
    }
}
