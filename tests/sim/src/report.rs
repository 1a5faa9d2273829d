//! What a run came to.

macro_rules! report {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counts of what really happened. Sums over runs are judged by their floors.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Report {
            /// A hash of everything that happened.
            pub trace: u64,
            $($(#[$doc])* pub $name: u64,)*
        }

        impl std::ops::AddAssign for Report {
            fn add_assign(&mut self, other: Report) {
                self.trace ^= other.trace;
                $(self.$name += other.$name;)*
            }
        }

        impl std::fmt::Display for Report {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                $(writeln!(f, "{:>12} {}", self.$name, stringify!($name).replace('_', " "))?;)*
                write!(f, "{:016x} trace", self.trace)
            }
        }
    };
}

report! {
    runs,
    ticks,
    events,
    elections,
    /// Directions cut, nodes isolated, halves split: each once.
    partitions,
    crashes,
    power_losses,
    pauses,
    slow_disks,
    clock_jumps,
    broken_connections,
    /// Crashes in the middle of a change of members.
    crashes_at_steps,
    /// Disks that went back to an older copy, that were emptied, that were lost.
    roll_backs,
    wiped_disks,
    lost_disks,
    /// Members that joined and became voters, or left.
    membership_changes,
    snapshots,
    transfers,
    /// Transfers that were cut, damaged, or came twice.
    transfers_hurt,
    increments,
    puts,
    reads,
    /// Commands whose outcome no client learned.
    unknown,
    /// Answers to a command that had been answered before.
    repeated_answers,
    lost_sessions,
    /// Machines that were looked at.
    machines_compared,
}
