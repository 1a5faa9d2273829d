//! Defects put in on purpose, for the simulation to find: one that finds none proves nothing.
//! Built with feature `planted` only, which no shipped program enables.

use crate::calls::Calls;
use crate::context::Context;
use crate::io::Remembered;
use crate::memory::Memory;
use crate::recovery::Recovery;
use crate::replica::Replica;
use crate::shard::Shard;
use multiraft_group::{Entry, EntryKind};
use multiraft_machine::Machine;

pub use multiraft_group::planted::Defect as GroupDefect;

/// What a shard does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    Group(GroupDefect),
    /// Sessions end by the wall clock of each node, not by log time.
    ExpiresByLocalClock,
    /// Followers whose clocks are with a leader's session sleep on when it ends.
    SleepsOn,
    /// A snapshot lacks the newest entry of those that it claims to contain.
    SnapshotsOlderState,
    /// When the leader changes, streams lose their next output.
    StreamsSkipOutputs,
    /// A member that went back behind what it acknowledged is not refused.
    IgnoresMemory,
    /// A member that lost its disk is not refused.
    AdmitsWiped,
}

impl Shard {
    /// From now on this shard has the defect; to be called before any group is here.
    pub fn plant(&mut self, defect: Defect) {
        self.planted = Some(defect);
        self.memory.planted = Some(defect);
    }
}

impl Replica {
    pub(crate) fn plant(&mut self, defect: Option<Defect>) {
        self.planted = defect;
        if let Some(Defect::Group(defect)) = defect {
            self.group.plant(Some(defect));
        }
    }

    /// Before an entry is applied.
    pub(crate) fn planted_view(&mut self) {
        if self.planted == Some(Defect::SnapshotsOlderState) {
            self.planted_older = Some(self.machine.clone());
        }
    }

    /// The view that a snapshot is made of.
    pub(crate) fn planted_machine(&self) -> Machine {
        self.planted_older.clone().unwrap_or_else(|| self.machine.clone())
    }

    /// Whether the end of a session means nothing to the group.
    pub(crate) fn planted_sleeps(&self) -> bool {
        self.planted == Some(Defect::SleepsOn)
    }

    /// The leader changed.
    pub(crate) fn planted_skip(&mut self) {
        if self.planted == Some(Defect::StreamsSkipOutputs) {
            self.calls.planted_skip();
        }
    }

    pub(crate) fn planted_tick(&mut self, ctx: &Context) {
        if self.planted == Some(Defect::ExpiresByLocalClock) {
            self.machine.expire_by(ctx.now.unix_millis, &mut Vec::new());
        }
    }
}

impl Calls {
    /// What goes on has been delivered up to one output more than it has.
    fn planted_skip(&mut self) {
        self.open.values_mut().for_each(|command| command.delivered += u64::from(command.is_open));
    }
}

impl Memory {
    /// Whether a member that went back is taken for a sound one.
    pub(crate) fn planted_admits(&self, known: &Remembered, stated: &Remembered) -> bool {
        match self.planted {
            Some(Defect::IgnoresMemory) => true,
            Some(Defect::AdmitsWiped) => known.incarnation != stated.incarnation,
            _ => false,
        }
    }
}

impl Recovery {
    /// Applies an entry that was applied just now once more.
    ///
    /// # Errors
    /// As for [`Recovery::entry`].
    pub fn entry_again(&mut self, entry: &Entry) -> Result<(), multiraft_machine::EntryError> {
        if entry.kind == EntryKind::Normal && entry.index == self.stored.applied {
            self.stored.machine.apply(entry.term, &entry.data, &mut Vec::new())?;
        }
        Ok(())
    }
}
