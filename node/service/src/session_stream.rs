//! The session stream: calls of any number of sessions over one stream. Messages come in and go out in
//! one future, so that a client that does not read is not read from either.

use crate::limits::{
    LEADERS_PERIOD, SESSION_STREAM_ANSWERS_MAX, SESSION_STREAM_LEADERS_MAX, SESSION_STREAM_WINDOW,
    STREAM_BATCH_BYTES,
};
use crate::principal::Principal;
use crate::stream::stopped;
use crate::stream_calls::{self, Request, RequestedCall, answer, refused};
use crate::unary::{self, Messages, put_framed, send_reserved};
use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use multiraft_host::{Calls, Handle, List, Part};
use multiraft_proto::v1;
use prost::Message as _;
use std::collections::BTreeMap;
use std::future::poll_fn;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tonic::Status;

/// Serves until the client ends the stream, is gone, or the node stops.
pub async fn serve(
    body: RecvStream,
    principal: Principal,
    handle: Handle,
    stopping: watch::Receiver<bool>,
    respond: &mut SendResponse<Bytes>,
) {
    let Ok(stream) = unary::begin(respond) else { return };
    let calls = handle.calls(SESSION_STREAM_ANSWERS_MAX);
    let (leaders, next) = (BTreeMap::new(), v1::OpenStreamResponse::default());
    let mut served = Served { principal, handle, calls, leaders, next, bytes: 0, stream };
    served.next.window = SESSION_STREAM_WINDOW as u32;
    let status = tokio::select! {
        biased;
        status = served.carry(Messages::new(body)) => status,
        () = stopped(stopping) => {
            Ok(Status::unavailable("the node is stopping: open the stream at another"))
        }
    };
    // An error means that the caller or its connection is gone.
    if let Ok(status) = status {
        let _ = served.end(status).await;
    }
}

struct Served {
    principal: Principal,
    handle: Handle,
    calls: Calls,
    /// By partition that there were calls for.
    leaders: BTreeMap<u32, String>,
    /// The message that is being filled, and about how large it is.
    next: v1::OpenStreamResponse,
    bytes: usize,
    stream: SendStream<Bytes>,
}

impl Served {
    async fn carry(&mut self, mut requests: Messages) -> Result<Status, h2::Error> {
        self.flush().await?;
        let mut look = Instant::now();
        loop {
            tokio::select! {
                request = requests.next() => match request {
                    Ok(Some(message)) => {
                        if let Err(status) = self.take(message) {
                            return Ok(status);
                        }
                    }
                    Ok(None) => return Ok(Status::ok("")),
                    Err(status) => return Ok(status),
                },
                part = self.calls.next() => match part {
                    Ok((id, part)) => self.put(id, part).await?,
                    Err(error) => return Ok(crate::status::call_error(&error)),
                },
                () = sleep_until(look) => {
                    self.look_for_leaders().await;
                    look = Instant::now() + LEADERS_PERIOD;
                }
                gone = poll_fn(|cx| self.stream.poll_reset(cx)) => return gone.map(|_| Status::ok("")),
            }
            while let Some((id, part)) = self.calls.try_next() {
                self.put(id, part).await?;
            }
            self.flush().await?;
        }
    }

    /// Begins the calls of a message.
    fn take(&mut self, message: Bytes) -> Result<(), Status> {
        let request: Request = crate::envelope::decode(message)?;
        for call in request.calls {
            let (id, group) = (call.call_id, call.partition_id);
            if let Err(status) = self.begin(call) {
                self.push(refused(id, &status));
            } else if group != 0 && self.leaders.len() < SESSION_STREAM_LEADERS_MAX {
                self.leaders.entry(group).or_default();
            }
        }
        Ok(())
    }

    fn begin(&mut self, call: RequestedCall) -> Result<(), Status> {
        let (id, group) = (call.call_id, call.partition_id);
        if call.cancel.is_some() {
            self.calls.cancel(id);
            return Ok(());
        }
        if self.calls.is_open(id) {
            return Err(Status::already_exists(format!("call_id: {id} is open")));
        }
        if self.calls.open() >= SESSION_STREAM_WINDOW {
            let message = format!("{SESSION_STREAM_WINDOW} calls are open on this stream: wait");
            return Err(Status::resource_exhausted(message));
        }
        stream_calls::begin(&self.principal, &mut self.calls, id, group, call)
    }

    async fn put(&mut self, id: u64, part: Part) -> Result<(), h2::Error> {
        match part {
            Part::List(list) => self.put_list(id, &list).await?,
            Part::Answer(given) => self.push(answer(id, given)),
            Part::Broken(error) => self.push(refused(id, &crate::status::call_error(&error))),
        }
        if self.bytes >= STREAM_BATCH_BYTES { self.flush().await } else { Ok(()) }
    }

    async fn put_list(&mut self, id: u64, list: &List) -> Result<(), h2::Error> {
        for given in list.answers() {
            self.push(answer(id, given));
            if self.bytes >= STREAM_BATCH_BYTES {
                self.flush().await?;
            }
        }
        Ok(())
    }

    fn push(&mut self, answer: v1::StreamAnswer) {
        self.bytes += answer.output.as_ref().map_or(0, Bytes::len) + answer.message.len() + 24;
        self.next.answers.push(answer);
    }

    async fn look_for_leaders(&mut self) {
        for (group, known) in &mut self.leaders {
            let address = self.handle.leader_address(*group).await.unwrap_or_default();
            if address != *known {
                known.clone_from(&address);
                self.next.leaders.push(v1::StreamLeader { partition_id: *group, address });
            }
        }
    }

    async fn flush(&mut self) -> Result<(), h2::Error> {
        let message = std::mem::take(&mut self.next);
        self.bytes = 0;
        if message.encoded_len() == 0 {
            return Ok(());
        }
        let mut bytes = BytesMut::new();
        put_framed(&mut bytes, &message);
        send_reserved(&mut self.stream, bytes.freeze()).await
    }

    async fn end(&mut self, status: Status) -> Result<(), h2::Error> {
        self.flush().await?;
        unary::end(&mut self.stream, &status)
    }
}
