//! `multiraft indexedmap`

use clap::{Args, Subcommand};
use multiraft_client::{Answer, Cluster, IndexedEntry, Place};
use serde_json::{Value, json};

use super::{Advice, Condition, Life, Read, Terms, Watched, answered, stream, versioned, with};
use crate::arguments::{Output, Reach};
use crate::report::{Failure, Report};

#[derive(Subcommand)]
pub enum IndexedMapAction {
    /// Add an entry behind the others and print its index; rejected when the key is there
    Append {
        name: String,
        key: String,
        value: String,
        #[command(flatten)]
        life: Life,
    },
    /// Replace the value of an entry, which keeps its place
    Update {
        name: String,
        #[command(flatten)]
        place: PlaceArgument,
        value: String,
        #[command(flatten)]
        terms: Terms,
    },
    /// Remove an entry and print what it was
    Remove {
        name: String,
        #[command(flatten)]
        place: PlaceArgument,
        #[command(flatten)]
        condition: Condition,
    },
    /// Print an entry
    Get {
        name: String,
        #[command(flatten)]
        place: PlaceArgument,
        #[command(flatten)]
        read: Read,
    },
    /// Print the first entry
    First {
        name: String,
        #[command(flatten)]
        read: Read,
    },
    /// Print the last entry
    Last {
        name: String,
        #[command(flatten)]
        read: Read,
    },
    /// Print the nearest entry before an index
    Before {
        name: String,
        index: u64,
        #[command(flatten)]
        read: Read,
    },
    /// Print the nearest entry after an index
    After {
        name: String,
        index: u64,
        #[command(flatten)]
        read: Read,
    },
    /// Print all entries, one per line
    Entries {
        name: String,
        /// Only from this index on
        #[arg(long, value_name = "INDEX")]
        start: Option<u64>,
        /// Only up to this index, without it
        #[arg(long, value_name = "INDEX")]
        end: Option<u64>,
        #[command(flatten)]
        read: Read,
    },
    /// Print what changes, until Ctrl-C
    Watch {
        name: String,
        #[command(flatten)]
        watched: Watched,
    },
    /// Count the entries
    Size {
        name: String,
        #[command(flatten)]
        read: Read,
    },
    /// Remove all entries
    Clear { name: String },
}

#[derive(Args)]
pub struct PlaceArgument {
    /// Key of the entry, or its index with --by-index
    #[arg(value_name = "KEY|INDEX")]
    place: String,
    /// The entry is named by its index
    #[arg(long)]
    by_index: bool,
}

impl PlaceArgument {
    fn place(&self) -> Result<Place<'_>, Failure> {
        if !self.by_index {
            return Ok(Place::Key(&self.place));
        }
        let index = self.place.parse().map_err(|_| {
            Failure::usage(format!("index {:?}: write a number from 1 on", self.place))
        })?;
        Ok(Place::Index(index))
    }
}

const ADVICE: Advice = Advice {
    conflict: "`multiraft indexedmap get -o json` prints the present version",
    not_found: "make it with `multiraft indexedmap append`",
    already_exists: "`multiraft indexedmap update` replaces it",
};

pub async fn run(
    reach: &Reach,
    action: IndexedMapAction,
    output: Output,
) -> Result<Report, Failure> {
    with(reach, |cluster| act(cluster, action, output)).await
}

async fn act(
    cluster: Cluster,
    action: IndexedMapAction,
    output: Output,
) -> Result<Report, Failure> {
    use IndexedMapAction as Action;
    let advise = |error| ADVICE.of(error);
    let map = |name: String, read: Read| {
        let map = cluster.indexed_map(name);
        if read.local { map.local() } else { map }
    };
    match action {
        Action::Append { name, key, value, life } => {
            let answer = cluster.indexed_map(name).append(&key, value, life.ttl).await;
            let answer = answer.map_err(advise)?;
            Ok(answered(answer.value.index.to_string(), entry(&answer.value), &answer))
        }
        Action::Update { name, place, value, terms } => {
            let map = cluster.indexed_map(name);
            let answer = map.update(place.place()?, value, terms.into()).await.map_err(advise)?;
            let text = format!("version {}", answer.value.value.version);
            Ok(answered(text, entry(&answer.value), &answer))
        }
        Action::Remove { name, place, condition } => {
            let map = cluster.indexed_map(name);
            let answer = map.remove(place.place()?, condition.version()).await.map_err(advise)?;
            let value = answer.value.value.value.to_vec();
            Ok(answered(value, entry(&answer.value), &answer))
        }
        Action::Get { name, place, read } => found(map(name, read).get(place.place()?).await?),
        Action::First { name, read } => found(map(name, read).first().await?),
        Action::Last { name, read } => found(map(name, read).last().await?),
        Action::Before { name, index, read } => found(map(name, read).before(index).await?),
        Action::After { name, index, read } => found(map(name, read).after(index).await?),
        Action::Entries { name, start, end, read } => {
            let indexes = start.unwrap_or(0)..end.unwrap_or(u64::MAX);
            let entries = map(name, read).entries_in(indexes);
            stream::print(entries, output, |answer| item(&answer.value)).await
        }
        Action::Watch { name, watched } => {
            let map = cluster.indexed_map(name);
            let events = match watched.prefix {
                Some(prefix) => map.events_with_prefix(&prefix).await?,
                None => map.events(watched.key.as_deref()).await?,
            };
            let show = |answer: Answer<_>| stream::change(&answer.value, None, item);
            stream::print(events, output, show).await
        }
        Action::Size { name, read } => {
            let answer = map(name, read).size().await?;
            Ok(answered(answer.value.to_string(), json!({"size": answer.value}), &answer))
        }
        Action::Clear { name } => {
            let answer = cluster.indexed_map(name).clear().await?;
            Ok(answered("cleared", json!({"cleared": true}), &answer))
        }
    }
}

fn entry(entry: &IndexedEntry) -> Value {
    let mut json = versioned(&entry.value);
    json["key"] = entry.key.clone().into();
    json["place"] = entry.index.into();
    json
}

fn item(found: &IndexedEntry) -> stream::Item {
    let place = found.index.to_string().into();
    let cells = vec![place, found.key.clone().into(), found.value.value.to_vec()];
    stream::Item { cells, json: entry(found) }
}

/// Index, key and value of an entry.
fn found(answer: Answer<Option<IndexedEntry>>) -> Result<Report, Failure> {
    let Some(found) = &answer.value else {
        return Err(Failure::rejected("there is no such entry"));
    };
    Ok(answered(item(found).cells.join(&b"  "[..]), entry(found), &answer))
}
