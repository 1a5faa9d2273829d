//! `multiraft election`

use std::ffi::OsString;

use clap::Subcommand;
use multiraft_client::{Answer, Cluster, Term};
use serde_json::{Value, json};

use super::guarded::{self, Guarded};
use super::{Read, answered, stream, with};
use crate::arguments::{Output, Reach};
use crate::report::{Failure, Report};
use crate::table::Table;

const CAMPAIGN_HELP: &str = "Without a command it prints the term and leads until it is interrupted or \
    another one leads. With one, the command runs as long as the candidate leads, with the term in its \
    environment as MULTIRAFT_FENCING_TOKEN; it gets SIGTERM when another one leads, and its exit code \
    is passed on.\n\n\
    Examples:\n  \
    multiraft election campaign scheduler --candidate \"$HOSTNAME\" -- ./scheduler\n  \
    multiraft election show scheduler";

#[derive(Subcommand)]
pub enum ElectionAction {
    /// Print who leads and who is queued
    Show {
        name: String,
        #[command(flatten)]
        read: Read,
    },
    /// Print the term and every change of it, until Ctrl-C
    Watch { name: String },
    /// Enter a candidate and wait until it leads
    #[command(after_help = CAMPAIGN_HELP)]
    Campaign {
        name: String,
        /// Its name, distinct from those of the others
        #[arg(long)]
        candidate: String,
        #[arg(last = true)]
        command: Vec<OsString>,
    },
    /// Take a candidate out; if it led, the first of the queue leads
    Withdraw { name: String, candidate: String },
    /// Make a queued candidate the leader; the old one goes to the front of the queue
    Anoint { name: String, candidate: String },
    /// Move a candidate up by one place
    Promote { name: String, candidate: String },
    /// Move a candidate down by one place
    Demote { name: String, candidate: String },
    /// Remove a candidate, whoever entered it
    Evict { name: String, candidate: String },
}

pub async fn run(reach: &Reach, action: ElectionAction, output: Output) -> Result<Report, Failure> {
    with(reach, |cluster| act(cluster, action, output)).await
}

async fn act(cluster: Cluster, action: ElectionAction, output: Output) -> Result<Report, Failure> {
    use ElectionAction as Action;
    let answer = match action {
        Action::Show { name, read } => {
            let election = cluster.election(name);
            if read.local { election.local() } else { election }.term().await
        }
        Action::Withdraw { name, candidate } => cluster.election(name).withdraw(&candidate).await,
        Action::Anoint { name, candidate } => cluster.election(name).anoint(&candidate).await,
        Action::Promote { name, candidate } => cluster.election(name).promote(&candidate).await,
        Action::Demote { name, candidate } => cluster.election(name).demote(&candidate).await,
        Action::Evict { name, candidate } => cluster.election(name).evict(&candidate).await,
        Action::Watch { name } => {
            let terms = cluster.election(name).watch().await?;
            return stream::print(terms, output, |answer| stream::Item {
                cells: cells(&answer.value).map(String::into_bytes).into(),
                json: json(&answer.value),
            })
            .await;
        }
        Action::Campaign { name, candidate, command } => {
            return campaign(&cluster, &name, &candidate, command).await;
        }
    };
    Ok(term(&answer?))
}

async fn campaign(
    cluster: &Cluster,
    name: &str,
    candidate: &str,
    command: Vec<OsString>,
) -> Result<Report, Failure> {
    let election = cluster.election(name);
    let leadership = guarded::unless_interrupted(election.campaign(candidate)).await??;
    let environment = [
        ("MULTIRAFT_ELECTION", name.to_owned()),
        ("MULTIRAFT_CANDIDATE", candidate.to_owned()),
        ("MULTIRAFT_FENCING_TOKEN", leadership.token().to_string()),
    ];
    if command.is_empty() {
        eprintln!("{candidate} leads, term {}; until Ctrl-C", leadership.token());
    }
    let run = Guarded { what: "leadership", command, environment: environment.into() };
    let report = run.while_not(leadership.lost()).await;
    // Closing the session withdraws it, within a bounded time.
    drop(leadership);
    report
}

fn term(answer: &Answer<Term>) -> Report {
    let mut table = Table::new(["TERM", "LEADER", "QUEUE"]);
    table.row(cells(&answer.value));
    answered(table.text(), json(&answer.value), answer)
}

fn cells(Term { token, leader, queue }: &Term) -> [String; 3] {
    let leads = leader.clone().unwrap_or_else(|| "-".into());
    let queued = if queue.is_empty() { "-".into() } else { queue.join(" ") };
    [token.to_string(), leads, queued]
}

fn json(Term { token, leader, queue }: &Term) -> Value {
    json!({"term": token.0, "leader": leader, "queue": queue})
}
