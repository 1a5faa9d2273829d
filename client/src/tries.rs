//! The tries of one call, and what a failed one says of its node.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use multiraft_proto::v1;
use tonic::{Code, Status};
use tracing::debug;

use crate::calls::Failure;
use crate::limits::{BACK_OFF_MAX, BACK_OFF_MIN};
use crate::nodes::{Node, Nodes};

/// Why one try failed.
#[derive(Clone, Debug)]
pub struct Failed {
    pub status: Status,
    /// It says nothing of the call, but that its stream cannot be used.
    is_of_stream: bool,
}

impl Failed {
    pub fn of_stream(status: Status) -> Self {
        Self { status, is_of_stream: true }
    }

    pub fn of_call(status: Status) -> Self {
        Self { status, is_of_stream: false }
    }

    /// The answer, unless it is that the call failed as a whole.
    pub fn check(answer: v1::StreamAnswer) -> Result<v1::StreamAnswer, Self> {
        match answer.code {
            0 => Ok(answer),
            code => Err(Self::of_call(Status::new(Code::from(code as i32), answer.message))),
        }
    }

    /// Whether it is this answer to the call.
    pub fn is_answer(&self, code: Code) -> bool {
        !self.is_of_stream && self.status.code() == code
    }

    /// The node took leave in order, as one does that stops: it worked until then.
    pub fn is_farewell(&self) -> bool {
        self.is_of_stream && self.judge() == Verdict::Retry
    }

    pub fn judge(&self) -> Verdict {
        match self.status.code() {
            Code::Unimplemented if self.is_of_stream => Verdict::Foreign,
            Code::DeadlineExceeded => Verdict::Unreachable,
            // Who may do what is the same everywhere.
            Code::PermissionDenied => Verdict::Final,
            // A status that came over the wire has no source; one that tonic made of a broken
            // connection has.
            _ if self.status.source().is_some() => Verdict::Unreachable,
            // NOT_FOUND: this node does not know the group (yet).
            Code::Unavailable | Code::ResourceExhausted | Code::NotFound => Verdict::Retry,
            _ if self.is_of_stream => Verdict::Unreachable,
            _ => Verdict::Final,
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The node works, but cannot carry this out now.
    Retry,
    /// The node, or the way to it, does not work.
    Unreachable,
    /// It is no node that this client can talk to.
    Foreign,
    Final,
}

/// What is known of the tries of a call that failed.
#[derive(Default)]
pub struct Tries {
    pub attempts: u32,
    tried: Vec<String>,
}

impl Tries {
    /// The node for the next one.
    pub fn node(&mut self, nodes: &Nodes, partition: u32) -> Arc<Node> {
        nodes.next(partition, &mut self.tried)
    }

    /// A try failed. An error: no other does better.
    pub fn failed(
        &mut self,
        nodes: &Nodes,
        node: &Node,
        partition: u32,
        failed: Failed,
    ) -> Result<Status, Failure> {
        self.attempts += 1;
        let (attempts, status) = (self.attempts, failed.status.clone());
        debug!(partition, node = node.address, attempts, %status, "a try failed");
        self.tried.push(node.address.clone());
        let verdict = failed.judge();
        if verdict == Verdict::Final || verdict == Verdict::Foreign && nodes.all_tried(&self.tried)
        {
            return Err(Failure::Final { node: node.address.clone(), status });
        }
        // One that has too much to do leads still.
        if status.code() != Code::ResourceExhausted {
            nodes.leaders.forget(partition);
        }
        if verdict != Verdict::Retry {
            node.blame();
        }
        Ok(status)
    }

    /// Begins anew.
    pub fn succeeded(&mut self) {
        self.attempts = 0;
        self.tried.clear();
    }
}

/// Doubles with every try, and is spread so that clients that failed together do not return
/// together.
pub fn back_off(attempts: u32) -> Duration {
    let doubled = BACK_OFF_MIN.saturating_mul(1 << (attempts - 1).min(16));
    doubled.min(BACK_OFF_MAX).mul_f64(fastrand::f64().midpoint(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_change_is_tried_again() {
        let judge = |code| Failed::of_call(Status::new(code, "")).judge();
        assert_eq!(judge(Code::Unavailable), Verdict::Retry);
        assert_eq!(judge(Code::NotFound), Verdict::Retry);
        assert_eq!(judge(Code::DeadlineExceeded), Verdict::Unreachable);
        for code in [Code::DataLoss, Code::Aborted, Code::InvalidArgument, Code::Cancelled] {
            assert_eq!(judge(code), Verdict::Final, "{code:?}");
        }
    }

    #[test]
    fn how_a_stream_ended_is_no_answer_to_a_call() {
        let judge = |code| Failed::of_stream(Status::new(code, "")).judge();
        assert_eq!(judge(Code::Unavailable), Verdict::Retry, "the node is stopping");
        assert_eq!(judge(Code::Unimplemented), Verdict::Foreign);
        assert_eq!(judge(Code::PermissionDenied), Verdict::Final, "no stream is for this client");
        for code in [Code::DataLoss, Code::InvalidArgument, Code::Internal, Code::Unknown] {
            assert_eq!(judge(code), Verdict::Unreachable, "{code:?}");
        }
    }

    #[test]
    fn only_an_orderly_end_of_a_stream_is_a_farewell() {
        let stopping = || Status::unavailable("the node is stopping");
        assert!(Failed::of_stream(stopping()).is_farewell());
        assert!(!Failed::of_call(stopping()).is_farewell(), "so a group without a leader answers");
        let broken = Status::from_error(Box::new(std::io::Error::other("reset")));
        assert!(!Failed::of_stream(broken).is_farewell());
        assert!(!Failed::of_stream(Status::deadline_exceeded("silent")).is_farewell());
    }

    #[test]
    fn pauses_grow_to_a_limit() {
        for attempts in 1..100 {
            let pause = back_off(attempts);
            assert!(pause >= BACK_OFF_MIN / 2 && pause <= BACK_OFF_MAX, "{pause:?}");
        }
        assert!(back_off(20) >= BACK_OFF_MAX / 2);
    }
}
