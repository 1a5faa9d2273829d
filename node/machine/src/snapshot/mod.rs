//! A machine as a sequence of chunks, and back.
//!
//! The records come in an order in which each leans on earlier ones only: primitives, the sessions
//! attached to them, the states of the primitives, what is remembered, the quotas. State that follows from other
//! state is not written: timers are armed again by those who hold them.

mod answer;
mod restore;
#[cfg(test)]
mod tests;

use std::iter::{self, Peekable};

use bytes::Bytes;
use multiraft_proto::log::snapshot_record::Record;
use multiraft_proto::log::{
    SnapshotAttached, SnapshotChunk, SnapshotEnd, SnapshotHeader, SnapshotPrimitive, SnapshotQuota,
    SnapshotRecord, SnapshotRemembered, SnapshotSession, SnapshotState,
};
use prost::Message;

use crate::limits::{SNAPSHOT_CHUNK_BYTES_MAX, SNAPSHOT_FORMAT, SNAPSHOT_NUMBERS_MAX};
use crate::machine::Machine;
use crate::session::Session;

pub use restore::{Restore, RestoreError};

impl Machine {
    /// Encodes the machine chunk by chunk: the caller that takes a view (a clone) and iterates in
    /// another thread leaves the group alone. Only the present chunk is in memory. A chunk has at
    /// most [`SNAPSHOT_CHUNK_BYTES_MAX`] bytes unless a single record is larger. Equal machines give
    /// equal bytes.
    ///
    /// The first chunk takes one pass over the whole state, for its digest.
    pub fn snapshot(&self) -> impl Iterator<Item = Bytes> + Send + '_ {
        Chunks { records: self.records().peekable(), number: 0 }
    }

    fn records(&self) -> impl Iterator<Item = Record> + Send + '_ {
        // Without `..`: a new field needs a decision. The first three and the timers' last id are in
        // the header; the timers and the names follow from the other parts.
        let Self {
            index: _,
            log_time: _,
            feature_level: _,
            timers: _,
            sessions,
            primitives,
            names: _,
            remembered,
            watches: _,
            quotas,
        } = self;
        let identities = primitives.iter().map(|(primitive_id, slot)| {
            Record::Primitive(SnapshotPrimitive {
                primitive_id: *primitive_id,
                service: slot.service.name().to_owned(),
                namespace: slot.namespace.to_string(),
                name: slot.name.to_string(),
            })
        });
        let sessions = sessions.iter().flat_map(|(id, session)| session_records(*id, session));
        let states = primitives.iter().flat_map(|(primitive_id, slot)| {
            let state = |record| SnapshotState { primitive_id: *primitive_id, record };
            slot.primitive().snapshot().map(move |record| Record::State(state(record)))
        });
        let remembered = remembered.iter().map(|(waiter, answer)| {
            let answer = Some(answer.into());
            let (origin, number) = (waiter.origin, waiter.number);
            Record::Remembered(SnapshotRemembered { origin, number, answer })
        });
        let quotas = quotas.iter().map(|(namespace, limits)| {
            Record::Quota(SnapshotQuota { quota: Some(limits.to_wire(namespace)) })
        });
        iter::once_with(|| Record::Header(self.header()))
            .chain(identities)
            .chain(sessions)
            .chain(states)
            .chain(remembered)
            .chain(quotas)
            .chain(iter::once(Record::End(SnapshotEnd {})))
    }

    fn header(&self) -> SnapshotHeader {
        SnapshotHeader {
            format: SNAPSHOT_FORMAT,
            feature_level: self.feature_level,
            digest: self.digest(),
            index: self.index,
            log_time: self.log_time,
            timer_id_max: self.timers.last_id(),
            primitives: self.primitives.len() as u64,
            sessions: self.sessions.len() as u64,
            commands: self.command_count(),
            timers: self.timers.armed_count() as u64,
            remembered: self.remembered.len() as u64,
            quotas: self.quotas.len() as u64,
        }
    }

    fn command_count(&self) -> u64 {
        self.sessions.values().map(|session| session.commands.len() as u64).sum()
    }
}

fn session_records(session_id: u64, session: &Session) -> impl Iterator<Item = Record> + Send + '_ {
    let Session { timeout_millis, expiry, attached, commands } = session;
    let itself = SnapshotSession {
        session_id,
        timeout_millis: *timeout_millis,
        expiry: Some((*expiry).into()),
        highest: commands.highest(),
        released_through: commands.released_through(),
    };
    let attached = pieces(attached.iter().copied())
        .map(move |primitive_ids| Record::Attached(SnapshotAttached { session_id, primitive_ids }));
    iter::once(Record::Session(itself)).chain(attached).chain(commands.records(session_id))
}

/// Cuts a long list of numbers, so that no record of them outgrows a chunk.
pub(crate) fn pieces(mut numbers: impl Iterator<Item = u64>) -> impl Iterator<Item = Vec<u64>> {
    iter::from_fn(move || {
        let piece: Vec<u64> = numbers.by_ref().take(SNAPSHOT_NUMBERS_MAX).collect();
        (!piece.is_empty()).then_some(piece)
    })
}

struct Chunks<R: Iterator<Item = Record>> {
    records: Peekable<R>,
    number: u64,
}

impl<R: Iterator<Item = Record>> Iterator for Chunks<R> {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        self.records.peek()?;
        let mut chunk = Vec::new();
        let first = Record::Chunk(SnapshotChunk { number: self.number });
        put(first, &mut chunk);
        self.number += 1;
        let begin = chunk.len();
        let fits = |record: &Record, length: usize| {
            let size = record_size(record);
            length == begin || length + size <= SNAPSHOT_CHUNK_BYTES_MAX
        };
        while let Some(record) = self.records.next_if(|record| fits(record, chunk.len())) {
            put(record, &mut chunk);
        }
        Some(chunk.into())
    }
}

/// Bytes of the record behind its length.
fn record_size(record: &Record) -> usize {
    let length = record.encoded_len();
    prost::length_delimiter_len(length) + length
}

fn put(record: Record, chunk: &mut Vec<u8>) {
    let record = SnapshotRecord { record: Some(record) };
    record.encode_length_delimited(chunk).expect("a vector grows as needed");
}
