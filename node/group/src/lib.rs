//! One Raft group around raft's `RawNode`: no IO, no clock, no randomness.
//!
//! raft's types stay inside this crate. Messages cross as bytes, entries as [`Entry`], and a
//! [`Ready`] says what to persist, send and apply, with the order in the comments of its fields.
//! Async Ready (raft thesis 10.2.1): a leader's messages leave before its own log is synced.

mod check;
mod entry;
mod limits;
mod member;
#[cfg(feature = "planted")]
pub mod planted;
mod quiet;
mod ready;
mod recover;
mod reluctance;
mod snapshot;
mod storage;

pub use entry::{Entry, EntryKind, HardState};
pub use limits::*;
pub use member::{Configuration, Member, Role};
pub use ready::{Committed, Envelope, Fetch, Installed, Persist, ReadState, Ready};
pub use snapshot::{SnapshotMark, SnapshotToSend};

use bytes::Bytes;
use prost011::Message as _;
use raft::eraftpb::{
    ConfChange, ConfChangeType, ConfState, HardState as RaftHardState, Message, MessageType,
};
use raft::{Config, RawNode, ReadOnlyOption, StateRole};
use reluctance::Reluctance;
use std::collections::VecDeque;
use storage::{LogStorage, WantedEntries};

/// Time in ticks, and the seed that replaces raft's thread-local randomness.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Least ticks without a leader before an election; the most is twice that.
    pub election_ticks: usize,
    pub heartbeat_ticks: usize,
    /// Election timeouts are a function of (seed, member, term), so that a run can be repeated
    /// (`reliability.md` P1).
    pub seed: u64,
}

/// What a member starts from: the durable part of its log, or a fresh configuration.
#[derive(Clone, Debug)]
pub struct Origin {
    pub member_id: u64,
    pub state: HardState,
    /// First index of the log and the term of the entry before it; (1, 0) for a fresh log.
    pub first: (u64, u64),
    pub last_index: u64,
    /// Runs of equal terms: (first index of the run, term), ascending.
    pub terms: Vec<(u64, u64)>,
    pub configuration: Configuration,
    /// The newest snapshot; without one the log begins at index 1.
    pub snapshot: Option<SnapshotMark>,
    /// Entries up to this index are applied to the machine already.
    pub applied: u64,
    /// Entries from `applied + 1` to `last_index`.
    pub tail: Vec<Entry>,
}

impl Origin {
    /// An empty log with a first configuration.
    pub fn fresh(member_id: u64, configuration: Configuration) -> Self {
        Origin {
            member_id,
            state: HardState::default(),
            first: (1, 0),
            last_index: 0,
            terms: Vec::new(),
            configuration,
            snapshot: None,
            applied: 0,
            tail: Vec::new(),
        }
    }
}

/// Why a proposal was not taken; nothing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    #[error("this member does not lead the group")]
    NotLeader,
    #[error("too many bytes are waiting to be committed")]
    Full,
    #[error("another configuration change is in flight")]
    ChangeInFlight,
}

/// A single-step change of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Adds the member, or changes its role: a learner becomes a voter.
    Put(Member),
    Remove {
        member_id: u64,
    },
}

/// A started group. All calls come from one owner; after any of them ask [`Group::has_ready`].
pub struct Group {
    node: RawNode<LogStorage>,
    member_id: u64,
    timing: Timing,
    configuration: Configuration,
    applied: u64,
    /// Messages that wait for an earlier or their own record: (ready number, wrote, messages).
    outstanding: VecDeque<(u64, bool, Vec<Message>)>,
    /// Highest (term, index) that this member acknowledged as durable in that term; after a start,
    /// what it may have acknowledged before.
    acknowledged: (u64, u64),
    /// A snapshot that was installed and is not recorded yet: (ready number, index).
    installing: Option<(u64, u64)>,
    /// A commit index that no record carries yet: it rides in the next one.
    state_changed: bool,
    /// What raft waits for, by the ticket that went out with the fetch.
    fetching: Option<(u64, WantedEntries)>,
    fetches: u64,
    reluctance: Option<Reluctance>,
    #[cfg(feature = "planted")]
    planted: Option<planted::Defect>,
}

impl Group {
    /// Starts a member. Panics only on a log that contradicts itself, which the log crate refuses.
    pub fn start(origin: Origin, timing: Timing) -> Self {
        let configuration = origin.configuration;
        let mut store = LogStorage::new(
            origin.state.to_raft(),
            conf_state(&configuration),
            origin.first,
            origin.last_index,
            origin.terms,
        );
        if let Some(mark) = origin.snapshot {
            store.set_snapshot(mark);
        }
        store.preload(origin.tail.into_iter().map(Entry::into_raft).collect());
        Group::over(store, origin.member_id, configuration, origin.applied, timing)
    }

    fn over(
        store: LogStorage,
        member_id: u64,
        configuration: Configuration,
        applied: u64,
        timing: Timing,
    ) -> Self {
        let config = Config {
            id: member_id,
            election_tick: timing.election_ticks,
            heartbeat_tick: timing.heartbeat_ticks,
            applied,
            pre_vote: true,
            check_quorum: true,
            read_only_option: ReadOnlyOption::Safe,
            max_size_per_msg: MESSAGE_BYTES_MAX,
            max_inflight_msgs: INFLIGHT_MESSAGES_MAX,
            max_uncommitted_size: UNCOMMITTED_BYTES_MAX,
            max_committed_size_per_ready: COMMITTED_BYTES_MAX,
            ..Default::default()
        };
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let mut node = RawNode::new(&config, store, &logger)
            .expect("the configuration is constant and the log was verified when it was opened");
        node.set_batch_append(true);
        let acknowledged = never_cut(&node);
        let mut group = Group {
            node,
            member_id,
            timing,
            configuration,
            applied,
            outstanding: VecDeque::new(),
            acknowledged,
            installing: None,
            state_changed: false,
            fetching: None,
            fetches: 0,
            reluctance: None,
            #[cfg(feature = "planted")]
            planted: None,
        };
        group.set_election_timeout();
        group
    }

    pub fn member_id(&self) -> u64 {
        self.member_id
    }

    pub fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    pub fn term(&self) -> u64 {
        self.node.raft.term
    }

    pub fn is_leader(&self) -> bool {
        self.node.raft.state == StateRole::Leader
    }

    /// Member id of the known leader; 0 = none.
    pub fn leader(&self) -> u64 {
        self.node.raft.leader_id
    }

    pub fn commit_index(&self) -> u64 {
        self.node.raft.raft_log.committed
    }

    pub fn applied_index(&self) -> u64 {
        self.applied
    }

    /// Index of the log's first entry, behind a snapshot.
    pub fn first_index(&self) -> u64 {
        self.node.raft.raft_log.first_index()
    }

    pub fn last_index(&self) -> u64 {
        self.node.raft.raft_log.last_index()
    }

    /// The durable (term, last index), which the handshake with a peer states.
    pub fn durable(&self) -> (u64, u64) {
        let term = self.node.store().state.term;
        // raft takes less for persisted while a snapshot is on its way to the disk.
        let (in_term, acknowledged) = self.acknowledged;
        let acknowledged = if in_term == term { acknowledged } else { 0 };
        (term, self.node.raft.raft_log.persisted.max(acknowledged))
    }

    /// What this member promised its group to hold, as (term, index): a disk that holds less went back.
    /// In a term a log is never cut below it; the rest of the log may be.
    pub fn promised(&self) -> (u64, u64) {
        match self.is_leader() {
            true => (self.term(), self.node.raft.raft_log.persisted),
            false => self.acknowledged,
        }
    }

    /// On the leader: (member id, matched index, heard of lately) for every other member.
    pub fn progress(&self) -> Vec<(u64, u64, bool)> {
        if !self.is_leader() {
            return Vec::new();
        }
        let mut all: Vec<_> =
            self.node.raft.prs().iter().map(|(id, p)| (*id, p.matched, p.recent_active)).collect();
        all.sort_unstable();
        all
    }

    /// On the leader: it has committed in its term, so it knows every earlier change.
    pub fn is_settled(&self) -> bool {
        self.is_leader()
            && self.node.raft.commit_to_current_term()
            && self.node.raft.apply_to_current_term()
    }

    pub fn cache_bytes(&self) -> usize {
        self.node.store().cache_bytes()
    }

    pub fn tick(&mut self) {
        if self.is_leader() || self.may_campaign() && !self.waits_as_reluctant() {
            self.node.tick();
            self.set_election_timeout();
        }
    }

    /// Whether nothing of this member waits for the disk. Its request for votes would wait there
    /// as well; and a single voter, which wins at once, must not lead on what may still be lost
    /// (raft 0.7 panics there).
    fn may_campaign(&self) -> bool {
        self.outstanding.is_empty()
    }

    pub fn campaign(&mut self) {
        if !self.may_campaign() {
            return;
        }
        // raft refuses when this member may not campaign (learner, pending change): nothing to do.
        let _ = self.node.campaign();
        self.set_election_timeout();
    }

    /// Takes a message of another member. Bytes that are no message are dropped and reported.
    /// A snapshot's message is refused here: it comes with its state, by [`Group::install`].
    /// `suspect`: the node of the leader that this member knows has been silent for too long to be
    /// protected from a candidate. (raft would judge by this group's clock, which may stand still.)
    pub fn step(&mut self, message: &[u8], suspect: bool) -> Result<Stepped, StepError> {
        let message = self.decode(message)?;
        self.check(&message)?;
        let leader = self.leader();
        let is_vote = is_vote_request(&message);
        let others = leader != 0 && leader != self.member_id;
        if is_vote && others && (suspect || leader == message.from) {
            self.forget_leader();
        }
        let forgot = leader != 0 && self.leader() == 0;
        self.note_candidate(&message);
        Ok(Stepped { is_vote, forgot_leader: forgot, ..self.take(message) })
    }

    fn decode(&self, message: &[u8]) -> Result<Message, StepError> {
        let message = Message::decode(message).map_err(|_| StepError::NotForUs)?;
        if message.to == self.member_id { Ok(message) } else { Err(StepError::NotForUs) }
    }

    fn take(&mut self, message: Message) -> Stepped {
        let stepped = Stepped {
            from: message.from,
            term: message.term,
            acknowledged: acknowledged_index(&message),
            is_vote: false,
            forgot_leader: false,
        };
        // A message that raft refuses (stale, unknown member) changes nothing.
        let _ = self.node.step(message);
        #[cfg(feature = "planted")]
        self.planted_commit();
        self.set_election_timeout();
        stepped
    }

    /// Proposes an entry of this leader.
    pub fn propose(&mut self, payload: Vec<u8>) -> Result<(), ProposeError> {
        if !self.is_leader() {
            return Err(ProposeError::NotLeader);
        }
        self.node.propose(Vec::new(), payload).map_err(|_| ProposeError::Full)
    }

    /// Proposes a change of the configuration; one at a time.
    pub fn propose_change(&mut self, change: &Change) -> Result<(), ProposeError> {
        if !self.is_leader() {
            return Err(ProposeError::NotLeader);
        }
        #[cfg(feature = "planted")]
        self.planted_change();
        if self.node.raft.has_pending_conf() {
            return Err(ProposeError::ChangeInFlight);
        }
        let mut cc = ConfChange::default();
        let mut context = Vec::new();
        match change {
            Change::Put(member) => {
                cc.node_id = member.member_id;
                cc.set_change_type(match member.role {
                    Role::Voter => ConfChangeType::AddNode,
                    Role::Learner => ConfChangeType::AddLearnerNode,
                });
                context = prost::Message::encode_to_vec(&member.to_wire());
            }
            Change::Remove { member_id } => {
                cc.node_id = *member_id;
                cc.set_change_type(ConfChangeType::RemoveNode);
            }
        }
        cc.context = context;
        self.node.propose_conf_change(Vec::new(), cc).map_err(|_| ProposeError::Full)
    }

    /// Hands leadership to a caught-up member; raft gives up after an election timeout.
    pub fn transfer(&mut self, member_id: u64) {
        self.node.transfer_leader(member_id);
    }

    /// Asks for a read index with an opaque context; false when raft would drop the request
    /// silently (no leader, or the leader has not committed in its term): ask again on a tick.
    pub fn read_index(&mut self, context: Vec<u8>) -> bool {
        let raft = &self.node.raft;
        if raft.leader_id == 0 || (self.is_leader() && !raft.commit_to_current_term()) {
            return false;
        }
        self.node.read_index(context);
        true
    }

    /// A member's node cannot be reached: stop streaming to it until it answers.
    pub fn unreachable(&mut self, member_id: u64) {
        if self.is_leader() {
            self.node.report_unreachable(member_id);
        }
    }

    /// Drops cached entries that are applied and durable while more than `bytes_max` are held.
    pub fn shrink_cache(&mut self, bytes_max: usize) {
        let upto = self.applied.min(self.node.raft.raft_log.persisted);
        self.node.mut_store().shrink_cache(upto, bytes_max);
    }

    fn set_election_timeout(&mut self) {
        let t = self.timing;
        let spread = mix(t.seed ^ mix(self.member_id) ^ self.node.raft.term) as usize;
        let ticks = t.election_ticks + spread % t.election_ticks;
        self.node.raft.set_randomized_election_timeout(ticks);
    }
}

/// What a message said, for the memory of each member's log that peers keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stepped {
    /// Member id of the sender.
    pub from: u64,
    /// Term that the sender had made durable before it sent.
    pub term: u64,
    /// Index that the sender acknowledged as durable in that term; 0 for a vote. `None` says
    /// nothing about the sender's disk, and then `term` means nothing either.
    pub acknowledged: Option<u64>,
    /// It asked for a vote or a pre-vote.
    pub is_vote: bool,
    /// The leader that was known before protects nobody from that vote.
    pub forgot_leader: bool,
}

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// The link is broken or hostile.
    #[error("not a message for this member")]
    NotForUs,
    /// This member's disk went back (raft 0.7 panics there).
    #[error("the leader knows of entries that this member acknowledged and does not have")]
    LogIsShort,
    /// The sender has entries as committed that this leader never had: a majority once held them,
    /// and a part of it lost them.
    #[error("the sender has committed what this leader never had")]
    LogsContradict,
}

/// (term, index) of that part of a log that its term cannot cut any more: all of it when its end is of
/// this term, for then it is a part of that leader's log; else what is committed.
fn never_cut(node: &RawNode<LogStorage>) -> (u64, u64) {
    let (term, log) = (node.raft.term, &node.raft.raft_log);
    let is_of_term = log.last_term() == term;
    (term, if is_of_term { log.last_index() } else { log.committed })
}

fn acknowledged_index(message: &Message) -> Option<u64> {
    match message.msg_type() {
        _ if message.reject => None,
        MessageType::MsgAppendResponse => Some(message.index),
        // The vote is durable, the log says nothing new. (A pre-vote is never durable.)
        MessageType::MsgRequestVoteResponse => Some(0),
        _ => None,
    }
}

fn is_vote_request(message: &Message) -> bool {
    matches!(message.msg_type(), MessageType::MsgRequestVote | MessageType::MsgRequestPreVote)
}

fn conf_state(configuration: &Configuration) -> ConfState {
    let ids = |role| {
        let of_role = configuration.members.iter().filter(move |m| m.role == role);
        of_role.map(|m| m.member_id).collect()
    };
    ConfState { voters: ids(Role::Voter), learners: ids(Role::Learner), ..Default::default() }
}

impl HardState {
    fn to_raft(self) -> RaftHardState {
        RaftHardState { term: self.term, vote: self.vote, commit: self.commit }
    }

    fn from_raft(state: &RaftHardState) -> Self {
        HardState { term: state.term, vote: state.vote, commit: state.commit }
    }
}

/// splitmix64's finalizer: spreads what is close together.
pub fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

pub(crate) fn encode(message: &Message) -> Bytes {
    Bytes::from(message.encode_to_vec())
}
