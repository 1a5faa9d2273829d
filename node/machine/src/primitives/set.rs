//! Strings, each there or not, with times to live.

use std::sync::Arc;

use bytes::Bytes;
use imbl::OrdMap;
use multiraft_proto::log::set_record::Record;
use multiraft_proto::log::{SetElement, SetRecord};
use multiraft_proto::rpc::set as operation;
use multiraft_proto::set as wire;

use super::checks::check_key;
use super::listeners::{Filter, Listeners};
use super::measured::Measured;
use super::selection::Keys;
use super::{
    At, Call, CommandKey, Context, Failure, Primitive, Records, RestoreContext, Service, Size,
    Status, Step, decode, decode_record, encode, ttl_millis, unknown_operation,
};
use crate::digest::Digest;
use crate::limits::ELEMENTS_MAX;
use crate::timers::Timer;
use wire::event::Event;

#[derive(Clone, Debug, Default)]
pub struct Set {
    elements: Measured<Arc<str>, Option<Timer>>,
    /// Armed timer → the element that it will expire.
    expiries: OrdMap<u64, Arc<str>>,
    listeners: Listeners,
}

impl Primitive for Set {
    fn apply(&mut self, call: Call, context: &mut Context<'_>) -> Result<Step, Failure> {
        let Call { command, operation, input } = call;
        let output = match operation {
            operation::ADD => self.add(decode(input)?, context)?,
            operation::REMOVE => {
                let wire::RemoveInput { element } = decode(input)?;
                let element = checked(element)?;
                let removed = self.remove(&element, false, context);
                encode(&wire::RemoveOutput { removed })
            }
            operation::CLEAR => self.clear(decode(input)?, context),
            operation::EVENTS => {
                let wire::EventsInput { prefix } = decode(input)?;
                let active = wire::EventsOutput { event: Some(wire::Event { event: None }) };
                return self.listeners.open(
                    command,
                    Filter::prefix(prefix),
                    encode(&active),
                    context,
                );
            }
            other => return Err(unknown_operation(Service::Set, other)),
        };
        Ok(Step::Complete(output))
    }

    fn query(&self, operation: u32, input: Bytes) -> Result<Bytes, Failure> {
        match operation {
            operation::SIZE => {
                let wire::SizeInput {} = decode(input)?;
                let size = u32::try_from(self.elements.len()).unwrap_or(u32::MAX);
                Ok(encode(&wire::SizeOutput { size }))
            }
            operation::CONTAINS => {
                let wire::ContainsInput { element } = decode(input)?;
                let element = checked(element)?;
                let contains = self.elements.contains_key(&*element);
                Ok(encode(&wire::ContainsOutput { contains }))
            }
            other => Err(unknown_operation(Service::Set, other)),
        }
    }

    fn list(&self, operation: u32, input: Bytes) -> Result<Records<'_>, Failure> {
        match operation {
            operation::ELEMENTS => {
                let wire::ElementsInput { watch, prefix, start, end, after, limit } =
                    decode(input)?;
                let found = Keys { prefix, start, end, after, limit }.of(watch, &self.elements)?;
                Ok(Box::new(found.map(|(element, _)| elements_output(Some(value(element)), false))))
            }
            other => Err(unknown_operation(Service::Set, other)),
        }
    }

    fn on_command_canceled(&mut self, command: CommandKey, _: &mut Context<'_>) {
        self.listeners.close(command);
    }

    fn on_session_closed(&mut self, session_id: u64, _: &mut Context<'_>) {
        self.listeners.close_session(session_id);
    }

    fn on_timer(&mut self, timer_id: u64, context: &mut Context<'_>) {
        if let Some(element) = self.expiries.get(&timer_id).cloned() {
            self.remove(&element, true, context);
        }
    }

    fn size(&self) -> Size {
        let Self { elements, expiries: _, listeners } = self;
        Size::new(elements.len(), elements.bytes() + listeners.bytes())
    }

    fn digest(&self, digest: &mut Digest) {
        let Self { elements, expiries, listeners } = self;
        digest.number(elements.len());
        for (element, expiry) in elements {
            digest.bytes(element.as_bytes());
            digest.option(*expiry, Digest::timer);
        }
        digest.number(expiries.len());
        for (timer_id, element) in expiries {
            digest.word(*timer_id);
            digest.bytes(element.as_bytes());
        }
        listeners.digest(digest);
    }

    fn snapshot(&self) -> Records<'_> {
        // The expiries follow from the elements.
        let Self { elements, expiries: _, listeners } = self;
        let elements = elements.iter().map(|(element, expiry)| {
            let (element, expiry) = (element.to_string(), expiry.map(Timer::into));
            Record::Element(SetElement { element, expiry })
        });
        let records = elements.chain(listeners.records().map(Record::Listener));
        Box::new(records.map(|record| encode(&SetRecord { record: Some(record) })))
    }

    fn restore(&mut self, record: Bytes, context: &mut RestoreContext<'_>) -> Result<(), String> {
        let SetRecord { record } = decode_record(record)?;
        match record.ok_or("record is absent, or of an unknown kind")? {
            Record::Element(SetElement { element, expiry }) => {
                let (element, expiry) = (Arc::from(element), expiry.map(Timer::from));
                if let Some(timer) = expiry {
                    context.arm(timer)?;
                    self.expiries.insert(timer.id, Arc::clone(&element));
                }
                match self.elements.insert(element, expiry) {
                    None => Ok(()),
                    Some(_) => Err("an element is there twice".into()),
                }
            }
            Record::Listener(listener) => self.listeners.restore(listener, context),
        }
    }
}

impl Set {
    fn add(
        &mut self,
        wire::AddInput { element, ttl }: wire::AddInput,
        context: &mut Context<'_>,
    ) -> Result<Bytes, Failure> {
        let element = checked(element)?;
        let ttl = ttl.map(|ttl| (ttl.seconds, ttl.nanos));
        let ttl = ttl.map(|ttl| ttl_millis("ttl", ttl)).transpose()?;
        if self.elements.contains_key(&*element) {
            return Ok(encode(&wire::AddOutput { added: false }));
        }
        if self.elements.len() >= ELEMENTS_MAX {
            let message = format!("the set has {ELEMENTS_MAX} elements already");
            return Err(Failure::new(Status::Conflict, message));
        }
        let element: Arc<str> = element.into();
        let expiry = ttl.map(|millis| context.arm(millis));
        if let Some(timer) = expiry {
            self.expiries.insert(timer.id, Arc::clone(&element));
        }
        self.elements.insert(Arc::clone(&element), expiry);
        self.tell(&element, || added(&element), context);
        Ok(encode(&wire::AddOutput { added: true }))
    }

    fn remove(&mut self, element: &str, expired: bool, context: &mut Context<'_>) -> bool {
        let Some(expiry) = self.elements.remove(element) else { return false };
        if let Some(timer) = expiry {
            context.disarm(timer);
            self.expiries.remove(&timer.id);
        }
        self.tell(element, || removed(element, expired), context);
        true
    }

    fn clear(&mut self, _: wire::ClearInput, context: &mut Context<'_>) -> Bytes {
        self.expiries.clear();
        for (element, expiry) in std::mem::take(&mut self.elements) {
            expiry.into_iter().for_each(|timer| context.disarm(timer));
            self.tell(&element, || removed(&element, false), context);
        }
        encode(&wire::ClearOutput {})
    }

    /// Called with every change, after it.
    fn tell(&mut self, element: &str, event: impl FnOnce() -> Event, context: &mut Context<'_>) {
        if !context.is_watched() {
            return self.listeners.tell(element, || event_output(event()), context);
        }
        let event = event();
        let removed = matches!(event, Event::Removed(_));
        context.changed(At::Key(element), || elements_output(Some(value(element)), removed));
        self.listeners.tell(element, || event_output(event), context);
    }
}

fn event_output(event: Event) -> Bytes {
    encode(&wire::EventsOutput { event: Some(wire::Event { event: Some(event) }) })
}

fn elements_output(element: Option<wire::Element>, removed: bool) -> Bytes {
    encode(&wire::ElementsOutput { element, removed })
}

fn added(element: &str) -> Event {
    Event::Added(wire::event::Added { element: Some(value(element)) })
}

fn removed(element: &str, expired: bool) -> Event {
    Event::Removed(wire::event::Removed { element: Some(value(element)), expired })
}

fn value(element: &str) -> wire::Element {
    wire::Element { value: element.to_owned() }
}

fn checked(element: Option<wire::Element>) -> Result<String, Failure> {
    let wire::Element { value } = element.unwrap_or_default();
    check_key("element", &value)?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::each_field_changes_the_digest;
    use crate::timers::Timers;

    #[test]
    fn each_field_of_a_set_is_in_the_digest() {
        let (mut timers, mut emitted) = (Timers::default(), Vec::new());
        let mut context = Context::new((1, 1), 1, &mut timers, &mut emitted);
        let command = CommandKey { session_id: 1, sequence_num: 1 };
        let mut set = Set::default();
        set.elements.insert("there".into(), None);
        for timer in [None, Some(Timer { due: 1, id: 0 }), Some(Timer { due: 0, id: 1 })] {
            each_field_changes_the_digest!(set.clone(), Set::digest, Set {
                elements => elements.insert("element".into(), timer),
                expiries => expiries.insert(1, "element".into()),
                listeners => listeners.open(command, Filter::all(), Bytes::new(), &mut context),
            });
        }
        each_field_changes_the_digest!(set, Set::digest, Set {
            elements => elements.insert("there".into(), Some(Timer { due: 0, id: 0 })),
            expiries => expiries.insert(0, "element".into()),
            listeners => listeners.open(command, Filter::all(), Bytes::new(), &mut context),
        });
    }

    #[test]
    fn records_that_contradict_each_other_are_refused() {
        let element = |element: &str, expiry: Option<Timer>| {
            let (element, expiry) = (element.to_owned(), expiry.map(Timer::into));
            SetRecord { record: Some(Record::Element(SetElement { element, expiry })) }
        };
        let restored = |records: &[SetRecord]| {
            crate::primitives::restored(&mut Set::default(), records).err().unwrap_or_default()
        };
        let timer = Some(Timer { due: 1_000, id: 1 });
        assert_eq!(restored(&[element("a", None), element("b", timer)]), "");
        let twice = restored(&[element("a", None), element("a", None)]);
        assert_eq!(twice, "an element is there twice");
        let timers = restored(&[element("a", timer), element("b", timer)]);
        assert_eq!(timers, "timer 1 is armed twice");
        let absent = restored(&[SetRecord { record: None }]);
        assert_eq!(absent, "record is absent, or of an unknown kind");
    }

    #[test]
    fn one_element_too_many_is_refused() {
        let (mut timers, mut emitted) = (Timers::default(), Vec::new());
        let mut context = Context::new((1, 1), 1, &mut timers, &mut emitted);
        let mut set = Set::default();
        for number in 0..ELEMENTS_MAX {
            set.elements.insert(number.to_string().into(), None);
        }
        let element = |value: &str| Some(wire::Element { value: value.to_owned() });
        let add = wire::AddInput { element: element("one more"), ttl: None };
        assert_eq!(set.add(add, &mut context).unwrap_err().status, Status::Conflict);
        let there = wire::AddInput { element: element("7"), ttl: None };
        assert!(set.add(there, &mut context).is_ok());
    }
}
