//! Calls that wait for an answer, and where their answers go.

use crate::calls::Key;
use crate::context::Context;
use crate::io::List;
use crate::{CallError, proxy};
use bytes::Bytes;
use multiraft_machine::{Answer, Query};

/// Who gets the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// A client of this node: the host's number of the call.
    Local { call: u64 },
    /// A node without a member of the group: its number of the call.
    Peer { node: u64, number: u64 },
}

/// A command on its way through the log.
#[derive(Debug)]
pub(crate) struct Command {
    pub reply: Reply,
    pub input: Bytes,
    /// (session, sequence number) to cancel when the caller goes away.
    pub cancel: Option<(u64, u64)>,
    /// When it came, and when it was last proposed or forwarded (0 = never).
    pub since: u64,
    pub sent: u64,
    /// It was applied here and has not ended: its outputs come with what this node applies, however
    /// long that takes, and it is not sent again.
    pub is_open: bool,
    /// Number of its last output that the caller got.
    pub delivered: u64,
}

/// A query on its way to a read index or an index of the machine.
#[derive(Debug)]
pub(crate) struct Read {
    /// (origin, number) of the call.
    pub key: Key,
    pub reply: Reply,
    pub query: Query,
    pub max_received_index: u64,
    /// Answered by one output after the other.
    pub streams: bool,
    pub since: u64,
}

impl Context {
    pub fn answer(&mut self, group: u32, reply: Reply, result: Result<Answer, CallError>) {
        match reply {
            Reply::Local { call } => self.out.answers.push((call, result)),
            Reply::Peer { node, number } => proxy::send_answer(self, node, group, number, result),
        }
    }

    /// A command goes on, be it with no output yet.
    pub fn tell_waits(&mut self, group: u32, reply: Reply) {
        if let Reply::Peer { node, number } = reply {
            proxy::send_waits(self, node, group, number);
        }
    }

    /// Answers a query that streams with a view that somebody else reads from.
    pub fn list(&mut self, group: u32, reply: Reply, list: List) {
        match reply {
            Reply::Local { call } => self.out.lists.push((call, list)),
            Reply::Peer { node, number } => proxy::send_list(self, node, group, number, &list),
        }
    }
}

pub(crate) fn no_leader(group: u32) -> CallError {
    CallError::Unavailable(format!(
        "group {group} brought no answer in time: it may have no leader; retry"
    ))
}
