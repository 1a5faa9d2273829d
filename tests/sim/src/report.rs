//! What a run came to.

use crate::uses::Primitive;

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
    stalled_connections,
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
    /// Events that subscribers were told.
    stream_outputs,
    /// Subscriptions that went on at another node.
    streams_resumed,
    /// Events that came again and were dropped.
    outputs_repeated,
    locks_granted,
    waits_abandoned,
    /// Commands of primitives with models that had an effect, and all that were refused.
    counter_maps,
    elections_of_clients,
    indexed_maps,
    maps,
    multi_maps,
    sets,
    values,
    uses_refused,
    /// Queries of them.
    uses_read,
    /// Queries that went on with changes, and the changes that they were told.
    watches,
    watch_changes,
    /// Those that a node ended, and those that began again at another node.
    watches_ended,
    watches_resumed,
    /// Machines that were looked at.
    machines_compared,
}

/// What must really have happened in 1,000 runs of 2,000 ticks, or they show too little.
type Floor = (&'static str, u64, fn(&Report) -> u64);

const FLOORS: [Floor; 21] = [
    ("partitions", 1_000, |r| r.partitions),
    ("crashes", 2_000, |r| r.crashes),
    ("power losses", 1_000, |r| r.power_losses),
    ("pauses", 500, |r| r.pauses),
    ("transfers hurt", 200, |r| r.transfers_hurt),
    ("membership changes", 300, |r| r.membership_changes),
    ("crashes at steps", 300, |r| r.crashes_at_steps),
    ("disks set back or lost", 100, |r| r.roll_backs + r.wiped_disks + r.lost_disks),
    ("stream outputs", 50_000, |r| r.stream_outputs),
    ("streams resumed", 3_000, |r| r.streams_resumed),
    ("outputs repeated", 20_000, |r| r.outputs_repeated),
    ("locks granted", 10_000, |r| r.locks_granted),
    ("waits abandoned", 1_500, |r| r.waits_abandoned),
    ("stalled connections", 1_000, |r| r.stalled_connections),
    ("commands of the rarest primitive", 3_000, Report::rarest_use),
    ("commands refused", 15_000, |r| r.uses_refused),
    ("queries of primitives", 15_000, |r| r.uses_read),
    ("watches", 6_000, |r| r.watches),
    ("watch changes", 6_000, |r| r.watch_changes),
    ("watches ended", 2_000, |r| r.watches_ended),
    ("watches resumed", 2_500, |r| r.watches_resumed),
];

impl Report {
    /// A command of a primitive with a model was answered.
    pub(crate) fn used(&mut self, primitive: Primitive, was_done: bool) {
        let count = match (was_done, primitive) {
            (false, _) => &mut self.uses_refused,
            (true, Primitive::CounterMap) => &mut self.counter_maps,
            (true, Primitive::Election) => &mut self.elections_of_clients,
            (true, Primitive::IndexedMap) => &mut self.indexed_maps,
            (true, Primitive::Map) => &mut self.maps,
            (true, Primitive::MultiMap) => &mut self.multi_maps,
            (true, Primitive::Set) => &mut self.sets,
            (true, Primitive::Value) => &mut self.values,
        };
        *count += 1;
    }

    fn rarest_use(&self) -> u64 {
        let Report { counter_maps, elections_of_clients, indexed_maps, maps, .. } = *self;
        let Report { multi_maps, sets, values, .. } = *self;
        let [a, b, c, d] = [counter_maps, elections_of_clients, indexed_maps, maps];
        a.min(b).min(c).min(d).min(multi_maps).min(sets).min(values)
    }

    /// What happened less often than runs of so many ticks must see them; a few short runs may
    /// see anything.
    pub fn missed_floors(&self) -> Vec<String> {
        if self.ticks < 1_000_000 {
            return Vec::new();
        }
        let missed = FLOORS.iter().filter_map(|(name, floor, count)| {
            let (floor, count) = (floor * self.ticks / 2_000_000, count(self));
            (count < floor).then(|| format!("{name}: {count} of {floor}"))
        });
        missed.collect()
    }
}
