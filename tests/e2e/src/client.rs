//! One client of a load: what it calls, and what it remembers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use multiraft_check::counter::Call;
use multiraft_check::register::{Action, Operation};
use multiraft_client::{Counter, Error, Map};

use crate::pulse::Pulse;

/// A write that a client gives up so soon may have happened or not, or may happen later.
const HASTY_TIMEOUT: Duration = Duration::from_millis(1);
/// One write in so many.
const HASTY: u64 = 64;

/// Entries that all clients write and read at one time, in a map of their own.
const SHARED: u64 = 4;
/// After so many increments come other shared entries: the search for an order grows with its
/// history, which stays below 1,000 operations.
const CHAPTER: u64 = 1_600;

/// What one client saw.
#[derive(Default)]
pub struct Seen {
    pub calls: Vec<Call>,
    pub puts: u64,
    /// By shared entry.
    pub shared: BTreeMap<u64, Vec<Operation<u64>>>,
    pub longest: Duration,
}

/// One client of a load.
pub struct Client {
    pub number: usize,
    pub counter: Counter,
    pub map: Map,
    pub shared: Map,
    pub epoch: Instant,
    pub acknowledged: Arc<[AtomicU64]>,
    /// Nanoseconds between the beginnings of two rounds; 0 = as fast as possible.
    pub pause: Arc<AtomicU64>,
    pub pulse: Arc<Pulse>,
    pub seen: Seen,
}

impl Client {
    /// Rounds until `stop`, or until a call fails.
    pub async fn run(mut self, stop: Arc<AtomicBool>) -> Seen {
        while !stop.load(Ordering::Relaxed) {
            let next = Duration::from_nanos(self.now() + self.pause.load(Ordering::Relaxed));
            if let Err(error) = self.round().await {
                eprintln!("client {}: a call failed: {error}", self.number);
                self.pulse.failed();
                break;
            }
            self.acknowledged[self.number].fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep_until((self.epoch + next).into()).await;
        }
        self.seen
    }

    /// Put, touch a shared entry, increment, read; each is retried to an answer.
    async fn round(&mut self) -> Result<(), Error> {
        let key = key(self.number, self.seen.puts);
        let started = self.now();
        self.map.put(&key, key.clone()).await?;
        self.acknowledged_since(started);
        self.seen.puts += 1;
        self.touch().await?;
        let started = self.now();
        let value = self.counter.increment(1).await?.value as u64;
        let ended = self.acknowledged_since(started);
        self.seen.calls.push(Call { started, ended, delta: 1, value });
        let started = self.now();
        let value = self.counter.get().await?.value as u64;
        let ended = self.waited(started);
        self.seen.calls.push(Call { started, ended, delta: 0, value });
        Ok(())
    }

    /// Writes a shared entry, which no other write of any client equals, or reads it.
    async fn touch(&mut self) -> Result<(), Error> {
        let (client, number) = (self.number as u64, self.seen.puts);
        let sum: u64 = self.acknowledged.iter().map(|n| n.load(Ordering::Relaxed)).sum();
        let entry = sum / CHAPTER * SHARED + number % SHARED;
        let key = format!("shared-{entry}");
        let started = self.now();
        let (action, is_answered) = if (number / SHARED + client).is_multiple_of(2) {
            let value = (client << 32) + number;
            (Action::Write(value), self.write(&key, value).await?)
        } else {
            let read = self.shared.get(&key).await?.value;
            // Nobody writes 0: what is read before the first write.
            (Action::Read(read.map_or(0, |e| parse(&e.value))), true)
        };
        let ended = self.waited(started);
        let operation = Operation { started, ended: is_answered.then_some(ended), action };
        self.seen.shared.entry(entry).or_default().push(operation);
        Ok(())
    }

    /// False when the write was given up.
    async fn write(&self, key: &str, value: u64) -> Result<bool, Error> {
        if !value.is_multiple_of(HASTY) {
            self.shared.put(key, value.to_string()).await?;
            return Ok(true);
        }
        let hasty = self.shared.clone().timeout(HASTY_TIMEOUT);
        match hasty.put(key, value.to_string()).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_outcome_unknown() => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn now(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }

    /// The same of a command.
    fn acknowledged_since(&mut self, started: u64) -> u64 {
        let ended = self.waited(started);
        self.pulse.acknowledged(ended);
        ended
    }

    /// A call that began then has ended now.
    fn waited(&mut self, started: u64) -> u64 {
        let ended = self.now();
        self.seen.longest = self.seen.longest.max(Duration::from_nanos(ended - started));
        ended
    }
}

fn parse(bytes: &[u8]) -> u64 {
    let text = std::str::from_utf8(bytes).expect("we wrote text");
    text.parse().expect("we wrote numbers")
}

/// An entry that one client puts, once.
pub fn key(client: usize, number: u64) -> String {
    format!("{client}-{number}")
}
