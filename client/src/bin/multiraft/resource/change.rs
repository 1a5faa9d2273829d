//! Small changes of a cluster's resource.

use serde_json::json;

use super::kubectl::{CLUSTER_LABEL, CLUSTERS, Kubectl, name};
use crate::report::{Failure, Report};

const PAUSED: &str = "multiraft.atomix.io/paused";
const DECOMMISSION: &str = "multiraft.atomix.io/decommission";

pub async fn pause(
    kubectl: &Kubectl,
    wanted: Option<&str>,
    pause: bool,
) -> Result<Report, Failure> {
    let cluster = kubectl.cluster(wanted).await?;
    let name = name(&cluster);
    if !pause && cluster["spec"]["paused"] == true {
        let manifest = "its manifest says spec.paused: true; change it there";
        return Err(Failure::rejected(format!("{name}: {manifest}")));
    }
    let annotation = if pause { format!("{PAUSED}=true") } else { format!("{PAUSED}-") };
    kubectl.run(&["annotate", "--overwrite", CLUSTERS, name, &annotation]).await?;
    let told = match pause {
        true => format!("the operator changes nothing of {name} any more"),
        false => format!("the operator looks after {name} again"),
    };
    Ok(Report::new(told, json!({"cluster": name, "paused": pause})))
}

pub async fn decommission(
    kubectl: &Kubectl,
    wanted: Option<&str>,
    pod: &str,
) -> Result<Report, Failure> {
    let cluster = kubectl.cluster(wanted).await?;
    let name = name(&cluster);
    let selector = format!("{CLUSTER_LABEL}={name}");
    let pods = kubectl.json(&["get", "pods", "-l", &selector]).await?;
    let mut names = super::look::list(&pods["items"]).iter().map(super::kubectl::name);
    if !names.any(|known| known == pod) {
        return Err(Failure::rejected(format!("{pod} is no pod of cluster {name}")));
    }
    let status = &cluster["status"];
    let replicas = cluster["spec"]["replicas"].as_i64().unwrap_or_default();
    let voters = status["replicationFactor"].as_i64().unwrap_or(1);
    if replicas <= voters {
        return Err(Failure::rejected(format!(
            "{name} has {replicas} nodes, and each group needs {voters}: scale up first, then \
             decommission {pod}"
        )));
    }
    kubectl.run(&["annotate", "--overwrite", "pod", pod, &format!("{DECOMMISSION}=true")]).await?;
    // Only if nobody else has changed the size meanwhile.
    let (to, from) =
        (format!("--replicas={}", replicas - 1), format!("--current-replicas={replicas}"));
    kubectl.run(&["scale", CLUSTERS, name, &to, &from]).await?;
    let told = format!(
        "{pod} goes as soon as it holds nothing; follow it with: kubectl multiraft cluster status {name}"
    );
    Ok(Report::new(told, json!({"cluster": name, "pod": pod, "replicas": replicas - 1})))
}
