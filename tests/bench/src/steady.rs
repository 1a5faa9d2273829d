//! A small constant load on every group, and how long each went without an answer.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::load::Client;

/// A call that takes longer is counted as failed.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// After a call that failed at once.
const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// What is known of one group.
struct Group {
    id: u32,
    last: Cell<Instant>,
    longest: Cell<Duration>,
}

/// Clients at work.
pub struct Steady {
    groups: Vec<Rc<Group>>,
    stop: Rc<Cell<bool>>,
    seen: Rc<Seen>,
    tasks: Vec<JoinHandle<Client>>,
}

#[derive(Default)]
struct Seen {
    calls: Cell<u64>,
    failed: Cell<u64>,
    first_failure: RefCell<Option<String>>,
}

/// What the clients saw.
pub struct Gaps {
    /// The longest time between two answers, by group.
    pub longest: Vec<(u32, Duration)>,
    pub calls: u64,
    pub failed: u64,
}

impl Steady {
    /// Starts writers, any number for each group; each begins a call every `period`.
    pub fn start(writers: Vec<(u32, Client)>, period: Duration) -> Self {
        let (now, stop, seen) = (Instant::now(), Rc::default(), Rc::default());
        let mut steady = Self { groups: vec![], stop, seen, tasks: vec![] };
        let count = writers.len() as u32;
        for (number, (id, client)) in (0..).zip(writers) {
            let group = steady.groups.iter().find(|group| group.id == id).cloned();
            let group = group.unwrap_or_else(|| {
                let longest = Cell::default();
                let group = Rc::new(Group { id, last: Cell::new(now), longest });
                steady.groups.push(group.clone());
                group
            });
            let first = now + period * number / count;
            let write =
                write(client, group, steady.seen.clone(), steady.stop.clone(), first, period);
            steady.tasks.push(tokio::task::spawn_local(write));
        }
        steady
    }

    /// What counts begins now.
    pub fn mark(&self) {
        self.groups.iter().for_each(|group| group.longest.set(Duration::ZERO));
        self.seen.calls.set(0);
        self.seen.failed.set(0);
    }

    pub async fn end(self) -> Gaps {
        let now = Instant::now();
        let longest = self.groups.iter().map(|g| (g.id, g.longest.get().max(now - g.last.get())));
        let longest = longest.collect();
        let (calls, failed) = (self.seen.calls.get(), self.seen.failed.get());
        self.stop.set(true);
        for task in self.tasks {
            // A writer never fails; sessions that are left expire.
            drop(task.await);
        }
        if let Some(failure) = self.seen.first_failure.borrow().as_ref() {
            eprintln!("{failed} calls failed, the first one: {failure}");
        }
        Gaps { longest, calls, failed }
    }
}

async fn write(
    mut client: Client,
    group: Rc<Group>,
    seen: Rc<Seen>,
    stop: Rc<Cell<bool>>,
    mut next: Instant,
    period: Duration,
) -> Client {
    while !stop.get() {
        tokio::time::sleep_until(next).await;
        next = (next + period).max(Instant::now());
        let put = client.put(format!("steady-{}", group.id), b"v");
        let result = tokio::time::timeout(CALL_TIMEOUT, put).await;
        seen.calls.set(seen.calls.get() + 1);
        match result.unwrap_or_else(|late| Err(late.into())) {
            Ok(()) => {
                let now = Instant::now();
                group.longest.set(group.longest.get().max(now - group.last.get()));
                group.last.set(now);
            }
            Err(error) => {
                seen.failed.set(seen.failed.get() + 1);
                seen.first_failure.borrow_mut().get_or_insert(format!("{error:#}"));
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        }
    }
    client
}
