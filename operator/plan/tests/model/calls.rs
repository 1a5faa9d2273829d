//! What the nodes' own checks let the operator's calls change.

use multiraft_plan::{Call, Check, NodeCall};
use multiraft_proto::v1;

use super::Kube;
use super::raft::{CATCHES_UP, Group, Held, Nodes};

type Answer = Result<(), String>;

impl Nodes {
    /// Err: the node refuses.
    pub fn call(&mut self, call: &NodeCall, kube: &Kube, latched: bool) -> Answer {
        let uid = kube.disk_of(&call.node).filter(|_| kube.runs(&call.node));
        let uid = uid.ok_or("no node answers")?;
        self.admit(&uid, fence(&call.call))?;
        let before = (self.groups.values().map(|g| g.version).sum::<u64>(), self.marks());
        self.carry_out(&uid, &call.call, kube, latched)?;
        let after = (self.groups.values().map(|g| g.version).sum::<u64>(), self.marks());
        self.calls += usize::from(before != after);
        Ok(())
    }

    fn marks(&self) -> Vec<(bool, bool, usize)> {
        self.disks.values().map(|d| (d.activated, d.draining, d.groups.len())).collect()
    }

    /// What every node checks of a fence.
    fn admit(&mut self, uid: &str, fence: Option<&v1::Fence>) -> Answer {
        let fence = fence.ok_or("fenced")?;
        let disk = self.disks.get_mut(uid).ok_or("no directory")?;
        if fence.operator_epoch < disk.epoch {
            self.fenced += 1;
            return Err("an older epoch".to_owned());
        }
        let foreign = !disk.cluster_id.is_empty() && disk.cluster_id != fence.cluster_id;
        if fence.incarnation != disk.incarnation || foreign {
            return Err("another directory".to_owned());
        }
        disk.epoch = fence.operator_epoch;
        disk.cluster_id.clone_from(&fence.cluster_id);
        Ok(())
    }

    fn carry_out(&mut self, uid: &str, call: &Call, kube: &Kube, latched: bool) -> Answer {
        let node_id = self.disks[uid].node_id;
        match call {
            Call::Bootstrap(request) => self.bootstrap(uid, request, latched),
            Call::Activate(request) => {
                assert!(latched, "no client write can exist before the latch");
                let disk = self.disks.get_mut(uid).expect("admitted");
                (disk.activated, disk.cluster_groups) = (true, request.groups);
            }
            Call::Drain(request) => {
                self.disks.get_mut(uid).expect("admitted").draining = request.drain;
            }
            Call::Join(request) => self.join(uid, request)?,
            Call::DeleteData(request) => self.delete_data(uid, request)?,
            Call::AddMember(r) => {
                let member = r.member.clone().expect("a member");
                self.add(node_id, r.group_id, r.version, member)?;
            }
            Call::PromoteMember(r) => {
                self.promote(node_id, r.group_id, r.version, r.member_id, kube)?;
            }
            Call::RemoveMember(r) => {
                self.remove(node_id, r.group_id, r.version, r.member_id, kube)?;
            }
            Call::TransferLeadership(r) => {
                let group = self.led(node_id, r.group_id, r.version)?;
                group.leader = r.to;
                group.term += 1;
                self.calls += 1;
            }
            Call::ForceRecover(r) => self.recover(node_id, r, kube)?,
        }
        Ok(())
    }

    fn bootstrap(&mut self, uid: &str, request: &v1::BootstrapRequest, latched: bool) {
        self.bootstraps += 1;
        assert!(!latched, "nothing is bootstrapped after the latch");
        assert!(request.partitions.len() <= 32);
        let hash = request.fence.as_ref().expect("fenced").plan_hash.clone();
        self.hashes.insert(hash.clone());
        let disk = self.disks.get_mut(uid).expect("admitted");
        for p in &request.partitions {
            let first = Group {
                members: p.members.clone(),
                max: p.members.iter().map(|m| m.member_id).max().unwrap_or(0),
                term: 1,
                plan_hash: hash.clone(),
                ..Group::default()
            };
            let group = self.groups.entry(p.partition_id).or_insert(first);
            assert_eq!(group.members, p.members, "group {} formed anew", p.partition_id);
            assert_eq!(group.plan_hash, hash, "a second, different Bootstrap");
            let used = self.used.entry(p.partition_id).or_default();
            used.extend(p.members.iter().map(|m| m.member_id));
            let own = p.members.iter().find(|m| m.node_id == disk.node_id).expect("a member");
            let held = Held { member_id: own.member_id, behind: 0, closed: false };
            disk.groups.insert(p.partition_id, held);
        }
    }

    fn led(&mut self, node_id: u64, id: u32, version: u64) -> Result<&mut Group, String> {
        let group = self.groups.get_mut(&id).ok_or("no such group")?;
        if group.leader != node_id {
            return Err("another node leads".to_owned());
        }
        if version != group.version {
            return Err("another version".to_owned());
        }
        Ok(group)
    }

    fn add(&mut self, node: u64, id: u32, version: u64, member: v1::MemberConfig) -> Answer {
        let group = self.groups.get(&id).ok_or("no such group")?;
        if group.members.iter().any(|m| m.member_id == member.member_id) {
            return Ok(());
        }
        if group.members.iter().any(|m| m.node_id == member.node_id) {
            return Err("that node has a member".to_owned());
        }
        if member.member_id <= group.max {
            return Err("that id was used".to_owned());
        }
        let group = self.led(node, id, version)?;
        assert!(
            group.members.iter().all(|m| m.role() == v1::MemberRole::Member),
            "group {id}: a second change before the first is done: {:?}",
            group.members
        );
        group.max = member.member_id;
        group.version += 1;
        let member_id = member.member_id;
        group.members.push(v1::MemberConfig { role: v1::MemberRole::Observer as i32, ..member });
        let fresh = self.used.entry(id).or_default().insert(member_id);
        assert!(fresh, "group {id}: member id {member_id} was used before");
        Ok(())
    }

    fn promote(&mut self, node: u64, id: u32, version: u64, member: u64, kube: &Kube) -> Answer {
        let running = self.running(kube);
        let group = self.groups.get(&id).ok_or("no such group")?;
        let learner = group.members.iter().find(|m| m.member_id == member).ok_or("no member")?;
        let held = running.get(&learner.node_id).and_then(|d| d.groups.get(&id));
        if !held.is_some_and(|h| h.behind == 0 && h.member_id == member) {
            return Err("it lags".to_owned());
        }
        if learner.role() == v1::MemberRole::Member {
            return Ok(());
        }
        let group = self.led(node, id, version)?;
        group.version += 1;
        let learner = group.members.iter_mut().find(|m| m.member_id == member);
        learner.expect("found before").role = v1::MemberRole::Member as i32;
        Ok(())
    }

    fn remove(&mut self, node: u64, id: u32, version: u64, member: u64, kube: &Kube) -> Answer {
        let running = self.running(kube);
        let group = self.groups.get(&id).ok_or("no such group")?;
        let Some(gone) = group.members.iter().find(|m| m.member_id == member) else {
            return Ok(());
        };
        if gone.role() == v1::MemberRole::Member {
            let rest = || group.voters().filter(|m| m.member_id != member);
            let alive = rest().filter(|m| Self::is_alive(&running, id, m)).count();
            if 2 * alive <= rest().count() {
                return Err("too few would be left".to_owned());
            }
        }
        let hands_over = gone.node_id == node;
        let other = group.voters().find(|m| m.node_id != node && Self::is_alive(&running, id, m));
        let other = other.map_or(0, |m| m.node_id);
        let group = self.led(node, id, version)?;
        if hands_over {
            group.leader = other;
            group.term += 1;
            self.calls += 1;
            return Err("it leads, and hands over".to_owned());
        }
        group.version += 1;
        group.members.retain(|m| m.member_id != member);
        Ok(())
    }

    fn join(&mut self, uid: &str, request: &v1::JoinRequest) -> Answer {
        assert_eq!(request.auto_promote, Some(false), "the operator promotes");
        let config = request.group.clone().expect("a group");
        let disk = self.disks.get_mut(uid).expect("admitted");
        let own = config.members.iter().find(|m| m.node_id == disk.node_id).ok_or("not named")?;
        if let Some(held) = disk.groups.get(&config.group_id) {
            let same = held.member_id == own.member_id;
            return same.then_some(()).ok_or_else(|| "is a member already".to_owned());
        }
        let group = &self.groups[&config.group_id];
        let learner = group.members.iter().find(|m| m.member_id == own.member_id);
        let learner = learner.ok_or("the leader does not know it")?;
        assert_eq!(learner.role(), v1::MemberRole::Observer, "an empty voter forgot what it said");
        let held = Held { member_id: own.member_id, behind: CATCHES_UP, closed: false };
        disk.groups.insert(config.group_id, held);
        Ok(())
    }

    fn delete_data(&mut self, uid: &str, r: &v1::DeleteDataRequest) -> Answer {
        let disk = self.disks.get_mut(uid).expect("admitted");
        let Some(held) = disk.groups.get(&r.group_id) else { return Ok(()) };
        let members = &self.groups[&r.group_id].members;
        let present = members.iter().any(|m| m.member_id == held.member_id);
        if held.member_id == r.member_id {
            if present && !held.closed {
                return Err("it is a part of the group".to_owned());
            }
            disk.groups.remove(&r.group_id);
        }
        Ok(())
    }

    fn recover(&mut self, node: u64, r: &v1::ForceRecoverRequest, kube: &Kube) -> Answer {
        if self.with_quorum(kube).contains(&r.group_id) {
            return Err("there is a majority".to_owned());
        }
        let group = self.groups.get_mut(&r.group_id).ok_or("no such group")?;
        if r.recovery != group.recovery + 1 {
            return Err("another number".to_owned());
        }
        group.members.retain(|m| m.member_id == r.member_id && m.node_id == node);
        group.recovery += 1;
        group.version += 1;
        for disk in self.disks.values_mut().filter(|d| d.node_id != node) {
            if let Some(held) = disk.groups.get_mut(&r.group_id) {
                held.closed = true;
            }
        }
        Ok(())
    }

    pub fn passes(&self, check: &Check, kube: &Kube) -> bool {
        match check {
            Check::Admissible(_) => true,
            Check::Empty { node } => self.disk(node, kube).is_some_and(|d| d.groups.is_empty()),
            Check::NoDanger { node, stops, besides } => {
                let Some(asked) = self.disk(node, kube).map(|d| d.node_id) else { return false };
                let running = self.running(kube);
                let concerned = |g: &Group| g.members.iter().any(|m| m.node_id == *stops);
                let danger = |(id, g): &(&u32, &Group)| {
                    let rest = g.voters().filter(|m| m.node_id != *stops);
                    let alive = rest.filter(|m| Self::is_alive(&running, **id, m)).count();
                    let few = 2 * alive <= g.voters().count();
                    concerned(g) && (g.leader == asked || g.leader == 0) && few
                };
                self.groups.iter().filter(danger).all(|(id, _)| besides.contains(id))
            }
        }
    }
}

fn fence(call: &Call) -> Option<&v1::Fence> {
    match call {
        Call::Bootstrap(r) => r.fence.as_ref(),
        Call::Activate(r) => r.fence.as_ref(),
        Call::AddMember(r) => r.fence.as_ref(),
        Call::Join(r) => r.fence.as_ref(),
        Call::PromoteMember(r) => r.fence.as_ref(),
        Call::RemoveMember(r) => r.fence.as_ref(),
        Call::TransferLeadership(r) => r.fence.as_ref(),
        Call::Drain(r) => r.fence.as_ref(),
        Call::DeleteData(r) => r.fence.as_ref(),
        Call::ForceRecover(r) => r.fence.as_ref(),
    }
}
