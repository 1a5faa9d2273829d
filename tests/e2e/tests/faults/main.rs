//! Real node processes under real faults: of the network, the disk, the processor and memory.
//!
//! Every scenario runs clients whose history is checked, counts the faults that really happened,
//! and fails when they were too few. `FAULTS=long` runs each many times over. The program is the
//! one built beside these tests, or the one in the folder `MULTIRAFT_BIN`. Some faults need root,
//! strace or control groups: without them a test says `fault skipped`, which `scripts/test.sh`
//! counts.

mod clocks;
mod control_group;
mod crowd;
mod disks;
mod failed_writes;
mod isolation;
mod older_copies;
mod partitions;
mod pauses;
mod rejoining;
mod restarts;
mod scaling;
mod scarcity;
mod snapshots;
mod strace;
mod support;
mod volume;
mod writers;
