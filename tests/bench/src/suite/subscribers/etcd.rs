//! The same of etcd: watches of one hot key, over as many streams as ours.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use etcd_client::{Client, KvClient, WatchResponse, WatchStream};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until};

use super::listener::{KEY, Shared, Tally, number};
use super::{Figures, LANES_PER_NODE, PATIENCE, POLL_PERIOD, most};
use crate::probe;
use crate::processes::Cluster;

/// Changes that are under way.
const OPEN_MAX: u64 = 1024;
const OPEN_POLL_PERIOD: Duration = Duration::from_millis(1);

pub struct Watches {
    cluster: Cluster,
    kv: KvClient,
    shared: Rc<Shared>,
    tally: Rc<Tally>,
    streams: Vec<Rc<Stream>>,
    tasks: Vec<AbortHandle>,
}

/// Some watches, by their ids, with the newest value of each.
struct Stream {
    newest: RefCell<BTreeMap<i64, u64>>,
    shared: Rc<Shared>,
    tally: Rc<Tally>,
}

impl Watches {
    pub async fn open(cluster: Cluster, count: usize) -> anyhow::Result<Self> {
        let (shared, tally) = (Rc::<Shared>::default(), Tally::new()?);
        let kv = Client::connect([&cluster.endpoints[0]], None).await?.kv_client();
        let mut watches =
            Self { cluster, kv, shared, tally, streams: Vec::new(), tasks: Vec::new() };
        watches.put().await?;
        let places = watches.cluster.endpoints.len() * LANES_PER_NODE;
        for place in 0..places {
            let members = &watches.cluster.endpoints;
            let member = [&members[place % members.len()]];
            let mut client = Client::connect(member, None).await?;
            let share = count / places + usize::from(place < count % places);
            if share == 0 {
                continue;
            }
            let mut told = client.watch(KEY, None).await?;
            for _ in 1..share {
                told.watch(KEY, None).await?;
            }
            let (shared, tally) = (watches.shared.clone(), watches.tally.clone());
            let stream = Rc::new(Stream { newest: RefCell::default(), shared, tally });
            let hear = stream.clone().hear(client, told);
            watches.tasks.push(tokio::task::spawn_local(hear).abort_handle());
            watches.streams.push(stream);
        }
        let begun = |stream: &Rc<Stream>| stream.newest.borrow().len();
        let all = || watches.streams.iter().map(begun).sum::<usize>();
        watches.until(|| all() == count).await.context("watches do not begin")?;
        Ok(watches)
    }

    /// Writes for a while; everybody has all of it in the end.
    pub async fn phase(&self, rate: Option<f64>, time: Duration) -> anyhow::Result<Figures> {
        self.tally.clear();
        let (servers, own) = (probe::cpu(&self.cluster.pids()), probe::own_cpu());
        let began = Instant::now();
        let puts = self.write(rate, time).await?;
        let wrote = began.elapsed().as_secs_f64();
        let last = self.shared.last();
        self.until(|| self.streams.iter().all(|stream| stream.has(last))).await?;
        Ok(Figures {
            changes: puts as f64 / wrote,
            events: self.tally.delivered.get() as f64 / began.elapsed().as_secs_f64(),
            lags: self.tally.lags(),
            servers: probe::cpu(&self.cluster.pids()) - servers,
            own: probe::own_cpu() - own,
            delivered: self.tally.delivered.get() as f64,
            memory: most(&self.cluster),
        })
    }

    async fn write(&self, rate: Option<f64>, time: Duration) -> anyhow::Result<u64> {
        let (began, before) = (Instant::now(), self.shared.last());
        let open = Rc::<Cell<u64>>::default();
        match rate {
            None => {
                while began.elapsed() < time {
                    self.put().await?;
                }
            }
            Some(rate) => {
                for number in 0..(rate * time.as_secs_f64()) as u64 {
                    sleep_until(began + Duration::from_secs_f64(number as f64 / rate)).await;
                    while open.get() >= OPEN_MAX {
                        sleep(OPEN_POLL_PERIOD).await;
                    }
                    self.begin(open.clone());
                }
                while open.get() > 0 {
                    sleep(OPEN_POLL_PERIOD).await;
                }
            }
        }
        Ok(self.shared.last() - before)
    }

    async fn put(&self) -> anyhow::Result<()> {
        let value = self.shared.next();
        self.kv.clone().put(KEY, value, None).await.context("a change of the hot key")?;
        Ok(())
    }

    fn begin(&self, open: Rc<Cell<u64>>) {
        let (mut kv, shared, value) = (self.kv.clone(), self.shared.clone(), self.shared.next());
        open.set(open.get() + 1);
        tokio::task::spawn_local(async move {
            if let Err(error) = kv.put(KEY, value, None).await {
                shared.violation.found(format!("a change of the hot key: {error}"));
            }
            open.set(open.get() - 1);
        });
    }

    async fn until(&self, mut holds: impl FnMut() -> bool) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !holds() {
            ensure!(Instant::now() < deadline, "watches lack events after {PATIENCE:?}");
            tokio::select! {
                what = self.shared.violation.wait() => bail!("{what}"),
                () = sleep(POLL_PERIOD) => {}
            }
        }
        Ok(())
    }
}

impl Drop for Watches {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Stream {
    fn has(&self, last: u64) -> bool {
        self.newest.borrow().values().all(|newest| *newest == last)
    }

    /// The client lives as long as what it tells.
    async fn hear(self: Rc<Self>, _client: Client, mut told: WatchStream) {
        loop {
            match told.message().await {
                Ok(Some(told)) => self.take(&told),
                Ok(None) => return self.shared.violation.found("a watch ended".into()),
                Err(error) => return self.shared.violation.found(format!("a watch: {error}")),
            }
        }
    }

    /// Concurrent puts may be carried out in another order than they were sent in: the newest is
    /// what counts.
    fn take(&self, told: &WatchResponse) {
        let mut newest = self.newest.borrow_mut();
        let newest = newest.entry(told.watch_id()).or_default();
        for event in told.events() {
            let Some(number) = event.kv().and_then(|pair| number(pair.value())) else { continue };
            *newest = number.max(*newest);
            if let Some(sent) = self.shared.sent.borrow().get(number as usize) {
                self.tally.delivered(sent.elapsed());
            }
        }
    }
}
