//! Running `kubectl`.

use std::process::{Output, Stdio};

use serde_json::Value;
use tokio::process::Command;

use crate::report::Failure;

/// Full, so that no resource of another group is meant.
pub const CLUSTERS: &str = "multiraftclusters.multiraft.atomix.io";
pub const SLICES: &str = "raftpartitionslices.multiraft.atomix.io";
pub const CLUSTER_LABEL: &str = "multiraft.atomix.io/cluster";

/// One context and namespace; none: kubectl's own.
#[derive(Clone)]
pub struct Kubectl {
    namespace: Option<String>,
    context: Option<String>,
}

impl Kubectl {
    pub fn new(namespace: Option<String>, context: Option<String>) -> Self {
        Self { namespace, context }
    }

    pub fn elsewhere(&self, namespace: &str) -> Self {
        Self { namespace: Some(namespace.to_owned()), ..self.clone() }
    }

    /// What it prints, or why it failed, in its own words.
    pub async fn run(&self, arguments: &[&str]) -> Result<Vec<u8>, Failure> {
        let output = self.output(arguments).await?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.trim().trim_start_matches("error: ").to_owned();
        Err(match said.contains("connect") || said.contains("timeout") {
            true => Failure::unavailable(format!("kubectl: {said}")),
            false => Failure::rejected(format!("kubectl: {said}")),
        })
    }

    pub async fn output(&self, arguments: &[&str]) -> Result<Output, Failure> {
        let mut kubectl = Command::new("kubectl");
        kubectl.args(arguments).stdin(Stdio::null());
        kubectl.args(self.namespace.iter().map(|namespace| format!("--namespace={namespace}")));
        kubectl.args(self.context.iter().map(|context| format!("--context={context}")));
        kubectl.output().await.map_err(|error| {
            Failure::usage(format!("start kubectl: {error}; install it, and put it on the PATH"))
        })
    }

    pub async fn json(&self, arguments: &[&str]) -> Result<Value, Failure> {
        let printed = self.run(&[arguments, &["-o", "json"]].concat()).await?;
        let value = serde_json::from_slice(&printed);
        value.map_err(|error| Failure::unavailable(format!("kubectl printed no JSON: {error}")))
    }

    /// The cluster of this name, or the only one that there is.
    pub async fn cluster(&self, name: Option<&str>) -> Result<Value, Failure> {
        if let Some(name) = name {
            return self.json(&["get", CLUSTERS, name]).await;
        }
        let mut all = self.json(&["get", CLUSTERS]).await?;
        let mut items = all["items"].as_array_mut().map(std::mem::take).unwrap_or_default();
        match items.len() {
            1 => Ok(items.remove(0)),
            0 => Err(Failure::rejected("no cluster in this namespace: name another with -n")),
            _ => {
                let names: Vec<&str> =
                    items.iter().filter_map(|c| c["metadata"]["name"].as_str()).collect();
                Err(Failure::usage(format!("which cluster? there are {}", names.join(", "))))
            }
        }
    }
}

pub fn name(cluster: &Value) -> &str {
    cluster["metadata"]["name"].as_str().unwrap_or_default()
}
