//! What this node serves from what it applies: queries that go on with later changes, and commands that
//! wait or stream.

use crate::CallError;
use crate::call::{Read, Reply};
use crate::calls::Key;
use crate::context::Context;
use crate::io::List;
use crate::limits::STREAM_CONTACT_MICROS;
use crate::replica::Replica;
use multiraft_machine::{Machine, Waiter};
use std::collections::BTreeMap;

/// Callers that the machine tells of changes, by (origin, number) of their calls.
#[derive(Debug, Default)]
pub(crate) struct Watchers {
    replies: BTreeMap<Key, Reply>,
    /// Since when this node has heard of no leader.
    out_of_touch: Option<u64>,
}

impl Watchers {
    pub fn is_empty(&self) -> bool {
        self.replies.is_empty()
    }

    pub fn get(&self, key: Key) -> Option<Reply> {
        self.replies.get(&key).copied()
    }

    /// Answers a query that streams from a view of the machine as it is now; whoever wants to hear of
    /// later changes does from here on.
    pub fn begin(&mut self, read: Read, id: u32, machine: &mut Machine, ctx: &mut Context) {
        let Read { key, reply, query, .. } = read;
        let refused = machine.list(&query).err();
        let began = refused.map_or_else(|| machine.watch(&query, waiter(key)), Err);
        match began {
            Err(answer) => ctx.answer(id, reply, Ok(answer)),
            Ok(goes_on) => {
                if goes_on {
                    self.replies.insert(key, reply);
                }
                ctx.list(id, reply, List { machine: machine.clone(), query, goes_on });
            }
        }
    }

    /// The caller went away, or was told the last.
    pub fn remove(&mut self, key: Key, machine: &mut Machine) {
        if self.replies.remove(&key).is_some() {
            machine.unwatch(waiter(key));
        }
    }

    pub fn in_touch(&mut self) {
        self.out_of_touch = None;
    }

    fn take_if(&mut self, takes: impl Fn(&Reply) -> bool, machine: &mut Machine) -> Vec<Reply> {
        let taken: Vec<_> = self.replies.extract_if(.., |_, reply| takes(reply)).collect();
        taken.iter().for_each(|(key, _)| machine.unwatch(waiter(*key)));
        taken.into_iter().map(|(_, reply)| reply).collect()
    }
}

impl Replica {
    /// The session with a node ended: whoever it asked for is told by it.
    pub fn forget_calls_of(&mut self, node: u64, ctx: &mut Context) {
        let is_of =
            |reply: &Reply| matches!(reply, Reply::Peer { node: peer, .. } if *peer == node);
        self.watchers.take_if(is_of, &mut self.machine);
        self.calls.forget_peer(node, ctx);
        self.reads.forget_peer(node);
    }

    pub fn end_watches(&mut self, reason: &str, ctx: &mut Context) {
        for reply in self.watchers.take_if(|_| true, &mut self.machine) {
            ctx.answer(self.id, reply, Err(CallError::Unavailable(reason.to_owned())));
        }
    }

    /// Every second: streams of a node that has heard of no leader for some time end. They would stand
    /// still without a word; their callers go on at another node, from where they are.
    pub fn end_silent_streams(&mut self, ctx: &mut Context) {
        let leader = self.leader_node();
        if leader == ctx.node_id() || ctx.is_up(leader) {
            return self.watchers.in_touch();
        }
        let since = *self.watchers.out_of_touch.get_or_insert(ctx.now.micros);
        if ctx.now.micros < since + STREAM_CONTACT_MICROS {
            return;
        }
        let reason = format!("group {} has no leader here: open the stream again", self.id);
        self.end_watches(&reason, ctx);
        for command in self.calls.take_open(ctx) {
            ctx.answer(self.id, command.reply, Err(CallError::Unavailable(reason.clone())));
        }
    }
}

fn waiter((origin, number): Key) -> Waiter {
    Waiter { origin, number }
}
