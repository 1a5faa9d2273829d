//! The handle that services hold: every way into the node.

use crate::inbox::{Inbox, Message};
use crate::measures::{CallKind, CallMeasures, Measures, Verdict};
use crate::streams::{self, Calls as StreamCalls, Part};
use bytes::Bytes;
use multiraft_machine::{Answer, Query};
use multiraft_proto::v1;
use multiraft_shard::{
    AdminAnswer, AdminError, AdminErrorKind, AdminRequest, CallError, Consistency, Fence,
    GroupSpec, Input, List,
};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::{mpsc, oneshot, watch};

/// What the node as a whole is doing; drives the probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Opening the log, starting groups from disk.
    Starting,
    /// Serves peers and administration; clients get UNAVAILABLE until it is activated.
    Waiting,
    Serving,
    Stopping,
}

type CallResult = Result<Answer, CallError>;
type AdminResult = Result<AdminAnswer, AdminError>;

/// Where the answers of a call go.
enum Reply {
    One(oneshot::Sender<CallResult>),
    Stream { sender: streams::Sender, group: u32, began: bool },
}

/// Who waits for an answer, and since when.
struct Waiting<T> {
    reply: T,
    kind: CallKind,
    since: Instant,
}

/// Calls that wait, and how long those took that were answered. Measured under the one lock that an
/// answer takes anyway.
#[derive(Default)]
struct Calls {
    waiting: HashMap<u64, Waiting<Reply>>,
    admin: HashMap<u64, Waiting<oneshot::Sender<AdminResult>>>,
    measures: CallMeasures,
    /// For the loop: streams that were cut off.
    overran: Vec<Input>,
}

/// What the handles and the loop share.
pub(crate) struct Shared {
    pub inbox: Arc<Inbox>,
    pub phase: watch::Sender<Phase>,
    calls: Mutex<Calls>,
    next: AtomicU64,
}

impl Calls {
    fn answer(&mut self, call: u64, result: CallResult, now: Instant) {
        match self.waiting.entry(call) {
            Entry::Vacant(_) => {}
            Entry::Occupied(waiting) if matches!(waiting.get().reply, Reply::Stream { .. }) => {
                let part = result.map_or_else(Part::Broken, Part::Answer);
                self.stream(call, part, now);
            }
            Entry::Occupied(waiting) => {
                let Waiting { reply, kind, since } = waiting.remove();
                self.measures.record(kind, Verdict::of_call(&result), now.duration_since(since));
                if let Reply::One(reply) = reply {
                    // The client may have gone away meanwhile.
                    let _ = reply.send(result);
                }
            }
        }
    }

    /// Measured is what comes first: how long a stream lasts is its client's wish.
    fn stream(&mut self, call: u64, part: Part, now: Instant) {
        let Some(waiting) = self.waiting.get_mut(&call) else { return };
        let Reply::Stream { sender, group, began } = &mut waiting.reply else { return };
        if !std::mem::replace(began, true) {
            let (verdict, time) = (Verdict::of_part(&part), now.duration_since(waiting.since));
            self.measures.record(waiting.kind, verdict, time);
        }
        let last = streams::is_last(&part);
        let taken = sender.send(part);
        if !taken && !last {
            self.overran.push(Input::Abandon { call, group: *group, keeps: true });
        }
        if !taken || last {
            self.waiting.remove(&call);
        }
    }
}

impl Shared {
    pub fn new(inbox: Arc<Inbox>) -> Self {
        Shared {
            inbox,
            phase: watch::Sender::new(Phase::Starting),
            calls: Mutex::default(),
            next: AtomicU64::new(1),
        }
    }

    pub fn answer_calls(&self, answers: Vec<(u64, CallResult)>) {
        if answers.is_empty() {
            return;
        }
        let now = Instant::now();
        let mut calls = self.calls();
        for (call, result) in answers {
            calls.answer(call, result, now);
        }
        self.cut_off(calls);
    }

    fn cut_off(&self, mut calls: MutexGuard<'_, Calls>) {
        let overran = std::mem::take(&mut calls.overran);
        drop(calls);
        overran.into_iter().for_each(|input| self.inbox.push(Message::Shard(input)));
    }

    /// First parts of the answers to streaming queries.
    pub fn list(&self, lists: Vec<(u64, List)>) {
        if lists.is_empty() {
            return;
        }
        let now = Instant::now();
        let mut calls = self.calls();
        for (call, list) in lists {
            calls.stream(call, Part::List(Box::new(list)), now);
        }
        self.cut_off(calls);
    }

    /// The caller of a stream is gone; whether the loop has to hear of it.
    pub fn forget(&self, call: u64) -> bool {
        self.calls().waiting.remove(&call).is_some()
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long calls took, and how many wait.
    pub fn measured_calls(&self) -> (CallMeasures, usize) {
        let calls = self.calls();
        (calls.measures.clone(), calls.waiting.len() + calls.admin.len())
    }

    pub fn commands_answered(&self) -> u64 {
        self.calls().measures.answered(CallKind::Command)
    }

    pub fn answer_admin(&self, token: u64, result: Result<AdminAnswer, AdminError>) {
        let mut calls = self.calls();
        if let Some(Waiting { reply, kind, since }) = calls.admin.remove(&token) {
            calls.measures.record(kind, Verdict::of_admin(&result), since.elapsed());
            let _ = reply.send(result);
        }
    }
}

/// Cheap to clone; usable from any thread.
#[derive(Clone)]
pub struct Handle {
    pub(crate) shared: Arc<Shared>,
}

/// Tells the loop when the client of a call went away before its answer came.
struct Abandon<'a> {
    shared: &'a Shared,
    call: u64,
    group: u32,
    answered: bool,
}

impl Drop for Abandon<'_> {
    fn drop(&mut self) {
        if !self.answered {
            let (call, group) = (self.call, self.group);
            let mut calls = self.shared.calls();
            if let Some(Waiting { kind, since, .. }) = calls.waiting.remove(&call) {
                calls.measures.record(kind, Verdict::ABANDONED, since.elapsed());
            }
            drop(calls);
            self.shared.inbox.push(Message::Shard(Input::Abandon { call, group, keeps: false }));
        }
    }
}

impl Handle {
    async fn call(
        &self,
        kind: CallKind,
        group: u32,
        input: impl FnOnce(u64) -> Input,
    ) -> CallResult {
        let shared = &*self.shared;
        let call = shared.next.fetch_add(1, Relaxed);
        let (reply, answer) = oneshot::channel();
        let waiting = Waiting { reply: Reply::One(reply), kind, since: Instant::now() };
        shared.calls().waiting.insert(call, waiting);
        let mut abandon = Abandon { shared, call, group, answered: false };
        shared.inbox.push(Message::Shard(input(call)));
        let result = answer.await;
        abandon.answered = true;
        result.unwrap_or_else(|_| Err(CallError::Unavailable("the node is stopping".into())))
    }

    /// Proposes an encoded `PartitionInput` and waits for the machine's answer on this node.
    /// Dropping the future abandons the call: when `cancel` names its (session, sequence number),
    /// the command stops waiting.
    pub async fn command(
        &self,
        group: u32,
        input: Bytes,
        cancel: Option<(u64, u64)>,
    ) -> Result<Answer, CallError> {
        let input = |call| Input::Command { call, group, input, cancel };
        self.call(CallKind::Command, group, input).await
    }

    /// Calls whose answers come over one queue, which holds at most so many that wait.
    pub fn calls(&self, answers_max: usize) -> StreamCalls {
        StreamCalls::new(self.clone(), answers_max)
    }

    /// Begins a call of a queue; returns its number.
    pub(crate) fn begin(
        &self,
        kind: CallKind,
        group: u32,
        sender: streams::Sender,
        input: impl FnOnce(u64) -> Input,
    ) -> u64 {
        let call = self.shared.next.fetch_add(1, Relaxed);
        let reply = Reply::Stream { sender, group, began: false };
        let waiting = Waiting { reply, kind, since: Instant::now() };
        self.shared.calls().waiting.insert(call, waiting);
        self.shared.inbox.push(Message::Shard(input(call)));
        call
    }

    /// Asks the machine of a group.
    pub async fn query(
        &self,
        group: u32,
        query: Query,
        max_received_index: u64,
        consistency: Consistency,
    ) -> Result<Answer, CallError> {
        let streams = false;
        let input =
            |call| Input::Query { call, group, query, max_received_index, consistency, streams };
        self.call(CallKind::Query, group, input).await
    }

    /// Any administration call.
    pub async fn admin(&self, request: AdminRequest) -> Result<AdminAnswer, AdminError> {
        let token = self.shared.next.fetch_add(1, Relaxed);
        let (reply, answer) = oneshot::channel();
        let waiting = Waiting { reply, kind: CallKind::Administration, since: Instant::now() };
        self.shared.calls().admin.insert(token, waiting);
        self.shared.inbox.push(Message::Shard(Input::Admin { token, request }));
        answer.await.unwrap_or_else(|_| Err(stopping()))
    }

    /// Creates groups with their first configuration. Idempotent; durable when it returns.
    pub async fn bootstrap(
        &self,
        groups: Vec<GroupSpec>,
        fence: Option<Fence>,
    ) -> Result<(), AdminError> {
        self.admin(AdminRequest::Bootstrap { groups, fence }).await.map(drop)
    }

    /// Creates an empty learner here and asks the group's leader to add (and promote) it.
    pub async fn join(
        &self,
        group: GroupSpec,
        auto_promote: bool,
        fence: Option<Fence>,
    ) -> Result<(), AdminError> {
        self.admin(AdminRequest::Join { group, auto_promote, fence }).await.map(drop)
    }

    /// Hands leadership over, leaves the group and deletes its data here.
    pub async fn leave(&self, group: u32, fence: Option<Fence>) -> Result<(), AdminError> {
        self.admin(AdminRequest::Leave { group, fence }).await.map(drop)
    }

    /// Opens the node for clients, for good. `groups`: of the whole cluster; 0 = not told.
    pub async fn activate(&self, groups: u32, fence: Option<Fence>) -> Result<(), AdminError> {
        self.admin(AdminRequest::Activate { groups, fence }).await.map(drop)
    }

    /// Identity, groups, peers, counters.
    ///
    /// # Errors
    /// The node is stopping.
    pub async fn info(&self) -> Result<v1::GetInfoResponse, AdminError> {
        let (reply, answer) = oneshot::channel();
        self.shared.inbox.push(Message::Info(reply));
        answer.await.map_err(|_| stopping())
    }

    /// What the node measures of itself.
    ///
    /// # Errors
    /// The node is stopping.
    pub async fn measures(&self) -> Result<Measures, AdminError> {
        let (reply, answer) = oneshot::channel();
        self.shared.inbox.push(Message::Measures(reply));
        answer.await.map_err(|_| stopping())
    }

    /// The configuration of a group that this node is a member of.
    pub async fn config(&self, group: u32) -> Result<v1::GroupConfig, AdminError> {
        let (reply, answer) = oneshot::channel();
        self.shared.inbox.push(Message::Config { group, reply });
        answer.await.unwrap_or_else(|_| Err(stopping()))
    }

    /// host:port for clients of the node that leads a group, if one is known.
    pub async fn leader_address(&self, group: u32) -> Option<String> {
        let (reply, answer) = oneshot::channel();
        self.shared.inbox.push(Message::Leader { group, reply });
        answer.await.ok().flatten()
    }

    /// (raft index applied, hash of the machine) of a group: equal on members at the same index.
    pub async fn digest(&self, group: u32) -> Option<(u64, u64)> {
        let (reply, answer) = oneshot::channel();
        self.shared.inbox.push(Message::Digest { group, reply });
        answer.await.ok().flatten()
    }

    /// Snapshot, synced marker, then deltas and heartbeats (at most 5 s apart); empty `groups` = all.
    /// The channel closes when the subscriber is too slow or the node stops.
    pub fn watch(&self, groups: Vec<u32>) -> mpsc::Receiver<v1::Event> {
        let (events, receiver) = mpsc::channel(crate::limits::WATCH_EVENTS_MAX);
        self.shared.inbox.push(Message::Watch { groups, events });
        receiver
    }

    pub fn phase(&self) -> watch::Receiver<Phase> {
        self.shared.phase.subscribe()
    }
}

fn stopping() -> AdminError {
    AdminError::new(AdminErrorKind::Unavailable, "the node is stopping")
}
