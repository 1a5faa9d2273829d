//! Control groups: how much of the machine a node may use. Either version of them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const ROOT: &str = "/sys/fs/cgroup";
const PERIOD_MICROS: u64 = 100_000;

/// What version 1 and 2 call the same things.
struct Names {
    cpu: &'static str,
    memory: &'static str,
    cpu_limit: &'static str,
    memory_limit: &'static str,
    peak: &'static str,
    kills: &'static str,
}

const FIRST: Names = Names {
    cpu: "cpu",
    memory: "memory",
    cpu_limit: "cpu.cfs_quota_us",
    memory_limit: "memory.limit_in_bytes",
    peak: "memory.max_usage_in_bytes",
    kills: "memory.oom_control",
};

const SECOND: Names = Names {
    cpu: "",
    memory: "",
    cpu_limit: "cpu.max",
    memory_limit: "memory.max",
    peak: "memory.peak",
    kills: "memory.events",
};

/// One control group of ours; removed when dropped, after its processes.
pub struct ControlGroup {
    names: Names,
    cpu: PathBuf,
    memory: PathBuf,
}

impl ControlGroup {
    /// Makes one; says so when that cannot be done here.
    pub fn make(name: &str) -> Option<Self> {
        let is_second = Path::new(ROOT).join("cgroup.controllers").exists();
        let names = if is_second { SECOND } else { FIRST };
        let name = format!("multiraft-faults-{}-{name}", std::process::id());
        let folder = |controller: &str| Path::new(ROOT).join(controller).join(&name);
        let group = Self { cpu: folder(names.cpu), memory: folder(names.memory), names };
        match group.begin(is_second) {
            Ok(()) => Some(group),
            Err(error) => {
                println!("fault skipped: no control groups of our own here: {error}");
                None
            }
        }
    }

    fn begin(&self, is_second: bool) -> io::Result<()> {
        if is_second {
            fs::write(Path::new(ROOT).join("cgroup.subtree_control"), "+cpu +memory")?;
        }
        fs::create_dir_all(&self.cpu)?;
        fs::create_dir_all(&self.memory)?;
        self.limit(100, 1 << 30)
    }

    /// Limits the processor, in percent of one core, and memory in bytes.
    pub fn limit(&self, percent: u64, bytes: u64) -> io::Result<()> {
        let quota = PERIOD_MICROS * percent / 100;
        let quota = match self.names.cpu {
            "" => format!("{quota} {PERIOD_MICROS}"),
            _ => quota.to_string(),
        };
        fs::write(self.cpu.join(self.names.cpu_limit), quota)?;
        fs::write(self.memory.join(self.names.memory_limit), bytes.to_string())
    }

    /// The command under which a program runs in this group from its first step.
    pub fn command(&self) -> Vec<String> {
        let enter = |folder: &Path| format!("echo $$ >{}/cgroup.procs && ", folder.display());
        let script = format!("{}{}exec \"$@\"", enter(&self.cpu), enter(&self.memory));
        ["sh", "-c", &script, "sh"].map(str::to_owned).to_vec()
    }

    /// The most memory that the group ever used, with the cached part of its files.
    pub fn peak(&self) -> u64 {
        let text = fs::read_to_string(self.memory.join(self.names.peak)).unwrap_or_default();
        text.trim().parse().unwrap_or_default()
    }

    /// Processes that were killed because the group was out of memory.
    pub fn kills(&self) -> u64 {
        let text = fs::read_to_string(self.memory.join(self.names.kills)).unwrap_or_default();
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.and_then(|count| count.parse().ok()).unwrap_or_default()
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.cpu);
        let _ = fs::remove_dir(&self.memory);
    }
}
