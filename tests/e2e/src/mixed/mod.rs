//! Clients that use every kind of primitive beside the counters, with streams on them: what they saw
//! is judged in one place ([`judge`]).

mod judge;
mod keyed;
mod locks;
mod single;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;
use futures::StreamExt;
use multiraft_client::{Answer, Change, Cluster, Error, Status, Stream, Version, Versioned};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use judge::{Kind, Outcome, Seen, Told};
use locks::Grant;

/// Clients of each primitive.
const CLIENTS: usize = 2;

/// Between two calls of a client: the load beside them is what drives the nodes.
const PAUSE: Duration = Duration::from_millis(60);

/// Calls that each client makes, however soon the load ends.
const FLOOR: usize = 5;

/// Keys of each primitive.
const KEYS: u32 = 4;

/// A stream that has not told what it must after so long fails the test.
const PATIENCE: Duration = Duration::from_secs(90);

/// How clients use a kind of primitive.
trait Used: Kind + 'static {
    /// Whether its stream tells the newest of several changes only.
    const SKIPS: bool;
    type Handle: Send + Sync + 'static;

    fn handle(cluster: &Cluster, name: &str) -> Self::Handle;

    fn draw(rng: &mut Rng, draw: Draw) -> Self::Call;

    /// Calls whose last in each partition changes something for certain, when nobody else calls.
    fn last(value: u64) -> Vec<Self::Call>;

    fn ask(
        handle: &Self::Handle,
        call: &Self::Call,
    ) -> impl Future<Output = Result<Answer<Self::Output>, Error>> + Send;

    fn stream(
        handle: &Self::Handle,
    ) -> impl Future<Output = Result<Stream<Self::Event>, Error>> + Send;
}

/// What a call may have in it.
#[derive(Clone, Copy)]
struct Draw {
    /// Of no other call.
    value: u64,
    /// Of the client's last write, or any.
    version: Option<Version>,
}

/// What happened to one kind of primitive.
#[derive(Clone, Debug)]
pub struct Happened {
    pub kind: &'static str,
    /// Calls that were answered; grants of a lock.
    pub calls: u64,
    /// What streams told.
    pub events: u64,
}

/// Clients at work.
pub struct Mixed {
    stop: Arc<AtomicBool>,
    kinds: Vec<JoinHandle<Happened>>,
    locks: Vec<JoinHandle<Vec<Grant>>>,
    clusters: Vec<Cluster>,
}

impl Mixed {
    /// Starts clients with these connections; nothing of that name was used before.
    pub async fn start(clusters: Vec<Cluster>, name: &str, epoch: Instant) -> Self {
        let map = of_kind::<keyed::Entries>(name);
        for cluster in &clusters {
            // A session in every group: their number changes no more.
            cluster.map(&map).size().await.expect("all groups answer");
        }
        let stop = Arc::new(AtomicBool::new(false));
        let grants = |cluster| locks::contend(cluster, name, epoch, &stop);
        let locks = clusters.iter().map(grants).collect();
        let used = Using { clusters: clusters.clone(), name, epoch, stop: &stop };
        let kinds = vec![
            used.begin::<keyed::Entries>().await,
            used.begin::<keyed::Numbers>().await,
            used.begin::<keyed::Multi>().await,
            used.begin::<keyed::Indexed>().await,
            used.begin::<single::Elements>().await,
            used.begin::<single::Single>().await,
            used.begin::<single::Candidates>().await,
        ];
        Self { stop, kinds, locks, clusters }
    }

    /// Connections that a start wants.
    pub const CLUSTERS: usize = CLIENTS;

    /// Ends the clients and checks all that they saw.
    pub async fn check(self) -> Vec<Happened> {
        self.stop.store(true, Ordering::Relaxed);
        let mut grants = Vec::new();
        for task in self.locks {
            grants.extend(task.await.expect("every call on the lock is answered"));
        }
        let mut all = vec![Happened { kind: "lock", calls: locks::judge(grants), events: 0 }];
        for task in self.kinds {
            all.push(task.await.expect("every call is answered, and all fits"));
        }
        for cluster in self.clusters {
            cluster.close().await;
        }
        all
    }
}

/// What is the same for all kinds.
struct Using<'a> {
    clusters: Vec<Cluster>,
    name: &'a str,
    epoch: Instant,
    stop: &'a Arc<AtomicBool>,
}

impl Using<'_> {
    /// Starts the clients of a kind and its stream, which is open then; in the end they are judged.
    async fn begin<K: Used>(&self) -> JoinHandle<Happened> {
        let name = of_kind::<K>(self.name);
        let (epoch, stop) = (self.epoch, self.stop.clone());
        let handles: Vec<_> = self.clusters.iter().map(|c| K::handle(c, &name)).collect();
        let stream = K::stream(&handles[0]).await.expect("a stream is opened");
        let opened = nanos(epoch);
        let (end, ends) = watch::channel(None);
        let stream = tokio::spawn(listen(stream, opened, K::SKIPS, ends));
        tokio::spawn(async move {
            let clients = handles.into_iter().zip(0..).map(|(handle, number)| {
                tokio::spawn(work::<K>(handle, number, epoch, stop.clone()))
            });
            let clients: Vec<_> = clients.collect();
            let (mut seen, mut last) = (Vec::new(), None);
            for client in clients {
                let (handle, own) = client.await.expect("every call is answered");
                seen.extend(own);
                last = Some(handle);
            }
            let handle = last.expect("there are clients");
            let mut ends: Vec<(u32, u64)> = Vec::new();
            for call in K::last(u64::MAX) {
                let one = ask::<K>(&handle, call, epoch).await;
                ends.retain(|(partition, _)| *partition != one.partition);
                ends.push((one.partition, one.index));
                seen.push(one);
            }
            end.send_replace(Some(ends));
            let told = stream.await.expect("a stream tells all in time");
            let events = told.events.len() as u64;
            judge::judge(&seen, &[told]);
            Happened { kind: K::NAME, calls: seen.len() as u64, events }
        })
    }
}

/// Calls until it is told to stop.
async fn work<K: Used>(
    handle: K::Handle,
    number: u64,
    epoch: Instant,
    stop: Arc<AtomicBool>,
) -> (K::Handle, Vec<Seen<K>>) {
    let mut rng = Rng::with_seed(number);
    let (mut seen, mut newest) = (Vec::new(), None);
    while !stop.load(Ordering::Relaxed) || seen.len() < FLOOR {
        let value = number << 32 | seen.len() as u64;
        let version = newest.filter(|_| rng.bool());
        let call = K::draw(&mut rng, Draw { value, version });
        let one = ask::<K>(&handle, call, epoch).await;
        if one.answer.is_ok() && !K::is_read(&one.call) {
            newest = Some(Version(one.index));
        }
        seen.push(one);
        tokio::time::sleep(PAUSE).await;
    }
    (handle, seen)
}

async fn ask<K: Used>(handle: &K::Handle, call: K::Call, epoch: Instant) -> Seen<K> {
    let started = nanos(epoch);
    let (partition, index, answer): (u32, u64, Outcome<K>) = match K::ask(handle, &call).await {
        Ok(answer) => (answer.partition, answer.index, Ok(answer.value)),
        Err(Error::Rejected(why)) => (why.partition, why.index, Err(why.status)),
        Err(error) => panic!("{call:?} of a {} is retried to an answer: {error}", K::NAME),
    };
    Seen { started, ended: nanos(epoch), partition, index, call, answer }
}

/// Takes what a stream tells, until that has come to the (partition, index) that are its end.
async fn listen<E: Send>(
    mut stream: Stream<E>,
    opened: u64,
    skips: bool,
    mut ends: watch::Receiver<Option<Vec<(u32, u64)>>>,
) -> Told<E> {
    let mut told = Told { opened, skips, events: Vec::new() };
    let mut ended: Option<(Vec<(u32, u64)>, tokio::time::Instant)> = None;
    loop {
        if let Some((ends, _)) = &mut ended {
            let is_told = |&(partition, index): &(u32, u64)| {
                told.events.iter().any(|(of, at, _)| *of == partition && *at >= index)
            };
            if ends.iter().all(is_told) {
                return told;
            }
        }
        let late = ended.as_ref().map(|(_, began)| *began + PATIENCE);
        tokio::select! {
            event = stream.next() => {
                let Answer { value, partition, index } =
                    event.expect("a stream does not end").expect("a stream goes on");
                told.events.push((partition, index, value));
            }
            changed = ends.changed(), if ended.is_none() => {
                changed.expect("it is told of the end");
                let now = tokio::time::Instant::now();
                ended = ends.borrow().clone().map(|ends| (ends, now));
            }
            () = tokio::time::sleep_until(late.unwrap_or_else(tokio::time::Instant::now)),
                if late.is_some() => panic!("a stream is late: {ended:?}"),
        }
    }
}

fn of_kind<K: Kind>(name: &str) -> String {
    format!("{name}-{}", K::NAME)
}

fn nanos(epoch: Instant) -> u64 {
    epoch.elapsed().as_nanos() as u64
}

fn keys() -> impl Iterator<Item = String> {
    (0..KEYS).map(|number| format!("key-{number}"))
}

fn key(rng: &mut Rng) -> String {
    format!("key-{}", rng.u32(..KEYS))
}

fn text(value: u64) -> String {
    value.to_string()
}

fn versioned(value: u64, index: u64) -> Versioned {
    Versioned { value: text(value).into(), version: Version(index) }
}

/// Whether what is there has the version that is wanted.
fn compare(present: Option<&Versioned>, wanted: Option<Version>) -> Result<(), Status> {
    let present = present.ok_or(Status::NotFound)?;
    let fits = wanted.is_none_or(|version| version == present.version);
    if fits { Ok(()) } else { Err(Status::Conflict) }
}

fn change<V>(before: Option<V>, now: Option<V>) -> Option<Change<V>> {
    match (before, now) {
        (None, Some(value)) => Some(Change::Inserted(value)),
        (Some(previous), Some(value)) => Some(Change::Updated { value, previous }),
        (Some(value), None) => Some(Change::Removed { value, expired: false }),
        (None, None) => None,
    }
}
