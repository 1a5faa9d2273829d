//! Histories as the Go program beside this crate reads them, and its verdicts: those of Porcupine, a
//! linearizability checker that others wrote.

use std::fmt;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use multiraft_check::counter::Call;
use multiraft_check::register::{Action, Operation};
use serde_json::{Value, json};

/// What was seen of one object that began as 0.
#[derive(Clone, Debug)]
pub struct History(Value);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Ok,
    Illegal,
    /// The search took too long.
    Unknown,
}

impl History {
    pub fn of_register(history: &[Operation<u64>]) -> Self {
        let operation = |o: &Operation<u64>| match o.action {
            Action::Write(value) => json!({"start": o.started, "end": o.ended, "write": value}),
            Action::Read(value) => json!({"start": o.started, "end": o.ended, "read": value}),
        };
        let operations: Vec<Value> = history.iter().map(operation).collect();
        Self(json!({"kind": "register", "initial": 0, "operations": operations}))
    }

    /// The counter was read as `end` after all calls. `unknown`: when the increments by 1 began that
    /// nobody saw answered.
    pub fn of_counter(calls: &[Call], unknown: &[u64], end: u64) -> Self {
        let after = calls.iter().map(|call| call.ended).chain(unknown.iter().copied()).max();
        let after = after.unwrap_or(0) + 1;
        let last = Call { started: after, ended: after, delta: 0, value: end };
        let answered = calls.iter().chain([&last]).map(|call| {
            let increment = (call.delta > 0).then_some(call.delta);
            let (start, end) = (call.started, call.ended);
            json!({"start": start, "end": end, "increment": increment, "read": call.value})
        });
        let unknown = unknown.iter().map(|start| json!({"start": start, "increment": 1}));
        let operations: Vec<Value> = answered.chain(unknown).collect();
        Self(json!({"kind": "counter", "initial": 0, "operations": operations}))
    }
}

/// A line that the Go program reads.
impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Porcupine's verdicts, in order; none without Go.
///
/// # Panics
/// The program cannot be built, or refuses a history.
pub fn verdicts<'a>(histories: impl IntoIterator<Item = &'a History>) -> Option<Vec<Verdict>> {
    let lines: Vec<String> = histories.into_iter().map(|history| format!("{history}\n")).collect();
    let said = run(&lines.concat())?.unwrap_or_else(|error| panic!("{error}"));
    let verdicts: Vec<Verdict> = said.lines().map(verdict).collect();
    assert_eq!(verdicts.len(), lines.len(), "one verdict for each history");
    Some(verdicts)
}

fn verdict(line: &str) -> Verdict {
    match line {
        "ok" => Verdict::Ok,
        "illegal" => Verdict::Illegal,
        "unknown" => Verdict::Unknown,
        _ => panic!("{line:?} is no verdict"),
    }
}

/// Gives lines to the Go program; what it prints, or its error. None without Go.
///
/// # Errors
/// The program cannot be built, or refuses a line.
pub fn run(lines: &str) -> Option<Result<String, String>> {
    let mut command = Command::new("go");
    command.args(["run", "-mod=readonly", "."]).current_dir(folder());
    command.env("CGO_ENABLED", "0").env("GOFLAGS", "").env("GOWORK", "off");
    command.env("GOTOOLCHAIN", "local");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => panic!("go: {error}"),
    };
    let mut input = child.stdin.take().expect("piped");
    let output = std::thread::scope(|scope| {
        // It prints while it reads. Where it stops reading early, its status says why.
        scope.spawn(move || input.write_all(lines.as_bytes()));
        child.wait_with_output().expect("go runs")
    });
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Some(if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) })
}

/// That of the Go program.
fn folder() -> PathBuf {
    // Asked when the test runs: a cache of builds may hold one that another checkout made.
    let package = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo runs the test");
    let mut above = Path::new(&package).ancestors().map(|a| a.join("tests/check/porcupine"));
    above.find(|folder| folder.is_dir()).expect("the test is one of this workspace")
}
