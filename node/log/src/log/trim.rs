//! Trimming: rounds that no group needs any more leave the disk.
//!
//! First what quiet groups still have in old rounds is written once more, as a round like any
//! other. Then one synced write moves the start of the log and deletes what is before it, and
//! whole files of the engine go at once. A crash between any two of these steps leaves a log
//! that says the same, with more or fewer old rounds.
//!
//! Quiet groups have little in old rounds, but all of these are read to find it: tens of MiB where
//! one group is busy. That takes as long as many syncs, and so do the files: both are done beside
//! the writer, which adds what came meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::gather::{Logs, Wanted, gather};
use super::{Log, Shared};
use crate::error::LogError;
use crate::failpoints;
use crate::ledger::Plan;
use crate::limits::{COPY_ROUND_BYTES, GROUP_COPY_BYTES_MAX, TRIM_BYTES_MIN};
use crate::meta;
use crate::points::Pin;
use crate::record;
use crate::round::{Entry, GroupRound, Round, Trimmed};
use crate::store::Batch;

/// A trim that has begun: what is to be copied out of old rounds. Nothing else trims the log before
/// it is ended.
pub struct Trimming {
    shared: Arc<Shared>,
    /// The log can start here then.
    first: u64,
    /// The last round when it began.
    last: u64,
    wanted: Wanted,
}

/// What [`Trimming::read`] found.
pub struct Copied {
    first: u64,
    last: u64,
    logs: Logs,
}

/// Files of rounds that are trimmed.
pub struct OldFiles {
    shared: Arc<Shared>,
    /// The log starts here.
    first: u64,
}

impl OldFiles {
    /// Deletes them, if any file has only such rounds; on any thread, and beside appends.
    ///
    /// # Errors
    /// The engine's, which takes nothing more then.
    pub fn delete(self) -> Result<(), LogError> {
        let Self { shared, first } = self;
        failpoints::pass(failpoints::TRIM_FILES)
            .and_then(|()| shared.store.release_before(first))
            .map_err(|source| LogError::Trim { first, source })
    }
}

impl Trimming {
    /// Reads the entries that are to be copied; on any thread, and beside appends.
    ///
    /// # Errors
    /// The disk's, or what it has is damaged. They are for [`Log::end_trim`].
    pub fn read(self) -> Result<Copied, LogError> {
        let Self { shared, first, last, wanted } = self;
        gather(&shared, wanted).map(|logs| Copied { first, last, logs })
    }
}

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
        let Some(trimming) = self.begin_trim(copy_bytes_max)? else {
            return Ok(Trimmed::default());
        };
        let (trimmed, old_files) = self.end_trim(trimming.read())?;
        self.poison_on_error(old_files.delete().map(|()| trimmed))
    }

    /// The same for who appends between its steps, of which this is the first; `None` when nothing
    /// can go.
    ///
    /// # Errors
    /// The index of the entries is wrong.
    pub fn begin_trim(&self, copy_bytes_max: usize) -> Result<Option<Trimming>, LogError> {
        let Some(Plan { first, copy, .. }) = self.plan() else { return Ok(None) };
        let range = |id: u32| {
            let group = &self.catalog.groups()[&id];
            (id, group.first.0, group.last_index + 1)
        };
        let ranges = affordable(&copy, copy_bytes_max as u64).into_iter().map(range).collect();
        let wanted = Wanted::find(&self.shared, ranges)?;
        Ok(Some(Trimming { shared: self.shared.clone(), first, last: self.last, wanted }))
    }

    /// # Errors
    /// Those of the reading are the log's, too: it is poisoned by all.
    pub fn end_trim(
        &mut self,
        copied: Result<Copied, LogError>,
    ) -> Result<(Trimmed, OldFiles), LogError> {
        self.check_sound()?;
        let trimmed = copied.and_then(|copied| self.end_trim_sound(copied));
        let old_files = OldFiles { shared: self.shared.clone(), first: self.first };
        self.poison_on_error(trimmed.map(|trimmed| (trimmed, old_files)))
    }

    fn end_trim_sound(&mut self, copied: Copied) -> Result<Trimmed, LogError> {
        let planned = copied.first;
        let copied_bytes = self.copy_forward(copied)?;
        let oldest = self.pins().iter().map(|pin| pin.round).min();
        let reach = oldest.map_or(planned, |oldest| oldest.min(planned));
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

    fn copy_forward(&mut self, copied: Copied) -> Result<u64, LogError> {
        let logs = self.brought_up_to_date(copied)?;
        let rounds = self.rounds_of(logs);
        let written = self.append_sound(&rounds)?;
        failpoints::pass(failpoints::TRIM_COPIED)
            .map_err(|source| LogError::Write { round: self.last + 1, source })?;
        Ok(written.bytes)
    }

    /// The whole logs of those groups that keep old rounds still, as they are now. Not of one whose
    /// entries were replaced since they were read: it is copied another time.
    fn brought_up_to_date(
        &self,
        Copied { first, last, mut logs }: Copied,
    ) -> Result<Logs, LogError> {
        let pins = self.pins().into_iter().map(|pin| (pin.group, pin));
        let pins: BTreeMap<u32, Pin> = pins.collect();
        logs.retain(|group, _| {
            pins.get(group).is_some_and(|pin| {
                pin.round < first && pin.replaced <= last && pin.bytes <= GROUP_COPY_BYTES_MAX
            })
        });
        let mut added = Vec::new();
        for (id, entries) in &mut logs {
            let group = &self.catalog.groups()[id];
            entries.retain(|entry| entry.index >= group.first.0);
            let next = entries.last().map_or(group.first.0, |entry| entry.index + 1);
            if next <= group.last_index {
                added.push((*id, next, group.last_index + 1));
            }
        }
        for (id, entries) in gather(&self.shared, Wanted::find(&self.shared, added)?)? {
            logs.entry(id).or_default().extend(entries);
        }
        Ok(logs)
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
