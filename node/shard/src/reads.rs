//! Linearizable reads: one read-index round per group is in flight at a time, and every query that
//! arrived meanwhile shares the next one. Then the local machine answers once it has applied up to
//! the confirmed index.

use crate::call::{Read, Reply, no_leader};
use crate::calls::Key;
use crate::context::Context;
use crate::limits::{CALL_MICROS_MAX, READ_RETRY_MICROS};
use multiraft_group::{Group, ReadState};
use multiraft_machine::Machine;
use std::collections::BTreeMap;

use crate::watchers::Watchers;

#[derive(Debug, Default)]
pub(crate) struct Reads {
    waiting: Vec<Read>,
    in_flight: Option<(u64, Vec<Read>, u64)>,
    /// (raft index to have applied, queries), ascending.
    confirmed: Vec<(u64, Vec<Read>)>,
    /// Local queries by the machine index that they wait for.
    parked: BTreeMap<u64, Vec<Read>>,
    ticket: u64,
}

impl Reads {
    pub fn push(&mut self, read: Read) {
        self.waiting.push(read);
    }

    /// A local query: at once, or when the machine reaches the index that its session has seen.
    pub fn push_local(
        &mut self,
        read: Read,
        group: u32,
        machine: &mut Machine,
        watchers: &mut Watchers,
        ctx: &mut Context,
    ) {
        if machine.index() >= read.max_received_index {
            answer(read, group, machine, watchers, ctx);
        } else {
            self.parked.entry(read.max_received_index).or_default().push(read);
        }
    }

    pub fn len(&self) -> usize {
        let in_flight = self.in_flight.as_ref().map_or(0, |(_, reads, _)| reads.len());
        let confirmed: usize = self.confirmed.iter().map(|(_, r)| r.len()).sum();
        let parked: usize = self.parked.values().map(Vec::len).sum();
        self.waiting.len() + in_flight + confirmed + parked
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn wants_round(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Starts a round when none is in flight.
    pub fn start(&mut self, group: &mut Group, ctx: &mut Context) {
        if self.waiting.is_empty() || self.in_flight.is_some() {
            return;
        }
        let ticket = self.ticket + 1;
        let mut context = ctx.origin.to_be_bytes().to_vec();
        context.extend(ticket.to_be_bytes());
        if group.read_index(context) {
            self.ticket = ticket;
            ctx.counters.read_rounds += 1;
            let reads = std::mem::take(&mut self.waiting);
            self.in_flight = Some((ticket, reads, ctx.now.micros));
        }
    }

    /// raft confirmed a round.
    pub fn confirm(&mut self, read: &ReadState, ctx: &Context) {
        let Some((origin, ticket)) = read.context.split_at_checked(8) else { return };
        if origin != ctx.origin.to_be_bytes() {
            return;
        }
        let current = self.in_flight.take_if(|(t, _, _)| t.to_be_bytes() == *ticket);
        if let Some((_, reads, _)) = current {
            self.confirmed.push((read.index, reads));
        }
    }

    /// Answers what the applied state allows.
    pub fn release(
        &mut self,
        (id, applied): (u32, u64),
        machine: &mut Machine,
        watchers: &mut Watchers,
        ctx: &mut Context,
    ) {
        while self.confirmed.first().is_some_and(|(index, _)| *index <= applied) {
            let (_, reads) = self.confirmed.remove(0);
            ctx.counters.reads += reads.len() as u64;
            for read in reads {
                answer(read, id, machine, watchers, ctx);
            }
        }
        while let Some(first) = self.parked.first_entry()
            && *first.key() <= machine.index()
        {
            for read in first.remove() {
                answer(read, id, machine, watchers, ctx);
            }
        }
    }

    /// Asks again for a round that got lost; gives up on what waited too long.
    pub fn tick(&mut self, id: u32, ctx: &mut Context) {
        let now = ctx.now.micros;
        if let Some((_, reads, _)) =
            self.in_flight.take_if(|(_, _, since)| now >= *since + READ_RETRY_MICROS)
        {
            self.waiting.extend(reads);
        }
        let late = |read: &mut Read| now >= read.since + CALL_MICROS_MAX;
        let mut given_up: Vec<Read> = self.waiting.extract_if(.., late).collect();
        for reads in self.parked.values_mut() {
            given_up.extend(reads.extract_if(.., late));
        }
        self.parked.retain(|_, reads| !reads.is_empty());
        // Also of rounds with an index that never comes: those behind them wait for it.
        for (_, reads) in &mut self.confirmed {
            given_up.extend(reads.extract_if(.., late));
        }
        self.confirmed.retain(|(_, reads)| !reads.is_empty());
        for read in given_up {
            ctx.answer(id, read.reply, Err(no_leader(id)));
        }
    }

    /// The caller went away.
    pub fn abandon(&mut self, key: Key) {
        self.retain(|read| read.key != key);
    }

    /// The session with a node ended: it asks again, and is not to be told twice.
    pub fn forget_peer(&mut self, node: u64) {
        self.retain(|read| !matches!(read.reply, Reply::Peer { node: peer, .. } if peer == node));
    }

    fn retain(&mut self, stays: impl Fn(&Read) -> bool) {
        self.waiting.retain(&stays);
        if let Some((_, reads, _)) = &mut self.in_flight {
            reads.retain(&stays);
        }
        self.confirmed.iter_mut().for_each(|(_, reads)| reads.retain(&stays));
        self.parked.values_mut().for_each(|reads| reads.retain(&stays));
        self.confirmed.retain(|(_, reads)| !reads.is_empty());
        self.parked.retain(|_, reads| !reads.is_empty());
    }

    /// Everything that waits, when the group goes away.
    pub fn drain(&mut self) -> Vec<Read> {
        let mut all = std::mem::take(&mut self.waiting);
        all.extend(self.in_flight.take().into_iter().flat_map(|(_, reads, _)| reads));
        all.extend(std::mem::take(&mut self.confirmed).into_iter().flat_map(|(_, reads)| reads));
        all.extend(std::mem::take(&mut self.parked).into_values().flatten());
        all
    }
}

fn answer(read: Read, id: u32, machine: &mut Machine, watchers: &mut Watchers, ctx: &mut Context) {
    match read.streams {
        true => watchers.begin(read, id, machine, ctx),
        false => ctx.answer(id, read.reply, Ok(machine.query(&read.query))),
    }
}
