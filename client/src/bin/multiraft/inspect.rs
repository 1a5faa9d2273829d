//! A look at nodes and groups.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use multiraft_client::{node_info, position, v1};
use serde_json::{Value, json};

use crate::arguments::Reach;
use crate::report::{Failure, Report};

/// A node that works answers for itself at once.
const TIMEOUT_MAX: Duration = Duration::from_secs(5);

pub async fn nodes(reach: &Reach) -> Result<Report, Failure> {
    let answers = ask(reach).await?;
    let mut table =
        vec![row(["NODE", "ADDRESS", "VERSION", "ACTIVATED", "GROUPS", "LEADS", "PEERS"])];
    for node in &answers {
        let leads = node.groups.iter().filter(|group| group.leader == node.node_id).count();
        let connected = node.peers.iter().filter(|peer| peer.connected).count();
        table.push(row([
            &format!("{:016x}", node.node_id),
            &node.client_address,
            &node.version,
            if node.activated { "yes" } else { "no" },
            &node.groups.len().to_string(),
            &leads.to_string(),
            &format!("{connected}/{}", node.peers.len()),
        ]));
    }
    let json: Vec<Value> = answers.iter().map(node_json).collect();
    Ok(Report::new(align(&table), json.into()))
}

/// `of`: only the group that holds the primitive of this name.
pub async fn groups(reach: &Reach, of: Option<&str>) -> Result<Report, Failure> {
    let answers = ask(reach).await?;
    let mut groups: BTreeMap<u32, &v1::GroupState> = BTreeMap::new();
    for group in answers.iter().flat_map(|node| &node.groups) {
        let newest = groups.entry(group.group_id).or_insert(group);
        if (group.term, group.commit_index) > (newest.term, newest.commit_index) {
            *newest = group;
        }
    }
    if let Some(of) = of {
        // Groups are numbered from 1 without gaps.
        let count = reach.groups.or(groups.keys().last().map(|id| *id as usize)).unwrap_or(1);
        let holder = position(of.as_bytes(), count) as u32 + 1;
        groups.retain(|id, _| *id == holder);
    }
    let addresses = addresses(&answers);
    let name = |id: u64| match addresses.get(&id) {
        Some(address) => (*address).to_owned(),
        None if id == 0 => "-".into(),
        None => format!("{id:016x}"),
    };
    let mut table = vec![row(["GROUP", "LEADER", "TERM", "APPLIED", "MEMBERS"])];
    let mut json = Vec::new();
    for group in groups.values() {
        let members: Vec<String> = group.members.iter().map(|m| name(m.node_id)).collect();
        table.push(row([
            &group.group_id.to_string(),
            &name(group.leader),
            &group.term.to_string(),
            &group.applied_index.to_string(),
            &members.join(" "),
        ]));
        json.push(json!({
            "group": group.group_id, "leader": id(group.leader), "term": group.term,
            "applied": group.applied_index, "commit": group.commit_index, "index": group.index,
            "members": group.members.iter().map(|m| id(m.node_id)).collect::<Vec<_>>(),
        }));
    }
    Ok(Report::new(align(&table), json.into()))
}

/// What the nodes say that can be reached, starting from the endpoints.
async fn ask(reach: &Reach) -> Result<Vec<v1::GetInfoResponse>, Failure> {
    let mut answers: BTreeMap<u64, v1::GetInfoResponse> = BTreeMap::new();
    let mut asked = BTreeSet::new();
    let mut last = None;
    let mut wanted: BTreeSet<String> = reach.endpoints.iter().cloned().collect();
    while !wanted.is_empty() {
        let timeout = reach.timeout.min(TIMEOUT_MAX);
        let calls = wanted.iter().map(|endpoint| node_info(endpoint, timeout));
        for answer in futures::future::join_all(calls).await {
            match answer {
                Ok(answer) => {
                    answers.insert(answer.node_id, answer);
                }
                Err(error) => last = Some(error),
            }
        }
        asked.append(&mut wanted);
        wanted = answers
            .values()
            .flat_map(|answer| &answer.peers)
            .filter(|peer| peer.connected && !answers.contains_key(&peer.node_id))
            .map(|peer| peer.client_address.clone())
            .filter(|address| !address.is_empty() && !asked.contains(address))
            .collect();
    }
    match last {
        Some(error) if answers.is_empty() => Err(error.into()),
        _ => Ok(answers.into_values().collect()),
    }
}

fn addresses(answers: &[v1::GetInfoResponse]) -> BTreeMap<u64, &str> {
    let peers = answers.iter().flat_map(|answer| &answer.peers);
    let peers = peers.map(|peer| (peer.node_id, peer.client_address.as_str()));
    let own = answers.iter().map(|answer| (answer.node_id, answer.client_address.as_str()));
    peers.chain(own).filter(|(_, address)| !address.is_empty()).collect()
}

fn node_json(node: &v1::GetInfoResponse) -> Value {
    json!({
        "node": id(node.node_id),
        "client_address": node.client_address,
        "peer_address": node.peer_address,
        "version": node.version,
        "feature_level": node.feature_level,
        "activated": node.activated,
        "cluster": node.cluster_id,
        "incarnation": id(node.incarnation),
        "groups": node.groups.iter().map(|group| group.group_id).collect::<Vec<_>>(),
        "peers": node.peers.iter().map(|peer| json!({
            "node": id(peer.node_id), "address": peer.address,
            "client_address": peer.client_address, "connected": peer.connected,
        })).collect::<Vec<_>>(),
    })
}

/// As text: ids use all 64 bits, and most readers of JSON keep 53.
fn id(id: u64) -> String {
    format!("{id:016x}")
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).into()
}

fn align(table: &[Vec<String>]) -> String {
    let widths: Vec<usize> = (0..table[0].len())
        .map(|column| table.iter().map(|row| row[column].len()).max().unwrap_or(0))
        .collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    table.iter().map(line).collect::<Vec<_>>().join("\n")
}
