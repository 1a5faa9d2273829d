//! Running a command while a lock is held or a candidate leads.

use std::ffi::OsString;
use std::pin::pin;
use std::process::ExitStatus;
use std::time::Duration;

use clap::Args;
use multiraft_client::{Error, LockedKeys};
use tokio::process::{Child, Command};

use crate::arguments::duration;
use crate::report::{Failure, Report};
use crate::signals::{self, Signal};

pub const HELP: &str = "The exit code of the command is passed on. It gets SIGTERM when the lock is \
    lost, because the cluster could not be reached in time.";

/// As shells have it for a process that a signal ended.
const SIGNAL_CODE: i32 = 128;

/// How long to wait for a lock; without any of these, as long as it takes.
#[derive(Args, Clone, Copy)]
pub struct Wait {
    /// Longest wait, such as 10s
    #[arg(long, value_parser = duration, value_name = "TIME")]
    wait: Option<Duration>,
    /// Fail at once when it is taken
    #[arg(long, conflicts_with = "wait")]
    no_wait: bool,
}

impl Wait {
    pub fn longest(self) -> Option<Duration> {
        if self.no_wait { Some(Duration::ZERO) } else { self.wait }
    }
}

/// The failure of a call for something that others have.
pub fn refused(error: Error) -> Failure {
    let advice =
        if error.is_conflict() { "try again later, or wait longer with --wait" } else { "" };
    Failure::from(error).advised(advice)
}

/// Waits for something; an interruption ends the wait and the program.
pub async fn unless_interrupted<T>(wait: impl Future<Output = T>) -> Result<T, Failure> {
    tokio::select! {
        result = wait => Ok(result),
        _ = signals::next() => Err(Failure::unavailable("interrupted while it waited")),
    }
}

pub async fn with_keys(
    lock: impl Future<Output = Result<LockedKeys, Error>>,
    name: &str,
    command: Vec<OsString>,
) -> Result<Report, Failure> {
    let locked = unless_interrupted(lock).await?.map_err(refused)?;
    let environment = vec![("MULTIRAFT_MAP", name.to_owned())];
    let report = Guarded { what: "lock", command, environment }.while_not(locked.lost()).await;
    // Closing the sessions unlocks them, within a bounded time.
    drop(locked);
    report
}

/// A command to run under protection.
pub struct Guarded {
    /// What protects it.
    pub what: &'static str,
    /// Program and arguments; none to wait for an interruption.
    pub command: Vec<OsString>,
    pub environment: Vec<(&'static str, String)>,
}

impl Guarded {
    /// Runs until the command ends, which is asked to when the protection is lost.
    pub async fn while_not(self, lost: impl Future<Output = ()>) -> Result<Report, Failure> {
        let gone = || Failure::unavailable(format!("the {} was lost", self.what));
        let Some((program, arguments)) = self.command.split_first() else {
            return tokio::select! {
                () = lost => Err(gone()),
                _ = signals::next() => Ok(Report::nothing()),
            };
        };
        let mut child =
            Command::new(program).args(arguments).envs(self.environment.clone()).spawn().map_err(
                |error| Failure::usage(format!("start {}: {error}", program.to_string_lossy())),
            )?;
        let mut lost = pin!(lost);
        let mut is_lost = false;
        let status = loop {
            tokio::select! {
                status = child.wait() => break status,
                () = &mut lost, if !is_lost => {
                    is_lost = true;
                    eprintln!("the {} was lost; asking the command to stop", self.what);
                    terminate(&child).await;
                }
                signal = signals::next() => if signal == Signal::Terminate {
                    terminate(&child).await;
                },
            }
        };
        let status = status.map_err(|error| Failure::usage(format!("wait for it: {error}")))?;
        if is_lost { Err(gone()) } else { Ok(Report::ended(code(status))) }
    }
}

async fn terminate(child: &Child) {
    if let Some(id) = child.id() {
        // It ends by itself meanwhile, or is waited for all the same.
        let _ = Command::new("kill").arg(id.to_string()).status().await;
    }
}

fn code(status: ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt;
    let signal = || SIGNAL_CODE + status.signal().unwrap_or(0);
    status.code().unwrap_or_else(signal).try_into().unwrap_or(u8::MAX)
}
