//! What is printed at the end, and the exit code.

use std::fmt;
use std::io::Write;
use std::process::ExitCode;

use multiraft_client::Error;
use serde_json::{Value, json};
use tonic::Code;

use crate::arguments::Output;

pub const REJECTED: u8 = 1;
pub const USAGE: u8 = 2;
pub const UNAVAILABLE: u8 = 3;

/// The answer of a command: for people and for programs.
pub struct Report {
    text: Vec<u8>,
    json: Option<Value>,
    /// What the answer amounts to, where that is bad news.
    failure: Option<Failure>,
    /// Exit code without a failure.
    code: u8,
}

impl Report {
    pub fn new(text: impl Into<Vec<u8>>, json: Value) -> Self {
        Self { text: text.into(), json: Some(json), failure: None, code: 0 }
    }

    /// Everything was printed already.
    pub fn nothing() -> Self {
        Self { text: Vec::new(), json: None, failure: None, code: 0 }
    }

    /// Another program has done the work, and ended so.
    pub fn ended(code: u8) -> Self {
        Self { code, ..Self::nothing() }
    }

    /// The answer is printed, and the command fails.
    pub fn but(mut self, failure: Failure) -> Self {
        self.failure = Some(failure);
        self
    }

    pub fn print(mut self, output: Output) -> ExitCode {
        let (failure, code) = (self.failure.take(), self.code);
        // Whoever reads went away (`| head`): nothing is left to say.
        let _ = self.write(output);
        failure.map_or(ExitCode::from(code), |failure| failure.print(output))
    }

    /// Writes the answer to standard output.
    pub fn write(self, output: Output) -> std::io::Result<()> {
        let Some(json) = self.json else { return Ok(()) };
        let mut bytes = match output {
            Output::Table => self.text,
            Output::Json => json.to_string().into_bytes(),
            Output::Yaml => serde_yaml::to_string(&json).unwrap_or_default().into_bytes(),
        };
        if bytes.last() != Some(&b'\n') || output == Output::Table {
            bytes.push(b'\n');
        }
        std::io::stdout().write_all(&bytes)
    }
}

/// Why a command did not succeed.
pub struct Failure {
    code: u8,
    kind: &'static str,
    message: String,
}

impl Failure {
    pub fn usage(message: impl Into<String>) -> Self {
        Self { code: USAGE, kind: "usage", message: message.into() }
    }

    pub fn rejected(message: impl Into<String>) -> Self {
        Self { code: REJECTED, kind: "rejected", message: message.into() }
    }

    pub fn unavailable(message: impl Into<String>) -> Self {
        Self { code: UNAVAILABLE, kind: "unavailable", message: message.into() }
    }

    /// Adds what the user can do about it, if that is known.
    pub fn advised(mut self, advice: &str) -> Self {
        if !advice.is_empty() {
            self.message = format!("{}; {advice}", self.message);
        }
        self
    }

    pub fn print(self, output: Output) -> ExitCode {
        match output {
            Output::Table => eprintln!("error: {}", self.message),
            Output::Json | Output::Yaml => {
                eprintln!("{}", json!({"error": self.message, "kind": self.kind}));
            }
        }
        ExitCode::from(self.code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Failure {
    /// The refusal of a change, with what the user can do about it.
    pub fn of_change(error: Error) -> Self {
        let remedy = match &error {
            Error::Refused { code: Code::PermissionDenied, message, .. }
                if message.contains("unfenced") =>
            {
                "; change the MultiRaftCluster resource instead, or pause its operator and pass \
                 --fence as `multiraft node show` prints it"
            }
            Error::Refused { code: Code::Unimplemented, .. } => {
                "; the node is of an older release than this program"
            }
            _ => "",
        };
        let mut failure = Self::from(error);
        failure.message.push_str(remedy);
        failure
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Refused { code: Code::Unavailable, .. } => Self::unavailable(message),
            Error::Rejected(_) | Error::Refused { .. } => Self::rejected(message),
            Error::Invalid { .. } => Self::usage(message),
            Error::Unavailable { .. }
            | Error::SessionExpired { .. }
            | Error::Discovery { .. }
            | Error::Gap { .. }
            | Error::Closed => Self::unavailable(message),
        }
    }
}
