//! Trimming: rounds that no group needs any more leave the disk.
//!
//! First what quiet groups still have in old rounds is written once more, as a round like any
//! other. Then one synced write moves the start of the log and deletes what is before it, and
//! whole files of the engine go at once. A crash between any two of these steps leaves a log
//! that says the same, with more or fewer old rounds.

use std::collections::BTreeMap;

use super::Log;
use super::gather::{Logs, gather};
use crate::error::LogError;
use crate::failpoints;
use crate::ledger::Plan;
use crate::limits::{COPY_ROUND_BYTES, TRIM_BYTES_MIN};
use crate::meta;
use crate::points::Pin;
use crate::record;
use crate::round::{Entry, GroupRound, Round, Trimmed};
use crate::store::Batch;

impl Log {
    /// True when trimming now is worth it: at least `TRIM_BYTES_MIN` would go. Looks at every
    /// group, so it is to be asked now and then, not with every append.
    pub fn trimmable(&self) -> bool {
        self.plan().is_some_and(|plan| plan.bytes >= TRIM_BYTES_MIN)
    }

    /// The group whose entries are in the oldest rounds: trimming its log lets most go.
    pub fn oldest_group(&self) -> Option<u32> {
        self.pins().into_iter().min_by_key(|pin| pin.round).map(|pin| pin.group)
    }

    /// Deletes the old rounds that no group needs any more, durably. Entries of quiet groups are
    /// copied out of them: at most `copy_bytes_max` bytes, or one group. If more is to be copied
    /// than that, fewer rounds go, and the next call goes on.
    pub fn trim(&mut self, copy_bytes_max: usize) -> Result<Trimmed, LogError> {
        self.check_sound()?;
        let trimmed = self.trim_sound(copy_bytes_max);
        self.poison_on_error(trimmed)
    }

    fn trim_sound(&mut self, copy_bytes_max: usize) -> Result<Trimmed, LogError> {
        let Some(plan) = self.plan() else { return Ok(Trimmed::default()) };
        let copied_bytes = self.copy_forward(&plan.copy, copy_bytes_max)?;
        let oldest = self.pins().iter().map(|pin| pin.round).min();
        let reach = oldest.map_or(plan.first, |oldest| oldest.min(plan.first));
        let first = self.ledger.cut_at(reach).unwrap_or(self.first);
        let rounds = first - self.first;
        if rounds > 0 {
            self.start_at(first)?;
        }
        Ok(Trimmed { rounds, copied_bytes })
    }

    fn plan(&self) -> Option<Plan> {
        self.ledger.plan(self.pins())
    }

    fn pins(&self) -> Vec<Pin> {
        self.shared.points.lock().expect("no code panics with this lock held").pins()
    }

    fn copy_forward(&mut self, pins: &[Pin], bytes_max: usize) -> Result<u64, LogError> {
        let groups = affordable(pins, bytes_max as u64);
        let range = |id: &u32| {
            let group = &self.catalog.groups()[id];
            (*id, group.first.0, group.last_index + 1)
        };
        let ranges: Vec<_> = groups.iter().map(range).collect();
        let rounds = self.rounds_of(gather(&self.shared, &ranges)?);
        let written = self.append_sound(&rounds)?;
        failpoints::pass(failpoints::TRIM_COPIED)
            .map_err(|source| LogError::Write { round: self.last + 1, source })?;
        Ok(written.bytes)
    }

    /// Rounds that make these groups anew, each so small that reading one group is cheap.
    fn rounds_of(&self, logs: Logs) -> Vec<Round> {
        let mut rounds: Vec<Round> = Vec::new();
        let (mut places, mut bytes) = (BTreeMap::new(), COPY_ROUND_BYTES);
        for (id, entries) in logs {
            if bytes >= COPY_ROUND_BYTES {
                rounds.push(Round::default());
                bytes = 0;
            }
            bytes += entries.iter().map(record::entry_bytes).sum::<usize>();
            let place = rounds.len() - 1;
            rounds[place].groups.push(self.whole(id, entries));
            places.insert(id, place);
        }
        // Deleting a group forgets its peers.
        for peer in self.catalog.peers() {
            if let Some(place) = places.get(&peer.group) {
                rounds[*place].peers.push(peer);
            }
        }
        rounds
    }

    /// All that is stored of a group, as if it were made anew.
    fn whole(&self, id: u32, entries: Vec<Entry>) -> GroupRound {
        let group = &self.catalog.groups()[&id];
        GroupRound {
            group: id,
            state: Some(group.state),
            first: Some(group.first),
            config: group.config.clone(),
            entries,
            delete: true,
        }
    }

    fn start_at(&mut self, first: u64) -> Result<(), LogError> {
        // Before the rounds go, so that a reader who misses one knows why.
        self.shared.points.lock().expect("no code panics with this lock held").trim(first);
        let store = &self.shared.store;
        let mut batch = Batch::default();
        meta::stage(store, &mut batch, meta::FIRST_ROUND, &first.to_le_bytes());
        store.delete_before(&mut batch, first);
        failpoints::pass(failpoints::TRIM_WRITE)
            .and_then(|()| store.write(batch))
            .and_then(|()| failpoints::pass(failpoints::TRIM_FILES))
            .and_then(|()| store.release_before(first))
            .map_err(|source| LogError::Trim { first, source })?;
        self.ledger.trim(first);
        self.first = first;
        Ok(())
    }
}

/// The groups that reach furthest back: as many as fit, but at least one.
fn affordable(pins: &[Pin], bytes_max: u64) -> Vec<u32> {
    let mut bytes = 0;
    let mut groups = Vec::new();
    for pin in pins {
        bytes += pin.bytes;
        if bytes > bytes_max && !groups.is_empty() {
            break;
        }
        groups.push(pin.group);
    }
    groups
}
