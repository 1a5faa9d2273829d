//! `multiraft set`

use clap::Subcommand;
use multiraft_client::{Answer, Cluster};
use serde_json::json;

use super::{Life, Part, Read, answered, cleared, size, stream, with};
use crate::arguments::{Output, Reach};
use crate::report::{Failure, Report};

#[derive(Subcommand)]
pub enum SetAction {
    /// Add an element; print whether it was new
    Add {
        name: String,
        element: String,
        #[command(flatten)]
        life: Life,
    },
    /// Remove an element; print whether it was there
    Remove { name: String, element: String },
    /// Print whether an element is there
    Contains {
        name: String,
        element: String,
        #[command(flatten)]
        read: Read,
    },
    /// Count the elements
    Size {
        name: String,
        #[command(flatten)]
        read: Read,
    },
    /// Print all elements, one per line
    Elements {
        name: String,
        #[command(flatten)]
        part: Part,
        #[command(flatten)]
        read: Read,
    },
    /// Print what changes, until Ctrl-C
    Watch { name: String },
    /// Remove all elements
    Clear { name: String },
}

pub async fn run(reach: &Reach, action: SetAction, output: Output) -> Result<Report, Failure> {
    with(reach, |cluster| act(cluster, action, output)).await
}

async fn act(cluster: Cluster, action: SetAction, output: Output) -> Result<Report, Failure> {
    match action {
        SetAction::Add { name, element, life } => {
            let answer = cluster.set(name).add_with(&element, life.ttl).await?;
            Ok(said("added", &answer))
        }
        SetAction::Remove { name, element } => {
            Ok(said("removed", &cluster.set(name).remove(&element).await?))
        }
        SetAction::Contains { name, element, read } => {
            let set = cluster.set(name);
            let set = if read.local { set.local() } else { set };
            Ok(said("contains", &set.contains(&element).await?))
        }
        SetAction::Size { name, read } => {
            let set = cluster.set(name);
            Ok(size(&if read.local { set.local() } else { set }.size().await?))
        }
        SetAction::Elements { name, part, read } => {
            let set = cluster.set(name);
            let elements = if read.local { set.local() } else { set }.elements_in(part.into());
            stream::print(elements, output, |answer| element(&answer.value)).await
        }
        SetAction::Watch { name } => {
            let events = cluster.set(name).events().await?;
            let show =
                |answer: Answer<_>| stream::change(&answer.value, None, |e: &String| element(e));
            stream::print(events, output, show).await
        }
        SetAction::Clear { name } => Ok(cleared(&cluster.set(name).clear().await?)),
    }
}

fn element(element: &str) -> stream::Item {
    stream::Item { cells: vec![element.into()], json: element.into() }
}

fn said(field: &str, answer: &Answer<bool>) -> Report {
    answered(answer.value.to_string(), json!({field: answer.value}), answer)
}
