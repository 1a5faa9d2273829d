//! Reading a cluster's resource and its slices.

use multiraft_client::position;
use serde_json::{Value, json};

use super::kubectl::{CLUSTER_LABEL, Kubectl, SLICES, name};
use crate::report::{Failure, Report};
use crate::table::Table;

pub async fn status(kubectl: &Kubectl, wanted: Option<&str>) -> Result<Report, Failure> {
    let cluster = kubectl.cluster(wanted).await?;
    let report = Report::new(told(&cluster), cluster["status"].clone());
    let ready = condition(&cluster, "Ready");
    if ready.is_some_and(|ready| ready["status"] == "True") {
        return Ok(report);
    }
    let reason = ready.map_or("the operator has not seen it yet", |ready| text(&ready["reason"]));
    Ok(report.but(Failure::rejected(format!("{} is not ready: {reason}", name(&cluster)))))
}

fn told(cluster: &Value) -> String {
    let (spec, status) = (&cluster["spec"], &cluster["status"]);
    let mut parts = vec![format!(
        "{}: version {}, {} nodes, {} groups of {} voters, cluster id {}",
        name(cluster),
        text(&spec["version"]),
        spec["replicas"],
        spec["groups"],
        status["replicationFactor"]
            .as_i64()
            .map_or_else(|| "?".into(), |voters| voters.to_string()),
        text(&status["clusterID"]),
    )];
    let operation = &status["operation"];
    if operation.is_object() {
        parts.push(format!(
            "{} of {}, {}: {}",
            text(&operation["type"]),
            text(&operation["subject"]),
            text(&operation["step"]),
            text(&operation["message"])
        ));
    }
    let mut conditions = Table::new(["CONDITION", "STATUS", "REASON", "MESSAGE"]);
    for condition in list(&status["conditions"]) {
        let [kind, is, reason, message] = ["type", "status", "reason", "message"].map(|field| {
            // One line each.
            text(&condition[field]).replace('\n', " ")
        });
        conditions.row([kind, is, reason, message]);
    }
    parts.push(conditions.text());
    let mut nodes = Table::new(["NODE", "STATE", "VERSION", "LEADS", "VOTERS", "LEARNERS"]);
    for node in list(&status["nodes"]) {
        let [leads, voters, learners] =
            ["leaders", "voters", "learners"].map(|field| node[field].to_string());
        let [name, state, version] =
            ["name", "state", "version"].map(|field| text(&node[field]).to_owned());
        nodes.row([name, state, version, leads, voters, learners]);
    }
    parts.push(nodes.text());
    let unhealthy: Vec<String> = list(&status["unhealthyGroups"])
        .iter()
        .map(|group| format!("{} {}", group["id"], text(&group["reason"])))
        .collect();
    if !unhealthy.is_empty() {
        parts.push(format!("unhealthy groups: {}", unhealthy.join(", ")));
    }
    parts.join("\n\n")
}

pub async fn groups(kubectl: &Kubectl, wanted: Option<&str>) -> Result<Report, Failure> {
    let cluster = kubectl.cluster(wanted).await?;
    let groups = all_groups(kubectl, &cluster).await?;
    let mut table = Table::new(["GROUP", "LEADER", "TERM", "MEMBERS"]);
    for group in &groups {
        table.row([
            group["id"].to_string(),
            group["leader"].as_str().unwrap_or("-").to_owned(),
            group["term"].as_i64().map_or_else(|| "-".into(), |term| term.to_string()),
            members(group),
        ]);
    }
    Ok(Report::new(table.text(), groups.into()))
}

pub async fn place(kubectl: &Kubectl, wanted: Option<&str>, key: &str) -> Result<Report, Failure> {
    let cluster = kubectl.cluster(wanted).await?;
    let groups = all_groups(kubectl, &cluster).await?;
    let asked = cluster["spec"]["groups"].as_u64().unwrap_or(1) as usize;
    if groups.len() != asked {
        let known = groups.len();
        let (name, why) = (name(&cluster), "it is not formed yet");
        return Err(Failure::unavailable(format!("{name}: {known} of {asked} groups: {why}")));
    }
    let group = &groups[position(key.as_bytes(), asked)];
    let leader = group["leader"].as_str().unwrap_or("nobody");
    let told = format!("group {}, led by {leader}, on {}", group["id"], members(group));
    Ok(Report::new(told, group.clone()))
}

/// What the slices plan of each group, with what they have seen of it, by ascending id.
pub async fn all_groups(kubectl: &Kubectl, cluster: &Value) -> Result<Vec<Value>, Failure> {
    let selector = format!("{CLUSTER_LABEL}={}", name(cluster));
    let slices = kubectl.json(&["get", SLICES, "-l", &selector]).await?;
    let mut groups = Vec::new();
    for slice in list(&slices["items"]) {
        for planned in list(&slice["spec"]["groups"]) {
            let seen = list(&slice["status"]["groups"]).iter().find(|g| g["id"] == planned["id"]);
            let seen = |field: &str| seen.map_or(Value::Null, |group| group[field].clone());
            groups.push(json!({
                "id": planned["id"],
                "leader": seen("leader"),
                "term": seen("term"),
                "connectedVoters": seen("connectedVoters"),
                "members": planned["members"],
            }));
        }
    }
    groups.sort_by_key(|group| group["id"].as_i64());
    Ok(groups)
}

/// Pods of a group's members; those without a vote say so.
fn members(group: &Value) -> String {
    let name = |member: &Value| match member["role"].as_str() {
        Some(role) if role != "Voter" => {
            format!("{} ({})", text(&member["node"]), role.to_lowercase())
        }
        _ => text(&member["node"]).to_owned(),
    };
    list(&group["members"]).iter().map(name).collect::<Vec<_>>().join(" ")
}

pub fn condition<'a>(cluster: &'a Value, kind: &str) -> Option<&'a Value> {
    list(&cluster["status"]["conditions"]).iter().find(|condition| condition["type"] == kind)
}

pub fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_told_of_in_one_picture() {
        let cluster = json!({
            "metadata": {"name": "orders"},
            "spec": {"version": "0.1.0", "replicas": 4, "groups": 16},
            "status": {
                "clusterID": "c-1",
                "replicationFactor": 3,
                "operation": {
                    "type": "ScaleUp", "subject": "orders-3", "step": "WaitForNode",
                    "message": "waits for orders-3 to be ready",
                },
                "conditions": [
                    {"type": "Ready", "status": "False", "reason": "Scaling", "message": "a\nb"},
                ],
                "nodes": [{
                    "name": "orders-0", "state": "Serving", "version": "0.1.0", "leaders": 6,
                    "voters": 16, "learners": 0,
                }],
                "unhealthyGroups": [{"id": 7, "reason": "Leaderless"}],
            },
        });
        let told = told(&cluster);
        for words in [
            "orders: version 0.1.0, 4 nodes, 16 groups of 3 voters, cluster id c-1",
            "ScaleUp of orders-3, WaitForNode: waits for orders-3 to be ready",
            "Ready      False   Scaling  a b",
            "orders-0  Serving  0.1.0    6      16      0",
            "unhealthy groups: 7 Leaderless",
        ] {
            assert!(told.contains(words), "{words:?} is not in\n{told}");
        }
    }

    #[test]
    fn members_without_a_vote_say_so() {
        let group = json!({"members": [{"node": "a-0"}, {"node": "a-1", "role": "Joining"}]});
        assert_eq!(members(&group), "a-0 a-1 (joining)");
    }
}
