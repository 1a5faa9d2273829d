//! One call: a try on one node, and the tries of a call on any node until its deadline.

use std::error::Error as _;
use std::time::{Duration, Instant};

use multiraft_proto::v1;
use multiraft_proto::v1::stream_call::Call;
use prost::Message;
use tokio::sync::oneshot;
use tonic::{Code, Status};
use v1::partition_input::Payload;

use crate::Error;
use crate::answers::End;
use crate::limits::{ATTEMPT_TIMEOUT, CALL_BYTES_MAX, FAREWELL_MIN, WAIT_MIN};
use crate::nodes::{Node, Nodes};
use crate::session_stream::{Sink, Urgency};
use crate::tries::{Failed, Tries, back_off};

/// When a call must be answered.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    at: Instant,
    timeout: Duration,
    /// The call waits for its turn: silence is no sign of a node that does not work.
    waits: bool,
}

impl Deadline {
    pub fn after(timeout: Duration) -> Self {
        Self { at: Instant::now() + timeout, timeout, waits: false }
    }

    /// Of a command that waits in the log for its turn, as long as it takes. The time counts only
    /// while no node works.
    pub fn of_wait(timeout: Duration) -> Self {
        Self { waits: true, ..Self::after(timeout) }
    }

    /// The failure of a call whose time is over.
    pub fn over(&self, attempts: u32, node: &str, last: &Status) -> Failure {
        let (timeout, node, last) = (self.timeout, node.to_owned(), describe(last));
        Failure::Unavailable(Error::Unavailable { timeout, attempts, node, last })
    }

    /// A node kept the call for so long before it failed.
    pub fn after_try(&mut self, time: Duration, failed: &Failed) {
        let least = if failed.is_farewell() { FAREWELL_MIN } else { WAIT_MIN };
        if self.waits && time >= least {
            *self = Self::of_wait(self.timeout);
        }
    }

    pub fn left(&self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }
}

/// Why the tries ended without a success.
pub enum Failure {
    /// The deadline is over.
    Unavailable(Error),
    /// It was not sent, and should not be again.
    Unsent(Error),
    /// An answer that trying again does not change.
    Final { node: String, status: Status },
}

impl Failure {
    /// The error of a call that belongs to a session.
    pub fn in_session(self, partition: u32, session: u64) -> Error {
        match self {
            Failure::Final { status, .. } if status.code() == Code::DataLoss => {
                Error::SessionExpired { partition, session }
            }
            other => other.into(),
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unavailable(error) | Failure::Unsent(error) => error,
            Failure::Final { status, .. } if status.code() == Code::InvalidArgument => {
                Error::Invalid { message: status.message().into() }
            }
            Failure::Final { node, status } => {
                Error::Refused { node, code: status.code(), message: status.message().into() }
            }
        }
    }
}

/// Asks one node after the other until one answers. The call is the same every time, so a command
/// keeps its sequence number and takes effect once.
pub async fn call(
    nodes: &Nodes,
    partition: u32,
    call: &Call,
    mut deadline: Deadline,
) -> Result<v1::StreamAnswer, Failure> {
    check_size(call)?;
    let mut tries = Tries::default();
    loop {
        let node = tries.node(nodes, partition);
        let began = Instant::now();
        let asked = match deadline.waits {
            false => ask(&node, partition, call, deadline).await,
            true => wait(&node, partition, call).await,
        };
        let failed = match asked {
            Ok(answer) => return Ok(answer),
            Err(failed) => failed,
        };
        deadline.after_try(began.elapsed(), &failed);
        let status = tries.failed(nodes, &node, partition, failed)?;
        let pause = back_off(tries.attempts).min(deadline.left());
        tokio::time::sleep(pause).await;
        if deadline.left().is_zero() {
            return Err(deadline.over(tries.attempts, &node.address, &status));
        }
    }
}

/// One that is too large would end the stream, and all calls with it.
pub fn check_size(call: &Call) -> Result<(), Failure> {
    let bytes = match call {
        Call::Command(input) => input.encoded_len(),
        Call::Query(query) => query.encoded_len(),
        Call::Cancel(_) => 0,
    };
    if bytes <= CALL_BYTES_MAX {
        return Ok(());
    }
    let message = format!("it has {bytes} bytes, at most {CALL_BYTES_MAX} are taken");
    Err(Failure::Unsent(Error::Invalid { message }))
}

fn urgency(call: &Call) -> Urgency {
    match call {
        Call::Command(v1::PartitionInput { payload: Some(Payload::SessionInput(_)) }) => {
            Urgency::Usual
        }
        Call::Command(_) => Urgency::Urgent,
        _ => Urgency::Usual,
    }
}

/// A try of a call that is answered soon.
async fn ask(
    node: &Node,
    partition: u32,
    call: &Call,
    deadline: Deadline,
) -> Result<v1::StreamAnswer, Failed> {
    let full = || Status::resource_exhausted("no place became free on its session stream");
    let place = tokio::time::timeout(deadline.left(), node.place(urgency(call))).await;
    let place = place.unwrap_or_else(|_| Err(Failed::of_call(full())))?;
    let (reply, answer) = oneshot::channel();
    let sent = place.send(partition, call.clone(), Sink::One(reply))?;
    let time = deadline.left().min(ATTEMPT_TIMEOUT);
    match tokio::time::timeout(time, answer).await {
        Ok(Ok(answer)) => Failed::check(answer),
        Ok(Err(_)) => Err(sent.why()),
        Err(_) => Err(Failed::of_call(silent(time))),
    }
}

/// A try of a call that may wait at its node, for as long as the connection lives.
async fn wait(node: &Node, partition: u32, call: &Call) -> Result<v1::StreamAnswer, Failed> {
    let mut answers = node.listen(partition, call.clone(), 0).await?;
    match answers.next().await {
        Ok(answer) => Ok(answer),
        Err(End::Failed(failed)) => Err(failed),
        // Its only answer is larger than what is kept of many that nobody takes.
        Err(End::Overran) => Err(Failed::of_call(Status::unavailable("the answer was too large"))),
    }
}

/// A status with its cause, such as "connection refused".
pub fn describe(status: &Status) -> String {
    let mut text = match status.message() {
        "" => format!("{:?}", status.code()),
        message => message.to_owned(),
    };
    let mut cause = status.source();
    while let Some(error) = cause {
        let error_text = match error.downcast_ref::<h2::Error>().and_then(h2::Error::reason) {
            Some(h2::Reason::INADEQUATE_SECURITY) => "the node takes TLS only: give a CA".into(),
            _ => error.to_string(),
        };
        if !text.contains(&error_text) {
            text = format!("{text}: {error_text}");
        }
        cause = error.source();
    }
    text
}

/// A call that is given up after a time.
pub async fn within<R>(
    time: Duration,
    call: impl Future<Output = Result<R, Status>>,
) -> Result<R, Status> {
    tokio::time::timeout(time, call).await.unwrap_or_else(|_| Err(silent(time)))
}

fn silent(time: Duration) -> Status {
    Status::deadline_exceeded(format!("no answer for {} ms", time.as_millis()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether its time has begun anew after a try that lasted so long.
    fn begins_anew(mut deadline: Deadline, lasted: Duration, failed: &Failed) -> bool {
        let before = deadline.at;
        deadline.after_try(lasted, failed);
        deadline.at > before
    }

    #[test]
    fn the_time_of_a_wait_counts_only_while_no_node_works() {
        let wait = || Deadline::of_wait(Duration::from_secs(60));
        let stopping = Failed::of_stream(Status::unavailable("the node is stopping"));
        // A quiet stream goes from node to node while all of them restart, and hears nothing.
        assert!(begins_anew(wait(), FAREWELL_MIN, &stopping));
        assert!(!begins_anew(wait(), FAREWELL_MIN / 2, &stopping), "it stopped already");
        let no_leader = Failed::of_call(Status::unavailable("no leader"));
        assert!(!begins_anew(wait(), FAREWELL_MIN, &no_leader));
        assert!(begins_anew(wait(), WAIT_MIN, &no_leader));
        let call = Deadline::after(Duration::from_secs(60));
        assert!(!begins_anew(call, WAIT_MIN, &stopping), "a call that does not wait has one time");
    }
}
