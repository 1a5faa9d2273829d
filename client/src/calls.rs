//! One call: a try on one node, and the tries of a call on any node until its deadline.

use std::error::Error as _;
use std::time::{Duration, Instant};

use multiraft_proto::v1;
use tonic::client::Grpc;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};
use tracing::debug;

use crate::Error;
use crate::limits::{ATTEMPT_TIMEOUT, BACK_OFF_MAX, BACK_OFF_MIN, MESSAGE_BYTES_MAX, WAIT_MIN};
use crate::nodes::Nodes;

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

    /// Time for one try; `None`: as long as its connection lives.
    fn of_try(&self) -> Option<Duration> {
        (!self.waits).then(|| self.left().min(ATTEMPT_TIMEOUT))
    }

    /// The failure of a call whose time is over.
    pub fn over(&self, attempts: u32, node: &str, last: &Status) -> Failure {
        let (timeout, node, last) = (self.timeout, node.to_owned(), describe(last));
        Failure::Unavailable(Error::Unavailable { timeout, attempts, node, last })
    }

    /// A node kept the call for so long before it failed.
    pub fn after_try(&mut self, time: Duration) {
        if self.waits && time >= WAIT_MIN {
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
            Failure::Unavailable(error) => error,
            Failure::Final { status, .. } if status.code() == Code::InvalidArgument => {
                Error::Invalid { message: status.message().into() }
            }
            Failure::Final { node, status } => {
                Error::Refused { node, code: status.code(), message: status.message().into() }
            }
        }
    }
}

/// Sends a request until a node answers it, to one node after the other. The request is the same
/// every time, so a command keeps its sequence number and takes effect once.
pub async fn call<Q, R>(
    nodes: &Nodes,
    partition: u32,
    path: &'static str,
    request: &Q,
    mut deadline: Deadline,
) -> Result<R, Failure>
where
    Q: prost::Message + Clone + 'static,
    R: prost::Message + Default + 'static,
{
    let mut tried = Vec::new();
    let mut attempts = 0;
    loop {
        let node = nodes.next(partition, &mut tried);
        let (began, time) = (Instant::now(), deadline.of_try());
        let answer = within(time, unary(&node.channel, path, request.clone())).await;
        attempts += 1;
        deadline.after_try(began.elapsed());
        let status = match answer {
            Ok(response) => return Ok(response),
            Err(status) => status,
        };
        debug!(path, partition, node = node.address, attempts, %status, "a try failed");
        match judge(&status) {
            Verdict::Final => return Err(Failure::Final { node: node.address.clone(), status }),
            Verdict::Retry => nodes.forget_leader(partition),
            Verdict::Unreachable => {
                nodes.forget_leader(partition);
                node.blame();
            }
        }
        let pause = back_off(attempts).min(deadline.left());
        tokio::time::sleep(pause).await;
        if deadline.left().is_zero() {
            return Err(deadline.over(attempts, &node.address, &status));
        }
        tried.push(node.address.clone());
    }
}

#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The node works, but cannot carry this out now.
    Retry,
    /// The node, or the way to it, does not work.
    Unreachable,
    Final,
}

/// A status that came over the wire has no source; one that tonic made of a broken connection has.
pub fn judge(status: &Status) -> Verdict {
    match status.code() {
        _ if status.source().is_some() => Verdict::Unreachable,
        Code::DeadlineExceeded => Verdict::Unreachable,
        // NOT_FOUND: this node does not know the group (yet).
        Code::Unavailable | Code::ResourceExhausted | Code::NotFound => Verdict::Retry,
        _ => Verdict::Final,
    }
}

/// Doubles with every try, and is spread so that clients that failed together do not return
/// together.
pub fn back_off(attempts: u32) -> Duration {
    let doubled = BACK_OFF_MIN.saturating_mul(1 << (attempts - 1).min(16));
    doubled.min(BACK_OFF_MAX).mul_f64(fastrand::f64().midpoint(1.0))
}

/// A status with its cause, such as "connection refused".
fn describe(status: &Status) -> String {
    let mut text = match status.message() {
        "" => format!("{:?}", status.code()),
        message => message.to_owned(),
    };
    let mut cause = status.source();
    while let Some(error) = cause {
        let error_text = error.to_string();
        if !text.contains(&error_text) {
            text = format!("{text}: {error_text}");
        }
        cause = error.source();
    }
    text
}

/// A call that is given up after a time.
async fn within<R>(
    time: Option<Duration>,
    call: impl Future<Output = Result<R, Status>>,
) -> Result<R, Status> {
    let Some(time) = time else { return call.await };
    let silent = || Status::deadline_exceeded(format!("no answer for {} ms", time.as_millis()));
    tokio::time::timeout(time, call).await.unwrap_or_else(|_| Err(silent()))
}

async fn ready(channel: &Channel) -> Result<Grpc<Channel>, Status> {
    let mut grpc = Grpc::new(channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX);
    grpc.ready().await.map_err(|error| Status::from_error(error.into()))?;
    Ok(grpc)
}

/// One try on one node.
pub async fn unary<Q, R>(channel: &Channel, path: &'static str, request: Q) -> Result<R, Status>
where
    Q: prost::Message + 'static,
    R: prost::Message + Default + 'static,
{
    let mut grpc = ready(channel).await?;
    let path = http::uri::PathAndQuery::from_static(path);
    let codec = tonic_prost::ProstCodec::default();
    Ok(grpc.unary(tonic::Request::new(request), path, codec).await?.into_inner())
}

/// Opens a stream on one node.
pub async fn streaming<Q, R>(
    channel: &Channel,
    path: &'static str,
    request: Q,
) -> Result<Streaming<R>, Status>
where
    Q: prost::Message + 'static,
    R: prost::Message + Default + 'static,
{
    let mut grpc = ready(channel).await?;
    let path = http::uri::PathAndQuery::from_static(path);
    let codec = tonic_prost::ProstCodec::default();
    Ok(grpc.server_streaming(tonic::Request::new(request), path, codec).await?.into_inner())
}

/// What one node says of itself and its groups.
pub async fn node_info(endpoint: &str, timeout: Duration) -> Result<v1::GetInfoResponse, Error> {
    let path = "/atomix.multiraft.v1.Node/GetInfo";
    node_service(endpoint, path, &v1::GetInfoRequest {}, timeout).await
}

/// One call to one node's administration, by its path, without retries.
pub async fn node_service<Q, R>(
    endpoint: &str,
    path: &'static str,
    request: &Q,
    timeout: Duration,
) -> Result<R, Error>
where
    Q: prost::Message + Clone + 'static,
    R: prost::Message + Default + 'static,
{
    let nodes = Nodes::new(&[endpoint.to_owned()], crate::Routing::InOrder)?;
    let node = nodes.next(0, &mut Vec::new());
    let call = unary(&node.channel, path, request.clone());
    let status = match within(Some(timeout), call).await {
        Ok(response) => return Ok(response),
        Err(status) => status,
    };
    // Whatever the node itself answered is for the caller to judge: there is no other to ask.
    let is_answer = status.source().is_none() && status.code() != Code::DeadlineExceeded;
    if is_answer {
        return Err(Failure::Final { node: endpoint.into(), status }.into());
    }
    let last = describe(&status);
    Err(Error::Unavailable { timeout, attempts: 1, node: endpoint.into(), last })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_change_is_tried_again() {
        assert_eq!(judge(&Status::unavailable("no leader")), Verdict::Retry);
        assert_eq!(judge(&Status::not_found("group 3")), Verdict::Retry);
        assert_eq!(judge(&Status::deadline_exceeded("")), Verdict::Unreachable);
        for code in [Code::DataLoss, Code::Aborted, Code::InvalidArgument, Code::Cancelled] {
            assert_eq!(judge(&Status::new(code, "")), Verdict::Final, "{code:?}");
        }
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
