//! Our session stream: the calls of all clients of a node over one stream.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use anyhow::{Context as _, bail};
use multiraft_proto::v1;
use multiraft_proto::v1::session_stream_client::SessionStreamClient;
use multiraft_proto::v1::stream_call::Call;
use prost::Message;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

/// One stream to one node.
pub struct Stream {
    /// To go out together, as soon as whoever can has added to them.
    calls: RefCell<Vec<v1::StreamCall>>,
    wake: Notify,
    waiting: RefCell<HashMap<u64, oneshot::Sender<v1::StreamAnswer>>>,
    last: Cell<u64>,
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
        });
        tokio::task::spawn_local(stream.clone().send(requests));
        tokio::task::spawn_local(stream.clone().hear(answers));
        Ok(stream)
    }

    async fn send(self: Rc<Self>, requests: mpsc::Sender<v1::OpenStreamRequest>) {
        loop {
            self.wake.notified().await;
            let calls = self.calls.take();
            if !calls.is_empty() && requests.send(v1::OpenStreamRequest { calls }).await.is_err() {
                return;
            }
        }
    }

    async fn hear(self: Rc<Self>, mut answers: Streaming<v1::OpenStreamResponse>) {
        while let Ok(Some(message)) = answers.message().await {
            let mut waiting = self.waiting.borrow_mut();
            for answer in message.answers {
                if let Some(reply) = waiting.remove(&answer.call_id) {
                    let _ = reply.send(answer);
                }
            }
        }
        // Whoever waits learns that nothing comes.
        self.waiting.take();
    }

    async fn call(&self, partition_id: u32, call: Call) -> anyhow::Result<v1::StreamAnswer> {
        let call_id = self.last.get() + 1;
        self.last.set(call_id);
        let (reply, answer) = oneshot::channel();
        self.waiting.borrow_mut().insert(call_id, reply);
        self.calls.borrow_mut().push(v1::StreamCall { call_id, partition_id, call: Some(call) });
        self.wake.notify_one();
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
        (session_id, service_id): (u64, u64),
        (sequence_num, operation): (u64, u32),
        input: &impl Message,
    ) -> anyhow::Result<()> {
        let payload = input.encode_to_vec().into();
        let input = v1::ServiceInput { service_id, operation, payload };
        let payload = Some(v1::session_input::Payload::ServiceInput(input));
        let input = v1::SessionInput { session_id, sequence_num, payload };
        let payload = Some(v1::partition_input::Payload::SessionInput(input));
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
