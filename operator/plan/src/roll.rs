//! A changed template reaches the pods one by one: the node that leads least first; each hands over
//! what it leads, stops, and must be back with all its groups caught up before the next one stops.

use crate::groups::Standing;
use crate::infra;
use crate::operation::{self, Work, is_overdue};
use crate::planning::{Act, Check, Disruption};
use crate::replace::no_danger;
use crate::seats::Seat;
use crate::situation::Situation;
use crate::slots::is_terminating;
use multiraft_api::{OperationType, UpdateKind};
use std::cmp::Reverse;
use std::time::Duration;

const ROLL: OperationType = OperationType::Roll;
/// After a node is back, before the next one stops: what goes wrong at once is noticed.
const QUIET: Duration = Duration::from_secs(5);

/// Pods of another template that do not work hold no health worth protecting: a bad template that was
/// corrected must not wait for its victims. A node that is to go must work, too, to be emptied.
pub fn renew_dead(s: &Situation) -> Option<Work> {
    let dead = |seat: &&Seat| seat.is_dead() && !seat.pod.is_some_and(is_terminating);
    let seat = outdated(s).into_iter().find(dead)?;
    let mut work = Work::new(s, ROLL, &seat.name, "Renew")
        .told(format!("{} does not work and has an old template", seat.name));
    work.deletes.push(seat.delete_pod(false));
    Some(work)
}

pub fn roll(s: &Situation) -> Option<Work> {
    let outdated: Vec<&Seat> = outdated(s).into_iter().filter(|seat| !seat.leaving).collect();
    let rolls = s.record.is_some_and(|r| r.kind == ROLL);
    if outdated.is_empty() && !rolls {
        return None;
    }
    if let Some(work) = wait_for_node(s) {
        return Some(work);
    }
    let seat = outdated
        .iter()
        .min_by_key(|seat| (!seat.is_draining(), s.led_by(seat.slot, false), Reverse(seat.slot)))?;
    if let Some(work) = settle(s) {
        return Some(work);
    }
    Some(stop(s, seat, outdated.len()))
}

/// Nodes with a pod of another template, unless their owner wants to delete the pods himself.
fn outdated<'a, 'b>(s: &'b Situation<'a>) -> Vec<&'b Seat<'a>> {
    if s.cluster.spec.update_strategy.kind == UpdateKind::OnDelete {
        return Vec::new();
    }
    s.seats.iter().filter(|seat| seat.is_outdated(&s.revision)).collect()
}

/// A node of the new template that is not back yet, or whose groups have not caught up.
fn wait_for_node(s: &Situation) -> Option<Work> {
    let going = |seat: &Seat| seat.pod.is_some_and(is_terminating);
    let pending = |seat: &&Seat| {
        let comes = !seat.is_outdated(&s.revision) || going(seat);
        !seat.leaving && comes && (!seat.is_ready() || behind(s, seat) > 0)
    };
    let seat = s.seats.iter().find(pending)?;
    let words = match seat.is_ready() {
        true => {
            format!("{} is back; {} of its groups have not caught up", seat.name, behind(s, seat))
        }
        false => format!("waits for {} to be ready: look at its pod", seat.name),
    };
    Some(Work::new(s, ROLL, &seat.name, "WaitForNode").told(words))
}

fn behind(s: &Situation, seat: &Seat) -> usize {
    let members = s.groups.iter().filter_map(|g| g.members().find(|m| m.slot == Some(seat.slot)));
    members.filter(|m| m.standing != Standing::Sound).count()
}

fn settle(s: &Situation) -> Option<Work> {
    let record = s.record.filter(|r| r.kind == ROLL)?;
    let waits = match record.step.as_str() {
        "WaitForNode" => true,
        "Settle" => !is_overdue(s, ROLL, &record.subject, "Settle"),
        _ => false,
    };
    let mut work = Work::new(s, ROLL, &record.subject, "Settle");
    work.patience = QUIET;
    work.wake_up = Some(Duration::from_secs(1));
    let words =
        format!("{} is back; the next node stops {}s later", record.subject, QUIET.as_secs());
    waits.then(|| work.told(words))
}

/// Its process serves by its probe, and nobody ever heard of it: certificates that name another, say.
fn is_unheard(seat: &Seat) -> bool {
    !seat.is_up() && seat.id().is_none() && seat.pod.is_some_and(|pod| !is_terminating(pod))
}

/// A node that cannot be asked to drain, and leads nothing that anybody knows of, is stopped after the
/// time of a drain: else a template that made it so could not be taken back.
fn stop_unheard(s: &Situation, seat: &Seat) -> Work {
    let due = is_overdue(s, ROLL, &seat.name, "Unheard")
        || s.record.is_some_and(|r| r.subject == seat.name && r.step == "Stop");
    let mut work = Work::new(s, ROLL, &seat.name, if due { "Stop" } else { "Unheard" });
    work.wake_up = Some(Duration::from_secs(1));
    if due {
        let pod = infra::pod(s.cluster, s.env, seat.slot);
        let act = Act::Delete(seat.delete_pod(false));
        work.disruption = Some(Disruption { checks: vec![Check::Admissible(Box::new(pod))], act });
        work.stops = Some(seat.slot);
    } else {
        work.patience = s.cluster.times.leader_drain;
    }
    work.told(format!(
        "{} has an old template and is not heard of; no group needs it, so it is stopped",
        seat.name
    ))
}

fn stop(s: &Situation, seat: &Seat, left: usize) -> Work {
    let hurt = s.groups.iter().filter(|g| {
        let touched = g.members().any(|m| m.slot == Some(seat.slot));
        // Its own members may be behind: a template that cut it off from the others must be taken back.
        let others = || g.members().filter(|m| m.slot != Some(seat.slot));
        let well = others().all(|m| m.standing == Standing::Sound);
        g.led.is_none() || (touched && !well)
    });
    let hurt = hurt.count();
    if hurt == 0 && s.can_spare(seat.slot) && is_unheard(seat) {
        return stop_unheard(s, seat);
    }
    if hurt > 0 || !s.can_spare(seat.slot) || !seat.is_up() {
        return Work::new(s, ROLL, &seat.name, "WaitForGroups").told(format!(
            "{left} nodes have an old template; {} is next and cannot be spared: {hurt} groups \
             have a member that is down or behind",
            seat.name
        ));
    }
    let told = |step| {
        let mut work = Work::new(s, ROLL, &seat.name, step).told(format!(
            "{} hands its leaderships over and stops; {left} nodes have an old template",
            seat.name
        ));
        work.patience = s.cluster.times.leader_drain;
        work.stops = Some(seat.slot);
        work.wake_up = Some(Duration::from_secs(1));
        work
    };
    if !seat.is_draining() {
        let mut work = told("Drain");
        let pod = infra::pod(s.cluster, s.env, seat.slot);
        let mut checks = vec![Check::Admissible(Box::new(pod))];
        checks.extend(no_danger(s, seat));
        let drain = operation::drain(s, seat.slot, true);
        work.disruption = drain.map(|call| Disruption { checks, act: Act::Call(call) });
        return work;
    }
    let stopping = is_overdue(s, ROLL, &seat.name, "Drain")
        || s.record.is_some_and(|r| r.subject == seat.name && r.step == "Stop");
    if s.led_by(seat.slot, true) > 0 && !stopping {
        return told("Drain");
    }
    let mut work = told("Stop");
    work.patience = s.cluster.times.step;
    let act = Act::Delete(seat.delete_pod(false));
    work.disruption = Some(Disruption { checks: no_danger(s, seat), act });
    work
}
