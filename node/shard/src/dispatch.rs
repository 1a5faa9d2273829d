//! The way of a call on its own node: admitted, sent to the leader, sent again.

use crate::call::{Command, Read, Reply};
use crate::context::Context;
use crate::frame::ItemKind;
use crate::limits::CALLS_MAX;
use crate::replica::Replica;
use crate::{CallError, Consistency, item};
use bytes::{Bytes, BytesMut};

impl Replica {
    pub fn command(
        &mut self,
        key: (u64, u64),
        reply: Reply,
        input: Bytes,
        cancel: Option<(u64, u64)>,
        ctx: &mut Context,
    ) {
        if let Err(e) = self.calls.admit(self.id, input.len(), ctx) {
            return ctx.answer(self.id, reply, Err(e));
        }
        let command = Command {
            reply,
            input,
            cancel,
            since: ctx.now.micros,
            sent: 0,
            is_open: false,
            delivered: 0,
        };
        self.calls.insert(key, command, ctx);
        self.dispatch(key, ctx);
    }

    pub fn query(&mut self, mut read: Read, consistency: Consistency, ctx: &mut Context) {
        match consistency {
            _ if self.reads.len() >= CALLS_MAX => {
                let e =
                    CallError::Overloaded(format!("group {} has {CALLS_MAX} open reads", self.id));
                ctx.answer(self.id, read.reply, Err(e));
            }
            Consistency::Linearizable => self.reads.push(read),
            Consistency::Local => {
                // Before it, the machine knows no such session.
                read.max_received_index = read.max_received_index.max(read.query.session_id);
                let Replica { id, reads, machine, watchers, .. } = self;
                reads.push_local(read, *id, machine, watchers, ctx);
            }
        }
    }

    /// The caller went away. A command that is in the log already may wait there (for a lock):
    /// it is cancelled, so that nothing is granted to nobody.
    pub fn abandon(
        &mut self,
        key: (u64, u64),
        cancel: Option<(u64, u64)>,
        keeps: bool,
        ctx: &mut Context,
    ) {
        let Some(command) = self.calls.ended(key, ctx) else {
            self.reads.abandon(key);
            return self.watchers.remove(key, &mut self.machine);
        };
        let Some((session_id, sequence_num)) = cancel.or(command.cancel) else { return };
        if keeps || command.sent == 0 {
            return;
        }
        let mut encoded = BytesMut::new();
        item::put_cancel(&mut encoded, key, (session_id, sequence_num));
        if self.group.is_leader() {
            self.forwarded(&encoded);
        } else {
            ctx.send(self.leader_node(), ItemKind::Forward, self.id, &encoded);
        }
    }

    /// Proposes a command here, or forwards it to the leader's node. Without either it stays and
    /// goes out when a leader is known.
    pub(crate) fn dispatch(&mut self, key: (u64, u64), ctx: &mut Context) {
        let leads = self.group.is_leader();
        let leader = self.leader_node();
        let Some(command) = self.calls.get_mut(key) else { return };
        if leads {
            command.sent = ctx.now.micros;
            if self.proposals.push_command(key.0, key.1, &command.input).is_err() {
                let reply = command.reply;
                self.calls.remove(key, ctx);
                let e = format!("group {} has too many bytes waiting", self.id);
                ctx.answer(self.id, reply, Err(CallError::Overloaded(e)));
            }
        } else if leader != 0 && ctx.is_up(leader) {
            command.sent = ctx.now.micros;
            let mut encoded = BytesMut::new();
            item::put_command(&mut encoded, key.0, key.1, &command.input);
            ctx.send(leader, ItemKind::Forward, self.id, &encoded);
            ctx.counters.forwarded += 1;
        }
    }

    /// Sends every open command again that may not be in the log: the leader changed, or the way to
    /// it broke. Replicas recognise what they applied already.
    pub fn dispatch_all(&mut self, ctx: &mut Context) {
        for key in self.calls.waiting() {
            self.dispatch(key, ctx);
        }
    }

    /// The machine went on by a snapshot: what was answered meanwhile is said again, and who watched
    /// the old machine is told so.
    pub fn dispatch_skipped(&mut self, ctx: &mut Context) {
        let reason = format!("group {} went on by a snapshot here: ask again", self.id);
        self.end_watches(&reason, ctx);
        self.calls.skipped(ctx.now.micros);
        self.dispatch_all(ctx);
    }

    /// Items that another node encoded.
    pub fn forwarded_by_peer(&mut self, items: Bytes) {
        if self.group.is_leader() && item::are_items(items.clone()) {
            self.forwarded(&items);
        }
    }

    /// Items of callers.
    fn forwarded(&mut self, items: &[u8]) {
        // Dropped when this member does not lead or is full: the origin sends them again.
        if self.group.is_leader() {
            let _ = self.proposals.push_encoded(items);
        }
    }
}
