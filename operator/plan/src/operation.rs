//! Which change of a running cluster is made now, one at a time, and how it is told of.
//!
//! Each procedure looks at what is there and says what it would do next, or that it has nothing to
//! do; the first that has something goes on. Of earlier passes only times are remembered.

use crate::groups::Group;
use crate::infra;
use crate::moves::delete_data;
use crate::planning::{Call, Delete, Disruption, NodeCall, Object, Plan};
use crate::situation::Situation;
use crate::{balance, recover, replace, roll, scale};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::SignedDuration;
use kube::ResourceExt;
use multiraft_api::{Operation, OperationType, PlannedGroup, RecoveryStatus};
use multiraft_proto::v1;
use std::collections::BTreeMap;
use std::time::Duration;

/// What a procedure does in this pass.
#[derive(Clone, Debug)]
pub struct Work {
    pub kind: OperationType,
    pub subject: String,
    pub step: &'static str,
    /// What is waited for; changes with progress, never with time alone.
    pub message: String,
    /// How long the step may take without progress.
    pub patience: Duration,
    /// Groups with a new intent, to be written before any call.
    pub intents: BTreeMap<u32, PlannedGroup>,
    pub deletes: Vec<Delete>,
    pub calls: Vec<NodeCall>,
    pub disruption: Option<Disruption>,
    /// The slot that is being taken out of service: it counts as gone, and its drain is wanted.
    pub stops: Option<i32>,
    pub recovery: Option<RecoveryStatus>,
    /// Look again after this long even when nothing is seen to change.
    pub wake_up: Option<Duration>,
}

/// What is refused now may be taken a moment later.
const RETRY: Duration = Duration::from_secs(2);

impl Work {
    pub fn new(s: &Situation, kind: OperationType, subject: &str, step: &'static str) -> Self {
        Work {
            kind,
            subject: subject.to_owned(),
            step,
            message: String::new(),
            patience: s.cluster.times.step,
            intents: BTreeMap::new(),
            deletes: Vec::new(),
            calls: Vec::new(),
            disruption: None,
            stops: None,
            recovery: None,
            wake_up: Some(RETRY),
        }
    }

    pub fn told(mut self, message: String) -> Self {
        self.message = message;
        self
    }

    /// The record of it. Its beginning is kept from pass to pass, and the end of its time while
    /// nothing moves.
    pub fn record(&self, s: &Situation) -> Operation {
        let same = s.record.filter(|r| r.kind == self.kind && r.subject == self.subject);
        let stands = same.filter(|r| r.step == self.step && r.message == self.message);
        let patience = SignedDuration::try_from(self.patience).unwrap_or(SignedDuration::MAX);
        let until = s.env.now.0.checked_add(patience).unwrap_or(s.env.now.0);
        Operation {
            kind: self.kind,
            subject: self.subject.clone(),
            step: self.step.to_owned(),
            started_at: same.map_or_else(|| s.env.now.clone(), |r| r.started_at.clone()),
            deadline: stands.map_or(Time(until), |r| r.deadline.clone()),
            message: self.message.clone(),
        }
    }
}

/// Whether the record's step is this one, and its time is over.
pub fn is_overdue(s: &Situation, kind: OperationType, subject: &str, step: &str) -> bool {
    let is_same = |r: &&Operation| r.kind == kind && r.subject == subject && r.step == step;
    s.record.filter(is_same).is_some_and(|r| s.env.now.0 >= r.deadline.0)
}

/// The one change that goes on now. What was lost comes first, what is only uneven last.
pub fn decide(s: &Situation) -> Option<Work> {
    recover::recover(s)
        .or_else(|| replace::discard(s))
        .or_else(|| roll::renew_dead(s))
        .or_else(|| scale::remove_emptied(s))
        .or_else(|| scale::move_members(s))
        .or_else(|| roll::roll(s))
        .or_else(|| scale::wait_for_nodes(s))
        .or_else(|| balance::leaders(s))
}

/// Puts the work into the plan, and what is to be done whatever the operation.
pub fn carry(s: &Situation, work: Option<&Work>, plan: &mut Plan) {
    let none = BTreeMap::new();
    let intents = work.map_or(&none, |work| &work.intents);
    plan.objects.extend(slices(s, intents));
    plan.growth = infra::growth(s);
    if let Some(work) = work {
        plan.deletes.extend(work.deletes.iter().cloned());
        plan.calls.extend(work.calls.iter().cloned());
        plan.disruption.clone_from(&work.disruption);
    }
    plan.calls.extend(undrain(s, work));
    plan.calls.extend(leftovers(s));
}

/// The slices with what the groups' configurations say and what is meant now.
fn slices(s: &Situation, intents: &BTreeMap<u32, PlannedGroup>) -> Vec<Object> {
    let now: BTreeMap<i32, &PlannedGroup> =
        s.groups.iter().map(|g| (g.planned.id, intents.get(&g.id).unwrap_or(&g.planned))).collect();
    let slices = s.observed.slices.iter();
    slices
        .filter_map(|slice| {
            let mut spec = slice.spec.clone();
            for group in &mut spec.groups {
                if let Some(planned) = now.get(&group.id) {
                    *group = (*planned).clone();
                }
            }
            // An operator that is behind must not take ids back: only the version that was seen.
            let seen = slice.resource_version();
            let object = infra::slice(s.cluster, slice.name_any(), spec.clone(), seen);
            (spec != slice.spec).then_some(Object::Slice(object))
        })
        .collect()
}

/// A node drains only while it is to stop or to go.
fn undrain(s: &Situation, work: Option<&Work>) -> Vec<NodeCall> {
    let stops = work.and_then(|work| work.stops);
    let wrongly = s.seats.iter().filter(|seat| {
        let full = seat.info().is_some_and(|info| info.space_low);
        seat.is_draining() && !full && !seat.leaving && Some(seat.slot) != stops
    });
    wrongly.filter_map(|seat| drain(s, seat.slot, false)).collect()
}

pub fn drain(s: &Situation, slot: i32, drain: bool) -> Option<NodeCall> {
    let seat = s.seat(slot)?;
    s.call(seat, |fence| Call::Drain(v1::DrainRequest { drain, fence: Some(fence) }))
}

/// Members that their groups have removed and whose nodes know it, or closed them.
fn leftovers(s: &Situation) -> Vec<NodeCall> {
    let mut calls = Vec::new();
    for seat in s.seats.iter().filter(|seat| seat.is_up()) {
        for held in seat.node.iter().flat_map(|n| n.groups.values()) {
            let over = held.phase() == v1::GroupPhase::RolledBack
                || (held.role() == v1::MemberRole::Unknown && held.member_id != 0);
            let group = s.groups.iter().find(|g| g.id == held.group_id);
            let removed = |g: &Group| {
                g.led.is_some()
                    && g.planned.next_member_id > held.member_id as i64
                    && g.members().all(|m| m.id != held.member_id)
            };
            if over && group.is_some_and(removed) {
                calls.extend(delete_data(s, seat, held.group_id, held.member_id));
            }
        }
    }
    calls
}
