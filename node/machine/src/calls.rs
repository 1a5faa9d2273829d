//! Sessions and the calls in them: how inputs change the machine.

use std::sync::Arc;

use multiraft_proto::log;
use multiraft_proto::v1::{
    CloseServiceInput, CreateServiceInput, KeepAliveInput, OpenSessionInput, ServiceInput,
    SessionInput, session_input,
};

use crate::answer::{Answer, Body, Effect, Output, Rejection, Status};
use crate::commands::{Arrival, Commands, Open, Waiter};
use crate::keep_alive::KeepAlive;
use crate::limits::{NAME_BYTES_MAX, PRIMITIVES_MAX, SESSIONS_MAX};
use crate::machine::{Machine, not_attached, operation_output};
use crate::primitives::{Call, CommandKey, Context, Emitted, Failure, Service, Slot, Step};
use crate::session::{Session, clamp_timeout, duration_millis};
use crate::timers::Owner;
use crate::watches::Changes;

/// Namespace and name: what primitives are found by.
pub(crate) type Name = (Arc<str>, Arc<str>);

fn invalid(message: impl Into<String>) -> Rejection {
    Rejection::Invalid { message: message.into() }
}

impl Machine {
    pub(crate) fn open_session(&mut self, input: &OpenSessionInput) -> Result<Output, Rejection> {
        let asked = input.timeout.as_ref().map_or(Ok(0), |timeout| {
            let millis = duration_millis(timeout.seconds, timeout.nanos);
            millis.map_err(|e| invalid(format!("timeout: {e}")))
        })?;
        if self.sessions.len() >= SESSIONS_MAX {
            return Err(Rejection::TooManySessions);
        }
        let session_id = self.index;
        let timeout_millis = clamp_timeout(asked);
        let due = self.log_time.saturating_add(timeout_millis);
        let expiry = self.timers.arm(due, Owner::Session(session_id));
        let (attached, commands) = Default::default();
        self.sessions.insert(session_id, Session { timeout_millis, expiry, attached, commands });
        Ok(Output::SessionOpened { session_id })
    }

    pub(crate) fn keep_alive(
        &mut self,
        input: KeepAliveInput,
        effects: &mut Vec<Effect>,
    ) -> Result<Output, Rejection> {
        let session_id = input.session_id;
        let Some(session) = self.sessions.get_mut(&session_id) else {
            return Err(Rejection::UnknownSession { session_id });
        };
        let keep_alive = KeepAlive::decode(input).map_err(invalid)?;
        self.timers.disarm(session.expiry);
        let due = self.log_time.saturating_add(session.timeout_millis);
        session.expiry = self.timers.arm(due, Owner::Session(session_id));
        self.watches.release(session_id, self.index, &keep_alive, effects);
        let canceled = session.commands.release(&keep_alive);
        self.tell_canceled(session_id, canceled, effects);
        Ok(Output::SessionKept)
    }

    pub(crate) fn close_session(
        &mut self,
        session_id: u64,
        effects: &mut Vec<Effect>,
    ) -> Result<Output, Rejection> {
        let Some(session) = self.sessions.get(&session_id) else {
            return Err(Rejection::UnknownSession { session_id });
        };
        self.timers.disarm(session.expiry);
        self.remove_session(session_id, End::Closed, effects);
        Ok(Output::SessionClosed)
    }

    /// The session's timer has fired.
    pub(crate) fn end_session(&mut self, session_id: u64, effects: &mut Vec<Effect>) {
        self.remove_session(session_id, End::Expired, effects);
    }

    fn remove_session(&mut self, session_id: u64, end: End, effects: &mut Vec<Effect>) {
        let Some(mut session) = self.sessions.remove(&session_id) else { return };
        for (_, open) in session.commands.cancel_all(None) {
            self.answer(open.waiter, Err(Rejection::Canceled), effects);
        }
        self.watches.close(session_id, None, self.index, effects);
        for primitive_id in session.attached.iter().copied() {
            self.count_detached(session_id, primitive_id);
            self.with_primitive(primitive_id, effects, |primitive, context| {
                primitive.on_session_closed(session_id, context);
            });
        }
        effects.push(Effect::SessionEnded { session_id, expired: end == End::Expired });
    }

    /// A caller went away: what it waits for must not be granted to nobody.
    pub(crate) fn cancel(
        &mut self,
        waiter: Waiter,
        cancel: &log::Cancel,
        effects: &mut Vec<Effect>,
    ) {
        let log::Cancel { session_id, sequence_num } = *cancel;
        let Some(session) = self.sessions.get_mut(&session_id) else { return };
        if let Some(open) = session.commands.cancel(sequence_num, waiter) {
            self.tell_canceled(session_id, vec![(sequence_num, open)], effects);
        }
    }

    /// Answers the waiters of canceled commands and tells their primitives.
    fn tell_canceled(
        &mut self,
        session_id: u64,
        canceled: Vec<(u64, Open)>,
        effects: &mut Vec<Effect>,
    ) {
        for (sequence_num, Open { waiter, primitive_id }) in canceled {
            self.answer(waiter, Err(Rejection::Canceled), effects);
            let command = CommandKey { session_id, sequence_num };
            self.with_primitive(primitive_id, effects, |primitive, context| {
                primitive.on_command_canceled(command, context);
            });
        }
    }

    /// A command of a session, also one that creates or closes a primitive.
    pub(crate) fn call(&mut self, waiter: Waiter, input: SessionInput, effects: &mut Vec<Effect>) {
        let SessionInput { session_id, payload, sequence_num } = input;
        let command = CommandKey { session_id, sequence_num };
        let rejection = match (self.arrival(command), payload) {
            (Err(rejection), _) => rejection,
            (Ok(_), None) => invalid("session_input: payload is absent"),
            (Ok(Arrival::Released), _) => Rejection::Released { session_id, sequence_num },
            (Ok(Arrival::Full), _) => Rejection::TooManyCommands,
            (Ok(Arrival::Repeated), _) => {
                let index = self.index;
                if let Some(commands) = self.commands(session_id) {
                    commands.repeat(sequence_num, waiter, index, effects);
                }
                return;
            }
            (Ok(Arrival::Fresh), Some(payload)) => {
                return self.execute(command, payload, waiter, effects);
            }
        };
        self.answer(waiter, Err(rejection), effects);
    }

    fn arrival(&self, command: CommandKey) -> Result<Arrival, Rejection> {
        let CommandKey { session_id, sequence_num } = command;
        let session = self.sessions.get(&session_id);
        let session = session.ok_or(Rejection::UnknownSession { session_id })?;
        if sequence_num == 0 {
            return Err(invalid("sequence_num: must be at least 1"));
        }
        Ok(session.commands.arrival(sequence_num))
    }

    fn commands(&mut self, session_id: u64) -> Option<&mut Commands> {
        self.sessions.get_mut(&session_id).map(|session| &mut session.commands)
    }

    fn execute(
        &mut self,
        command: CommandKey,
        payload: session_input::Payload,
        waiter: Waiter,
        effects: &mut Vec<Effect>,
    ) {
        let (sequence, result) = match payload {
            session_input::Payload::ServiceInput(input) => {
                return self.operate(command, input, waiter, effects);
            }
            session_input::Payload::CreateService(input) => {
                (0, self.create_primitive(command.session_id, &input))
            }
            session_input::Payload::CloseService(input) => {
                (0, self.close_primitive(command.session_id, &input, effects))
            }
        };
        let answer = Answer { index: self.index, result: Ok(operation_output(sequence, result)) };
        if let Some(commands) = self.commands(command.session_id) {
            commands.complete(command.sequence_num, answer, waiter, effects);
        }
    }

    /// The hot path: an operation on a primitive.
    fn operate(
        &mut self,
        command: CommandKey,
        input: ServiceInput,
        waiter: Waiter,
        effects: &mut Vec<Effect>,
    ) {
        let primitive_id = input.service_id;
        let index = self.index;
        let Some(session) = self.sessions.get_mut(&command.session_id) else { return };
        let (quotas, timers, now) = (&mut self.quotas, &mut self.timers, (index, self.log_time));
        let slot = match session.attached.contains(&primitive_id) {
            true => self.primitives.get_mut(&primitive_id),
            false => None,
        };
        let (mut emitted, mut changes) = <(Vec<_>, Changes)>::default();
        let is_watched = self.watches.is_watched(primitive_id);
        let result = match slot {
            Some(slot) => quotas.hold(slot, timers, |slot, timers| {
                let mut context = Context::new(now, primitive_id, timers, &mut emitted)
                    .watched(is_watched.then_some(&mut changes));
                let call = Call { command, operation: input.operation, input: input.payload };
                slot.primitive_mut().apply(call, &mut context)
            }),
            None => Err(not_attached(primitive_id)),
        };
        let output = match result {
            Ok(Step::Complete(payload)) => operation_output(1, Ok(Body::Payload(payload))),
            Err(failure) => {
                // What a quota has undone is told to nobody.
                emitted.clear();
                changes = Changes::default();
                operation_output(1, Err(failure))
            }
            Ok(Step::Open) => {
                session.commands.open(command.sequence_num, Open { waiter, primitive_id });
                effects.push(waiter.begins());
                return self.deliver(emitted, effects);
            }
        };
        let answer = Answer { index, result: Ok(output) };
        session.commands.complete(command.sequence_num, answer, waiter, effects);
        self.deliver(emitted, effects);
        self.watches.tell(primitive_id, index, changes, effects);
    }

    /// Adds outputs to open commands and answers their waiters.
    pub(crate) fn deliver(&mut self, emitted: Vec<Emitted>, effects: &mut Vec<Effect>) {
        let index = self.index;
        let mut overrun = Vec::new();
        for Emitted { command, result, last } in emitted {
            let Some(commands) = self.commands(command.session_id) else { continue };
            let last = last || result.is_err();
            let mut output = operation_output(0, result.map(Body::Payload));
            if let Output::Operation { last: end, .. } = &mut output {
                *end = last;
            }
            let answer = Answer { index, result: Ok(output) };
            if let Some(open) = commands.push(command.sequence_num, answer, effects) {
                overrun.push((command, open.primitive_id));
            }
        }
        for (command, primitive_id) in overrun {
            self.with_primitive(primitive_id, effects, |primitive, context| {
                primitive.on_command_canceled(command, context);
            });
        }
    }

    /// Finds or creates a primitive and attaches the session to it.
    fn create_primitive(
        &mut self,
        session_id: u64,
        input: &CreateServiceInput,
    ) -> Result<Body, Failure> {
        let service = Service::find(&input.service)?;
        check_name("namespace", &input.namespace)?;
        check_name("name", &input.name)?;
        let name: Name = (Arc::from(input.namespace.as_str()), Arc::from(input.name.as_str()));
        let namespace = Arc::clone(&name.0);
        let found = self.names.get(&name).and_then(|id| Some((*id, self.primitives.get(id)?)));
        if found.is_some_and(|(_, slot)| slot.service != service) {
            let message = "service: a primitive of another type has this name";
            return Err(Failure::new(Status::Forbidden, message));
        }
        self.quotas.check(&namespace, session_id, found.is_none())?;
        let primitive_id = match found {
            Some((primitive_id, _)) => primitive_id,
            None => self.insert_primitive(service, name)?,
        };
        let session = self.sessions.get_mut(&session_id);
        if session.is_some_and(|session| session.attached.insert(primitive_id).is_none()) {
            self.quotas.attach(&namespace, session_id);
        }
        Ok(Body::PrimitiveCreated { primitive_id })
    }

    fn count_detached(&mut self, session_id: u64, primitive_id: u64) {
        if let Some(slot) = self.primitives.get(&primitive_id) {
            self.quotas.detach(&slot.namespace, session_id);
        }
    }

    fn insert_primitive(&mut self, service: Service, name: Name) -> Result<u64, Failure> {
        if self.primitives.len() >= PRIMITIVES_MAX {
            let message = format!("name: the group has {PRIMITIVES_MAX} primitives already");
            return Err(Failure::new(Status::Forbidden, message));
        }
        let slot = Slot::new(service, Arc::clone(&name.0), Arc::clone(&name.1));
        self.quotas.add_primitive(&slot);
        self.primitives.insert(self.index, slot);
        self.names.insert(name, self.index);
        Ok(self.index)
    }

    /// Detaches the session. The primitive and its state stay: closing is not destroying.
    fn close_primitive(
        &mut self,
        session_id: u64,
        input: &CloseServiceInput,
        effects: &mut Vec<Effect>,
    ) -> Result<Body, Failure> {
        let primitive_id = input.service_id;
        let attached = self.sessions.get_mut(&session_id).and_then(|session| {
            session.attached.remove(&primitive_id)?;
            Some(session.commands.cancel_all(Some(primitive_id)))
        });
        for (_, open) in attached.ok_or_else(|| not_attached(primitive_id))? {
            self.answer(open.waiter, Err(Rejection::Canceled), effects);
        }
        self.watches.close(session_id, Some(primitive_id), self.index, effects);
        self.count_detached(session_id, primitive_id);
        self.with_primitive(primitive_id, effects, |primitive, context| {
            primitive.on_session_closed(session_id, context);
        });
        Ok(Body::PrimitiveClosed)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Closed,
    Expired,
}

fn check_name(field: &str, name: &str) -> Result<(), Failure> {
    if name.len() > NAME_BYTES_MAX {
        let message = format!("{field}: {} bytes, at most {NAME_BYTES_MAX}", name.len());
        return Err(Failure::invalid(message));
    }
    Ok(())
}
