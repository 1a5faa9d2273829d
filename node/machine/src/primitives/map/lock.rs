//! Locks on keys: of one session at a time, first come first served. They keep others from locking,
//! not from writing, and a key needs no entry to be locked.
//!
//! A command gets all of its keys at once: nobody holds a key while waiting for another, and an
//! earlier command is never passed by a later one that wants one of its keys. So two commands cannot
//! wait for each other.

use std::collections::BTreeSet;
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use multiraft_proto::atomix::multiraft::map::v1 as wire;
use multiraft_proto::log::{MapLock, MapLockWaiter};

use super::write::check_key;
use crate::digest::Digest;
use crate::limits::{LOCK_KEYS_MAX, MAP_LOCKS_MAX};
use crate::primitives::{
    CommandKey, Context, Emitted, Failure, RestoreContext, Status, Step, encode, ttl_millis,
};
use crate::timers::Timer;

#[derive(Clone, Debug, Default)]
pub struct Locks {
    /// By the index of their command, which is the order in which they came.
    requests: OrdMap<u64, Request>,
    /// The requests for each key. Who is the first for all of its keys holds them.
    queues: OrdMap<Arc<str>, OrdSet<u64>>,
}

#[derive(Clone, Debug)]
struct Request {
    session_id: u64,
    /// Sorted and distinct. Shared: a view of the map must stay cheap.
    keys: Arc<[Arc<str>]>,
    /// None when it holds its keys.
    waiting: Option<Waiting>,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    sequence_num: u64,
    timeout: Option<Timer>,
}

impl Locks {
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    pub fn lock(
        &mut self,
        CommandKey { session_id, sequence_num }: CommandKey,
        wire::LockInput { keys, timeout }: wire::LockInput,
        context: &mut Context<'_>,
    ) -> Result<Step, Failure> {
        let keys = check_keys(keys)?;
        if keys.is_empty() {
            return Err(Failure::invalid("keys: is empty"));
        }
        let timeout = timeout.map(|timeout| (timeout.seconds, timeout.nanos));
        let timeout = timeout.map(|timeout| ttl_millis("timeout", timeout)).transpose()?;
        let is_free = keys.iter().all(|key| !self.queues.contains_key(key));
        if !is_free && timeout == Some(0) {
            return Err(not_in_time());
        }
        if self.requests.len() >= MAP_LOCKS_MAX {
            let message = format!("{MAP_LOCKS_MAX} commands hold locks or wait for them already");
            return Err(Failure::new(Status::Conflict, message));
        }
        let waiting = (!is_free).then(|| {
            let timeout = timeout.map(|millis| context.arm(millis));
            Waiting { sequence_num, timeout }
        });
        for key in &keys {
            self.queues.entry(Arc::clone(key)).or_default().insert(context.index);
        }
        let keys = keys.into_iter().collect();
        self.requests.insert(context.index, Request { session_id, keys, waiting });
        match is_free {
            true => Ok(Step::Complete(encode(&wire::LockOutput {}))),
            false => Ok(Step::Open),
        }
    }

    pub fn unlock(
        &mut self,
        session_id: u64,
        wire::UnlockInput { keys }: wire::UnlockInput,
        context: &mut Context<'_>,
    ) -> Result<Step, Failure> {
        let keys = match keys.is_empty() {
            true => self.held_by(session_id),
            false => check_keys(keys)?,
        };
        if !keys.iter().all(|key| self.holder(key) == Some(session_id)) {
            let message = "keys: one is not locked by this session";
            return Err(Failure::new(Status::Conflict, message));
        }
        for key in &keys {
            let first = self.queues.get(key).and_then(|queue| queue.get_min().copied());
            if let Some(index) = first {
                self.withdraw(index, key);
                self.shrink(index, key);
            }
        }
        self.grant(&keys, context);
        Ok(Step::Complete(encode(&wire::UnlockOutput {})))
    }

    pub fn on_command_canceled(&mut self, command: CommandKey, context: &mut Context<'_>) {
        let CommandKey { session_id, sequence_num } = command;
        let is_meant = |request: &Request| {
            let waiting = request.waiting.map(|waiting| waiting.sequence_num);
            request.session_id == session_id && waiting == Some(sequence_num)
        };
        self.remove(is_meant, context);
    }

    pub fn on_session_closed(&mut self, session_id: u64, context: &mut Context<'_>) {
        self.remove(|request| request.session_id == session_id, context);
    }

    pub fn on_timer(&mut self, timer_id: u64, context: &mut Context<'_>) {
        let is_over = |request: &Request| {
            let timeout = request.waiting.and_then(|waiting| waiting.timeout);
            timeout.is_some_and(|timer| timer.id == timer_id)
        };
        for Request { session_id, waiting, .. } in self.remove(is_over, context) {
            if let Some(Waiting { sequence_num, .. }) = waiting {
                let command = CommandKey { session_id, sequence_num };
                context.emit(Emitted { command, result: Err(not_in_time()), last: true });
            }
        }
    }

    fn held_by(&self, session_id: u64) -> BTreeSet<Arc<str>> {
        let own = |request: &&Request| request.session_id == session_id;
        let held = self.requests.values().filter(own).filter(|request| request.waiting.is_none());
        held.flat_map(|request| request.keys.iter().cloned()).collect()
    }

    /// The session that has locked `key`.
    fn holder(&self, key: &str) -> Option<u64> {
        let request = self.requests.get(self.queues.get(key)?.get_min()?)?;
        request.waiting.is_none().then_some(request.session_id)
    }

    /// Ends requests. All of them are gone before others get their keys.
    fn remove(
        &mut self,
        is_meant: impl Fn(&Request) -> bool,
        context: &mut Context<'_>,
    ) -> Vec<Request> {
        let meant = self.requests.iter().filter(|(_, request)| is_meant(request));
        let meant: Vec<_> = meant.map(|(index, request)| (*index, request.clone())).collect();
        for (index, request) in &meant {
            self.requests.remove(index);
            request.keys.iter().for_each(|key| self.withdraw(*index, key));
            let timeout = request.waiting.and_then(|waiting| waiting.timeout);
            timeout.into_iter().for_each(|timer| context.disarm(timer));
        }
        let keys = meant.iter().flat_map(|(_, request)| request.keys.iter().cloned()).collect();
        self.grant(&keys, context);
        meant.into_iter().map(|(_, request)| request).collect()
    }

    fn withdraw(&mut self, index: u64, key: &Arc<str>) {
        let Some(queue) = self.queues.get_mut(key) else { return };
        queue.remove(&index);
        if queue.is_empty() {
            self.queues.remove(key);
        }
    }

    fn shrink(&mut self, index: u64, key: &Arc<str>) {
        let Some(request) = self.requests.get_mut(&index) else { return };
        request.keys = request.keys.iter().filter(|other| *other != key).cloned().collect();
        if request.keys.is_empty() {
            self.requests.remove(&index);
        }
    }

    /// Gives keys that somebody left to those who come next, in the order in which they came.
    fn grant(&mut self, keys: &BTreeSet<Arc<str>>, context: &mut Context<'_>) {
        let next = |key| self.queues.get(key).and_then(|queue| queue.get_min().copied());
        let next: BTreeSet<u64> = keys.iter().filter_map(next).collect();
        for index in next {
            let Some(request) = self.requests.get(&index) else { continue };
            let is_first = request.keys.iter().all(|key| self.is_first(index, key));
            let (true, Some(Waiting { sequence_num, timeout })) = (is_first, request.waiting)
            else {
                continue;
            };
            timeout.into_iter().for_each(|timer| context.disarm(timer));
            let command = CommandKey { session_id: request.session_id, sequence_num };
            let result = Ok(encode(&wire::LockOutput {}));
            context.emit(Emitted { command, result, last: true });
            if let Some(request) = self.requests.get_mut(&index) {
                request.waiting = None;
            }
        }
    }

    fn is_first(&self, index: u64, key: &str) -> bool {
        self.queues.get(key).and_then(|queue| queue.get_min().copied()) == Some(index)
    }

    pub fn digest(&self, digest: &mut Digest) {
        let Self { requests, queues } = self;
        digest.number(requests.len());
        for (index, request) in requests {
            digest.word(*index);
            request.digest(digest);
        }
        digest.number(queues.len());
        for (key, queue) in queues {
            digest.bytes(key.as_bytes());
            digest.number(queue.len());
            queue.iter().for_each(|index| digest.word(*index));
        }
    }

    pub fn records(&self) -> impl Iterator<Item = MapLock> + Send + '_ {
        // The queues follow from the requests.
        let Self { requests, queues: _ } = self;
        requests.iter().map(|(index, Request { session_id, keys, waiting })| MapLock {
            index: *index,
            session_id: *session_id,
            keys: keys.iter().map(|key| key.to_string()).collect(),
            waiter: waiting.map(|Waiting { sequence_num, timeout }| MapLockWaiter {
                sequence_num,
                timeout: timeout.map(Timer::into),
            }),
        })
    }

    /// Earlier requests come first: so it is known whether this one waits.
    pub fn restore(
        &mut self,
        MapLock { index, session_id, keys, waiter }: MapLock,
        context: &mut RestoreContext<'_>,
    ) -> Result<(), String> {
        context.check_attached(session_id)?;
        if self.requests.get_max().is_some_and(|(last, _)| *last >= index) {
            return Err(format!("lock {index} comes after a later one"));
        }
        let keys: Arc<[Arc<str>]> = keys.into_iter().map(Arc::from).collect();
        if keys.is_empty() || !keys.is_sorted_by(|one, next| one < next) {
            return Err(format!("lock {index}: the keys are not in order"));
        }
        if keys.iter().all(|key| !self.queues.contains_key(key)) != waiter.is_none() {
            return Err(format!("lock {index} neither holds its keys nor waits for them"));
        }
        let waiting = match waiter {
            Some(MapLockWaiter { sequence_num, timeout }) => {
                context.check_open(CommandKey { session_id, sequence_num })?;
                let timeout = timeout.map(Timer::from);
                timeout.map(|timer| context.arm(timer)).transpose()?;
                Some(Waiting { sequence_num, timeout })
            }
            None => None,
        };
        for key in keys.iter() {
            self.queues.entry(Arc::clone(key)).or_default().insert(index);
        }
        self.requests.insert(index, Request { session_id, keys, waiting });
        Ok(())
    }
}

impl Request {
    fn digest(&self, digest: &mut Digest) {
        let Self { session_id, keys, waiting } = self;
        digest.word(*session_id);
        digest.number(keys.len());
        keys.iter().for_each(|key| digest.bytes(key.as_bytes()));
        digest.option(waiting.as_ref(), |digest, waiting| waiting.digest(digest));
    }
}

impl Waiting {
    fn digest(&self, digest: &mut Digest) {
        let Self { sequence_num, timeout } = self;
        digest.word(*sequence_num);
        digest.option(*timeout, Digest::timer);
    }
}

fn check_keys(keys: Vec<String>) -> Result<BTreeSet<Arc<str>>, Failure> {
    if keys.len() > LOCK_KEYS_MAX {
        return Err(Failure::invalid(format!("keys: {}, at most {LOCK_KEYS_MAX}", keys.len())));
    }
    keys.iter().try_for_each(|key| check_key("keys", key))?;
    Ok(keys.into_iter().map(Arc::from).collect())
}

fn not_in_time() -> Failure {
    Failure::new(Status::Conflict, "timeout: a key is locked")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::each_field_changes_the_digest;
    use crate::timers::Timers;

    fn request() -> Request {
        Request { session_id: 1, keys: Arc::from(["a".into()]), waiting: None }
    }

    fn waiting() -> Waiting {
        Waiting { sequence_num: 1, timeout: None }
    }

    #[test]
    fn each_field_of_the_locks_is_in_the_digest() {
        each_field_changes_the_digest!(Locks::default(), Locks::digest, Locks {
            requests => requests.insert(1, request()),
            queues => queues.insert("a".into(), OrdSet::unit(1)),
        });
        each_field_changes_the_digest!(request(), Request::digest, Request {
            session_id => *session_id = 2,
            keys => *keys = Arc::from(["b".into()]),
            waiting => *waiting = Some(self::waiting()),
        });
        for timer in [Timer { due: 1, id: 0 }, Timer { due: 0, id: 1 }] {
            each_field_changes_the_digest!(waiting(), Waiting::digest, Waiting {
                sequence_num => *sequence_num = 2,
                timeout => *timeout = Some(timer),
            });
        }
    }

    #[test]
    fn records_that_contradict_each_other_are_refused() {
        use crate::primitives::{map::Map, restored};
        use multiraft_proto::log::{MapRecord, map_record::Record};
        let lock = |index, session_id, keys: &[&str], sequence_num: Option<u64>| {
            let keys = keys.iter().map(|key| (*key).to_owned()).collect();
            let timeout = Some(Timer { due: 1_000, id: index }.into());
            let waiter = sequence_num.map(|sequence_num| MapLockWaiter { sequence_num, timeout });
            MapRecord { record: Some(Record::Lock(MapLock { index, session_id, keys, waiter })) }
        };
        let restored = |records: &[MapRecord]| {
            restored(&mut Map::default(), records).err().unwrap_or_default()
        };
        let held = || lock(5, 1, &["a", "b"], None);
        assert_eq!(restored(&[held(), lock(6, 1, &["b", "c"], Some(1))]), "");
        assert_eq!(restored(&[lock(5, 2, &["a"], None)]), "session 2 is not attached");
        assert_eq!(restored(&[held(), held()]), "lock 5 comes after a later one");
        let keys = "lock 6: the keys are not in order";
        for wrong in [&["b", "a"][..], &["a", "a"], &[]] {
            assert_eq!(restored(&[lock(6, 1, wrong, None)]), keys);
        }
        let neither = "lock 6 neither holds its keys nor waits for them";
        assert_eq!(restored(&[held(), lock(6, 1, &["b", "c"], None)]), neither);
        assert_eq!(restored(&[held(), lock(6, 1, &["c"], Some(1))]), neither);
        let closed = restored(&[held(), lock(6, 1, &["b"], Some(4))]);
        assert_eq!(closed, "command 4 of session 1 is not open here");
        let timer = restored(&[held(), lock(10, 1, &["b"], Some(1))]);
        assert_eq!(timer, "timer 10 was never given out, 9 was");
    }

    #[test]
    fn one_lock_too_many_is_refused() {
        let (mut locks, mut timers, mut emitted) =
            (Locks::default(), Timers::default(), Vec::new());
        let mut lock = |index: u64| {
            let mut context = Context::new((index, 1), 1, &mut timers, &mut emitted);
            let command = CommandKey { session_id: 1, sequence_num: index };
            let input = wire::LockInput { keys: vec![index.to_string()], timeout: None };
            locks.lock(command, input, &mut context).map_err(|failure| failure.status)
        };
        for index in 1..=MAP_LOCKS_MAX as u64 {
            assert!(lock(index).is_ok());
        }
        assert_eq!(lock(MAP_LOCKS_MAX as u64 + 1), Err(Status::Conflict));
        assert_eq!(locks.requests.len(), MAP_LOCKS_MAX);
    }
}
