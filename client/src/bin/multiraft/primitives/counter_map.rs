//! `multiraft countermap`

use std::ffi::OsString;

use clap::Subcommand;
use multiraft_client::{Answer, Cluster, Event};
use serde_json::json;

use super::guarded::{self, Wait};
use super::{Advice, Part, Read, Watched, answered, cleared, size, stream, with};
use crate::arguments::{Output, Reach};
use crate::report::{Failure, Report};

#[derive(Subcommand)]
pub enum CounterMapAction {
    /// Print the number of a key
    Get {
        name: String,
        key: String,
        #[command(flatten)]
        read: Read,
    },
    /// Set the number of a key, whether it is there or not; print the number before
    Set {
        name: String,
        key: String,
        #[arg(allow_negative_numbers = true)]
        value: i64,
    },
    /// Make a new key; rejected when it is there
    Insert {
        name: String,
        key: String,
        #[arg(allow_negative_numbers = true)]
        value: i64,
    },
    /// Set the number of a key that has the number COMPARE
    Update {
        name: String,
        key: String,
        #[arg(allow_negative_numbers = true)]
        compare: i64,
        #[arg(allow_negative_numbers = true)]
        value: i64,
    },
    /// Add to the number of a key, 0 when it is new; print the number before
    Increment {
        name: String,
        key: String,
        #[arg(default_value_t = 1, allow_negative_numbers = true)]
        value: i64,
    },
    /// Subtract from the number of a key, 0 when it is new; print the number before
    Decrement {
        name: String,
        key: String,
        #[arg(default_value_t = 1, allow_negative_numbers = true)]
        value: i64,
    },
    /// Remove a key that has the number COMPARE
    Remove {
        name: String,
        key: String,
        #[arg(allow_negative_numbers = true)]
        compare: i64,
    },
    /// Print all keys with their numbers, one per line
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
    /// Run a command while keys are locked
    #[command(after_help = guarded::HELP)]
    Hold {
        name: String,
        #[arg(required = true)]
        keys: Vec<String>,
        #[command(flatten)]
        wait: Wait,
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
}

const ADVICE: Advice = Advice {
    conflict: "read the present number with `multiraft countermap get`",
    not_found: "make it with `multiraft countermap set` or `insert`",
    already_exists: "`multiraft countermap set` replaces it",
};

pub async fn run(
    reach: &Reach,
    action: CounterMapAction,
    output: Output,
) -> Result<Report, Failure> {
    with(reach, |cluster| act(cluster, action, output)).await
}

async fn act(
    cluster: Cluster,
    action: CounterMapAction,
    output: Output,
) -> Result<Report, Failure> {
    use CounterMapAction as Action;
    let advise = |error| ADVICE.of(error);
    match action {
        Action::Get { name, key, read } => {
            let map = cluster.counter_map(name);
            let map = if read.local { map.local() } else { map };
            let answer = map.get(&key).await?;
            let Some(value) = answer.value else {
                return Err(Failure::rejected(format!("key {key:?} is not there")));
            };
            Ok(answered(value.to_string(), json!({"value": value}), &answer))
        }
        Action::Set { name, key, value } => {
            Ok(before(&cluster.counter_map(name).set(&key, value).await?))
        }
        Action::Insert { name, key, value } => {
            let done = cluster.counter_map(name).insert(&key, value).await.map_err(advise)?;
            Ok(answered("inserted", json!({"inserted": true}), &done))
        }
        Action::Update { name, key, compare, value } => {
            let map = cluster.counter_map(name);
            let done = map.update(&key, compare, value).await.map_err(advise)?;
            Ok(answered("updated", json!({"updated": true}), &done))
        }
        Action::Increment { name, key, value } => {
            Ok(before(&cluster.counter_map(name).increment(&key, value).await?))
        }
        Action::Decrement { name, key, value } => {
            Ok(before(&cluster.counter_map(name).decrement(&key, value).await?))
        }
        Action::Remove { name, key, compare } => {
            let done = cluster.counter_map(name).remove(&key, compare).await.map_err(advise)?;
            Ok(answered("removed", json!({"removed": true}), &done))
        }
        Action::Entries { name, part, read } => {
            let map = cluster.counter_map(name);
            let entries = if read.local { map.local() } else { map }.entries_in(part.into());
            let show = |answer: Answer<(String, i64)>| {
                let (key, value) = answer.value;
                let cells = vec![key.clone().into(), value.to_string().into()];
                stream::Item { cells, json: json!({"key": key, "value": value}) }
            };
            stream::print(entries, output, show).await
        }
        Action::Watch { name, watched } => {
            let map = cluster.counter_map(name);
            let events = match watched.prefix {
                Some(prefix) => map.events_with_prefix(&prefix).await?,
                None => map.events(watched.key.as_deref()).await?,
            };
            let number = |value: &i64| stream::Item {
                cells: vec![value.to_string().into()],
                json: (*value).into(),
            };
            let show = |answer: Answer<Event<_>>| {
                stream::change(&answer.value.change, Some(&answer.value.key), number)
            };
            stream::print(events, output, show).await
        }
        Action::Size { name, read } => {
            let map = cluster.counter_map(name);
            Ok(size(&if read.local { map.local() } else { map }.size().await?))
        }
        Action::Clear { name } => Ok(cleared(&cluster.counter_map(name).clear().await?)),
        Action::Hold { name, keys, wait, command } => {
            let map = cluster.counter_map(&name);
            guarded::with_keys(map.lock(keys, wait.longest()), &name, command).await
        }
    }
}

fn before(answer: &Answer<i64>) -> Report {
    answered(answer.value.to_string(), json!({"previous": answer.value}), answer)
}
