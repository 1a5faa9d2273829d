//! Faults of one thread's system calls, by strace.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use multiraft_e2e::nodes::Node;

/// The thread of a node that writes and syncs its log.
const WRITER: &str = "log-writer";

/// Whether strace can follow a process here; says so when it cannot.
pub fn is_there() -> bool {
    let traced = Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).output();
    let works = traced.is_ok_and(|output| output.status.success());
    if !works {
        println!("fault skipped: strace cannot follow a process here");
    }
    works
}

/// A fault of the writer's thread of a running node; ends when it is dropped.
pub struct Injected {
    strace: Child,
}

impl Injected {
    /// Injects what strace's `inject` describes, such as `fdatasync:error=EIO:when=3`, on the log,
    /// counted from now; returns when it is in place. The other threads run at their full speed.
    pub fn into(node: &Node, inject: &str) -> Self {
        let thread = writer(node).to_string();
        let call = inject.split(':').next().expect("a call is named");
        // The thread writes elsewhere, too, to wake others up.
        let file = log(node);
        let mut strace = Command::new("strace")
            .args(["-o", "/dev/null", "-p", &thread, "-e", &format!("trace={call}")])
            .args(["-e", &format!("inject={inject}"), "-P", &file.to_string_lossy()])
            .stderr(Stdio::piped())
            .spawn()
            .expect("strace starts");
        let said = BufReader::new(strace.stderr.take().expect("piped")).lines().next();
        let said = said.expect("strace says that it is attached").expect("strace writes text");
        assert!(said.contains("attached"), "{said}");
        Self { strace }
    }
}

impl Drop for Injected {
    fn drop(&mut self) {
        // Not SIGKILL: the thread is let go of in order.
        let _ = Command::new("kill").arg(self.strace.id().to_string()).status();
        let _ = self.strace.wait();
    }
}

/// The file that the log is written to: the database's newest.
fn log(node: &Node) -> PathBuf {
    let files = fs::read_dir(node.data().join("db")).expect("the node has opened it").flatten();
    let logs = files.map(|file| file.path()).filter(|p| p.extension().is_some_and(|e| e == "log"));
    logs.max().expect("a log is there")
}

/// Id of the writer's thread.
fn writer(node: &Node) -> u32 {
    let tasks = Path::new("/proc").join(node.pid().to_string()).join("task");
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        for task in fs::read_dir(&tasks).expect("the node runs").flatten() {
            let name = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
            if name.trim() == WRITER {
                let id = task.file_name().to_string_lossy().parse();
                return id.expect("threads are named by numbers");
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("no thread {WRITER} in {}", tasks.display());
}
