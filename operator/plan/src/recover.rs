//! Groups that lost their quorum for good go on from the most advanced member that is left, when
//! somebody asks for it and accepts what that may lose.

use crate::groups::Group;
use crate::operation::Work;
use crate::planning::{Call, NodeCall};
use crate::seats::Seat;
use crate::situation::Situation;
use multiraft_api::{OperationType, Recovery, RecoveryStatus};
use multiraft_proto::v1;

/// The request and what became of it; none without a request, or when it was carried out before.
fn request<'a>(s: &Situation<'a>) -> Option<&'a Recovery> {
    let request = s.cluster.spec.recovery.as_ref()?;
    let done = s.cluster.status.recovery.as_ref();
    let over = done.is_some_and(|d| d.request_id == request.request_id && d.completed_at.is_some());
    (!over).then_some(request)
}

/// What the status says of the request: kept for ever once it is over.
pub fn status(s: &Situation, work: Option<&Work>) -> Option<RecoveryStatus> {
    let Some(request) = request(s) else { return s.cluster.status.recovery.clone() };
    if let Some(status) = work.and_then(|work| work.recovery.clone()) {
        return Some(status);
    }
    let told = |message: String, over: bool| {
        let completed_at = over.then(|| s.env.now.clone());
        Some(RecoveryStatus { request_id: request.request_id.clone(), completed_at, message })
    };
    if request.cluster_id != s.bootstrap.cluster_id {
        let own = &s.bootstrap.cluster_id;
        return told(format!("refused: this is cluster {own}: ask with a new requestID"), true);
    }
    let (left, none) = (leaderless(s, request).len(), orphans(s, request));
    if left > none.len() {
        return told(format!("{left} groups wait"), false);
    }
    // What an earlier pass said of the losses stays.
    let before = s.cluster.status.recovery.as_ref();
    let before = before.filter(|b| b.request_id == request.request_id);
    let before = before.map_or("no group lacked a quorum", |b| b.message.as_str());
    match none.is_empty() {
        true => told(before.to_owned(), true),
        false => told(format!("{before}; no member is left of groups {}", words(&none)), true),
    }
}

pub fn recover(s: &Situation) -> Option<Work> {
    let request = request(s).filter(|r| r.cluster_id == s.bootstrap.cluster_id)?;
    let mut lost = Vec::new();
    let mut calls = Vec::new();
    for group in leaderless(s, request) {
        let Some((seat, state)) = survivor(s, request, group) else { continue };
        calls.extend(force(s, seat, state));
        lost.push(format!("{} (from {}, index {})", group.id, seat.name, state.last_index));
    }
    if calls.is_empty() {
        return None;
    }
    let mut work = Work::new(s, OperationType::Recover, &request.request_id, "ForceRecover")
        .told(format!("{} groups go on from one member each", calls.len()));
    let before = s.cluster.status.recovery.as_ref();
    let before = before.filter(|b| b.request_id == request.request_id);
    let mut message =
        format!("went on, entries above the index are lost: groups {}", lost.join(", "));
    message.truncate(1024);
    let message = before.map_or(message, |b| b.message.clone());
    let request_id = request.request_id.clone();
    work.recovery = Some(RecoveryStatus { request_id, completed_at: None, message });
    work.calls = calls;
    Some(work)
}

/// Groups that are asked for, have no leader, and cannot elect one by those that are heard of.
fn leaderless<'b>(s: &'b Situation, request: &Recovery) -> Vec<&'b Group> {
    let asked = |g: &&Group| {
        request.groups.is_empty() || request.groups.iter().any(|id| id.unsigned_abs() == g.id)
    };
    let groups = s.groups.iter().filter(|g| g.led.is_none()).filter(asked);
    groups
        .filter(|g| {
            let here = || s.seats.iter().filter_map(|seat| held(seat, g.id));
            let newest = here().max_by_key(|state| (state.recovery, state.config_version));
            let votes = |m: &&v1::MemberConfig| m.role() == v1::MemberRole::Member;
            let voters = newest.map_or(0, |state| state.members.iter().filter(votes).count());
            2 * here().filter(|state| is_voter(state)).count() <= voters
        })
        .collect()
}

fn orphans(s: &Situation, request: &Recovery) -> Vec<u32> {
    let groups = leaderless(s, request).into_iter();
    groups.filter(|g| survivor(s, request, g).is_none()).map(|g| g.id).collect()
}

fn held<'b>(seat: &'b Seat, group: u32) -> Option<&'b v1::GroupState> {
    let node = seat.node.filter(|_| seat.is_up())?;
    node.groups.get(&group).filter(|s| s.phase() != v1::GroupPhase::RolledBack)
}

fn is_voter(state: &v1::GroupState) -> bool {
    state.role() == v1::MemberRole::Member
}

/// The member with most of the log, as elections compare logs.
fn survivor<'b>(
    s: &'b Situation,
    request: &Recovery,
    group: &Group,
) -> Option<(&'b Seat<'b>, &'b v1::GroupState)> {
    let kept =
        |seat: &&Seat| request.keep_nodes.is_empty() || request.keep_nodes.contains(&seat.name);
    let members = s.seats.iter().filter(kept);
    let members = members.filter_map(|seat| Some((seat, held(seat, group.id)?)));
    members
        .filter(|(_, state)| is_voter(state))
        .max_by_key(|(_, st)| (st.recovery, st.last_term, st.last_index))
}

fn force(s: &Situation, seat: &Seat, state: &v1::GroupState) -> Option<NodeCall> {
    s.call(seat, |fence| {
        Call::ForceRecover(v1::ForceRecoverRequest {
            group_id: state.group_id,
            member_id: state.member_id,
            recovery: state.recovery + 1,
            version: state.config_version,
            fence: Some(fence),
        })
    })
}

fn words(groups: &[u32]) -> String {
    groups.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
}
