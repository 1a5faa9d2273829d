//! More nodes, fewer nodes, and members that go where they belong.

use crate::moves::{self, Cause, Moves};
use crate::names::volume_name;
use crate::operation::{self, Work};
use crate::planning::{Act, Check, Delete, Disruption};
use crate::replace::is_machine_lost;
use crate::seats::Seat;
use crate::situation::Situation;
use crate::slots::{holding, is_retired, is_terminating};
use kube::ResourceExt;
use multiraft_api::{OperationType, WhenScaled};

/// The step in which a node that holds nothing is removed.
pub const REMOVE: &str = "RemoveNode";

/// Moves members: away from lost directories and from nodes that are to go, to where one is lacking,
/// and for an even load.
pub fn move_members(s: &Situation) -> Option<Work> {
    let moves = moves::moves(s);
    let leaving = s.seats.iter().find(|seat| seat.leaving);
    let drains: Vec<_> = s
        .seats
        .iter()
        .filter(|seat| seat.leaving && seat.is_up() && !seat.is_draining())
        .filter_map(|seat| operation::drain(s, seat.slot, true))
        .collect();
    let cause = moves.groups.values().min().copied();
    if cause.is_none() && drains.is_empty() {
        return leaving.map(|seat| stuck(s, seat, &moves));
    }
    let (kind, subject) = match (cause, leaving) {
        (Some(Cause::Lost), _) => (OperationType::Replace, lost_node(s)),
        (_, Some(seat)) => (OperationType::ScaleDown, seat.name.clone()),
        (_, None) => s.record.map_or_else(
            || (OperationType::Rebalance, "members".to_owned()),
            |r| match r.kind {
                OperationType::ScaleUp | OperationType::Replace | OperationType::Recover => {
                    (r.kind, r.subject.clone())
                }
                _ => (OperationType::Rebalance, "members".to_owned()),
            },
        ),
    };
    let mut work = Work::new(s, kind, &subject, "MoveMembers").told(words(s, &moves, leaving));
    work.intents = moves.intents;
    work.calls = drains.into_iter().chain(moves.calls).collect();
    Some(work)
}

fn words(s: &Situation, moves: &Moves, leaving: Option<&Seat>) -> String {
    let count = |cause| moves.groups.values().filter(|c| **c == cause).count();
    let parts = [
        (count(Cause::Lost), "have a member whose data is lost"),
        (count(Cause::Leaving), "have a member on a node that is to go"),
        (count(Cause::Count), "have more or fewer members than they should"),
        (count(Cause::Uneven), "move to nodes with fewer members or in other zones"),
    ];
    let parts = parts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}"));
    let mut text = format!("of {} groups {}", s.groups.len(), parts.collect::<Vec<_>>().join(", "));
    if let Some(seat) = leaving {
        let left = s.loads().get(&seat.slot).copied().unwrap_or(0);
        text = format!("{} holds {left} members still; {text}", seat.name);
    }
    text
}

fn stuck(s: &Situation, seat: &Seat, moves: &Moves) -> Work {
    Work::new(s, OperationType::ScaleDown, &seat.name, "MoveMembers").told(format!(
        "{} members of {} have nowhere to go: the other nodes are not ready or hold one already",
        moves.stuck, seat.name
    ))
}

fn lost_node(s: &Situation) -> String {
    let members = s.groups.iter().flat_map(|g| g.members());
    let mut lost = members.filter(|m| m.standing == crate::groups::Standing::Lost);
    let seat = lost.find_map(|m| s.seat(m.slot?));
    seat.map(|seat| seat.name.clone()).unwrap_or_default()
}

/// Nodes that are asked for and not there yet.
pub fn wait_for_nodes(s: &Situation) -> Option<Work> {
    let held = holding(&s.cluster.name, &s.bootstrap.groups);
    let new = |seat: &&Seat| !seat.leaving && !held.contains(&seat.slot);
    let new: Vec<&Seat> = s.seats.iter().filter(new).collect();
    let waiting: Vec<&str> =
        new.iter().filter(|seat| !seat.is_ready()).map(|seat| seat.name.as_str()).collect();
    let first = *waiting.first()?;
    let kind = OperationType::ScaleUp;
    let words = format!("waits for {} to be ready: look at the pods", waiting.join(", "));
    Some(Work::new(s, kind, first, "WaitForNodes").told(words))
}

/// The pod and the volume of a slot that holds nothing any more. The volume goes first: a slot whose
/// volume goes is known to be on its way out.
pub fn remove_emptied(s: &Situation) -> Option<Work> {
    let seat = s.seats.iter().find(|seat| seat.leaving && is_empty(s, seat))?;
    let mut work = Work::new(s, OperationType::ScaleDown, &seat.name, REMOVE)
        .told(format!("{} holds nothing: its pod and its volume go", seat.name));
    let storage = s.cluster.spec.storage.as_ref();
    let retains = storage.is_some_and(|st| st.retention.when_scaled == WhenScaled::Retain);
    let volume = seat.volume.filter(|v| !is_terminating(*v) && !is_retired(v));
    if let (Some(volume), false) = (volume, retains) {
        let name = volume_name(&s.cluster.name, seat.slot);
        work.deletes.push(Delete::Volume { name, uid: volume.uid().unwrap_or_default() });
    }
    if seat.pod.is_some_and(|p| !is_terminating(p) || is_machine_lost(s, seat)) {
        let empty = seat.is_up().then(|| Check::Empty { node: seat.name.clone() });
        let act = Act::Delete(seat.delete_pod(is_machine_lost(s, seat)));
        work.disruption = Some(Disruption { checks: empty.into_iter().collect(), act });
    }
    Some(work)
}

/// No group names it, by the word of the groups' leaders; and if it runs, it says the same.
pub fn is_empty(s: &Situation, seat: &Seat) -> bool {
    let named = s.groups.iter().any(|g| g.slots(&s.cluster.name).contains(&seat.slot));
    let holds = seat.is_up() && seat.node.is_some_and(|n| !n.groups.is_empty());
    !named && !holds
}
