//! Flags of the operator; every flag can be given by an environment variable.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use multiraft_plan::OperatorPods;

/// Runs MultiRaftCluster objects: creates their nodes, forms their Raft groups, reports.
#[derive(Debug, Clone, Parser)]
#[command(name = "multiraft-operator", version, after_help = AFTER_HELP)]
pub struct Options {
    /// Namespaces to watch, separated by commas; empty: all (needs a ClusterRole).
    #[arg(long, env = "MULTIRAFT_WATCH_NAMESPACES", value_delimiter = ',', value_name = "NAMES")]
    pub watch_namespaces: Vec<String>,

    /// Repository of the node image for clusters that name none; the tag is the cluster's version.
    #[arg(
        long,
        env = "MULTIRAFT_NODE_IMAGE",
        default_value = "localhost/multiraft-node",
        value_name = "IMAGE"
    )]
    pub node_image: String,

    /// Wait for the lease before acting; `false` takes it at once and is for a single process only.
    #[arg(long, env = "MULTIRAFT_LEADER_ELECT", default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub leader_elect: bool,

    /// Name of the Lease that elects the acting operator.
    #[arg(
        long,
        env = "MULTIRAFT_LEASE_NAME",
        default_value = "multiraft-operator",
        value_name = "NAME"
    )]
    pub lease_name: String,

    /// Namespace of the Lease; default: the operator's own.
    #[arg(long, env = "MULTIRAFT_LEASE_NAMESPACE", value_name = "NAME")]
    pub lease_namespace: Option<String>,

    /// How long a dead leader blocks the next one.
    #[arg(long, env = "MULTIRAFT_LEASE_DURATION", default_value = "15s", value_parser = parse_duration, value_name = "DURATION")]
    pub lease_duration: Duration,

    /// Name of this process in the Lease; default: the pod's name. A restarted process of the
    /// same name takes its lease back at once, so two live processes must never share one.
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    pub identity: Option<String>,

    /// Folder of the operator's certificate: tls.crt, tls.key and ca.crt. It must name
    /// multiraft://multiraft-operator/operator/NAME.
    #[arg(long, env = "MULTIRAFT_TLS_FOLDER", value_name = "FOLDER")]
    pub tls_folder: Option<PathBuf>,

    /// Namespace of the operator's pods, for the network policies of nodes.
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAME")]
    pub pod_namespace: Option<String>,

    /// Labels that select the operator's pods there, as key=value, separated by commas.
    #[arg(long, env = "MULTIRAFT_POD_LABELS", value_delimiter = ',', value_parser = parse_label, value_name = "LABELS")]
    pub pod_labels: Vec<(String, String)>,

    /// Where /metrics, /livez and /readyz are served.
    #[arg(
        long,
        env = "MULTIRAFT_METRICS_ADDRESS",
        default_value = "0.0.0.0:8080",
        value_name = "ADDRESS"
    )]
    pub metrics_address: SocketAddr,

    /// Form of log lines.
    #[arg(long, env = "MULTIRAFT_LOG_FORMAT", value_enum, default_value_t = LogFormat::Json)]
    pub log_format: LogFormat,

    /// What is logged, as tracing's filters: `info`, `multiraft_operator=debug,kube=info`.
    #[arg(long, env = "MULTIRAFT_LOG", default_value = "info", value_name = "FILTER")]
    pub log: String,

    /// Test hook: exit, as if killed, before the Nth mutating call (API write or node call).
    #[arg(long, env = "MULTIRAFT_OPERATOR_EXIT_AT_CALL", value_name = "N", hide_short_help = true)]
    pub exit_at_call: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Json,
    Text,
}

const AFTER_HELP: &str = "The API server is found by KUBECONFIG, ~/.kube/config or the pod's service account. \
The operator never reads Secrets.";

impl Options {
    /// Where the operator's pods are, if it runs in some.
    pub fn pods(&self) -> Option<OperatorPods> {
        let labels = self.pod_labels.iter().cloned().collect();
        let namespace = self.pod_namespace.clone()?;
        (!self.pod_labels.is_empty()).then_some(OperatorPods { namespace, labels })
    }
}

/// `app.kubernetes.io/name=multiraft-operator`.
fn parse_label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("`{text}` is not key=value"))?;
    Ok((key.to_owned(), value.to_owned()))
}

/// `1500ms`, `15s`, `2m`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let count: u64 =
        digits.parse().map_err(|_| format!("`{text}` has no number; write for example 15s"))?;
    let millis = match unit {
        "ms" => Some(count),
        "s" => count.checked_mul(1_000),
        "m" => count.checked_mul(60_000),
        _ => return Err(format!("`{text}` needs a unit: ms, s or m")),
    };
    millis.map(Duration::from_millis).ok_or_else(|| format!("`{text}` is too long"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_number_and_a_unit() {
        assert_eq!(parse_duration("1500ms"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("15s"), Ok(Duration::from_secs(15)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        for bad in ["", "15", "s", "1h", "-1s", "99999999999999999999s"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn leader_election_is_a_flag_with_or_without_a_value() {
        let parse =
            |args: &[&str]| Options::try_parse_from([&["multiraft-operator"], args].concat());
        assert!(parse(&[]).is_ok_and(|o| o.leader_elect));
        assert!(parse(&["--leader-elect"]).is_ok_and(|o| o.leader_elect));
        assert!(parse(&["--leader-elect=false"]).is_ok_and(|o| !o.leader_elect));
    }
}
