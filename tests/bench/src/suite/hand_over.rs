//! Locks that pass from hand to hand, ours and etcd's: each session takes its lock, gives it up at
//! once and waits for it again, behind the others that want it.

mod etcd;
mod ours;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use anyhow::bail;
use hdrhistogram::Histogram;
use tokio::time::{Instant, sleep};

use super::violation::Violation;
use super::{SETTLE_TIME, Suite};
use crate::probe;
use crate::processes::Cluster;

/// Who wants the same lock.
const SESSIONS_PER_LOCK: usize = 10;
const GROUPS: u32 = 16;
const OPENED_AT_ONCE: usize = 64;
/// Longer than a run: nobody's time is up, whether it keeps itself alive or not.
const SESSION_TIMEOUT: Duration = Duration::from_secs(600);

/// A session that wants one lock.
trait Contender: 'static {
    /// Waits until it has the lock.
    async fn take(&mut self) -> anyhow::Result<()>;
    async fn give(&mut self) -> anyhow::Result<()>;
}

/// One lock, as its contenders see it.
#[derive(Default)]
struct Lock {
    is_held: Cell<bool>,
    given: Cell<Option<Instant>>,
}

struct Hands {
    locks: Vec<Lock>,
    counting: Cell<bool>,
    stop: Cell<bool>,
    /// From giving a lock up to having it, in µs.
    times: RefCell<Histogram<u64>>,
    violation: Violation,
}

/// What a run showed.
struct Figures {
    opened: f64,
    grants: f64,
    p50: f64,
    p99: f64,
    servers: f64,
    own: f64,
}

impl Suite {
    pub(super) async fn hand_over(&mut self) -> anyhow::Result<()> {
        let count = self.arguments.contenders;
        let cluster = self.ours(GROUPS, &[]).await?;
        sleep(SETTLE_TIME).await;
        let began = Instant::now();
        let (contenders, lanes) = ours::open(&cluster.endpoints, count).await?;
        let ours = self.pass(&cluster, began.elapsed(), contenders).await?;
        drop((lanes, cluster));

        let cluster = self.etcd().await?;
        sleep(SETTLE_TIME).await;
        let began = Instant::now();
        let contenders = etcd::open(&cluster.endpoints, count).await?;
        let peer = self.pass(&cluster, began.elapsed(), contenders).await?;

        let name = format!("{count} sessions, {SESSIONS_PER_LOCK} for each lock");
        for (what, unit, ours, peer) in [
            ("opened", "1/s", ours.opened, peer.opened),
            ("grants", "1/s", ours.grants, peer.grants),
            ("hand-over p50", "ms", ours.p50, peer.p50),
            ("hand-over p99", "ms", ours.p99, peer.p99),
            ("CPU of all nodes", "µs/grant", ours.servers, peer.servers),
            ("CPU of the clients", "µs/grant", ours.own, peer.own),
        ] {
            self.row(format!("{name}: {what}"), unit, ours, Some(peer));
        }
        Ok(())
    }

    async fn pass(
        &self,
        cluster: &Cluster,
        opening: Duration,
        contenders: Vec<impl Contender>,
    ) -> anyhow::Result<Figures> {
        let count = contenders.len();
        let hands = Rc::new(Hands {
            locks: (0..count.div_ceil(SESSIONS_PER_LOCK)).map(|_| Lock::default()).collect(),
            counting: Cell::new(false),
            stop: Cell::new(false),
            times: RefCell::new(Histogram::new_with_bounds(1, probe::TIME_US_MAX, 3)?),
            violation: Violation::default(),
        });
        let run = |(number, contender)| {
            tokio::task::spawn_local(contend(hands.clone(), number / SESSIONS_PER_LOCK, contender))
        };
        let tasks: Vec<_> = contenders.into_iter().enumerate().map(run).collect();
        hands.watch(Duration::from_secs(self.arguments.warm)).await?;
        let (servers, own) = (probe::cpu(&cluster.pids()), probe::own_cpu());
        let began = Instant::now();
        hands.counting.set(true);
        hands.watch(Duration::from_secs(self.arguments.seconds)).await?;
        hands.counting.set(false);
        let wall = began.elapsed().as_secs_f64();
        let (servers, own) = (probe::cpu(&cluster.pids()) - servers, probe::own_cpu() - own);
        hands.stop.set(true);
        for task in tasks {
            tokio::select! {
                done = task => done?,
                what = hands.violation.wait() => bail!("{what}"),
            }
        }
        let times = hands.times.borrow();
        anyhow::ensure!(!times.is_empty(), "nobody was granted a lock");
        let grants = times.len() as f64;
        let millis = |part: f64| times.value_at_quantile(part) as f64 / 1e3;
        Ok(Figures {
            opened: count as f64 / opening.as_secs_f64(),
            grants: grants / wall,
            p50: millis(0.5),
            p99: millis(0.99),
            servers: servers * 1e6 / grants,
            own: own * 1e6 / grants,
        })
    }
}

impl Hands {
    async fn watch(&self, time: Duration) -> anyhow::Result<()> {
        tokio::select! {
            what = self.violation.wait() => bail!("{what}"),
            () = sleep(time) => Ok(()),
        }
    }
}

async fn contend(hands: Rc<Hands>, number: usize, mut contender: impl Contender) {
    let lock = &hands.locks[number];
    let turns = async {
        while !hands.stop.get() {
            contender.take().await?;
            anyhow::ensure!(!lock.is_held.replace(true), "it has two holders");
            let waited = lock.given.take().map(|given| given.elapsed().as_micros() as u64);
            if let (true, Some(waited)) = (hands.counting.get(), waited) {
                hands.times.borrow_mut().saturating_record(waited);
            }
            lock.is_held.set(false);
            lock.given.set(Some(Instant::now()));
            contender.give().await?;
        }
        Ok(())
    };
    if let Err(error) = turns.await {
        hands.violation.found(format!("lock {number}: {error:#}"));
    }
}
