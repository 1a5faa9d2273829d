//! Calls with many answers: from the loop, which waits for nobody, to a client that may be slow.

use crate::handle::Shared;
use crate::inbox::Message;
use crate::limits::{STREAM_ANSWERS_MAX, STREAM_BYTES_MAX};
use multiraft_machine::{Answer, Body, Output};
use multiraft_shard::{CallError, Input, List};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use tokio::sync::mpsc;

/// A part of the answer to a streaming call.
#[derive(Debug)]
pub enum Part {
    /// First of a query: its outputs are read from here, as fast as the caller takes them.
    List(Box<List>),
    Answer(Answer),
    /// The last: the stream broke off, and may be opened again.
    Broken(CallError),
}

/// What both ends know.
#[derive(Debug, Default)]
struct Load {
    bytes: AtomicUsize,
    /// It was cut off with answers outstanding.
    overran: AtomicBool,
}

#[derive(Debug)]
pub(crate) struct Sender {
    parts: mpsc::Sender<Part>,
    load: Arc<Load>,
}

/// The answers to one call, in order. Dropping it ends the call.
pub struct Stream {
    parts: mpsc::Receiver<Part>,
    load: Arc<Load>,
    shared: Arc<Shared>,
    call: u64,
    group: u32,
    ended: bool,
}

pub(crate) fn channel(shared: &Arc<Shared>, call: u64, group: u32) -> (Sender, Stream) {
    let (sender, parts) = mpsc::channel(STREAM_ANSWERS_MAX);
    let load = Arc::new(Load::default());
    let stream =
        Stream { parts, load: load.clone(), shared: shared.clone(), call, group, ended: false };
    (Sender { parts: sender, load }, stream)
}

impl Sender {
    /// False: nobody takes it any more, or not fast enough; the stream is over.
    pub fn send(&self, part: Part) -> bool {
        let before = self.load.bytes.fetch_add(bytes(&part), Relaxed);
        if before > STREAM_BYTES_MAX || self.parts.try_send(part).is_err() {
            self.load.overran.store(true, Relaxed);
            return false;
        }
        true
    }
}

impl Stream {
    /// The next part; `None` behind the last.
    pub async fn next(&mut self) -> Option<Part> {
        if self.ended {
            return None;
        }
        let part = self.parts.recv().await;
        Some(self.took(part))
    }

    /// The next part, if it is there.
    pub fn try_next(&mut self) -> Option<Part> {
        if self.ended {
            return None;
        }
        let part = self.parts.try_recv().ok()?;
        Some(self.took(Some(part)))
    }

    fn took(&mut self, part: Option<Part>) -> Part {
        let part = part.unwrap_or_else(|| {
            let overran = self.load.overran.load(Relaxed);
            Part::Broken(CallError::Unavailable(match overran {
                true => "this stream was read too slowly: open it again to go on".into(),
                false => "the node is stopping".into(),
            }))
        });
        self.load.bytes.fetch_sub(bytes(&part).min(self.load.bytes.load(Relaxed)), Relaxed);
        self.ended = is_last(&part);
        part
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let (call, group) = (self.call, self.group);
        if self.shared.forget(call) {
            self.shared.inbox.push(Message::Shard(Input::Abandon { call, group }));
        }
    }
}

/// Whether no other part follows.
pub(crate) fn is_last(part: &Part) -> bool {
    match part {
        Part::List(list) => !list.goes_on,
        Part::Answer(Answer { result: Ok(Output::Operation { last, .. }), .. }) => *last,
        Part::Answer(_) | Part::Broken(_) => true,
    }
}

fn bytes(part: &Part) -> usize {
    match part {
        Part::Answer(Answer {
            result: Ok(Output::Operation { body: Body::Payload(b), .. }),
            ..
        }) => b.len(),
        _ => 0,
    }
}
