//! Timers in log time. They fire in the order of their due times, equal ones in the order in which
//! they were armed, on every replica alike.

use std::collections::BTreeSet;

use imbl::OrdMap;
use multiraft_proto::log;

use crate::digest::Digest;

/// Names one armed timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timer {
    /// Absolute log time in milliseconds.
    pub due: u64,
    /// Counts up with every armed timer of the machine.
    pub id: u64,
}

/// Who is told when a timer fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    Session(u64),
    Primitive(u64),
}

#[derive(Clone, Debug, Default)]
pub struct Timers {
    armed: OrdMap<Timer, Owner>,
    last_id: u64,
}

impl Timers {
    pub fn armed_count(&self) -> usize {
        self.armed.len()
    }

    pub fn last_id(&self) -> u64 {
        self.last_id
    }

    pub fn arm(&mut self, due: u64, owner: Owner) -> Timer {
        self.last_id += 1;
        let timer = Timer { due, id: self.last_id };
        self.armed.insert(timer, owner);
        timer
    }

    /// Does nothing when the timer has fired already.
    pub fn disarm(&mut self, timer: Timer) {
        self.armed.remove(&timer);
    }

    /// Those of an owner that is gone: nobody would be told. Looks at all timers.
    pub fn disarm_all(&mut self, owner: Owner) {
        let own = self.armed.iter().filter(|(_, one)| **one == owner);
        let own: Vec<Timer> = own.map(|(timer, _)| *timer).collect();
        own.into_iter().for_each(|timer| self.disarm(timer));
    }

    pub fn next_due(&self) -> Option<u64> {
        self.armed.get_min().map(|(timer, _)| timer.due)
    }

    /// Takes the first timer that is due at `time` or before.
    pub fn take_due(&mut self, time: u64) -> Option<(Timer, Owner)> {
        let (timer, owner) = *self.armed.get_min()?;
        if timer.due > time {
            return None;
        }
        self.armed.remove(&timer);
        Some((timer, owner))
    }

    pub fn digest(&self, digest: &mut Digest) {
        let Self { armed, last_id } = self;
        digest.word(*last_id);
        digest.number(armed.len());
        for (timer, owner) in armed.iter() {
            digest.timer(*timer);
            let (kind, id) = match *owner {
                Owner::Session(id) => (1, id),
                Owner::Primitive(id) => (2, id),
            };
            digest.word(kind);
            digest.word(id);
        }
    }
}

/// Timers that their owners arm again, from a snapshot.
#[derive(Debug, Default)]
pub struct RestoredTimers {
    timers: Timers,
    ids: BTreeSet<u64>,
    log_time: u64,
}

impl RestoredTimers {
    pub fn new(last_id: u64, log_time: u64) -> Self {
        Self { timers: Timers { last_id, ..Timers::default() }, ids: BTreeSet::new(), log_time }
    }

    pub fn arm(&mut self, timer: Timer, owner: Owner) -> Result<(), String> {
        let Timer { due, id } = timer;
        if due < self.log_time {
            // Firing it would turn log time back.
            return Err(format!("timer {id} was due at {due}, it is {} now", self.log_time));
        }
        if id == 0 || id > self.timers.last_id {
            return Err(format!("timer {id} was never given out, {} was", self.timers.last_id));
        }
        if !self.ids.insert(id) {
            return Err(format!("timer {id} is armed twice"));
        }
        self.timers.armed.insert(timer, owner);
        Ok(())
    }

    pub fn finish(self) -> Timers {
        self.timers
    }
}

impl From<Timer> for log::SnapshotTimer {
    fn from(Timer { due, id }: Timer) -> Self {
        Self { due, id }
    }
}

impl From<log::SnapshotTimer> for Timer {
    fn from(log::SnapshotTimer { due, id }: log::SnapshotTimer) -> Self {
        Self { due, id }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::each_field_changes_the_digest;

    #[test]
    fn each_field_of_the_timers_is_in_the_digest() {
        let mut timers = Timers::default();
        let timer = timers.arm(5, Owner::Session(1));
        let others = [
            (Timer { due: 6, ..timer }, Owner::Session(1)),
            (Timer { id: 7, ..timer }, Owner::Session(1)),
            (timer, Owner::Session(2)),
            (timer, Owner::Primitive(1)),
        ];
        for other in others {
            each_field_changes_the_digest!(timers.clone(), Timers::digest, Timers {
                armed => *armed = OrdMap::from_iter([other]),
                last_id => *last_id += 1,
            });
        }
    }
}
