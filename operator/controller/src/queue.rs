//! Which objects want a pass, and when: at most one pass per object at a time, at most one per
//! `DEBOUNCE`, however many events arrive.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::limits::DEBOUNCE;
use crate::store::Key;

#[derive(Default)]
pub struct Queue {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    due: BTreeMap<Key, Instant>,
    running: BTreeSet<Key>,
}

impl State {
    /// An object keeps the earliest time that anyone asked for.
    fn ask(&mut self, key: Key, at: Instant) {
        let due = self.due.entry(key).or_insert(at);
        *due = (*due).min(at);
    }

    /// The object to take now, or else when to look again.
    fn take(&mut self, now: Instant) -> Result<Key, Option<Instant>> {
        let waiting = self.due.iter().filter(|(key, _)| !self.running.contains(*key));
        let Some((key, at)) = waiting.min_by_key(|(_, at)| **at) else { return Err(None) };
        if *at > now {
            return Err(Some(*at));
        }
        let key = key.clone();
        self.due.remove(&key);
        self.running.insert(key.clone());
        Ok(key)
    }
}

impl Queue {
    /// Something about the object changed.
    pub fn mark(&self, key: Key) {
        self.mark_after(key, DEBOUNCE);
    }

    /// The object wants a pass after `delay`, or earlier if something changes.
    pub fn mark_after(&self, key: Key, delay: Duration) {
        self.lock().ask(key, Instant::now() + delay);
        self.changed.notify_one();
    }

    /// The next object whose time has come. Cancelling loses nothing.
    pub async fn next(&self) -> Key {
        loop {
            let taken = self.lock().take(Instant::now());
            match taken {
                Ok(key) => return key,
                Err(Some(at)) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(at) => {}
                        () = self.changed.notified() => {}
                    }
                }
                Err(None) => self.changed.notified().await,
            }
        }
    }

    /// The pass is over. What was asked for meanwhile runs a debounce later at the earliest.
    pub fn done(&self, key: &Key, again_after: Option<Duration>) {
        let mut state = self.lock();
        state.running.remove(key);
        let now = Instant::now();
        if let Some(due) = state.due.get_mut(key) {
            *due = (*due).max(now + DEBOUNCE);
        }
        if let Some(delay) = again_after {
            state.ask(key.clone(), now + delay.max(DEBOUNCE));
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Objects that wait for a pass.
    pub fn depth(&self) -> usize {
        self.lock().due.len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key { namespace: "n".into(), name: name.into() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_of_events_is_one_pass() {
        let queue = Queue::default();
        let start = Instant::now();
        for _ in 0..100 {
            queue.mark(key("a"));
        }
        assert_eq!(queue.next().await, key("a"));
        assert_eq!(start.elapsed(), DEBOUNCE);
        queue.done(&key("a"), None);
        assert_eq!(queue.depth(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn an_object_never_runs_twice_at_once() {
        let queue = Queue::default();
        queue.mark(key("a"));
        let first = queue.next().await;
        queue.mark(key("a"));
        queue.mark_after(key("b"), Duration::from_secs(9));
        assert_eq!(queue.next().await, key("b"), "a is running");
        queue.done(&first, None);
        assert_eq!(queue.next().await, key("a"), "asked for while it ran");
    }

    #[tokio::test(start_paused = true)]
    async fn the_earliest_wish_counts() {
        let queue = Queue::default();
        let start = Instant::now();
        queue.mark_after(key("a"), Duration::from_secs(300));
        queue.mark(key("a"));
        queue.next().await;
        assert_eq!(start.elapsed(), DEBOUNCE);
    }
}
