//! The answers to a call that may have many, or wait for its only one as long as it takes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;
use futures::StreamExt;
use multiraft_proto::v1;
use multiraft_proto::v1::stream_call::Call;
use tokio::sync::mpsc;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use crate::limits::{UNREAD_ANSWERS_MAX, UNREAD_BYTES_MAX};
use crate::session_stream::{self, Place, Sent, Sink};
use crate::tries::Failed;

/// Answers as they come.
pub enum Answers {
    /// Over the stream that all calls share. It is always read, so what nobody takes is kept here, up
    /// to a limit.
    Shared { come: mpsc::Receiver<v1::StreamAnswer>, load: Arc<Load>, sent: Sent },
    /// Over a stream of its own: nothing is fetched that nobody takes.
    Own { messages: Box<Streaming<v1::OpenStreamResponse>>, come: VecDeque<v1::StreamAnswer> },
}

/// Why there is no next answer.
pub enum End {
    Failed(Failed),
    /// Answers came faster than they were taken: those before this are all that were kept.
    Overran,
}

/// What came and was not taken.
#[derive(Debug, Default)]
pub struct Load {
    bytes: AtomicUsize,
    overran: AtomicBool,
}

/// The session stream's end of shared answers.
#[derive(Debug)]
pub struct Listener {
    answers: mpsc::Sender<v1::StreamAnswer>,
    load: Arc<Load>,
    /// The first numbered output that is wanted.
    from: u64,
}

impl Listener {
    /// False: there is no room for it.
    pub fn hear(&self, answer: &v1::StreamAnswer) -> bool {
        // Outputs that were had before must not fill the room of those that were not.
        if answer.output_sequence_num < self.from && !answer.last {
            return true;
        }
        let before = self.load.bytes.fetch_add(bytes(answer), Relaxed);
        let has_room = before <= UNREAD_BYTES_MAX && self.answers.try_send(answer.clone()).is_ok();
        self.load.overran.fetch_or(!has_room, Relaxed);
        has_room
    }
}

fn bytes(answer: &v1::StreamAnswer) -> usize {
    answer.output.as_ref().map_or(0, Bytes::len)
}

impl Answers {
    /// Sends a call over the shared stream. Outputs with numbers below `from` are left out.
    pub fn shared(place: Place, partition: u32, call: Call, from: u64) -> Result<Self, Failed> {
        let (answers, come) = mpsc::channel(UNREAD_ANSWERS_MAX);
        let load = Arc::<Load>::default();
        let listener = Listener { answers, load: load.clone(), from };
        let sent = place.send(partition, call, Sink::Many(listener))?;
        Ok(Self::Shared { come, load, sent })
    }

    /// Sends a call over a stream of its own, which ends with this.
    pub async fn own(channel: Channel, partition_id: u32, call: Call) -> Result<Self, Failed> {
        let calls = vec![v1::StreamCall { call_id: 1, partition_id, call: Some(call) }];
        let request = futures::stream::iter([v1::OpenStreamRequest { calls }]);
        // The node ends the stream when the requests end.
        let requests = request.chain(futures::stream::pending());
        let messages = session_stream::open(channel, requests).await.map_err(Failed::of_stream)?;
        let messages = Box::new(messages);
        Ok(Self::Own { messages, come: VecDeque::new() })
    }

    /// The next answer.
    pub async fn next(&mut self) -> Result<v1::StreamAnswer, End> {
        let answer = match self {
            Self::Own { messages, come } => take_own(messages, come).await?,
            Self::Shared { come, load, sent } => match come.recv().await {
                Some(answer) => {
                    load.bytes.fetch_sub(bytes(&answer), Relaxed);
                    answer
                }
                None if load.overran.load(Relaxed) => return Err(End::Overran),
                None => return Err(End::Failed(sent.why())),
            },
        };
        Failed::check(answer).map_err(End::Failed)
    }

    /// Ends this, but not the call at the node.
    pub fn leave(self) {
        if let Self::Shared { sent, .. } = self {
            sent.leave();
        }
    }
}

async fn take_own(
    messages: &mut Streaming<v1::OpenStreamResponse>,
    come: &mut VecDeque<v1::StreamAnswer>,
) -> Result<v1::StreamAnswer, End> {
    let failed = |status| End::Failed(Failed::of_stream(status));
    loop {
        if let Some(answer) = come.pop_front() {
            return Ok(answer);
        }
        match messages.message().await.map_err(failed)? {
            Some(message) => come.extend(message.answers),
            None => return Err(failed(Status::unavailable("the node ended the stream"))),
        }
    }
}
