//! One value, or none, with a version and a time to live.

use bytes::Bytes;
use multiraft_proto::log::value_record::Record;
use multiraft_proto::log::{StoredValue, ValueRecord};
use multiraft_proto::rpc::value as operation;
use multiraft_proto::value as wire;

use super::checks::check_value;
use super::listeners::{Filter, Listeners};
use super::{
    At, Call, CommandKey, Context, Failure, Primitive, Records, RestoreContext, Service, Size,
    Status, Step, decode, decode_record, encode, ttl_millis, unknown_operation,
};
use crate::digest::Digest;
use crate::limits::ENTRY_OVERHEAD_BYTES;
use crate::timers::Timer;
use wire::event::Event;

#[derive(Clone, Debug, Default)]
pub struct Value {
    stored: Option<Stored>,
    listeners: Listeners,
}

#[derive(Clone, Debug)]
struct Stored {
    value: Bytes,
    /// Version: index of the command that wrote it.
    index: u64,
    expiry: Option<Timer>,
}

/// A validated value to write.
struct Write {
    value: Bytes,
    ttl_millis: Option<u64>,
}

impl Primitive for Value {
    fn apply(&mut self, call: Call, context: &mut Context<'_>) -> Result<Step, Failure> {
        let Call { command, operation, input } = call;
        let output = match operation {
            operation::SET => self.set(decode(input)?, context)?,
            operation::INSERT => self.insert(decode(input)?, context)?,
            operation::UPDATE => self.update(decode(input)?, context)?,
            operation::DELETE => self.delete(&decode(input)?, context)?,
            operation::EVENTS => {
                let wire::EventsInput {} = decode(input)?;
                let active = wire::EventsOutput { event: Some(wire::Event { event: None }) };
                return self.listeners.open(command, Filter::all(), encode(&active), context);
            }
            other => return Err(unknown_operation(Service::Value, other)),
        };
        Ok(Step::Complete(output))
    }

    fn query(&self, operation: u32, input: Bytes) -> Result<Bytes, Failure> {
        match operation {
            operation::GET => {
                let wire::GetInput {} = decode(input)?;
                let value = Some(self.stored()?.indexed_value());
                Ok(encode(&wire::GetOutput { value }))
            }
            other => Err(unknown_operation(Service::Value, other)),
        }
    }

    fn list(&self, operation: u32, input: Bytes) -> Result<Records<'_>, Failure> {
        match operation {
            operation::WATCH => {
                let wire::WatchInput {} = decode(input)?;
                let present = self.stored.as_ref();
                Ok(Box::new(present.into_iter().map(|stored| watch_output(Some(stored)))))
            }
            other => Err(unknown_operation(Service::Value, other)),
        }
    }

    fn on_command_canceled(&mut self, command: CommandKey, _: &mut Context<'_>) {
        self.listeners.close(command);
    }

    fn on_session_closed(&mut self, session_id: u64, _: &mut Context<'_>) {
        self.listeners.close_session(session_id);
    }

    fn on_timer(&mut self, timer_id: u64, context: &mut Context<'_>) {
        let expiry = self.stored.as_ref().and_then(|stored| stored.expiry);
        if expiry.is_some_and(|timer| timer.id == timer_id) {
            self.replace(None, true, context);
        }
    }

    fn size(&self) -> Size {
        let Self { stored, listeners } = self;
        let bytes = |stored: &Stored| ENTRY_OVERHEAD_BYTES + stored.value.len() as u64;
        let stored_bytes = stored.as_ref().map_or(0, bytes);
        Size::new(usize::from(stored.is_some()), stored_bytes + listeners.bytes())
    }

    fn digest(&self, digest: &mut Digest) {
        let Self { stored, listeners } = self;
        digest.option(stored.as_ref(), |digest, stored| stored.digest(digest));
        listeners.digest(digest);
    }

    fn snapshot(&self) -> Records<'_> {
        let Self { stored, listeners } = self;
        let stored = stored.as_ref().map(|Stored { value, index, expiry }| {
            let (value, expiry) = (value.clone(), expiry.map(Timer::into));
            Record::Value(StoredValue { value, index: *index, expiry })
        });
        let records = stored.into_iter().chain(listeners.records().map(Record::Listener));
        Box::new(records.map(|record| encode(&ValueRecord { record: Some(record) })))
    }

    fn restore(&mut self, record: Bytes, context: &mut RestoreContext<'_>) -> Result<(), String> {
        let ValueRecord { record } = decode_record(record)?;
        match record.ok_or("record is absent, or of an unknown kind")? {
            Record::Value(StoredValue { value, index, expiry }) => {
                let expiry = expiry.map(Timer::from);
                expiry.map(|timer| context.arm(timer)).transpose()?;
                // A copy: a part would keep the whole chunk in memory.
                let value = Bytes::copy_from_slice(&value);
                match self.stored.replace(Stored { value, index, expiry }) {
                    None => Ok(()),
                    Some(_) => Err("there are two values".into()),
                }
            }
            Record::Listener(listener) => self.listeners.restore(listener, context),
        }
    }
}

impl Value {
    fn set(&mut self, input: wire::SetInput, context: &mut Context<'_>) -> Result<Bytes, Failure> {
        let wire::SetInput { value, ttl } = input;
        let write = Write::new(value, ttl.map(|ttl| (ttl.seconds, ttl.nanos)))?;
        let prev_value = self.replace(Some(write), false, context);
        Ok(encode(&wire::SetOutput { index: context.index, prev_value }))
    }

    fn insert(
        &mut self,
        wire::InsertInput { value, ttl }: wire::InsertInput,
        context: &mut Context<'_>,
    ) -> Result<Bytes, Failure> {
        let write = Write::new(value, ttl.map(|ttl| (ttl.seconds, ttl.nanos)))?;
        if self.stored.is_some() {
            return Err(Failure::new(Status::AlreadyExists, "there is a value"));
        }
        self.replace(Some(write), false, context);
        Ok(encode(&wire::InsertOutput { index: context.index }))
    }

    fn update(
        &mut self,
        wire::UpdateInput { value, prev_index, ttl }: wire::UpdateInput,
        context: &mut Context<'_>,
    ) -> Result<Bytes, Failure> {
        let write = Write::new(value, ttl.map(|ttl| (ttl.seconds, ttl.nanos)))?;
        self.check(prev_index)?;
        let prev_value = self.replace(Some(write), false, context);
        Ok(encode(&wire::UpdateOutput { index: context.index, prev_value }))
    }

    fn delete(
        &mut self,
        &wire::DeleteInput { prev_index }: &wire::DeleteInput,
        context: &mut Context<'_>,
    ) -> Result<Bytes, Failure> {
        self.check(prev_index)?;
        let value = self.replace(None, false, context);
        Ok(encode(&wire::DeleteOutput { value }))
    }

    fn stored(&self) -> Result<&Stored, Failure> {
        self.stored.as_ref().ok_or_else(|| Failure::new(Status::NotFound, "there is no value"))
    }

    /// 0 is any version.
    fn check(&self, prev_index: u64) -> Result<(), Failure> {
        let index = self.stored()?.index;
        if prev_index != 0 && prev_index != index {
            return Err(Failure::new(Status::Conflict, "prev_index: the value has another index"));
        }
        Ok(())
    }

    /// The only way in which the value changes. Returns the one before.
    fn replace(
        &mut self,
        write: Option<Write>,
        expired: bool,
        context: &mut Context<'_>,
    ) -> Option<wire::IndexedValue> {
        let stored = write.map(|Write { value, ttl_millis }| Stored {
            // Cut loose from the entry that it came in, which would stay in memory with it.
            value: Bytes::copy_from_slice(&value),
            index: context.index,
            expiry: ttl_millis.map(|millis| context.arm(millis)),
        });
        let before = std::mem::replace(&mut self.stored, stored);
        if let Some(timer) = before.as_ref().and_then(|stored| stored.expiry) {
            context.disarm(timer);
        }
        let prev_value = before.as_ref().map(Stored::indexed_value);
        let output = || encode(&changed(self.stored.as_ref(), prev_value.clone(), expired));
        self.listeners.tell("", output, context);
        context.changed(At::Whole, || watch_output(self.stored.as_ref()));
        prev_value
    }
}

/// What listeners are told after a change.
fn changed(
    stored: Option<&Stored>,
    prev_value: Option<wire::IndexedValue>,
    expired: bool,
) -> wire::EventsOutput {
    let event = match (stored.map(Stored::indexed_value), prev_value) {
        (None, value) => Event::Deleted(wire::event::Deleted { value, expired }),
        (value, None) => Event::Created(wire::event::Created { value }),
        (value, prev_value) => Event::Updated(wire::event::Updated { value, prev_value }),
    };
    wire::EventsOutput { event: Some(wire::Event { event: Some(event) }) }
}

fn watch_output(stored: Option<&Stored>) -> Bytes {
    encode(&wire::WatchOutput { value: stored.map(Stored::indexed_value) })
}

impl Write {
    fn new(value: Bytes, ttl: Option<(i64, i32)>) -> Result<Self, Failure> {
        check_value("value", &value)?;
        let ttl_millis = ttl.map(|ttl| ttl_millis("ttl", ttl)).transpose()?;
        Ok(Self { value, ttl_millis })
    }
}

impl Stored {
    fn digest(&self, digest: &mut Digest) {
        let Self { value, index, expiry } = self;
        digest.bytes(value);
        digest.word(*index);
        digest.option(*expiry, Digest::timer);
    }

    fn indexed_value(&self) -> wire::IndexedValue {
        wire::IndexedValue { value: self.value.clone(), index: self.index }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::each_field_changes_the_digest;
    use crate::timers::Timers;

    fn stored() -> Stored {
        Stored { value: "value".into(), index: 1, expiry: None }
    }

    #[test]
    fn each_field_of_a_value_is_in_the_digest() {
        let (mut timers, mut emitted) = (Timers::default(), Vec::new());
        let mut context = Context::new((1, 1), 1, &mut timers, &mut emitted);
        let command = CommandKey { session_id: 1, sequence_num: 1 };
        each_field_changes_the_digest!(Value::default(), Value::digest, Value {
            stored => *stored = Some(self::stored()),
            listeners => listeners.open(command, Filter::all(), Bytes::new(), &mut context),
        });
        for timer in [Timer { due: 1, id: 0 }, Timer { due: 0, id: 1 }] {
            each_field_changes_the_digest!(self::stored(), Stored::digest, Stored {
                value => *value = "other".into(),
                index => *index = 2,
                expiry => *expiry = Some(timer),
            });
        }
    }

    #[test]
    fn records_that_contradict_each_other_are_refused() {
        let value = |expiry: Option<Timer>| {
            let value = StoredValue { expiry: expiry.map(Timer::into), ..Default::default() };
            ValueRecord { record: Some(Record::Value(value)) }
        };
        let restored = |records: &[ValueRecord]| {
            crate::primitives::restored(&mut Value::default(), records).err().unwrap_or_default()
        };
        assert_eq!(restored(&[value(Some(Timer { due: 1_000, id: 1 }))]), "");
        assert_eq!(restored(&[value(None), value(None)]), "there are two values");
        let late = restored(&[value(Some(Timer { due: 999, id: 1 }))]);
        assert_eq!(late, "timer 1 was due at 999, it is 1000 now");
        let absent = restored(&[ValueRecord { record: None }]);
        assert_eq!(absent, "record is absent, or of an unknown kind");
    }
}
