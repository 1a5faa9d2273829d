//! The machine: entries in, effects out.

use bytes::Bytes;
use imbl::OrdMap;
use multiraft_proto::log::{LogEntry, LogItem, log_item};
use multiraft_proto::v1::{PartitionInput, partition_input};
use prost::Message;

use crate::answer::{Answer, Body, Effect, EntryError, Output, Query, Rejection, Status};
use crate::commands::Waiter;
use crate::digest::Digest;
use crate::limits::{ENTRY_FORMAT, FEATURE_LEVEL, WATCHES_MAX};
use crate::primitives::{Context, Failure, Records, Slot};
use crate::quotas::Quotas;
use crate::remembered::Remembered;
use crate::session::Session;
use crate::timers::{Owner, Timer, Timers};
use crate::watches::{Changes, Selection, Watches};

/// State of one group. Cloning is O(1); the clone is a view that later entries do not touch.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    pub(crate) index: u64,
    pub(crate) log_time: u64,
    /// Highest feature level of any applied entry: who does not know it cannot hold this state.
    pub(crate) feature_level: u32,
    pub(crate) timers: Timers,
    pub(crate) sessions: OrdMap<u64, Session>,
    pub(crate) primitives: OrdMap<u64, Slot>,
    pub(crate) names: OrdMap<crate::calls::Name, u64>,
    pub(crate) remembered: Remembered,
    pub(crate) quotas: Quotas,
    /// Of callers of this replica: no part of the state.
    pub(crate) watches: Watches,
}

/// A session as seen by inspection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionSummary {
    pub session_id: u64,
    pub timeout_millis: u64,
    /// Log time at which the session expires unless it is kept alive.
    pub expires_at: u64,
    /// Commands whose outputs are not yet released.
    pub commands: usize,
    /// Ids of the primitives that the session is attached to.
    pub primitives: Vec<u64>,
}

/// A primitive as seen by inspection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrimitiveSummary {
    pub primitive_id: u64,
    pub service: &'static str,
    pub namespace: String,
    pub name: String,
}

impl Machine {
    pub fn new() -> Self {
        Self::default()
    }

    /// Count of applied proposals. Ticks and cancels do not count.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// Milliseconds since the Unix epoch, as stamped by leaders; never goes back.
    pub fn log_time(&self) -> u64 {
        self.log_time
    }

    /// Log time at which the earliest timer is due. An entry stamped then or later fires it.
    pub fn next_timer(&self) -> Option<u64> {
        self.timers.next_due()
    }

    /// Applies the payload of one Raft entry (an encoded `LogEntry`) that was replicated in `term`.
    ///
    /// An entry that was stamped in another term is skipped: its log time may be behind. An empty
    /// payload is the entry by which a new leader commits its term. An error means that no working
    /// member proposed this: the node must stop. Nothing was applied then.
    pub fn apply(
        &mut self,
        term: u64,
        payload: &Bytes,
        effects: &mut Vec<Effect>,
    ) -> Result<(), EntryError> {
        if payload.is_empty() {
            return Ok(());
        }
        let entry = self.decode(payload)?;
        if entry.term != term {
            return Ok(());
        }
        self.feature_level = self.feature_level.max(entry.feature_level);
        self.advance(entry.log_time, effects);
        for item in entry.items {
            self.apply_item(item, effects);
        }
        Ok(())
    }

    fn decode(&self, payload: &Bytes) -> Result<LogEntry, EntryError> {
        let index = self.index;
        let entry = LogEntry::decode(payload.clone())
            .map_err(|source| EntryError::Undecodable { index, source })?;
        if entry.format != ENTRY_FORMAT {
            return Err(EntryError::Format { index, format: entry.format, known: ENTRY_FORMAT });
        }
        if entry.feature_level > FEATURE_LEVEL {
            let level = entry.feature_level;
            return Err(EntryError::FeatureLevel { index, level, known: FEATURE_LEVEL });
        }
        if entry.items.iter().any(|item| item.item.is_none()) {
            return Err(EntryError::UnknownItem { index });
        }
        Ok(entry)
    }

    /// Moves log time to `stamp`. Timers due on the way fire in order, each at its own time. An
    /// older stamp changes nothing.
    fn advance(&mut self, stamp: u64, effects: &mut Vec<Effect>) {
        if stamp <= self.log_time {
            return;
        }
        while let Some((timer, owner)) = self.timers.take_due(stamp) {
            self.log_time = timer.due;
            self.fire(timer, owner, effects);
        }
        self.log_time = stamp;
    }

    pub(crate) fn fire(&mut self, timer: Timer, owner: Owner, effects: &mut Vec<Effect>) {
        match owner {
            Owner::Session(session_id) => self.end_session(session_id, effects),
            Owner::Primitive(primitive_id) => {
                self.with_primitive(primitive_id, effects, |primitive, context| {
                    primitive.on_timer(timer.id, context);
                });
            }
        }
    }

    fn apply_item(&mut self, item: LogItem, effects: &mut Vec<Effect>) {
        let waiter = Waiter { origin: item.origin, number: item.number };
        match item.item {
            Some(log_item::Item::Input(input)) => self.apply_input(waiter, input, effects),
            Some(log_item::Item::Cancel(cancel)) => self.cancel(waiter, &cancel, effects),
            // Its entry has moved log time already.
            Some(log_item::Item::Tick(_)) | None => {}
        }
    }

    fn apply_input(&mut self, waiter: Waiter, input: Bytes, effects: &mut Vec<Effect>) {
        self.index += 1;
        let invalid = |message: &str| Err(Rejection::Invalid { message: message.into() });
        let payload = match PartitionInput::decode(input) {
            Err(_) => return self.answer(waiter, invalid("input does not decode"), effects),
            Ok(input) => input.payload,
        };
        match payload {
            Some(partition_input::Payload::SessionInput(input)) => {
                self.call(waiter, input, effects);
            }
            Some(partition_input::Payload::OpenSession(input)) => {
                self.once(waiter, effects, |machine, _| machine.open_session(&input));
            }
            Some(partition_input::Payload::CloseSession(input)) => {
                self.once(waiter, effects, |machine, effects| {
                    machine.close_session(input.session_id, effects)
                });
            }
            // Not remembered: a duplicate does no harm, and remembering the most frequent input
            // would shorten the memory for the others.
            Some(partition_input::Payload::KeepAlive(input)) => {
                let result = self.keep_alive(input, effects);
                self.answer(waiter, result, effects);
            }
            Some(partition_input::Payload::ExpireSession(input)) => {
                self.once(waiter, effects, |machine, effects| {
                    machine.expire_session(input, effects)
                });
            }
            Some(partition_input::Payload::DestroyPrimitive(input)) => {
                self.once(waiter, effects, |machine, effects| {
                    machine.destroy_primitive(input, effects)
                });
            }
            Some(partition_input::Payload::SetQuota(input)) => {
                self.once(waiter, effects, |machine, _| machine.set_quota(input));
            }
            None => self.answer(waiter, invalid("payload: is absent"), effects),
        }
    }

    /// Lets an input without a sequence number take effect once, although a node that forwarded it
    /// may have done so twice.
    fn once(
        &mut self,
        waiter: Waiter,
        effects: &mut Vec<Effect>,
        act: impl FnOnce(&mut Self, &mut Vec<Effect>) -> Result<Output, Rejection>,
    ) {
        if let Some(answer) = self.remembered.get(waiter) {
            effects.push(waiter.answer(answer.clone()));
            return;
        }
        let result = act(self, effects);
        let answer = Answer { index: self.index, result };
        self.remembered.insert(waiter, answer.clone());
        effects.push(waiter.answer(answer));
    }

    pub(crate) fn answer(
        &self,
        waiter: Waiter,
        result: Result<Output, Rejection>,
        effects: &mut Vec<Effect>,
    ) {
        effects.push(waiter.answer(Answer { index: self.index, result }));
    }

    /// Answers from the applied state.
    pub fn query(&self, query: &Query) -> Answer {
        Answer { index: self.index, result: self.read(query) }
    }

    /// Answers a query that streams, one output after the other; an error is its only answer. A caller
    /// that takes its time makes a view (a clone) first.
    pub fn list(&self, query: &Query) -> Result<Records<'_>, Answer> {
        let answer = |result| Answer { index: self.index, result };
        let slot = self.slot(query).map_err(|rejection| answer(Err(rejection)))?;
        slot.and_then(|slot| slot.primitive().list(query.operation, query.input.clone()))
            .map_err(|failure| answer(Ok(operation_output(0, Err(failure)))))
    }

    /// Lets the caller of a query that streams be told of later changes, if the query wants that: a
    /// view that is made now is what they begin from. Answers for it are [`Effect::Answer`]s; it ends
    /// with its session, with the primitive, by a keep-alive, or by [`Self::unwatch`].
    ///
    /// # Errors
    /// There are too many of them.
    pub fn watch(&mut self, query: &Query, waiter: Waiter) -> Result<bool, Answer> {
        let Some(selection) = Selection::of(query) else { return Ok(false) };
        if self.watches.len() >= WATCHES_MAX {
            let message = format!("watch: {WATCHES_MAX} queries watch this group here already");
            let failure = Failure::new(Status::Conflict, message);
            let result = Ok(operation_output(0, Err(failure)));
            return Err(Answer { index: self.index, result });
        }
        self.watches.insert(query, selection, waiter);
        Ok(true)
    }

    /// The caller went away.
    pub fn unwatch(&mut self, waiter: Waiter) {
        self.watches.remove(waiter);
    }

    fn read(&self, query: &Query) -> Result<Output, Rejection> {
        if query.session_id == 0 {
            return Ok(self.inspect(query));
        }
        let result = self
            .slot(query)?
            .and_then(|slot| slot.primitive().query(query.operation, query.input.clone()));
        Ok(operation_output(0, result.map(Body::Payload)))
    }

    /// The primitive that a query is for, if its session has it open.
    fn slot(&self, query: &Query) -> Result<Result<&Slot, Failure>, Rejection> {
        let Query { session_id, primitive_id, .. } = *query;
        let session = self.sessions.get(&session_id);
        let session = session.ok_or(Rejection::UnknownSession { session_id })?;
        let slot = self.primitives.get(&primitive_id);
        let slot = slot.filter(|_| session.attached.contains(&primitive_id));
        Ok(slot.ok_or_else(|| not_attached(primitive_id)))
    }

    /// Runs a hook of one primitive and delivers what it emits.
    pub(crate) fn with_primitive(
        &mut self,
        primitive_id: u64,
        effects: &mut Vec<Effect>,
        hook: impl FnOnce(&mut dyn crate::primitives::Primitive, &mut Context<'_>),
    ) {
        let Some(slot) = self.primitives.get_mut(&primitive_id) else { return };
        let (mut emitted, mut changes) = <(Vec<_>, Changes)>::default();
        let is_watched = self.watches.is_watched(primitive_id);
        let (now, timers) = ((self.index, self.log_time), &mut self.timers);
        self.quotas.count(slot, |slot| {
            let mut context = Context::new(now, primitive_id, timers, &mut emitted)
                .watched(is_watched.then_some(&mut changes));
            hook(slot.primitive_mut(), &mut context);
        });
        self.deliver(emitted, effects);
        self.watches.tell(primitive_id, self.index, changes, effects);
    }

    /// A hash of the whole state: equal on replicas that applied the same entries.
    pub fn digest(&self) -> u64 {
        let Self {
            index,
            log_time,
            feature_level,
            timers,
            sessions,
            primitives,
            names,
            remembered,
            quotas,
            watches: _,
        } = self;
        let mut digest = Digest::new();
        digest.word(*index);
        digest.word(*log_time);
        digest.word(u64::from(*feature_level));
        timers.digest(&mut digest);
        digest.number(sessions.len());
        for (session_id, session) in sessions.iter() {
            digest.word(*session_id);
            session.digest(&mut digest);
        }
        digest_primitives(primitives, &mut digest);
        digest.number(names.len());
        for ((namespace, name), primitive_id) in names.iter() {
            digest.bytes(namespace.as_bytes());
            digest.bytes(name.as_bytes());
            digest.word(*primitive_id);
        }
        remembered.digest(&mut digest);
        quotas.digest(&mut digest);
        digest.finish()
    }

    /// The part of [`Self::digest`] that clients can see: unchanged by a rejected command.
    pub fn primitives_digest(&self) -> u64 {
        let mut digest = Digest::new();
        digest_primitives(&self.primitives, &mut digest);
        digest.finish()
    }

    /// Count of open sessions.
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    pub fn sessions(&self) -> impl Iterator<Item = SessionSummary> + '_ {
        self.sessions.iter().map(|(session_id, session)| SessionSummary {
            session_id: *session_id,
            timeout_millis: session.timeout_millis,
            expires_at: session.expiry.due,
            commands: session.commands.len(),
            primitives: session.attached.iter().copied().collect(),
        })
    }

    pub fn primitives(&self) -> impl Iterator<Item = PrimitiveSummary> + '_ {
        self.primitives.iter().map(|(primitive_id, slot)| PrimitiveSummary {
            primitive_id: *primitive_id,
            service: slot.service.name(),
            namespace: slot.namespace.to_string(),
            name: slot.name.to_string(),
        })
    }
}

fn digest_primitives(primitives: &OrdMap<u64, Slot>, digest: &mut Digest) {
    digest.number(primitives.len());
    for (primitive_id, slot) in primitives.iter() {
        digest.word(*primitive_id);
        slot.digest(digest);
    }
}

/// The output of a finished operation.
pub(crate) fn operation_output(sequence: u64, result: Result<Body, Failure>) -> Output {
    let (status, message, body) = match result {
        Ok(body) => (Status::Ok, String::new(), body),
        Err(Failure { status, message }) => (status, message, Body::None),
    };
    Output::Operation { sequence, status, message, body, last: true }
}

pub(crate) fn not_attached(primitive_id: u64) -> Failure {
    let message = format!("primitive {primitive_id} is not open in this session");
    Failure::new(Status::Forbidden, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::each_field_changes_the_digest;
    use crate::primitives::Service;
    use crate::quotas::Limits;

    #[test]
    fn each_field_of_the_machine_is_in_the_digest() {
        let timer = Timer { due: 1, id: 1 };
        let (attached, commands) = Default::default();
        let session = Session { timeout_millis: 1, expiry: timer, attached, commands };
        let slot = Slot::new(Service::Counter, "space".into(), "name".into());
        let answer = Answer { index: 1, result: Ok(Output::SessionClosed) };
        let digest = |machine: &Machine, digest: &mut Digest| digest.word(machine.digest());
        each_field_changes_the_digest!(Machine::new(), digest, Machine {
            index => *index = 1,
            log_time => *log_time = 1,
            feature_level => *feature_level = 1,
            timers => timers.arm(1, Owner::Session(1)),
            sessions => sessions.insert(1, session),
            primitives => primitives.insert(1, slot),
            names => names.insert(("space".into(), "name".into()), 1),
            remembered => remembered.insert(Waiter { origin: 1, number: 1 }, answer),
            quotas => quotas.insert("space".into(), Limits::default()),
        } but watches);
    }
}
