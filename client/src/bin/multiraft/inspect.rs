//! A look at nodes and groups.

use multiraft_client::{position, v1};
use serde_json::{Value, json};

use crate::arguments::Reach;
use crate::report::{Failure, Report};
use crate::survey::{Group, Survey, hex};
use crate::table::{Table, bytes};

pub async fn nodes(reach: &Reach) -> Result<Report, Failure> {
    let survey = Survey::take(reach).await?;
    let mut table = Table::new([
        "NODE", "ADDRESS", "VERSION", "STATE", "GROUPS", "LEADS", "PEERS", "DISK", "FREE",
    ]);
    for node in survey.nodes.values() {
        let connected = node.peers.iter().filter(|peer| peer.connected).count();
        table.row([
            hex(node.node_id),
            node.client_address.clone(),
            node.version.clone(),
            state(node).into(),
            node.groups.len().to_string(),
            led(node).to_string(),
            format!("{connected}/{}", node.peers.len()),
            bytes(node.disk_bytes),
            bytes(node.free_bytes),
        ]);
    }
    for (id, address) in &survey.silent {
        let address = if address.is_empty() { "-".into() } else { address.clone() };
        let unknown = || "-".to_owned();
        let [v, g, l, p, d, f] = std::array::from_fn(|_| unknown());
        table.row([hex(*id), address, v, "down".into(), g, l, p, d, f]);
    }
    let up = survey.nodes.values().map(node_json);
    let down = survey
        .silent
        .iter()
        .map(|(id, address)| json!({"node": hex(*id), "client_address": address, "state": "down"}));
    Ok(Report::new(table.text(), up.chain(down).collect()))
}

pub fn state(node: &v1::GetInfoResponse) -> &'static str {
    match node {
        node if !node.activated => "waiting",
        node if node.space_low => "full",
        node if node.draining => "draining",
        _ => "up",
    }
}

pub fn led(node: &v1::GetInfoResponse) -> usize {
    node.groups.iter().filter(|group| group.leader == node.node_id).count()
}

pub async fn node(reach: &Reach, name: &str) -> Result<Report, Failure> {
    let survey = Survey::take(reach).await?;
    let id = survey.resolve(name)?;
    survey.reached(id)?;
    let node = &survey.nodes[&id];
    let stats = node.stats.unwrap_or_default();
    let mut lines = vec![
        ("node", hex(id)),
        ("incarnation", hex(node.incarnation)),
        ("state", state(node).to_owned()),
        ("version", node.version.clone()),
        ("client address", node.client_address.clone()),
        ("peer address", node.peer_address.clone()),
        ("groups", format!("{}, leads {}", node.groups.len(), led(node))),
        ("disk", format!("{} taken, {} free", bytes(node.disk_bytes), bytes(node.free_bytes))),
        ("memory", bytes(stats.memory_bytes)),
    ];
    if node.operator_epoch != 0 {
        lines.push(("fence", format!("{}:{}", node.cluster_id, node.operator_epoch)));
    }
    let lines = lines.into_iter().map(|(key, value)| format!("{key:<15} {value}"));
    let mut text: Vec<String> = lines.collect();
    let mut peers = Table::new(["PEER", "ADDRESS", "SESSION"]);
    for peer in &node.peers {
        let session = if peer.connected { "up" } else { "down" };
        peers.row([hex(peer.node_id), survey.name(peer.node_id), session.into()]);
    }
    let mut groups = Table::new([
        "GROUP", "MEMBER", "ROLE", "PHASE", "LEADER", "TERM", "APPLIED", "SNAPSHOT", "LOG",
    ]);
    for group in &node.groups {
        groups.row([
            group.group_id.to_string(),
            group.member_id.to_string(),
            role(group.role()).into(),
            phase(group.phase()).into(),
            survey.name(group.leader),
            group.term.to_string(),
            group.applied_index.to_string(),
            group.snapshot_index.to_string(),
            bytes(group.log_bytes),
        ]);
    }
    text.extend([String::new(), peers.text(), String::new(), groups.text()]);
    Ok(Report::new(text.join("\n"), node_json(node)))
}

/// `of`: only the group that holds the primitive of this name.
pub async fn groups(reach: &Reach, of: Option<&str>) -> Result<Report, Failure> {
    let survey = Survey::take(reach).await?;
    let mut groups = survey.groups();
    if let Some(of) = of {
        // Groups are numbered from 1 without gaps.
        let count = reach.groups.or(groups.keys().last().map(|id| *id as usize)).unwrap_or(1);
        let holder = position(of.as_bytes(), count) as u32 + 1;
        groups.retain(|id, _| *id == holder);
    }
    let mut table = Table::new([
        "GROUP", "LEADER", "TERM", "APPLIED", "LAG", "SNAPSHOT", "LOG", "SESSIONS", "MEMBERS",
    ]);
    for group in groups.values() {
        let state = group.state;
        let members: Vec<String> = state.members.iter().map(|m| survey.name(m.node_id)).collect();
        table.row([
            state.group_id.to_string(),
            survey.name(state.leader),
            state.term.to_string(),
            state.applied_index.to_string(),
            known(group.lag_max()),
            state.snapshot_index.to_string(),
            bytes(state.log_bytes),
            state.sessions.to_string(),
            members.join(" "),
        ]);
    }
    let json = groups.values().map(|group| group_json(group, &survey)).collect();
    Ok(Report::new(table.text(), json))
}

pub async fn group(reach: &Reach, id: u32) -> Result<Report, Failure> {
    let survey = Survey::take(reach).await?;
    let group = survey.group(id)?;
    let state = group.state;
    let lines = [
        ("group", id.to_string()),
        ("leader", survey.name(state.leader)),
        ("term", state.term.to_string()),
        ("committed", format!("entry {}", state.commit_index)),
        ("commands", format!("{} applied", state.index)),
        ("sessions", state.sessions.to_string()),
        ("configuration", format!("version {}", state.config_version)),
        ("log", format!("entries {} to {}", state.first_index, state.last_index)),
        ("since snapshot", bytes(state.log_bytes)),
    ];
    let lines = lines.into_iter().map(|(key, value)| format!("{key:<15} {value}"));
    let mut text: Vec<String> = lines.collect();
    text.extend([String::new(), members_table(&group, &survey).text()]);
    Ok(Report::new(text.join("\n"), group_json(&group, &survey)))
}

pub async fn members(reach: &Reach, id: u32) -> Result<Report, Failure> {
    let survey = Survey::take(reach).await?;
    let group = survey.group(id)?;
    let json = group_json(&group, &survey)["members"].clone();
    Ok(Report::new(members_table(&group, &survey).text(), json))
}

fn members_table(group: &Group<'_>, survey: &Survey) -> Table {
    let mut table =
        Table::new(["MEMBER", "NODE", "ADDRESS", "ROLE", "PHASE", "LAG", "APPLIED", "SNAPSHOT"]);
    for member in &group.state.members {
        let own = survey.on(member.node_id, group.state.group_id);
        let own = own.filter(|state| state.member_id == member.member_id);
        let leads = member.node_id == group.state.leader;
        table.row([
            member.member_id.to_string(),
            hex(member.node_id),
            survey.name(member.node_id),
            if leads { "leader" } else { role(member.role()) }.into(),
            own.map_or("-", |state| phase(state.phase())).into(),
            known(group.lag(member.member_id)),
            known(own.map(|state| state.applied_index)),
            known(own.map(|state| state.snapshot_index)),
        ]);
    }
    table
}

fn known(value: Option<u64>) -> String {
    value.map_or("-".into(), |value| value.to_string())
}

fn role(role: v1::MemberRole) -> &'static str {
    match role {
        v1::MemberRole::Member => "voter",
        v1::MemberRole::Observer => "learner",
        v1::MemberRole::Witness => "witness",
        v1::MemberRole::Unknown => "removed",
    }
}

fn phase(phase: v1::GroupPhase) -> &'static str {
    match phase {
        v1::GroupPhase::Unspecified => "-",
        v1::GroupPhase::Starting => "starting",
        v1::GroupPhase::Ready => "ready",
        v1::GroupPhase::RolledBack => "rolled back",
    }
}

fn group_json(group: &Group<'_>, survey: &Survey) -> Value {
    let state = group.state;
    let members = state.members.iter().map(|member| {
        let own = survey.on(member.node_id, state.group_id);
        let own = own.filter(|state| state.member_id == member.member_id);
        json!({
            "member": member.member_id, "node": hex(member.node_id),
            "address": format!("{}:{}", member.host, member.port), "role": role(member.role()),
            "lag": group.lag(member.member_id), "applied": own.map(|state| state.applied_index),
            "snapshot": own.map(|state| state.snapshot_index),
            "phase": own.map(|state| phase(state.phase())),
        })
    });
    json!({
        "group": state.group_id, "leader": hex(state.leader), "term": state.term,
        "applied": state.applied_index, "commit": state.commit_index, "index": state.index,
        "version": state.config_version, "lag_max": group.lag_max(), "sessions": state.sessions,
        "snapshot": state.snapshot_index, "first": state.first_index, "last": state.last_index,
        "log_bytes": state.log_bytes, "members": members.collect::<Vec<_>>(),
    })
}

fn node_json(node: &v1::GetInfoResponse) -> Value {
    let stats = node.stats.unwrap_or_default();
    json!({
        "node": hex(node.node_id),
        "client_address": node.client_address,
        "peer_address": node.peer_address,
        "state": state(node),
        "version": node.version,
        "feature_level": node.feature_level,
        "activated": node.activated,
        "draining": node.draining,
        "space_low": node.space_low,
        "cluster": node.cluster_id,
        "operator_epoch": node.operator_epoch,
        "incarnation": hex(node.incarnation),
        "leads": led(node),
        "disk_bytes": node.disk_bytes,
        "disk_free_bytes": node.free_bytes,
        "memory_bytes": stats.memory_bytes,
        "groups": node.groups.iter().map(|group| group.group_id).collect::<Vec<_>>(),
        "peers": node.peers.iter().map(|peer| json!({
            "node": hex(peer.node_id), "address": peer.address,
            "client_address": peer.client_address, "connected": peer.connected,
        })).collect::<Vec<_>>(),
    })
}
