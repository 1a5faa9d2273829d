//! What the nodes say of themselves and of each other, at one time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use multiraft_client::{Error, v1};

use crate::arguments::Reach;
use crate::report::Failure;

/// A node that works answers for itself at once.
const TIMEOUT_MAX: Duration = Duration::from_secs(5);

#[derive(Default)]
pub struct Survey {
    /// Of every node that answered, by node id.
    pub nodes: BTreeMap<u64, v1::GetInfoResponse>,
    /// The address at which each was reached.
    reached: BTreeMap<u64, String>,
    /// Nodes that others know and that did not answer, with the address that is known of them.
    pub silent: BTreeMap<u64, String>,
    /// Addresses that were given and did not answer.
    pub mute: BTreeSet<String>,
}

/// A group as the member with the highest term sees it.
pub struct Group<'a> {
    pub state: &'a v1::GroupState,
    /// The leader's own state, when it answered.
    pub leader: Option<&'a v1::GroupState>,
}

impl Survey {
    /// Asks the endpoints, and all nodes that they are connected to.
    pub async fn take(reach: &Reach) -> Result<Self, Failure> {
        let mut survey = Self::default();
        let mut asked = BTreeSet::new();
        let mut last = None;
        let mut wanted: BTreeSet<String> = reach.endpoints.iter().cloned().collect();
        while !wanted.is_empty() {
            let timeout = reach.timeout.min(TIMEOUT_MAX);
            let calls = wanted.iter().map(|endpoint| async move {
                (endpoint.clone(), reach.administration.info(endpoint, timeout).await)
            });
            for (endpoint, answer) in futures::future::join_all(calls).await {
                match answer {
                    Ok(answer) => {
                        survey.reached.insert(answer.node_id, endpoint);
                        survey.nodes.insert(answer.node_id, answer);
                    }
                    // What was mistyped is no node that is down.
                    Err(error @ Error::Invalid { .. }) => return Err(error.into()),
                    Err(error) => {
                        survey.mute.insert(endpoint);
                        last = Some(error);
                    }
                }
            }
            asked.append(&mut wanted);
            wanted = survey.unasked(&asked);
        }
        if let Some(error) = last.filter(|_| survey.nodes.is_empty()) {
            return Err(error.into());
        }
        survey.note_silent();
        Ok(survey)
    }

    fn peers(&self) -> impl Iterator<Item = &v1::PeerState> {
        self.nodes.values().flat_map(|node| &node.peers)
    }

    fn unasked(&self, asked: &BTreeSet<String>) -> BTreeSet<String> {
        let new = self.peers().filter(|p| p.connected && !self.nodes.contains_key(&p.node_id));
        let addresses = new.map(|peer| peer.client_address.clone());
        addresses.filter(|address| !address.is_empty() && !asked.contains(address)).collect()
    }

    fn note_silent(&mut self) {
        let mut silent = BTreeMap::new();
        for peer in self.peers().filter(|peer| !self.nodes.contains_key(&peer.node_id)) {
            let known: &mut String = silent.entry(peer.node_id).or_default();
            if known.is_empty() {
                known.clone_from(&peer.client_address);
            }
        }
        self.mute.retain(|address| !silent.values().any(|known: &String| known == address));
        self.silent = silent;
    }

    /// Client address of a node as it is announced, or the id.
    pub fn name(&self, node_id: u64) -> String {
        match self.nodes.get(&node_id).map(|node| &node.client_address) {
            Some(address) => address.clone(),
            None if node_id == 0 => "-".into(),
            None => match self.silent.get(&node_id) {
                Some(address) if !address.is_empty() => address.clone(),
                _ => hex(node_id),
            },
        }
    }

    /// The address at which a node answered.
    pub fn reached(&self, node_id: u64) -> Result<&str, Failure> {
        self.reached.get(&node_id).map(String::as_str).ok_or_else(|| {
            Failure::unavailable(format!(
                "node {} does not answer; start it, or pass its address with --endpoints",
                self.name(node_id)
            ))
        })
    }

    /// Addresses of the nodes that hold a group.
    pub fn holders(&self, group: u32) -> impl Iterator<Item = &str> {
        let holders = self.reached.iter().filter(move |(id, _)| self.on(**id, group).is_some());
        holders.map(|(_, address)| address.as_str())
    }

    /// Node id of what a user wrote: an id or its beginning, or an address.
    pub fn resolve(&self, text: &str) -> Result<u64, Failure> {
        let members = self.nodes.values().flat_map(|n| &n.groups).flat_map(|g| &g.members);
        let of_members = members.map(|m| (m.node_id, format!("{}:{}", m.host, m.port)));
        let announced = self.nodes.values().map(|n| (n.node_id, n.client_address.clone()));
        let reached = self.reached.iter().map(|(id, address)| (*id, address.clone()));
        let silent = self.silent.iter().map(|(id, address)| (*id, address.clone()));
        let known: Vec<(u64, String)> =
            of_members.chain(announced).chain(reached).chain(silent).collect();
        // With or without the zeros that an id is printed with.
        let lower = text.to_ascii_lowercase();
        let lower = lower.trim_start_matches('0');
        let is_meant = |(id, address): &&(u64, String)| {
            !text.is_empty() && address == text
                || !lower.is_empty() && format!("{id:x}").starts_with(lower)
        };
        let meant: BTreeSet<u64> = known.iter().filter(is_meant).map(|(id, _)| *id).collect();
        let all: BTreeSet<u64> = known.iter().map(|(id, _)| *id).collect();
        let list = |ids: &BTreeSet<u64>| {
            let ids = ids.iter().map(|id| format!("{} at {}", hex(*id), self.name(*id)));
            ids.collect::<Vec<_>>().join(", ")
        };
        match meant.len() {
            1 => Ok(meant.first().copied().unwrap_or_default()),
            0 => Err(Failure::usage(format!("no node {text:?}; there are {}", list(&all)))),
            _ => Err(Failure::usage(format!("{text:?} may be {}; write more of it", list(&meant)))),
        }
    }

    pub fn groups(&self) -> BTreeMap<u32, Group<'_>> {
        let mut groups: BTreeMap<u32, Group<'_>> = BTreeMap::new();
        for (node_id, state) in self.states() {
            let entry = groups.entry(state.group_id);
            let group = entry.or_insert(Group { state, leader: None });
            let order = |s: &v1::GroupState| (s.term, s.leader != 0, s.commit_index);
            if order(state) > order(group.state) {
                group.state = state;
            }
            let newer = group.leader.is_none_or(|leader| leader.term < state.term);
            if state.leader == node_id && newer {
                group.leader = Some(state);
            }
        }
        groups
    }

    /// Every group of every node.
    fn states(&self) -> impl Iterator<Item = (u64, &v1::GroupState)> {
        let nodes = self.nodes.values();
        nodes.flat_map(|node| node.groups.iter().map(|group| (node.node_id, group)))
    }

    pub fn group(&self, id: u32) -> Result<Group<'_>, Failure> {
        self.groups().remove(&id).ok_or_else(|| {
            Failure::rejected(format!(
                "group {id} is on none of the {} nodes that answered; see `multiraft group list`",
                self.nodes.len()
            ))
        })
    }

    /// What one node says of a group.
    pub fn on(&self, node_id: u64, group: u32) -> Option<&v1::GroupState> {
        self.nodes.get(&node_id)?.groups.iter().find(|state| state.group_id == group)
    }
}

impl Group<'_> {
    /// Entries that a member is behind the leader; `None` when that is not known.
    pub fn lag(&self, member_id: u64) -> Option<u64> {
        let leader = self.leader?;
        if leader.member_id == member_id {
            return Some(0);
        }
        let progress = leader.progress.iter().find(|p| p.member_id == member_id)?;
        (progress.matched_index > 0)
            .then(|| leader.last_index.saturating_sub(progress.matched_index))
    }

    /// The largest lag of a member.
    pub fn lag_max(&self) -> Option<u64> {
        let members = self.leader?.members.iter();
        members.filter_map(|member| self.lag(member.member_id)).max()
    }

    pub fn member(&self, node_id: u64) -> Option<&v1::MemberConfig> {
        self.state.members.iter().find(|member| member.node_id == node_id)
    }
}

/// As text: ids use all 64 bits, and most readers of JSON keep 53.
pub fn hex(id: u64) -> String {
    format!("{id:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn survey() -> Survey {
        let member = |node_id, member_id| v1::MemberConfig {
            node_id,
            member_id,
            host: "h".into(),
            port: node_id as i32,
            ..Default::default()
        };
        let state = |leader, term| v1::GroupState {
            group_id: 1,
            leader,
            term,
            member_id: 1,
            last_index: 50,
            members: vec![member(0xab1, 1), member(0xab2, 2), member(0xcd3, 3)],
            progress: vec![
                v1::MemberProgress { member_id: 2, matched_index: 47, active: true },
                v1::MemberProgress { member_id: 3, matched_index: 0, active: false },
            ],
            ..Default::default()
        };
        let node = |node_id, group| v1::GetInfoResponse {
            node_id,
            client_address: format!("n{node_id:x}:1"),
            groups: vec![group],
            peers: vec![v1::PeerState { node_id: 0xcd3, ..Default::default() }],
            ..Default::default()
        };
        let mut survey = Survey::default();
        survey.nodes.insert(0xab1, node(0xab1, state(0xab1, 7)));
        survey.nodes.insert(0xab2, node(0xab2, v1::GroupState { member_id: 2, ..state(0, 6) }));
        survey.note_silent();
        survey
    }

    #[test]
    fn a_node_is_found_by_the_beginning_of_its_id_and_by_its_addresses() {
        let survey = survey();
        assert_eq!(survey.resolve("nab2:1").ok(), Some(0xab2));
        assert_eq!(survey.resolve("h:3283").ok(), Some(0xcd3), "a peer address");
        assert_eq!(survey.resolve("0000000000000CD3").ok(), Some(0xcd3), "one that is gone");
        assert_eq!(survey.resolve("cd").ok(), Some(0xcd3));
        assert!(survey.resolve("0000000000000ab").is_err(), "two begin so");
        assert!(survey.resolve("nowhere").is_err());
        assert!(survey.resolve("").is_err());
    }

    #[test]
    fn the_leader_knows_how_far_behind_the_others_are() {
        let survey = survey();
        let group = survey.group(1).ok().expect("it is there");
        assert_eq!((group.state.term, group.lag(1), group.lag(2)), (7, Some(0), Some(3)));
        assert_eq!(group.lag(3), None, "it never answered");
        assert_eq!(group.lag_max(), Some(3));
        assert!(survey.group(2).is_err());
    }
}
