//! Subscribers of one hot key: what they get and when, and what one that stops reading does to them.

mod etcd;
mod listener;
mod writer;

use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

use self::listener::{Listener, Shared, Tally, subscribe};
use self::writer::{MAP, Writer};
use super::{SETTLE_TIME, Suite};
use crate::lane::{Lane, Lanes};
use crate::probe;
use crate::processes::{Cluster, NODES};
use crate::session::Session;

const GROUP: u32 = 1;
/// A stream has room for 16,384 answers that wait: with so many streams, a second of the hot key.
const LANES_PER_NODE: usize = 4;
const SESSION_TIMEOUT: Duration = Duration::from_secs(60);
/// Nodes keep each output until a keep-alive acknowledges it.
const KEEP_ALIVE_PERIOD: Duration = Duration::from_secs(2);
const OPENED_AT_ONCE: usize = 64;
/// Subscriptions of the client that stops reading: its stream is full soon, and its session, which
/// keeps for it what it does not read, is not.
const STALLED: usize = 40;
/// HTTP/2's own: what waits in the window of a stream is no answer that waits in the node.
const STALLED_WINDOW_BYTES: u32 = 64 << 10;
const PATIENCE: Duration = Duration::from_secs(60);
const POLL_PERIOD: Duration = Duration::from_millis(100);

struct Scene {
    cluster: Cluster,
    lanes: Lanes,
    shared: Rc<Shared>,
    tally: Rc<Tally>,
    writer: Writer,
    listeners: Vec<Rc<Listener>>,
    tasks: Vec<AbortHandle>,
    /// MiB of the node that had most.
    peak: f64,
}

/// A client that may stop reading.
struct Client {
    lanes: Lanes,
    session: Rc<Session>,
    tally: Rc<Tally>,
    listeners: Vec<Rc<Listener>>,
    tasks: Vec<AbortHandle>,
}

impl Suite {
    pub(super) async fn subscribers(&mut self) -> anyhow::Result<()> {
        let count = self.arguments.subscribers;
        let (rate, name) = (self.arguments.subscriber_rate, format!("{count} subscribers"));
        let time = Duration::from_secs(self.arguments.subscriber_seconds);
        let [paced, fastest] = self.watched(count, [Some(rate), None], time).await?;

        let cluster = self.ours(GROUP, &[]).await?;
        sleep(SETTLE_TIME).await;
        let before = most(&cluster);
        self.row(format!("{name}: memory of a node before"), "MiB", before, None);
        let mut scene = Scene::open(cluster, count).await?;
        sleep(SETTLE_TIME).await;
        let memory = most(&scene.cluster);
        self.row(format!("{name}, idle: memory of a node"), "MiB", memory, None);

        let name_at = format!("{name}, {rate:.0} changes/s");
        let figures = scene.phase(Some(rate), time).await?;
        self.add(&name_at, &figures, Some(&paced));

        let stalled = Client::open(&scene).await?;
        let stream = stalled.lanes.all[0].stream().await;
        stream.read(false);
        let figures = scene.phase(Some(rate), time).await?;
        self.add(&format!("{name_at}, one stalled"), &figures, None);
        let read = stalled.tally.delivered.get();
        stream.read(true);
        scene.caught_up(&stalled.listeners).await.context("who stalled")?;
        if stream.has_ended() {
            eprintln!("the stream of the one that stalled ended: {}", stream.ended().await);
        }
        for (what, figure) in [
            ("streams of it that were cut off", f64::from(u8::from(stream.has_ended()))),
            ("events that it read while it stalled", read as f64),
            ("events that it has now, all of them in order", stalled.tally.delivered.get() as f64),
            ("events that it was sent again", stalled.tally.repeated.get() as f64),
        ] {
            self.row(format!("{name_at}, one stalled: {what}"), "", figure, None);
        }
        stalled.close().await;

        let figures = scene.phase(None, time).await?;
        self.add(&format!("{name}, as fast as they go"), &figures, Some(&fastest));
        for (what, figure) in [
            ("streams opened again", scene.lanes.reopened()),
            ("events sent again", scene.tally.repeated.get()),
        ] {
            self.row(format!("{name}: {what}"), "", figure as f64, None);
        }
        Ok(())
    }

    /// The same phases of etcd.
    async fn watched<const N: usize>(
        &self,
        count: usize,
        rates: [Option<f64>; N],
        time: Duration,
    ) -> anyhow::Result<[Figures; N]> {
        let cluster = self.etcd().await?;
        sleep(SETTLE_TIME).await;
        let watches = etcd::Watches::open(cluster, count).await?;
        let mut figures = [Figures::default(); N];
        for (figures, rate) in figures.iter_mut().zip(rates) {
            *figures = watches.phase(rate, time).await?;
        }
        Ok(figures)
    }

    fn add(&mut self, name: &str, ours: &Figures, peer: Option<&Figures>) {
        let figures: [Figure; 8] = [
            ("changes", "1/s", |f| f.changes),
            ("events", "1/s", |f| f.events),
            ("lag p50", "ms", |f| f.lags[0]),
            ("lag p99", "ms", |f| f.lags[1]),
            ("lag max", "ms", |f| f.lags[2]),
            ("CPU of all nodes", "µs/event", |f| f.servers * 1e6 / f.delivered),
            ("CPU of the clients", "µs/event", |f| f.own * 1e6 / f.delivered),
            ("memory of the largest node", "MiB", |f| f.memory),
        ];
        for (what, unit, of) in figures {
            self.row(format!("{name}: {what}"), unit, of(ours), peer.map(of));
        }
    }
}

/// Name, unit, and where it is found.
type Figure = (&'static str, &'static str, fn(&Figures) -> f64);

/// What a phase showed.
#[derive(Clone, Copy, Default)]
struct Figures {
    /// Per second.
    changes: f64,
    /// Per second.
    events: f64,
    /// p50, p99 and the highest, in ms.
    lags: [f64; 3],
    /// Seconds of CPU.
    servers: f64,
    own: f64,
    /// Events in all.
    delivered: f64,
    /// MiB.
    memory: f64,
}

impl Scene {
    async fn open(cluster: Cluster, count: usize) -> anyhow::Result<Self> {
        let lanes = Lanes::open(&cluster.endpoints, LANES_PER_NODE);
        let (shared, tally) = (Rc::<Shared>::default(), Tally::new()?);
        let writer = Writer::open(&cluster.endpoints, GROUP, shared.clone()).await?;
        let (mut listeners, mut tasks) = (Vec::new(), Vec::new());
        let numbers: Vec<usize> = (0..count).collect();
        for some in numbers.chunks(OPENED_AT_ONCE) {
            let open = |number: &usize| {
                let lane = lanes.all[number % lanes.all.len()].clone();
                tokio::task::spawn_local(open_session(lane))
            };
            for (number, opened) in
                some.iter().map(open).collect::<Vec<_>>().into_iter().enumerate()
            {
                let (session, primitive) = opened.await??;
                let listener = Listener::new(some[number], shared.clone(), tally.clone());
                let lane = session.lane.clone();
                let told = subscribe(lane, session, primitive, listener.clone());
                tasks.push(tokio::task::spawn_local(told).abort_handle());
                listeners.push(listener);
            }
        }
        let mut scene = Self { cluster, lanes, shared, tally, writer, listeners, tasks, peak: 0.0 };
        let listeners = scene.listeners.clone();
        scene.stand(&listeners).await?;
        Ok(scene)
    }

    /// Writes for a while; everybody has all of it in the end.
    async fn phase(&mut self, rate: Option<f64>, time: Duration) -> anyhow::Result<Figures> {
        self.tally.clear();
        self.peak = 0.0;
        let listeners = self.listeners.clone();
        let (servers, own) = (probe::cpu(&self.cluster.pids()), probe::own_cpu());
        let began = Instant::now();
        let puts = self.write(rate, time).await?;
        let wrote = began.elapsed().as_secs_f64();
        self.caught_up(&listeners).await?;
        let wall = began.elapsed().as_secs_f64();
        let (delivered, expected) = (self.tally.delivered.get(), puts * listeners.len() as u64);
        ensure!(delivered == expected, "{delivered} events of {expected}");
        Ok(Figures {
            changes: puts as f64 / wrote,
            events: delivered as f64 / wall,
            lags: self.tally.lags(),
            servers: probe::cpu(&self.cluster.pids()) - servers,
            own: probe::own_cpu() - own,
            delivered: delivered as f64,
            memory: self.peak,
        })
    }

    async fn write(&mut self, rate: Option<f64>, time: Duration) -> anyhow::Result<u64> {
        let writer = self.writer.clone();
        let mut wrote = std::pin::pin!(writer.write(rate, time));
        loop {
            tokio::select! {
                puts = &mut wrote => return puts,
                checked = self.look() => checked?,
            }
        }
    }

    /// Looks after the nodes for a moment.
    async fn look(&mut self) -> anyhow::Result<()> {
        self.cluster.check()?;
        self.peak = self.peak.max(most(&self.cluster));
        tokio::select! {
            what = self.shared.violation.wait() => bail!("{what}"),
            () = sleep(POLL_PERIOD) => Ok(()),
        }
    }

    async fn stand(&mut self, listeners: &[Rc<Listener>]) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !listeners.iter().all(|listener| listener.stands()) {
            ensure!(Instant::now() < deadline, "subscriptions do not begin");
            self.look().await?;
        }
        Ok(())
    }

    /// Waits until these have had every change.
    async fn caught_up(&mut self, listeners: &[Rc<Listener>]) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let last = self.shared.last();
        loop {
            let behind = listeners.iter().filter(|listener| listener.value() != last).count();
            if behind == 0 {
                return Ok(());
            }
            let late = Instant::now() > deadline;
            ensure!(!late, "{behind} subscribers lack events {PATIENCE:?} after the last change");
            self.look().await?;
        }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Client {
    /// Its events come over a stream of their own, its keep-alives go elsewhere: its session lives.
    async fn open(scene: &Scene) -> anyhow::Result<Self> {
        let lanes = Lanes::to(&scene.cluster.endpoints, [NODES - 1], STALLED_WINDOW_BYTES);
        let (session, primitive) = open_session(scene.lanes.all[0].clone()).await?;
        let tally = Tally::new()?;
        let mut client = Self { lanes, session, tally, listeners: Vec::new(), tasks: Vec::new() };
        for number in 0..STALLED {
            let listener = Listener::new(number, scene.shared.clone(), client.tally.clone());
            let (lane, session) = (client.lanes.all[0].clone(), client.session.clone());
            let told = subscribe(lane, session, primitive, listener.clone());
            client.tasks.push(tokio::task::spawn_local(told).abort_handle());
            client.listeners.push(listener);
        }
        let deadline = Instant::now() + PATIENCE;
        while !client.listeners.iter().all(|listener| listener.stands()) {
            ensure!(Instant::now() < deadline, "subscriptions do not begin");
            sleep(POLL_PERIOD).await;
        }
        Ok(client)
    }

    async fn close(self) {
        self.tasks.iter().for_each(AbortHandle::abort);
        // First: nobody is told any more that the session's streams end.
        drop(self.lanes);
        self.session.close().await;
    }
}

async fn open_session(lane: Rc<Lane>) -> anyhow::Result<(Rc<Session>, u64)> {
    let session = Session::open(lane, GROUP, SESSION_TIMEOUT, KEEP_ALIVE_PERIOD).await?;
    let primitive = session.attach(MAP, "hot").await?;
    Ok((session, primitive))
}

/// MiB of the largest node.
fn most(cluster: &Cluster) -> f64 {
    cluster.pids().iter().map(|pid| probe::memory(&[*pid])).fold(0.0, f64::max)
}
