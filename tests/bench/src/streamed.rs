//! Our session stream: the calls of any number of sessions over one stream.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::rc::Rc;

use anyhow::{Context as _, bail};
use multiraft_proto::v1;
use multiraft_proto::v1::session_stream_client::SessionStreamClient;
use multiraft_proto::v1::stream_call::Call;
use prost::Message;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

/// Who is told of the answers to a call.
enum Reply {
    Once(oneshot::Sender<v1::StreamAnswer>),
    Each(Rc<dyn Fn(v1::StreamAnswer)>),
}

/// One stream to one node.
pub struct Stream {
    /// To go out together, as soon as whoever can has added to them.
    calls: RefCell<Vec<v1::StreamCall>>,
    wake: Notify,
    waiting: RefCell<HashMap<u64, Reply>>,
    last: Cell<u64>,
    /// Whether answers are read.
    reads: watch::Sender<bool>,
    /// Why it ended.
    end: watch::Sender<Option<String>>,
}

impl Stream {
    pub async fn open(node: Channel) -> anyhow::Result<Rc<Self>> {
        let (requests, outgoing) = mpsc::channel(1);
        let mut client = SessionStreamClient::new(node).max_decoding_message_size(16 << 20);
        let opened = client.open_stream(ReceiverStream::new(outgoing)).await;
        let answers = opened.context("open a session stream")?.into_inner();
        let stream = Rc::new(Self {
            calls: RefCell::default(),
            wake: Notify::new(),
            waiting: RefCell::default(),
            last: Cell::new(0),
            reads: watch::Sender::new(true),
            end: watch::Sender::new(None),
        });
        tokio::task::spawn_local(stream.clone().send(requests));
        tokio::task::spawn_local(stream.clone().hear(answers));
        Ok(stream)
    }

    async fn send(self: Rc<Self>, requests: mpsc::Sender<v1::OpenStreamRequest>) {
        loop {
            self.wake.notified().await;
            if self.has_ended() {
                return;
            }
            let calls = self.calls.take();
            if !calls.is_empty() && requests.send(v1::OpenStreamRequest { calls }).await.is_err() {
                return;
            }
        }
    }

    async fn hear(self: Rc<Self>, mut answers: Streaming<v1::OpenStreamResponse>) {
        let mut reads = self.reads.subscribe();
        loop {
            if !*self.reads.borrow() && reads.wait_for(|reads| *reads).await.is_err() {
                return;
            }
            let message = tokio::select! {
                message = answers.message() => message,
                _ = self.ended() => return,
            };
            match message {
                Ok(Some(message)) => message.answers.into_iter().for_each(|a| self.take(a)),
                Ok(None) => return self.end("the node ended it".into()),
                Err(status) => {
                    return self.end(format!("{:?}: {}", status.code(), status.message()));
                }
            }
        }
    }

    fn take(&self, answer: v1::StreamAnswer) {
        let mut waiting = self.waiting.borrow_mut();
        let Entry::Occupied(entry) = waiting.entry(answer.call_id) else { return };
        if let Reply::Each(each) = entry.get() {
            let each = each.clone();
            if answer.last {
                entry.remove();
            }
            // It may begin another call.
            drop(waiting);
            each(answer);
        } else if let Reply::Once(reply) = entry.remove() {
            let _ = reply.send(answer);
        }
    }

    fn end(&self, reason: String) {
        self.end.send_replace(Some(reason));
        self.wake.notify_one();
        // Whoever waits learns that nothing comes.
        drop(self.waiting.take());
    }

    pub fn has_ended(&self) -> bool {
        self.end.borrow().is_some()
    }

    /// Waits for the end; why.
    pub async fn ended(&self) -> String {
        let mut end = self.end.subscribe();
        let ended = end.wait_for(Option::is_some).await;
        ended.ok().and_then(|reason| reason.clone()).unwrap_or_default()
    }

    pub fn close(&self) {
        if !self.has_ended() {
            self.end("it was closed here".into());
        }
    }

    /// Stops to read answers, or goes on.
    pub fn read(&self, reads: bool) {
        self.reads.send_replace(reads);
    }

    fn begin(&self, partition_id: u32, call: Call, reply: Reply) -> Option<u64> {
        if self.has_ended() {
            return None;
        }
        let call_id = self.last.get() + 1;
        self.last.set(call_id);
        self.waiting.borrow_mut().insert(call_id, reply);
        self.push(v1::StreamCall { call_id, partition_id, call: Some(call) });
        Some(call_id)
    }

    fn push(&self, call: v1::StreamCall) {
        self.calls.borrow_mut().push(call);
        self.wake.notify_one();
    }

    /// Begins a call: its number, and where its answer comes, unless the stream ends before.
    /// [`None`]: it has ended.
    pub fn ask(
        &self,
        partition_id: u32,
        call: Call,
    ) -> Option<(u64, oneshot::Receiver<v1::StreamAnswer>)> {
        let (reply, answer) = oneshot::channel();
        Some((self.begin(partition_id, call, Reply::Once(reply))?, answer))
    }

    /// Begins a call with many answers. False: the stream has ended.
    pub fn listen(
        &self,
        partition_id: u32,
        call: Call,
        each: Rc<dyn Fn(v1::StreamAnswer)>,
    ) -> bool {
        self.begin(partition_id, call, Reply::Each(each)).is_some()
    }

    /// Nobody waits for this call any more.
    pub fn cancel(&self, call_id: u64, partition_id: u32) {
        self.waiting.borrow_mut().remove(&call_id);
        let call = Some(Call::Cancel(v1::StreamCancel {}));
        self.push(v1::StreamCall { call_id, partition_id, call });
    }

    async fn call(&self, partition_id: u32, call: Call) -> anyhow::Result<v1::StreamAnswer> {
        let (_, answer) = self.ask(partition_id, call).context("the stream has ended")?;
        let answer = answer.await.context("the stream ended")?;
        let ok = v1::operation_response_headers::Status::Ok;
        if answer.code != 0 || answer.status() != ok {
            bail!("code {} status {}: {}", answer.code, answer.status, answer.message);
        }
        Ok(answer)
    }

    pub async fn command(
        &self,
        group: u32,
        of: (u64, u64),
        what: (u64, u32),
        input: &impl Message,
    ) -> anyhow::Result<()> {
        let input = operation(of, what, input);
        self.call(group, Call::Command(input)).await.map(drop)
    }

    pub async fn keep_alive(&self, group: u32, input: v1::KeepAliveInput) -> anyhow::Result<()> {
        let payload = Some(v1::partition_input::Payload::KeepAlive(input));
        self.call(group, Call::Command(v1::PartitionInput { payload })).await.map(drop)
    }

    pub async fn query<M: Message + Default>(
        &self,
        group: u32,
        (session_id, primitive_id): (u64, u64),
        operation: u32,
        input: &impl Message,
    ) -> anyhow::Result<M> {
        let query = v1::StreamQuery {
            session_id,
            primitive_id,
            operation,
            input: input.encode_to_vec().into(),
            ..Default::default()
        };
        let answer = self.call(group, Call::Query(query)).await?;
        Ok(M::decode(answer.output.context("an answer without an output")?)?)
    }
}

/// A command that is an operation of a primitive.
pub fn operation(
    (session_id, service_id): (u64, u64),
    (sequence_num, operation): (u64, u32),
    input: &impl Message,
) -> v1::PartitionInput {
    let payload = input.encode_to_vec().into();
    let input = v1::ServiceInput { service_id, operation, payload };
    in_session((session_id, sequence_num), v1::session_input::Payload::ServiceInput(input))
}

/// A command of a session.
pub fn in_session(
    (session_id, sequence_num): (u64, u64),
    payload: v1::session_input::Payload,
) -> v1::PartitionInput {
    let input = v1::SessionInput { session_id, sequence_num, payload: Some(payload) };
    let payload = Some(v1::partition_input::Payload::SessionInput(input));
    v1::PartitionInput { payload }
}
