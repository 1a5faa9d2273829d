//! Who leads the partitions, as far as nodes have told.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use multiraft_proto::v1;
use tokio::sync::Notify;
use tracing::debug;

/// What discovery learned, and session streams told since.
#[derive(Debug, Default)]
pub struct Leaders {
    known: Mutex<Known>,
    /// Discovery is wanted before its time.
    pub wanted: Notify,
}

#[derive(Debug, Default)]
struct Known {
    /// Address at which the client asks the node that leads a partition.
    leaders: HashMap<u32, String>,
    /// The same, by the address that nodes tell of a node.
    addresses: HashMap<String, String>,
}

impl Leaders {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what discovery found.
    pub fn set(&self, leaders: HashMap<u32, String>, addresses: HashMap<String, String>) {
        *self.lock() = Known { leaders, addresses };
    }

    /// Takes what a session stream told.
    pub fn hint(&self, hints: Vec<v1::StreamLeader>) {
        if hints.is_empty() {
            return;
        }
        let mut known = self.lock();
        for v1::StreamLeader { partition_id, address } in hints {
            debug!(partition = partition_id, address, "was told of a leader");
            if let Some(asked) = known.addresses.get(&address).cloned() {
                known.leaders.insert(partition_id, asked);
                continue;
            }
            known.leaders.remove(&partition_id);
            if !address.is_empty() {
                self.wanted.notify_one();
            }
        }
    }

    /// The leader did not do what leaders do: ask the others in turn.
    pub fn forget(&self, partition: u32) {
        self.lock().leaders.remove(&partition);
    }

    /// Where the leader of a partition is asked.
    pub fn of(&self, partition: u32) -> Option<String> {
        self.lock().leaders.get(&partition).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint(partition_id: u32, address: &str) -> Vec<v1::StreamLeader> {
        vec![v1::StreamLeader { partition_id, address: address.into() }]
    }

    #[test]
    fn a_hint_names_the_node_where_the_client_asks_it() {
        let leaders = Leaders::default();
        let addresses = [("10.0.0.1:5678", "localhost:1"), ("10.0.0.2:5678", "localhost:2")];
        let addresses = addresses.map(|(told, asked)| (told.to_owned(), asked.to_owned()));
        leaders.set([(7, "localhost:1".to_owned())].into(), addresses.into());
        leaders.hint(hint(7, "10.0.0.2:5678"));
        assert_eq!(leaders.of(7).as_deref(), Some("localhost:2"));
        leaders.hint(hint(7, ""));
        assert_eq!(leaders.of(7), None, "none is known");
    }

    #[tokio::test]
    async fn a_hint_of_an_unknown_node_makes_discovery_look_for_it() {
        let leaders = Leaders::default();
        leaders.hint(hint(7, "10.0.0.3:5678"));
        assert_eq!(leaders.of(7), None);
        leaders.wanted.notified().await;
    }
}
