//! Machines of one group are the same at the same index, and sessions end when their time is over.

use std::collections::{BTreeMap, BTreeSet};

use multiraft_machine::{Digest, Machine};
use multiraft_shard::Shard;

use crate::planted::Defect;

#[derive(Debug)]
pub struct Machines {
    planted: Option<Defect>,
    /// (group, applied index) → (digest, sum of all bytes).
    at: BTreeMap<(u32, u64), (u64, u64)>,
    /// (group, digest) → sum of all bytes.
    by_digest: BTreeMap<(u32, u64), u64>,
    /// (group, session) → applied index at which it was last seen, and when it would expire.
    sessions: BTreeMap<(u32, u64), (u64, u64)>,
    /// (group, session) → applied index at which it was gone.
    ended: BTreeMap<(u32, u64), u64>,
    looked_at: u64,
}

impl Machines {
    pub fn new(planted: Option<Defect>) -> Self {
        let (at, by_digest, sessions, ended, looked_at) = Default::default();
        Machines { planted, at, by_digest, sessions, ended, looked_at }
    }

    pub fn looked_at(&self) -> u64 {
        self.looked_at
    }

    pub fn check(&mut self, shard: &Shard, group: u32) {
        let Some((applied, machine)) = shard.machine(group) else { return };
        self.looked_at += 1;
        let digest = self.planted.map_or_else(|| machine.digest(), |p| p.digest(&machine));
        let seen = (digest, sum(&machine));
        // Other bytes have another digest: nodes compare digests, and one that misses a field hides
        // a replica that has it wrong.
        let first = *self.by_digest.entry((group, digest)).or_insert(seen.1);
        assert_eq!(first, seen.1, "[digest] group {group}: {digest:016x} stands for two machines");
        let first = *self.at.entry((group, applied)).or_insert(seen);
        assert_eq!(first, seen, "[equal machines] of group {group} at {applied}");
        self.sessions(group, applied, &machine);
    }

    /// A session ends when log time has passed its expiry, and not before; and it stays ended.
    fn sessions(&mut self, group: u32, applied: u64, machine: &Machine) {
        let now = machine.log_time();
        let mut present = BTreeSet::new();
        for session in machine.sessions() {
            let key = (group, session.session_id);
            present.insert(key);
            assert!(
                session.expires_at > now,
                "[session] {key:?} lives at log time {now}, and expired at {}",
                session.expires_at
            );
            let gone = self.ended.get(&key).copied();
            assert!(
                gone.is_none_or(|gone| applied < gone),
                "[session] {key:?} lives at {applied}, and was gone at {gone:?}"
            );
            let known = self.sessions.entry(key).or_default();
            *known = (*known).max((applied, session.expires_at));
        }
        let known = self.sessions.range((group, 0)..(group + 1, 0));
        let gone = known.filter(|(key, (seen, _))| *seen < applied && !present.contains(*key));
        let gone: Vec<_> = gone.map(|(key, known)| (*key, *known)).collect();
        for (key, (_, expires_at)) in gone {
            assert!(
                expires_at <= now,
                "[session] {key:?} is gone at log time {now}, and was to expire at {expires_at}"
            );
            self.sessions.remove(&key);
            let earliest = self.ended.entry(key).or_insert(applied);
            *earliest = (*earliest).min(applied);
        }
    }
}

/// All that a snapshot of the machine would hold.
fn sum(machine: &Machine) -> u64 {
    let mut sum = Digest::new();
    machine.snapshot().for_each(|chunk| sum.bytes(&chunk));
    sum.finish()
}
