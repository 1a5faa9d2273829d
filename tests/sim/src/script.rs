//! A small cluster that a test leads step by step, in the same simulated world.

use multiraft_machine::{Answer, Query};
use multiraft_proto::v1::{self, GroupConfig, GroupState};
use multiraft_shard::{AdminRequest, CallError, Consistency, GroupSpec, Input, Wanted};
use prost::Message as _;

use crate::disk::Unsynced;
use crate::node::member;
use crate::options::{Options, Shape};
use crate::world::World;

/// Longer than any test waits.
const FOR_EVER: u64 = u64::MAX / 4;

/// What takes longer than this is called never.
const PATIENCE_MICROS: u64 = 60_000_000;

/// A cluster whose nodes are counted from 0, whose groups from 1; each group's members are counted
/// from 1.
pub struct Script {
    world: World,
    calls: u64,
}

impl Script {
    /// A member that takes no part any more.
    pub const CLOSED: v1::GroupPhase = v1::GroupPhase::RolledBack;

    /// Forms the cluster and waits until every group has a leader.
    pub fn new(seed: u64, nodes: usize, voters: usize, groups: u32) -> Self {
        let shape = Shape {
            nodes,
            voters,
            groups,
            clients: 0,
            users: 0,
            pause_micros: 1,
            ticks: FOR_EVER / 1_000_000,
            snapshot_log_bytes: 1 << 20,
            moves: false,
            hand_overs: false,
        };
        let options = Options { seed, shape, planted: None, faults: Vec::new() };
        let mut script = Script { world: World::new(options), calls: 1 << 40 };
        for node in 0..nodes {
            script.world.start(node);
            let specs = (1..=groups).filter_map(|group| script.world.spec(group, node));
            let groups: Vec<GroupSpec> = specs.collect();
            let request = match groups.is_empty() {
                true => AdminRequest::Activate { groups: 0, fence: None },
                false => AdminRequest::Bootstrap { groups, fence: None },
            };
            script.admin(node, request);
        }
        script.until("every group has a leader", |s| (1..=groups).all(|g| s.leader(g).is_some()));
        script
    }

    /// Microseconds since the beginning.
    pub fn now(&self) -> u64 {
        self.world.now
    }

    pub fn run_for(&mut self, micros: u64) {
        let end = self.world.now + micros;
        while self.world.next_event(end) {}
        self.world.now = end;
    }

    /// Goes on until something holds; returns the microseconds that it took.
    ///
    /// # Panics
    /// It does not come true within a minute.
    pub fn until(&mut self, what: &str, holds: impl Fn(&Script) -> bool) -> u64 {
        let start = self.world.now;
        while !holds(self) {
            let late = self.world.now > start + PATIENCE_MICROS;
            assert!(!late, "never: {what}{}", self.world.describe());
            self.run_for(1_000);
        }
        self.world.now - start
    }

    // ------------------------------------------------------------------------------ looking

    fn states(&self, group: u32) -> impl Iterator<Item = (usize, GroupState)> + '_ {
        let lives = self.world.nodes.iter().filter_map(|n| Some((n.place, n.life.as_ref()?)));
        lives.filter_map(move |(place, life)| Some((place, life.shard.group_state(group)?)))
    }

    fn id(&self, node: usize) -> u64 {
        self.world.nodes[node].id()
    }

    pub fn state(&self, node: usize, group: u32) -> Option<GroupState> {
        self.states(group).find(|(place, _)| *place == node).map(|(_, state)| state)
    }

    /// The node that leads in the highest term.
    pub fn leader(&self, group: u32) -> Option<usize> {
        let leads = self.states(group).filter(|(place, s)| s.leader == self.id(*place));
        leads.max_by_key(|(_, s)| s.term).map(|(place, _)| place)
    }

    /// Groups whose leader sleeps.
    pub fn sleeping(&self) -> usize {
        let sleeps = |group: &u32| {
            let leader = self.leader(*group).and_then(|n| self.world.nodes[n].life.as_ref());
            leader.is_some_and(|life| life.shard.sleeps(*group))
        };
        (1..=self.world.options.shape.groups).filter(sleeps).count()
    }

    /// Items sent between nodes so far: all but the heartbeats.
    pub fn items(&self) -> u64 {
        self.world.items
    }

    pub fn wait_for_rest(&mut self) -> u64 {
        let groups = self.world.options.shape.groups as usize;
        self.until("all groups sleep", |s| s.sleeping() == groups)
    }

    // ------------------------------------------------------------------------------- faults

    pub fn kill(&mut self, node: usize) {
        self.world.kill(node, Unsynced::Torn, FOR_EVER);
    }

    pub fn start(&mut self, node: usize) {
        self.world.start(node);
    }

    /// Keeps a copy of what the disk holds for certain now.
    pub fn copy_disk(&mut self, node: usize) {
        self.world.nodes[node].copy = Some(self.world.nodes[node].disk.copy());
    }

    /// The node dies and comes back on the copy of its disk.
    pub fn roll_back(&mut self, node: usize) {
        self.kill(node);
        let copy = self.world.nodes[node].copy.take();
        let place = &mut self.world.nodes[node];
        (place.disk, place.set_back) = (copy.expect("copied before"), place.set_back + 1);
        self.world.invariants.set_back = Some(node);
        self.start(node);
    }

    pub fn pause(&mut self, node: usize, micros: u64) {
        self.world.nodes[node].paused_until = self.world.now + micros;
    }

    pub fn slow_disk(&mut self, node: usize, micros: u64) {
        self.world.nodes[node].disk.slow_until = self.world.now + micros;
    }

    /// Nothing passes from one node to the other.
    pub fn cut(&mut self, from: usize, to: usize) {
        self.world.network.cut(from, to);
    }

    pub fn mend(&mut self, from: usize, to: usize) {
        self.world.join(from, to);
    }

    /// The connection from one node to another leads nowhere, until it is made anew.
    pub fn stall(&mut self, from: usize, to: usize) {
        let stalled = self.world.network.stall(self.id(from), self.id(to));
        assert!(stalled, "it is open");
    }

    /// A connection breaks and is made anew.
    pub fn disconnect(&mut self, from: usize, to: usize) {
        self.world.disconnect(self.id(from), self.id(to));
    }

    // -------------------------------------------------------------------------------- calls

    fn number(&mut self) -> u64 {
        self.calls += 1;
        self.calls
    }

    /// Opens a session through a node, which writes to the log; returns the call's number.
    pub fn send_write(&mut self, node: usize, group: u32) -> u64 {
        let open = v1::OpenSessionInput {
            timeout: Some(prost_types::Duration { seconds: 3_600, nanos: 0 }),
        };
        self.send(node, group, v1::partition_input::Payload::OpenSession(open))
    }

    /// Sends any input through a node; returns the call's number.
    pub fn send(&mut self, node: usize, group: u32, payload: v1::partition_input::Payload) -> u64 {
        let call = self.number();
        let input = v1::PartitionInput { payload: Some(payload) }.encode_to_vec().into();
        self.world.input(node, Input::Command { call, group, input, cancel: None });
        call
    }

    /// Asks through a node for a list and its changes, linearizably; returns the call's number.
    pub fn watch(&mut self, node: usize, group: u32, query: Query) -> u64 {
        let (call, max_received_index, streams) = (self.number(), 0, true);
        let consistency = Consistency::Linearizable;
        let input = Input::Query { call, group, query, max_received_index, consistency, streams };
        self.world.input(node, input);
        call
    }

    pub fn is_answered(&self, call: u64) -> bool {
        self.answers(call).iter().any(Result::is_ok)
    }

    /// All that a call was answered so far.
    pub fn answers(&self, call: u64) -> &[Result<Answer, CallError>] {
        self.world.answers.get(&call).map_or(&[], Vec::as_slice)
    }

    /// Snapshots that were sent to a member so far.
    pub fn transfers(&self) -> u64 {
        self.world.report.transfers
    }

    /// Writes through a node and waits for the answer; returns the microseconds that it took.
    pub fn write(&mut self, node: usize, group: u32) -> u64 {
        let call = self.send_write(node, group);
        self.until("a write is answered", |s| s.is_answered(call))
    }

    /// Asks through a node, linearizably; returns the microseconds that it took.
    pub fn read(&mut self, node: usize, group: u32) -> u64 {
        let call = self.number();
        let query = Query {
            session_id: 1,
            primitive_id: 1,
            operation: 0,
            input: Default::default(),
            sequence_num: 0,
        };
        let consistency = Consistency::Linearizable;
        let input =
            Input::Query { call, group, query, max_received_index: 0, consistency, streams: false };
        self.world.input(node, input);
        self.until("a read is answered", |s| s.is_answered(call))
    }

    pub fn admin(&mut self, node: usize, request: AdminRequest) {
        if let AdminRequest::ForceRecover { group, .. } = &request {
            self.world.invariants.recovered.insert(*group);
        }
        let token = self.number();
        self.world.input(node, Input::Admin { token, request });
    }

    /// A node joins a group under a new member id.
    pub fn join(&mut self, node: usize, group: u32, member_id: u64) {
        let Some(now) = self.configuration(group) else { return };
        let others = now.members.iter().map(multiraft_shard::Member::from_wire);
        let members = others.chain([member(member_id, &self.world.nodes[node])]).collect();
        let group = GroupSpec { group, member_id, members };
        self.admin(node, AdminRequest::Join { group, auto_promote: true, fence: None });
    }

    /// Asks the present leader for a change.
    pub fn change(&mut self, group: u32, wanted: Wanted) {
        let leader = self.leader(group).expect("the group has a leader");
        self.admin(leader, AdminRequest::Change { group, wanted, version: 0, fence: None });
    }

    /// As the leader has applied it.
    pub fn configuration(&self, group: u32) -> Option<GroupConfig> {
        let life = self.world.nodes[self.leader(group)?].life.as_ref()?;
        life.shard.group_config(group)
    }
}
