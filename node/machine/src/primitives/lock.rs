//! A lock that one session holds at a time; the others wait, first come first served.
//!
//! It is held by a session, not by a command, and it is not re-entrant: another `Acquire` of the
//! holder waits like any other.

use bytes::Bytes;
use imbl::OrdMap;
use multiraft_proto::lock as wire;
use multiraft_proto::log::lock_record::Record;
use multiraft_proto::log::{LockHolder, LockRecord, LockWaiter};
use multiraft_proto::rpc::lock as operation;

use super::{
    Call, CommandKey, Context, Emitted, Failure, Primitive, Records, RestoreContext, Service, Size,
    Status, Step, decode, decode_record, encode, ttl_millis, unknown_operation,
};
use crate::digest::Digest;
use crate::limits::{ENTRY_OVERHEAD_BYTES, LOCK_WAITERS_MAX};
use crate::timers::Timer;

#[derive(Clone, Debug, Default)]
pub struct Lock {
    holder: Option<Holder>,
    /// By the index of their command, which is the order in which they came. Nobody waits for a
    /// free lock.
    waiters: OrdMap<u64, Waiter>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Holder {
    /// Index of its `Acquire`: the fencing token. It only grows, since the waiters are in order.
    index: u64,
    session_id: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Waiter {
    command: CommandKey,
    timeout: Option<Timer>,
}

impl Primitive for Lock {
    fn apply(&mut self, call: Call, context: &mut Context<'_>) -> Result<Step, Failure> {
        let Call { command, operation, input } = call;
        match operation {
            operation::ACQUIRE => self.acquire(command, decode(input)?, context),
            operation::RELEASE => self.release(command.session_id, decode(input)?, context),
            other => Err(unknown_operation(Service::Lock, other)),
        }
    }

    fn query(&self, operation: u32, input: Bytes) -> Result<Bytes, Failure> {
        match operation {
            operation::GET => {
                let wire::GetInput {} = decode(input)?;
                let free = || Failure::new(Status::NotFound, "the lock is free");
                let Holder { index, .. } = self.holder.ok_or_else(free)?;
                Ok(encode(&wire::GetOutput { index }))
            }
            other => Err(unknown_operation(Service::Lock, other)),
        }
    }

    fn on_command_canceled(&mut self, command: CommandKey, context: &mut Context<'_>) {
        self.stop_waiting(|waiter| waiter.command == command, context);
    }

    fn on_session_closed(&mut self, session_id: u64, context: &mut Context<'_>) {
        // First: what it waits for must not be handed to it.
        self.stop_waiting(|waiter| waiter.command.session_id == session_id, context);
        if self.holder.is_some_and(|holder| holder.session_id == session_id) {
            self.hand_over(context);
        }
    }

    fn on_timer(&mut self, timer_id: u64, context: &mut Context<'_>) {
        let is_over = |waiter: &Waiter| waiter.timeout.is_some_and(|timer| timer.id == timer_id);
        for Waiter { command, .. } in self.stop_waiting(is_over, context) {
            context.emit(Emitted { command, result: Err(not_in_time()), last: true });
        }
    }

    fn size(&self) -> Size {
        let Self { holder, waiters } = self;
        let count = waiters.len() + usize::from(holder.is_some());
        Size::new(count, count as u64 * ENTRY_OVERHEAD_BYTES)
    }

    fn digest(&self, digest: &mut Digest) {
        let Self { holder, waiters } = self;
        digest.option(holder.as_ref(), |digest, holder| holder.digest(digest));
        digest.number(waiters.len());
        for (index, waiter) in waiters {
            digest.word(*index);
            waiter.digest(digest);
        }
    }

    fn snapshot(&self) -> Records<'_> {
        let Self { holder, waiters } = self;
        let holder = holder
            .map(|Holder { index, session_id }| Record::Holder(LockHolder { index, session_id }));
        let waiters = waiters.iter().map(|(index, Waiter { command, timeout })| {
            let CommandKey { session_id, sequence_num } = *command;
            let (index, timeout) = (*index, timeout.map(Timer::into));
            Record::Waiter(LockWaiter { index, session_id, sequence_num, timeout })
        });
        let records = holder.into_iter().chain(waiters);
        Box::new(records.map(|record| encode(&LockRecord { record: Some(record) })))
    }

    fn restore(&mut self, record: Bytes, context: &mut RestoreContext<'_>) -> Result<(), String> {
        let LockRecord { record } = decode_record(record)?;
        match record.ok_or("record is absent, or of an unknown kind")? {
            Record::Holder(holder) => self.restore_holder(&holder, context),
            Record::Waiter(waiter) => self.restore_waiter(waiter, context),
        }
    }
}

impl Lock {
    fn acquire(
        &mut self,
        command: CommandKey,
        wire::AcquireInput { timeout }: wire::AcquireInput,
        context: &mut Context<'_>,
    ) -> Result<Step, Failure> {
        let timeout = timeout.map(|timeout| (timeout.seconds, timeout.nanos));
        let timeout = timeout.map(|timeout| ttl_millis("timeout", timeout)).transpose()?;
        let index = context.index;
        if self.holder.is_none() {
            self.holder = Some(Holder { index, session_id: command.session_id });
            return Ok(Step::Complete(encode(&wire::AcquireOutput { index })));
        }
        if timeout == Some(0) {
            return Err(not_in_time());
        }
        if self.waiters.len() >= LOCK_WAITERS_MAX {
            let message = format!("{LOCK_WAITERS_MAX} commands wait for the lock already");
            return Err(Failure::new(Status::Conflict, message));
        }
        let timeout = timeout.map(|millis| context.arm(millis));
        self.waiters.insert(index, Waiter { command, timeout });
        Ok(Step::Open)
    }

    fn release(
        &mut self,
        session_id: u64,
        _: wire::ReleaseInput,
        context: &mut Context<'_>,
    ) -> Result<Step, Failure> {
        if self.holder.is_none_or(|holder| holder.session_id != session_id) {
            return Err(Failure::new(Status::Conflict, "the session does not hold the lock"));
        }
        self.hand_over(context);
        Ok(Step::Complete(encode(&wire::ReleaseOutput {})))
    }

    /// The only way in which a held lock gets another holder, or none.
    fn hand_over(&mut self, context: &mut Context<'_>) {
        self.holder = None;
        let Some((index, waiter)) = self.waiters.get_min().copied() else { return };
        self.waiters.remove(&index);
        let Waiter { command, timeout } = waiter;
        timeout.into_iter().for_each(|timer| context.disarm(timer));
        self.holder = Some(Holder { index, session_id: command.session_id });
        let result = Ok(encode(&wire::AcquireOutput { index }));
        context.emit(Emitted { command, result, last: true });
    }

    fn stop_waiting(
        &mut self,
        is_meant: impl Fn(&Waiter) -> bool,
        context: &mut Context<'_>,
    ) -> Vec<Waiter> {
        let meant = self.waiters.iter().filter(|(_, waiter)| is_meant(waiter));
        let meant: Vec<_> = meant.map(|(index, waiter)| (*index, *waiter)).collect();
        for (index, waiter) in &meant {
            self.waiters.remove(index);
            waiter.timeout.into_iter().for_each(|timer| context.disarm(timer));
        }
        meant.into_iter().map(|(_, waiter)| waiter).collect()
    }

    fn restore_holder(
        &mut self,
        &LockHolder { index, session_id }: &LockHolder,
        context: &RestoreContext<'_>,
    ) -> Result<(), String> {
        context.check_attached(session_id)?;
        match self.holder.replace(Holder { index, session_id }) {
            None => Ok(()),
            Some(_) => Err("the lock has two holders".into()),
        }
    }

    fn restore_waiter(
        &mut self,
        LockWaiter { index, session_id, sequence_num, timeout }: LockWaiter,
        context: &mut RestoreContext<'_>,
    ) -> Result<(), String> {
        let command = CommandKey { session_id, sequence_num };
        context.check_open(command)?;
        if self.holder.is_none_or(|holder| holder.index >= index) {
            return Err(format!("command {index} waits for a lock that it should hold"));
        }
        let timeout = timeout.map(Timer::from);
        timeout.map(|timer| context.arm(timer)).transpose()?;
        match self.waiters.insert(index, Waiter { command, timeout }) {
            None => Ok(()),
            Some(_) => Err(format!("command {index} waits twice")),
        }
    }
}

impl Holder {
    fn digest(&self, digest: &mut Digest) {
        let Self { index, session_id } = self;
        digest.word(*index);
        digest.word(*session_id);
    }
}

impl Waiter {
    fn digest(&self, digest: &mut Digest) {
        let Self { command, timeout } = self;
        command.digest(digest);
        digest.option(*timeout, Digest::timer);
    }
}

fn not_in_time() -> Failure {
    Failure::new(Status::Conflict, "timeout: the lock is held")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::each_field_changes_the_digest;
    use crate::timers::Timers;

    const HOLDER: Holder = Holder { index: 1, session_id: 2 };

    fn waiter() -> Waiter {
        Waiter { command: CommandKey { session_id: 3, sequence_num: 4 }, timeout: None }
    }

    #[test]
    fn each_field_of_a_lock_is_in_the_digest() {
        each_field_changes_the_digest!(Lock::default(), Lock::digest, Lock {
            holder => *holder = Some(HOLDER),
            waiters => waiters.insert(1, waiter()),
        });
        each_field_changes_the_digest!(HOLDER, Holder::digest, Holder {
            index => *index = 2,
            session_id => *session_id = 1,
        });
        for timer in [Timer { due: 1, id: 0 }, Timer { due: 0, id: 1 }] {
            each_field_changes_the_digest!(waiter(), Waiter::digest, Waiter {
                command => command.sequence_num = 3,
                timeout => *timeout = Some(timer),
            });
        }
    }

    #[test]
    fn records_that_contradict_each_other_are_refused() {
        let record = |record| LockRecord { record: Some(record) };
        let holder = |session_id| record(Record::Holder(LockHolder { index: 5, session_id }));
        let waits = |index, sequence_num, timeout: Option<Timer>| {
            let timeout = timeout.map(Timer::into);
            record(Record::Waiter(LockWaiter { index, session_id: 1, sequence_num, timeout }))
        };
        let restored = |records: &[LockRecord]| {
            crate::primitives::restored(&mut Lock::default(), records).err().unwrap_or_default()
        };
        let timer = |id| Some(Timer { due: 1_000, id });
        assert_eq!(restored(&[holder(1), waits(6, 1, None), waits(7, 2, timer(1))]), "");
        assert_eq!(
            restored(&[LockRecord { record: None }]),
            "record is absent, or of an unknown kind"
        );
        assert_eq!(restored(&[holder(2)]), "session 2 is not attached");
        assert_eq!(restored(&[holder(1), holder(1)]), "the lock has two holders");
        let free = "command 6 waits for a lock that it should hold";
        assert_eq!(restored(&[waits(6, 1, None)]), free);
        assert!(restored(&[holder(1), waits(5, 1, None)]).contains("should hold"));
        assert!(restored(&[holder(1), waits(6, 4, None)]).contains("is not open here"));
        let twice = [holder(1), waits(6, 1, None), waits(6, 2, None)];
        assert_eq!(restored(&twice), "command 6 waits twice");
        let timers = [holder(1), waits(6, 1, timer(1)), waits(7, 2, timer(1))];
        assert_eq!(restored(&timers), "timer 1 is armed twice");
    }

    #[test]
    fn one_waiter_too_many_is_refused() {
        let (mut lock, mut timers, mut emitted) = (Lock::default(), Timers::default(), Vec::new());
        let mut acquire = |index| {
            let mut context = Context::new((index, 1), 1, &mut timers, &mut emitted);
            let command = CommandKey { session_id: 1, sequence_num: index };
            lock.acquire(command, wire::AcquireInput::default(), &mut context)
        };
        assert!(matches!(acquire(1), Ok(Step::Complete(_))));
        for index in 2..=LOCK_WAITERS_MAX as u64 + 1 {
            assert_eq!(acquire(index), Ok(Step::Open));
        }
        let refused = acquire(LOCK_WAITERS_MAX as u64 + 2).unwrap_err();
        assert_eq!(refused.status, Status::Conflict);
        assert_eq!(lock.waiters.len(), LOCK_WAITERS_MAX);
    }
}
