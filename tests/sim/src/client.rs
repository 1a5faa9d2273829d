//! Clients that increment and read one counter of a group, through any node, and repeat a command
//! with the same number until it is answered.

use bytes::Bytes;
use fastrand::Rng;
use multiraft_check::counter::Call;
use multiraft_machine::{Answer, Body, Output, Query, Rejection, Status};
use multiraft_proto::{counter, rpc, v1};
use multiraft_shard::{CallError, Consistency, Input};
use prost::Message as _;

/// Longer than any run: that a session expires is another test's matter.
const SESSION_SECONDS: i64 = 3_600;

/// An attempt that brought no answer is repeated after this long, in microseconds.
pub const PATIENCE_MICROS: u64 = 2_500_000;

/// What a client is about to learn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    OpenSession,
    CreateCounter,
    Increment,
    Read,
    KeepAlive,
}

pub struct Client {
    pub group: u32,
    step: Step,
    session_id: u64,
    primitive_id: u64,
    /// Index at which the session had the counter; a node that is not there yet knows neither.
    ready_at: u64,
    /// Number of the present or last command.
    sequence: u64,
    /// When the present operation began.
    started: u64,
    /// Counts operations: an answer to an earlier one is stale.
    pub operation: u64,
    /// Counts attempts of all operations.
    pub attempt: u64,
    pub done: bool,
    pub calls: Vec<Call>,
}

impl Client {
    pub fn new(group: u32) -> Self {
        Client {
            group,
            step: Step::OpenSession,
            session_id: 0,
            primitive_id: 0,
            ready_at: 0,
            sequence: 0,
            started: 0,
            operation: 1,
            attempt: 0,
            done: false,
            calls: Vec::new(),
        }
    }

    /// The present operation as a call with this number.
    pub fn request(&self, call: u64) -> Input {
        use v1::partition_input::Payload;
        let group = self.group;
        let input = match self.step {
            Step::Read => {
                let query = Query {
                    session_id: self.session_id,
                    primitive_id: self.primitive_id,
                    operation: rpc::counter::GET,
                    input: Bytes::new(),
                };
                let consistency = Consistency::Linearizable;
                let max_received_index = self.ready_at;
                return Input::Query { call, group, query, max_received_index, consistency };
            }
            Step::OpenSession => Payload::OpenSession(v1::OpenSessionInput {
                timeout: Some(prost_duration(SESSION_SECONDS)),
            }),
            Step::CreateCounter => {
                self.command(v1::session_input::Payload::CreateService(v1::CreateServiceInput {
                    service: rpc::counter::TYPE.into(),
                    namespace: String::new(),
                    name: "counter".into(),
                }))
            }
            Step::Increment => {
                self.command(v1::session_input::Payload::ServiceInput(v1::ServiceInput {
                    service_id: self.primitive_id,
                    operation: rpc::counter::INCREMENT,
                    payload: counter::IncrementInput { delta: 1 }.encode_to_vec().into(),
                }))
            }
            Step::KeepAlive => Payload::KeepAlive(v1::KeepAliveInput {
                session_id: self.session_id,
                last_command_sequence_num: self.sequence,
                exact: true,
                ..Default::default()
            }),
        };
        let input = v1::PartitionInput { payload: Some(input) }.encode_to_vec().into();
        let cancel = (self.step == Step::Increment).then_some((self.session_id, self.sequence));
        Input::Command { call, group, input, cancel }
    }

    fn command(&self, payload: v1::session_input::Payload) -> v1::partition_input::Payload {
        v1::partition_input::Payload::SessionInput(v1::SessionInput {
            session_id: self.session_id,
            sequence_num: self.sequence,
            payload: Some(payload),
        })
    }

    /// Takes an answer to the present operation. True: the next one may begin.
    pub fn answered(&mut self, result: Result<Answer, CallError>, now: u64) -> bool {
        let Ok(answer) = result else { return false };
        let output = match answer.result {
            Ok(output) => output,
            Err(Rejection::TooManyCommands | Rejection::TooManySessions) => return false,
            Err(rejection) => panic!("{:?} of session {}: {rejection}", self.step, self.session_id),
        };
        match (self.step, output) {
            (Step::OpenSession, Output::SessionOpened { session_id }) => {
                self.session_id = session_id;
            }
            (Step::KeepAlive, Output::SessionKept) => {}
            (
                Step::CreateCounter,
                Output::Operation { body: Body::PrimitiveCreated { primitive_id }, .. },
            ) => (self.primitive_id, self.ready_at) = (primitive_id, answer.index),
            (
                Step::Increment,
                Output::Operation { status: Status::Ok, body: Body::Payload(bytes), .. },
            ) => {
                let output = counter::IncrementOutput::decode(bytes).expect("an output decodes");
                self.saw(1, output.value, now);
            }
            (
                Step::Read,
                Output::Operation { status: Status::Ok, body: Body::Payload(bytes), .. },
            ) => {
                let output = counter::GetOutput::decode(bytes).expect("an output decodes");
                self.saw(0, output.value, now);
            }
            (step, output) => panic!("{step:?} was answered {output:?}"),
        }
        true
    }

    fn saw(&mut self, delta: u64, value: i64, now: u64) {
        let value = u64::try_from(value).expect("the counter only grows");
        self.calls.push(Call { started: self.started, ended: now, delta, value });
    }

    /// What a client must never do: the command looks like another one.
    pub fn renumber(&mut self) {
        self.sequence += u64::from(self.step == Step::Increment);
    }

    /// Begins the next operation.
    pub fn next(&mut self, now: u64, rng: &mut Rng) {
        self.step = match self.step {
            Step::OpenSession => Step::CreateCounter,
            _ => match rng.u32(..20) {
                0 => Step::KeepAlive,
                1..8 => Step::Read,
                _ => Step::Increment,
            },
        };
        if matches!(self.step, Step::CreateCounter | Step::Increment) {
            self.sequence += 1;
        }
        self.operation += 1;
        self.started = now;
    }
}

fn prost_duration(seconds: i64) -> prost_types::Duration {
    prost_types::Duration { seconds, nanos: 0 }
}
