//! What the system says of itself: CPU and memory of processes, the disk's sync floor.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use hdrhistogram::Histogram;
use serde::Serialize;

/// `/proc` counts CPU in hundredths of a second on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;
const PAGE_BYTES: f64 = 4096.0;
/// Longest time that a histogram tells apart; calls are given up long before.
pub const TIME_US_MAX: u64 = 60_000_000;
const FLOOR_TIME: Duration = Duration::from_millis(500);

/// What the disk does without any program in the way.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Floor {
    pub syncs_per_second: f64,
    pub p50_us: u64,
    pub p99_us: u64,
}

pub fn floor(dir: &Path) -> anyhow::Result<Floor> {
    let file = tempfile::tempfile_in(dir).with_context(|| format!("write to {}", dir.display()))?;
    let mut times = Histogram::<u64>::new_with_bounds(1, TIME_US_MAX, 3)?;
    let begun = Instant::now();
    let mut at = 0;
    while begun.elapsed() < FLOOR_TIME {
        let start = Instant::now();
        file.write_all_at(&[7; 4096], at)?;
        file.sync_data()?;
        times.saturating_record(start.elapsed().as_micros() as u64);
        at += 4096;
    }
    Ok(Floor {
        syncs_per_second: times.len() as f64 / begun.elapsed().as_secs_f64(),
        p50_us: times.value_at_quantile(0.5),
        p99_us: times.value_at_quantile(0.99),
    })
}

/// Seconds of CPU that the processes have used.
pub fn cpu(pids: &[u32]) -> f64 {
    pids.iter().map(|pid| cpu_of(&pid.to_string())).sum()
}

pub fn own_cpu() -> f64 {
    cpu_of("self")
}

fn cpu_of(process: &str) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The name, in brackets, may hold anything; user and system time are fields 14 and 15.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: f64 = fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    ticks / TICKS_PER_SECOND
}

/// MiB in memory.
pub fn memory(pids: &[u32]) -> f64 {
    let of = |pid: &u32| {
        let statm = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
        let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<f64>().ok());
        pages.unwrap_or(0.0) * PAGE_BYTES / f64::from(1 << 20)
    };
    pids.iter().map(of).sum()
}

pub fn processes_of(program: &str) -> Vec<u32> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let named = |pid: &u32| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        name.trim_end() == program
    };
    let pids = processes.filter_map(|found| found.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(named).collect()
}

/// Bytes that a directory's files take on disk.
pub fn disk(directory: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(directory) else { return 0 };
    let of = |entry: fs::DirEntry| match entry.metadata() {
        Ok(data) if data.is_dir() => disk(&entry.path()),
        Ok(data) => data.blocks() * 512,
        // Deleted meanwhile.
        Err(_) => 0,
    };
    entries.flatten().map(of).sum()
}

/// TCP segments with data that were sent on connections from or to these ports, by either side, as
/// the kernel counts them; [`None`] without the program `ss`.
pub fn segments(ports: &[u16]) -> Option<u64> {
    let output = std::process::Command::new("ss").args(["-tniHO"]).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let is_ours = |address: &str| {
        let port = address.rsplit(':').next().and_then(|port| port.parse().ok());
        port.is_some_and(|port: u16| ports.contains(&port))
    };
    let sent = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        // State, two queues, then both ends.
        if !words.by_ref().skip(3).take(2).any(is_ours) {
            return None;
        }
        words.find_map(|word| word.strip_prefix("data_segs_out:")?.parse::<u64>().ok())
    });
    output.status.success().then(|| sent.sum())
}

/// What a node of ours measures of itself, as text.
pub fn metrics(http_port: u16) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", http_port))?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}
