//! Who is told of the changes of a primitive: its open `Events` commands.

use std::sync::Arc;

use bytes::Bytes;
use imbl::{OrdMap, OrdSet};
use multiraft_proto::log::SnapshotListener;

use super::checks::check_key;
use super::{CommandKey, Context, Emitted, Failure, RestoreContext, Status, Step};
use crate::digest::Digest;
use crate::limits::LISTENERS_MAX;

#[derive(Clone, Debug, Default)]
pub struct Listeners {
    /// Command → the key that it listens to; empty = all.
    keys: OrdMap<CommandKey, Arc<str>>,
    /// The same, by key: a change concerns few of many listeners.
    by_key: OrdSet<(Arc<str>, CommandKey)>,
}

impl Listeners {
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Lets `command` listen to one key, or to all if that is empty. Its first output says that it
    /// does: clients wait for it.
    pub fn open(
        &mut self,
        command: CommandKey,
        key: &str,
        first: Bytes,
        context: &mut Context<'_>,
    ) -> Result<Step, Failure> {
        check_key("key", key)?;
        if self.keys.len() >= LISTENERS_MAX {
            let message = format!("{LISTENERS_MAX} commands listen already");
            return Err(Failure::new(Status::Conflict, message));
        }
        self.insert(command, key.into());
        context.emit(Emitted { command, result: Ok(first), last: false });
        Ok(Step::Open)
    }

    fn insert(&mut self, command: CommandKey, key: Arc<str>) -> Option<Arc<str>> {
        self.by_key.insert((Arc::clone(&key), command));
        self.keys.insert(command, key)
    }

    pub fn close(&mut self, command: CommandKey) {
        if let Some(key) = self.keys.remove(&command) {
            self.by_key.remove(&(key, command));
        }
    }

    pub fn close_session(&mut self, session_id: u64) {
        let commands = self.keys.range(CommandKey::of_session(session_id));
        let commands: Vec<_> = commands.map(|(command, _)| *command).collect();
        commands.into_iter().for_each(|command| self.close(command));
    }

    /// Tells of one change of `key`, after it; the output is made only if somebody listens. Who
    /// would be told when the present command has caused too many outputs already is told that it
    /// misses some, and listens no more.
    pub fn tell(&mut self, key: &str, output: impl FnOnce() -> Bytes, context: &mut Context<'_>) {
        if self.is_empty() {
            return;
        }
        let concerned = self.concerned(key);
        if concerned.is_empty() {
            return;
        }
        let output = output();
        for command in concerned {
            if context.emitted_enough() {
                self.close(command);
                let message = "too many changes at once, some are missed: listen again";
                let result = Err(Failure::new(Status::Conflict, message));
                context.emit(Emitted { command, result, last: true });
            } else {
                context.emit(Emitted { command, result: Ok(output.clone()), last: false });
            }
        }
    }

    /// Who listens to all keys, then who listens to this one.
    fn concerned(&self, key: &str) -> Vec<CommandKey> {
        let mut commands: Vec<_> = self.of_key("").collect();
        if !key.is_empty() {
            commands.extend(self.of_key(key));
        }
        commands
    }

    fn of_key(&self, key: &str) -> impl Iterator<Item = CommandKey> + '_ {
        let key = Arc::<str>::from(key);
        let first = (Arc::clone(&key), CommandKey::FIRST);
        self.by_key.range(first..=(key, CommandKey::LAST)).map(|(_, command)| *command)
    }

    pub fn digest(&self, digest: &mut Digest) {
        let Self { keys, by_key } = self;
        digest.number(keys.len());
        for (command, key) in keys {
            command.digest(digest);
            digest.bytes(key.as_bytes());
        }
        digest.number(by_key.len());
        for (key, command) in by_key {
            digest.bytes(key.as_bytes());
            command.digest(digest);
        }
    }

    pub fn records(&self) -> impl Iterator<Item = SnapshotListener> + Send + '_ {
        // Without `..`: a new field needs a decision. The other order follows from this one.
        let Self { keys, by_key: _ } = self;
        keys.iter().map(|(command, key)| {
            let CommandKey { session_id, sequence_num } = *command;
            SnapshotListener { session_id, sequence_num, key: key.to_string() }
        })
    }

    pub fn restore(
        &mut self,
        SnapshotListener { session_id, sequence_num, key }: SnapshotListener,
        context: &RestoreContext<'_>,
    ) -> Result<(), String> {
        let command = CommandKey { session_id, sequence_num };
        context.check_open(command)?;
        match self.insert(command, key.into()) {
            None => Ok(()),
            Some(_) => Err(format!("command {sequence_num} of session {session_id} listens twice")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::each_field_changes_the_digest;
    use crate::limits::{COMMAND_OVERHEAD_BYTES, EMITTED_BYTES_MAX};
    use crate::timers::Timers;

    fn command(session_id: u64, sequence_num: u64) -> CommandKey {
        CommandKey { session_id, sequence_num }
    }

    /// What a step emits, by the commands that get it, and whether they go on.
    fn emitted(step: impl FnOnce(&mut Context<'_>)) -> Vec<(CommandKey, bool)> {
        let (mut timers, mut emitted) = (Timers::default(), Vec::new());
        step(&mut Context::new((1, 1), 1, &mut timers, &mut emitted));
        let goes_on = |one: &Emitted| one.result.is_ok() && !one.last;
        emitted.iter().map(|one| (one.command, goes_on(one))).collect()
    }

    fn listeners(open: &[(CommandKey, &str)]) -> Listeners {
        let mut listeners = Listeners::default();
        emitted(|context| {
            for (command, key) in open {
                listeners.open(*command, key, Bytes::new(), context).unwrap();
            }
        });
        listeners
    }

    fn told(listeners: &mut Listeners, key: &str) -> Vec<CommandKey> {
        let told = emitted(|context| listeners.tell(key, Bytes::new, context));
        assert!(told.iter().all(|(_, goes_on)| *goes_on));
        told.into_iter().map(|(command, _)| command).collect()
    }

    fn assert_empty(listeners: &Listeners) {
        assert!(listeners.is_empty() && listeners.by_key.is_empty(), "{listeners:?}");
    }

    #[test]
    fn each_field_of_the_listeners_is_in_the_digest() {
        let (here, there) = (command(1, 2), command(2, 1));
        let listeners = listeners(&[(here, "a")]);
        each_field_changes_the_digest!(listeners.clone(), Listeners::digest, Listeners {
            keys => keys.insert(here, "b".into()),
            by_key => by_key.insert(("a".into(), there)),
        });
        each_field_changes_the_digest!(listeners, Listeners::digest, Listeners {
            keys => keys.insert(there, "a".into()),
            by_key => by_key.insert(("b".into(), here)),
        });
        each_field_changes_the_digest!(here, CommandKey::digest, CommandKey {
            session_id => *session_id = 2,
            sequence_num => *sequence_num = 1,
        });
    }

    #[test]
    fn a_change_is_told_to_those_of_its_key_and_to_those_of_all_keys_once() {
        let [a, all, b] = [command(1, 1), command(2, 1), command(3, 1)];
        let mut listeners = listeners(&[(a, "a"), (all, ""), (b, "b")]);
        assert_eq!(told(&mut listeners, "a"), [all, a]);
        assert_eq!(told(&mut listeners, "c"), [all]);
        // To listen to the empty key is to listen to all.
        assert_eq!(told(&mut listeners, ""), [all]);
    }

    #[test]
    fn no_output_is_made_when_nobody_listens() {
        let mut listeners = listeners(&[(command(1, 1), "a")]);
        emitted(|context| listeners.tell("b", || panic!("nobody listens to b"), context));
    }

    #[test]
    fn nobody_is_told_after_its_command_or_session_has_ended() {
        let [here, other, there] = [command(1, 2), command(1, 3), command(2, 1)];
        let mut listeners = listeners(&[(here, "a"), (other, "a"), (there, "a")]);
        listeners.close(other);
        assert_eq!(told(&mut listeners, "a"), [here, there]);
        listeners.close_session(here.session_id);
        assert_eq!(told(&mut listeners, "a"), [there]);
        listeners.close_session(there.session_id);
        assert_empty(&listeners);
    }

    #[test]
    fn who_would_be_told_too_much_at_once_is_told_so_and_listens_no_more() {
        let (all, other) = (command(1, 1), command(2, 1));
        let mut listeners = listeners(&[(all, ""), (other, "b")]);
        let output = Bytes::from(vec![0; (1 << 20) - COMMAND_OVERHEAD_BYTES as usize]);
        let told = emitted(|context| {
            for _ in 0..100 {
                listeners.tell("a", || output.clone(), context);
            }
        });
        let before = EMITTED_BYTES_MAX as usize >> 20;
        assert_eq!(told.len(), before + 1);
        assert!(told[..before].iter().all(|one| *one == (all, true)));
        assert_eq!(told[before], (all, false));
        listeners.close(other);
        assert_empty(&listeners);
    }

    #[test]
    fn one_listener_too_many_is_refused() {
        let mut listeners = Listeners::default();
        let (mut timers, mut emitted) = (Timers::default(), Vec::new());
        let mut context = Context::new((1, 1), 1, &mut timers, &mut emitted);
        for number in 1..=LISTENERS_MAX as u64 {
            listeners.open(command(1, number), "", Bytes::new(), &mut context).unwrap();
        }
        let other = command(2, 1);
        let refused = listeners.open(other, "", Bytes::new(), &mut context).unwrap_err();
        assert_eq!(refused.status, Status::Conflict);
        listeners.close(command(1, 1));
        listeners.open(other, "", Bytes::new(), &mut context).unwrap();
    }
}
