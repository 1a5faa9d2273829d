//! One of those who want a lock: a session after the other, each of which takes it and gives it up in
//! one of the ways that there are.

use std::rc::Rc;
use std::time::Duration;

use multiraft_proto::v1::StreamAnswer;
use multiraft_proto::v1::operation_response_headers::Status;
use multiraft_proto::{lock, rpc};
use prost::Message as _;
use tokio::time::{Instant, sleep};
use tonic::Code;

use super::table::{Phase, Table, add};
use crate::lane::Lane;
use crate::session::{Session, describe, is_over};
use crate::streamed::operation;

const SERVICE: &str = "atomix.runtime.lock.v1.Lock";
/// Of a careful contender.
pub const TIMEOUT: Duration = Duration::from_secs(60);
/// Of a careless one, which lets its session expire now and then.
pub const TIMEOUT_CARELESS: Duration = Duration::from_secs(10);
/// What clients are told to do: a keep-alive each quarter of the timeout.
const KEEP_ALIVES: u32 = 4;
const HOLD_MILLIS: std::ops::Range<u64> = 50..500;
const PATIENCE_MILLIS: std::ops::Range<u64> = 100..3000;
/// A careless contender forsakes one in so many of its locks.
const EXPIRES: u32 = 50;

pub struct Contender {
    pub lane: Rc<Lane>,
    pub group: u32,
    pub lock: usize,
    pub careless: bool,
    pub table: Rc<Table>,
    pub random: fastrand::Rng,
}

/// How an attempt went.
enum Turn {
    Granted(u64),
    Not,
    /// The session is over.
    Over,
}

/// How a lock is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Wait,
    /// The cluster ends the wait.
    Timeout,
    /// The client does.
    Cancel,
    /// The session is closed meanwhile.
    Close,
}

impl Contender {
    pub async fn open(&self) -> anyhow::Result<(Rc<Session>, u64)> {
        let timeout = if self.careless { TIMEOUT_CARELESS } else { TIMEOUT };
        let period = timeout / KEEP_ALIVES;
        let session = Session::open(self.lane.clone(), self.group, timeout, period).await?;
        let primitive = session.attach(SERVICE, &format!("lock-{}", self.lock)).await?;
        Ok((session, primitive))
    }

    /// Returns how often it had the lock.
    pub async fn run(mut self, mut session: Rc<Session>, mut primitive: u64) -> u64 {
        let table = self.table.clone();
        let mut grants = 0;
        table.until(Phase::Taking).await;
        let mut turn = self.first(&session, primitive).await;
        loop {
            if let Turn::Granted(token) = turn {
                grants += 1;
                turn = self.hold(&session, &mut primitive, token).await;
            }
            if table.is_ending() {
                if matches!(turn, Turn::Not) {
                    session.close().await;
                }
                return grants;
            }
            if matches!(turn, Turn::Over) {
                match self.open().await {
                    Ok(opened) => (session, primitive) = opened,
                    Err(error) => {
                        table.violation.found(format!("lock {}: {error:#}", self.lock));
                        return grants;
                    }
                }
            }
            turn = self.acquire(&session, primitive).await;
        }
    }

    /// Takes the lock, or waits for it, and keeps it until the churn begins.
    async fn first(&mut self, session: &Rc<Session>, primitive: u64) -> Turn {
        add(&self.table.counts.asked);
        let answer =
            session.operate(primitive, rpc::lock::ACQUIRE, &lock::AcquireInput::default()).await;
        let turn = self.judge(session, &answer, Way::Wait);
        self.table.until(Phase::Churn).await;
        turn
    }

    async fn acquire(&mut self, session: &Session, primitive: u64) -> Turn {
        let patience = Duration::from_millis(self.random.u64(PATIENCE_MILLIS));
        let way = match self.random.u32(..100) {
            0..15 => Way::Timeout,
            15..30 => Way::Cancel,
            30..32 => Way::Close,
            _ => Way::Wait,
        };
        let timeout = (way == Way::Timeout).then(|| duration(patience));
        let number = session.number();
        let of = (session.life.session, primitive);
        let what = (number, rpc::lock::ACQUIRE);
        let input = operation(of, what, &lock::AcquireInput { timeout });
        let call = session.lane.call(session.group, &input);
        let answer = match way {
            Way::Wait | Way::Timeout => call.await,
            Way::Cancel => session.lane.call_for(session.group, &input, patience).await,
            Way::Close => tokio::select! {
                answer = call => answer,
                () = sleep(patience) => {
                    add(&self.table.counts.closed_waiting);
                    session.close().await;
                    return Turn::Over;
                }
            },
        };
        session.done(number);
        self.judge(session, &answer, way)
    }

    /// What the answer to an Acquire means.
    fn judge(&self, session: &Session, answer: &StreamAnswer, way: Way) -> Turn {
        let counts = &self.table.counts;
        if is_over(answer) {
            return self.over(session);
        }
        if answer.code == Code::Cancelled as u32 {
            add(if way == Way::Cancel { &counts.cancels } else { &counts.unasked });
            return Turn::Not;
        }
        if way == Way::Timeout && answer.code == 0 && answer.status() == Status::Conflict {
            add(&counts.timeouts);
            return Turn::Not;
        }
        let output = answer.output.clone().map(lock::AcquireOutput::decode);
        let (Status::Ok, Some(Ok(lock::AcquireOutput { index }))) = (answer.status(), output)
        else {
            self.unexpected("Acquire", session, answer);
            return Turn::Not;
        };
        if answer.index > index {
            add(&counts.waited);
        }
        self.table.granted((self.group, self.lock), index, &session.life);
        Turn::Granted(index)
    }

    /// The cluster said that the session is gone.
    fn over(&self, session: &Session) -> Turn {
        if !session.life.may_be_over(Instant::now()) {
            let (lock, id) = (self.lock, session.life.session);
            self.table
                .violation
                .found(format!("lock {lock}: session {id} was ended though kept alive"));
        }
        add(&self.table.counts.lost);
        Turn::Over
    }

    fn unexpected(&self, what: &str, session: &Session, answer: &StreamAnswer) {
        let (lock, id, said) = (self.lock, session.life.session, describe(answer));
        self.table
            .violation
            .found(format!("lock {lock}: {what} of session {id} was answered {said}"));
    }

    /// Holds the lock for a while and gives it up.
    async fn hold(&mut self, session: &Rc<Session>, primitive: &mut u64, token: u64) -> Turn {
        let table = self.table.clone();
        if !table.is_ending() {
            let time = Duration::from_millis(self.random.u64(HOLD_MILLIS));
            tokio::select! {
                () = sleep(time) => {}
                () = table.until(Phase::Ending) => {}
            }
        }
        if self.careless && !table.is_ending() && self.random.u32(..EXPIRES) == 0 {
            add(&table.counts.expired);
            session.forsake();
            return Turn::Over;
        }
        match self.random.u32(..100) {
            0..2 => {
                add(&table.counts.closed_holding);
                session.close().await;
                Turn::Over
            }
            2..3 => self.detach(session, primitive, token).await,
            _ => self.release(session, *primitive, token).await,
        }
    }

    /// The session goes on, but not with this lock; then with it again.
    async fn detach(&mut self, session: &Session, primitive: &mut u64, token: u64) -> Turn {
        add(&self.table.counts.detached);
        self.table.gives_up(self.lock, token);
        let answer = session.detach(*primitive).await;
        if is_over(&answer) {
            return self.over(session);
        }
        if answer.code != 0 || answer.status() != Status::Ok {
            self.unexpected("ClosePrimitive", session, &answer);
        }
        match session.attach(SERVICE, &format!("lock-{}", self.lock)).await {
            Ok(id) => *primitive = id,
            Err(_) => return self.over(session),
        }
        Turn::Not
    }

    async fn release(&mut self, session: &Session, primitive: u64, token: u64) -> Turn {
        self.table.gives_up(self.lock, token);
        let input = lock::ReleaseInput::default();
        let answer = session.operate(primitive, rpc::lock::RELEASE, &input).await;
        if is_over(&answer) {
            return self.over(session);
        }
        if answer.code != 0 || answer.status() != Status::Ok {
            self.unexpected(&format!("Release with token {token}"), session, &answer);
        }
        Turn::Not
    }
}

fn duration(of: Duration) -> prost_types::Duration {
    prost_types::Duration { seconds: of.as_secs() as i64, nanos: of.subsec_nanos() as i32 }
}
