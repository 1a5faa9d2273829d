//! The session stream to one node: the calls of all sessions and tasks of a client, many to a message.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures::task::AtomicWaker;
use multiraft_proto::v1;
use multiraft_proto::v1::stream_call::Call;
use prost::Message;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tonic::client::Grpc;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};
use tracing::debug;

use crate::answers::Listener;
use crate::leaders::Leaders;
use crate::limits::{
    ATTEMPT_TIMEOUT, FRAME_BYTES_MAX, IDLE_TIME, RESERVE_PART, STREAM_MESSAGE_BYTES_MAX,
};
use crate::tries::Failed;

const OPEN_STREAM: &str = "/atomix.multiraft.v1.SessionStream/OpenStream";

/// A stream that stands, or is being opened, or is over. It ends when this is dropped.
#[derive(Debug)]
pub struct SessionStream {
    shared: Arc<Shared>,
    driver: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Of whoever sends [`State::outgoing`].
    sender: AtomicWaker,
    /// How many more calls the node takes: none until it says how many. Closed when the stream is over.
    places: Arc<Semaphore>,
    /// Further places, for urgent calls only.
    reserve: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct State {
    last_id: u64,
    outgoing: VecDeque<v1::StreamCall>,
    open: HashMap<u64, Open>,
    /// Of the open calls, those that listen.
    listening: usize,
    /// Of [`Shared::places`] and [`Shared::reserve`].
    window: [u32; 2],
    over: Option<Over>,
}

/// A call that has no last answer yet.
#[derive(Debug)]
struct Open {
    sink: Sink,
    _place: OwnedSemaphorePermit,
}

/// Where answers go.
#[derive(Debug)]
pub enum Sink {
    One(oneshot::Sender<v1::StreamAnswer>),
    Many(Listener),
    /// They came faster than they were read: the rest is dropped.
    Overran,
}

#[derive(Clone, Debug)]
enum Over {
    /// There was nothing to do.
    Idle,
    Broken(Status),
}

/// Who may have the last places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    Usual,
    /// Whatever else waits, sessions have to be kept alive.
    Urgent,
}

/// The right to one open call.
pub struct Place {
    shared: Arc<Shared>,
    permit: OwnedSemaphorePermit,
}

/// A call that was sent. Dropping it takes the call back unless it is over.
pub struct Sent {
    shared: Arc<Shared>,
    id: u64,
}

impl SessionStream {
    pub fn open(address: &str, channel: Channel, leaders: Arc<Leaders>) -> Self {
        let shared = Arc::new(Shared::new());
        let driver = tokio::spawn(drive(shared.clone(), address.to_owned(), channel, leaders));
        Self { shared, driver }
    }

    pub fn is_over(&self) -> bool {
        self.shared.lock().over.is_some()
    }

    /// The node has said how many calls it takes.
    pub fn is_open(&self) -> bool {
        self.shared.lock().window != [0, 0]
    }

    /// How many open calls may have answers for as long as they like.
    pub fn listening(&self) -> usize {
        self.shared.lock().listening
    }

    /// Waits until the node takes one more call; `None` when the stream ended for want of calls.
    pub async fn place(&self, urgency: Urgency) -> Result<Option<Place>, Failed> {
        if let Some(permit) = self.shared.permit(urgency).await {
            return Ok(Some(Place { shared: self.shared.clone(), permit }));
        }
        match &self.shared.lock().over {
            Some(Over::Broken(status)) => Err(Failed::of_stream(status.clone())),
            _ => Ok(None),
        }
    }
}

impl Drop for SessionStream {
    fn drop(&mut self) {
        self.driver.abort();
        self.shared.end(Over::Idle);
    }
}

impl Place {
    /// Sends a call.
    pub fn send(self, partition_id: u32, call: Call, sink: Sink) -> Result<Sent, Failed> {
        let Self { shared, permit } = self;
        let mut state = shared.lock();
        if state.over.is_some() {
            drop(state);
            return Err(shared.why());
        }
        state.last_id += 1;
        let id = state.last_id;
        state.listening += usize::from(sink.listens());
        state.open.insert(id, Open { sink, _place: permit });
        let call = v1::StreamCall { call_id: id, partition_id, call: Some(call) };
        state.outgoing.push_back(call);
        drop(state);
        shared.sender.wake();
        Ok(Sent { shared, id })
    }
}

impl Sent {
    /// Why no answer comes any more.
    pub fn why(&self) -> Failed {
        self.shared.why()
    }

    /// Leaves the call open at the node, though nobody listens any more.
    pub fn leave(mut self) {
        // No call has this id.
        self.id = 0;
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        self.shared.cancel(self.id);
    }
}

impl Sink {
    fn listens(&self) -> bool {
        !matches!(self, Sink::One(_))
    }
}

impl Shared {
    fn new() -> Self {
        let (state, sender) = Default::default();
        let none = || Arc::new(Semaphore::new(0));
        Self { state, sender, places: none(), reserve: none() }
    }

    /// `None`: the stream is over.
    async fn permit(&self, urgency: Urgency) -> Option<OwnedSemaphorePermit> {
        let places = self.places.clone().acquire_owned();
        if urgency == Urgency::Usual {
            return places.await.ok();
        }
        tokio::select! {
            biased;
            permit = places => permit.ok(),
            permit = self.reserve.clone().acquire_owned() => permit.ok(),
        }
    }

    /// No code panics while it holds the lock, so what a poisoned one guards is whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn why(&self) -> Failed {
        Failed::of_stream(match &self.lock().over {
            Some(Over::Broken(status)) => status.clone(),
            _ => Status::unavailable("the session stream ended"),
        })
    }

    fn take(&self, message: v1::OpenStreamResponse) {
        let mut state = self.lock();
        if message.window > 0 && state.window == [0, 0] {
            let reserve = message.window / RESERVE_PART;
            state.window = [message.window - reserve, reserve];
            self.places.add_permits(state.window[0] as usize);
            self.reserve.add_permits(reserve as usize);
        }
        for answer in message.answers {
            state.take(answer);
        }
    }

    fn cancel(&self, id: u64) {
        let mut state = self.lock();
        let Some(canceled) = state.remove(id) else { return };
        let unsent = state.outgoing.iter().rposition(|call| call.call_id == id);
        match unsent {
            Some(position) => drop(state.outgoing.remove(position)),
            None => {
                let call = Some(Call::Cancel(v1::StreamCancel {}));
                state.outgoing.push_back(v1::StreamCall { call_id: id, partition_id: 0, call });
            }
        }
        // Only now another call may have the place: behind the cancel.
        drop((state, canceled));
        self.sender.wake();
    }

    /// Ends the stream if no call is open, and none about to be.
    fn retire(&self) -> bool {
        let [places, reserve] = self.lock().window;
        let Ok(_all) = self.places.try_acquire_many(places) else { return false };
        let Ok(_all_reserved) = self.reserve.try_acquire_many(reserve) else { return false };
        self.end(Over::Idle);
        true
    }

    fn end(&self, over: Over) {
        let mut state = self.lock();
        state.over.get_or_insert(over);
        state.outgoing.clear();
        state.listening = 0;
        let open = std::mem::take(&mut state.open);
        self.places.close();
        self.reserve.close();
        // Whoever waits for an answer finds the reason in the state.
        drop((state, open));
        self.sender.wake();
    }
}

impl State {
    fn take(&mut self, answer: v1::StreamAnswer) {
        let id = answer.call_id;
        let Some(open) = self.open.get_mut(&id) else { return };
        let is_last = answer.last || !open.sink.listens();
        if let Sink::Many(listener) = &open.sink
            && !listener.hear(&answer)
        {
            open.sink = Sink::Overran;
        }
        if is_last && let Some(Open { sink: Sink::One(reply), .. }) = self.remove(id) {
            // Fails when nobody waits any more.
            let _ = reply.send(answer);
        }
    }

    fn remove(&mut self, id: u64) -> Option<Open> {
        let open = self.open.remove(&id)?;
        self.listening -= usize::from(open.sink.listens());
        Some(open)
    }

    /// As many calls as go well into one message.
    fn frame(&mut self) -> Option<v1::OpenStreamRequest> {
        let mut calls = Vec::new();
        let mut bytes = 0;
        while let Some(call) = self.outgoing.front() {
            bytes += call.encoded_len();
            if !calls.is_empty() && bytes > FRAME_BYTES_MAX {
                break;
            }
            calls.extend(self.outgoing.pop_front());
        }
        (!calls.is_empty()).then_some(v1::OpenStreamRequest { calls })
    }
}

/// What is to be sent, gathered when the connection can take it.
struct Requests(Arc<Shared>);

impl futures::Stream for Requests {
    type Item = v1::OpenStreamRequest;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.sender.register(cx.waker());
        let mut state = self.0.lock();
        match state.frame() {
            Some(frame) => Poll::Ready(Some(frame)),
            None if state.over.is_some() => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

/// Opens a stream of calls on a node.
pub async fn open(
    channel: Channel,
    requests: impl futures::Stream<Item = v1::OpenStreamRequest> + Send + 'static,
) -> Result<Streaming<v1::OpenStreamResponse>, Status> {
    let mut grpc = Grpc::new(channel).max_decoding_message_size(STREAM_MESSAGE_BYTES_MAX);
    grpc.ready().await.map_err(|error| Status::from_error(error.into()))?;
    let path = http::uri::PathAndQuery::from_static(OPEN_STREAM);
    let codec = tonic_prost::ProstCodec::default();
    let opened = grpc.streaming(tonic::Request::new(requests), path, codec).await;
    Ok(opened.map_err(explain)?.into_inner())
}

fn explain(status: Status) -> Status {
    if status.code() != Code::Unimplemented {
        return status;
    }
    Status::unimplemented(
        "it does not serve session streams (atomix.multiraft.v1.SessionStream): \
         this client needs nodes of Multiraft 0.1.0 or later",
    )
}

async fn drive(shared: Arc<Shared>, address: String, channel: Channel, leaders: Arc<Leaders>) {
    let first = async {
        let mut messages = open(channel, Requests(shared.clone())).await?;
        let message = messages.message().await?.ok_or_else(ended)?;
        Ok::<_, Status>((messages, message))
    };
    let silent = || Err(Status::deadline_exceeded("no session stream was opened in time"));
    let over = match timeout(ATTEMPT_TIMEOUT, first).await.unwrap_or_else(|_| silent()) {
        Err(status) => Over::Broken(status),
        Ok((messages, message)) => {
            debug!(address, window = message.window, "opened a session stream");
            carry(&shared, messages, message, &leaders).await
        }
    };
    debug!(address, ?over, "a session stream is over");
    shared.end(over);
}

/// Takes in what comes, until the end.
async fn carry(
    shared: &Shared,
    mut messages: Streaming<v1::OpenStreamResponse>,
    mut message: v1::OpenStreamResponse,
    leaders: &Leaders,
) -> Over {
    loop {
        leaders.hint(std::mem::take(&mut message.leaders));
        shared.take(message);
        message = loop {
            match timeout(IDLE_TIME, messages.message()).await {
                Ok(Ok(Some(message))) => break message,
                Ok(Ok(None)) => return Over::Broken(ended()),
                Ok(Err(status)) => return Over::Broken(status),
                Err(_) if shared.retire() => return Over::Idle,
                Err(_) => {}
            }
        };
    }
}

fn ended() -> Status {
    Status::unavailable("the node ended the session stream")
}

#[cfg(test)]
#[path = "session_stream_tests.rs"]
mod tests;
