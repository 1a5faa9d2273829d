//! Locks on keys, for sessions that take turns. A lock keeps nobody from reading or writing its key.
//!
//! A request names one or more keys and enters the queues of all of them at once; whoever is first in
//! all of its queues has the locks. As an older request is ahead of a younger one in every queue that
//! they share, requests never wait for each other in a circle, unless a session holds one while it
//! waits for another.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use imbl::OrdMap;
use multiraft_proto::log;

use super::checks::check_key;
use super::key_listeners::session_commands;
use super::{CommandKey, Context, Emitted, Failure, RestoreContext, Status, Step};
use crate::digest::Digest;
use crate::limits::{KEY_LOCK_QUEUE_MAX, KEY_LOCKS_MAX, KEYS_PER_LOCK_MAX};
use crate::timers::Timer;

/// `LockOutput` and `UnlockOutput` of every primitive have no fields.
const NO_FIELDS: Bytes = Bytes::new();

#[derive(Clone, Debug, Default)]
pub struct KeyLocks {
    requests: OrdMap<CommandKey, Request>,
    /// Key and age → request: the queue of a key is a range of these.
    queues: OrdMap<(Arc<str>, u64), CommandKey>,
    /// Armed timer → the waiting request that it ends.
    timeouts: OrdMap<u64, CommandKey>,
}

/// Locks that a command has, or waits for.
#[derive(Clone, Debug)]
struct Request {
    /// Index of the command: an older request has a lower one.
    age: u64,
    /// Sorted; without those that were unlocked since.
    keys: Arc<[Arc<str>]>,
    /// None also as soon as the wait is over.
    timeout: Option<Timer>,
}

impl KeyLocks {
    /// Locks all of the keys, or waits for all of them; a timeout of 0 ms does not wait. A session
    /// that asks for a key that it has locked already waits like any other.
    pub fn lock(
        &mut self,
        command: CommandKey,
        keys: &[String],
        timeout_millis: Option<u64>,
        context: &mut Context<'_>,
    ) -> Result<Step, Failure> {
        let keys = self.check(keys)?;
        let is_free = keys.iter().all(|key| self.first(key).is_none());
        if !is_free && timeout_millis == Some(0) {
            return Err(Failure::new(Status::Conflict, "keys: one is locked"));
        }
        let timeout = timeout_millis.filter(|_| !is_free).map(|millis| context.arm(millis));
        self.insert(command, Request { age: context.index, keys, timeout });
        if is_free { Ok(Step::Complete(NO_FIELDS)) } else { Ok(Step::Open) }
    }

    fn check(&self, keys: &[String]) -> Result<Arc<[Arc<str>]>, Failure> {
        let keys = check_keys(keys)?;
        if keys.is_empty() {
            return Err(Failure::invalid("keys: none is named"));
        }
        if self.queues.len() + keys.len() > KEY_LOCKS_MAX {
            let message = format!("more than {KEY_LOCKS_MAX} keys are locked or waited for");
            return Err(Failure::new(Status::Conflict, message));
        }
        if keys
            .iter()
            .any(|key| self.queue(key).take(KEY_LOCK_QUEUE_MAX).count() == KEY_LOCK_QUEUE_MAX)
        {
            let message = format!("keys: one is wanted by {KEY_LOCK_QUEUE_MAX} already");
            return Err(Failure::new(Status::Conflict, message));
        }
        Ok(keys.into_iter().collect())
    }

    fn insert(&mut self, command: CommandKey, request: Request) -> Option<Request> {
        for key in request.keys.iter() {
            self.queues.insert((Arc::clone(key), request.age), command);
        }
        if let Some(timer) = request.timeout {
            self.timeouts.insert(timer.id, command);
        }
        self.requests.insert(command, request)
    }

    /// Unlocks keys that the session has locked, without names all of them. If it has not locked one
    /// of them, it keeps the others, too.
    pub fn unlock(
        &mut self,
        session_id: u64,
        keys: &[String],
        context: &mut Context<'_>,
    ) -> Result<Bytes, Failure> {
        let keys = match keys {
            [] => self.held(session_id),
            keys => check_keys(keys)?,
        };
        let mut holders: BTreeMap<CommandKey, BTreeSet<Arc<str>>> = BTreeMap::new();
        for key in &keys {
            let holder = self.holder(key).filter(|holder| holder.session_id == session_id);
            let message = "keys: one is not locked by this session";
            let holder = holder.ok_or_else(|| Failure::new(Status::Conflict, message))?;
            holders.entry(holder).or_default().insert(Arc::clone(key));
        }
        for (command, keys) in holders {
            self.give_up(command, &keys);
        }
        self.grant(&keys, context);
        Ok(NO_FIELDS)
    }

    /// A part of the keys of a granted request, or all.
    fn give_up(&mut self, command: CommandKey, keys: &BTreeSet<Arc<str>>) {
        let Some(request) = self.requests.get_mut(&command) else { return };
        for key in keys {
            self.queues.remove(&(Arc::clone(key), request.age));
        }
        request.keys = request.keys.iter().filter(|key| !keys.contains(*key)).cloned().collect();
        if request.keys.is_empty() {
            self.requests.remove(&command);
        }
    }

    /// A waiting command has ended without an answer.
    pub fn cancel(&mut self, command: CommandKey, context: &mut Context<'_>) {
        let freed = self.remove(command, context);
        self.grant(&freed, context);
    }

    pub fn remove_session(&mut self, session_id: u64, context: &mut Context<'_>) {
        let mut freed = BTreeSet::new();
        // First all of them: what one leaves behind must not be granted to the next.
        for command in self.of_session(session_id) {
            freed.extend(self.remove(command, context));
        }
        self.grant(&freed, context);
    }

    /// Ends the wait that the timer stands for; does nothing when it is another's timer.
    pub fn on_timer(&mut self, timer_id: u64, context: &mut Context<'_>) {
        let Some(command) = self.timeouts.get(&timer_id).copied() else { return };
        let freed = self.remove(command, context);
        let failure = Failure::new(Status::Conflict, "timeout: is over");
        context.emit(Emitted { command, result: Err(failure), last: true });
        self.grant(&freed, context);
    }

    /// Returns the keys at which the request was first.
    fn remove(&mut self, command: CommandKey, context: &mut Context<'_>) -> BTreeSet<Arc<str>> {
        let Some(Request { age, keys, timeout }) = self.requests.remove(&command) else {
            return BTreeSet::new();
        };
        self.stop_timeout(timeout, context);
        let mut freed = BTreeSet::new();
        for key in keys.iter() {
            let was_first = self.first(key) == Some(command);
            self.queues.remove(&(Arc::clone(key), age));
            if was_first {
                freed.insert(Arc::clone(key));
            }
        }
        freed
    }

    /// Answers those who have become first everywhere, now that these keys have another first one;
    /// the oldest first.
    fn grant(&mut self, freed: &BTreeSet<Arc<str>>, context: &mut Context<'_>) {
        let next = freed.iter().filter_map(|key| self.queue(key).next());
        let next: BTreeMap<u64, CommandKey> = next.collect();
        for command in next.into_values() {
            if !self.is_granted(command) {
                continue;
            }
            let Some(request) = self.requests.get_mut(&command) else { continue };
            let timeout = request.timeout.take();
            self.stop_timeout(timeout, context);
            context.emit(Emitted { command, result: Ok(NO_FIELDS), last: true });
        }
    }

    fn stop_timeout(&mut self, timeout: Option<Timer>, context: &mut Context<'_>) {
        if let Some(timer) = timeout {
            self.timeouts.remove(&timer.id);
            context.disarm(timer);
        }
    }

    /// Age and name of the requests for a key, the oldest first.
    fn queue(&self, key: &Arc<str>) -> impl Iterator<Item = (u64, CommandKey)> + '_ {
        let (first, last) = ((Arc::clone(key), 0), (Arc::clone(key), u64::MAX));
        self.queues.range(first..=last).map(|((_, age), command)| (*age, *command))
    }

    fn first(&self, key: &Arc<str>) -> Option<CommandKey> {
        self.queue(key).next().map(|(_, command)| command)
    }

    fn is_granted(&self, command: CommandKey) -> bool {
        let request = self.requests.get(&command);
        request.is_some_and(|r| r.keys.iter().all(|key| self.first(key) == Some(command)))
    }

    fn holder(&self, key: &Arc<str>) -> Option<CommandKey> {
        self.first(key).filter(|command| self.is_granted(*command))
    }

    fn of_session(&self, session_id: u64) -> Vec<CommandKey> {
        self.requests.range(session_commands(session_id)).map(|(command, _)| *command).collect()
    }

    fn held(&self, session_id: u64) -> BTreeSet<Arc<str>> {
        let granted = self.of_session(session_id).into_iter().filter(|c| self.is_granted(*c));
        let requests = granted.filter_map(|command| self.requests.get(&command));
        requests.flat_map(|request| request.keys.iter().cloned()).collect()
    }

    pub fn digest(&self, digest: &mut Digest) {
        let Self { requests, queues, timeouts } = self;
        digest.number(requests.len());
        for (command, request) in requests.iter() {
            command.digest(digest);
            request.digest(digest);
        }
        digest.number(queues.len());
        for ((key, age), command) in queues.iter() {
            digest.bytes(key.as_bytes());
            digest.word(*age);
            command.digest(digest);
        }
        digest.number(timeouts.len());
        for (timer_id, command) in timeouts.iter() {
            digest.word(*timer_id);
            command.digest(digest);
        }
    }

    pub fn records(&self) -> impl Iterator<Item = log::KeyLock> + Send + '_ {
        // Without `..`: a new field needs a decision. Queues and timeouts follow from the requests.
        let Self { requests, queues: _, timeouts: _ } = self;
        requests.iter().map(|(command, request)| {
            let CommandKey { session_id, sequence_num } = *command;
            let Request { age, keys, timeout } = request;
            let keys = keys.iter().map(|key| key.to_string()).collect();
            let timeout = timeout.map(Timer::into);
            log::KeyLock { session_id, sequence_num, age: *age, keys, timeout }
        })
    }

    pub fn restore(
        &mut self,
        lock: log::KeyLock,
        context: &mut RestoreContext<'_>,
    ) -> Result<(), String> {
        let log::KeyLock { session_id, sequence_num, age, keys, timeout } = lock;
        context.check_attached(session_id)?;
        let timeout = timeout.map(Timer::from);
        timeout.map_or(Ok(()), |timer| context.arm(timer))?;
        let keys: Arc<[Arc<str>]> = keys.into_iter().map(Arc::from).collect();
        if keys.is_empty() || !keys.is_sorted_by(|a, b| a < b) {
            return Err("keys: none, or not in order".into());
        }
        if keys.iter().any(|key| self.queues.contains_key(&(Arc::clone(key), age))) {
            return Err(format!("a key is wanted by two of age {age}"));
        }
        let command = CommandKey { session_id, sequence_num };
        match self.insert(command, Request { age, keys, timeout }) {
            None => Ok(()),
            Some(_) => Err(format!("lock {sequence_num} of session {session_id} comes twice")),
        }
    }
}

impl Request {
    fn digest(&self, digest: &mut Digest) {
        let Self { age, keys, timeout } = self;
        digest.word(*age);
        digest.number(keys.len());
        keys.iter().for_each(|key| digest.bytes(key.as_bytes()));
        digest.option(*timeout, Digest::timer);
    }
}

fn check_keys(keys: &[String]) -> Result<BTreeSet<Arc<str>>, Failure> {
    if keys.len() > KEYS_PER_LOCK_MAX {
        let message = format!("keys: {}, at most {KEYS_PER_LOCK_MAX}", keys.len());
        return Err(Failure::invalid(message));
    }
    keys.iter().try_for_each(|key| check_key("keys", key))?;
    Ok(keys.iter().map(|key| Arc::from(key.as_str())).collect())
}

#[cfg(test)]
#[path = "key_locks_tests.rs"]
mod tests;
