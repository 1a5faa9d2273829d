//! What time does: to the pairs of nodes, to the groups that are awake, to what waits.

use crate::call::no_leader;
use crate::context::Context;
use crate::frame::ItemKind;
use crate::io::{LinkCommand, Now};
use crate::item;
use crate::limits::{
    ASK_MICROS, CACHE_BYTES_MAX, CACHE_BYTES_MIN, CALL_MICROS_MAX, CALL_RESEND_MICROS,
    LATE_TICK_MICROS, TICK_MICROS,
};
use crate::replica::Replica;
use crate::shard::Shard;

impl Shard {
    pub(crate) fn tick(&mut self) {
        let now = self.ctx.now.micros;
        let slept = now.saturating_sub(self.ticked) > LATE_TICK_MICROS;
        self.ticked = now;
        self.ticks += 1;
        self.tick_peers(slept);
        let seconds = self.ticks.is_multiple_of(1_000_000 / TICK_MICROS);
        self.ring_alarms();
        for id in self.awake.iter().copied().collect::<Vec<_>>() {
            let Some(replica) = self.replicas.get_mut(&id) else { continue };
            replica.tick(&mut self.ctx);
            if seconds {
                replica.slow_tick(&mut self.ctx);
            }
            self.release_removed(id);
            self.mark(id);
        }
        self.take_snapshots();
        self.drain_tick();
        if self.ticks.is_multiple_of(ASK_MICROS / TICK_MICROS) {
            self.ask_leaders();
        }
        if seconds {
            self.resend_proxied(None);
            self.shrink_caches();
            let due = self.memory.take_due(now);
            if !due.is_empty() {
                self.ctx.record().memory.extend(due);
            }
        }
    }

    /// Wakes the groups whose machines have something to do at this time.
    fn ring_alarms(&mut self) {
        let now = self.ctx.now.micros;
        while let Some(&(due, id)) = self.alarms.first()
            && due <= now
        {
            self.alarms.pop_first();
            if let Some(replica) = self.replicas.get_mut(&id) {
                replica.alarm = 0;
                replica.wake();
                self.awake.insert(id);
            }
        }
    }

    /// Keeps the lists of groups that cost something each tick.
    pub(crate) fn keep_awake(&mut self, id: u32) {
        let Some(replica) = self.replicas.get_mut(&id) else {
            self.awake.remove(&id);
            return;
        };
        if replica.wants_ticks() {
            self.awake.insert(id);
        } else if self.awake.remove(&id) {
            replica.group.shrink_cache(0);
            if replica.pins_log() {
                self.snapshots.want(id);
            }
            if let Some(due) = replica.next_timer(self.ctx.now).filter(|_| replica.rests()) {
                self.alarms.remove(&(replica.alarm, id));
                replica.alarm = due;
                self.alarms.insert((due, id));
            }
        }
    }

    fn tick_peers(&mut self, slept: bool) {
        let now = self.ctx.now.micros;
        let redial_again = self.ticks.is_multiple_of(10);
        let nodes: Vec<u64> = self.ctx.peers.keys().copied().collect();
        for node in nodes {
            let Some(peer) = self.ctx.peers.get_mut(&node) else { continue };
            if slept {
                peer.pair.forgive_silence(now.saturating_sub(2 * TICK_MICROS));
            }
            let died = peer.pair.check_silence(now);
            let is_unheard = peer.pair.is_unheard(now);
            if died || is_unheard && redial_again {
                self.ctx.out.links.push(LinkCommand::Redial { node });
            }
            if died {
                self.session_broke(node, true);
            }
            self.ctx.flush_to(node);
        }
    }

    /// Groups at rest have none.
    fn shrink_caches(&mut self) {
        let share = CACHE_BYTES_MAX / self.awake.len().max(1);
        for id in &self.awake {
            if let Some(replica) = self.replicas.get_mut(id) {
                replica.group.shrink_cache(share.max(CACHE_BYTES_MIN));
            }
        }
    }
}

impl Replica {
    pub fn tick(&mut self, ctx: &mut Context) {
        self.tick_group(ctx);
        self.tick_machine(ctx);
    }

    /// When the machine wants to be told the time, by the monotonic clock.
    pub fn next_timer(&self, now: Now) -> Option<u64> {
        let millis = self.machine.next_timer()?.saturating_sub(self.log_clock.millis(now));
        Some(now.micros.saturating_add(millis.saturating_mul(1_000)))
    }

    fn tick_machine(&mut self, ctx: &mut Context) {
        #[cfg(feature = "planted")]
        self.planted_tick(ctx);
        let now = self.log_clock.millis(ctx.now);
        let due = self.machine.next_timer().is_some_and(|due| due <= now);
        if due && self.group.is_leader() && self.tick_proposed <= self.machine.log_time() {
            self.tick_proposed = now.max(self.machine.log_time() + 1);
            self.proposals.push_tick();
        }
    }

    /// Every second: all members' nodes hear what this member's disk holds for certain, so that any
    /// of them notices when it holds less one day. (An acknowledgement goes to the leader alone,
    /// and a leader acknowledges to nobody.)
    fn tell_promise(&mut self, ctx: &mut Context) {
        let promised = self.group.promised();
        if promised == self.told {
            return;
        }
        self.told = promised;
        let members = self.group.configuration().members.iter();
        for node in members.map(|m| m.node_id).collect::<Vec<_>>() {
            self.tell_promise_to(node, ctx);
        }
    }

    /// One node hears it: it was away when the others did.
    pub fn tell_promise_to(&self, node: u64, ctx: &mut Context) {
        let (term, index) = self.group.promised();
        if term > 0 {
            let promise = item::Promise { member_id: self.group.member_id(), term, index };
            ctx.send(node, ItemKind::Promise, self.id, &promise.encode());
        }
    }

    /// Every second: what waits too long is sent again or given up.
    pub fn slow_tick(&mut self, ctx: &mut Context) {
        self.reads.tick(self.id, ctx);
        self.tell_promise(ctx);
        self.end_silent_streams(ctx);
        let now = ctx.now.micros;
        for command in self.calls.tick(now.saturating_sub(CALL_MICROS_MAX), ctx) {
            ctx.answer(self.id, command.reply, Err(no_leader(self.id)));
        }
        for key in self.calls.sent_before(now.saturating_sub(CALL_RESEND_MICROS)) {
            self.dispatch(key, ctx);
        }
    }
}
