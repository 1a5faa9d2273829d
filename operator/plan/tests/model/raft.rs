//! The nodes: directories on volumes, and groups with their configurations, as the nodes' own checks
//! let them change.

use std::collections::{BTreeMap, BTreeSet};

use multiraft_plan::Node;
use multiraft_proto::v1;

use super::Kube;

/// A group as its members agreed.
#[derive(Clone, Debug, Default)]
pub struct Group {
    pub members: Vec<v1::MemberConfig>,
    pub version: u64,
    pub max: u64,
    pub term: u64,
    /// Node id; 0 = none.
    pub leader: u64,
    pub recovery: u64,
    pub(super) plan_hash: String,
}

impl Group {
    pub fn voters(&self) -> impl Iterator<Item = &v1::MemberConfig> {
        self.members.iter().filter(|m| m.role() == v1::MemberRole::Member)
    }
}

/// What a node holds of a group.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    pub(super) member_id: u64,
    /// Seconds until it has caught up.
    pub(super) behind: u8,
    pub(super) closed: bool,
}

/// What a start or a join costs.
pub(super) const CATCHES_UP: u8 = 2;

#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    pub(super) node_id: u64,
    pub(super) incarnation: u64,
    pub(super) cluster_id: String,
    pub(super) epoch: u64,
    pub(super) activated: bool,
    pub(super) cluster_groups: u32,
    pub(super) draining: bool,
    pub(super) groups: BTreeMap<u32, Held>,
}

#[derive(Default)]
pub struct Nodes {
    pub groups: BTreeMap<u32, Group>,
    /// By uid of the volume.
    pub(super) disks: BTreeMap<String, Disk>,
    pub(super) directories: u64,
    /// Bootstrap calls; all calls that changed something.
    pub bootstraps: usize,
    pub calls: usize,
    /// Calls that were refused for their epoch.
    pub fenced: usize,
    pub hashes: BTreeSet<String>,
    /// Ids that groups ever had.
    pub(super) used: BTreeMap<u32, BTreeSet<u64>>,
}

impl Nodes {
    fn fresh(&mut self) -> Disk {
        self.directories += 1;
        let (node_id, incarnation) = (self.directories, self.directories + 100);
        Disk { node_id, incarnation, ..Disk::default() }
    }

    /// A process starts on a volume.
    pub fn start(&mut self, disk: &str) {
        if !self.disks.contains_key(disk) {
            let fresh = self.fresh();
            self.disks.insert(disk.to_owned(), fresh);
        }
        let disk = self.disks.get_mut(disk).expect("just made");
        disk.draining = false;
        disk.groups.values_mut().for_each(|held| held.behind = CATCHES_UP);
    }

    pub fn keep_disks(&mut self, uids: &[String]) {
        self.disks.retain(|uid, _| uids.contains(uid));
    }

    /// The directory on a pod's volume is another one now.
    pub fn wipe(&mut self, pod: &str, kube: &Kube) {
        let uid = kube.disk_of(pod).expect("the pod has a volume");
        let fresh = self.fresh();
        self.disks.insert(uid, fresh);
    }

    /// The node notices that its members' logs went back.
    pub fn roll_back(&mut self, pod: &str, kube: &Kube) {
        let uid = kube.disk_of(pod).expect("the pod has a volume");
        let disk = self.disks.get_mut(&uid).expect("it ran");
        disk.groups.values_mut().for_each(|held| held.closed = true);
    }

    pub fn set_cluster(&mut self, pod: &str, kube: &Kube, cluster: &str) {
        let uid = kube.disk_of(pod).expect("the pod has a volume");
        self.disks.get_mut(&uid).expect("it ran").cluster_id = cluster.to_owned();
    }

    pub fn is_activated(&self, pod: &str, kube: &Kube) -> bool {
        self.disk(pod, kube).is_some_and(|d| d.activated)
    }

    pub fn node_id(&self, pod: &str, kube: &Kube) -> u64 {
        self.disk(pod, kube).map_or(0, |d| d.node_id)
    }

    pub(super) fn disk(&self, pod: &str, kube: &Kube) -> Option<&Disk> {
        self.disks.get(&kube.disk_of(pod).filter(|_| kube.runs(pod))?)
    }

    /// Node ids that run, with their directories.
    pub(super) fn running<'a>(&'a self, kube: &'a Kube) -> BTreeMap<u64, &'a Disk> {
        let disks = kube.pods.keys().filter_map(|pod| self.disk(pod, kube));
        disks.map(|disk| (disk.node_id, disk)).collect()
    }

    pub(super) fn is_alive(
        running: &BTreeMap<u64, &Disk>,
        id: u32,
        member: &v1::MemberConfig,
    ) -> bool {
        let held = running.get(&member.node_id).and_then(|disk| disk.groups.get(&id));
        held.is_some_and(|h| h.member_id == member.member_id && !h.closed)
    }

    pub fn with_quorum(&self, kube: &Kube) -> BTreeSet<u32> {
        let running = self.running(kube);
        let lives = |id: u32, g: &Group| {
            let alive = g.voters().filter(|m| Self::is_alive(&running, id, m)).count();
            2 * alive > g.voters().count()
        };
        self.groups.iter().filter(|(id, g)| lives(**id, g)).map(|(id, _)| *id).collect()
    }

    /// What the operator hears.
    pub fn views(&self, kube: &Kube) -> BTreeMap<String, Node> {
        let views = kube.pods.keys().filter_map(|pod| Some((pod.clone(), self.disk(pod, kube)?)));
        let view = |pod: &String, disk| self.view(disk, kube.tag(pod).unwrap_or_default());
        views.map(|(pod, disk)| (pod.clone(), view(&pod, disk))).collect()
    }

    fn view(&self, disk: &Disk, version: &str) -> Node {
        let identity = v1::GetInfoResponse {
            node_id: disk.node_id,
            incarnation: disk.incarnation,
            cluster_id: disk.cluster_id.clone(),
            activated: disk.activated,
            cluster_groups: Some(disk.cluster_groups),
            operator_epoch: disk.epoch,
            draining: disk.draining,
            version: version.to_owned(),
            ..Default::default()
        };
        let state = |(id, held): (&u32, &Held)| {
            let group = self.groups.get(id)?;
            let own = group.members.iter().find(|m| m.member_id == held.member_id);
            let phase = match (held.closed, held.behind == 0) {
                (true, _) => v1::GroupPhase::RolledBack,
                (false, true) => v1::GroupPhase::Ready,
                (false, false) => v1::GroupPhase::Starting,
            };
            let state = v1::GroupState {
                group_id: *id,
                member_id: held.member_id,
                role: own.map_or(0, |m| m.role),
                phase: phase as i32,
                term: group.term,
                leader: if held.closed { 0 } else { group.leader },
                members: group.members.clone(),
                config_version: group.version,
                plan_hash: group.plan_hash.clone(),
                member_id_max: group.max,
                recovery: group.recovery,
                ..Default::default()
            };
            Some((*id, state))
        };
        let groups = disk.groups.iter().filter_map(state).collect();
        Node { connected: true, identity: Some(identity), groups, error: None }
    }

    /// Members catch up, leaders that are gone or drain have successors, removed members go.
    pub fn tick(&mut self, kube: &Kube) {
        let names: Vec<String> = kube.pods.keys().cloned().collect();
        for uid in names.iter().filter(|pod| kube.runs(pod)).filter_map(|pod| kube.disk_of(pod)) {
            let Some(disk) = self.disks.get_mut(&uid) else { continue };
            let groups = &self.groups;
            disk.groups.retain(|id, held| {
                held.closed || groups[id].members.iter().any(|m| m.member_id == held.member_id)
            });
            disk.groups.values_mut().for_each(|held| held.behind = held.behind.saturating_sub(1));
        }
        let quorum = self.with_quorum(kube);
        let mut leaders = BTreeMap::new();
        let running = self.running(kube);
        for (id, group) in &self.groups {
            let candidates = || group.voters().filter(|m| Self::is_alive(&running, *id, m));
            let drains = |node: u64| running.get(&node).is_some_and(|d| d.draining);
            let stays = candidates().any(|m| m.node_id == group.leader && !drains(m.node_id));
            if stays && quorum.contains(id) {
                continue;
            }
            let best = candidates().filter(|_| quorum.contains(id));
            let best =
                best.min_by_key(|m| (drains(m.node_id), m.node_id != group.leader, m.member_id));
            leaders.insert(*id, best.map_or(0, |m| m.node_id));
        }
        for (id, leader) in leaders {
            let group = self.groups.get_mut(&id).expect("just seen");
            if group.leader != leader {
                group.leader = leader;
                group.term += 1;
            }
        }
    }

    /// Every group has so many voters, all alive, and nothing is under way.
    pub fn are_all_well(&self, kube: &Kube, voters: usize) -> bool {
        let running = self.running(kube);
        self.groups.iter().all(|(id, g)| {
            let alive = g.voters().filter(|m| Self::is_alive(&running, *id, m)).count();
            alive == voters && g.members.len() == voters
        })
    }

    pub fn assert_well(&self, kube: &Kube, groups: u32, voters: usize) {
        assert_eq!(self.groups.len(), groups as usize);
        assert_eq!(self.hashes.len(), 1, "one plan");
        let running = self.running(kube);
        let mut loads: BTreeMap<u64, usize> = running.keys().map(|id| (*id, 0)).collect();
        for (id, group) in &self.groups {
            assert_eq!(group.members.len(), voters, "group {id}: {:?}", group.members);
            assert_eq!(group.voters().count(), voters);
            assert!(group.members.iter().all(|m| Self::is_alive(&running, *id, m)), "{group:?}");
            for member in &group.members {
                *loads.entry(member.node_id).or_default() += 1;
            }
        }
        for disk in running.values() {
            assert!(disk.activated && !disk.draining, "{disk:?}");
            assert_eq!(disk.cluster_groups, groups, "clients hash onto so many");
            assert_eq!(disk.groups.len(), loads[&disk.node_id], "it holds what it should");
        }
    }
}
