//! The log writer: one thread, one sync for every record that is queued. The sync in flight is
//! the batching window of the next records, so nothing waits on a timer.

use crate::inbox::{Inbox, Message};
use crate::limits::{HOUSEKEEPING, TRIM_COPY_BYTES};
use crate::measures::Histogram;
use crate::snapshots::Keeper;
use multiraft_log::{
    Copied, Entry, GroupRound, HardState, Log, LogError, PeerMemory, Round, Space, StoredConfig,
};
use multiraft_proto::v1::LogDbCompactedEvent;
use multiraft_proto::v1::event::Event;
use multiraft_shard::{GroupPersist, Input, NodeFacts, Persist};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Key of the node's facts among the log's small facts.
pub const FACTS: &str = "node-facts";
/// On its own: the release before reads the facts, too.
pub const CLUSTER_GROUPS: &str = "cluster-groups";

#[derive(Default)]
struct Queue {
    records: Vec<Persist>,
    closed: bool,
}

/// Counters of the writer since the start.
#[derive(Debug, Default)]
pub struct WriterCounters {
    pub syncs: AtomicU64,
    pub records: AtomicU64,
    pub bytes: AtomicU64,
    pub sync_nanos: AtomicU64,
    /// Locked once for each sync.
    pub sync_times: Mutex<Histogram>,
    /// Of the data directory's volume, and taken by the directory.
    pub free_bytes: AtomicU64,
    pub disk_bytes: AtomicU64,
}

impl WriterCounters {
    pub fn syncs(&self) -> Histogram {
        *self.sync_times.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn synced(&self, time: Duration) {
        self.sync_nanos.fetch_add(time.as_nanos() as u64, Relaxed);
        self.syncs.fetch_add(1, Relaxed);
        self.sync_times.lock().unwrap_or_else(PoisonError::into_inner).record(time);
    }
}

/// Sends records to the writer's thread.
pub struct Writer {
    queue: Arc<(Mutex<Queue>, Condvar)>,
    pub counters: Arc<WriterCounters>,
    thread: Option<JoinHandle<Result<(), LogError>>>,
}

impl Writer {
    /// Starts the thread. Durable records come back to the inbox; a failure comes back once, and
    /// nothing is acknowledged after it.
    pub fn start(log: Log, keeper: Arc<Keeper>, inbox: Arc<Inbox>) -> std::io::Result<Writer> {
        let queue = Arc::new((Mutex::new(Queue::default()), Condvar::new()));
        let counters = Arc::new(WriterCounters::default());
        let (q, c) = (queue.clone(), counters.clone());
        let thread = std::thread::Builder::new().name("log-writer".into()).spawn(move || {
            // Also when it panics: a node that cannot write must end.
            let mut failed = Failed { inbox: inbox.clone(), reason: "it panicked".into() };
            let writing = Writing::new(log, keeper, inbox, c);
            let written = writing.run(&q);
            match &written {
                Ok(()) => failed.reason.clear(),
                Err(e) => failed.reason = describe(e),
            }
            written
        })?;
        Ok(Writer { queue, counters, thread: Some(thread) })
    }

    pub fn push(&self, record: Persist) {
        let (queue, wake) = &*self.queue;
        queue.lock().unwrap_or_else(PoisonError::into_inner).records.push(record);
        wake.notify_one();
    }

    /// Writes what is queued and closes the log.
    pub fn close(mut self) -> Result<(), LogError> {
        let (queue, wake) = &*self.queue;
        queue.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        wake.notify_one();
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(closed)) => closed,
            // The panic was printed by its thread; the log's state is what the disk has.
            Some(Err(_)) | None => Ok(()),
        }
    }
}

/// Reports why the writer ended, unless all is well.
struct Failed {
    inbox: Arc<Inbox>,
    reason: String,
}

impl Drop for Failed {
    fn drop(&mut self) {
        if !self.reason.is_empty() {
            self.inbox.push(Message::LogFailed(std::mem::take(&mut self.reason)));
        }
    }
}

/// What the writer's thread works with.
struct Writing {
    log: Log,
    keeper: Arc<Keeper>,
    inbox: Arc<Inbox>,
    counters: Arc<WriterCounters>,
    /// First indexes that moved since rounds were deleted last.
    moved: BTreeMap<u32, u64>,
    trimming: Option<Step>,
    looked: Instant,
}

/// What a thread does for a trim, for which no record waits.
enum Step {
    Reading(JoinHandle<Result<Copied, LogError>>),
    Deleting(JoinHandle<Result<(), LogError>>),
}

impl Writing {
    fn new(
        log: Log,
        keeper: Arc<Keeper>,
        inbox: Arc<Inbox>,
        counters: Arc<WriterCounters>,
    ) -> Self {
        let (moved, looked) = (BTreeMap::new(), Instant::now());
        Writing { log, keeper, inbox, counters, moved, trimming: None, looked }
    }

    fn run(mut self, queue: &(Mutex<Queue>, Condvar)) -> Result<(), LogError> {
        self.look_at_space();
        loop {
            let Some(records) = next(queue) else { return self.close() };
            if records.is_empty() {
                self.log.rest()?;
            } else {
                self.write(records)?;
            }
            if self.looked.elapsed() >= HOUSEKEEPING {
                self.looked = Instant::now();
                self.begin_trim()?;
                self.look_at_space();
            }
            self.go_on_trimming()?;
        }
    }

    fn close(self) -> Result<(), LogError> {
        // The directory is free again when this returns.
        match self.trimming {
            Some(Step::Reading(thread)) => drop(thread.join()),
            Some(Step::Deleting(thread)) => drop(thread.join()),
            None => {}
        }
        self.log.close()
    }

    fn write(&mut self, records: Vec<Persist>) -> Result<(), LogError> {
        let last = records.last().map_or(0, |r| r.round);
        for facts in records.iter().filter_map(|r| r.facts.as_ref()) {
            store_facts(&mut self.log, facts)?;
        }
        let forgotten: Vec<(u32, u64)> = records.iter().flat_map(forgotten).collect();
        let parts = records.iter().flat_map(|r| &r.groups);
        self.moved.extend(parts.filter_map(|p| Some((p.group, p.first?.0))));
        let rounds: Vec<Round> = records.into_iter().map(to_round).collect();
        let started = Instant::now();
        let written = self.log.append(&rounds)?;
        let counters = &self.counters;
        counters.synced(started.elapsed());
        counters.records.fetch_add(written.records, Relaxed);
        counters.bytes.fetch_add(written.bytes, Relaxed);
        self.inbox.push(Message::Shard(Input::Persisted { round: last }));
        for (group, before) in forgotten {
            self.keeper.forget(group, before);
        }
        Ok(())
    }

    /// Begins to delete the rounds that no group needs, when that is worth it.
    fn begin_trim(&mut self) -> Result<(), LogError> {
        if self.trimming.is_none() && !self.moved.is_empty() && self.log.trimmable() {
            let trimming = self.log.begin_trim(TRIM_COPY_BYTES)?;
            let thread = trimming.and_then(|trimming| beside(|| trimming.read()));
            self.trimming = thread.map(Step::Reading);
        }
        Ok(())
    }

    fn go_on_trimming(&mut self) -> Result<(), LogError> {
        match self.trimming.take() {
            Some(Step::Reading(thread)) if thread.is_finished() => {
                if let Ok(copied) = thread.join() {
                    self.end_trim(copied)?;
                }
            }
            Some(Step::Deleting(thread)) if thread.is_finished() => {
                thread.join().unwrap_or(Ok(()))?;
            }
            working => self.trimming = working,
        }
        Ok(())
    }

    fn end_trim(&mut self, copied: Result<Copied, LogError>) -> Result<(), LogError> {
        let (trimmed, old_files) = self.log.end_trim(copied)?;
        if trimmed.rounds == 0 {
            return Ok(());
        }
        self.trimming = beside(|| old_files.delete()).map(Step::Deleting);
        tracing::debug!(rounds = trimmed.rounds, copied = trimmed.copied_bytes, "log trimmed");
        for (group, index) in std::mem::take(&mut self.moved) {
            let event = Event::LogdbCompacted(LogDbCompactedEvent { group_id: group, index });
            self.inbox.push(Message::Event { group, event });
        }
        Ok(())
    }

    fn look_at_space(&self) {
        // A volume that does not tell says so with every write soon enough.
        let Ok(Space { free, total }) = self.log.space() else { return };
        self.counters.free_bytes.store(free, Relaxed);
        if let Ok(taken) = self.log.disk_bytes() {
            self.counters.disk_bytes.store(taken, Relaxed);
        }
        self.inbox.push(Message::Shard(Input::Space { free, total }));
    }
}

/// Without a thread the work is left for the next trim, as when the thread panics.
fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<JoinHandle<T>> {
    std::thread::Builder::new().name("log-trimmer".into()).spawn(work).ok()
}

/// Snapshots that the log does without once the record is durable.
fn forgotten(record: &Persist) -> impl Iterator<Item = (u32, u64)> + '_ {
    record.groups.iter().filter_map(|part| part.snapshot.map(|before| (part.group, before)))
}

/// Everything that is queued; empty after a second of nothing; `None` when closed and drained.
fn next((queue, wake): &(Mutex<Queue>, Condvar)) -> Option<Vec<Persist>> {
    let mut guard = queue.lock().unwrap_or_else(PoisonError::into_inner);
    if guard.records.is_empty() && !guard.closed {
        let waited = wake.wait_timeout(guard, Duration::from_secs(1));
        guard = waited.unwrap_or_else(PoisonError::into_inner).0;
    }
    if guard.records.is_empty() && guard.closed {
        return None;
    }
    Some(std::mem::take(&mut guard.records))
}

fn store_facts(log: &mut Log, facts: &NodeFacts) -> Result<(), LogError> {
    log.put_meta(FACTS, &encode_facts(facts))?;
    if facts.cluster_groups != 0 {
        log.put_meta(CLUSTER_GROUPS, &facts.cluster_groups.to_be_bytes())?;
    }
    if !facts.cluster_id.is_empty() {
        log.set_cluster(&facts.cluster_id)?;
    }
    Ok(())
}

/// Epoch (u64, big-endian), activated (u8), cluster id.
pub fn encode_facts(facts: &NodeFacts) -> Vec<u8> {
    let mut bytes = facts.operator_epoch.to_be_bytes().to_vec();
    bytes.push(u8::from(facts.activated));
    bytes.extend(facts.cluster_id.as_bytes());
    bytes
}

/// Reads what [`encode_facts`] wrote; `None` when it is damaged.
pub fn decode_facts(bytes: &[u8]) -> Option<NodeFacts> {
    let (epoch, rest) = bytes.split_first_chunk::<8>()?;
    let (activated, cluster_id) = rest.split_first()?;
    Some(NodeFacts {
        cluster_id: std::str::from_utf8(cluster_id).ok()?.to_owned(),
        operator_epoch: u64::from_be_bytes(*epoch),
        activated: *activated == 1,
        cluster_groups: 0,
    })
}

fn to_round(record: Persist) -> Round {
    let peers = record.memory.into_iter().map(|m| PeerMemory {
        node: m.node,
        incarnation: m.incarnation,
        group: m.group,
        term: m.term,
        index: m.index,
    });
    Round {
        groups: record.groups.into_iter().map(to_group_round).collect(),
        peers: peers.collect(),
    }
}

fn to_group_round(part: GroupPersist) -> GroupRound {
    let state = part.state.map(|s| HardState { term: s.term, vote: s.vote, commit: s.commit });
    let config = part.configuration.map(|(applied, bytes)| StoredConfig { applied, bytes });
    let entries = part.entries.into_iter().map(|e| Entry {
        index: e.index,
        term: e.term,
        kind: e.kind.code(),
        data: e.data,
        context: e.context,
    });
    GroupRound {
        group: part.group,
        state,
        first: part.first,
        config,
        entries: entries.collect(),
        delete: part.delete,
    }
}

fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
