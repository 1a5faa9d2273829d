//! The primitives: what clients build with. Each is one file and one [`Primitive`].

mod checks;
mod counter;
mod countermap;
mod election;
mod indexedmap;
mod key_locks;
mod listeners;
mod lock;
mod map;
mod measured;
mod multimap;
mod selection;
mod set;
mod slot;
mod value;

use std::ops::RangeInclusive;

use bytes::Bytes;
use imbl::OrdMap;

pub use crate::answer::Status;
pub use measured::Size;
pub use slot::{Service, Slot};

use crate::digest::Digest;
use crate::limits::{COMMAND_OVERHEAD_BYTES, EMITTED_BYTES_MAX, TTL_MILLIS_MAX};
use crate::session::{Session, duration_millis};
use crate::timers::{Owner, RestoredTimers, Timer, Timers};
pub(crate) use crate::watches::At;
use crate::watches::Changes;

/// What a primitive does with the calls on it. Every method is a function of its arguments and
/// leaves the state untouched when it fails.
pub trait Primitive {
    fn apply(&mut self, call: Call, context: &mut Context<'_>) -> Result<Step, Failure>;

    fn query(&self, operation: u32, input: Bytes) -> Result<Bytes, Failure>;

    /// The outputs of a query that streams, from the present state. Made one by one, as records are.
    fn list(&self, operation: u32, _input: Bytes) -> Result<Records<'_>, Failure> {
        let message = format!("operation {operation} does not stream here");
        Err(Failure::new(Status::NotSupported, message))
    }

    /// An open command ended without an answer: its caller gave it up.
    fn on_command_canceled(&mut self, command: CommandKey, context: &mut Context<'_>);

    /// The session ended, or closed this primitive. Its open commands are ended already.
    fn on_session_closed(&mut self, session_id: u64, context: &mut Context<'_>);

    fn on_timer(&mut self, timer_id: u64, context: &mut Context<'_>);

    /// How much it holds; follows from the state alone, and takes no look at all of it.
    fn size(&self) -> Size;

    fn digest(&self, digest: &mut Digest);

    /// The whole state as encoded records, in a fixed order. They are made one by one: a large state
    /// is many records and never in memory twice.
    fn snapshot(&self) -> Records<'_>;

    /// Takes one of these records into a primitive that was new before the first of them. The
    /// message says what is wrong with the record; a record comes from outside and may be anything.
    fn restore(&mut self, record: Bytes, context: &mut RestoreContext<'_>) -> Result<(), String>;
}

pub type Records<'a> = Box<dyn Iterator<Item = Bytes> + Send + 'a>;

/// Names a command: these two numbers are what makes it take effect once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CommandKey {
    pub session_id: u64,
    pub sequence_num: u64,
}

impl CommandKey {
    const FIRST: Self = Self { session_id: 0, sequence_num: 0 };
    const LAST: Self = Self { session_id: u64::MAX, sequence_num: u64::MAX };

    /// All commands that a session can have.
    fn of_session(session_id: u64) -> RangeInclusive<Self> {
        Self { session_id, ..Self::FIRST }..=Self { session_id, ..Self::LAST }
    }

    fn digest(&self, digest: &mut Digest) {
        let Self { session_id, sequence_num } = self;
        digest.word(*session_id);
        digest.word(*sequence_num);
    }
}

#[derive(Clone, Debug)]
pub struct Call {
    pub command: CommandKey,
    pub operation: u32,
    pub input: Bytes,
}

/// What applying a command brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The encoded output; nothing follows.
    Complete(Bytes),
    /// Outputs follow, by [`Context::emit`], now or with later entries.
    Open,
}

/// An operation that did not happen, as the headers of its response carry it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub status: Status,
    pub message: String,
}

impl Failure {
    pub fn new(status: Status, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Status::Invalid, message)
    }
}

/// The surroundings of a primitive while it handles one event.
#[derive(Debug)]
pub struct Context<'a> {
    /// The machine's index: becomes the version of what is written.
    pub index: u64,
    pub log_time: u64,
    primitive_id: u64,
    timers: &'a mut Timers,
    emitted: &'a mut Vec<Emitted>,
    /// For who watches the primitive here; `None` = nobody does.
    changes: Option<&'a mut Changes>,
    /// Approximate memory of `emitted`.
    emitted_bytes: u64,
    /// The same of `changes`, which must not show in what is emitted: it differs between replicas.
    changes_bytes: u64,
}

/// An output for an open command.
#[derive(Debug)]
pub struct Emitted {
    pub command: CommandKey,
    pub result: Result<Bytes, Failure>,
    pub last: bool,
}

impl Emitted {
    fn bytes(&self) -> u64 {
        COMMAND_OVERHEAD_BYTES + self.result.as_ref().map_or(0, |output| output.len() as u64)
    }
}

impl<'a> Context<'a> {
    pub(crate) fn new(
        (index, log_time): (u64, u64),
        primitive_id: u64,
        timers: &'a mut Timers,
        emitted: &'a mut Vec<Emitted>,
    ) -> Self {
        let (emitted_bytes, changes_bytes) = (0, 0);
        let changes = None;
        Self {
            index,
            log_time,
            primitive_id,
            timers,
            emitted,
            changes,
            emitted_bytes,
            changes_bytes,
        }
    }

    /// With callers on this replica that watch the primitive.
    pub(crate) fn watched(mut self, changes: Option<&'a mut Changes>) -> Self {
        self.changes = changes;
        self
    }

    pub fn is_watched(&self) -> bool {
        self.changes.is_some()
    }

    /// Called with the present state of what has changed; made only if somebody watches.
    pub(crate) fn changed(&mut self, at: At<'_>, output: impl FnOnce() -> Bytes) {
        let Some(changes) = &mut self.changes else { return };
        if self.changes_bytes >= EMITTED_BYTES_MAX {
            changes.missed = true;
            return;
        }
        let output = output();
        self.changes_bytes += COMMAND_OVERHEAD_BYTES + output.len() as u64;
        changes.push(at, output);
    }

    /// Calls `on_timer` with the timer's id once log time has reached now + `delay_millis`; never
    /// at the present log time, so that a chain of timers cannot stand still.
    pub fn arm(&mut self, delay_millis: u64) -> Timer {
        let due = self.log_time.saturating_add(delay_millis.clamp(1, TTL_MILLIS_MAX));
        self.timers.arm(due, Owner::Primitive(self.primitive_id))
    }

    pub fn disarm(&mut self, timer: Timer) {
        self.timers.disarm(timer);
    }

    /// Adds an output to an open command.
    pub fn emit(&mut self, emitted: Emitted) {
        self.emitted_bytes += emitted.bytes();
        self.emitted.push(emitted);
    }

    /// True: [`EMITTED_BYTES_MAX`] is reached. What can be left out is left out now.
    pub fn emitted_enough(&self) -> bool {
        self.emitted_bytes >= EMITTED_BYTES_MAX
    }
}

/// What is restored already when the state of a primitive is.
#[derive(Debug)]
pub struct RestoreContext<'a> {
    primitive_id: u64,
    timers: &'a mut RestoredTimers,
    sessions: &'a OrdMap<u64, Session>,
}

impl<'a> RestoreContext<'a> {
    pub(crate) fn new(
        primitive_id: u64,
        timers: &'a mut RestoredTimers,
        sessions: &'a OrdMap<u64, Session>,
    ) -> Self {
        Self { primitive_id, timers, sessions }
    }

    /// Arms a timer again that the primitive held armed.
    pub fn arm(&mut self, timer: Timer) -> Result<(), String> {
        self.timers.arm(timer, Owner::Primitive(self.primitive_id))
    }

    /// Whatever a session holds or waits for, it must be attached for: else nobody would end it.
    pub fn check_attached(&self, session_id: u64) -> Result<(), String> {
        let attached = self.sessions.get(&session_id).map(|session| &session.attached);
        if !attached.is_some_and(|attached| attached.contains(&self.primitive_id)) {
            return Err(format!("session {session_id} is not attached"));
        }
        Ok(())
    }

    /// Whatever waits for outputs of the primitive must be an open command on it: else nobody would
    /// get them.
    pub fn check_open(&self, command: CommandKey) -> Result<(), String> {
        let CommandKey { session_id, sequence_num } = command;
        let session = self.sessions.get(&session_id);
        if !session.is_some_and(|s| s.commands.is_open(sequence_num, self.primitive_id)) {
            return Err(format!("command {sequence_num} of session {session_id} is not open here"));
        }
        Ok(())
    }
}

/// Decodes the input of an operation. The message is ours, not the decoder's: answers are cached
/// and must not change with a library.
fn decode<M: prost::Message + Default>(input: Bytes) -> Result<M, Failure> {
    M::decode(input).map_err(|_| Failure::invalid("input does not decode"))
}

fn encode(output: &impl prost::Message) -> Bytes {
    output.encode_to_vec().into()
}

fn decode_record<M: prost::Message + Default>(record: Bytes) -> Result<M, String> {
    M::decode(record).map_err(|e| format!("state does not decode: {e}"))
}

fn ttl_millis(field: &str, (seconds, nanos): (i64, i32)) -> Result<u64, Failure> {
    duration_millis(seconds, nanos).map_err(|e| Failure::invalid(format!("{field}: {e}")))
}

/// A number that the service's table does not have, or has for the other kind of call.
fn unknown_operation(service: Service, operation: u32) -> Failure {
    let message = format!("operation {operation} of {} is not served here", service.name());
    Failure::new(Status::NotSupported, message)
}

#[cfg(test)]
mod restore_tests;
#[cfg(test)]
use restore_tests::restored;
