//! Asking for groups to go on without their quorum.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::kubectl::{CLUSTERS, Kubectl, name};
use super::look::{condition, list, text};
use crate::report::{Failure, Report};

/// What is asked for.
pub struct Wish {
    /// None: all without a quorum.
    pub groups: Vec<i32>,
    /// Pods; none: all that are left.
    pub keep: Vec<String>,
    pub cluster_id: Option<String>,
}

pub async fn recover(
    kubectl: &Kubectl,
    wanted: Option<&str>,
    wish: Wish,
) -> Result<Report, Failure> {
    let cluster = kubectl.cluster(wanted).await?;
    let name = name(&cluster);
    let status = &cluster["status"];
    let Some(id) = status["clusterID"].as_str() else {
        return Err(Failure::rejected(format!(
            "{name} was never formed: there is nothing to lose"
        )));
    };
    if lost(status) == 0 && wish.groups.is_empty() {
        let available = condition(&cluster, "Available").map_or("-", |c| text(&c["message"]));
        return Err(Failure::rejected(format!(
            "no group of {name} has lost its quorum ({available}): nothing to recover"
        )));
    }
    eprintln!("{}", plan(&cluster, &wish));
    let given = match &wish.cluster_id {
        Some(given) => given.clone(),
        None => ask(id)?,
    };
    if given != id {
        return Err(Failure::usage(format!(
            "{given} is not the id of {name}: nothing was asked for"
        )));
    }
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let request = json!({
        "requestID": format!("by-hand-{seconds}"),
        "clusterID": id,
        "groups": wish.groups,
        "keepNodes": wish.keep,
        "acceptDataLoss": true,
    });
    let patch = json!({"spec": {"recovery": request}}).to_string();
    kubectl.run(&["patch", CLUSTERS, name, "--type=merge", "-p", &patch]).await?;
    let told = format!("asked for; what became of it: kubectl multiraft cluster status {name}");
    Ok(Report::new(told, request))
}

fn lost(status: &Value) -> i64 {
    status["groups"]["quorumLost"].as_i64().unwrap_or_default()
}

fn plan(cluster: &Value, wish: &Wish) -> String {
    let status = &cluster["status"];
    let groups = match wish.groups.as_slice() {
        [] => format!("{} groups without a quorum", lost(status)),
        some => {
            format!("groups {}", some.iter().map(i32::to_string).collect::<Vec<_>>().join(", "))
        }
    };
    let left = list(&status["nodes"]).iter().filter(|node| node["connected"] == true);
    let left: Vec<&str> = left.map(|node| text(&node["name"])).collect();
    let kept = if wish.keep.is_empty() { left.join(", ") } else { wish.keep.join(", ") };
    format!(
        "{groups} of {} go on from the most advanced member on {kept}, alone.\nCommands that this \
         member does not have are LOST, also those that were acknowledged. If the other volumes may \
         come back, bring them back instead.",
        name(cluster)
    )
}

fn ask(id: &str) -> Result<String, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage(format!("nobody is there to ask: pass --cluster-id {id}")));
    }
    eprint!("Type the cluster id ({id}) to go on: ");
    let _ = std::io::stderr().flush();
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line);
    read.map_err(|error| Failure::usage(format!("standard input: {error}")))?;
    Ok(line.trim().to_owned())
}
