//! Keys to sets of strings. A key without values does not exist.

mod snapshot;
mod write;

use std::sync::Arc;

use bytes::Bytes;
use multiraft_proto::atomix::multiraft::multimap::v1 as wire;
use multiraft_proto::rpc::multimap as operation;

use super::checks::check_key;
use super::listeners::{Filter, Listeners};
use super::measured::{Measured, MeasuredSet};
use super::selection::Keys;
use super::{
    Call, CommandKey, Context, Failure, Primitive, Records, RestoreContext, Service, Size, Step,
    decode, decode_record, encode, unknown_operation,
};
use crate::digest::Digest;

#[derive(Clone, Debug, Default)]
pub struct MultiMap {
    /// Never an empty set.
    entries: Measured<Arc<str>, MeasuredSet<Arc<str>>>,
    listeners: Listeners,
}

impl Primitive for MultiMap {
    fn apply(&mut self, call: Call, context: &mut Context<'_>) -> Result<Step, Failure> {
        let Call { command, operation, input } = call;
        let output = match operation {
            operation::PUT => self.put(decode(input)?, context)?,
            operation::PUT_ALL => self.put_all(decode(input)?, context)?,
            operation::PUT_ENTRIES => self.put_entries(decode(input)?, context)?,
            operation::REPLACE => self.replace(decode(input)?, context)?,
            operation::REMOVE => self.remove(decode(input)?, context)?,
            operation::REMOVE_ALL => self.remove_all(decode(input)?, context)?,
            operation::REMOVE_ENTRIES => self.remove_entries(decode(input)?, context)?,
            operation::CLEAR => self.clear(decode(input)?, context),
            operation::EVENTS => return self.events(command, decode(input)?, context),
            other => return Err(unknown_operation(Service::MultiMap, other)),
        };
        Ok(Step::Complete(output))
    }

    fn query(&self, operation: u32, input: Bytes) -> Result<Bytes, Failure> {
        match operation {
            operation::CONTAINS => self.contains(decode(input)?),
            operation::GET => self.get(decode(input)?),
            operation::SIZE => {
                let wire::SizeInput {} = decode(input)?;
                let size = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
                Ok(encode(&wire::SizeOutput { size }))
            }
            other => Err(unknown_operation(Service::MultiMap, other)),
        }
    }

    fn list(&self, operation: u32, input: Bytes) -> Result<Records<'_>, Failure> {
        match operation {
            operation::ENTRIES => self.entries(decode(input)?),
            other => Err(unknown_operation(Service::MultiMap, other)),
        }
    }

    fn on_command_canceled(&mut self, command: CommandKey, _: &mut Context<'_>) {
        self.listeners.close(command);
    }

    fn on_session_closed(&mut self, session_id: u64, _: &mut Context<'_>) {
        self.listeners.close_session(session_id);
    }

    fn on_timer(&mut self, _: u64, _: &mut Context<'_>) {}

    fn size(&self) -> Size {
        let Self { entries, listeners } = self;
        Size::new(entries.len(), entries.bytes() + listeners.bytes())
    }

    fn digest(&self, digest: &mut Digest) {
        let Self { entries, listeners } = self;
        digest.number(entries.len());
        for (key, values) in entries.iter() {
            digest.bytes(key.as_bytes());
            digest.number(values.len());
            values.iter().for_each(|value| digest.bytes(value.as_bytes()));
        }
        listeners.digest(digest);
    }

    fn snapshot(&self) -> Records<'_> {
        Box::new(self.records().map(|record| encode(&record)))
    }

    fn restore(&mut self, record: Bytes, context: &mut RestoreContext<'_>) -> Result<(), String> {
        self.restore_record(decode_record(record)?, context)
    }
}

impl MultiMap {
    fn contains(
        &self,
        wire::ContainsInput { key, value }: wire::ContainsInput,
    ) -> Result<Bytes, Failure> {
        check_key("key", &key)?;
        check_key("value", &value)?;
        let result = self.entries.get(&*key).is_some_and(|values| values.contains(&*value));
        Ok(encode(&wire::ContainsOutput { result }))
    }

    fn get(&self, wire::GetInput { key }: wire::GetInput) -> Result<Bytes, Failure> {
        check_key("key", &key)?;
        Ok(encode(&wire::GetOutput { values: self.values(&key) }))
    }

    /// Sorted; none if the key is missing.
    fn values(&self, key: &str) -> Vec<String> {
        let values = self.entries.get(key);
        values.into_iter().flatten().map(|value| value.to_string()).collect()
    }

    fn entries(&self, input: wire::EntriesInput) -> Result<Records<'_>, Failure> {
        let wire::EntriesInput { watch, prefix, start, end, after, limit } = input;
        let found = Keys { prefix, start, end, after, limit }.of(watch, &self.entries)?;
        Ok(Box::new(found.map(|(key, _)| self.entries_output(key))))
    }

    fn events(
        &mut self,
        command: CommandKey,
        wire::EventsInput { key, prefix }: wire::EventsInput,
        context: &mut Context<'_>,
    ) -> Result<Step, Failure> {
        let filter = Filter::new(key, prefix)?;
        let first = event_output(filter.text(), None);
        self.listeners.open(command, filter, first, context)
    }

    /// One key with all its values; for who watches, with none when they were removed.
    fn entries_output(&self, key: &str) -> Bytes {
        let entry = Some(wire::Entry { key: key.to_owned(), values: self.values(key) });
        encode(&wire::EntriesOutput { entry })
    }

    /// Every change of a value comes by here, after it was made.
    fn changed(&mut self, key: &str, event: impl FnOnce() -> Event, context: &mut Context<'_>) {
        self.listeners.tell(key, || event_output(key, Some(event())), context);
    }
}

use wire::event::Event;

fn event_output(key: &str, event: Option<Event>) -> Bytes {
    let event = Some(wire::Event { key: key.to_owned(), event });
    encode(&wire::EventsOutput { event })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::each_field_changes_the_digest;
    use crate::limits::{COMMAND_VALUES_MAX, KEY_VALUES_MAX};
    use crate::timers::Timers;

    fn apply(
        map: &mut MultiMap,
        operation: u32,
        input: &impl prost::Message,
    ) -> Result<(), String> {
        let (mut timers, mut emitted) = (Timers::default(), Vec::new());
        let mut context = Context::new((1, 1), 1, &mut timers, &mut emitted);
        let command = CommandKey { session_id: 1, sequence_num: 1 };
        let call = Call { command, operation, input: encode(input) };
        map.apply(call, &mut context).map(drop).map_err(|failure| failure.message)
    }

    fn digest(map: &MultiMap) -> u64 {
        let mut digest = Digest::new();
        map.digest(&mut digest);
        digest.finish()
    }

    fn values(count: usize) -> Vec<String> {
        (0..count).map(|number| format!("value-{number}")).collect()
    }

    #[test]
    fn a_key_with_too_many_values_is_refused_with_all_of_its_command() {
        let mut map = MultiMap::default();
        let all = values(KEY_VALUES_MAX);
        let put_all = wire::PutAllInput { key: "a".into(), values: all.clone() };
        apply(&mut map, operation::PUT_ALL, &put_all).unwrap();
        let before = digest(&map);
        let refused = Err("values: a key has at most 3072".to_owned());
        let put = wire::PutInput { key: "a".into(), value: "another".into() };
        assert_eq!(apply(&mut map, operation::PUT, &put), refused);
        let entry = |key: &str| wire::Entry { key: key.into(), values: vec!["another".into()] };
        let put_entries = wire::PutEntriesInput { entries: vec![entry("Z"), entry("a")] };
        assert_eq!(apply(&mut map, operation::PUT_ENTRIES, &put_entries), refused);
        let replace = wire::ReplaceInput { key: "a".into(), values: values(KEY_VALUES_MAX + 1) };
        assert_eq!(apply(&mut map, operation::REPLACE, &replace), refused);
        assert_eq!(digest(&map), before);
        // What leaves makes room for what comes.
        let mut others = all;
        others[0] = "another".into();
        let replace = wire::ReplaceInput { key: "a".into(), values: others };
        apply(&mut map, operation::REPLACE, &replace).unwrap();
    }

    #[test]
    fn a_command_with_too_many_values_is_refused() {
        let mut map = MultiMap::default();
        let refused = Err("values: more than 8192 in one command".to_owned());
        let values = vec!["x".to_owned(); COMMAND_VALUES_MAX + 1];
        let put_all = wire::PutAllInput { key: "a".into(), values };
        assert_eq!(apply(&mut map, operation::PUT_ALL, &put_all), refused);
        let entries = vec![wire::Entry::default(); COMMAND_VALUES_MAX + 1];
        let remove_entries = wire::RemoveEntriesInput { entries };
        assert_eq!(apply(&mut map, operation::REMOVE_ENTRIES, &remove_entries), refused);
        assert_eq!(digest(&map), digest(&MultiMap::default()));
    }

    #[test]
    fn a_key_with_many_values_is_several_records() {
        let mut map = MultiMap::default();
        let put_all = wire::PutAllInput { key: "a".into(), values: values(KEY_VALUES_MAX) };
        apply(&mut map, operation::PUT_ALL, &put_all).unwrap();
        assert_eq!(map.records().count(), 12);
    }

    #[test]
    fn each_field_of_a_multimap_is_in_the_digest() {
        fn values<const N: usize>(values: [&str; N]) -> MeasuredSet<Arc<str>> {
            let mut set = MeasuredSet::default();
            for value in values {
                set.insert(value.into());
            }
            set
        }
        let command = CommandKey { session_id: 1, sequence_num: 1 };
        let (mut timers, mut emitted) = (Timers::default(), Vec::new());
        let mut context = Context::new((1, 1), 1, &mut timers, &mut emitted);
        let mut map = MultiMap::default();
        map.entries.insert("a".into(), values(["b"]));
        each_field_changes_the_digest!(map.clone(), MultiMap::digest, MultiMap {
            entries => entries.insert("b".into(), values(["b"])),
            listeners => listeners.open(command, Filter::all(), Bytes::new(), &mut context).unwrap(),
        });
        each_field_changes_the_digest!(map, MultiMap::digest, MultiMap {
            entries => entries.insert("a".into(), values(["b", "c"])),
            listeners => listeners.open(command, Filter::prefix("a".into()), Bytes::new(), &mut context).unwrap(),
        });
    }
}
