//! Streams on standard output: a line for each item, as it comes.

use std::io::Write;

use futures::{Stream, StreamExt};
use multiraft_client::{Change, Error};
use serde_json::{Value, json};

use crate::arguments::Output;
use crate::report::{Failure, Report};
use crate::signals;

/// What is printed of an item: the cells of its line, and itself for programs.
pub struct Item {
    pub cells: Vec<Vec<u8>>,
    pub json: Value,
}

/// Prints items until the stream ends, the reader goes away, or an interruption.
pub async fn print<T>(
    items: impl Stream<Item = Result<T, Error>>,
    output: Output,
    show: impl Fn(T) -> Item,
) -> Result<Report, Failure> {
    let mut items = std::pin::pin!(items);
    loop {
        let item = tokio::select! {
            item = items.next() => item,
            _ = signals::next() => return Ok(Report::nothing()),
        };
        let Some(item) = item else { return Ok(Report::nothing()) };
        if write(&show(item?), output).is_err() {
            // Whoever reads went away (`| head`).
            return Ok(Report::nothing());
        }
    }
}

fn write(item: &Item, output: Output) -> std::io::Result<()> {
    let line = match output {
        Output::Table => [&item.cells.join(&b"  "[..])[..], b"\n"].concat(),
        Output::Json => format!("{}\n", item.json).into_bytes(),
        Output::Yaml => {
            let yaml = serde_yaml::to_string(&item.json).map_err(std::io::Error::other)?;
            format!("---\n{yaml}").into_bytes()
        }
    };
    let mut out = std::io::stdout().lock();
    out.write_all(&line)?;
    out.flush()
}

/// A change, with the cells and fields of whatever changed.
pub fn change<V>(change: &Change<V>, key: Option<&str>, value: impl Fn(&V) -> Item) -> Item {
    let Item { mut cells, json } = value(change.value());
    let mut all = json!({"event": change.name(), "value": json});
    if let Change::Updated { previous, .. } = change {
        all["previous"] = value(previous).json;
    }
    if let Some(key) = key {
        cells.insert(0, key.into());
        all["key"] = key.into();
    }
    cells.insert(0, format!("{:<8}", change.name()).into_bytes());
    Item { cells, json: all }
}
