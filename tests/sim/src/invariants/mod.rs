//! What must hold after every step of every node. A violation panics: the invariant's name in
//! brackets, then what was seen.

mod disks;
mod groups;
pub mod led;
mod machines;

use std::collections::BTreeSet;

use multiraft_proto::v1::GroupState;

use crate::node::Node;
use crate::planted::Defect;
use disks::Disks;
use groups::Groups;
use machines::Machines;

/// A machine is looked at after one in this many steps that applied something: to hash it is to
/// read all of it.
const SAMPLE: u64 = 64;

/// What is known of all groups since the run began.
#[derive(Debug)]
pub struct Invariants {
    groups: Groups,
    disks: Disks,
    machines: Machines,
    /// Steps that applied something.
    applied: u64,
    /// Place whose disk was set back, until it is replaced.
    pub set_back: Option<usize>,
    /// Groups that were recovered by force, which gives up what Raft promises.
    pub recovered: BTreeSet<u32>,
}

impl Invariants {
    pub fn new(planted: Option<Defect>) -> Self {
        Invariants {
            groups: Groups::default(),
            disks: Disks::default(),
            machines: Machines::new(planted),
            applied: 0,
            set_back: None,
            recovered: BTreeSet::new(),
        }
    }

    /// A node's process died: it may know less when it comes back, its disk may not.
    pub fn died(&mut self, place: usize) {
        self.groups.died(place);
    }

    /// After a step of a node.
    pub fn check(&mut self, nodes: &[Node], place: usize) {
        let Some(life) = &nodes[place].life else { return };
        let states = life.shard.group_states();
        for state in states.into_iter().filter(|s| !self.recovered.contains(&s.group_id)) {
            self.sound(&state, place);
            if self.groups.check(nodes, place, &state) {
                self.applied += 1;
                if self.applied.is_multiple_of(SAMPLE) {
                    self.machines.check(&life.shard, state.group_id);
                }
            }
        }
    }

    /// Node ids of a group's voters.
    pub fn voters(&self, group: u32) -> &[u64] {
        self.groups.voters(group)
    }

    /// A member is refused by its peers for having gone back only if its disk did.
    fn sound(&self, state: &GroupState, place: usize) {
        let refused = state.phase() == multiraft_proto::v1::GroupPhase::RolledBack;
        assert!(
            !refused || self.set_back == Some(place),
            "[falsely refused] the member of group {} at place {place}, whose disk is sound: {state:?}",
            state.group_id
        );
    }

    /// After a sync, and when a process starts on its disk.
    pub fn check_disk(&mut self, node: &Node) {
        self.disks.check(node, &self.groups, &self.recovered);
    }

    /// Looks at all machines of a node.
    pub fn check_machines(&mut self, node: &Node, groups: u32) {
        let Some(life) = &node.life else { return };
        for group in 1..=groups {
            self.machines.check(&life.shard, group);
        }
    }

    pub fn elections(&self) -> u64 {
        self.groups.elections()
    }

    pub fn machines_compared(&self) -> u64 {
        self.machines.looked_at()
    }
}
