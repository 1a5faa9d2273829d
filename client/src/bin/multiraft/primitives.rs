//! Counters and maps.

use multiraft_client::{Answer, Cluster, Error, Options, Versioned, Write, Written};
use serde_json::{Value, json};

use crate::arguments::{CounterAction, MapAction, Reach};
use crate::report::{Failure, Report};

pub async fn counter(reach: &Reach, action: CounterAction) -> Result<Report, Failure> {
    let cluster = connect(reach).await?;
    let answer = match action {
        CounterAction::Get { name, local: false } => cluster.counter(name).get().await,
        CounterAction::Get { name, local: true } => cluster.counter(name).local().get().await,
        CounterAction::Set { name, value } => cluster.counter(name).set(value).await,
        CounterAction::Increment { name, value } => cluster.counter(name).increment(value).await,
        CounterAction::Decrement { name, value } => cluster.counter(name).decrement(value).await,
    };
    cluster.close().await;
    let answer = answer?;
    let json = json!({
        "value": answer.value, "partition": answer.partition, "index": answer.index,
    });
    Ok(Report::new(answer.value.to_string(), json))
}

pub async fn map(reach: &Reach, action: MapAction) -> Result<Report, Failure> {
    let cluster = connect(reach).await?;
    let report = act(&cluster, action).await;
    cluster.close().await;
    report
}

async fn act(cluster: &Cluster, action: MapAction) -> Result<Report, Failure> {
    match action {
        MapAction::Put { name, key, value, terms } => {
            let write = Write { ttl: terms.ttl, if_index: terms.if_index };
            written(cluster.map(name).put_with(&key, value, write).await)
        }
        MapAction::Insert { name, key, value, ttl } => {
            written(cluster.map(name).insert_with(&key, value, ttl).await)
        }
        MapAction::Update { name, key, value, terms } => {
            let write = Write { ttl: terms.ttl, if_index: terms.if_index };
            written(cluster.map(name).update_with(&key, value, write).await)
        }
        MapAction::Get { name, key, local } => {
            let map = cluster.map(name);
            let map = if local { map.local() } else { map };
            found(&key, map.get(&key).await?)
        }
        MapAction::Remove { name, key, if_index } => {
            found(&key, cluster.map(name).remove_if(&key, if_index).await?)
        }
        MapAction::Size { name } => {
            let size = cluster.map(name).size().await?;
            Ok(Report::new(
                size.value.to_string(),
                json!({"size": size.value, "indexes": size.indexes}),
            ))
        }
        MapAction::Clear { name } => {
            let cleared = cluster.map(name).clear().await?;
            Ok(Report::new("cleared", json!({"cleared": true, "indexes": cleared.indexes})))
        }
    }
}

fn written(answer: Result<Answer<Written>, Error>) -> Result<Report, Failure> {
    let answer = answer?;
    let json = json!({
        "version": answer.value.index,
        "previous": answer.value.previous.as_ref().map(entry),
        "partition": answer.partition,
        "index": answer.index,
    });
    Ok(Report::new(format!("version {}", answer.value.index), json))
}

fn found(key: &str, answer: Answer<Option<Versioned>>) -> Result<Report, Failure> {
    let Some(value) = answer.value else {
        return Err(Failure::rejected(format!("key {key:?} is not there")));
    };
    let mut json = entry(&value);
    json["partition"] = answer.partition.into();
    json["index"] = answer.index.into();
    Ok(Report::new(value.value, json))
}

/// A value as text; where it is none, as a list of bytes.
fn entry(entry: &Versioned) -> Value {
    match std::str::from_utf8(&entry.value) {
        Ok(text) => json!({"value": text, "version": entry.index}),
        Err(_) => json!({"bytes": entry.value.to_vec(), "version": entry.index}),
    }
}

async fn connect(reach: &Reach) -> Result<Cluster, Failure> {
    let mut options = Options::default().timeout(reach.timeout).namespace(reach.namespace.clone());
    if let Some(groups) = reach.groups {
        options = options.groups(groups);
    }
    Ok(options.connect(reach.endpoints.clone()).await?)
}
