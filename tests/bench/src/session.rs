//! A session over a lane: its numbers, and what keeps it alive.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::{Rc, Weak};
use std::time::Duration;

use anyhow::ensure;
use multiraft_proto::v1;
use multiraft_proto::v1::operation_response_headers::Status;
use prost::Message;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tonic::Code;

use crate::lane::Lane;
use crate::streamed::{in_session, operation};

/// Log time runs at most by a quarter faster than the clock.
const SOONEST: f64 = 0.8;

/// What is known of whether a session lives.
pub struct Life {
    pub session: u64,
    timeout: Duration,
    /// When the newest keep-alive that was answered was sent.
    kept: Cell<Instant>,
    /// Its end was asked for.
    pub closed: Cell<bool>,
}

impl Life {
    pub fn new(session: u64, timeout: Duration, kept: Instant) -> Rc<Self> {
        Rc::new(Self { session, timeout, kept: Cell::new(kept), closed: Cell::new(false) })
    }

    /// Whether the cluster may have ended it by now.
    pub fn may_be_over(&self, now: Instant) -> bool {
        self.closed.get() || now >= self.kept.get() + self.timeout.mul_f64(SOONEST)
    }
}

pub struct Session {
    pub lane: Rc<Lane>,
    pub group: u32,
    pub life: Rc<Life>,
    last: Cell<u64>,
    open: RefCell<BTreeSet<u64>>,
    /// Calls with many answers: how many of those were received.
    received: RefCell<Vec<(u64, Rc<Cell<u64>>)>>,
    keeper: RefCell<Option<AbortHandle>>,
}

impl Session {
    /// Opens a session that is kept alive each `period`, the first time after a part of it.
    pub async fn open(
        lane: Rc<Lane>,
        group: u32,
        timeout: Duration,
        period: Duration,
    ) -> anyhow::Result<Rc<Self>> {
        let seconds = timeout.as_secs() as i64;
        let wanted = prost_types::Duration { seconds, nanos: timeout.subsec_nanos() as i32 };
        let input = v1::OpenSessionInput { timeout: Some(wanted) };
        let payload = Some(v1::partition_input::Payload::OpenSession(input));
        let began = Instant::now();
        let answer = lane.call(group, &v1::PartitionInput { payload }).await;
        ensure!(answer.code == 0, "open a session: code {}: {}", answer.code, answer.message);
        let session = Rc::new(Self {
            lane,
            group,
            life: Life::new(answer.session_id, timeout, began),
            last: Cell::new(0),
            open: RefCell::default(),
            received: RefCell::default(),
            keeper: RefCell::default(),
        });
        let keeper = tokio::task::spawn_local(keep_alive(Rc::downgrade(&session), period));
        session.keeper.replace(Some(keeper.abort_handle()));
        Ok(session)
    }

    /// The id of a primitive, which is made if need be.
    pub async fn attach(&self, service: &str, name: &str) -> anyhow::Result<u64> {
        let (service, namespace, name) = (service.into(), "bench".into(), name.into());
        let input = v1::CreateServiceInput { service, namespace, name };
        let answer = self.command(v1::session_input::Payload::CreateService(input)).await;
        let ok = answer.code == 0 && answer.status() == Status::Ok;
        ensure!(ok, "create a primitive: {}", describe(&answer));
        Ok(answer.primitive_id)
    }

    /// Gives a primitive up.
    pub async fn detach(&self, service_id: u64) -> v1::StreamAnswer {
        let input = v1::CloseServiceInput { service_id };
        self.command(v1::session_input::Payload::CloseService(input)).await
    }

    async fn command(&self, payload: v1::session_input::Payload) -> v1::StreamAnswer {
        let number = self.number();
        let input = in_session((self.life.session, number), payload);
        let answer = self.lane.call(self.group, &input).await;
        self.done(number);
        answer
    }

    /// Carries out an operation of a primitive.
    pub async fn operate(&self, of: u64, what: u32, input: &impl Message) -> v1::StreamAnswer {
        let number = self.number();
        let input = operation((self.life.session, of), (number, what), input);
        let answer = self.lane.call(self.group, &input).await;
        self.done(number);
        answer
    }

    /// A number for a command, which stays open until it is done.
    pub fn number(&self) -> u64 {
        let number = self.last.get() + 1;
        self.last.set(number);
        self.open.borrow_mut().insert(number);
        number
    }

    pub fn done(&self, number: u64) {
        self.open.borrow_mut().remove(&number);
    }

    /// Keep-alives acknowledge from now on what was received of this call.
    pub fn acknowledge(&self, number: u64, received: Rc<Cell<u64>>) {
        self.received.borrow_mut().push((number, received));
    }

    /// Sends a keep-alive.
    pub async fn keep(&self) {
        let began = Instant::now();
        let payload = Some(v1::partition_input::Payload::KeepAlive(self.statement()));
        let answer = self.lane.call(self.group, &v1::PartitionInput { payload }).await;
        if answer.code == 0 {
            self.life.kept.set(began);
        }
    }

    fn statement(&self) -> v1::KeepAliveInput {
        let received = self.received.borrow();
        let received = received.iter().map(|(number, count)| (*number, count.get()));
        v1::KeepAliveInput {
            session_id: self.life.session,
            last_command_sequence_num: self.last.get(),
            open_sequence_nums: self.open.borrow().iter().copied().collect(),
            output_stream_sequence_nums: received.filter(|(_, count)| *count > 0).collect(),
            exact: true,
            ..Default::default()
        }
    }

    /// Nothing keeps it alive any more.
    pub fn forsake(&self) {
        if let Some(keeper) = self.keeper.take() {
            keeper.abort();
        }
    }

    pub async fn close(&self) {
        self.forsake();
        self.life.closed.set(true);
        let input = v1::CloseSessionInput { session_id: self.life.session };
        let payload = Some(v1::partition_input::Payload::CloseSession(input));
        self.lane.call(self.group, &v1::PartitionInput { payload }).await;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.forsake();
    }
}

async fn keep_alive(session: Weak<Session>, period: Duration) {
    tokio::time::sleep(period.mul_f64(fastrand::f64())).await;
    loop {
        let Some(session) = session.upgrade() else { return };
        session.keep().await;
        drop(session);
        tokio::time::sleep(period).await;
    }
}

pub fn is_over(answer: &v1::StreamAnswer) -> bool {
    answer.code == Code::DataLoss as u32
}

pub fn describe(answer: &v1::StreamAnswer) -> String {
    match answer.code {
        0 => format!("{}: {}", answer.status().as_str_name(), answer.message),
        code => format!("{:?}: {}", Code::from(code as i32), answer.message),
    }
}
