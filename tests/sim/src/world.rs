//! The loop: takes the next event by time, lets it happen, checks.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use fastrand::Rng;
use multiraft_machine::Answer;
use multiraft_proto::v1::{GroupPhase, GroupState};
use multiraft_shard::limits::TICK_MICROS;
use multiraft_shard::{AdminRequest, CallError, FetchEntries, GroupSpec, Input, Member};

use crate::calls::Attempt;
use crate::client::Client;
use crate::disk::Unsynced;
use crate::invariants::{Invariants, led};
use crate::moves::Moves;
use crate::network::Network;
use crate::node::{Node, member};
use crate::options::Options;
use crate::oracle::{History, Oracle};
use crate::renewal::Renewal;
use crate::report::Report;
use crate::schedule::FORMING_MICROS;
use crate::snapshots::Transfer;
use crate::standing::Kind;
use crate::trace::Trace;

/// After the last fault all clients must have their answers within this time: elections, lost
/// sessions, 15 s calls and the replacement of a disk included.
const SETTLE_MICROS: u64 = 180_000_000;

/// All machines are compared this often.
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
        fetch: FetchEntries,
    },
    SnapshotWritten {
        node: usize,
        boot: u64,
        group: u32,
        /// Of the node's members, as the shard counts them.
        member: u64,
        index: u64,
    },
    SnapshotArrives {
        transfer: u64,
    },
    /// `to` is a node id.
    Dial {
        from: usize,
        to: u64,
        boot: u64,
    },
    Arrive {
        connection: u64,
    },
    Cut {
        from: usize,
        to: usize,
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
    /// The client asks for a standing command, or asks again at another node.
    Stand {
        client: usize,
        kind: Kind,
        attempt: u64,
    },
    /// The client leaves the node that serves its standing command.
    Leave {
        client: usize,
        kind: Kind,
        attempt: u64,
    },
    /// The next of the schedule.
    Fault {
        number: usize,
    },
    CrashAtStep {
        place: usize,
        micros: u64,
    },
    Renew,
    Change,
    HandOver,
    Heal,
    Compare,
    /// The group had no leader at that time, and has had none since.
    CheckLed {
        group: u32,
        since: u64,
    },
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
    pub clients: Vec<Client>,
    /// By (place, boot, call).
    pub calls: BTreeMap<(usize, u64, u64), Attempt>,
    pub call: u64,
    pub oracle: Oracle,
    pub moves: Moves,
    pub renewal: Option<Renewal>,
    /// The place whose groups are to be formed on an empty disk, and they.
    pub formed_again: Option<(usize, Vec<GroupSpec>)>,
    pub invariants: Invariants,
    pub trace: Trace,
    pub report: Report,
    /// Items in all frames so far: everything but heartbeats between nodes.
    pub items: u64,
    /// Answers to calls of a script, by number.
    pub answers: BTreeMap<u64, Vec<Result<Answer, CallError>>>,
    pub healed: bool,
}

/// Runs to the end.
///
/// # Panics
/// A promise was broken; the message says which.
pub fn run(options: Options) -> Report {
    run_recorded(options).0
}

/// As [`run`], with what the clients saw, by group.
///
/// # Panics
/// As [`run`].
pub fn run_recorded(options: Options) -> (Report, BTreeMap<u32, History>) {
    let mut world = World::new(options);
    world.begin();
    world.go_on();
    world.judge()
}

impl World {
    pub fn new(options: Options) -> Self {
        let mut rng = Rng::with_seed(options.seed ^ 0x5151_5151);
        let node = |place, rng: &mut Rng| Node::new(place, rng.i64(-500..500), rng.u64(..200));
        let shape = &options.shape;
        let nodes = (0..shape.nodes).map(|place| node(place, &mut rng)).collect();
        let (clients, all) = (shape.clients as u64, (shape.clients + shape.users) as u64);
        let client = |n| match n < clients {
            true => Client::new(n, shape.groups, options.seed),
            false => Client::of_models(n, shape.groups, options.seed),
        };
        let clients = (0..all).map(client).collect();
        World {
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
            oracle: Oracle::default(),
            moves: Moves::new(options.seed),
            renewal: None,
            formed_again: None,
            invariants: Invariants::new(options.planted),
            trace: Trace::new(),
            report: Report { runs: 1, ticks: shape.ticks, ..Report::default() },
            items: 0,
            answers: BTreeMap::new(),
            healed: false,
            options,
        }
    }

    pub fn at(&mut self, delay: u64, event: Event) {
        self.queued += 1;
        self.queue.push(Reverse((self.now + delay, self.queued, event)));
    }

    fn begin(&mut self) {
        for node in 0..self.nodes.len() {
            self.start(node);
            let groups: Vec<GroupSpec> = (1..=self.options.shape.groups)
                .filter_map(|group| self.spec(group, node))
                .collect();
            if !groups.is_empty() {
                self.call(node, AdminRequest::Bootstrap { groups, fence: None });
            }
        }
        for client in 0..self.clients.len() {
            let delay = FORMING_MICROS + self.rng.u64(..1_000_000);
            self.at(delay, Event::Send { client, operation: 1, attempt: 0 });
        }
        for number in 0..self.options.faults.len() {
            let (at, _) = self.options.faults[number];
            self.at(at, Event::Fault { number });
        }
        if self.options.shape.moves {
            self.at(FORMING_MICROS, Event::Change);
        }
        if self.options.shape.hand_overs {
            self.at(FORMING_MICROS, Event::HandOver);
        }
        self.at(self.end_of_faults(), Event::Heal);
        self.at(COMPARE_MICROS, Event::Compare);
    }

    fn end_of_faults(&self) -> u64 {
        FORMING_MICROS + self.options.shape.ticks * TICK_MICROS
    }

    /// The group as a node is to bootstrap it; members lie on nodes in turn.
    pub fn spec(&self, group: u32, node: usize) -> Option<GroupSpec> {
        let place = |n: usize| (group as usize + n) % self.nodes.len();
        let of = |n: usize| member(n as u64 + 1, &self.nodes[place(n)]);
        let members: Vec<Member> = (0..self.options.shape.voters).map(of).collect();
        let own = members.iter().find(|m| m.node_id == self.nodes[node].id())?;
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
            let busy = self.renewal.is_some() || self.clients.iter().any(|c| !c.done);
            if self.healed && !busy && !self.has_remains() {
                return;
            }
            assert!(
                self.now < self.end_of_faults() + SETTLE_MICROS,
                "[settles] clients have no answers, or removed members are there still, \
                 {SETTLE_MICROS} µs after all is well: {}",
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
            Event::Sync { node, boot } if self.lives(node, boot) => self.synced(node),
            Event::Fetched { node, boot, fetch } if self.lives(node, boot) => {
                let FetchEntries { group, life, ticket, low, high, .. } = fetch;
                let stored = self.nodes[node].disk.synced.groups.get(&group);
                let range = stored.map(|g| g.entries.range(low..high));
                let entries = range.into_iter().flatten().map(|(_, e)| e.clone()).collect();
                self.input(node, Input::Fetched { group, life, ticket, entries });
            }
            Event::SnapshotWritten { node, boot, group, member, index }
                if self.lives(node, boot) =>
            {
                self.snapshot_written(node, group, member, index);
            }
            Event::SnapshotArrives { transfer } => self.snapshot_arrives(transfer),
            Event::Dial { from, to, boot } if self.lives(from, boot) => self.dial(from, to),
            Event::Arrive { connection } => self.arrive(connection),
            Event::Cut { from, to } if self.may_fail() => self.network.cut(from, to),
            Event::Join { from, to } => self.join(from, to),
            Event::Send { client, operation, attempt } => self.send(client, operation, attempt),
            Event::Stand { client, kind, attempt } => self.stand(client, kind, attempt),
            Event::Leave { client, kind, attempt } if !self.healed => {
                self.leave(client, kind, attempt);
            }
            Event::Fault { number } if !self.healed => {
                let (_, fault) = self.options.faults[number].clone();
                self.fault(fault);
            }
            Event::CrashAtStep { place, micros } if self.may_fail() => {
                let happened = self.kill(place, Unsynced::Torn, micros);
                self.report.crashes_at_steps += u64::from(happened);
            }
            Event::Renew => self.renewal_step(),
            Event::Change if !self.healed => self.change(),
            Event::HandOver if !self.healed => self.hand_over(),
            Event::Heal => {
                self.healed = true;
                self.mend();
            }
            Event::Compare => {
                self.compare();
                self.at(COMPARE_MICROS, Event::Compare);
            }
            Event::CheckLed { group, since } => self.check_led(group, since),
            // Of an earlier life, or a fault after the end of faults.
            Event::Step { .. }
            | Event::Tick { .. }
            | Event::Sync { .. }
            | Event::Fetched { .. }
            | Event::SnapshotWritten { .. }
            | Event::Dial { .. }
            | Event::Cut { .. }
            | Event::Leave { .. }
            | Event::Fault { .. }
            | Event::CrashAtStep { .. }
            | Event::Change
            | Event::HandOver => {}
        }
    }

    fn may_fail(&self) -> bool {
        !self.healed && self.renewal.is_none()
    }

    /// Whether a node holds data of a member that its group removed.
    fn has_remains(&self) -> bool {
        let lives = self.nodes.iter().filter_map(|node| node.life.as_ref());
        let states: Vec<GroupState> = lives.flat_map(|life| life.shard.group_states()).collect();
        states.iter().filter(|own| own.phase() != GroupPhase::RolledBack).any(|own| {
            let of_group = states.iter().filter(|state| state.group_id == own.group_id);
            let newest = of_group.max_by_key(|state| state.config_version).unwrap_or(own);
            let is_present = newest.members.iter().any(|m| m.member_id == own.member_id);
            own.member_id <= newest.member_id_max && !is_present
        })
    }

    /// Where every member stands, for a run that does not end well.
    pub fn describe(&self) -> String {
        let mut text = String::new();
        for client in self.clients.iter().filter(|client| !client.done) {
            text += &format!(
                "\na client of group {} waits for {:?} in session {} since {}",
                client.group, client.step, client.session_id, client.started
            );
        }
        for node in &self.nodes {
            let states = node.life.as_ref().map(|life| life.shard.group_states());
            for s in states.unwrap_or_default() {
                let members: Vec<_> =
                    s.members.iter().map(|m| (m.node_id, m.member_id, m.role)).collect();
                text += &format!(
                    "\nnode {} group {} member {}: {:?} term {} leader {} commit {} applied {} last \
                     {} members (node, id, role) {members:?}",
                    node.id(),
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
            self.invariants.check_machines(node, self.options.shape.groups);
        }
        for group in 1..=self.options.shape.groups {
            self.check_led(group, self.now);
        }
    }

    /// Whether a group has a leader; `since` then it was seen to have none.
    fn check_led(&mut self, group: u32, since: u64) {
        if self.renewal.is_some() {
            return;
        }
        let voters = self.invariants.voters(group);
        let well = led::without_leader(&self.nodes, &self.network, self.now, group, voters);
        let Some(well) = well else { return };
        assert!(
            self.now < since + led::LEADERLESS_MICROS,
            "[led] group {group}: nobody of {well:?}, who are a majority and have been well for \
             {} µs, has followed a leader that lives since {since}: {}",
            led::WELL_MICROS,
            self.describe()
        );
        self.at(TICK_MICROS, Event::CheckLed { group, since });
    }

    fn judge(mut self) -> (Report, BTreeMap<u32, History>) {
        self.compare();
        self.oracle.judge(&mut self.report);
        self.report.trace = self.trace.hash();
        self.report.elections = self.invariants.elections();
        self.report.machines_compared = self.invariants.machines_compared();
        (self.report, self.oracle.histories())
    }
}
