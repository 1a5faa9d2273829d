//! The primitives: what can be asked of each, and how the answers look.

pub mod counter;
pub mod counter_map;
pub mod election;
pub mod guarded;
pub mod import;
pub mod indexed_map;
pub mod lock;
pub mod map;
pub mod multi_map;
pub mod set;
pub mod stream;
pub mod value;

use std::time::Duration;

use clap::Args;
use multiraft_client::{
    Answer, Answers, Cluster, Error, KeyRange, Options, Status, Version, Versioned, Write, Written,
};
use serde_json::{Value, json};

use crate::arguments::{Reach, duration};
use crate::report::{Failure, Report};

/// How a read is done.
#[derive(Args, Clone, Copy)]
pub struct Read {
    /// Accept an older value, from the node that is asked
    #[arg(long)]
    local: bool,
}

/// Which keys or elements are meant.
#[derive(Args, Clone)]
pub struct Part {
    /// Only what begins with this
    #[arg(long, default_value = "", hide_default_value = true)]
    prefix: String,
    /// Only what comes at or behind this, in the order of bytes
    #[arg(long, value_name = "KEY", default_value = "", hide_default_value = true)]
    start: String,
    /// Only what comes before this
    #[arg(long, value_name = "KEY", default_value = "", hide_default_value = true)]
    end: String,
}

impl From<Part> for KeyRange {
    fn from(Part { prefix, start, end }: Part) -> Self {
        KeyRange::prefix(prefix).from(start).until(end)
    }
}

/// Whose changes are meant.
#[derive(Args, Clone)]
#[group(multiple = false)]
pub struct Watched {
    /// Only changes of this key
    #[arg(long)]
    key: Option<String>,
    /// Only changes of keys that begin with this
    #[arg(long)]
    prefix: Option<String>,
}

/// How long a value lives.
#[derive(Args, Clone, Copy)]
pub struct Life {
    /// It removes itself after this time, such as 30s
    #[arg(long, value_parser = duration, value_name = "TIME")]
    ttl: Option<Duration>,
}

/// On which version a change is made.
#[derive(Args, Clone, Copy)]
pub struct Condition {
    /// Version that it must have, as -o json prints it
    #[arg(long, alias = "if-index", value_name = "VERSION")]
    if_version: Option<u64>,
}

impl Condition {
    fn version(self) -> Option<Version> {
        self.if_version.map(Version)
    }
}

/// Conditions and terms of a write.
#[derive(Args, Clone, Copy)]
pub struct Terms {
    #[command(flatten)]
    life: Life,
    #[command(flatten)]
    condition: Condition,
}

impl From<Terms> for Write {
    fn from(terms: Terms) -> Self {
        Write { ttl: terms.life.ttl, if_version: terms.condition.version() }
    }
}

/// Lets something be done with the cluster, then closes the sessions.
pub async fn with<F: Future<Output = Result<Report, Failure>>>(
    reach: &Reach,
    act: impl FnOnce(Cluster) -> F,
) -> Result<Report, Failure> {
    let mut options = Options::default().timeout(reach.timeout).namespace(reach.namespace.clone());
    if let Some(groups) = reach.groups {
        options = options.groups(groups);
    }
    if let Some(tls) = &reach.tls {
        options = options.tls(tls.clone());
    }
    let cluster = options.connect(reach.endpoints.clone()).await?;
    let report = act(cluster.clone()).await;
    cluster.close().await;
    report
}

/// A report that says where and when it was answered.
fn answered<T>(text: impl Into<Vec<u8>>, mut json: Value, answer: &Answer<T>) -> Report {
    json["partition"] = answer.partition.into();
    json["index"] = answer.index.into();
    Report::new(text, json)
}

fn gathered<T>(text: impl Into<Vec<u8>>, mut json: Value, answers: &Answers<T>) -> Report {
    json["indexes"] = json!(answers.indexes);
    Report::new(text, json)
}

fn size(answers: &Answers<u64>) -> Report {
    gathered(answers.value.to_string(), json!({"size": answers.value}), answers)
}

fn cleared(answers: &Answers<()>) -> Report {
    gathered("cleared", json!({"cleared": true}), answers)
}

fn written(answer: &Answer<Written>) -> Report {
    let Written { version, previous } = &answer.value;
    let json = json!({"version": version.0, "previous": previous.as_ref().map(versioned)});
    answered(format!("version {version}"), json, answer)
}

/// A value as text; where it is none, as a list of bytes.
fn versioned(versioned: &Versioned) -> Value {
    match std::str::from_utf8(&versioned.value) {
        Ok(text) => json!({"value": text, "version": versioned.version.0}),
        Err(_) => json!({"bytes": versioned.value.to_vec(), "version": versioned.version.0}),
    }
}

/// A value, as one item of a stream.
fn item(value: &Versioned) -> stream::Item {
    stream::Item { cells: vec![value.value.to_vec()], json: versioned(value) }
}

/// A value, or the failure that it is not there.
fn found(what: &str, answer: Answer<Option<Versioned>>) -> Result<Report, Failure> {
    match &answer.value {
        Some(value) => Ok(answered(value.value.to_vec(), versioned(value), &answer)),
        None => Err(Failure::rejected(format!("{what} is not there"))),
    }
}

/// What the user can do when the cluster rejects a call.
#[derive(Clone, Copy, Default)]
struct Advice {
    conflict: &'static str,
    not_found: &'static str,
    already_exists: &'static str,
}

impl Advice {
    fn of(self, error: Error) -> Failure {
        let advice = match error.status() {
            Some(Status::Conflict) => self.conflict,
            Some(Status::NotFound) => self.not_found,
            Some(Status::AlreadyExists) => self.already_exists,
            _ => "",
        };
        Failure::from(error).advised(advice)
    }
}

/// KEY=VALUE, for options that name both.
fn pair(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').ok_or("write KEY=VALUE")?;
    Ok((pair.0.into(), pair.1.into()))
}
