//! Who is told of changes: the open `Events` commands of a primitive with keys.

use std::sync::Arc;

use bytes::Bytes;
use imbl::{OrdMap, OrdSet};
use multiraft_proto::log;

use super::checks::check_key;
use super::{CommandKey, Context, Emitted, Failure, RestoreContext, Status};
use crate::digest::Digest;
use crate::limits::KEY_LISTENERS_MAX;

#[derive(Clone, Debug, Default)]
pub struct KeyListeners {
    /// Command → the key that it listens to; empty = all keys.
    filters: OrdMap<CommandKey, Arc<str>>,
    /// The same, by key: a change concerns few of many listeners.
    by_filter: OrdSet<(Arc<str>, CommandKey)>,
}

impl KeyListeners {
    pub fn add(&mut self, command: CommandKey, filter: &str) -> Result<(), Failure> {
        check_key("key", filter)?;
        if self.filters.len() >= KEY_LISTENERS_MAX {
            let message = format!("more than {KEY_LISTENERS_MAX} open Events of this primitive");
            return Err(Failure::new(Status::Conflict, message));
        }
        self.insert(command, filter.into());
        Ok(())
    }

    fn insert(&mut self, command: CommandKey, filter: Arc<str>) -> Option<Arc<str>> {
        self.by_filter.insert((Arc::clone(&filter), command));
        self.filters.insert(command, filter)
    }

    pub fn remove(&mut self, command: CommandKey) {
        if let Some(filter) = self.filters.remove(&command) {
            self.by_filter.remove(&(filter, command));
        }
    }

    pub fn remove_session(&mut self, session_id: u64) {
        let commands: Vec<_> =
            self.filters.range(session_commands(session_id)).map(|(c, _)| *c).collect();
        commands.into_iter().for_each(|command| self.remove(command));
    }

    /// Tells all whom a change of `key` concerns. When the present command has caused too many
    /// outputs already, they are told that they miss some, and are removed.
    pub fn tell(&mut self, key: &str, context: &mut Context<'_>, output: impl FnOnce() -> Bytes) {
        if self.filters.is_empty() {
            return;
        }
        let concerned = self.concerned(key);
        if concerned.is_empty() {
            return;
        }
        let output = output();
        for command in concerned {
            if context.emitted_enough() {
                self.remove(command);
                let message = "too many changes at once, some are missed: listen again";
                let failure = Failure::new(Status::Conflict, message);
                context.emit(Emitted { command, result: Err(failure), last: true });
            } else {
                context.emit(Emitted { command, result: Ok(output.clone()), last: false });
            }
        }
    }

    fn concerned(&self, key: &str) -> Vec<CommandKey> {
        let mut commands: Vec<_> = self.of_filter("").collect();
        if !key.is_empty() {
            commands.extend(self.of_filter(key));
        }
        commands
    }

    fn of_filter(&self, filter: &str) -> impl Iterator<Item = CommandKey> + '_ {
        let (filter, all) = (Arc::<str>::from(filter), all_commands());
        let first = (Arc::clone(&filter), *all.start());
        self.by_filter.range(first..=(filter, *all.end())).map(|(_, command)| *command)
    }

    pub fn digest(&self, digest: &mut Digest) {
        let Self { filters, by_filter } = self;
        digest.number(filters.len());
        for (command, filter) in filters.iter() {
            command.digest(digest);
            digest.bytes(filter.as_bytes());
        }
        digest.number(by_filter.len());
        for (filter, command) in by_filter.iter() {
            digest.bytes(filter.as_bytes());
            command.digest(digest);
        }
    }

    pub fn records(&self) -> impl Iterator<Item = log::KeyListener> + Send + '_ {
        let Self { filters, by_filter: _ } = self;
        filters.iter().map(|(command, filter)| {
            let CommandKey { session_id, sequence_num } = *command;
            log::KeyListener { session_id, sequence_num, key: filter.to_string() }
        })
    }

    pub fn restore(
        &mut self,
        listener: log::KeyListener,
        context: &RestoreContext<'_>,
    ) -> Result<(), String> {
        let log::KeyListener { session_id, sequence_num, key } = listener;
        context.check_attached(session_id)?;
        match self.insert(CommandKey { session_id, sequence_num }, key.into()) {
            None => Ok(()),
            Some(_) => Err(format!("listener {sequence_num} of session {session_id} comes twice")),
        }
    }
}

/// All commands that a session can have.
pub fn session_commands(session_id: u64) -> std::ops::RangeInclusive<CommandKey> {
    let command = |sequence_num| CommandKey { session_id, sequence_num };
    command(0)..=command(u64::MAX)
}

fn all_commands() -> std::ops::RangeInclusive<CommandKey> {
    let command = |number| CommandKey { session_id: number, sequence_num: number };
    command(0)..=command(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::each_field_changes_the_digest;
    use crate::timers::Timers;

    const HERE: CommandKey = CommandKey { session_id: 1, sequence_num: 2 };
    const THERE: CommandKey = CommandKey { session_id: 2, sequence_num: 1 };

    fn told(listeners: &mut KeyListeners, key: &str) -> Vec<CommandKey> {
        let (mut timers, mut emitted) = (Timers::default(), Vec::new());
        let mut context = Context::new((1, 1), 1, &mut timers, &mut emitted);
        listeners.tell(key, &mut context, || "changed".into());
        emitted.into_iter().map(|emitted| emitted.command).collect()
    }

    #[test]
    fn who_listens_to_a_key_or_to_all_is_told_once() {
        let mut listeners = KeyListeners::default();
        listeners.add(HERE, "").unwrap();
        listeners.add(THERE, "a").unwrap();
        assert_eq!(told(&mut listeners, "a"), [HERE, THERE]);
        assert_eq!(told(&mut listeners, "b"), [HERE]);
        // The empty key can be told from "all keys" by nobody.
        assert_eq!(told(&mut listeners, ""), [HERE]);
    }

    #[test]
    fn nobody_is_told_after_its_command_or_session_has_ended() {
        let mut listeners = KeyListeners::default();
        let other = CommandKey { sequence_num: 3, ..HERE };
        for command in [HERE, other, THERE] {
            listeners.add(command, "a").unwrap();
        }
        listeners.remove(other);
        assert_eq!(told(&mut listeners, "a"), [HERE, THERE]);
        listeners.remove_session(HERE.session_id);
        assert_eq!(told(&mut listeners, "a"), [THERE]);
        listeners.remove_session(THERE.session_id);
        assert!(listeners.filters.is_empty() && listeners.by_filter.is_empty());
    }

    #[test]
    fn a_listener_that_misses_changes_is_told_so_and_removed() {
        let mut listeners = KeyListeners::default();
        listeners.add(HERE, "").unwrap();
        let (mut timers, mut emitted) = (Timers::default(), Vec::new());
        let mut context = Context::new((1, 1), 1, &mut timers, &mut emitted);
        let output = Bytes::from(vec![0; 1 << 20]);
        for _ in 0..100 {
            listeners.tell("a", &mut context, || output.clone());
        }
        assert_eq!(emitted.len(), 65, "64 MiB and the end");
        let end = emitted.last().unwrap();
        assert_eq!(end.result.as_ref().unwrap_err().status, Status::Conflict);
        assert!(listeners.filters.is_empty() && listeners.by_filter.is_empty());
    }

    #[test]
    fn a_primitive_has_so_many_listeners_at_most() {
        let mut listeners = KeyListeners::default();
        for sequence_num in 0..KEY_LISTENERS_MAX as u64 {
            listeners.add(CommandKey { sequence_num, ..HERE }, "").unwrap();
        }
        assert_eq!(listeners.add(THERE, "").unwrap_err().status, Status::Conflict);
        listeners.remove(HERE);
        listeners.add(THERE, "").unwrap();
    }

    #[test]
    fn each_field_of_the_listeners_is_in_the_digest() {
        let mut listeners = KeyListeners::default();
        listeners.add(HERE, "a").unwrap();
        each_field_changes_the_digest!(listeners.clone(), KeyListeners::digest, KeyListeners {
            filters => filters.insert(HERE, "b".into()),
            by_filter => by_filter.insert(("a".into(), THERE)),
        });
        each_field_changes_the_digest!(listeners, KeyListeners::digest, KeyListeners {
            filters => filters.insert(THERE, "a".into()),
            by_filter => by_filter.insert(("b".into(), HERE)),
        });
    }
}
