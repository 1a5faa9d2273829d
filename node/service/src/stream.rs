//! A call that is answered by a stream: what is there leaves together, as fast as the client reads it.

use crate::limits::{REOPEN_PAUSE, STREAM_BATCH_BYTES};
use crate::primitives::{Operation, command_response, query_response};
use crate::status::call_error;
use crate::unary::{self, ended, message, put_framed, send_reserved};
use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use multiraft_host::{Calls, List, Part};
use multiraft_machine::{Answer, Body, Output, Rejection, Status as OperationStatus};
use multiraft_proto::rpc::Kind;
use std::future::poll_fn;
use std::time::Duration;
use tokio::sync::watch;
use tonic::{Code, Status};

/// Reads the request, opens the stream, sends what it brings. Ends early, dropping it, when the caller
/// gives the call up.
pub async fn serve(
    mut body: RecvStream,
    time: Option<Duration>,
    call: Operation,
    open: impl FnOnce(Bytes) -> Result<Calls, Status>,
    stopping: watch::Receiver<bool>,
    respond: &mut SendResponse<Bytes>,
) {
    let opened = match message(&mut body).await {
        Ok(message) => open(message),
        Err(status) => Err(status),
    };
    let is_stopping = stopping.clone();
    let mut writer = Writer { call, respond, stream: None, batch: BytesMut::new() };
    let status = match opened {
        Err(status) => Ok(status),
        Ok(calls) => {
            tokio::select! {
                biased;
                status = writer.carry(calls) => status,
                () = stopped(stopping) => {
                    Ok(Status::unavailable("the node is stopping: open the stream at another"))
                }
                () = expired(time) => Ok(Status::deadline_exceeded("the stream's time is over")),
            }
        }
    };
    // An error here means that the caller or its connection is gone.
    let pause = !*is_stopping.borrow();
    if let Ok(status) = status
        && writer.end(status, pause).await.is_ok()
        && !body.is_end_stream()
    {
        ended(body).await;
    }
}

pub async fn stopped(mut stopping: watch::Receiver<bool>) {
    // A dropped sender is the end of the node, too.
    let _ = stopping.wait_for(|stop| *stop).await;
}

async fn expired(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}

struct Writer<'a> {
    call: Operation,
    respond: &'a mut SendResponse<Bytes>,
    /// Once the stream has begun: a call that fails at once is answered without one.
    stream: Option<SendStream<Bytes>>,
    batch: BytesMut,
}

impl Writer<'_> {
    /// Sends a stream to its end; returns how it ended.
    async fn carry(&mut self, mut calls: Calls) -> Result<Status, h2::Error> {
        loop {
            let part = tokio::select! {
                biased;
                part = calls.next() => part,
                gone = self.given_up() => return Err(gone),
            };
            let mut next = Some(part.unwrap_or_else(|error| (0, Part::Broken(error))));
            while let Some((_, part)) = next {
                if let Some(status) = self.put(part).await? {
                    self.flush().await?;
                    return Ok(status);
                }
                if self.batch.len() >= STREAM_BATCH_BYTES {
                    self.flush().await?;
                }
                next = calls.try_next();
            }
            self.flush().await?;
        }
    }

    async fn given_up(&mut self) -> h2::Error {
        let reset = match &mut self.stream {
            Some(stream) => poll_fn(|cx| stream.poll_reset(cx)).await,
            None => poll_fn(|cx| self.respond.poll_reset(cx)).await,
        };
        reset.map_or_else(|error| error, h2::Error::from)
    }

    /// Adds a part to what is to be sent; returns the status when it is the last.
    async fn put(&mut self, part: Part) -> Result<Option<Status>, h2::Error> {
        let answer = match part {
            Part::Broken(error) => return Ok(Some(call_error(&error))),
            Part::List(list) => return self.put_list(&list).await,
            Part::Answer(answer) => answer,
        };
        Ok(self.put_answer(answer))
    }

    async fn put_list(&mut self, list: &List) -> Result<Option<Status>, h2::Error> {
        for answer in list.answers() {
            if let Some(status) = self.put_answer(answer) {
                return Ok(Some(status));
            }
            if self.batch.len() >= STREAM_BATCH_BYTES {
                self.flush().await?;
            }
        }
        Ok(None)
    }

    fn put_answer(&mut self, answer: Answer) -> Option<Status> {
        match &answer.result {
            // Closed by its session: an end as any other.
            Err(Rejection::Canceled) => return Some(Status::ok("")),
            Ok(Output::Operation {
                status: OperationStatus::Ok,
                body: Body::None,
                last: true,
                ..
            }) => return Some(Status::ok("")),
            _ => {}
        }
        let last = !matches!(answer.result, Ok(Output::Operation { last: false, .. }));
        match self.put_response(answer) {
            Err(status) => Some(status),
            Ok(()) => last.then(|| Status::ok("")),
        }
    }

    fn put_response(&mut self, answer: Answer) -> Result<(), Status> {
        let Operation { wire, rpc, .. } = self.call;
        match rpc.kind {
            Kind::Command => put_framed(&mut self.batch, &command_response(wire, answer)?),
            Kind::Query => put_framed(&mut self.batch, &query_response(wire, answer)?),
        }
        Ok(())
    }

    /// Begins the response when something is there, or known to come.
    fn begin(&mut self) -> Result<&mut SendStream<Bytes>, h2::Error> {
        if self.stream.is_none() {
            self.stream = Some(unary::begin(self.respond)?);
        }
        Ok(self.stream.as_mut().expect("set above"))
    }

    async fn flush(&mut self) -> Result<(), h2::Error> {
        let bytes = self.batch.split().freeze();
        let stream = self.begin()?;
        if bytes.is_empty() { Ok(()) } else { send_reserved(stream, bytes).await }
    }

    async fn end(&mut self, status: Status, pause: bool) -> Result<(), h2::Error> {
        let status = self.call.wire.refusal(status);
        if status.code() == Code::Unavailable && pause {
            // Existing clients open again at once, thousands of times a second.
            tokio::select! {
                () = tokio::time::sleep(REOPEN_PAUSE) => {}
                gone = self.given_up() => return Err(gone),
            }
        }
        if status.code() != Code::Ok && self.stream.is_none() {
            return self.respond.send_response(status.into_http(), true).map(drop);
        }
        unary::end(self.begin()?, &status)
    }
}
