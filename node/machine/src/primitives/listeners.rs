//! Who is told of the changes of a primitive: its open `Events` commands.

use std::sync::Arc;

use bytes::Bytes;
use imbl::{OrdMap, OrdSet};
use multiraft_proto::log::SnapshotListener;

use super::checks::check_key;
use super::measured::Measured;
use super::{CommandKey, Context, Emitted, Failure, RestoreContext, Status, Step};
use crate::digest::Digest;
use crate::limits::LISTENERS_MAX;

#[derive(Clone, Debug, Default)]
pub struct Listeners {
    /// Command → the key that it listens to; empty = all.
    keys: Measured<CommandKey, Arc<str>>,
    /// The same, by key: a change concerns few of many listeners.
    by_key: OrdSet<(Arc<str>, CommandKey)>,
    /// Command → the prefix of the keys that it listens to; never empty.
    prefixes: Measured<CommandKey, Arc<str>>,
    /// The same, by prefix.
    by_prefix: OrdMap<Arc<str>, OrdSet<CommandKey>>,
}

/// Which changes a command listens to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Of one key; of all if it is empty.
    Key(Arc<str>),
    /// Of the keys that begin with it.
    Prefix(Arc<str>),
}

impl Filter {
    pub fn all() -> Self {
        Self::Key("".into())
    }

    /// The empty prefix is that of all keys.
    pub fn prefix(prefix: String) -> Self {
        if prefix.is_empty() { Self::all() } else { Self::Prefix(prefix.into()) }
    }

    pub fn new(key: String, prefix: String) -> Result<Self, Failure> {
        match (key.is_empty(), prefix.is_empty()) {
            (_, true) => Ok(Self::Key(key.into())),
            (true, false) => Ok(Self::prefix(prefix)),
            (false, false) => Err(Failure::invalid("key, prefix: set one of them, not both")),
        }
    }

    /// The key or the prefix.
    pub fn text(&self) -> &str {
        match self {
            Self::Key(text) | Self::Prefix(text) => text,
        }
    }

    fn check(&self) -> Result<(), Failure> {
        match self {
            Self::Key(key) => check_key("key", key),
            Self::Prefix(prefix) => check_key("prefix", prefix),
        }
    }
}

impl Listeners {
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn bytes(&self) -> u64 {
        self.keys.bytes() + self.prefixes.bytes()
    }

    fn len(&self) -> usize {
        self.keys.len() + self.prefixes.len()
    }

    /// Lets `command` listen. Its first output says that it does: clients wait for it.
    pub fn open(
        &mut self,
        command: CommandKey,
        filter: Filter,
        first: Bytes,
        context: &mut Context<'_>,
    ) -> Result<Step, Failure> {
        filter.check()?;
        if self.len() >= LISTENERS_MAX {
            let message = format!("{LISTENERS_MAX} commands listen already");
            return Err(Failure::new(Status::Conflict, message));
        }
        self.insert(command, filter);
        context.emit(Emitted { command, result: Ok(first), last: false });
        Ok(Step::Open)
    }

    fn insert(&mut self, command: CommandKey, filter: Filter) {
        match filter {
            Filter::Key(key) => {
                self.by_key.insert((Arc::clone(&key), command));
                self.keys.insert(command, key);
            }
            Filter::Prefix(prefix) => {
                self.by_prefix.entry(Arc::clone(&prefix)).or_default().insert(command);
                self.prefixes.insert(command, prefix);
            }
        }
    }

    pub fn close(&mut self, command: CommandKey) {
        if let Some(key) = self.keys.remove(&command) {
            self.by_key.remove(&(key, command));
        }
        let Some(prefix) = self.prefixes.remove(&command) else { return };
        if let Some(commands) = self.by_prefix.get_mut(&prefix) {
            commands.remove(&command);
            if commands.is_empty() {
                self.by_prefix.remove(&prefix);
            }
        }
    }

    pub fn close_session(&mut self, session_id: u64) {
        let keys = self.keys.range(CommandKey::of_session(session_id));
        let prefixes = self.prefixes.range(CommandKey::of_session(session_id));
        let commands: Vec<_> = keys.chain(prefixes).map(|(command, _)| *command).collect();
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

    /// Who listens to all keys, then who listens to a prefix of this one, the shortest first, then
    /// who listens to this one.
    fn concerned(&self, key: &str) -> Vec<CommandKey> {
        let mut commands: Vec<_> = self.of_key("").collect();
        if !key.is_empty() {
            for prefix in self.prefixes_of(key).into_iter().rev() {
                commands.extend(self.by_prefix.get(prefix).into_iter().flatten());
            }
            commands.extend(self.of_key(key));
        }
        commands
    }

    /// Those that somebody listens to, the longest first. Steps down from the key: what is the last
    /// one up to a bound is either a prefix, or has only a part in common with the key, and longer
    /// prefixes than that part would be behind it. So there are at most as many steps as the key has
    /// letters, however many listen to other prefixes.
    fn prefixes_of(&self, key: &str) -> Vec<&str> {
        let mut found = Vec::new();
        let mut bound = key;
        while !bound.is_empty()
            && let Some((prefix, _)) = self.by_prefix.get_prev(bound)
        {
            let common = common_prefix(key, prefix);
            if common.len() == prefix.len() {
                found.push(&**prefix);
                let shorter = common.char_indices().next_back().map_or(0, |(at, _)| at);
                bound = &key[..shorter];
            } else {
                bound = common;
            }
        }
        found
    }

    fn of_key(&self, key: &str) -> impl Iterator<Item = CommandKey> + '_ {
        let key = Arc::<str>::from(key);
        let first = (Arc::clone(&key), CommandKey::FIRST);
        self.by_key.range(first..=(key, CommandKey::LAST)).map(|(_, command)| *command)
    }

    pub fn digest(&self, digest: &mut Digest) {
        let Self { keys, by_key, prefixes, by_prefix } = self;
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
        // Younger than the first snapshots: see the rule of the digest.
        if !prefixes.is_empty() || !by_prefix.is_empty() {
            self.digest_prefixes(digest);
        }
    }

    fn digest_prefixes(&self, digest: &mut Digest) {
        digest.number(self.prefixes.len());
        for (command, prefix) in &self.prefixes {
            command.digest(digest);
            digest.bytes(prefix.as_bytes());
        }
        digest.number(self.by_prefix.len());
        for (prefix, commands) in &self.by_prefix {
            digest.bytes(prefix.as_bytes());
            digest.number(commands.len());
            commands.iter().for_each(|command| command.digest(digest));
        }
    }

    pub fn records(&self) -> impl Iterator<Item = SnapshotListener> + Send + '_ {
        // Without `..`: a new field needs a decision. The other orders follow from these.
        let Self { keys, by_key: _, prefixes, by_prefix: _ } = self;
        let record = |CommandKey { session_id, sequence_num }: &CommandKey| SnapshotListener {
            session_id: *session_id,
            sequence_num: *sequence_num,
            ..Default::default()
        };
        let keys = keys.iter().map(move |(command, key)| {
            let key = key.to_string();
            SnapshotListener { key, ..record(command) }
        });
        let prefixes = prefixes.iter().map(move |(command, prefix)| {
            let prefix = prefix.to_string();
            SnapshotListener { prefix, ..record(command) }
        });
        keys.chain(prefixes)
    }

    pub fn restore(
        &mut self,
        listener: SnapshotListener,
        context: &RestoreContext<'_>,
    ) -> Result<(), String> {
        let SnapshotListener { session_id, sequence_num, key, prefix } = listener;
        let command = CommandKey { session_id, sequence_num };
        context.check_open(command)?;
        if self.keys.contains_key(&command) || self.prefixes.contains_key(&command) {
            return Err(format!("command {sequence_num} of session {session_id} listens twice"));
        }
        self.insert(command, Filter::new(key, prefix).map_err(|failure| failure.message)?);
        Ok(())
    }
}

/// What both begin with.
fn common_prefix<'a>(one: &'a str, other: &str) -> &'a str {
    let same = one.chars().zip(other.chars()).take_while(|(a, b)| a == b);
    let length = same.map(|(letter, _)| letter.len_utf8()).sum();
    &one[..length]
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

    /// `a` is the key, `a*` the prefix.
    fn filter(text: &str) -> Filter {
        match text.strip_suffix('*') {
            Some(prefix) => Filter::prefix(prefix.into()),
            None => Filter::Key(text.into()),
        }
    }

    fn listeners(open: &[(CommandKey, &str)]) -> Listeners {
        let mut listeners = Listeners::default();
        emitted(|context| {
            for (command, text) in open {
                listeners.open(*command, filter(text), Bytes::new(), context).unwrap();
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
        let Listeners { keys, by_key, prefixes, by_prefix } = listeners;
        assert!(keys.is_empty() && by_key.is_empty(), "{listeners:?}");
        assert!(prefixes.is_empty() && by_prefix.is_empty(), "{listeners:?}");
    }

    #[test]
    fn each_field_of_the_listeners_is_in_the_digest() {
        let (here, there) = (command(1, 2), command(2, 1));
        let listeners = listeners(&[(here, "a")]);
        each_field_changes_the_digest!(listeners.clone(), Listeners::digest, Listeners {
            keys => keys.insert(here, "b".into()),
            by_key => by_key.insert(("a".into(), there)),
            prefixes => prefixes.insert(here, "a".into()),
            by_prefix => by_prefix.insert("a".into(), OrdSet::unit(here)),
        });
        let listeners = self::listeners(&[(here, "a"), (there, "a*")]);
        each_field_changes_the_digest!(listeners, Listeners::digest, Listeners {
            keys => keys.insert(there, "a".into()),
            by_key => by_key.insert(("b".into(), here)),
            prefixes => prefixes.insert(there, "b".into()),
            by_prefix => by_prefix["a"].insert(here),
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
    fn a_change_is_told_to_those_of_each_of_its_prefixes() {
        let [all, a, ab, ab_too, abd, key] = [1, 2, 3, 4, 5, 6].map(|number| command(number, 1));
        let open = [(key, "abc"), (ab_too, "ab*"), (abd, "abd*"), (ab, "ab*"), (a, "a*")];
        let mut listeners = listeners(&[open.as_slice(), &[(all, "*")]].concat());
        assert_eq!(told(&mut listeners, "abc"), [all, a, ab, ab_too, key]);
        assert_eq!(told(&mut listeners, "ab"), [all, a, ab, ab_too]);
        assert_eq!(told(&mut listeners, "a"), [all, a]);
        assert_eq!(told(&mut listeners, "b"), [all]);
        assert_eq!(told(&mut listeners, ""), [all]);
        listeners.close(ab);
        assert_eq!(told(&mut listeners, "abd"), [all, a, ab_too, abd]);
        for command in [all, a, ab_too, abd, key] {
            listeners.close_session(command.session_id);
        }
        assert_empty(&listeners);
    }

    #[test]
    fn exactly_the_prefixes_of_a_key_are_found_among_any_others() {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut word = || -> String {
            let letters = ["a", "b", "é", "\u{10ffff}"];
            (0..rng.usize(..6)).map(|_| letters[rng.usize(..letters.len())]).collect()
        };
        for number in 0..2_000 {
            let prefixes: Vec<String> = (0..number % 40).map(|_| word() + "*").collect();
            let open: Vec<_> =
                prefixes.iter().zip(1..).map(|(p, n)| (command(n, 1), p.as_str())).collect();
            let listeners = listeners(&open);
            let key = word();
            let is_one = |prefix: &&str| !prefix.is_empty() && key.starts_with(prefix);
            let all = prefixes.iter().map(|prefix| prefix.trim_end_matches('*'));
            let mut expected: Vec<&str> = all.filter(is_one).collect();
            expected.sort_by_key(|prefix| std::cmp::Reverse(prefix.len()));
            expected.dedup();
            assert_eq!(listeners.prefixes_of(&key), expected, "{key} among {prefixes:?}");
        }
    }

    #[test]
    fn a_key_and_a_prefix_at_once_are_refused() {
        let refused = Filter::new("a".into(), "a".into()).unwrap_err();
        assert_eq!(refused, Failure::invalid("key, prefix: set one of them, not both"));
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
            listeners.open(command(1, number), Filter::all(), Bytes::new(), &mut context).unwrap();
        }
        let other = command(2, 1);
        let refused = listeners.open(other, Filter::all(), Bytes::new(), &mut context).unwrap_err();
        assert_eq!(refused.status, Status::Conflict);
        listeners.close(command(1, 1));
        listeners.open(other, Filter::all(), Bytes::new(), &mut context).unwrap();
    }
}
