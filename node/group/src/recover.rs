//! The way out when a majority of voters is lost for good: the survivor goes on alone with its log.

use crate::storage::LogStorage;
use crate::{Configuration, Group, Member, Role, conf_state};

impl Group {
    /// Whether this member's log and state are all on its disk.
    pub fn is_durable(&self) -> bool {
        self.outstanding.is_empty() && self.installing.is_none() && self.fetching.is_none()
    }

    /// (term, index) of the last entry.
    pub fn last_entry(&self) -> (u64, u64) {
        let last = self.last_index();
        (self.term_of(last).unwrap_or(0), last)
    }

    /// Makes this member the only voter of its group, whatever the log still says of others: changes
    /// up to its last entry do not count. To be called when the member [`Group::is_durable`], and to
    /// be recorded before anything else happens. Entries that only lost members had are lost.
    pub fn recover(&mut self, recovery: u64) {
        let (member_id, last_index) = (self.member_id, self.last_index());
        let own = self.configuration.member(member_id).cloned();
        let own = own.into_iter().map(|m| Member { role: Role::Voter, ..m });
        let configuration = Configuration {
            version: last_index.max(self.configuration.version),
            members: own.collect(),
            recovery,
            ..self.configuration.clone()
        };
        let empty = LogStorage::new(Default::default(), Default::default(), (1, 0), 0, Vec::new());
        let mut store = std::mem::replace(self.node.mut_store(), empty);
        store.conf_state = conf_state(&configuration);
        let (applied, timing, reluctance) = (self.applied, self.timing, self.reluctance);
        *self = Group::over(store, member_id, configuration, applied, timing);
        self.reluctance = reluctance;
    }
}
