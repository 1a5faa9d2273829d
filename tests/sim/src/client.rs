//! Clients that use a counter and the registers of a map in one group, through any node, and repeat
//! a command with the same number until it is answered. Some have short sessions, stay away, and
//! begin again when their session has ended.

use bytes::Bytes;
use fastrand::Rng;
use multiraft_machine::{Answer, Body, Output, Query, Rejection, Status};
use multiraft_proto::{counter, lock, map, rpc, v1};
use multiraft_shard::{CallError, Consistency, Input};
use prost::Message as _;

use crate::models::Outcome;
use crate::standing::{Hold, Kind, Standing};
use crate::user::User;
use crate::uses::{Primitive, Use};

/// Longer than any run: such a session never ends.
const LASTING_SECONDS: i64 = 3_600;

/// Registers of each group.
pub const REGISTERS: u64 = 3;

/// What a client is about to learn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    OpenSession,
    CreateCounter,
    CreateMap,
    CreateLock,
    Increment,
    Read,
    Put {
        register: u64,
        value: u64,
    },
    Get {
        register: u64,
    },
    KeepAlive,
    /// The lock.
    Release,
    /// One with a model, or a call of it.
    CreateUsed(Primitive),
    Use(Use),
}

/// What an answer means for the client.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    /// Nothing yet: the attempt will be repeated.
    Nothing,
    /// The operation is done.
    Done(Done),
    /// The session is no more; whether the operation took effect is unknown.
    SessionLost,
}

/// What an operation brought.
#[derive(Clone, Debug, PartialEq)]
pub enum Done {
    Session,
    Primitive,
    Incremented(u64),
    Read(u64),
    Put(map::PutOutput),
    Got(Option<map::IndexedValue>),
    Kept,
    Released,
    Used(Outcome),
}

pub struct Client {
    pub group: u32,
    pub number: u64,
    pub(crate) rng: Rng,
    pub step: Step,
    timeout_seconds: i64,
    pub session_id: u64,
    counter_id: u64,
    pub map_id: u64,
    pub lock_id: u64,
    /// Index at which the session had its primitives; a node that is not there yet knows neither.
    ready_at: u64,
    /// Number of the present or last command that is no standing one.
    pub sequence: u64,
    /// Highest number so far.
    pub last: u64,
    subscribes: bool,
    locks: bool,
    /// By [`Kind`].
    pub standing: [Standing; 3],
    pub hold: Hold,
    /// It uses the primitives with models instead of the others.
    pub user: Option<User>,
    /// It held the lock after the faults had ended.
    has_locked: bool,
    /// When the present operation began.
    pub started: u64,
    /// When the session was last known to be kept.
    kept: u64,
    /// Values written so far.
    pub written: u64,
    /// Counts operations: an answer to an earlier one is stale.
    pub operation: u64,
    /// Counts attempts of all operations.
    pub attempt: u64,
    /// Reads that are left for the end.
    finale: Option<u64>,
    pub done: bool,
}

impl Client {
    pub fn new(number: u64, groups: u32, seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed ^ (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let group = rng.u32(1..=groups);
        let timeout_seconds = if rng.bool() { LASTING_SECONDS } else { rng.i64(2..8) };
        let (subscribes, locks) = (rng.bool(), rng.bool());
        Client {
            group,
            number,
            rng,
            step: Step::OpenSession,
            timeout_seconds,
            session_id: 0,
            counter_id: 0,
            map_id: 0,
            lock_id: 0,
            ready_at: 0,
            sequence: 0,
            last: 0,
            subscribes,
            locks,
            standing: Default::default(),
            hold: Hold::Free,
            user: None,
            has_locked: false,
            started: 0,
            kept: 0,
            written: 0,
            operation: 1,
            attempt: 0,
            finale: None,
            done: false,
        }
    }

    /// One that uses the primitives with models. All its commands are answered: its session lasts.
    pub fn of_models(number: u64, groups: u32, seed: u64) -> Self {
        let (timeout_seconds, subscribes, locks) = (LASTING_SECONDS, false, false);
        let user = Some(User::default());
        let client = Client::new(number, groups, seed);
        Client { timeout_seconds, subscribes, locks, user, ..client }
    }

    /// The present operation as a call with this number.
    pub fn request(&self, call: u64) -> Input {
        use v1::partition_input::Payload;
        let group = self.group;
        let input = match self.step {
            Step::Read => {
                return self.query(call, self.counter_id, rpc::counter::GET, Bytes::new());
            }
            Step::Get { register } => {
                let input = map::GetInput { key: key(register) }.encode_to_vec().into();
                return self.query(call, self.map_id, rpc::map::GET, input);
            }
            Step::Use(one) => {
                let id = self.used_id(one.primitive);
                let input = one.input();
                if one.is_query() {
                    return self.query(call, id, one.operation, input.into());
                }
                self.operate(self.sequence, id, one.operation, input)
            }
            Step::CreateUsed(primitive) => {
                // Its own of each: the counter and the map of the others are others.
                self.create(primitive.service(), &format!("{primitive:?}"))
            }
            Step::OpenSession => Payload::OpenSession(v1::OpenSessionInput {
                timeout: Some(prost_types::Duration { seconds: self.timeout_seconds, nanos: 0 }),
            }),
            Step::CreateCounter => self.create(rpc::counter::TYPE, "counter"),
            Step::CreateMap => self.create(rpc::map::TYPE, "map"),
            Step::CreateLock => self.create(rpc::lock::TYPE, "lock"),
            Step::Release => {
                let input = lock::ReleaseInput {}.encode_to_vec();
                self.operate(self.sequence, self.lock_id, rpc::lock::RELEASE, input)
            }
            Step::Increment => {
                let input = counter::IncrementInput { delta: 1 }.encode_to_vec();
                self.operate(self.sequence, self.counter_id, rpc::counter::INCREMENT, input)
            }
            Step::Put { register, value } => {
                let value = Bytes::copy_from_slice(&value.to_be_bytes());
                let input = map::PutInput { key: key(register), value, ..Default::default() };
                self.operate(self.sequence, self.map_id, rpc::map::PUT, input.encode_to_vec())
            }
            Step::KeepAlive => Payload::KeepAlive(v1::KeepAliveInput {
                session_id: self.session_id,
                last_command_sequence_num: self.last,
                exact: true,
                open_sequence_nums: self.open_numbers(),
                output_stream_sequence_nums: self.acknowledged().collect(),
                ..Default::default()
            }),
        };
        let input = v1::PartitionInput { payload: Some(input) }.encode_to_vec().into();
        let cancel = self.is_numbered().then_some((self.session_id, self.sequence));
        Input::Command { call, group, input, cancel }
    }

    pub(crate) fn query(
        &self,
        call: u64,
        primitive_id: u64,
        operation: u32,
        input: Bytes,
    ) -> Input {
        let query =
            Query { session_id: self.session_id, primitive_id, operation, input, sequence_num: 0 };
        let (group, max_received_index) = (self.group, self.ready_at);
        let consistency = Consistency::Linearizable;
        Input::Query { call, group, query, max_received_index, consistency, streams: false }
    }

    fn create(&self, service: &str, name: &str) -> v1::partition_input::Payload {
        let create = v1::session_input::Payload::CreateService(v1::CreateServiceInput {
            service: service.into(),
            namespace: String::new(),
            name: name.into(),
        });
        self.command(self.sequence, create)
    }

    pub(crate) fn operate(
        &self,
        sequence: u64,
        primitive: u64,
        operation: u32,
        input: Vec<u8>,
    ) -> v1::partition_input::Payload {
        let call = v1::session_input::Payload::ServiceInput(v1::ServiceInput {
            service_id: primitive,
            operation,
            payload: input.into(),
        });
        self.command(sequence, call)
    }

    fn command(
        &self,
        sequence_num: u64,
        payload: v1::session_input::Payload,
    ) -> v1::partition_input::Payload {
        v1::partition_input::Payload::SessionInput(v1::SessionInput {
            session_id: self.session_id,
            sequence_num,
            payload: Some(payload),
        })
    }

    /// The present operation is a command that executes once.
    pub fn is_numbered(&self) -> bool {
        use Step::*;
        match self.step {
            CreateCounter | CreateMap | CreateLock | Increment | Put { .. } | Release => true,
            CreateUsed(_) => true,
            Use(one) => !one.is_query(),
            OpenSession | Read | Get { .. } | KeepAlive => false,
        }
    }

    /// Takes an answer to the present operation.
    pub fn answered(&mut self, result: &Result<Answer, CallError>) -> Heard {
        let Ok(answer) = result else { return Heard::Nothing };
        let output = match &answer.result {
            Ok(output) => output.clone(),
            Err(Rejection::TooManyCommands | Rejection::TooManySessions) => return Heard::Nothing,
            Err(Rejection::UnknownSession { .. }) if self.may_end() => {
                return Heard::SessionLost;
            }
            Err(rejection) => {
                panic!("[session] {:?} of session {}: {rejection}", self.step, self.session_id)
            }
        };
        Heard::Done(self.done_with(output, answer.index))
    }

    fn done_with(&mut self, output: Output, index: u64) -> Done {
        let (body, step) = match (output, self.step) {
            (Output::SessionOpened { session_id }, Step::OpenSession) => {
                (self.session_id, self.kept) = (session_id, self.started);
                return Done::Session;
            }
            (Output::SessionKept, Step::KeepAlive) => {
                self.kept = self.started;
                if let Hold::GivenUp { operation, over } = &mut self.hold {
                    *over = self.operation > *operation;
                }
                return Done::Kept;
            }
            (Output::Operation { status, .. }, Step::Release) => {
                // Who gave up waiting does not know.
                let knows = matches!(self.hold, Hold::Held { .. });
                let is_sound = status == Status::Ok || status == Status::Conflict && !knows;
                assert!(is_sound, "[lock] session {} was to hold it: {status:?}", self.session_id);
                self.hold = Hold::Free;
                return Done::Released;
            }
            (Output::Operation { status, body, .. }, Step::Use(one)) => {
                return self.used(one, status, body, index);
            }
            (Output::Operation { status: Status::Ok, body, .. }, step) => (body, step),
            // The only failure there is: the register was never written.
            (Output::Operation { status: Status::NotFound, .. }, Step::Get { .. }) => {
                return Done::Got(None);
            }
            (output, step) => panic!("[answer] {step:?} was answered {output:?}"),
        };
        match (step, body) {
            (Step::CreateCounter, Body::PrimitiveCreated { primitive_id }) => {
                (self.counter_id, self.ready_at) = (primitive_id, index);
                Done::Primitive
            }
            (Step::CreateMap, Body::PrimitiveCreated { primitive_id }) => {
                (self.map_id, self.ready_at) = (primitive_id, index);
                Done::Primitive
            }
            (Step::CreateLock, Body::PrimitiveCreated { primitive_id }) => {
                (self.lock_id, self.ready_at) = (primitive_id, index);
                Done::Primitive
            }
            (Step::CreateUsed(primitive), Body::PrimitiveCreated { primitive_id }) => {
                self.ready_at = index;
                self.created(primitive, primitive_id);
                Done::Primitive
            }
            (Step::Increment, Body::Payload(bytes)) => {
                let output: counter::IncrementOutput = decoded(bytes);
                Done::Incremented(count(output.value))
            }
            (Step::Read, Body::Payload(bytes)) => {
                let output: counter::GetOutput = decoded(bytes);
                Done::Read(count(output.value))
            }
            (Step::Put { .. }, Body::Payload(bytes)) => Done::Put(decoded(bytes)),
            (Step::Get { .. }, Body::Payload(bytes)) => {
                let output: map::GetOutput = decoded(bytes);
                Done::Got(output.value)
            }
            (step, body) => panic!("[answer] {step:?} was answered {body:?}"),
        }
    }

    /// What a client must never do: the command looks like another one.
    pub fn renumber(&mut self) {
        self.sequence += u64::from(self.is_numbered());
        self.last = self.last.max(self.sequence);
    }

    /// Its session may end by itself.
    pub fn may_end(&self) -> bool {
        self.timeout_seconds < LASTING_SECONDS
    }

    /// Begins a new session in place of one that ended.
    pub fn begin_again(&mut self, now: u64) {
        self.forget_session();
        self.step = Step::OpenSession;
        self.started = now;
        self.operation += 1;
    }

    pub(crate) fn forget_session(&mut self) {
        (self.sequence, self.last, self.ready_at) = (0, 0, 0);
        Kind::ALL.into_iter().for_each(|kind| self.drop_standing(kind));
        (self.hold, self.has_locked, self.finale) = (Hold::Free, false, None);
    }

    /// Begins the next operation. In the end everything is read once more, then the client is done.
    /// `newest` is the index of the newest change of the map that any client knows of.
    pub fn next(&mut self, now: u64, ends: bool, newest: u64) {
        self.step = self.next_step(now, ends, newest);
        if self.is_numbered() {
            self.last += 1;
            self.sequence = self.last;
        }
        self.started = now;
        self.operation += 1;
    }

    fn next_step(&mut self, now: u64, ends: bool, newest: u64) -> Step {
        if self.user.is_some() {
            return self.next_use(ends);
        }
        match self.step {
            Step::OpenSession => return Step::CreateCounter,
            Step::CreateCounter => return Step::CreateMap,
            Step::CreateMap if self.locks => return Step::CreateLock,
            _ => {}
        }
        if self.subscribes && self.standing(Kind::Stream).sequence == 0 {
            self.stand(Kind::Stream);
        }
        if self.needs_keeping(now) {
            return Step::KeepAlive;
        }
        if let Some(step) = self.lock_step(now, ends) {
            return step;
        }
        if !ends {
            return self.any_step();
        }
        let lags = self.subscribes && self.standing(Kind::Stream).index < newest;
        if lags || self.locks && !self.has_locked {
            return Step::KeepAlive;
        }
        self.last_reads()
    }

    /// Whether it is to wait for the lock from now on.
    pub fn wants_lock(&mut self, ends: bool) -> bool {
        let can = self.locks && self.hold == Hold::Free && self.knows_lock();
        can && if ends { !self.has_locked } else { self.rng.u32(..4) == 0 }
    }

    fn knows_lock(&self) -> bool {
        !matches!(
            self.step,
            Step::OpenSession | Step::CreateCounter | Step::CreateMap | Step::CreateLock
        )
    }

    /// It waits no more: the lock is its own until some time.
    pub fn granted(&mut self, now: u64, ends: bool) {
        self.drop_standing(Kind::Lock);
        self.has_locked = ends;
        self.hold = Hold::Held { until: now + self.rng.u64(..2_000_000) };
    }

    /// Four times in each timeout, as clients do.
    fn needs_keeping(&self, now: u64) -> bool {
        now >= self.kept + self.timeout_seconds as u64 * 1_000_000 / 4
    }

    fn any_step(&mut self) -> Step {
        let register = self.rng.u64(..REGISTERS);
        match self.rng.u32(..20) {
            0 => Step::KeepAlive,
            1..5 => Step::Read,
            5..8 => Step::Get { register },
            8..12 => {
                self.written += 1;
                Step::Put { register, value: self.number << 32 | self.written }
            }
            _ => Step::Increment,
        }
    }

    fn last_reads(&mut self) -> Step {
        let left = self.finale.unwrap_or(REGISTERS + 1);
        self.finale = Some(left.saturating_sub(1));
        self.done = left == 0;
        match left.checked_sub(2) {
            Some(register) => Step::Get { register },
            None => Step::Read,
        }
    }

    /// Gives up waiting for the lock.
    pub fn give_up(&mut self) {
        self.drop_standing(Kind::Lock);
        self.hold = Hold::GivenUp { operation: self.operation, over: false };
    }
}

pub(crate) fn key(register: u64) -> String {
    format!("register-{register}")
}

fn decoded<M: prost::Message + Default>(bytes: Bytes) -> M {
    M::decode(bytes).expect("an output decodes")
}

fn count(value: i64) -> u64 {
    u64::try_from(value).expect("the counter only grows")
}
