//! What goes into a shard and what comes out: plain data, so that a simulator can stand in for
//! the host.

use crate::{AdminError, CallError, Fence, GroupSpec, Wanted};
use bytes::Bytes;
use multiraft_group::{Entry, HardState};
use multiraft_machine::{Answer, Body, Machine, Output, Query, Status};
use multiraft_proto::v1::event::Event;
use multiraft_proto::v1::{CheckDisruptionResponse, ForceRecoverResponse, GroupConfig};

/// Identity of this node and of this life of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub node_id: u64,
    /// Drawn with the data directory.
    pub incarnation: u64,
    /// Counts the process starts on this directory.
    pub boot: u64,
    /// Host that peers and clients reach this node by.
    pub host: String,
    pub peer_port: u16,
    /// host:port for clients.
    pub client_address: String,
}

impl Identity {
    /// Names this life as the origin of log items: no two lives of any nodes share it.
    pub fn origin(&self) -> u64 {
        let x = self.node_id ^ self.boot.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (x ^ (x >> 27)).max(1)
    }
}

/// Both clocks of the host, read once per loop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Monotonic microseconds since any fixed point.
    pub micros: u64,
    /// Milliseconds since the Unix epoch: what log time is led to.
    pub unix_millis: u64,
}

/// The lasting facts of a node that are not a group's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// Empty until the first fenced call names it.
    pub cluster_id: String,
    /// Highest operator epoch ever accepted; 0 = never fenced.
    pub operator_epoch: u64,
    /// Open for clients.
    pub activated: bool,
    /// Groups of the whole cluster; 0 = nobody told.
    pub cluster_groups: u32,
}

#[derive(Debug)]
pub enum Input {
    /// Every [`crate::limits::TICK_MICROS`].
    Tick,
    /// Bytes from a peer's connection.
    Frame(Bytes),
    LinkOpened {
        peer: u64,
    },
    LinkClosed {
        peer: u64,
    },
    /// Every round up to this number is durable.
    Persisted {
        round: u64,
    },
    Fetched {
        group: u32,
        life: u64,
        ticket: u64,
        entries: Vec<Entry>,
    },
    /// Bytes that are free on the disk's volume, of those that it has; told every second.
    Space {
        free: u64,
        total: u64,
    },
    /// A snapshot that was asked for is durable and this large, or could not be written.
    SnapshotTaken {
        group: u32,
        life: u64,
        bytes: Option<u64>,
    },
    /// The transfer of a snapshot to a member ended.
    SnapshotSent {
        group: u32,
        member_id: u64,
        index: u64,
        arrived: bool,
    },
    /// A snapshot of another node is complete, verified and durable here. `message` is what raft
    /// on that node had to say with it.
    SnapshotReceived {
        from: u64,
        group: u32,
        index: u64,
        bytes: u64,
        message: Bytes,
        /// In a box: every input would be as large.
        machine: Box<Machine>,
    },
    /// A client's encoded `PartitionInput`; `cancel` = (session, sequence number) of a command.
    Command {
        call: u64,
        group: u32,
        input: Bytes,
        cancel: Option<(u64, u64)>,
    },
    Query {
        call: u64,
        group: u32,
        query: Query,
        max_received_index: u64,
        consistency: Consistency,
        /// Answered by a [`List`].
        streams: bool,
    },
    /// The client of a call went away. `keeps`: it may ask again for what a command brings.
    Abandon {
        call: u64,
        group: u32,
        keeps: bool,
    },
    Admin {
        token: u64,
        request: AdminRequest,
    },
}

/// Which state a query may be answered from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consistency {
    Linearizable,
    /// This node's own applied state, not older than `max_received_index`.
    Local,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminRequest {
    Bootstrap {
        groups: Vec<GroupSpec>,
        fence: Option<Fence>,
    },
    Join {
        group: GroupSpec,
        auto_promote: bool,
        fence: Option<Fence>,
    },
    Leave {
        group: u32,
        fence: Option<Fence>,
    },
    Activate {
        /// Groups of the whole cluster; 0 = not told.
        groups: u32,
        fence: Option<Fence>,
    },
    /// A change of the members or the leader of one group; `version` is what its configuration
    /// must have (0 = any).
    Change {
        group: u32,
        wanted: Wanted,
        version: u64,
        fence: Option<Fence>,
    },
    /// Starts or ends draining: every leadership goes to a caught-up member, and none is taken.
    Drain {
        drain: bool,
        fence: Option<Fence>,
    },
    /// The process is about to stop: as `Drain`, and nobody needs to prove anything.
    HandOver,
    /// `node` 0 = this one, `lag_max` 0 = the default.
    CheckDisruption {
        node: u64,
        lag_max: u64,
    },
    /// Makes this node's member the only voter of a group that lost its majority for good.
    ForceRecover {
        group: u32,
        member_id: u64,
        recovery: u64,
        version: u64,
        fence: Option<Fence>,
    },
    DeleteData {
        group: u32,
        member_id: u64,
        fence: Option<Fence>,
    },
    /// Only the check of a fence, before a change that goes through the log of a group.
    Fence {
        fence: Option<Fence>,
    },
}

/// What an administration call brings.
#[derive(Clone, Debug, PartialEq)]
pub enum AdminAnswer {
    Done,
    /// The configuration after a change.
    Configuration(GroupConfig),
    Leader {
        /// Node id.
        leader: u64,
        term: u64,
    },
    /// Groups that this node still leads.
    Led(Vec<u32>),
    Disruption(CheckDisruptionResponse),
    Recovered(ForceRecoverResponse),
}

/// What a round brought forth. Frames may leave before the record is durable: whatever must wait
/// for the disk is held back inside until [`Input::Persisted`].
#[derive(Debug, Default)]
pub struct Outputs {
    pub frames: Vec<(u64, Bytes)>,
    pub persist: Option<Persist>,
    pub answers: Vec<(u64, Result<Answer, CallError>)>,
    /// First answers to queries that stream, by call.
    pub lists: Vec<(u64, List)>,
    pub admin: Vec<(u64, Result<AdminAnswer, AdminError>)>,
    pub fetches: Vec<FetchEntries>,
    pub take_snapshots: Vec<TakeSnapshot>,
    pub send_snapshots: Vec<SendSnapshot>,
    pub links: Vec<LinkCommand>,
    /// (group, what happened).
    pub events: Vec<(u32, Event)>,
    /// A committed entry cannot be applied: this node can no longer be trusted and must stop.
    pub broken: Option<String>,
}

/// A view that a query is answered from, output by output ([`Machine::list`]). Holding it holds what
/// the machine has forgotten since.
#[derive(Clone, Debug)]
pub struct List {
    pub machine: Machine,
    pub query: Query,
    /// Further answers follow behind the list's outputs: what changed since.
    pub goes_on: bool,
}

impl List {
    /// An answer for each output, and a last one without an output unless the query goes on.
    pub fn answers(&self) -> impl Iterator<Item = Answer> + Send + '_ {
        let index = self.machine.index();
        let answer = move |body, last| {
            let (status, message) = (Status::Ok, String::new());
            let result = Ok(Output::Operation { sequence: 0, status, message, body, last });
            Answer { index, result }
        };
        // What cannot be listed was refused before there was a view.
        let outputs = self.machine.list(&self.query).into_iter().flatten();
        let end = (!self.goes_on).then(|| answer(Body::None, true));
        outputs.map(move |payload| answer(Body::Payload(payload), false)).chain(end)
    }
}

/// One record: everything of a round that must be durable together.
#[derive(Debug, Default)]
pub struct Persist {
    /// Counts 1, 2, …
    pub round: u64,
    pub facts: Option<NodeFacts>,
    pub groups: Vec<GroupPersist>,
    pub memory: Vec<Remembered>,
}

#[derive(Debug, Default)]
pub struct GroupPersist {
    pub group: u32,
    pub state: Option<HardState>,
    /// First index and the term of the entry before it, when a group is created, its log trimmed
    /// or restarted behind an installed snapshot.
    pub first: Option<(u64, u64)>,
    /// Once this is durable, snapshots of the group from before this index are not needed.
    pub snapshot: Option<u64>,
    /// (applied index, encoded configuration).
    pub configuration: Option<(u64, Bytes)>,
    /// Replaces any suffix of the log from the first entry's index on.
    pub entries: Vec<Entry>,
    /// Delete everything of the group before the rest of this record.
    pub delete: bool,
}

/// What a member of a peer acknowledged as durable to this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remembered {
    pub node: u64,
    pub incarnation: u64,
    pub group: u32,
    pub term: u64,
    pub index: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FetchEntries {
    pub group: u32,
    /// Names the member: when it has left, the answer is not for one that joins.
    pub life: u64,
    pub ticket: u64,
    pub low: u64,
    /// Exclusive.
    pub high: u64,
    pub bytes_max: usize,
}

/// Write this state as a snapshot; answer with [`Input::SnapshotTaken`] when it is durable.
#[derive(Clone, Debug)]
pub struct TakeSnapshot {
    pub group: u32,
    /// Names the member: when it has left, the answer is not for one that joins.
    pub life: u64,
    /// Index and term of the last entry that it contains.
    pub index: u64,
    pub term: u64,
    /// Encoded, as of that index.
    pub configuration: Bytes,
    pub machine: Machine,
}

/// Transfer a snapshot to a node; answer with [`Input::SnapshotSent`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendSnapshot {
    pub group: u32,
    pub node: u64,
    /// host:port of its peer port.
    pub address: String,
    /// Member id of the receiver.
    pub member_id: u64,
    pub index: u64,
    pub term: u64,
    /// To be handed in at the other end once the state is durable there.
    pub message: Bytes,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkCommand {
    /// Keep a connection to the node, at this address from now on.
    Dial { node: u64, address: String },
    /// Drop the connection and make it anew.
    Redial { node: u64 },
}
