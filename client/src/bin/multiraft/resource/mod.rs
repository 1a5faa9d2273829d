//! Clusters as Kubernetes knows them. All that is read and written goes through `kubectl`: with its
//! contexts, its rights and its habits.

mod change;
mod dump;
mod kubectl;
mod live;
mod look;
mod recover;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::report::{Failure, Report};
use kubectl::Kubectl;

const STATUS_HELP: &str = "Exit code 1 when the cluster is not ready.\n\nExamples:\n  \
    kubectl multiraft cluster status\n  \
    kubectl multiraft cluster status orders -n shop -o json";

const WATCH_HELP: &str = "On a terminal a picture, again and again; else one line for each change. \
    With --until-ready it ends when nothing is left to do.\n\nExamples:\n  \
    kubectl multiraft cluster watch orders\n  \
    kubectl scale mrc orders --replicas=5 && kubectl multiraft cluster watch orders --until-ready";

const WHERE_HELP: &str = "Example:\n  kubectl multiraft cluster where ada --cluster orders";

const DECOMMISSION_HELP: &str = "The cluster gets one node smaller, and this is the one that goes: \
    its members move to the others first, then its pod and its volume are deleted. Scaling up again \
    cancels it.\n\nExample:\n  kubectl multiraft cluster decommission orders-1";

const RECOVER_HELP: &str = "For groups whose quorum is gone for good: the most advanced member that is \
    left of each goes on alone. Commands that it does not have are lost, though they were \
    acknowledged. Prints what would happen and asks for the cluster's id, or takes it from \
    --cluster-id.\n\nExample:\n  kubectl multiraft cluster recover --cluster orders";

const DUMP_HELP: &str = "Objects, events and logs of a cluster and of its operator, for whoever is to \
    help. Secrets are not read, and no data of the cluster.\n\nExample:\n  \
    kubectl multiraft cluster dump --cluster orders --file orders.tar.gz";

#[derive(Subcommand)]
pub enum ClusterAction {
    /// Conditions, nodes, and what is being changed
    #[command(after_help = STATUS_HELP)]
    Status {
        /// [default: the only cluster of the namespace]
        name: Option<String>,
        #[command(flatten)]
        at: At,
    },
    /// Follow what the operator does: nodes, leaders, each step
    #[command(after_help = WATCH_HELP)]
    Watch {
        /// [default: the only cluster of the namespace]
        name: Option<String>,
        /// End when the cluster is as its spec asks
        #[arg(long)]
        until_ready: bool,
        #[command(flatten)]
        at: At,
    },
    /// The groups: leaders and members by pod
    Groups {
        /// [default: the only cluster of the namespace]
        name: Option<String>,
        #[command(flatten)]
        at: At,
    },
    /// The group that a name or a key belongs to, and its pods
    #[command(after_help = WHERE_HELP)]
    Where {
        key: String,
        #[command(flatten)]
        of: Of,
    },
    /// Keep the operator from changing anything; status stays live
    Pause {
        /// [default: the only cluster of the namespace]
        name: Option<String>,
        #[command(flatten)]
        at: At,
    },
    /// Let the operator go on
    Resume {
        /// [default: the only cluster of the namespace]
        name: Option<String>,
        #[command(flatten)]
        at: At,
    },
    /// Take one node out of service for good
    #[command(after_help = DECOMMISSION_HELP)]
    Decommission {
        pod: String,
        #[command(flatten)]
        of: Of,
    },
    /// Go on without a quorum, and lose what was only on the lost volumes
    #[command(after_help = RECOVER_HELP)]
    Recover {
        /// Groups [default: all without a quorum]
        #[arg(long, value_delimiter = ',', value_name = "GROUP")]
        only: Vec<i32>,
        /// Pods whose members may go on [default: all that are left]
        #[arg(long, value_delimiter = ',', value_name = "POD")]
        keep: Vec<String>,
        /// `status.clusterID`, instead of being asked for it
        #[arg(long)]
        cluster_id: Option<String>,
        #[command(flatten)]
        of: Of,
    },
    /// Collect what somebody needs to help
    #[command(after_help = DUMP_HELP)]
    Dump {
        /// Where to [default: NAME-dump.tar.gz]
        #[arg(long)]
        file: Option<PathBuf>,
        /// Namespace of the operator, for its logs
        #[arg(long, default_value = "multiraft-system")]
        operator_namespace: String,
        #[command(flatten)]
        of: Of,
    },
}

/// Where the cluster is.
#[derive(Args)]
pub struct At {
    /// Namespace [default: kubectl's]
    #[arg(short, long)]
    namespace: Option<String>,
    /// Context of the kubeconfig [default: kubectl's]
    #[arg(long)]
    context: Option<String>,
}

/// Which cluster, where the argument is something else.
#[derive(Args)]
pub struct Of {
    /// Name of the cluster [default: the only one of the namespace]
    #[arg(long)]
    cluster: Option<String>,
    #[command(flatten)]
    at: At,
}

pub async fn run(action: ClusterAction) -> Result<Report, Failure> {
    let kubectl = |at: At| Kubectl::new(at.namespace, at.context);
    match action {
        ClusterAction::Status { name, at } => look::status(&kubectl(at), name.as_deref()).await,
        ClusterAction::Watch { name, until_ready, at } => {
            live::watch(&kubectl(at), name.as_deref(), until_ready).await
        }
        ClusterAction::Groups { name, at } => look::groups(&kubectl(at), name.as_deref()).await,
        ClusterAction::Where { key, of } => {
            look::place(&kubectl(of.at), of.cluster.as_deref(), &key).await
        }
        ClusterAction::Pause { name, at } => {
            change::pause(&kubectl(at), name.as_deref(), true).await
        }
        ClusterAction::Resume { name, at } => {
            change::pause(&kubectl(at), name.as_deref(), false).await
        }
        ClusterAction::Decommission { pod, of } => {
            change::decommission(&kubectl(of.at), of.cluster.as_deref(), &pod).await
        }
        ClusterAction::Recover { only, keep, cluster_id, of } => {
            let wish = recover::Wish { groups: only, keep, cluster_id };
            recover::recover(&kubectl(of.at), of.cluster.as_deref(), wish).await
        }
        ClusterAction::Dump { file, operator_namespace, of } => {
            let kubectl = kubectl(of.at);
            dump::dump(&kubectl, of.cluster.as_deref(), &operator_namespace, file).await
        }
    }
}
