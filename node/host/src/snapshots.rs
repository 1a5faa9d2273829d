//! Snapshots beside the loop: written by a thread of low priority, sent and received by tasks that
//! leave everything that blocks to other threads.

use crate::inbox::{Inbox, Message};
use crate::limits::{SNAPSHOT_READ_BYTES, SNAPSHOTS_RECEIVED_AT_ONCE};
use crate::measures::SnapshotMeasures;
use multiraft_link::{Incoming, Offer, Outgoing};
use multiraft_log::{SnapshotError, SnapshotId, Snapshots};
use multiraft_machine::{Machine, Restore, RestoreError};
use multiraft_proto::v1::event::Event;
use multiraft_proto::v1::{ConnectionEstablishedEvent, ConnectionFailedEvent, ConnectionInfo};
use multiraft_proto::v1::{SnapshotCompactedEvent, event};
use multiraft_shard::{Input, SendSnapshot, TakeSnapshot};
use multiraft_tls::Tls;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Instant;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

/// Work of the snapshot thread.
enum Job {
    Take(Box<TakeSnapshot>),
    /// Remove the snapshots of a group from before an index.
    Forget {
        group: u32,
        before: u64,
    },
}

#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    #[error(transparent)]
    File(#[from] SnapshotError),
    #[error(transparent)]
    Connection(#[from] std::io::Error),
    #[error("snapshot does not restore: {0}")]
    Restore(#[from] RestoreError),
    #[error("it is meant for node {0}")]
    NotForUs(u64),
    #[error("a thread ended early: {0}")]
    Thread(#[from] tokio::task::JoinError),
}

/// All that happens to snapshot files while the node runs. Dropping it gives up the snapshot that is
/// being written and waits for the thread.
pub struct Keeper {
    node_id: u64,
    files: Snapshots,
    tls: Arc<Tls>,
    inbox: Arc<Inbox>,
    jobs: Option<mpsc::Sender<Job>>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    receiving: Semaphore,
    measures: Arc<Mutex<SnapshotMeasures>>,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stopping.store(true, Relaxed);
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic there was printed; nothing of it matters any more.
            let _ = thread.join();
        }
    }
}

impl Keeper {
    /// Starts the thread.
    pub fn start(
        node_id: u64,
        files: Snapshots,
        tls: Arc<Tls>,
        inbox: Arc<Inbox>,
    ) -> std::io::Result<Arc<Keeper>> {
        let (jobs, queue) = mpsc::channel();
        let stopping = Arc::new(AtomicBool::new(false));
        let measures = Arc::new(Mutex::default());
        let worker = Worker {
            files: files.clone(),
            inbox: inbox.clone(),
            stopping: stopping.clone(),
            measures: measures.clone(),
        };
        let thread = std::thread::Builder::new().name("snapshots".into()).spawn(move || {
            // Commands go first; failing to step back is no reason to do without snapshots.
            let _ = rustix::process::nice(10);
            worker.work(&queue);
        })?;
        let (jobs, thread) = (Some(jobs), Some(thread));
        let receiving = Semaphore::new(SNAPSHOTS_RECEIVED_AT_ONCE);
        Ok(Arc::new(Keeper {
            node_id,
            files,
            tls,
            inbox,
            jobs,
            stopping,
            thread,
            receiving,
            measures,
        }))
    }

    pub fn measures(&self) -> SnapshotMeasures {
        *self.measures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn measure(&self, change: impl FnOnce(&mut SnapshotMeasures)) {
        change(&mut self.measures.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub fn take(&self, take: TakeSnapshot) {
        self.push(Job::Take(Box::new(take)));
    }

    pub fn forget(&self, group: u32, before: u64) {
        self.push(Job::Forget { group, before });
    }

    fn push(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            // The thread lives as long as this sender.
            let _ = jobs.send(job);
        }
    }

    /// Sends a snapshot and reports how that ended.
    pub fn send(self: &Arc<Self>, send: SendSnapshot) {
        let keeper = self.clone();
        tokio::spawn(async move {
            let SendSnapshot { group, node, member_id, index, ref address, .. } = send;
            let started = Instant::now();
            let result = keeper.transfer(&send).await;
            let bytes = result.as_ref().ok().copied();
            keeper.measure(|m| m.sent.record(bytes, started.elapsed()));
            if let Err(e) = &result {
                tracing::warn!(group, index, to = node, error = %e, "snapshot was not sent");
                let info = Some(ConnectionInfo { address: address.clone(), snapshot: true });
                keeper.tell(Event::ConnectionFailed(ConnectionFailedEvent { info }));
            }
            let arrived = result.is_ok();
            let sent = Input::SnapshotSent { group, member_id, index, arrived };
            keeper.inbox.push(Message::Shard(sent));
        });
    }

    fn tell(&self, event: event::Event) {
        self.inbox.push(Message::Event { group: 0, event });
    }

    /// Bytes that were sent.
    async fn transfer(&self, send: &SendSnapshot) -> Result<u64, TransferError> {
        let SendSnapshot { group, index, term, .. } = *send;
        let (id, files) = (SnapshotId { group, index, term }, self.files.clone());
        let file = Arc::new(spawn_blocking(move || files.open_raw(id)).await??);
        let (length, crc) = (file.length(), file.crc());
        let (from, to, message) = (self.node_id, send.node, send.message.clone());
        let offer = Offer { from, to, group, index, term, length, crc, message };
        let mut peer = Outgoing::offer(&send.address, &self.tls, &offer).await?;
        let info = Some(ConnectionInfo { address: send.address.clone(), snapshot: true });
        self.tell(Event::ConnectionEstablished(ConnectionEstablishedEvent { info }));
        let mut offset = peer.offset;
        while offset < length {
            let file = file.clone();
            let read = move || file.read_at(offset, SNAPSHOT_READ_BYTES);
            let bytes = spawn_blocking(read).await??;
            peer.send(&bytes).await?;
            offset += bytes.len() as u64;
        }
        peer.finish().await?;
        tracing::debug!(group, index, to, bytes = length, "snapshot sent");
        Ok(length)
    }

    /// Receives what a peer offers, and hands it to the loop when it is whole and durable.
    pub fn receive(self: Arc<Self>, incoming: Incoming) {
        let keeper = self;
        tokio::spawn(async move {
            let Offer { from, group, index, .. } = incoming.offer;
            let (started, length) = (Instant::now(), incoming.offer.length);
            let result = keeper.take_in(incoming).await;
            let bytes = result.is_ok().then_some(length);
            keeper.measure(|m| m.received.record(bytes, started.elapsed()));
            if let Err(e) = result {
                tracing::warn!(group, index, from, error = %e, "snapshot was not received");
            }
        });
    }

    async fn take_in(&self, mut peer: Incoming) -> Result<(), TransferError> {
        let Offer { from, to, group, index, term, length, crc, .. } = peer.offer;
        if to != self.node_id {
            peer.refuse().await?;
            return Err(TransferError::NotForUs(to));
        }
        let _turn = self.receiving.acquire().await;
        let (id, files) = (SnapshotId { group, index, term }, self.files.clone());
        let mut file = spawn_blocking(move || files.receive(id, length, crc)).await??;
        let mut offset = file.offset();
        peer.begin(offset).await?;
        while offset < length {
            let bytes = peer.receive(SNAPSHOT_READ_BYTES).await?;
            let count = bytes.len() as u64;
            let written = spawn_blocking(move || file.write_at(offset, &bytes).map(|()| file));
            file = written.await??;
            offset += count;
        }
        let files = self.files.clone();
        let restored = spawn_blocking(move || {
            file.finish()?;
            restore(&files, id).map(|(machine, _)| machine)
        });
        let machine = match restored.await? {
            Ok(machine) => machine,
            Err(e) => {
                peer.finish(false).await?;
                return Err(e);
            }
        };
        let (message, machine) = (peer.offer.message.clone(), Box::new(machine));
        let received =
            Input::SnapshotReceived { from, group, index, bytes: length, message, machine };
        self.inbox.push(Message::Shard(received));
        peer.finish(true).await?;
        tracing::debug!(group, index, from, bytes = length, "snapshot received");
        Ok(())
    }
}

/// Reads a snapshot back: the machine and the configuration stored with it.
pub fn restore(
    files: &Snapshots,
    id: SnapshotId,
) -> Result<(Machine, bytes::Bytes), TransferError> {
    let chunks = files.open(id)?;
    let configuration = chunks.configuration();
    let mut restore = Restore::new();
    for chunk in chunks {
        restore.push(chunk?)?;
    }
    Ok((restore.finish()?, configuration))
}

/// What the snapshot thread works with.
struct Worker {
    files: Snapshots,
    inbox: Arc<Inbox>,
    stopping: Arc<AtomicBool>,
    measures: Arc<Mutex<SnapshotMeasures>>,
}

impl Worker {
    fn work(&self, queue: &mpsc::Receiver<Job>) {
        while let Ok(job) = queue.recv() {
            if self.stopping.load(Relaxed) {
                return;
            }
            match job {
                Job::Take(take) => {
                    let (group, life, index) = (take.group, take.life, take.index);
                    let started = Instant::now();
                    let written = self.write(*take).unwrap_or_else(|e| {
                        tracing::warn!(group, index, error = %e, "snapshot was not written");
                        None
                    });
                    let mut measures = self.measures.lock().unwrap_or_else(PoisonError::into_inner);
                    measures.taken.record(written, started.elapsed());
                    drop(measures);
                    let taken = Input::SnapshotTaken { group, life, bytes: written };
                    self.inbox.push(Message::Shard(taken));
                }
                Job::Forget { group, before } => self.forget(group, before),
            }
        }
    }

    /// Bytes written; `None` when the node stops.
    fn write(&self, take: TakeSnapshot) -> Result<Option<u64>, SnapshotError> {
        let TakeSnapshot { group, index, term, configuration, machine, .. } = take;
        let mut file = self.files.create(SnapshotId { group, index, term }, &configuration)?;
        for chunk in machine.snapshot() {
            if self.stopping.load(Relaxed) {
                return Ok(None);
            }
            file.push(&chunk)?;
        }
        Ok(Some(file.finish()?.bytes))
    }

    fn forget(&self, group: u32, before: u64) {
        match self.files.remove_before(group, before) {
            Ok(removed) => {
                for index in removed {
                    let event = SnapshotCompactedEvent { group_id: group, index };
                    let event = Event::SnapshotCompacted(event);
                    self.inbox.push(Message::Event { group, event });
                }
            }
            // It costs space, and the next start tries again.
            Err(e) => tracing::warn!(group, error = %e, "old snapshot was not removed"),
        }
    }
}
