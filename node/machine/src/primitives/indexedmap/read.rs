//! Queries of an indexed map.

use std::ops::Bound::{Excluded, Included, Unbounded};

use bytes::Bytes;
use multiraft_proto::atomix::multiraft::indexedmap::v1 as wire;

use super::{Entry, IndexedMap};
use crate::primitives::checks::check_key;
use crate::primitives::selection::{at_most, check_watch};
use crate::primitives::{Failure, Records, Status, encode};

impl IndexedMap {
    pub fn get(&self, wire::GetInput { key, index }: wire::GetInput) -> Result<Bytes, Failure> {
        check_key("key", &key)?;
        let found = match index {
            0 => self.indexes.get(&*key).and_then(|index| self.entries.get_key_value(index)),
            index => self.entries.get_key_value(&index),
        };
        Ok(encode(&wire::GetOutput { entry: entry(found)? }))
    }

    pub fn size(&self, _: wire::SizeInput) -> Result<Bytes, Failure> {
        let size = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
        Ok(encode(&wire::SizeOutput { size }))
    }

    pub fn first_entry(&self, _: wire::FirstEntryInput) -> Result<Bytes, Failure> {
        let found = self.entries.iter().next();
        Ok(encode(&wire::FirstEntryOutput { entry: entry(found)? }))
    }

    pub fn last_entry(&self, _: wire::LastEntryInput) -> Result<Bytes, Failure> {
        let found = self.entries.iter().next_back();
        Ok(encode(&wire::LastEntryOutput { entry: entry(found)? }))
    }

    pub fn prev_entry(&self, input: wire::PrevEntryInput) -> Result<Bytes, Failure> {
        let found = self.entries.range(..input.index).next_back();
        Ok(encode(&wire::PrevEntryOutput { entry: entry(found)? }))
    }

    pub fn next_entry(&self, input: wire::NextEntryInput) -> Result<Bytes, Failure> {
        let found = self.entries.range((Excluded(input.index), Unbounded)).next();
        Ok(encode(&wire::NextEntryOutput { entry: entry(found)? }))
    }

    pub fn entries(&self, input: wire::EntriesInput) -> Result<Records<'_>, Failure> {
        let wire::EntriesInput { watch, start, end, after, limit } = input;
        check_watch(watch, after > 0 || limit > 0)?;
        let first = if after > 0 && after >= start { Excluded(after) } else { Included(start) };
        let found = self.entries.range((first, Unbounded));
        let found = found.take_while(move |(index, _)| end == 0 || **index < end);
        Ok(Box::new(
            found
                .take(at_most(limit))
                .map(|(index, entry)| encode(&wire::EntriesOutput { entry: entry.at(*index) })),
        ))
    }
}

fn entry(found: Option<(&u64, &Entry)>) -> Result<Option<wire::Entry>, Failure> {
    let (index, entry) = found.ok_or_else(missing)?;
    Ok(entry.at(*index))
}

pub fn missing() -> Failure {
    Failure::new(Status::NotFound, "there is no such entry")
}
