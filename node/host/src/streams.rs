//! Calls with many answers: from the loop, which waits for nobody, to a client that may be slow.

use crate::handle::{Handle, Shared};
use crate::inbox::Message;
use crate::limits::STREAM_BYTES_MAX;
use crate::measures::CallKind;
use bytes::Bytes;
use multiraft_machine::{Answer, Body, Output, Query};
use multiraft_shard::{CallError, Consistency, Input, List};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use tokio::sync::mpsc;

/// A part of the answer to a call.
#[derive(Debug)]
pub enum Part {
    /// First of a query: its outputs are read from here, as fast as the caller takes them.
    List(Box<List>),
    Answer(Answer),
    /// The last: the call broke off, and may be made again.
    Broken(CallError),
}

/// What both ends know.
#[derive(Debug, Default)]
struct Load {
    bytes: AtomicUsize,
    /// It was cut off with answers outstanding.
    overran: AtomicBool,
}

/// The loop's end of a call.
#[derive(Debug)]
pub(crate) struct Sender {
    parts: mpsc::Sender<(u64, Part)>,
    load: Arc<Load>,
    /// What the caller calls it.
    id: u64,
}

/// Calls under numbers of their caller's own, answered over one queue. Dropping it ends them; commands
/// stay in their sessions, which may ask for them again, here or elsewhere.
pub struct Calls {
    handle: Handle,
    sender: mpsc::Sender<(u64, Part)>,
    parts: mpsc::Receiver<(u64, Part)>,
    load: Arc<Load>,
    /// By the caller's number: ours, and the group.
    open: HashMap<u64, (u64, u32)>,
}

impl Sender {
    /// False: nobody takes it any more, or not fast enough; all calls of the queue are over.
    pub fn send(&self, part: Part) -> bool {
        let before = self.load.bytes.fetch_add(bytes(&part), Relaxed);
        if before > STREAM_BYTES_MAX || self.parts.try_send((self.id, part)).is_err() {
            self.load.overran.store(true, Relaxed);
            return false;
        }
        true
    }
}

impl Calls {
    pub(crate) fn new(handle: Handle, answers_max: usize) -> Self {
        let (sender, parts) = mpsc::channel(answers_max);
        Calls { handle, sender, parts, load: Arc::default(), open: HashMap::new() }
    }

    /// How many are not answered for good.
    pub fn open(&self) -> usize {
        self.open.len()
    }

    pub fn is_open(&self, id: u64) -> bool {
        self.open.contains_key(&id)
    }

    /// Proposes an encoded `PartitionInput`. `cancel` = (session, sequence number) of a command.
    pub fn command(&mut self, id: u64, group: u32, input: Bytes, cancel: Option<(u64, u64)>) {
        self.begin(id, CallKind::Command, group, |call| Input::Command {
            call,
            group,
            input,
            cancel,
        });
    }

    /// Asks the machine of a group, for one answer or a stream of them.
    pub fn query(
        &mut self,
        id: u64,
        group: u32,
        query: Query,
        max_received_index: u64,
        consistency: Consistency,
        streams: bool,
    ) {
        self.begin(id, CallKind::Query, group, |call| Input::Query {
            call,
            group,
            query,
            max_received_index,
            consistency,
            streams,
        });
    }

    fn begin(&mut self, id: u64, kind: CallKind, group: u32, input: impl FnOnce(u64) -> Input) {
        let sender = Sender { parts: self.sender.clone(), load: self.load.clone(), id };
        let call = self.handle.begin(kind, group, sender, input);
        self.open.insert(id, (call, group));
    }

    /// The caller waits for it no more: a command that waits is canceled.
    pub fn cancel(&mut self, id: u64) {
        if let Some((call, group)) = self.open.remove(&id) {
            self.handle.shared.abandon(call, group, false);
        }
    }

    /// The next part of any call; behind its last none follows.
    ///
    /// # Errors
    /// The answers are read too slowly: all calls are over.
    pub async fn next(&mut self) -> Result<(u64, Part), CallError> {
        loop {
            // A sender is kept here, so there is always another part to wait for.
            let part = match self.overran() {
                true => self.parts.try_recv().ok(),
                false => self.parts.recv().await,
            };
            let Some((id, part)) = part else {
                let reason = "the answers were read too slowly: open the stream again to go on";
                return Err(CallError::Unavailable(reason.into()));
            };
            if let Some(part) = self.took(id, part) {
                return Ok((id, part));
            }
        }
    }

    /// The next part, if it is there.
    pub fn try_next(&mut self) -> Option<(u64, Part)> {
        loop {
            let (id, part) = self.parts.try_recv().ok()?;
            if let Some(part) = self.took(id, part) {
                return Some((id, part));
            }
        }
    }

    fn overran(&self) -> bool {
        self.load.overran.load(Relaxed)
    }

    /// `None` for a call that was canceled.
    fn took(&mut self, id: u64, part: Part) -> Option<Part> {
        self.load.bytes.fetch_sub(bytes(&part), Relaxed);
        if !self.is_open(id) {
            return None;
        }
        if is_last(&part) {
            self.open.remove(&id);
        }
        Some(part)
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        for (call, group) in std::mem::take(&mut self.open).into_values() {
            self.handle.shared.abandon(call, group, true);
        }
    }
}

impl Shared {
    fn abandon(&self, call: u64, group: u32, keeps: bool) {
        if self.forget(call) {
            self.inbox.push(Message::Shard(Input::Abandon { call, group, keeps }));
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
