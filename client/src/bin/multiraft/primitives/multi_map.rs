//! `multiraft multimap`

use clap::Subcommand;
use multiraft_client::{Answer, Answers, Cluster, Event};
use serde_json::json;
use std::collections::BTreeMap;

use super::{Advice, Part, Read, Watched, answered, cleared, gathered, pair, size, stream, with};
use crate::arguments::{Output, Reach};
use crate::report::{Failure, Report};

#[derive(Subcommand)]
pub enum MultiMapAction {
    /// Print the values of a key, one per line
    Get {
        name: String,
        key: String,
        #[command(flatten)]
        read: Read,
    },
    /// Print whether a key has a value
    Contains {
        name: String,
        key: String,
        value: String,
        #[command(flatten)]
        read: Read,
    },
    /// Add a value to a key; rejected when it is there
    Put { name: String, key: String, value: String },
    /// Add the missing ones of several values to a key
    PutAll {
        name: String,
        key: String,
        #[arg(required = true)]
        values: Vec<String>,
    },
    /// Add the missing ones of several values to several keys
    PutEntries {
        name: String,
        #[arg(required = true, value_name = "KEY=VALUE", value_parser = pair)]
        entries: Vec<(String, String)>,
    },
    /// Give a key exactly these values, none to remove it; print those before
    Replace { name: String, key: String, values: Vec<String> },
    /// Remove a value of a key
    Remove { name: String, key: String, value: String },
    /// Remove several values of a key, as far as they are there
    RemoveAll {
        name: String,
        key: String,
        #[arg(required = true)]
        values: Vec<String>,
    },
    /// Remove several values of several keys, as far as they are there
    RemoveEntries {
        name: String,
        #[arg(required = true, value_name = "KEY=VALUE", value_parser = pair)]
        entries: Vec<(String, String)>,
    },
    /// Print all keys with their values, one per line
    Entries {
        name: String,
        #[command(flatten)]
        part: Part,
        #[command(flatten)]
        read: Read,
    },
    /// Print what changes, until Ctrl-C
    Watch {
        name: String,
        #[command(flatten)]
        watched: Watched,
    },
    /// Count the keys
    Size {
        name: String,
        #[command(flatten)]
        read: Read,
    },
    /// Remove all keys
    Clear { name: String },
}

const ADVICE: Advice = Advice {
    conflict: "",
    not_found: "`multiraft multimap get` prints what a key has",
    already_exists: "nothing needs to be done; `multiraft multimap put-all` takes that for success",
};

pub async fn run(reach: &Reach, action: MultiMapAction, output: Output) -> Result<Report, Failure> {
    with(reach, |cluster| act(cluster, action, output)).await
}

async fn act(cluster: Cluster, action: MultiMapAction, output: Output) -> Result<Report, Failure> {
    use MultiMapAction as Action;
    let advise = |error| ADVICE.of(error);
    let map = |name: String, read: Read| {
        let map = cluster.multi_map(name);
        if read.local { map.local() } else { map }
    };
    match action {
        Action::Get { name, key, read } => Ok(values(&map(name, read).get(&key).await?)),
        Action::Contains { name, key, value, read } => {
            let answer = map(name, read).contains(&key, &value).await?;
            Ok(answered(answer.value.to_string(), json!({"contains": answer.value}), &answer))
        }
        Action::Put { name, key, value } => {
            let done = cluster.multi_map(name).put(&key, &value).await.map_err(advise)?;
            Ok(answered("added", json!({"updated": true}), &done))
        }
        Action::PutAll { name, key, values } => {
            let answer = cluster.multi_map(name).put_all(&key, values).await?;
            Ok(answered(changed(answer.value), json!({"updated": answer.value}), &answer))
        }
        Action::PutEntries { name, entries } => {
            Ok(updated(&cluster.multi_map(name).put_entries(grouped(entries)).await?))
        }
        Action::Replace { name, key, values: new } => {
            Ok(values(&cluster.multi_map(name).replace(&key, new).await?))
        }
        Action::Remove { name, key, value } => {
            let done = cluster.multi_map(name).remove(&key, &value).await.map_err(advise)?;
            Ok(answered("removed", json!({"updated": true}), &done))
        }
        Action::RemoveAll { name, key, values } => {
            let answer = cluster.multi_map(name).remove_all(&key, values).await.map_err(advise)?;
            Ok(answered(changed(answer.value), json!({"updated": answer.value}), &answer))
        }
        Action::RemoveEntries { name, entries } => {
            Ok(updated(&cluster.multi_map(name).remove_entries(grouped(entries)).await?))
        }
        Action::Entries { name, part, read } => {
            let show = |answer: Answer<(String, Vec<String>)>| {
                let (key, values) = answer.value;
                let cells = vec![key.clone().into(), values.join(" ").into()];
                stream::Item { cells, json: json!({"key": key, "values": values}) }
            };
            stream::print(map(name, read).entries_in(part.into()), output, show).await
        }
        Action::Watch { name, watched } => {
            let map = cluster.multi_map(name);
            let events = match watched.prefix {
                Some(prefix) => map.events_with_prefix(&prefix).await?,
                None => map.events(watched.key.as_deref()).await?,
            };
            let value = |value: &String| stream::Item {
                cells: vec![value.clone().into()],
                json: value.clone().into(),
            };
            let show = |answer: Answer<Event<_>>| {
                stream::change(&answer.value.change, Some(&answer.value.key), value)
            };
            stream::print(events, output, show).await
        }
        Action::Size { name, read } => Ok(size(&map(name, read).size().await?)),
        Action::Clear { name } => Ok(cleared(&cluster.multi_map(name).clear().await?)),
    }
}

fn grouped(entries: Vec<(String, String)>) -> BTreeMap<String, Vec<String>> {
    let mut grouped: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (key, value) in entries {
        grouped.entry(key).or_default().push(value);
    }
    grouped
}

fn values(answer: &Answer<Vec<String>>) -> Report {
    answered(answer.value.join("\n"), json!({"values": answer.value}), answer)
}

fn updated(answers: &Answers<bool>) -> Report {
    gathered(changed(answers.value), json!({"updated": answers.value}), answers)
}

fn changed(is_changed: bool) -> &'static str {
    if is_changed { "changed" } else { "unchanged" }
}
