//! Defects put in on purpose, for the simulation to find: one that finds none proves nothing.
//! Built with feature `planted` only, which no shipped program enables.

use crate::answer::Effect;
use crate::commands::Commands;
use crate::machine::Machine;

impl Machine {
    /// What a snapshot without sessions would bring back.
    pub fn forget_sessions(&mut self) {
        self.sessions.clear();
    }

    /// What a snapshot without the executed commands would bring back.
    pub fn forget_commands(&mut self) {
        let ids: Vec<u64> = self.sessions.keys().copied().collect();
        for id in ids {
            if let Some(session) = self.sessions.get_mut(&id) {
                session.commands = Commands::default();
            }
        }
    }

    /// Ends what is over by the clock of this node alone.
    pub fn expire_by(&mut self, unix_millis: u64, effects: &mut Vec<Effect>) {
        while let Some((timer, owner)) = self.timers.take_due(unix_millis) {
            self.fire(timer, owner, effects);
        }
    }

    /// What a snapshot brings back that has the field wrong which the digest misses.
    pub fn skew_log_time(&mut self) {
        self.log_time += 1;
    }

    /// A digest that misses a field.
    pub fn digest_without_log_time(&self) -> u64 {
        let mut other = self.clone();
        other.log_time = 0;
        other.digest()
    }
}
