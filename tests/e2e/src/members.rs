//! Changes of membership, each repeated until it is done, as whoever operates a cluster does it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use multiraft_client::{Error, v1};

use crate::nodes::Nodes;

/// A change is answered within the node's own ten seconds, or repeated.
const CALL_TIMEOUT: Duration = Duration::from_secs(12);
/// What does not come true within this time on a busy machine never will.
const PATIENCE: Duration = Duration::from_secs(90);
const PAUSE: Duration = Duration::from_millis(50);

impl Nodes {
    /// Removes a member of a group, also one that leads: then of its successor.
    pub async fn remove(&self, group_id: u32, member_id: u64) {
        let request = v1::RemoveMemberRequest { group_id, member_id, ..Default::default() };
        let path = "/atomix.multiraft.v1.Node/RemoveMember";
        let _: v1::RemoveMemberResponse = self.at_leader(group_id, path, &request).await;
    }

    /// Makes a learner a voter, as soon as it has caught up.
    pub async fn promote(&self, group_id: u32, member_id: u64) {
        let request = v1::PromoteMemberRequest { group_id, member_id, ..Default::default() };
        let path = "/atomix.multiraft.v1.Node/PromoteMember";
        let _: v1::PromoteMemberResponse = self.at_leader(group_id, path, &request).await;
    }

    /// A node joins a group; its new member id, one that the group never used.
    pub async fn join(&self, position: usize, group_id: u32, auto_promote: bool) -> u64 {
        let node = &self.nodes[position];
        let info = node.info().await;
        let state = self.state(group_id).await;
        let member_id = state.member_id_max + 1;
        let (host, port) = info.peer_address.rsplit_once(':').expect("host:port");
        let own = v1::MemberConfig {
            node_id: info.node_id,
            member_id,
            host: host.into(),
            port: port.parse().expect("a port"),
            ..Default::default()
        };
        let members = state.members.into_iter().chain([own]).collect();
        let config = v1::GroupConfig { group_id, members, ..Default::default() };
        let auto_promote = Some(auto_promote);
        let request = v1::JoinRequest { group: Some(config), auto_promote, ..Default::default() };
        let path = "/atomix.multiraft.v1.Node/Join";
        let _: v1::JoinResponse = repeat(path, async || {
            node.administration().call(&node.address(), path, &request, CALL_TIMEOUT).await
        })
        .await;
        member_id
    }

    /// A group as its leader sees it.
    pub async fn state(&self, group_id: u32) -> v1::GroupState {
        let leader = self.leader(group_id).await;
        let groups = self.nodes[leader].info().await.groups;
        let state = groups.into_iter().find(|state| state.group_id == group_id);
        state.expect("who leads a group has a member of it")
    }

    /// Waits until every group has so many voters and no other members, on nodes that run, and none
    /// is more than `lag` entries behind another; how long that took.
    pub async fn until_replicated(&self, groups: u32, voters: usize, lag: u64) -> Duration {
        let started = Instant::now();
        loop {
            let found = self.found().await;
            let all_fit = found.values().all(|states| is_replicated(states, voters, lag));
            if found.len() == groups as usize && all_fit {
                return started.elapsed();
            }
            assert!(started.elapsed() < PATIENCE, "not {voters} equal members each: {found:#?}");
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// The members of each group as the nodes that hold them see it, of nodes that run.
    async fn found(&self) -> BTreeMap<u32, Vec<v1::GroupState>> {
        let mut found = BTreeMap::<_, Vec<_>>::new();
        for node in self.nodes.iter().filter(|node| node.runs()) {
            let info =
                node.administration().info(&node.address(), CALL_TIMEOUT).await.unwrap_or_default();
            for state in info.groups {
                found.entry(state.group_id).or_default().push(state);
            }
        }
        found
    }

    async fn at_leader<Q, R>(&self, group: u32, path: &'static str, request: &Q) -> R
    where
        Q: prost::Message + Clone + 'static,
        R: prost::Message + Default + 'static,
    {
        repeat(path, async || {
            let leader = &self.nodes[self.leader(group).await];
            leader.administration().call(&leader.address(), path, request, CALL_TIMEOUT).await
        })
        .await
    }
}

fn is_replicated(states: &[v1::GroupState], voters: usize, lag: u64) -> bool {
    let (leader, newest) = (states[0].leader, states.iter().map(|s| s.applied_index).max());
    let fits = |s: &v1::GroupState| {
        let all_vote = s.members.iter().all(|m| m.role() == v1::MemberRole::Member);
        let is_open = s.phase() != v1::GroupPhase::RolledBack;
        let behind = newest.unwrap_or(0) - s.applied_index;
        // The count of commands tells what was applied, where the index tells how far.
        let same = behind > 0 || s.index == states[0].index || lag > 0;
        let is_led = leader != 0 && s.leader == leader;
        all_vote && s.members.len() == voters && is_open && is_led && behind <= lag && same
    };
    states.len() == voters && states.iter().all(fits)
}

async fn repeat<R>(what: &str, mut call: impl AsyncFnMut() -> Result<R, Error>) -> R {
    let started = Instant::now();
    loop {
        match call().await {
            Ok(answer) => return answer,
            Err(error) => assert!(started.elapsed() < PATIENCE, "{what}: {error}"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Waits for something that must come true; returns how long that took.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) -> Duration {
    let started = Instant::now();
    while !holds().await {
        assert!(started.elapsed() < PATIENCE, "never: {what}");
        tokio::time::sleep(PAUSE).await;
    }
    started.elapsed()
}
