//! The log writer: one thread, one sync for every record that is queued. The sync in flight is
//! the batching window of the next records, so nothing waits on a timer.

use crate::inbox::{Inbox, Message};
use crate::limits::DISK_PERIOD;
use crate::measures::Histogram;
use crate::snapshots::Keeper;
use multiraft_log::{Entry, GroupRound, HardState, Log, LogError, PeerMemory, Round, StoredConfig};
use multiraft_shard::{GroupPersist, Input, NodeFacts, Persist};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Key of the node's facts among the log's small facts.
pub const FACTS: &str = "node-facts";

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
    pub disk_bytes: AtomicU64,
    pub disk_free_bytes: AtomicU64,
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

    /// Not knowing is no reason to stop: the figures stay as they were.
    fn look_at_disk(&self, log: &Log) {
        if let Ok(bytes) = log.disk_bytes() {
            self.disk_bytes.store(bytes, Relaxed);
        }
        if let Ok(bytes) = log.space() {
            self.disk_free_bytes.store(bytes, Relaxed);
        }
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
            let written = run(log, &q, &keeper, &inbox, &c);
            if let Err(e) = &written {
                inbox.push(Message::LogFailed(describe(e)));
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

fn run(
    mut log: Log,
    queue: &(Mutex<Queue>, Condvar),
    keeper: &Keeper,
    inbox: &Inbox,
    counters: &WriterCounters,
) -> Result<(), LogError> {
    let mut looked: Option<Instant> = None;
    loop {
        if looked.is_none_or(|at| at.elapsed() >= DISK_PERIOD) {
            looked = Some(Instant::now());
            counters.look_at_disk(&log);
        }
        let Some(records) = next(queue) else { return log.close() };
        if records.is_empty() {
            log.rest()?;
            continue;
        }
        let last = records.last().map_or(0, |r| r.round);
        for facts in records.iter().filter_map(|r| r.facts.as_ref()) {
            store_facts(&mut log, facts)?;
        }
        let forgotten: Vec<(u32, u64)> = records.iter().flat_map(forgotten).collect();
        let rounds: Vec<Round> = records.into_iter().map(to_round).collect();
        let started = Instant::now();
        let written = log.append(&rounds)?;
        counters.synced(started.elapsed());
        counters.records.fetch_add(written.records, Relaxed);
        counters.bytes.fetch_add(written.bytes, Relaxed);
        inbox.push(Message::Shard(Input::Persisted { round: last }));
        for (group, before) in forgotten {
            keeper.forget(group, before);
        }
    }
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
    if !facts.cluster_id.is_empty() {
        log.set_cluster(&facts.cluster_id)?;
    }
    Ok(())
}

/// Epoch (u64, big-endian), activated (u8), cluster id.
fn encode_facts(facts: &NodeFacts) -> Vec<u8> {
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
