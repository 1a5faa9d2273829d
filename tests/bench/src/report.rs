//! The result: rows of figures, as a table and as a file.

use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;

#[derive(Debug, Serialize)]
pub struct Row {
    pub name: String,
    pub unit: &'static str,
    pub ours: f64,
    /// Absent where the peer has nothing like it.
    pub peer: Option<f64>,
    /// Ours divided by the peer's: the median of the pairs.
    pub ratio: Option<f64>,
    /// Synced writes of 4 KiB per second during the row's runs; absent where no disk is involved.
    pub floor: Option<f64>,
}

pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        count if count % 2 == 1 => sorted[count / 2],
        count => sorted[count / 2 - 1].midpoint(sorted[count / 2]),
    }
}

pub fn print(rows: &[Row]) {
    let width = rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0);
    println!("{:width$} {:>12} {:>12} {:>7} {:>8}  unit", "", "ours", "etcd", "ratio", "floor/s");
    for row in rows {
        let optional = |value: Option<f64>, digits: usize| {
            value.map_or_else(|| "-".into(), |value| format!("{value:.digits$}"))
        };
        println!(
            "{:width$} {:>12.2} {:>12} {:>7} {:>8}  {}",
            row.name,
            row.ours,
            optional(row.peer, 2),
            optional(row.ratio, 3),
            optional(row.floor, 0),
            row.unit
        );
    }
}

pub fn write(rows: &[Row], file: &Path) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(rows)?;
    std::fs::write(file, text).with_context(|| format!("write {}", file.display()))
}
