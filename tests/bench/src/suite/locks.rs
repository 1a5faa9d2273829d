//! Many sessions, each of which holds a lock or waits for it, while nodes are killed.

mod contender;
mod judge;
mod table;

use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

use self::contender::Contender;
use self::table::{Phase, Table};
use super::faults::spread;
use super::{SETTLE_TIME, Suite};
use crate::lane::Lanes;
use crate::probe;
use crate::processes::{Cluster, NODES};
use crate::session::Session;

const GROUPS: u32 = 16;
/// Who wants the same lock.
const SESSIONS_PER_LOCK: usize = 10;
/// One in so many lets its session expire now and then.
const CARELESS: usize = 10;
/// Streams to each node: the sessions of a node that is gone find room in the windows of the others.
const LANES_PER_NODE: usize = 4;
const OPENED_AT_ONCE: usize = 256;
const KILL_PERIOD: Duration = Duration::from_secs(15);
const FIRST_KILL: Duration = Duration::from_secs(5);
/// A killed node stays away for so long.
const AWAY_MILLIS: std::ops::Range<u64> = 2000..5000;
/// No kill so shortly before the end: all nodes are measured there.
const LAST_KILL: Duration = Duration::from_secs(8);
/// After the churn everybody who waits gets the lock, or the lock is stuck.
const ENDING_TIME: Duration = Duration::from_secs(90);
const OPENING_TIME: Duration = Duration::from_secs(300);
/// What a session gets at least, or the run says nothing: once in so many seconds.
const SECONDS_PER_GRANT: u64 = 12;
const POLL_PERIOD: Duration = Duration::from_millis(100);
const MIB: f64 = (1 << 20) as f64;
const SEED: u64 = 7;

/// Returns how often it had its lock.
type Task = JoinHandle<u64>;

struct Churn {
    table: Rc<Table>,
    cluster: Cluster,
    lanes: Lanes,
    tasks: Vec<Task>,
    kills: u64,
    gaps: Vec<Duration>,
}

impl Suite {
    pub(super) async fn locks(&mut self) -> anyhow::Result<()> {
        let (count, seconds) = (self.arguments.lock_sessions, self.arguments.lock_seconds);
        let name = format!("{count} sessions");
        let cluster = self.ours(GROUPS, &[]).await?;
        sleep(SETTLE_TIME).await;
        let before = memory(&cluster);
        self.row(format!("{name}: memory per node before"), "MiB", before, None);

        let lanes = Lanes::open(&cluster.endpoints, LANES_PER_NODE);
        let table = Table::new(count.div_ceil(SESSIONS_PER_LOCK), GROUPS);
        let began = Instant::now();
        let opened = tokio::time::timeout(OPENING_TIME, open(&table, &lanes, count)).await;
        let opened = opened.context("sessions are not opened in time")??;
        let rate = count as f64 / began.elapsed().as_secs_f64();
        self.row(format!("{name}: opened"), "1/s", rate, None);
        sleep(SETTLE_TIME).await;
        self.add_memory(&name, "idle", before, memory(&cluster));

        let run = |(contender, session, primitive): (Contender, _, _)| {
            tokio::task::spawn_local(contender.run(session, primitive))
        };
        let tasks = opened.into_iter().map(run).collect();
        let mut churn = Churn { table, cluster, lanes, tasks, kills: 0, gaps: vec![] };
        churn.take().await?;
        self.add_memory(&name, "holding or waiting", before, memory(&churn.cluster));

        let began = Instant::now();
        churn.churn(Duration::from_secs(seconds)).await?;
        let time = began.elapsed();
        self.add_memory(&name, "after the churn", before, memory(&churn.cluster));
        self.add_churn(&name, &churn, time);
        let grants = churn.table.counts.grants.get();
        let least = churn.end().await?;
        self.row(format!("{name}: grants of the unluckiest"), "grants", least as f64, None);
        let floor = count as u64 * seconds / SECONDS_PER_GRANT;
        ensure!(grants >= floor, "{grants} grants are too few to mean anything: at least {floor}");
        ensure!(churn.kills > 0 || seconds < 20, "no node was killed");
        Ok(())
    }

    fn add_memory(&mut self, name: &str, when: &str, before: f64, memory: f64) {
        self.row(format!("{name}, {when}: memory per node"), "MiB", memory, None);
        let each = (memory - before) * MIB / self.arguments.lock_sessions as f64;
        self.row(format!("{name}, {when}: each on each node"), "B", each, None);
    }

    fn add_churn(&mut self, name: &str, churn: &Churn, time: Duration) {
        let counts = &churn.table.counts;
        let rate = counts.grants.get() as f64 / time.as_secs_f64();
        self.row(format!("{name}: rate of grants"), "1/s", rate, None);
        for (what, count) in [
            ("grants", counts.grants.get()),
            ("grants that had to wait", counts.waited.get()),
            ("waits over by timeout", counts.timeouts.get()),
            ("waits canceled", counts.cancels.get()),
            ("waits canceled unasked", counts.unasked.get()),
            ("sessions left to expire with a lock", counts.expired.get()),
            ("sessions closed with a lock", counts.closed_holding.get()),
            ("sessions closed waiting", counts.closed_waiting.get()),
            ("locks closed while held", counts.detached.get()),
            ("sessions lost", counts.lost.get()),
            ("kills", churn.kills),
            ("streams opened again", churn.lanes.reopened()),
            ("calls made again", churn.lanes.again()),
        ] {
            self.row(format!("{name}: {what}"), "", count as f64, None);
        }
        let gaps = spread(&churn.gaps);
        for (what, gap) in ["p50", "p99", "max"].into_iter().zip(gaps) {
            let name = format!("{name}: group without a grant after a kill, {what}");
            self.row(name, "ms", gap, None);
        }
    }
}

/// MiB per node.
fn memory(cluster: &Cluster) -> f64 {
    probe::memory(&cluster.pids()) / NODES as f64
}

async fn open(
    table: &Rc<Table>,
    lanes: &Lanes,
    count: usize,
) -> anyhow::Result<Vec<(Contender, Rc<Session>, u64)>> {
    let mut all = Vec::with_capacity(count);
    let numbers: Vec<usize> = (0..count).collect();
    for some in numbers.chunks(OPENED_AT_ONCE) {
        let open = |number: &usize| {
            let lock = number / SESSIONS_PER_LOCK;
            let contender = Contender {
                lane: lanes.all[number % lanes.all.len()].clone(),
                group: 1 + lock as u32 % GROUPS,
                lock,
                careless: number % CARELESS == lock % CARELESS,
                table: table.clone(),
                random: fastrand::Rng::with_seed(SEED + *number as u64),
            };
            tokio::task::spawn_local(async move {
                let (session, primitive) = contender.open().await?;
                anyhow::Ok((contender, session, primitive))
            })
        };
        for opened in some.iter().map(open).collect::<Vec<_>>() {
            all.push(opened.await??);
        }
    }
    Ok(all)
}

impl Churn {
    /// Everybody asks for its lock; returns when each lock is held.
    async fn take(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + ENDING_TIME;
        self.table.phase.send_replace(Phase::Taking);
        let (table, sessions) = (self.table.clone(), self.tasks.len() as u64);
        let locks = sessions.div_ceil(SESSIONS_PER_LOCK as u64);
        while table.counts.asked.get() < sessions || table.counts.grants.get() < locks {
            ensure!(Instant::now() < deadline, "locks are free though sessions wait for them");
            self.watch(Instant::now() + POLL_PERIOD).await?;
        }
        self.watch(Instant::now() + SETTLE_TIME).await?;
        let grants = table.counts.grants.get();
        ensure!(grants == locks, "{grants} grants of {locks} locks that nobody gave up");
        Ok(())
    }

    async fn churn(&mut self, time: Duration) -> anyhow::Result<()> {
        let mut random = fastrand::Rng::with_seed(SEED);
        self.table.phase.send_replace(Phase::Churn);
        let end = Instant::now() + time;
        let mut kill = Instant::now() + FIRST_KILL;
        while kill + LAST_KILL < end {
            self.watch(kill).await?;
            let victim = random.usize(..NODES);
            let away = Duration::from_millis(random.u64(AWAY_MILLIS));
            let now = Instant::now();
            self.gaps.extend(self.table.gaps(now));
            self.table.kill(now);
            self.cluster.kill(victim)?;
            self.kills += 1;
            let grants = self.table.counts.grants.get();
            eprintln!("node {victim} is killed for {away:?} after {grants} grants");
            self.watch(kill + away).await?;
            self.cluster.start_again(victim)?;
            kill += KILL_PERIOD;
        }
        self.watch(end).await?;
        self.gaps.extend(self.table.gaps(Instant::now()));
        Ok(())
    }

    /// Whoever waits gets the lock, and all sessions close; the fewest grants of one contender.
    async fn end(&mut self) -> anyhow::Result<u64> {
        let deadline = Instant::now() + ENDING_TIME;
        self.table.phase.send_replace(Phase::Ending);
        loop {
            let waiting = self.tasks.iter().filter(|task| !task.is_finished()).count();
            if waiting == 0 {
                break;
            }
            let late = Instant::now() > deadline;
            ensure!(!late, "{waiting} sessions wait for a lock {ENDING_TIME:?} after the churn");
            self.watch(Instant::now() + POLL_PERIOD).await?;
        }
        let mut least = u64::MAX;
        for task in self.tasks.drain(..) {
            least = least.min(task.await?);
        }
        Ok(least)
    }

    /// Until then, or until something goes wrong.
    async fn watch(&mut self, until: Instant) -> anyhow::Result<()> {
        while Instant::now() < until {
            self.cluster.check()?;
            let next = until.min(Instant::now() + POLL_PERIOD);
            tokio::select! {
                what = self.table.violation.wait() => bail!("{what}"),
                () = sleep_until(next) => {}
            }
        }
        Ok(())
    }
}
