//! A node: opens the log, starts the groups, runs the loop, stops in order.

use crate::handle::{Handle, Phase, Shared};
use crate::inbox::{Inbox, Message};
use crate::journal::Journal;
use crate::limits::HAND_OVER_TIME;
use crate::measures::{Depths, Measures, memory_bytes};
use crate::recover;
use crate::snapshots::Keeper;
use crate::watchers::Watchers;
use crate::writer::{CLUSTER_GROUPS, FACTS, Writer, decode_facts};
use multiraft_link::{LinkEvent, Links, Sink};
use multiraft_log::{FreshIdentity, Log, OpenError, Options as LogOptions, Reader, SnapshotError};
use multiraft_proto::v1;
use multiraft_shard::limits::TICK_MICROS;
use multiraft_shard::{
    AdminAnswer, AdminError, AdminErrorKind, AdminRequest, FetchEntries, Identity, Input,
    LinkCommand, Now, Outputs, Shard, Timing,
};
use multiraft_tls::{Mode, State, Tls};
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Key of the count of process starts among the log's small facts.
const BOOT: &str = "boot";

/// Where a node lives and how it keeps time.
#[derive(Clone, Debug)]
pub struct Options {
    pub data_dir: PathBuf,
    /// Bound by the caller, so that a port in use is found before anything is opened.
    pub advertise_host: String,
    pub client_port: u16,
    pub peer_port: u16,
    /// Version of this binary.
    pub version: String,
    pub election_timeout: Duration,
    pub heartbeat: Duration,
    /// A group's log is trimmed behind a snapshot when it has grown by this many bytes.
    pub snapshot_log_bytes: u64,
    /// How peers are spoken to.
    pub tls: Arc<Tls>,
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("open data directory")]
    Open(#[from] OpenError),
    /// The directory contradicts itself.
    #[error("data directory is damaged: {0}")]
    Damaged(String),
    #[error("store the count of starts")]
    Boot(#[source] multiraft_log::LogError),
    #[error("start a thread")]
    Thread(#[source] std::io::Error),
    #[error("draw random identity")]
    Random(#[source] getrandom::Error),
}

impl StartError {
    /// What is in the directory is not what was written there: a restart will not mend that.
    pub fn is_damage(&self) -> bool {
        match self {
            StartError::Open(e) => matches!(
                e,
                OpenError::Corrupt { .. }
                    | OpenError::Shortened { .. }
                    | OpenError::Snapshot(SnapshotError::Damaged { .. })
            ),
            StartError::Damaged(_) => true,
            StartError::Boot(_) | StartError::Thread(_) | StartError::Random(_) => false,
        }
    }
}

/// This node can no longer be trusted: it stopped acknowledging and must exit.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Broken(pub String);

/// A running node. Everything of it runs on the tokio runtime that started it, which must be a
/// `current_thread` one, and on the log writer's thread.
pub struct Node {
    handle: Handle,
    acceptor: JoinHandle<()>,
    stop: oneshot::Sender<()>,
    run: JoinHandle<Result<(), Broken>>,
}

impl Node {
    /// Opens the data directory, restarts every group on it, and begins to run.
    pub async fn start(options: Options, peers: TcpListener) -> Result<Node, StartError> {
        let fresh = FreshIdentity { node_id: random()?, incarnation: random()? };
        let (mut log, recovered) = Log::open(&options.data_dir, LogOptions::default(), fresh)?;
        let boot = next_boot(&recovered)?;
        log.put_meta(BOOT, &boot.to_be_bytes()).map_err(StartError::Boot)?;
        let mut facts = match recovered.meta.get(FACTS) {
            Some(bytes) => decode_facts(bytes)
                .ok_or_else(|| StartError::Damaged("the node's facts do not decode".into()))?,
            None => Default::default(),
        };
        if let Some(groups) = recovered.meta.get(CLUSTER_GROUPS) {
            let groups: Option<[u8; 4]> = groups[..].try_into().ok();
            facts.cluster_groups = groups.map(u32::from_be_bytes).ok_or_else(|| {
                StartError::Damaged("the number of the cluster's groups does not decode".into())
            })?;
        }
        let identity = Identity {
            node_id: recovered.identity.node_id,
            incarnation: recovered.identity.incarnation,
            boot,
            host: options.advertise_host.clone(),
            peer_port: options.peer_port,
            client_address: format!("{}:{}", options.advertise_host, options.client_port),
        };
        let clock = Clock { started: Instant::now() };
        let timing = timing(&options, &identity);
        let memory = recover::memory(&recovered);
        let mut shard = Shard::new(identity.clone(), facts, timing, memory, clock.now());
        shard.set_snapshot_log_bytes(options.snapshot_log_bytes);
        let reader = log.reader();
        let snapshots = log.snapshots();
        recover::groups(recovered, &reader, &snapshots, &mut shard)?;
        shard.start();

        let inbox = Arc::new(Inbox::default());
        let keeper = Keeper::start(identity.node_id, snapshots, options.tls.clone(), inbox.clone())
            .map_err(StartError::Thread)?;
        let writer =
            Writer::start(log, keeper.clone(), inbox.clone()).map_err(StartError::Thread)?;
        let shared = Arc::new(Shared::new(inbox.clone()));
        let sink = link_sink(inbox, Arc::downgrade(&keeper));
        let acceptor =
            tokio::spawn(multiraft_link::accept(peers, options.tls.clone(), sink.clone()));
        let (stop, stopped) = oneshot::channel();
        let event_loop = Loop {
            shard,
            writer,
            reader,
            keeper,
            links: Links::new(options.tls.clone(), sink),
            tls: options.tls,
            watchers: Watchers::new(),
            journal: Journal::new(identity.node_id),
            draining: false,
            full: false,
            shared: shared.clone(),
            identity,
            version: options.version,
            clock,
            broken: None,
        };
        let run = tokio::spawn(event_loop.run(stopped));
        Ok(Node { handle: Handle { shared }, acceptor, stop, run })
    }

    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Runs until `shutdown` or until the node is broken, then hands leaderships over, writes what
    /// is queued and closes the log. Bounded in time.
    pub async fn run_until(mut self, shutdown: impl Future<Output = ()>) -> Result<(), Broken> {
        tokio::select! {
            ended = &mut self.run => return ended.unwrap_or_else(|e| Err(Broken(e.to_string()))),
            () = shutdown => {}
        }
        self.handle.shared.phase.send_replace(Phase::Stopping);
        self.hand_over().await;
        // The loop may be gone already: then its result says why.
        let _ = self.stop.send(());
        let ended = self.run.await;
        self.acceptor.abort();
        ended.unwrap_or_else(|e| Err(Broken(e.to_string())))
    }

    async fn hand_over(&self) {
        let deadline = tokio::time::Instant::now() + HAND_OVER_TIME;
        while tokio::time::Instant::now() < deadline {
            match self.handle.admin(AdminRequest::HandOver).await {
                Ok(AdminAnswer::Led(groups)) if !groups.is_empty() => {}
                // All is handed over, or the loop is gone.
                _ => return,
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn random() -> Result<u64, StartError> {
    let number = getrandom::u64().map_err(StartError::Random)?;
    // Kept below 2^53 so that every JSON reader shows it exactly; never 0.
    Ok((number >> 11).max(1))
}

fn next_boot(recovered: &multiraft_log::Recovered) -> Result<u64, StartError> {
    let Some(bytes) = recovered.meta.get(BOOT) else { return Ok(1) };
    let number: [u8; 8] = bytes[..]
        .try_into()
        .map_err(|_| StartError::Damaged("the count of starts does not decode".into()))?;
    Ok(u64::from_be_bytes(number) + 1)
}

/// raft counts ticks; both times are whole ticks, the election timeout at least 5 heartbeats.
fn timing(options: &Options, identity: &Identity) -> Timing {
    let ticks = |d: Duration| ((d.as_micros() as u64) / TICK_MICROS).max(1) as usize;
    let heartbeat_ticks = ticks(options.heartbeat);
    let election_ticks = ticks(options.election_timeout).max(5 * heartbeat_ticks);
    let seed = identity.incarnation ^ identity.boot;
    Timing { election_ticks, heartbeat_ticks, seed }
}

fn link_sink(inbox: Arc<Inbox>, keeper: Weak<Keeper>) -> Sink {
    Arc::new(move |event| {
        inbox.push(Message::Shard(match event {
            LinkEvent::Opened { peer } => Input::LinkOpened { peer },
            LinkEvent::Closed { peer } => Input::LinkClosed { peer },
            LinkEvent::Frame(frame) => Input::Frame(frame),
            LinkEvent::Snapshot(incoming) => {
                // Connections may outlive the loop by a moment.
                if let Some(keeper) = keeper.upgrade() {
                    keeper.receive(incoming);
                }
                return;
            }
        }));
    })
}

struct Clock {
    started: Instant,
}

impl Clock {
    fn now(&self) -> Now {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now {
            micros: self.started.elapsed().as_micros() as u64,
            unix_millis: since_epoch.as_millis() as u64,
        }
    }
}

/// The loop that owns the shard.
struct Loop {
    shard: Shard,
    writer: Writer,
    reader: Reader,
    keeper: Arc<Keeper>,
    links: Links,
    tls: Arc<Tls>,
    watchers: Watchers,
    journal: Journal,
    /// As last logged.
    draining: bool,
    full: bool,
    shared: Arc<Shared>,
    identity: Identity,
    version: String,
    clock: Clock,
    broken: Option<Broken>,
}

impl Loop {
    async fn run(mut self, mut stopped: oneshot::Receiver<()>) -> Result<(), Broken> {
        let tick = Duration::from_micros(TICK_MICROS);
        let mut next = tokio::time::Instant::now() + tick;
        let mut messages = Vec::new();
        self.publish_phase();
        while self.broken.is_none() {
            if stopped.try_recv().is_ok() {
                break;
            }
            let until = if self.shard.is_busy() { tokio::time::Instant::now() } else { next };
            self.shared.inbox.wait(&mut messages, until).await;
            self.shard.set_time(self.clock.now());
            for message in messages.drain(..) {
                self.handle(message);
            }
            let now = tokio::time::Instant::now();
            if now >= next {
                self.shard.handle(Input::Tick);
                self.watchers.tick();
                self.journal.tick(|group| self.shard.member(group));
                next = now + tick;
            }
            let outputs = self.shard.round();
            self.carry_out(outputs);
            // Whoever was answered runs before the next round and may fill it.
            tokio::task::yield_now().await;
        }
        let closed = self.writer.close();
        match (self.broken, closed) {
            (Some(broken), _) => Err(broken),
            (None, Err(e)) => Err(Broken(format!("close the log: {e}"))),
            (None, Ok(())) => Ok(()),
        }
    }

    fn handle(&mut self, message: Message) {
        match message {
            Message::Shard(input) => self.shard.handle(input),
            Message::Info(reply) => {
                let _ = reply.send(self.info());
            }
            Message::Measures(reply) => {
                let _ = reply.send(self.measures());
            }
            Message::Config { group, reply } => {
                let config = self.shard.group_config(group).ok_or_else(|| {
                    AdminError::new(
                        AdminErrorKind::NotFound,
                        format!("group_id {group}: this node is no member of it"),
                    )
                });
                let _ = reply.send(config);
            }
            Message::Leader { group, reply } => {
                let config = self.shard.service_config(group);
                let _ = reply.send(config.map(|c| c.leader).filter(|leader| !leader.is_empty()));
            }
            Message::Digest { group, reply } => {
                let _ = reply.send(self.shard.digest(group));
            }
            Message::Watch { groups, events } => {
                let (states, peers) = (self.shard.group_states(), self.shard.peers());
                self.watchers.subscribe(groups, events, states, peers);
            }
            Message::Event { group, event } => self.watchers.publish(vec![(group, event)]),
            Message::LogFailed(reason) => {
                tracing::error!(
                    reason,
                    "the log cannot be written: nothing is acknowledged any more"
                );
                self.broken = Some(Broken(format!("write the log: {reason}")));
            }
        }
    }

    /// Frames first: peers work while our own disk syncs.
    fn carry_out(&mut self, outputs: Outputs) {
        if let Some(reason) = outputs.broken {
            self.broken = Some(Broken(reason));
            return;
        }
        for link in outputs.links {
            match link {
                LinkCommand::Dial { node, address } => self.links.dial(node, address),
                LinkCommand::Redial { node } => self.links.redial(node),
            }
        }
        for (node, frame) in outputs.frames {
            self.links.send(node, frame);
        }
        if let Some(record) = outputs.persist {
            self.writer.push(record);
        }
        self.shared.list(outputs.lists);
        self.shared.answer_calls(outputs.answers);
        let answered_admin = !outputs.admin.is_empty();
        for (token, result) in outputs.admin {
            self.shared.answer_admin(token, result);
        }
        for fetch in outputs.fetches {
            self.fetch(fetch);
        }
        for take in outputs.take_snapshots {
            self.keeper.take(take);
        }
        for send in outputs.send_snapshots {
            self.keeper.send(send);
        }
        self.log_changes();
        self.journal.note(&outputs.events, |group| self.shard.member(group));
        if !self.watchers.is_empty() {
            self.watchers.publish(outputs.events);
        }
        if answered_admin {
            self.publish_phase();
        }
    }

    /// Reads entries back for a member that lags, beside the loop.
    fn fetch(&self, fetch: FetchEntries) {
        let (reader, inbox) = (self.reader.clone(), self.shared.inbox.clone());
        tokio::task::spawn_blocking(move || {
            let FetchEntries { group, life, ticket, low, high, bytes_max } = fetch;
            match reader.read(group, low, high, bytes_max) {
                Ok(entries) => {
                    let entries = entries.into_iter().filter_map(recover::from_log).collect();
                    inbox.push(Message::Shard(Input::Fetched { group, life, ticket, entries }));
                }
                Err(e) => inbox.push(Message::LogFailed(format!("read group {group}: {e}"))),
            }
        });
    }

    fn publish_phase(&self) {
        let phase = if self.shard.facts().activated { Phase::Serving } else { Phase::Waiting };
        self.shared.phase.send_if_modified(|now| {
            let change = *now != phase && *now != Phase::Stopping;
            if change {
                *now = phase;
            }
            change
        });
    }

    fn log_changes(&mut self) {
        let full = self.shard.space_is_low();
        if std::mem::replace(&mut self.full, full) != full {
            match full {
                true => tracing::warn!("the disk is nearly full: operations are refused"),
                false => tracing::info!("the disk has space again"),
            }
        }
        let draining = self.shard.is_draining();
        if std::mem::replace(&mut self.draining, draining) != draining {
            match draining {
                true => tracing::info!("draining: leaderships go to other nodes"),
                false => tracing::info!("not draining any more"),
            }
        }
    }

    fn measures(&self) -> Measures {
        let (calls, waiting) = self.shared.measured_calls();
        Measures {
            info: self.info(),
            calls,
            syncs: self.writer.counters.syncs(),
            snapshots: self.keeper.measures(),
            tls: self.tls.state(),
            counters: self.shard.counters(),
            depths: Depths {
                calls: waiting,
                inbox: self.shared.inbox.len(),
                records: self.shard.unsynced_records(),
            },
        }
    }

    fn info(&self) -> v1::GetInfoResponse {
        let (facts, counters) = (self.shard.facts(), self.shard.counters());
        let writer = &self.writer.counters;
        v1::GetInfoResponse {
            node_id: self.identity.node_id,
            incarnation: self.identity.incarnation,
            cluster_id: facts.cluster_id.clone(),
            version: self.version.clone(),
            feature_level: 0,
            activated: facts.activated,
            cluster_groups: Some(facts.cluster_groups),
            operator_epoch: facts.operator_epoch,
            client_address: self.identity.client_address.clone(),
            peer_address: format!("{}:{}", self.identity.host, self.identity.peer_port),
            groups: self.shard.group_states(),
            peers: self.shard.peers(),
            space_low: self.shard.space_is_low(),
            free_bytes: writer.free_bytes.load(Relaxed),
            disk_bytes: writer.disk_bytes.load(Relaxed),
            stats: Some(v1::NodeStats {
                rounds: counters.rounds,
                syncs: writer.syncs.load(Relaxed),
                records: writer.records.load(Relaxed),
                entries: counters.entries,
                applied_items: counters.applied_items,
                log_bytes: writer.bytes.load(Relaxed),
                reads: counters.reads,
                read_rounds: counters.read_rounds,
                forwarded: counters.forwarded,
                sync_nanos: writer.sync_nanos.load(Relaxed),
                commands: self.shared.commands_answered(),
                memory_bytes: memory_bytes(),
            }),
            draining: self.shard.is_draining(),
            tls: Some(tls_info(&self.tls.state())),
        }
    }
}

/// TLS as GetInfo shows it.
fn tls_info(state: &State) -> v1::TlsInfo {
    let mode = match state.mode {
        Mode::Disabled => v1::TlsMode::Disabled,
        Mode::Permissive => v1::TlsMode::Permissive,
        Mode::Strict => v1::TlsMode::Strict,
    };
    v1::TlsInfo {
        mode: mode.into(),
        not_after: state.not_after,
        peer_not_after: state.peer_not_after,
        not_before: state.not_before,
        problem: state.problem.clone(),
        plain_clients: state.clients.plain,
        plain_peers: state.peers.plain + state.fallbacks,
    }
}
