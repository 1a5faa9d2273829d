//! All that the procedures of a formed cluster judge by.

use crate::bootstrap::Bootstrap;
use crate::domains::{self, Domain, Overlap};
use crate::groups::{self, Group};
use crate::infra;
use crate::names::member_host;
use crate::observed::{Observed, Surroundings};
use crate::planning::{Call, NodeCall};
use crate::seats::{self, Seat};
use crate::validate::Validated;
use k8s_openapi::jiff::SignedDuration;
use multiraft_api::Operation;
use multiraft_proto::v1;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub struct Situation<'a> {
    pub cluster: &'a Validated,
    pub observed: &'a Observed,
    pub env: &'a Surroundings,
    pub bootstrap: &'a Bootstrap,
    pub seats: Vec<Seat<'a>>,
    pub groups: Vec<Group>,
    /// Voters that each group is to have.
    pub voters: usize,
    /// Of the present template.
    pub revision: String,
    /// What was under way when the status was last written.
    pub record: Option<&'a Operation>,
}

impl<'a> Situation<'a> {
    pub fn new(
        cluster: &'a Validated,
        observed: &'a Observed,
        env: &'a Surroundings,
        bootstrap: &'a Bootstrap,
    ) -> Self {
        let seats = seats::seats(cluster, observed, &bootstrap.slots);
        let groups = groups::groups(&cluster.name, observed, &bootstrap.groups, &seats);
        Situation {
            cluster,
            observed,
            env,
            bootstrap,
            groups,
            voters: bootstrap.voters as usize,
            revision: infra::revision(cluster),
            record: cluster.status.operation.as_ref(),
            seats,
        }
    }

    pub fn seat(&self, slot: i32) -> Option<&Seat<'a>> {
        self.seats.iter().find(|s| s.slot == slot)
    }

    /// Members on each slot, those that are to join included.
    pub fn loads(&self) -> BTreeMap<i32, usize> {
        let mut loads: BTreeMap<i32, usize> = self.seats.iter().map(|s| (s.slot, 0)).collect();
        for slot in self.groups.iter().flat_map(|g| g.slots(&self.cluster.name)) {
            *loads.entry(slot).or_default() += 1;
        }
        loads
    }

    pub fn domain(&self, slot: i32) -> Domain<'a> {
        self.seat(slot).map(|seat| seat.domain).unwrap_or_default()
    }

    /// Pairs of these slots that fail together.
    pub fn overlap(&self, slots: impl IntoIterator<Item = i32>) -> Overlap {
        let domains: Vec<Domain> = slots.into_iter().map(|slot| self.domain(slot)).collect();
        domains::overlap(&domains)
    }

    /// Groups that a slot leads; `movable`: only those that another voter could lead.
    pub fn led_by(&self, slot: i32, movable: bool) -> usize {
        let leads = |g: &&Group| g.led.as_ref().is_some_and(|led| led.slot == slot);
        self.groups.iter().filter(leads).filter(|g| !movable || g.voters().count() > 1).count()
    }

    /// Whether no group would lose its quorum without a slot, groups of a single voter apart: those
    /// stop with their node, whoever asks.
    pub fn can_spare(&self, slot: i32) -> bool {
        let alone = |g: &Group| g.led.is_some() && g.voters().count() == 1;
        self.groups.iter().all(|g| alone(g) || g.spares(slot))
    }

    /// A call to the node of a slot, meant for the directory that runs there now.
    pub fn call(&self, seat: &Seat, call: impl Fn(v1::Fence) -> Call) -> Option<NodeCall> {
        let (_, incarnation) = seat.id().filter(|_| seat.is_up())?;
        let fence = self.bootstrap.fence(self.env, incarnation);
        Some(NodeCall { node: seat.name.clone(), call: call(fence) })
    }

    /// In words, what the loss of one machine would do, where nodes could stand on machines of their
    /// own: a scheduler looks once, and where the machines were few then, the nodes stay together.
    pub fn shared_machine(&self) -> Option<String> {
        let machines = self.observed.machines.as_ref()?;
        let used = self.seats.iter().filter_map(|seat| seat.domain.machine);
        let used: BTreeSet<&str> = used.collect();
        let open = |name: &&String| {
            let machine = &machines[*name];
            machine.ready && machine.open && !machine.out_of_service
        };
        let free = machines.keys().filter(open).find(|name| !used.contains(name.as_str()))?;
        let on = |g: &Group, name: &str| {
            let there = |slot: i32| self.domain(slot).machine == Some(name);
            g.voters().filter(|m| m.slot.is_some_and(there)).count()
        };
        let hurt = |name: &str| {
            let halted =
                |g: &&Group| g.voters().count() > 1 && 2 * on(g, name) >= g.voters().count();
            self.groups.iter().filter(halted).count()
        };
        let mut counted = used.into_iter().map(|name| (name, hurt(name)));
        let (shared, groups) = counted.find(|(_, groups)| *groups > 0)?;
        let last = self.seats.iter().rfind(|seat| seat.domain.machine == Some(shared))?;
        Some(format!(
            "machine {shared} holds the quorum of {groups} groups, and {free} has none of their \
             nodes: decommission {} to have its members move",
            last.name
        ))
    }

    pub fn host(&self, pod: &str) -> String {
        member_host(&self.cluster.name, &self.cluster.namespace, pod)
    }

    /// Time since a moment in the past.
    pub fn elapsed(
        &self,
        since: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Time,
    ) -> Duration {
        let since: SignedDuration = self.env.now.0.duration_since(since.0);
        Duration::try_from(since).unwrap_or_default()
    }
}
