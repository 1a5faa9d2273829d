//! `multiraft lock`

use std::ffi::OsString;

use clap::Subcommand;
use multiraft_client::Cluster;
use serde_json::json;

use super::guarded::{Guarded, Wait, refused, unless_interrupted};
use super::{Read, answered, with};
use crate::arguments::Reach;
use crate::report::{Failure, Report};

const HOLD_HELP: &str = "The command finds the fencing token in its environment as \
    MULTIRAFT_FENCING_TOKEN: every holder's is higher than those before, so what the lock protects can \
    refuse those who lost it. Its exit code is passed on. It gets SIGTERM when the lock is lost, \
    because the cluster could not be reached in time.\n\n\
    Examples:\n  \
    multiraft lock hold backup -- ./backup.sh\n  \
    multiraft lock hold backup --no-wait -- ./backup.sh   not when another one runs";

#[derive(Subcommand)]
pub enum LockAction {
    /// Run a command while the lock is held
    #[command(after_help = HOLD_HELP)]
    Hold {
        name: String,
        #[command(flatten)]
        wait: Wait,
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    /// Print whether the lock is held, and the holder's fencing token
    Status {
        name: String,
        #[command(flatten)]
        read: Read,
    },
}

pub async fn run(reach: &Reach, action: LockAction) -> Result<Report, Failure> {
    with(reach, |cluster| act(cluster, action)).await
}

async fn act(cluster: Cluster, action: LockAction) -> Result<Report, Failure> {
    match action {
        LockAction::Hold { name, wait, command } => {
            let lock = cluster.lock(&name);
            let acquire = async {
                match wait.longest() {
                    Some(longest) => lock.acquire_within(longest).await,
                    None => lock.acquire().await,
                }
            };
            let guard = unless_interrupted(acquire).await?.map_err(refused)?;
            let environment = vec![
                ("MULTIRAFT_LOCK", name),
                ("MULTIRAFT_FENCING_TOKEN", guard.token().to_string()),
            ];
            let run = Guarded { what: "lock", command, environment };
            let report = run.while_not(guard.lost()).await;
            // Closing the session releases it, within a bounded time.
            drop(guard);
            report
        }
        LockAction::Status { name, read } => {
            let lock = cluster.lock(name);
            let answer = if read.local { lock.local() } else { lock }.holder().await?;
            let token = answer.value;
            let text = token.map_or("free".into(), |token| format!("held, fencing token {token}"));
            let json = json!({"held": token.is_some(), "token": token.map(|token| token.0)});
            Ok(answered(text, json, &answer))
        }
    }
}
