//! What is printed at the end, and the exit code.

use std::io::Write;
use std::process::ExitCode;

use multiraft_client::Error;
use serde_json::{Value, json};

use crate::arguments::Output;

pub const REJECTED: u8 = 1;
pub const USAGE: u8 = 2;
pub const UNAVAILABLE: u8 = 3;

/// The answer of a command: for people and for programs.
pub struct Report {
    text: Vec<u8>,
    json: Option<Value>,
}

impl Report {
    pub fn new(text: impl Into<Vec<u8>>, json: Value) -> Self {
        Self { text: text.into(), json: Some(json) }
    }

    /// Everything was printed already.
    pub fn nothing() -> Self {
        Self { text: Vec::new(), json: None }
    }

    pub fn print(self, output: Output) -> ExitCode {
        let Some(json) = self.json else { return ExitCode::SUCCESS };
        let mut line = match output {
            Output::Text => self.text,
            Output::Json => json.to_string().into_bytes(),
        };
        line.push(b'\n');
        // Whoever reads went away (`| head`): nothing is left to say.
        let _ = std::io::stdout().write_all(&line);
        ExitCode::SUCCESS
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

    pub fn print(self, output: Output) -> ExitCode {
        match output {
            Output::Text => eprintln!("error: {}", self.message),
            Output::Json => eprintln!("{}", json!({"error": self.message, "kind": self.kind})),
        }
        ExitCode::from(self.code)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Rejected(_) | Error::Refused { .. } => Self::rejected(message),
            Error::Invalid { .. } => Self::usage(message),
            Error::Unavailable { .. }
            | Error::SessionExpired { .. }
            | Error::Discovery { .. }
            | Error::Closed => Self::unavailable(message),
        }
    }
}
