//! What a client has open beside its present operation: a subscription to the map of its group, the
//! wait for its lock, a query that watches a primitive. Each has one number, under which it is asked for again at another
//! node when its own ends it or dies, or at random.

use bytes::Bytes;
use multiraft_machine::{Answer, Body, Output, Rejection, Status};
use multiraft_proto::{lock, map, rpc, v1};
use multiraft_shard::{CallError, Input};
use prost::Message as _;

use crate::client::{Client, Step};

/// (place, boot, call).
pub type CallKey = (usize, u64, u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Stream,
    Lock,
    /// A query that lists a primitive and goes on with its changes. At another node it begins anew.
    Watch,
}

impl Kind {
    pub const ALL: [Kind; 3] = [Kind::Stream, Kind::Lock, Kind::Watch];
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Standing {
    /// Number in the session; 0 = nothing is open.
    pub sequence: u64,
    /// Counts attempts of all such commands: what belongs to an earlier one is stale.
    pub attempt: u64,
    /// The newest attempt; `None` until the first.
    pub at: Option<CallKey>,
    /// Number of the last output, and its index.
    pub received: u64,
    pub index: u64,
    /// Place that it came from.
    pub place: usize,
}

/// What a client knows of the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    Free,
    /// It waits, and knew of this fencing token when it began.
    Waiting {
        floor: u64,
    },
    /// Until this time.
    Held {
        until: u64,
    },
    /// It waits no more, and may have been granted the lock all the same. Once a keep-alive without
    /// the number is through (`over`) it is not any more, and what it has is released.
    GivenUp {
        /// The client's operation then.
        operation: u64,
        over: bool,
    },
}

/// What an answer to such a command means.
#[derive(Debug, PartialEq)]
pub enum Said {
    /// It goes on elsewhere.
    Ended,
    SessionLost,
    /// It was canceled at the wish of an earlier attempt's caller.
    Canceled,
    /// One of the outputs of the subscription.
    Event {
        number: u64,
        event: Option<map::Event>,
    },
    /// The lock is ours, with this fencing token.
    Granted(u64),
    /// What there is, or what changed.
    Told(Bytes),
}

impl Client {
    pub fn standing(&self, kind: Kind) -> &Standing {
        &self.standing[kind as usize]
    }

    pub fn standing_mut(&mut self, kind: Kind) -> &mut Standing {
        &mut self.standing[kind as usize]
    }

    /// Begins one, under a new number. The world sends it.
    pub fn stand(&mut self, kind: Kind) {
        self.last += 1;
        let attempt = self.standing(kind).attempt + 1;
        *self.standing_mut(kind) = Standing { sequence: self.last, attempt, ..Standing::default() };
    }

    /// Nothing more is of interest.
    pub fn drop_standing(&mut self, kind: Kind) {
        let attempt = self.standing(kind).attempt + 1;
        *self.standing_mut(kind) = Standing { attempt, ..Standing::default() };
    }

    pub fn open_numbers(&self) -> Vec<u64> {
        self.standing.iter().map(|s| s.sequence).filter(|number| *number != 0).collect()
    }

    /// Command → highest output that came.
    pub fn acknowledged(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let commands = Kind::ALL.into_iter().filter(|kind| *kind != Kind::Watch);
        let streams = commands.map(|kind| self.standing(kind)).filter(|s| s.received > 0);
        streams.map(|s| (s.sequence, s.received))
    }

    /// The command as a call with this number.
    pub fn standing_request(&self, kind: Kind, call: u64) -> Input {
        let sequence = self.standing(kind).sequence;
        let (primitive, operation, input) = match kind {
            Kind::Stream => {
                (self.map_id, rpc::map::EVENTS, map::EventsInput::default().encode_to_vec())
            }
            Kind::Lock => {
                (self.lock_id, rpc::lock::ACQUIRE, lock::AcquireInput::default().encode_to_vec())
            }
            Kind::Watch => return self.watch_request(call, sequence),
        };
        let payload = self.operate(sequence, primitive, operation, input);
        let input = v1::PartitionInput { payload: Some(payload) }.encode_to_vec().into();
        let cancel = Some((self.session_id, sequence));
        Input::Command { call, group: self.group, input, cancel }
    }

    /// What an answer to the newest attempt means.
    pub fn said(&self, kind: Kind, result: &Result<Answer, CallError>) -> Said {
        let Ok(answer) = result else { return Said::Ended };
        let (sequence, bytes) = match &answer.result {
            Err(Rejection::TooManyCommands) => return Said::Ended,
            Err(Rejection::Canceled) if kind == Kind::Lock => return Said::Canceled,
            Err(Rejection::UnknownSession { .. } | Rejection::Canceled) if self.may_end() => {
                return Said::SessionLost;
            }
            Ok(Output::Operation {
                sequence,
                status: Status::Ok,
                body: Body::Payload(bytes),
                last,
                ..
            }) if *last == (kind == Kind::Lock) => (*sequence, bytes.clone()),
            other => panic!("[standing] {kind:?} of session {}: {other:?}", self.session_id),
        };
        match kind {
            Kind::Stream => Said::Event { number: sequence, event: event(bytes) },
            Kind::Lock => {
                let output = lock::AcquireOutput::decode(bytes).expect("an output decodes");
                Said::Granted(output.index)
            }
            Kind::Watch => Said::Told(bytes),
        }
    }

    /// What the lock asks for next.
    pub fn lock_step(&mut self, now: u64, ends: bool) -> Option<Step> {
        match self.hold {
            Hold::Held { until } if ends || now >= until => {
                // Its session ends in time, and the lock goes on.
                if !ends && self.may_end() && self.rng.u32(..6) == 0 {
                    self.forget_session();
                    return Some(Step::OpenSession);
                }
                Some(Step::Release)
            }
            Hold::GivenUp { over: false, .. } => Some(Step::KeepAlive),
            Hold::GivenUp { over: true, .. } => Some(Step::Release),
            Hold::Free | Hold::Waiting { .. } | Hold::Held { .. } => None,
        }
    }
}

fn event(bytes: Bytes) -> Option<map::Event> {
    let output = map::EventsOutput::decode(bytes).expect("an output decodes");
    output.event.filter(|event| event.event.is_some())
}
