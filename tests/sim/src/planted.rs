//! Defects put in on purpose: a simulation that does not find them proves nothing.
//!
//! Some sit in the production crates, behind their feature `planted`; some are lies of the
//! simulated world, where that comes to the same: a disk that forgets, a host that reports too soon.

use multiraft_machine::Machine;
use multiraft_shard::Shard;
use serde::{Deserialize, Serialize};

macro_rules! defects {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A defect, named in scripts as it is here.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub enum Defect {
            $($(#[$doc])* $name,)*
        }

        impl Defect {
            pub const ALL: &[Defect] = &[$(Defect::$name,)*];
        }
    };
}

defects! {
    /// A record is called durable as soon as it is handed to the disk.
    AcknowledgesBeforePersist,
    /// The disk keeps terms but no votes.
    ForgetsVotes,
    /// A leader commits what a quorum holds, also entries of earlier terms alone (Raft §5.4.2).
    CommitsOlderTerms,
    /// Linearizable reads are answered from any node's own state.
    SkipsReadIndex,
    /// A leader answers reads without asking whether it still leads.
    ReadsByLease,
    /// A snapshot lacks the executed commands of its sessions.
    ForgetsCommandsInSnapshot,
    /// Sessions end by each node's own clock.
    ExpiresByLocalClock,
    /// After a restart the last entry before the crash is applied once more.
    AppliesTwiceAfterRestart,
    /// A snapshot lacks all sessions.
    SnapshotsWithoutSessions,
    /// After a restart the log ends where the recorded commit index, which lags, says.
    TruncatesCommitted,
    /// Learners count for the quorum and vote.
    CountsLearners,
    /// A membership change is proposed while another is under way.
    ChangesAtOnce,
    /// A member that lost its disk and was formed anew is heard by its peers.
    AdmitsWiped,
    /// The peers' memory of what a member acknowledged is ignored.
    IgnoresMemory,
    /// The digest of a machine leaves out a field that snapshots have wrong.
    DigestLacksField,
    /// A repeated command comes under a new number.
    RenumbersRepeated,
    /// Followers of a leader that rests, or rested, do not campaign when its node dies.
    SleepsOn,
    /// A snapshot lacks the newest entry of those that it claims to contain.
    SnapshotsOlderState,
    /// When the leader changes, streams lose their next output.
    StreamsSkipOutputs,
}

impl Defect {
    /// Reads what its `Debug` wrote.
    pub fn named(name: &str) -> Option<Defect> {
        Self::ALL.iter().copied().find(|defect| format!("{defect:?}") == name)
    }

    /// Brings the defect into a shard that holds no group yet.
    #[cfg(feature = "planted")]
    pub(crate) fn plant(self, shard: &mut Shard) {
        use multiraft_shard::planted::{Defect as InShard, GroupDefect};
        let defect = match self {
            Defect::CommitsOlderTerms => InShard::Group(GroupDefect::CommitsOlderTerms),
            Defect::ReadsByLease => InShard::Group(GroupDefect::ReadsByLease),
            Defect::CountsLearners => InShard::Group(GroupDefect::CountsLearners),
            Defect::ChangesAtOnce => InShard::Group(GroupDefect::ChangesAtOnce),
            Defect::ExpiresByLocalClock => InShard::ExpiresByLocalClock,
            Defect::AdmitsWiped => InShard::AdmitsWiped,
            Defect::IgnoresMemory => InShard::IgnoresMemory,
            Defect::SleepsOn => InShard::SleepsOn,
            Defect::SnapshotsOlderState => InShard::SnapshotsOlderState,
            Defect::StreamsSkipOutputs => InShard::StreamsSkipOutputs,
            _ => return,
        };
        shard.plant(defect);
    }

    /// What is read back from a snapshot's file.
    #[cfg(feature = "planted")]
    pub(crate) fn spoil(self, machine: &mut Machine) {
        match self {
            Defect::SnapshotsWithoutSessions => machine.forget_sessions(),
            Defect::ForgetsCommandsInSnapshot => machine.forget_commands(),
            Defect::DigestLacksField => machine.skew_log_time(),
            _ => {}
        }
    }

    #[cfg(feature = "planted")]
    pub(crate) fn digest(self, machine: &Machine) -> u64 {
        match self {
            Defect::DigestLacksField => machine.digest_without_log_time(),
            _ => machine.digest(),
        }
    }

    #[cfg(not(feature = "planted"))]
    pub(crate) fn plant(self, _: &mut Shard) {
        panic!("{self:?} needs feature `planted`");
    }

    #[cfg(not(feature = "planted"))]
    pub(crate) fn spoil(self, _: &mut Machine) {
        panic!("{self:?} needs feature `planted`");
    }

    #[cfg(not(feature = "planted"))]
    pub(crate) fn digest(self, _: &Machine) -> u64 {
        panic!("{self:?} needs feature `planted`");
    }
}
