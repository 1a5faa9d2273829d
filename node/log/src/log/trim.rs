//! Trimming: rounds that no group needs any more leave the disk.
//!
//! First what quiet groups still have in old rounds is written once more, as a round like any
//! other. Then one synced write moves the start of the log and deletes what is before it, and
//! whole files of the engine go at once. A crash between any two of these steps leaves a log
//! that says the same, with more or fewer old rounds.

use std::collections::BTreeSet;

use super::Log;
use crate::error::LogError;
use crate::failpoints;
use crate::ledger::Plan;
use crate::limits::{RECORD_BYTES_MAX, TRIM_BYTES_MIN};
use crate::meta;
use crate::points::Pin;
use crate::round::{GroupRound, Round, Trimmed};
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
        let bytes_max = bytes_max.min(RECORD_BYTES_MAX / 2) as u64;
        let (mut round, mut bytes) = (Round::default(), 0);
        for pin in pins {
            bytes += pin.bytes;
            if bytes > bytes_max && !round.groups.is_empty() {
                break;
            }
            round.groups.push(self.whole(pin.group)?);
        }
        // Deleting a group forgets its peers.
        let copied: BTreeSet<u32> = round.groups.iter().map(|part| part.group).collect();
        round.peers = self.catalog.peers();
        round.peers.retain(|peer| copied.contains(&peer.group));
        let written = self.append_sound(&[round])?;
        failpoints::pass(failpoints::TRIM_COPIED)
            .map_err(|source| LogError::Write { round: self.last + 1, source })?;
        Ok(written.bytes)
    }

    /// All that is stored of a group, as if it were made anew.
    fn whole(&self, id: u32) -> Result<GroupRound, LogError> {
        let group = self.catalog.groups().get(&id).expect("a group with entries is known");
        let (first, end) = (group.first, group.last_index + 1);
        Ok(GroupRound {
            group: id,
            state: Some(group.state),
            first: Some(first),
            config: group.config.clone(),
            entries: self.reader().read(id, first.0, end, usize::MAX)?,
            delete: true,
        })
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
