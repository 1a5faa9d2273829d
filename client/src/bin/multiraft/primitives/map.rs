//! `multiraft map`

use std::ffi::OsString;

use clap::{Args, Subcommand};
use multiraft_client::{Answer, Cluster, Event, Versioned, Write};
use serde_json::{Value, json};

use super::guarded::{self, Wait};
use super::{
    Advice, Condition, Life, Part, Read, Terms, Watched, cleared, found, item, pair, size, stream,
    versioned, with, written,
};
use crate::arguments::{Output, Reach};
use crate::report::{Failure, Report};

const IMPORT_HELP: &str = "A line is {\"key\":…,\"value\":…}, or {\"key\":…,\"bytes\":[…]} for what is no text. \
    Other entries stay; times to live are not carried over.\n\nExample:\n  \
    multiraft map export users | multiraft map import users --endpoints 10.0.0.7:5678";

const TRANSACT_HELP: &str = "All of it happens or nothing. Keys are distinct.\n\nExample:\n  \
    multiraft map transact stock --update apples=6 --insert basket-7=apple --remove offer";

#[derive(Subcommand)]
pub enum MapAction {
    /// Write an entry, whether it is there or not
    Put {
        name: String,
        key: String,
        value: String,
        #[command(flatten)]
        terms: Terms,
    },
    /// Print an entry
    Get {
        name: String,
        key: String,
        #[command(flatten)]
        read: Read,
    },
    /// Write a new entry; rejected when the key is there
    Insert {
        name: String,
        key: String,
        value: String,
        #[command(flatten)]
        life: Life,
    },
    /// Replace an entry; rejected when the key is not there
    Update {
        name: String,
        key: String,
        value: String,
        #[command(flatten)]
        terms: Terms,
    },
    /// Remove an entry and print what it was
    Remove {
        name: String,
        key: String,
        #[command(flatten)]
        condition: Condition,
    },
    /// Print all entries, one per line
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
    /// Print all entries as JSON lines, for `multiraft map import`
    Export {
        name: String,
        #[command(flatten)]
        part: Part,
    },
    /// Write entries from JSON lines on standard input, as `multiraft map export` prints them
    #[command(after_help = IMPORT_HELP)]
    Import { name: String },
    /// Count the entries
    Size {
        name: String,
        #[command(flatten)]
        read: Read,
    },
    /// Remove all entries
    Clear { name: String },
    /// Several writes that happen together or not at all
    #[command(after_help = TRANSACT_HELP)]
    Transact {
        name: String,
        #[command(flatten)]
        writes: Writes,
    },
    /// Run a command while keys are locked against others that lock them
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

#[derive(Args)]
#[group(required = true, multiple = true)]
pub struct Writes {
    /// Write an entry
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    put: Vec<(String, String)>,
    /// Write an entry that must be new
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    insert: Vec<(String, String)>,
    /// Replace an entry that must be there
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    update: Vec<(String, String)>,
    /// Remove an entry that must be there
    #[arg(long, value_name = "KEY")]
    remove: Vec<String>,
}

const ADVICE: Advice = Advice {
    conflict: "`multiraft map get -o json` prints the present version; a key may also be part of \
               a transaction, then try again",
    not_found: "make it with `multiraft map put` or `insert`",
    already_exists: "`multiraft map put` or `update` replaces it",
};

pub async fn run(reach: &Reach, action: MapAction, output: Output) -> Result<Report, Failure> {
    with(reach, |cluster| act(cluster, action, output)).await
}

async fn act(cluster: Cluster, action: MapAction, output: Output) -> Result<Report, Failure> {
    let advise = |error| ADVICE.of(error);
    let key_of = |key: &str| format!("key {key:?}");
    match action {
        MapAction::Put { name, key, value, terms } => {
            let answer = cluster.map(name).put_with(&key, value, terms.into()).await;
            Ok(written(&answer.map_err(advise)?))
        }
        MapAction::Insert { name, key, value, life } => {
            let answer = cluster.map(name).insert_with(&key, value, life.ttl).await;
            Ok(written(&answer.map_err(advise)?))
        }
        MapAction::Update { name, key, value, terms } => {
            let answer = cluster.map(name).update_with(&key, value, terms.into()).await;
            Ok(written(&answer.map_err(advise)?))
        }
        MapAction::Get { name, key, read } => {
            let map = cluster.map(name);
            found(&key_of(&key), if read.local { map.local() } else { map }.get(&key).await?)
        }
        MapAction::Remove { name, key, condition } => {
            let answer = cluster.map(name).remove_if(&key, condition.version()).await;
            found(&key_of(&key), answer.map_err(advise)?)
        }
        MapAction::Entries { name, part, read } => {
            let map = cluster.map(name);
            let entries = if read.local { map.local() } else { map }.entries_in(part.into());
            stream::print(entries, output, |answer| entry(&answer.value)).await
        }
        MapAction::Export { name, part } => {
            let entries = cluster.map(name).entries_in(part.into());
            stream::print(entries, Output::Json, |answer| entry(&answer.value)).await
        }
        MapAction::Import { name } => super::import::run(&cluster.map(name)).await,
        MapAction::Watch { name, watched } => {
            let map = cluster.map(name);
            let events = match watched.prefix {
                Some(prefix) => map.events_with_prefix(&prefix).await?,
                None => map.events(watched.key.as_deref()).await?,
            };
            let show = |answer: Answer<Event<_>>| {
                let Event { key, change } = &answer.value;
                stream::change(change, Some(key), item)
            };
            stream::print(events, output, show).await
        }
        MapAction::Size { name, read } => {
            let map = cluster.map(name);
            Ok(size(&if read.local { map.local() } else { map }.size().await?))
        }
        MapAction::Clear { name } => Ok(cleared(&cluster.map(name).clear().await.map_err(advise)?)),
        MapAction::Transact { name, writes } => transact(&cluster, name, writes).await,
        MapAction::Hold { name, keys, wait, command } => {
            let map = cluster.map(&name);
            guarded::with_keys(map.lock(keys, wait.longest()), &name, command).await
        }
    }
}

fn entry((key, value): &(String, Versioned)) -> stream::Item {
    let mut item = item(value);
    item.cells.insert(0, key.clone().into());
    item.json["key"] = key.clone().into();
    item
}

async fn transact(cluster: &Cluster, name: String, writes: Writes) -> Result<Report, Failure> {
    let mut transaction = cluster.map(name).transaction();
    let mut keys = Vec::new();
    for (key, value) in writes.put {
        transaction = transaction.put(&key, value, Write::default());
        keys.push(key);
    }
    for (key, value) in writes.insert {
        transaction = transaction.insert(&key, value, None);
        keys.push(key);
    }
    for (key, value) in writes.update {
        transaction = transaction.update(&key, value, Write::default());
        keys.push(key);
    }
    for key in writes.remove {
        transaction = transaction.remove(&key, None);
        keys.push(key);
    }
    let changes = transaction.commit().await.map_err(|error| ADVICE.of(error))?;
    let rows = keys.iter().zip(&changes).map(|(key, change)| {
        json!({
            "key": key,
            "version": change.version.map(|version| version.0),
            "previous": change.previous.as_ref().map(versioned),
        })
    });
    Ok(Report::new(format!("{} written", changes.len()), rows.collect::<Value>()))
}
