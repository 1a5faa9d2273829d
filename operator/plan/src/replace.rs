//! A node whose data is gone, or out of reach for too long, gets a new volume. It comes back as a node
//! that nobody knows; its old members are removed and new ones, with new ids, take their places.

use crate::domains;
use crate::names::volume_name;
use crate::observed::Machine;
use crate::operation::Work;
use crate::planning::{Act, Check, Delete, Disruption};
use crate::seats::Seat;
use crate::situation::Situation;
use crate::slots::is_terminating;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use multiraft_api::{OperationType, ReplacementPolicy};
use std::collections::BTreeSet;

/// Exit status of a node that refuses its data directory because it is damaged.
const EXIT_DAMAGED: i32 = 5;
/// Starts of such a node before it is believed: a restart may find the disk in order.
const DAMAGED_STARTS: i32 = 3;

/// A node that cannot come back with its data.
pub struct Loss {
    pub slot: i32,
    /// In words.
    pub why: String,
    /// Kubernetes cannot end the pod in order.
    force: bool,
    /// The volume goes already: somebody deleted it.
    asked_for: bool,
}

pub fn losses(s: &Situation) -> Vec<Loss> {
    s.seats.iter().filter(|seat| !seat.leaving).filter_map(|seat| loss(s, seat)).collect()
}

fn loss(s: &Situation, seat: &Seat) -> Option<Loss> {
    let loss =
        |why: String, force, asked_for| Some(Loss { slot: seat.slot, why, force, asked_for });
    if seat.volume.is_some_and(is_terminating) {
        return loss("its volume was deleted".to_owned(), is_machine_lost(s, seat), true);
    }
    let phase = seat.volume.and_then(|v| v.status.as_ref()?.phase.as_deref());
    if phase == Some("Lost") {
        return loss("its volume is lost".to_owned(), is_machine_lost(s, seat), false);
    }
    if seat.is_up() {
        return None;
    }
    if seat.pod.is_some_and(is_damaged) {
        return loss("its data directory is damaged".to_owned(), false, false);
    }
    let machine = machine(s, seat)?;
    let silent = state(s, machine)?;
    let words = format!("machine {machine} {silent}");
    // What the pod's containers are said to be is as old as the machine's silence.
    (seat.is_silent() && seat.volume.is_some()).then(|| loss(words, true, false)).flatten()
}

/// Why a machine does not come back in time; none while it may.
fn state(s: &Situation, machine: &str) -> Option<String> {
    let after = s.cluster.times.node_lost_after;
    match s.observed.machines.as_ref()?.get(machine) {
        None => Some("is gone".to_owned()),
        Some(Machine { out_of_service: true, .. }) => Some("is out of service".to_owned()),
        Some(Machine { ready: false, since, .. }) if s.elapsed(since) >= after => {
            Some(format!("has not been ready for {}s", s.elapsed(since).as_secs() / 60 * 60))
        }
        Some(_) => None,
    }
}

/// The machine that a seat's data is on: where its pod runs, else where the volume was made.
fn machine<'a>(s: &Situation<'a>, seat: &Seat<'a>) -> Option<&'a str> {
    let silent = |name: &str| state(s, name).is_some();
    match domains::bound(seat.pod) {
        // Kubernetes ends the pod; then it is seen whether its volume can be had elsewhere.
        Some(name) => {
            let known = s.observed.machines.as_ref()?.get(name);
            known.filter(|m| !m.out_of_service).map(|_| name)
        }
        None => domains::made(seat.volume).filter(|name| silent(name) && is_unschedulable(seat)),
    }
}

pub fn is_machine_lost(s: &Situation, seat: &Seat) -> bool {
    domains::bound(seat.pod).is_some_and(|name| state(s, name).is_some())
}

fn is_unschedulable(seat: &Seat) -> bool {
    let conditions = seat.pod.and_then(|p| p.status.as_ref()?.conditions.as_ref());
    conditions.into_iter().flatten().any(|c| {
        c.type_ == "PodScheduled"
            && c.status == "False"
            && c.reason.as_deref() == Some("Unschedulable")
    })
}

fn is_damaged(pod: &Pod) -> bool {
    let containers = pod.status.as_ref().and_then(|s| s.container_statuses.as_ref());
    containers.into_iter().flatten().any(|c| {
        let ended = |state: &k8s_openapi::api::core::v1::ContainerState| {
            state.terminated.as_ref().is_some_and(|t| t.exit_code == EXIT_DAMAGED)
        };
        let damaged =
            c.last_state.as_ref().is_some_and(ended) || c.state.as_ref().is_some_and(ended);
        damaged && c.restart_count >= DAMAGED_STARTS
    })
}

/// Whether a lost node may be given up now, by policy and because every group goes on without it.
pub fn may_discard(s: &Situation, loss: &Loss) -> Result<(), String> {
    let policy = s.cluster.spec.replacement.policy;
    let volume = volume_name(&s.cluster.name, loss.slot);
    if policy == ReplacementPolicy::Manual && !loss.asked_for {
        return Err(format!("delete the claim {volume} to have the node replaced"));
    }
    let hurt = s.groups.iter().filter(|g| !g.spares(loss.slot)).count();
    if hurt > 0 {
        return Err(format!(
            "{hurt} groups have no quorum without it: bring other nodes back, or use spec.recovery"
        ));
    }
    Ok(())
}

/// Deletes pod and volume of a lost node; both come back new.
pub fn discard(s: &Situation) -> Option<Work> {
    let losses = losses(s);
    let loss = losses.iter().find(|loss| may_discard(s, loss).is_ok())?;
    let seat = s.seat(loss.slot)?;
    let mut work = Work::new(s, OperationType::Replace, &seat.name, "Discard")
        .told(format!("{} gets a new volume: {}", seat.name, loss.why));
    if let Some(volume) = seat.volume.filter(|v| !is_terminating(*v)) {
        let name = volume.name_any();
        work.deletes.push(Delete::Volume { name, uid: volume.uid().unwrap_or_default() });
    }
    if seat.pod.is_some_and(|p| loss.force || !is_terminating(p)) {
        let act = Act::Delete(seat.delete_pod(loss.force));
        work.disruption = Some(Disruption { checks: no_danger(s, seat), act });
    }
    work.stops = Some(seat.slot);
    Some(work)
}

/// The leaders of all groups that a live node has members of are asked whether they can spare it.
/// Groups of a single voter stop with it in any case.
pub fn no_danger(s: &Situation, seat: &Seat) -> Vec<Check> {
    let Some((stops, _)) = seat.id().filter(|_| seat.is_up()) else { return Vec::new() };
    let alone = s.groups.iter().filter(|g| g.voters().count() == 1).map(|g| g.id);
    let besides: BTreeSet<u32> = alone.collect();
    let asked = s.seats.iter().filter(|other| other.is_up());
    asked
        .map(|other| Check::NoDanger { node: other.name.clone(), stops, besides: besides.clone() })
        .collect()
}
