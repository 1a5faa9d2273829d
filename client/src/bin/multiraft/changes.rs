//! Changes of nodes and groups. Every call says what shall be true, so it is repeated until it is, or
//! until the time is over.

use std::time::{Duration, Instant};

use multiraft_client::{Error, v1};
use serde_json::json;

use crate::actions::AddOptions;
use crate::arguments::Reach;
use crate::report::{Failure, Report};
use crate::survey::{Survey, hex};

const ADD_MEMBER_WAIT: &str = "the learner is there and becomes a voter when it has caught up; see \
    `multiraft group show`";

/// Between two tries, or two looks at what goes on.
const PAUSE: Duration = Duration::from_millis(200);

/// A node decides about most changes within 10 s, or says that it may be asked again.
const TRY_TIMEOUT: Duration = Duration::from_secs(12);

/// One change: its deadline, and how to reach the nodes.
pub struct Asker<'a> {
    reach: &'a Reach,
    deadline: Instant,
}

impl<'a> Asker<'a> {
    pub fn new(reach: &'a Reach) -> Self {
        Self { reach, deadline: Instant::now() + reach.timeout }
    }

    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Whether there is time to try again; waits a little if so.
    async fn again(&self) -> bool {
        if self.left() <= PAUSE {
            return false;
        }
        tokio::time::sleep(PAUSE).await;
        true
    }

    /// Asks one node until it decides.
    async fn node<Q, R>(&self, address: &str, path: &'static str, request: &Q) -> Result<R, Failure>
    where
        Q: prost::Message + Clone + 'static,
        R: prost::Message + Default + 'static,
    {
        loop {
            let time = self.left().clamp(PAUSE, TRY_TIMEOUT);
            match self.reach.administration.call(address, path, request, time).await {
                Ok(answer) => return Ok(answer),
                Err(error) if is_worth_a_repeat(&error) && self.again().await => {}
                Err(error) => return Err(Failure::of_change(error)),
            }
        }
    }

    /// Asks the nodes that hold a group, one after the other, until one decides: it passes the call on
    /// to the leader.
    pub async fn holder<Q, R>(
        &self,
        survey: &Survey,
        group: u32,
        path: &'static str,
        request: &Q,
    ) -> Result<R, Failure>
    where
        Q: prost::Message + Clone + 'static,
        R: prost::Message + Default + 'static,
    {
        survey.group(group)?;
        loop {
            let mut last = None;
            for address in survey.holders(group) {
                let time = self.left().clamp(PAUSE, TRY_TIMEOUT);
                match self.reach.administration.call(address, path, request, time).await {
                    Ok(answer) => return Ok(answer),
                    Err(error) if is_worth_a_repeat(&error) => last = Some(error),
                    Err(error) => return Err(Failure::of_change(error)),
                }
            }
            if !self.again().await {
                let none = || Failure::unavailable(format!("group {group}: no node answers"));
                return Err(last.map_or_else(none, Failure::of_change));
            }
        }
    }

    /// Asks whoever leads a group until somebody decides.
    async fn leader<Q, R>(&self, group: u32, path: &'static str, request: &Q) -> Result<R, Failure>
    where
        Q: prost::Message + Clone + 'static,
        R: prost::Message + Default + 'static,
    {
        loop {
            let survey = Survey::take(self.reach).await?;
            let leader = survey.group(group)?.state.leader;
            let failure = match survey.reached(leader).map(str::to_owned) {
                Ok(address) => {
                    let time = self.left().clamp(PAUSE, TRY_TIMEOUT);
                    match self.reach.administration.call(&address, path, request, time).await {
                        Ok(answer) => return Ok(answer),
                        Err(error) if is_worth_a_repeat(&error) => Failure::of_change(error),
                        Err(error) => return Err(Failure::of_change(error)),
                    }
                }
                Err(_) if leader == 0 => Failure::unavailable(format!(
                    "group {group} has no leader; a majority of its members must run"
                )),
                Err(failure) => failure,
            };
            if !self.again().await {
                return Err(failure);
            }
        }
    }
}

fn is_worth_a_repeat(error: &Error) -> bool {
    match error {
        Error::Refused { code, .. } => *code == tonic::Code::Unavailable,
        error => matches!(error, Error::Unavailable { .. }),
    }
}

pub async fn drain(
    reach: &Reach,
    node: &str,
    drain: bool,
    wait: bool,
    fence: Option<v1::Fence>,
) -> Result<Report, Failure> {
    let asker = Asker::new(reach);
    let survey = Survey::take(reach).await?;
    let id = survey.resolve(node)?;
    let (address, name) = (survey.reached(id)?.to_owned(), survey.name(id));
    let request = v1::DrainRequest { drain, fence };
    loop {
        let v1::DrainResponse { led_groups } =
            asker.node(&address, "/atomix.multiraft.v1.Node/Drain", &request).await?;
        if !drain {
            let json = json!({"node": hex(id), "draining": false});
            return Ok(Report::new(format!("node {name} takes leaderships again"), json));
        }
        let (alone, others) = alone(&survey, id, &led_groups);
        let json = json!({"node": hex(id), "draining": true, "led_groups": led_groups});
        if others.is_empty() || !wait {
            let text = match (others.len(), alone.len()) {
                (0, 0) => format!("node {name} drains and leads nothing"),
                (0, count) => format!(
                    "node {name} drains; {count} groups have no other voter and stop with it: {}",
                    list(&alone)
                ),
                (count, _) => format!("node {name} drains and still leads {count} groups"),
            };
            return Ok(Report::new(text, json));
        }
        if !asker.again().await {
            return Err(Failure::unavailable(format!(
                "node {name} drains but still leads {} groups, for their other voters are down or \
                 behind: {}; see `multiraft node check`",
                others.len(),
                list(&others)
            )));
        }
    }
}

/// Groups that have no other voter, and the rest.
fn alone(survey: &Survey, id: u64, groups: &[u32]) -> (Vec<u32>, Vec<u32>) {
    let is_alone = |group: &&u32| {
        let members = survey.on(id, **group).map(|state| &state.members);
        let voters = members.into_iter().flatten().filter(|m| m.role() == v1::MemberRole::Member);
        voters.count() == 1
    };
    groups.iter().partition(is_alone)
}

fn list(groups: &[u32]) -> String {
    let first: Vec<String> = groups.iter().take(10).map(u32::to_string).collect();
    let more = if groups.len() > 10 { ", …" } else { "" };
    format!("{}{more}", first.join(", "))
}

pub async fn add(
    reach: &Reach,
    group: u32,
    node: &str,
    options: AddOptions,
) -> Result<Report, Failure> {
    let survey = Survey::take(reach).await?;
    let id = survey.resolve(node)?;
    let Some(info) = survey.nodes.get(&id) else {
        return Err(survey.reached(id).err().unwrap_or_else(|| Failure::usage("no such node")));
    };
    let state = survey.group(group)?.state;
    let member_id = options.member_id.unwrap_or(state.member_id_max + 1);
    // A repeated call means the member that is there.
    let member_id =
        state.members.iter().find(|m| m.node_id == id).map_or(member_id, |m| m.member_id);
    let (host, port) = address(&info.peer_address)?;
    let new = v1::MemberConfig { node_id: id, host, port, member_id, ..Default::default() };
    let others = state.members.iter().filter(|m| m.node_id != id).cloned();
    let members = others.chain([new]).collect();
    let request = v1::JoinRequest {
        group: Some(v1::GroupConfig { group_id: group, member_id, members, ..Default::default() }),
        auto_promote: Some(!options.learner),
        fence: options.fence.fence,
        ..Default::default()
    };
    let asker = Asker::new(reach);
    let _: v1::JoinResponse =
        asker.node(survey.reached(id)?, "/atomix.multiraft.v1.Node/Join", &request).await?;
    let name = survey.name(id);
    let what = if options.learner { "it stays a learner" } else { ADD_MEMBER_WAIT };
    let json = json!({"group": group, "node": hex(id), "member": member_id});
    Ok(Report::new(format!("node {name} is member {member_id} of group {group}: {what}"), json))
}

fn address(text: &str) -> Result<(String, i32), Failure> {
    let split = text.rsplit_once(':').and_then(|(h, p)| Some((h.to_owned(), p.parse().ok()?)));
    split.ok_or_else(|| Failure::unavailable(format!("the node states no peer address: {text:?}")))
}

/// The member of a group that a user means by its node.
async fn member(reach: &Reach, group: u32, node: &str) -> Result<(u64, String), Failure> {
    let survey = Survey::take(reach).await?;
    let id = survey.resolve(node)?;
    let name = survey.name(id);
    match survey.group(group)?.member(id) {
        Some(member) => Ok((member.member_id, name)),
        None => Err(Failure::rejected(format!(
            "node {name} is no member of group {group}; see `multiraft group members {group}`"
        ))),
    }
}

pub async fn promote(
    reach: &Reach,
    group_id: u32,
    node: &str,
    fence: Option<v1::Fence>,
) -> Result<Report, Failure> {
    let (member_id, name) = member(reach, group_id, node).await?;
    let request = v1::PromoteMemberRequest { group_id, member_id, fence, version: 0 };
    let answer: v1::PromoteMemberResponse = Asker::new(reach)
        .leader(group_id, "/atomix.multiraft.v1.Node/PromoteMember", &request)
        .await?;
    let text = format!("node {name} votes in group {group_id} as member {member_id}");
    Ok(Report::new(text, changed(group_id, member_id, answer.group)))
}

pub async fn remove(
    reach: &Reach,
    group_id: u32,
    node: &str,
    fence: Option<v1::Fence>,
) -> Result<Report, Failure> {
    let (member_id, name) = member(reach, group_id, node).await?;
    let request = v1::RemoveMemberRequest { group_id, member_id, fence, version: 0 };
    let answer: v1::RemoveMemberResponse = Asker::new(reach)
        .leader(group_id, "/atomix.multiraft.v1.Node/RemoveMember", &request)
        .await?;
    let text = format!("node {name} is no member of group {group_id} any more (was {member_id})");
    Ok(Report::new(text, changed(group_id, member_id, answer.group)))
}

fn changed(group: u32, member: u64, config: Option<v1::GroupConfig>) -> serde_json::Value {
    let config = config.unwrap_or_default();
    let members: Vec<_> = config.members.iter().map(|m| hex(m.node_id)).collect();
    json!({"group": group, "member": member, "version": config.version, "members": members})
}

pub async fn transfer(
    reach: &Reach,
    group_id: u32,
    node: Option<&str>,
    fence: Option<v1::Fence>,
) -> Result<Report, Failure> {
    let survey = Survey::take(reach).await?;
    let to = node.map_or(Ok(0), |node| survey.resolve(node))?;
    let request = v1::TransferLeadershipRequest { group_id, to, fence, version: 0 };
    let answer: v1::TransferLeadershipResponse = Asker::new(reach)
        .leader(group_id, "/atomix.multiraft.v1.Node/TransferLeadership", &request)
        .await?;
    let name = survey.name(answer.leader);
    let json = json!({"group": group_id, "leader": hex(answer.leader), "term": answer.term});
    Ok(Report::new(format!("node {name} leads group {group_id} in term {}", answer.term), json))
}

pub async fn leave(
    reach: &Reach,
    node: &str,
    group_id: u32,
    fence: Option<v1::Fence>,
) -> Result<Report, Failure> {
    let survey = Survey::take(reach).await?;
    let id = survey.resolve(node)?;
    let request = v1::LeaveRequest { group_id, fence, ..Default::default() };
    let _: v1::LeaveResponse = Asker::new(reach)
        .node(survey.reached(id)?, "/atomix.multiraft.v1.Node/Leave", &request)
        .await?;
    let text =
        format!("node {} has left group {group_id}, its data there is deleted", survey.name(id));
    Ok(Report::new(text, json!({"group": group_id, "node": hex(id)})))
}

pub async fn delete_data(
    reach: &Reach,
    node: &str,
    group_id: u32,
    member_id: u64,
    fence: Option<v1::Fence>,
) -> Result<Report, Failure> {
    let survey = Survey::take(reach).await?;
    let id = survey.resolve(node)?;
    let request = v1::DeleteDataRequest { group_id, member_id, fence };
    let _: v1::DeleteDataResponse = Asker::new(reach)
        .node(survey.reached(id)?, "/atomix.multiraft.v1.Node/DeleteData", &request)
        .await?;
    let text =
        format!("node {} holds nothing of member {member_id} of group {group_id}", survey.name(id));
    Ok(Report::new(text, json!({"group": group_id, "member": member_id, "node": hex(id)})))
}

/// What the nodes that run say of a node that would stop.
pub async fn check(reach: &Reach, node: &str, lag_max: u64) -> Result<Report, Failure> {
    let survey = Survey::take(reach).await?;
    let node_id = survey.resolve(node)?;
    let request = v1::CheckDisruptionRequest { node_id, lag_entries_max: lag_max };
    let asker = Asker::new(reach);
    let mut checked = 0;
    let mut found = std::collections::BTreeMap::new();
    for id in survey.nodes.keys() {
        let answer: v1::CheckDisruptionResponse = asker
            .node(survey.reached(*id)?, "/atomix.multiraft.v1.Node/CheckDisruption", &request)
            .await?;
        checked += answer.checked_groups;
        found.extend(answer.groups.into_iter().map(|group| (group.group_id, group)));
    }
    let name = survey.name(node_id);
    if found.is_empty() {
        let json = json!({"node": hex(node_id), "checked_groups": checked, "groups": []});
        let text = format!("node {name} may stop: none of {checked} groups would be in danger");
        return Ok(Report::new(text, json));
    }
    let mut table = crate::table::Table::new(["GROUP", "REASON", "NODES"]);
    let mut json = Vec::new();
    for (group, danger) in &found {
        let nodes: Vec<String> = danger.nodes.iter().map(|id| survey.name(*id)).collect();
        let reason = reason(danger.reason());
        table.row([group.to_string(), reason.into(), nodes.join(" ")]);
        let ids: Vec<String> = danger.nodes.iter().map(|id| hex(*id)).collect();
        json.push(json!({"group": group, "reason": reason, "nodes": ids}));
    }
    let json = json!({"node": hex(node_id), "checked_groups": checked, "groups": json});
    let failure = format!("{} groups would be in danger without node {name}", found.len());
    Ok(Report::new(table.text(), json).but(Failure::rejected(failure)))
}

fn reason(reason: v1::group_disruption::Reason) -> &'static str {
    use v1::group_disruption::Reason;
    match reason {
        Reason::Unspecified => "unknown",
        Reason::QuorumLost => "majority lost",
        Reason::MemberBehind => "member behind",
        Reason::NoLeader => "no leader",
    }
}
