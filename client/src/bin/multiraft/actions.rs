//! What an operator of the system can ask for.

use clap::{Args, Subcommand};
use multiraft_client::v1;

const NODE_NAMES: &str = "NODE is a node id as `multiraft node list` prints it, or its beginning, or \
    the node's client address.";

const LIST_HELP: &str = "Example:\n  multiraft node list -o yaml";

const DRAIN_HELP: &str = "Examples:\n  \
    multiraft node check 10.0.0.7:5678     would anything be in danger without it?\n  \
    multiraft node drain 10.0.0.7:5678     lead nothing there, then stop and restart it\n  \
    multiraft node undrain 10.0.0.7:5678   not needed after a restart";

const CHECK_HELP: &str = "Exit code 0: the node may stop. 1: some groups would lose their majority, or \
    rest on a member that is behind.\n\nExample:\n  \
    multiraft node check 10.0.0.7:5678 && multiraft node drain 10.0.0.7:5678";

const ADD_HELP: &str = "The node gets an empty learner, which is made a voter when it has caught up.\n\n\
    Examples:\n  \
    multiraft group add 7 10.0.0.9:5678             one voter more\n  \
    multiraft group add 7 10.0.0.9:5678 --learner   a copy that does not vote";

const REMOVE_HELP: &str = "Works for nodes that are gone as well. Refused when too few of the voters \
    that are left can be reached.\n\nExample, to replace a lost node in group 7:\n  \
    multiraft group remove 7 5f0c\n  \
    multiraft group add 7 10.0.0.9:5678";

const TRANSFER_HELP: &str = "Examples:\n  \
    multiraft group transfer 7                  to the voter that has most of the log\n  \
    multiraft group transfer 7 10.0.0.9:5678    to this one";

const DESTROY_HELP: &str = "Whoever waits for it is canceled, and sessions that used it are answered \
    FORBIDDEN: their clients are to be started anew.\n\nExample:\n  \
    multiraft primitive destroy map users";

const QUOTA_HELP: &str = "What is there already stays; what would pass a limit is refused as \
    invalid.\n\nExample:\n  \
    multiraft quota set shop --primitives 1000 --bytes 67108864";

#[derive(Subcommand)]
pub enum NodeAction {
    /// Print the nodes that can be reached
    #[command(alias = "info", after_help = LIST_HELP)]
    List,
    /// Print all that one node says of itself
    #[command(after_help = NODE_NAMES)]
    Show { node: String },
    /// Hand over all that a node leads, before it is stopped; it goes on voting and answering
    #[command(after_help = DRAIN_HELP)]
    Drain {
        node: String,
        /// Return at once instead of when the node leads nothing that another could
        #[arg(long)]
        no_wait: bool,
        #[command(flatten)]
        fence: FenceOption,
    },
    /// Let a node lead again
    Undrain {
        node: String,
        #[command(flatten)]
        fence: FenceOption,
    },
    /// Print the groups that would be in danger if a node stopped now
    #[command(after_help = CHECK_HELP)]
    Check {
        node: String,
        /// Entries that a remaining voter may be behind
        #[arg(long, default_value_t = 64, value_name = "ENTRIES")]
        lag_max: u64,
    },
    /// Give a node a member of a group; the same as `group add`
    #[command(after_help = ADD_HELP)]
    Join {
        node: String,
        group: u32,
        #[command(flatten)]
        options: AddOptions,
    },
    /// Take a node that runs out of a group, and delete the group's data there
    Leave {
        node: String,
        group: u32,
        #[command(flatten)]
        fence: FenceOption,
    },
    /// Delete what is left on a node of a member that its group has removed
    DeleteData {
        node: String,
        group: u32,
        member_id: u64,
        #[command(flatten)]
        fence: FenceOption,
    },
}

#[derive(Subcommand)]
pub enum GroupAction {
    /// Print the groups with their leaders and members
    #[command(after_help = "Example:\n  multiraft group list --of visits")]
    List {
        /// Only the group that holds the primitive of this name
        #[arg(long, value_name = "NAME")]
        of: Option<String>,
    },
    /// Print one group: its state, and each member with its lag and snapshot
    Show { group: u32 },
    /// Print the members of a group
    Members { group: u32 },
    /// Give a node a member of the group
    #[command(after_help = ADD_HELP)]
    Add {
        group: u32,
        node: String,
        #[command(flatten)]
        options: AddOptions,
    },
    /// Make a learner that has caught up a voter
    Promote {
        group: u32,
        node: String,
        #[command(flatten)]
        fence: FenceOption,
    },
    /// Remove a node's member from the group
    #[command(after_help = REMOVE_HELP)]
    Remove {
        group: u32,
        node: String,
        #[command(flatten)]
        fence: FenceOption,
    },
    /// Hand the leadership of a group over
    #[command(after_help = TRANSFER_HELP)]
    Transfer {
        group: u32,
        /// The node that shall lead
        node: Option<String>,
        #[command(flatten)]
        fence: FenceOption,
    },
}

#[derive(Subcommand)]
pub enum SessionAction {
    /// Print the open sessions of clients; a client has one in each partition that it uses
    List {
        /// Only of this group
        #[arg(long)]
        group: Option<u32>,
    },
    /// End a session as if its client had gone: its locks are released, its candidates withdrawn
    #[command(after_help = "Example, with ids of `multiraft session list`:\n  \
        multiraft session expire 7 1042")]
    Expire {
        group: u32,
        session: u64,
        #[command(flatten)]
        fence: FenceOption,
    },
}

#[derive(Subcommand)]
pub enum PrimitiveAction {
    /// Print the primitives, with what is in them in all partitions together
    List {
        /// Only of this group
        #[arg(long)]
        group: Option<u32>,
    },
    /// Delete a primitive with all that is in it, in all partitions
    #[command(after_help = DESTROY_HELP)]
    Destroy {
        /// As `primitive list` prints it, such as map or lock
        r#type: String,
        name: String,
        #[command(flatten)]
        fence: FenceOption,
    },
}

#[derive(Subcommand)]
pub enum QuotaAction {
    /// Print the quotas of namespaces, each with the partition that is nearest to its limit
    List,
    /// Limit what a namespace may take in each partition; limits that are left out are none
    #[command(after_help = QUOTA_HELP)]
    Set {
        namespace: String,
        #[command(flatten)]
        limits: Limits,
        #[command(flatten)]
        fence: FenceOption,
    },
    /// Let a namespace take what it likes
    Remove {
        namespace: String,
        #[command(flatten)]
        fence: FenceOption,
    },
}

#[derive(Args, Clone, Copy, Default)]
#[group(required = true, multiple = true)]
pub struct Limits {
    /// Number of primitives
    #[arg(long, value_name = "COUNT")]
    pub primitives: Option<u64>,
    /// Memory of their contents, in bytes
    #[arg(long, value_name = "BYTES")]
    pub bytes: Option<u64>,
    /// Number of sessions that use them
    #[arg(long, value_name = "COUNT")]
    pub sessions: Option<u64>,
}

#[derive(Args, Clone)]
pub struct AddOptions {
    /// Leave it a learner instead of making it a voter when it has caught up
    #[arg(long)]
    pub learner: bool,
    /// Id of the new member; one that the group never had [default: the next one]
    #[arg(long, value_name = "ID")]
    pub member_id: Option<u64>,
    #[command(flatten)]
    pub fence: FenceOption,
}

#[derive(Args, Clone)]
pub struct FenceOption {
    /// Needed for nodes of an operator, which is to be paused first: it may undo the change
    #[arg(long, value_name = "CLUSTER_ID:EPOCH", value_parser = fence)]
    pub fence: Option<v1::Fence>,
}

fn fence(text: &str) -> Result<v1::Fence, String> {
    let wrong = || "write CLUSTER_ID:EPOCH, as `multiraft node show` prints them".to_owned();
    let (cluster_id, epoch) = text.rsplit_once(':').ok_or_else(wrong)?;
    let operator_epoch = epoch.parse().ok().filter(|epoch| *epoch > 0).ok_or_else(wrong)?;
    if cluster_id.is_empty() {
        return Err(wrong());
    }
    Ok(v1::Fence { cluster_id: cluster_id.into(), operator_epoch, ..v1::Fence::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_names_cluster_and_epoch() {
        let read = fence("a:b:7").expect("it is one");
        assert_eq!((read.cluster_id.as_str(), read.operator_epoch), ("a:b", 7));
        for wrong in ["", "a", "a:", "a:0", ":1", "a:b"] {
            assert!(fence(wrong).is_err(), "{wrong}");
        }
    }
}
