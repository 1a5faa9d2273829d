//! Locks on keys: of one session at a time, first come first served. They keep others from locking,
//! not from reading or writing, and a key needs no entry to be locked.
//!
//! A request names one or more keys and enters the queues of all of them at once; whoever is first in
//! all of its queues has the locks. As an older request is ahead of a younger one in every queue that
//! they share, requests never wait for each other in a circle, unless a session holds one while it
//! waits for another.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use imbl::{OrdMap, OrdSet};
use multiraft_proto::log::SnapshotKeyLock;

use super::checks::check_key;
use super::measured::{Footprint, Measured};
use super::{CommandKey, Context, Emitted, Failure, RestoreContext, Status, Step};
use crate::digest::Digest;
use crate::limits::{ENTRY_OVERHEAD_BYTES, KEY_LOCKS_MAX, LOCK_KEYS_MAX};
use crate::timers::Timer;

/// `LockOutput` and `UnlockOutput` of every primitive have no fields.
const NO_FIELDS: Bytes = Bytes::new();

#[derive(Clone, Debug, Default)]
pub struct KeyLocks {
    /// By the index of their command, which is the order in which they came.
    requests: Measured<u64, Request>,
    /// Command → index of its request.
    indexes: OrdMap<CommandKey, u64>,
    /// Key and index of a request for it: the queue of a key is a range of these.
    queues: OrdSet<(Arc<str>, u64)>,
    /// Armed timer → index of the waiting request that it ends.
    timeouts: OrdMap<u64, u64>,
}

/// Locks that a command has, or waits for.
#[derive(Clone, Debug)]
struct Request {
    command: CommandKey,
    /// Sorted and distinct, without those that were unlocked since. Shared: a view of the primitive
    /// must stay cheap.
    keys: Arc<[Arc<str>]>,
    /// None also as soon as the wait is over.
    timeout: Option<Timer>,
}

impl Footprint for Request {
    fn footprint(&self) -> u64 {
        let one = |key: &Arc<str>| ENTRY_OVERHEAD_BYTES + key.footprint();
        self.keys.iter().map(one).sum()
    }
}

impl KeyLocks {
    pub fn bytes(&self) -> u64 {
        self.requests.bytes()
    }

    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// Locks all of the keys, or waits for all of them; a timeout of 0 ms does not wait. A session
    /// that asks for a key that it has locked already waits like any other.
    pub fn lock(
        &mut self,
        command: CommandKey,
        keys: &[String],
        timeout_millis: Option<u64>,
        context: &mut Context<'_>,
    ) -> Result<Step, Failure> {
        let keys = check_keys(keys)?;
        if keys.is_empty() {
            return Err(Failure::invalid("keys: is empty"));
        }
        if self.queues.len() + keys.len() > KEY_LOCKS_MAX {
            let message = format!("more than {KEY_LOCKS_MAX} keys are locked or waited for");
            return Err(Failure::new(Status::Conflict, message));
        }
        let is_free = keys.iter().all(|key| self.first(key).is_none());
        if !is_free && timeout_millis == Some(0) {
            return Err(Failure::new(Status::Conflict, "keys: one is locked"));
        }
        let timeout = timeout_millis.filter(|_| !is_free).map(|millis| context.arm(millis));
        let keys = keys.into_iter().collect();
        self.insert(context.index, Request { command, keys, timeout });
        if is_free { Ok(Step::Complete(NO_FIELDS)) } else { Ok(Step::Open) }
    }

    fn insert(&mut self, index: u64, request: Request) {
        for key in request.keys.iter() {
            self.queues.insert((Arc::clone(key), index));
        }
        if let Some(timer) = request.timeout {
            self.timeouts.insert(timer.id, index);
        }
        self.indexes.insert(request.command, index);
        self.requests.insert(index, request);
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
        let mut holders: BTreeMap<u64, BTreeSet<Arc<str>>> = BTreeMap::new();
        for key in &keys {
            let message = "keys: one is not locked by this session";
            let holder = self.holder(key, session_id);
            let holder = holder.ok_or_else(|| Failure::new(Status::Conflict, message))?;
            holders.entry(holder).or_default().insert(Arc::clone(key));
        }
        for (index, keys) in holders {
            self.give_up(index, &keys);
        }
        self.grant(&keys, context);
        Ok(NO_FIELDS)
    }

    /// A part of the keys of a granted request, or all.
    fn give_up(&mut self, index: u64, keys: &BTreeSet<Arc<str>>) {
        let Some(mut request) = self.requests.get_mut(&index) else { return };
        for key in keys {
            self.queues.remove(&(Arc::clone(key), index));
        }
        request.keys = request.keys.iter().filter(|key| !keys.contains(*key)).cloned().collect();
        let (command, is_over) = (request.command, request.keys.is_empty());
        drop(request);
        if is_over {
            self.indexes.remove(&command);
            self.requests.remove(&index);
        }
    }

    /// A waiting command has ended without an answer.
    pub fn cancel(&mut self, command: CommandKey, context: &mut Context<'_>) {
        if let Some(index) = self.indexes.get(&command).copied() {
            let freed = self.remove(index, context);
            self.grant(&freed, context);
        }
    }

    pub fn close_session(&mut self, session_id: u64, context: &mut Context<'_>) {
        let mut freed = BTreeSet::new();
        // First all of them: what one leaves behind must not be granted to the next.
        for index in self.of_session(session_id) {
            freed.extend(self.remove(index, context));
        }
        self.grant(&freed, context);
    }

    /// Ends the wait that the timer stands for; does nothing when it is another's timer.
    pub fn on_timer(&mut self, timer_id: u64, context: &mut Context<'_>) {
        let Some(index) = self.timeouts.get(&timer_id).copied() else { return };
        let Some(command) = self.requests.get(&index).map(|request| request.command) else {
            return;
        };
        let freed = self.remove(index, context);
        let failure = Failure::new(Status::Conflict, "timeout: a key is locked");
        context.emit(Emitted { command, result: Err(failure), last: true });
        self.grant(&freed, context);
    }

    /// Returns the keys at which the request was first.
    fn remove(&mut self, index: u64, context: &mut Context<'_>) -> BTreeSet<Arc<str>> {
        let Some(Request { command, keys, timeout }) = self.requests.remove(&index) else {
            return BTreeSet::new();
        };
        self.indexes.remove(&command);
        self.stop_timeout(timeout, context);
        let mut freed = BTreeSet::new();
        for key in keys.iter() {
            let was_first = self.first(key) == Some(index);
            self.queues.remove(&(Arc::clone(key), index));
            if was_first {
                freed.insert(Arc::clone(key));
            }
        }
        freed
    }

    /// Answers those who have become first everywhere, now that these keys have another first one;
    /// the oldest first.
    fn grant(&mut self, freed: &BTreeSet<Arc<str>>, context: &mut Context<'_>) {
        let next: BTreeSet<u64> = freed.iter().filter_map(|key| self.first(key)).collect();
        for index in next {
            if !self.is_granted(index) {
                continue;
            }
            let Some(mut request) = self.requests.get_mut(&index) else { continue };
            let (command, timeout) = (request.command, request.timeout.take());
            drop(request);
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

    /// The oldest request for a key.
    fn first(&self, key: &Arc<str>) -> Option<u64> {
        let (first, last) = ((Arc::clone(key), 0), (Arc::clone(key), u64::MAX));
        self.queues.range(first..=last).next().map(|(_, index)| *index)
    }

    fn is_granted(&self, index: u64) -> bool {
        let request = self.requests.get(&index);
        request.is_some_and(|r| r.keys.iter().all(|key| self.first(key) == Some(index)))
    }

    /// The request by which the session has locked the key.
    fn holder(&self, key: &Arc<str>, session_id: u64) -> Option<u64> {
        let index = self.first(key)?;
        let is_own = self.requests.get(&index)?.command.session_id == session_id;
        (is_own && self.is_granted(index)).then_some(index)
    }

    fn of_session(&self, session_id: u64) -> Vec<u64> {
        let indexes = self.indexes.range(CommandKey::of_session(session_id));
        indexes.map(|(_, index)| *index).collect()
    }

    fn held(&self, session_id: u64) -> BTreeSet<Arc<str>> {
        let granted = self.of_session(session_id).into_iter().filter(|i| self.is_granted(*i));
        let requests = granted.filter_map(|index| self.requests.get(&index));
        requests.flat_map(|request| request.keys.iter().cloned()).collect()
    }

    pub fn digest(&self, digest: &mut Digest) {
        let Self { requests, indexes, queues, timeouts } = self;
        digest.number(requests.len());
        for (index, request) in requests {
            digest.word(*index);
            request.digest(digest);
        }
        digest.number(indexes.len());
        for (command, index) in indexes {
            command.digest(digest);
            digest.word(*index);
        }
        digest.number(queues.len());
        for (key, index) in queues {
            digest.bytes(key.as_bytes());
            digest.word(*index);
        }
        digest.number(timeouts.len());
        for (timer_id, index) in timeouts {
            digest.word(*timer_id);
            digest.word(*index);
        }
    }

    pub fn records(&self) -> impl Iterator<Item = SnapshotKeyLock> + Send + '_ {
        // Without `..`: a new field needs a decision. The others follow from the requests.
        let Self { requests, indexes: _, queues: _, timeouts: _ } = self;
        requests.iter().map(|(index, request)| {
            let Request { command, keys, timeout } = request;
            let CommandKey { session_id, sequence_num } = *command;
            let keys = keys.iter().map(|key| key.to_string()).collect();
            let timeout = timeout.map(Timer::into);
            SnapshotKeyLock { index: *index, session_id, sequence_num, keys, timeout }
        })
    }

    /// Older requests come first: so it is known whether this one waits.
    pub fn restore(
        &mut self,
        lock: SnapshotKeyLock,
        context: &mut RestoreContext<'_>,
    ) -> Result<(), String> {
        let SnapshotKeyLock { index, session_id, sequence_num, keys, timeout } = lock;
        let command = CommandKey { session_id, sequence_num };
        if self.requests.get_max().is_some_and(|(last, _)| *last >= index) {
            return Err(format!("lock {index} comes after a later one"));
        }
        if self.indexes.contains_key(&command) {
            return Err(format!("command {sequence_num} of session {session_id} locks twice"));
        }
        let keys: Arc<[Arc<str>]> = keys.into_iter().map(Arc::from).collect();
        if keys.is_empty() || !keys.is_sorted_by(|one, next| one < next) {
            return Err(format!("lock {index}: keys: is empty, or not in order"));
        }
        let timeout = timeout.map(Timer::from);
        if keys.iter().any(|key| self.first(key).is_some()) {
            context.check_open(command)?;
        } else {
            context.check_attached(session_id)?;
            if timeout.is_some() {
                return Err(format!("lock {index} has its keys, and would time out"));
            }
        }
        timeout.map_or(Ok(()), |timer| context.arm(timer))?;
        self.insert(index, Request { command, keys, timeout });
        Ok(())
    }
}

impl Request {
    fn digest(&self, digest: &mut Digest) {
        let Self { command, keys, timeout } = self;
        command.digest(digest);
        digest.number(keys.len());
        keys.iter().for_each(|key| digest.bytes(key.as_bytes()));
        digest.option(*timeout, Digest::timer);
    }
}

fn check_keys(keys: &[String]) -> Result<BTreeSet<Arc<str>>, Failure> {
    if keys.len() > LOCK_KEYS_MAX {
        return Err(Failure::invalid(format!("keys: {}, at most {LOCK_KEYS_MAX}", keys.len())));
    }
    keys.iter().try_for_each(|key| check_key("keys", key))?;
    Ok(keys.iter().map(|key| Arc::from(key.as_str())).collect())
}

#[cfg(test)]
#[path = "key_locks_tests.rs"]
mod tests;
