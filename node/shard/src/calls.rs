//! Commands that wait for their answers, and how many more of them there may be.

use crate::CallError;
use crate::call::{Command, Reply};
use crate::context::Context;
use crate::limits::{
    CALL_OVERHEAD_BYTES, CALLS_BYTES_MAX, CALLS_MAX, DELAY_CALLS_MIN, DELAY_MICROS_MAX,
};
use std::collections::BTreeMap;

/// (origin, number) of a command.
pub(crate) type Key = (u64, u64);

/// What all groups of the shard hold for callers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    pub calls: usize,
    pub bytes: usize,
}

/// The open commands of one group.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    pub(crate) open: BTreeMap<Key, Command>,
    /// Of the open commands, with what each takes beside its input.
    bytes: usize,
    /// How many of them were applied here and go on.
    applied: usize,
    delay: Delay,
}

/// How long commands wait at least. A command may wait for a lock as long as it likes; when even the
/// quickest takes long, the queue does not drain (Nichols and Jacobson, CoDel, 2012).
#[derive(Debug, Default)]
struct Delay {
    least: Option<u64>,
    answers: usize,
    is_long: bool,
}

impl Delay {
    fn answered(&mut self, micros: u64) {
        self.answers += 1;
        self.least = Some(self.least.map_or(micros, |least| least.min(micros)));
    }

    /// Every second: judges the last one.
    fn tick(&mut self) {
        let enough = self.answers >= DELAY_CALLS_MIN;
        self.is_long = enough && self.least.is_some_and(|least| least > DELAY_MICROS_MAX);
        (self.least, self.answers) = (None, 0);
    }
}

impl Calls {
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Whether there is a command that was not applied here yet.
    pub fn any_waits(&self) -> bool {
        self.open.len() > self.applied
    }

    /// Commands that were not applied here yet.
    pub fn waiting(&self) -> Vec<Key> {
        let keys = self.open.iter().filter(|(_, command)| !command.is_open);
        keys.map(|(key, _)| *key).collect()
    }

    /// A command was applied here, and its outputs follow.
    pub fn begun(&mut self, key: Key) -> Option<Reply> {
        let command = self.open.get_mut(&key)?;
        self.applied += usize::from(!std::mem::replace(&mut command.is_open, true));
        Some(command.reply)
    }

    /// The caller gets this output of a command that goes on, unless it has it already (false). One
    /// that comes before the command began here is none for it: others before it are missing, and
    /// all of them follow when it begins.
    pub fn deliver(&mut self, key: Key, sequence: u64) -> Option<(Reply, bool)> {
        let command = self.open.get_mut(&key)?;
        let is_next = command.is_open && sequence > command.delivered;
        if is_next {
            command.delivered = sequence;
        }
        Some((command.reply, is_next))
    }

    /// Whether outputs before this one, the command's last, are missing here.
    pub fn lacks(&self, key: Key, sequence: u64) -> bool {
        sequence > 1 && self.open.get(&key).is_some_and(|command| !command.is_open)
    }

    /// Entries were skipped: nothing has begun here any more.
    pub fn skipped(&mut self, now: u64) {
        self.applied = 0;
        for command in self.open.values_mut().filter(|command| command.is_open) {
            (command.is_open, command.since) = (false, now);
        }
    }

    /// The session with a node ended: it asks again for all that it wants. What would begin meanwhile
    /// would be told to nobody, and missing later.
    pub fn forget_peer(&mut self, node: u64, ctx: &mut Context) {
        self.take_if(|c| matches!(c.reply, Reply::Peer { node: peer, .. } if peer == node), ctx);
    }

    /// Those that were applied here and go on.
    pub fn take_open(&mut self, ctx: &mut Context) -> Vec<Command> {
        self.take_if(|command| command.is_open, ctx)
    }

    fn take_if(&mut self, takes: impl Fn(&mut Command) -> bool, ctx: &mut Context) -> Vec<Command> {
        let taken: Vec<_> = self.open.extract_if(.., |_, command| takes(command)).collect();
        let taken: Vec<_> = taken.into_iter().map(|(_, command)| command).collect();
        taken.iter().for_each(|command| self.release(command, ctx));
        taken
    }

    pub fn get_mut(&mut self, key: Key) -> Option<&mut Command> {
        self.open.get_mut(&key)
    }

    /// Whether one more command of this size may come; else nothing happened and the caller should
    /// wait a little. A group may hold as much as is still free: half of everything when no other
    /// group holds anything, and however many are stuck, the next finds room (Choudhury and Hahne,
    /// dynamic queue length thresholds, 1998).
    pub fn admit(&self, group: u32, bytes: usize, ctx: &Context) -> Result<(), CallError> {
        let Held { calls, bytes: held } = ctx.held;
        let refused = if self.delay.is_long && self.open.len() >= DELAY_CALLS_MIN {
            format!("commands of group {group} wait for over {} ms", DELAY_MICROS_MAX / 1_000)
        } else if calls + self.open.len() >= CALLS_MAX {
            format!("group {group} has {} of {calls} open calls of this node", self.open.len())
        } else if held + self.bytes + bytes > CALLS_BYTES_MAX {
            let [own, all] = [self.bytes, held].map(|bytes| bytes >> 20);
            format!("group {group} has {own} of {all} MiB of open calls of this node")
        } else {
            return Ok(());
        };
        Err(CallError::Overloaded(refused))
    }

    pub fn insert(&mut self, key: Key, command: Command, ctx: &mut Context) {
        ctx.held.calls += 1;
        ctx.held.bytes += cost(&command);
        self.bytes += cost(&command);
        if let Some(replaced) = self.open.insert(key, command) {
            self.release(&replaced, ctx);
        }
    }

    pub fn remove(&mut self, key: Key, ctx: &mut Context) -> Option<Command> {
        let command = self.open.remove(&key)?;
        self.release(&command, ctx);
        Some(command)
    }

    /// The command was answered for good, or its caller gave it up: either says how long the wait is.
    pub fn ended(&mut self, key: Key, ctx: &mut Context) -> Option<Command> {
        let command = self.remove(key, ctx)?;
        self.delay.answered(ctx.now.micros.saturating_sub(command.since));
        Some(command)
    }

    /// Every second: what came before this time is given up.
    pub fn tick(&mut self, before: u64, ctx: &mut Context) -> Vec<Command> {
        self.delay.tick();
        self.take_if(|command| !command.is_open && command.since <= before, ctx)
    }

    /// What was sent before this time, or never.
    pub fn sent_before(&self, time: u64) -> Vec<Key> {
        let waits = self.open.iter().filter(|(_, c)| !c.is_open && c.sent <= time);
        waits.map(|(key, _)| *key).collect()
    }

    pub fn drain(&mut self, ctx: &mut Context) -> Vec<Command> {
        let all: Vec<_> = std::mem::take(&mut self.open).into_values().collect();
        all.iter().for_each(|command| self.release(command, ctx));
        all
    }

    fn release(&mut self, command: &Command, ctx: &mut Context) {
        self.applied -= usize::from(command.is_open);
        self.bytes -= cost(command);
        ctx.held.calls -= 1;
        ctx.held.bytes -= cost(command);
    }
}

fn cost(command: &Command) -> usize {
    command.input.len() + CALL_OVERHEAD_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Reply;
    use crate::io::{Identity, NodeFacts, Now};
    use bytes::Bytes;

    fn context() -> Context {
        let identity = Identity {
            node_id: 1,
            incarnation: 1,
            boot: 1,
            host: "h".into(),
            peer_port: 1,
            client_address: "h:1".into(),
        };
        Context::new(identity, NodeFacts::default(), Now::default())
    }

    fn command(call: u64, bytes: usize) -> Command {
        Command {
            reply: Reply::Local { call },
            input: Bytes::from(vec![0; bytes]),
            cancel: None,
            since: 0,
            sent: 0,
            is_open: false,
            delivered: 0,
        }
    }

    /// Commands of this size until one is refused; how many there are.
    fn fill(calls: &mut Calls, bytes: usize, ctx: &mut Context) -> u64 {
        for number in 0.. {
            if calls.admit(1, bytes, ctx).is_err() {
                return number;
            }
            calls.insert((1, number), command(number, bytes), ctx);
        }
        unreachable!("a queue is bounded")
    }

    #[test]
    fn groups_that_are_stuck_leave_room_for_the_others() {
        for bytes in [0, 1 << 20] {
            let mut ctx = context();
            let mut stuck: Vec<_> = (0..4).map(|_| Calls::default()).collect();
            let held: Vec<_> = stuck.iter_mut().map(|c| fill(c, bytes, &mut ctx)).collect();
            assert!(held.windows(2).all(|h| h[0] > h[1] && h[1] > 1), "{held:?}");
            assert!(Calls::default().admit(9, bytes, &ctx).is_ok());
            stuck.iter_mut().for_each(|calls| drop(calls.drain(&mut ctx)));
            assert_eq!(ctx.held, Held::default());
        }
    }

    #[test]
    fn outputs_that_come_before_their_command_began_here_are_left_to_its_beginning() {
        let (mut ctx, mut calls, key) = (context(), Calls::default(), (1, 0));
        calls.insert(key, command(0, 0), &mut ctx);
        let deliver = |calls: &mut Calls, numbers: &[u64]| -> Vec<u64> {
            let is_next = |n: &&u64| calls.deliver(key, **n).is_some_and(|(_, is_next)| is_next);
            numbers.iter().filter(is_next).copied().collect()
        };
        assert_eq!(deliver(&mut calls, &[4]), [] as [u64; 0]);
        assert!(calls.lacks(key, 5) && !calls.lacks(key, 1));
        assert!(calls.begun(key).is_some());
        assert_eq!(deliver(&mut calls, &[3, 4, 5]), [3, 4, 5]);
        calls.skipped(9);
        assert_eq!((calls.waiting(), calls.any_waits()), (vec![key], true));
        assert_eq!(deliver(&mut calls, &[8]), [] as [u64; 0]);
        assert!(calls.begun(key).is_some());
        assert_eq!(deliver(&mut calls, &[4, 5, 6, 7, 8, 9]), [6, 7, 8, 9]);
    }

    #[test]
    fn a_queue_that_does_not_drain_is_long_and_one_slow_command_is_not() {
        let mut delay = Delay::default();
        for _ in 0..DELAY_CALLS_MIN {
            delay.answered(DELAY_MICROS_MAX + 1);
        }
        delay.tick();
        assert!(delay.is_long);
        for _ in 0..DELAY_CALLS_MIN {
            delay.answered(10 * DELAY_MICROS_MAX);
        }
        delay.answered(100);
        delay.tick();
        assert!(!delay.is_long, "a lock may be waited for");
        delay.tick();
        assert!(!delay.is_long, "nothing is known of an idle second");
    }
}
