//! `multiraft value`

use clap::Subcommand;
use multiraft_client::{Cluster, Versioned};
use serde_json::Value;

use super::{Advice, Condition, Life, Read, Terms, found, item, stream, with, written};
use crate::arguments::{Output, Reach};
use crate::report::{Failure, Report};

#[derive(Subcommand)]
pub enum ValueAction {
    /// Print the value
    Get {
        name: String,
        #[command(flatten)]
        read: Read,
    },
    /// Write the value, whether there is one or not
    Set {
        name: String,
        value: String,
        #[command(flatten)]
        life: Life,
    },
    /// Write the value where there is none; rejected otherwise
    Insert {
        name: String,
        value: String,
        #[command(flatten)]
        life: Life,
    },
    /// Replace the value; rejected when there is none
    Update {
        name: String,
        value: String,
        #[command(flatten)]
        terms: Terms,
    },
    /// Print the value and every later one, until Ctrl-C
    Watch { name: String },
    /// Remove the value and print what it was
    Delete {
        name: String,
        #[command(flatten)]
        condition: Condition,
    },
}

const ADVICE: Advice = Advice {
    conflict: "`multiraft value get -o json` prints the present version",
    not_found: "make it with `multiraft value set` or `insert`",
    already_exists: "`multiraft value set` or `update` replaces it",
};

pub async fn run(reach: &Reach, action: ValueAction, output: Output) -> Result<Report, Failure> {
    with(reach, |cluster| act(cluster, action, output)).await
}

async fn act(cluster: Cluster, action: ValueAction, output: Output) -> Result<Report, Failure> {
    let advise = |error| ADVICE.of(error);
    match action {
        ValueAction::Get { name, read } => {
            let value = cluster.value(&name);
            let answer = if read.local { value.local() } else { value }.get().await?;
            found(&format!("value {name:?}"), answer)
        }
        ValueAction::Set { name, value, life } => {
            Ok(written(&cluster.value(name).set_with(value, life.ttl).await?))
        }
        ValueAction::Insert { name, value, life } => {
            Ok(written(&cluster.value(name).insert(value, life.ttl).await.map_err(advise)?))
        }
        ValueAction::Update { name, value, terms } => {
            Ok(written(&cluster.value(name).update(value, terms.into()).await.map_err(advise)?))
        }
        ValueAction::Watch { name } => {
            let values = cluster.value(name).watch().await?;
            stream::print(values, output, |answer| present(answer.value.as_ref())).await
        }
        ValueAction::Delete { name, condition } => {
            let answer = cluster.value(&name).delete(condition.version()).await;
            found(&format!("value {name:?}"), answer.map_err(advise)?)
        }
    }
}

/// The value, or that there is none any more.
fn present(value: Option<&Versioned>) -> stream::Item {
    let none = || stream::Item { cells: vec![b"(none)".into()], json: Value::Null };
    value.map_or_else(none, item)
}
