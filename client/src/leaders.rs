//! Who leads the partitions, as far as nodes have told.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use multiraft_proto::v1;
use tokio::sync::Notify;
use tracing::debug;

/// What nodes said of themselves, and session streams told since.
#[derive(Debug, Default)]
pub struct Leaders {
    known: Mutex<Known>,
    /// Discovery is wanted before its time.
    pub wanted: Notify,
}

#[derive(Debug, Default)]
struct Known {
    partitions: HashMap<u32, Led>,
    /// Where the client asks a node, by its id.
    asked: HashMap<u64, String>,
    /// Ids of nodes, by the addresses that are told of them.
    told: HashMap<String, u64>,
}

/// The leader of a partition.
#[derive(Debug, Default)]
struct Led {
    /// Newest term that was told of: a node that is behind does not know better.
    term: u64,
    /// Id of the node; 0: not known.
    node: u64,
}

impl Leaders {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what the node that is asked at an address says of itself.
    pub fn learn(&self, asked: &str, said: &v1::GetInfoResponse) {
        let mut known = self.lock();
        // Behind an address can be another node by now.
        known.asked.retain(|_, address| address != asked);
        known.asked.insert(said.node_id, asked.to_owned());
        known.told.insert(asked.to_owned(), said.node_id);
        for peer in said.peers.iter().filter(|peer| !peer.client_address.is_empty()) {
            known.told.insert(peer.client_address.clone(), peer.node_id);
        }
        for group in said.groups.iter().filter(|group| group.leader != 0) {
            let led = known.partitions.entry(group.group_id).or_default();
            if group.term >= led.term {
                *led = Led { term: group.term, node: group.leader };
            }
        }
    }

    /// The node at an address does not answer: it is not asked for what it led.
    pub fn is_silent(&self, asked: &str) {
        self.lock().asked.retain(|_, address| address != asked);
    }

    /// Takes what a session stream told.
    pub fn hint(&self, hints: Vec<v1::StreamLeader>) {
        if hints.is_empty() {
            return;
        }
        let mut known = self.lock();
        for v1::StreamLeader { partition_id, address } in hints {
            debug!(partition = partition_id, address, "was told of a leader");
            let node = known.told.get(&address).copied().filter(|id| known.asked.contains_key(id));
            if node.is_none() && !address.is_empty() {
                self.wanted.notify_one();
            }
            known.partitions.entry(partition_id).or_default().node = node.unwrap_or(0);
        }
    }

    /// The leader did not do what leaders do: ask the others in turn.
    pub fn forget(&self, partition: u32) {
        self.lock().partitions.entry(partition).or_default().node = 0;
    }

    /// Where the leader of a partition is asked.
    pub fn of(&self, partition: u32) -> Option<String> {
        let known = self.lock();
        known.asked.get(&known.partitions.get(&partition)?.node).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint(partition_id: u32, address: &str) -> Vec<v1::StreamLeader> {
        vec![v1::StreamLeader { partition_id, address: address.into() }]
    }

    /// Node `id`, whose peers are told at `10.0.0.<id>:5678`, says who leads partition 7.
    fn said(id: u64, peers: &[u64], term: u64, leader: u64) -> v1::GetInfoResponse {
        let peers = peers.iter().map(|peer| v1::PeerState {
            node_id: *peer,
            client_address: format!("10.0.0.{peer}:5678"),
            ..Default::default()
        });
        let group = v1::GroupState { group_id: 7, term, leader, ..Default::default() };
        v1::GetInfoResponse {
            node_id: id,
            peers: peers.collect(),
            groups: vec![group],
            ..Default::default()
        }
    }

    #[test]
    fn a_hint_names_the_node_where_the_client_asks_it() {
        let leaders = Leaders::default();
        leaders.learn("localhost:1", &said(1, &[2], 3, 1));
        leaders.learn("localhost:2", &said(2, &[1], 3, 1));
        assert_eq!(leaders.of(7).as_deref(), Some("localhost:1"));
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

    #[test]
    fn the_newest_term_names_the_leader_whoever_speaks_last() {
        let leaders = Leaders::default();
        leaders.learn("localhost:2", &said(2, &[], 12, 2));
        leaders.learn("localhost:1", &said(1, &[], 11, 1));
        assert_eq!(leaders.of(7).as_deref(), Some("localhost:2"));
    }

    #[test]
    fn a_node_that_is_silent_or_another_one_now_leads_nothing() {
        let leaders = Leaders::default();
        leaders.learn("localhost:1", &said(1, &[], 3, 1));
        leaders.learn("localhost:1", &said(2, &[], 3, 1));
        assert_eq!(leaders.of(7), None, "node 1 is not there any more");
        leaders.learn("localhost:1", &said(1, &[], 3, 1));
        leaders.is_silent("localhost:1");
        assert_eq!(leaders.of(7), None);
    }
}
