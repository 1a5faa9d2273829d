//! Who listens to the changes of a primitive: its open `Events` commands.

use std::sync::Arc;

use bytes::Bytes;
use imbl::{OrdMap, OrdSet};
use multiraft_proto::log::SnapshotListener;

use super::{CommandKey, Context, Emitted, Failure, RestoreContext, Status, Step};
use crate::digest::Digest;
use crate::limits::{EVENTS_MAX, KEY_BYTES_MAX, LISTENERS_MAX};

#[derive(Clone, Debug, Default)]
pub struct Listeners {
    /// By the key that they listen to; those of the empty key listen to all.
    by_key: OrdMap<Arc<str>, OrdSet<CommandKey>>,
}

impl Listeners {
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    pub fn len(&self) -> usize {
        self.by_key.values().map(OrdSet::len).sum()
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
        if key.len() > KEY_BYTES_MAX {
            let message = format!("key: {} bytes, at most {KEY_BYTES_MAX}", key.len());
            return Err(Failure::invalid(message));
        }
        if self.len() >= LISTENERS_MAX {
            let message = format!("{LISTENERS_MAX} streams listen already");
            return Err(Failure::new(Status::Conflict, message));
        }
        self.by_key.entry(key.into()).or_default().insert(command);
        context.emit(Emitted { command, result: Ok(first), last: false });
        Ok(Step::Open)
    }

    pub fn close(&mut self, command: CommandKey) {
        self.retain(|listener| *listener != command);
    }

    pub fn close_session(&mut self, session_id: u64) {
        self.retain(|listener| listener.session_id != session_id);
    }

    fn retain(&mut self, stays: impl Fn(&CommandKey) -> bool) {
        if self.by_key.values().flatten().all(&stays) {
            return;
        }
        let mut by_key = OrdMap::new();
        for (key, listeners) in &self.by_key {
            let left: OrdSet<_> = listeners.iter().filter(|one| stays(one)).copied().collect();
            if !left.is_empty() {
                by_key.insert(Arc::clone(key), left);
            }
        }
        self.by_key = by_key;
    }

    /// Tells of one change of `key`. The output is made only if somebody listens.
    pub fn tell(&self, key: &str, output: impl FnOnce() -> Bytes, context: &mut Context<'_>) {
        if self.is_empty() {
            return;
        }
        let to_all = self.by_key.get("").into_iter().flatten();
        let to_key = self.by_key.get(key).filter(|_| !key.is_empty()).into_iter().flatten();
        let mut listeners = to_all.chain(to_key).copied().peekable();
        if listeners.peek().is_none() {
            return;
        }
        let output = output();
        for command in listeners {
            context.emit(Emitted { command, result: Ok(output.clone()), last: false });
        }
    }

    /// To be called before one command makes `changes` changes of different keys: ends who listens
    /// to all of them when that is too much to be told at once.
    pub fn expect(&mut self, changes: usize, context: &mut Context<'_>) {
        let listeners = self.by_key.get("").map_or(0, OrdSet::len);
        if changes.saturating_mul(listeners) <= EVENTS_MAX {
            return;
        }
        for command in self.by_key.remove("").into_iter().flatten() {
            let message = format!("too many changes at once: {changes}");
            let result = Err(Failure::new(Status::Conflict, message));
            context.emit(Emitted { command, result, last: true });
        }
    }

    pub fn digest(&self, digest: &mut Digest) {
        let Self { by_key } = self;
        digest.number(by_key.len());
        for (key, listeners) in by_key {
            digest.bytes(key.as_bytes());
            digest.number(listeners.len());
            listeners.iter().for_each(|command| command.digest(digest));
        }
    }

    pub fn records(&self) -> impl Iterator<Item = SnapshotListener> + Send + '_ {
        let Self { by_key } = self;
        by_key.iter().flat_map(|(key, listeners)| {
            listeners.iter().map(|CommandKey { session_id, sequence_num }| SnapshotListener {
                session_id: *session_id,
                sequence_num: *sequence_num,
                key: key.to_string(),
            })
        })
    }

    pub fn restore(
        &mut self,
        SnapshotListener { session_id, sequence_num, key }: SnapshotListener,
        context: &RestoreContext<'_>,
    ) -> Result<(), String> {
        let command = CommandKey { session_id, sequence_num };
        context.check_open(command)?;
        match self.by_key.entry(key.into()).or_default().insert(command) {
            None => Ok(()),
            Some(_) => Err(format!("command {sequence_num} of session {session_id} listens twice")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::each_field_changes_the_digest;
    use crate::timers::Timers;

    fn command(session_id: u64, sequence_num: u64) -> CommandKey {
        CommandKey { session_id, sequence_num }
    }

    /// What a step emits, by the commands that get it.
    fn emitted(step: impl FnOnce(&mut Context<'_>)) -> Vec<(CommandKey, bool)> {
        let (mut timers, mut emitted) = (Timers::default(), Vec::new());
        step(&mut Context::new((1, 1), 1, &mut timers, &mut emitted));
        emitted.into_iter().map(|one| (one.command, one.result.is_ok())).collect()
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

    #[test]
    fn each_field_of_the_listeners_is_in_the_digest() {
        let key = command(1, 2);
        each_field_changes_the_digest!(listeners(&[(key, "a")]), Listeners::digest, Listeners {
            by_key => by_key.insert("b".into(), OrdSet::unit(key)),
        });
        each_field_changes_the_digest!(listeners(&[(key, "a")]), Listeners::digest, Listeners {
            by_key => by_key.insert("a".into(), OrdSet::unit(command(2, 1))),
        });
        each_field_changes_the_digest!(key, CommandKey::digest, CommandKey {
            session_id => *session_id = 2,
            sequence_num => *sequence_num = 1,
        });
    }

    #[test]
    fn a_change_is_told_to_those_of_its_key_and_to_those_of_all_keys_once() {
        let listeners =
            listeners(&[(command(1, 1), "a"), (command(2, 1), ""), (command(3, 1), "b")]);
        let told = |key| emitted(|context| listeners.tell(key, Bytes::new, context));
        assert_eq!(told("a"), [(command(2, 1), true), (command(1, 1), true)]);
        assert_eq!(told("c"), [(command(2, 1), true)]);
        assert_eq!(told(""), [(command(2, 1), true)]);
    }

    #[test]
    fn no_output_is_made_when_nobody_listens() {
        let listeners = listeners(&[(command(1, 1), "a")]);
        emitted(|context| listeners.tell("b", || panic!("nobody listens to b"), context));
    }

    #[test]
    fn more_changes_than_one_entry_may_tell_end_those_who_listen_to_all() {
        let mut listeners = listeners(&[(command(1, 1), ""), (command(2, 1), "a")]);
        assert_eq!(emitted(|context| listeners.expect(EVENTS_MAX, context)), []);
        let ended = emitted(|context| listeners.expect(EVENTS_MAX + 1, context));
        assert_eq!(ended, [(command(1, 1), false)]);
        assert_eq!(listeners.len(), 1);
    }

    #[test]
    fn who_has_no_open_command_is_not_restored() {
        use crate::primitives::{restored, set};
        use multiraft_proto::log::{SetRecord, set_record::Record};
        let listener = |session_id, sequence_num| {
            let key = String::new();
            let listener = SnapshotListener { session_id, sequence_num, key };
            SetRecord { record: Some(Record::Listener(listener)) }
        };
        let restored = |records: &[SetRecord]| restored(&mut set::Set::default(), records);
        assert_eq!(restored(&[listener(1, 1), listener(1, 2)]), Ok(()));
        let closed = restored(&[listener(1, 4)]).unwrap_err();
        assert_eq!(closed, "command 4 of session 1 is not open here");
        let gone = restored(&[listener(3, 1)]).unwrap_err();
        assert_eq!(gone, "command 1 of session 3 is not open here");
        let twice = restored(&[listener(1, 1), listener(1, 1)]).unwrap_err();
        assert_eq!(twice, "command 1 of session 1 listens twice");
    }

    #[test]
    fn one_listener_too_many_is_refused() {
        let mut listeners = Listeners::default();
        let (mut timers, mut emitted) = (Timers::default(), Vec::new());
        let mut context = Context::new((1, 1), 1, &mut timers, &mut emitted);
        for number in 1..=LISTENERS_MAX as u64 {
            listeners.open(command(1, number), "", Bytes::new(), &mut context).unwrap();
        }
        let refused = listeners.open(command(2, 1), "", Bytes::new(), &mut context).unwrap_err();
        assert_eq!(refused.status, Status::Conflict);
        assert_eq!(listeners.len(), LISTENERS_MAX);
        listeners.close_session(1);
        assert!(listeners.is_empty());
    }
}
