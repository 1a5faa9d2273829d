//! Snapshots of groups: when one is due, what becomes of it, and how one from a leader is taken in.
//!
//! A view of a machine is an O(1) clone, so taking one never stalls its group: the host encodes and
//! syncs it beside the loop and reports back, and only then is the log trimmed behind it.

use crate::context::Context;
use crate::io::{Input, SendSnapshot, TakeSnapshot};
use crate::limits::{
    RESTING_LOG_BYTES_MAX, SNAPSHOT_LOG_BYTES_ALL, SNAPSHOT_RETRY_MICROS, SNAPSHOTS_AT_ONCE,
};
use crate::replica::{Driven, Replica};
use crate::shard::{Shard, living};
use multiraft_group::{Installed, Member, SnapshotMark, SnapshotToSend};
use multiraft_machine::Machine;
use multiraft_proto::v1::event::Event;
use multiraft_proto::v1::{
    LogCompactedEvent, SendSnapshotAbortedEvent, SendSnapshotCompletedEvent,
    SendSnapshotStartedEvent, SnapshotCreatedEvent, SnapshotReceivedEvent, SnapshotRecoveredEvent,
};
use std::collections::BTreeSet;

/// What a replica knows of its snapshots.
#[derive(Debug, Default)]
pub(crate) struct Snapshots {
    /// Bytes of entries applied since the newest snapshot.
    pub log_bytes: u64,
    /// Bytes of the newest snapshot.
    pub bytes: u64,
    taking: Option<Taking>,
    /// The state that belongs to a snapshot message which raft was given just now.
    received: Option<Received>,
}

#[derive(Debug)]
struct Taking {
    mark: SnapshotMark,
    /// `log_bytes` when the view was taken.
    log_bytes: u64,
}

#[derive(Debug)]
struct Received {
    index: u64,
    bytes: u64,
    machine: Machine,
}

/// What the shard knows of all its replicas' snapshots.
#[derive(Debug, Default)]
pub(crate) struct SnapshotQueue {
    /// Groups whose log has grown enough.
    due: BTreeSet<u32>,
    taking: usize,
    /// None is taken before this time: one failed, for want of space most likely.
    retry_at: u64,
}

impl SnapshotQueue {
    pub fn want(&mut self, id: u32) {
        self.due.insert(id);
    }
}

impl Shard {
    /// Asks for snapshots of the groups that are due, a few at a time.
    pub(crate) fn take_snapshots(&mut self) {
        if self.ctx.now.micros < self.snapshots.retry_at {
            return;
        }
        while self.snapshots.taking < SNAPSHOTS_AT_ONCE {
            let Some(id) = self.snapshots.due.pop_first() else { return };
            let taken = self.replicas.get_mut(&id).and_then(|r| r.take_snapshot());
            if let Some(take) = taken {
                self.snapshots.taking += 1;
                self.ctx.out.take_snapshots.push(take);
            }
        }
    }

    pub(crate) fn snapshot_if_due(&mut self, id: u32) {
        let share = SNAPSHOT_LOG_BYTES_ALL / self.replicas.len().max(1) as u64;
        let least = self.snapshot_log_bytes.min(share);
        if self.replicas.get(&id).is_some_and(|r| r.wants_snapshot(least)) {
            self.snapshots.due.insert(id);
        }
    }

    /// The host wrote a snapshot that was asked for, or failed to.
    pub(crate) fn snapshot_taken(&mut self, id: u32, life: u64, bytes: Option<u64>) {
        self.snapshots.taking -= 1;
        if bytes.is_none() {
            self.snapshots.retry_at = self.ctx.now.micros + SNAPSHOT_RETRY_MICROS;
        }
        let Some(replica) = living(&mut self.replicas, id, life) else { return };
        match bytes {
            Some(bytes) => replica.snapshot_taken(bytes, &mut self.ctx),
            None => replica.snapshots.taking = None,
        }
        self.snapshot_if_due(id);
    }

    /// A snapshot of another node is durable here.
    pub(crate) fn snapshot_received(&mut self, input: Input) {
        let Input::SnapshotReceived { from, group, index, bytes, message, machine } = input else {
            return;
        };
        if self.ctx.refused.contains(&(from, group)) {
            return;
        }
        let Some(replica) = self.replicas.get_mut(&group).filter(|r| !r.is_closed()) else {
            return;
        };
        let event = SnapshotReceivedEvent { group_id: group, index, from };
        self.ctx.out.events.push((group, Event::SnapshotReceived(event)));
        replica.snapshots.received = Some(Received { index, bytes, machine: *machine });
        // What is no snapshot for this member changes nothing.
        let _ = replica.group.install(&message);
        self.mark(group);
    }

    pub(crate) fn snapshot_sent(&mut self, id: u32, member_id: u64, index: u64, arrived: bool) {
        let Some(replica) = self.replicas.get_mut(&id) else { return };
        replica.group.snapshot_sent(member_id, arrived);
        let to = replica.node_of(member_id).unwrap_or(0);
        let event = match arrived {
            true => {
                let event = SendSnapshotCompletedEvent { group_id: id, index, to };
                Event::SendSnapshotCompleted(event)
            }
            false => {
                Event::SendSnapshotAborted(SendSnapshotAbortedEvent { group_id: id, index, to })
            }
        };
        self.ctx.out.events.push((id, event));
        self.mark(id);
    }
}

impl Replica {
    /// The log is larger than the newest snapshot, so that what is written for snapshots is at
    /// most as much as what is written for entries; and it is worth the trouble.
    fn wants_snapshot(&self, least: u64) -> bool {
        let Snapshots { log_bytes, bytes, taking, .. } = &self.snapshots;
        let grown = *log_bytes >= least.max(*bytes) || self.group.is_snapshot_outdated();
        taking.is_none() && grown && !self.is_closed()
    }

    /// A group at rest keeps on disk what all others write after its last entry: it is snapshotted
    /// sooner when it has more than the log copies out of the way.
    pub fn pins_log(&self) -> bool {
        let Snapshots { log_bytes, bytes, taking, .. } = &self.snapshots;
        taking.is_none() && *log_bytes >= RESTING_LOG_BYTES_MAX.max(*bytes / 8)
    }

    fn take_snapshot(&mut self) -> Option<TakeSnapshot> {
        let index = self.group.applied_index();
        let newer = self.group.snapshot().is_none_or(|(newest, _)| newest < index);
        if self.snapshots.taking.is_some() || !newer {
            return None;
        }
        let term = self.group.term_of(index)?;
        let configuration = self.group.configuration().clone();
        let mark = SnapshotMark { index, term, configuration };
        self.snapshots.taking = Some(Taking { mark, log_bytes: self.snapshots.log_bytes });
        Some(TakeSnapshot {
            group: self.id,
            life: self.life,
            index,
            term,
            configuration: self.stored_configuration(),
            #[cfg(not(feature = "planted"))]
            machine: self.machine.clone(),
            #[cfg(feature = "planted")]
            machine: self.planted_machine(),
        })
    }

    fn snapshot_taken(&mut self, bytes: u64, ctx: &mut Context) {
        let Some(Taking { mark, log_bytes }) = self.snapshots.taking.take() else { return };
        // A newer one came from the leader meanwhile.
        if self.group.snapshot().is_some_and(|(newest, _)| newest >= mark.index) {
            return;
        }
        let event = SnapshotCreatedEvent { group_id: self.id, index: mark.index };
        ctx.out.events.push((self.id, Event::SnapshotCreated(event)));
        self.snapshots.log_bytes -= log_bytes;
        self.snapshots.bytes = bytes;
        let index = mark.index;
        let first = self.group.compact(mark);
        let part = ctx.record_group(self.id);
        (part.first, part.snapshot) = (Some(first), Some(index));
        let event = LogCompactedEvent { group_id: self.id, index: first.0 };
        ctx.durable_events.push((self.id, Event::LogCompacted(event)));
    }

    /// raft took a snapshot in: its state takes the machine's place.
    pub fn installed(&mut self, installed: Installed, driven: &mut Driven, ctx: &mut Context) {
        let Installed { mark, replaced } = installed;
        let received = self.snapshots.received.take();
        let Some(received) = received.filter(|r| r.index == mark.index) else {
            let broken = format!("group {}: snapshot {} has no state", self.id, mark.index);
            ctx.out.broken.get_or_insert(broken);
            return;
        };
        ctx.record_group(self.id).snapshot = Some(mark.index);
        self.machine = received.machine;
        self.snapshots = Snapshots { bytes: received.bytes, ..Default::default() };
        self.heard_of(&mark.configuration);
        driven.reconfigured = true;
        let gone = |m: &&Member| mark.configuration.member(m.member_id).is_none();
        let gone = replaced.members.iter().filter(gone).map(|m| m.node_id);
        driven.departed.extend(gone);
        let event = SnapshotRecoveredEvent { group_id: self.id, index: mark.index };
        ctx.out.events.push((self.id, Event::SnapshotRecovered(event)));
    }

    pub fn forget_received(&mut self) {
        self.snapshots.received = None;
    }

    pub fn send_snapshots(&mut self, snapshots: Vec<SnapshotToSend>, ctx: &mut Context) {
        for SnapshotToSend { to, index, term, message } in snapshots {
            let node = self.node_of(to).unwrap_or(0);
            let address = ctx.peers.get(&node).map(|p| p.address.clone());
            let Some(address) = address.filter(|a| !a.is_empty()) else {
                self.group.snapshot_sent(to, false);
                continue;
            };
            let event = SendSnapshotStartedEvent { group_id: self.id, index, to: node };
            ctx.out.events.push((self.id, Event::SendSnapshotStarted(event)));
            let send =
                SendSnapshot { group: self.id, node, address, member_id: to, index, term, message };
            ctx.out.send_snapshots.push(send);
        }
    }
}
