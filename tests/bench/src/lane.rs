//! A session stream that lasts: it is opened again, at another node if need be, whenever it breaks.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use multiraft_proto::v1;
use multiraft_proto::v1::stream_call::Call;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tonic::Code;

use crate::ours;
use crate::streamed::Stream;

const OPEN_TIMEOUT: Duration = Duration::from_secs(3);
/// Before the next node is tried.
const OPEN_PAUSE: Duration = Duration::from_millis(50);
/// How often a lane that is elsewhere looks whether its own node is back.
const HOME_PERIOD: Duration = Duration::from_secs(1);
/// Before a call is made again that nothing is known of.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// The calls of many sessions.
pub struct Lane {
    nodes: Rc<Vec<String>>,
    home: usize,
    window: u32,
    current: RefCell<Option<Rc<Stream>>>,
    changed: Notify,
    /// Streams that were opened.
    opened: Cell<u64>,
    /// Calls that were made again, for whatever reason.
    again: Cell<u64>,
}

/// Lanes that end with this.
pub struct Lanes {
    pub all: Vec<Rc<Lane>>,
    tasks: Vec<AbortHandle>,
}

impl Lanes {
    /// So many lanes to each node, the nodes in turn.
    pub fn open(nodes: &[String], for_each: usize) -> Self {
        let homes = (0..for_each).flat_map(|_| 0..nodes.len());
        Self::to(nodes, homes, ours::STREAM_WINDOW_BYTES)
    }

    /// Lanes to these nodes, with so many bytes that may wait for a reader.
    pub fn to(nodes: &[String], homes: impl IntoIterator<Item = usize>, window: u32) -> Self {
        let nodes = Rc::new(nodes.to_vec());
        let (mut all, mut tasks) = (Vec::new(), Vec::new());
        for home in homes {
            let lane = Rc::new(Lane {
                nodes: nodes.clone(),
                home,
                window,
                current: RefCell::default(),
                changed: Notify::new(),
                opened: Cell::new(0),
                again: Cell::new(0),
            });
            tasks.push(tokio::task::spawn_local(lane.clone().keep_open()).abort_handle());
            all.push(lane);
        }
        Self { all, tasks }
    }

    /// Streams that were opened beyond the first of each lane.
    pub fn reopened(&self) -> u64 {
        self.all.iter().map(|lane| lane.opened.get().saturating_sub(1)).sum()
    }

    /// Calls that were made again.
    pub fn again(&self) -> u64 {
        self.all.iter().map(|lane| lane.again.get()).sum()
    }
}

impl Drop for Lanes {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
        for lane in &self.all {
            if let Some(stream) = lane.current.take() {
                stream.close();
            }
        }
    }
}

impl Lane {
    async fn keep_open(self: Rc<Self>) {
        let mut next = None;
        loop {
            let (place, stream) = match next.take() {
                Some(found) => found,
                None => self.anywhere().await,
            };
            self.current.replace(Some(stream.clone()));
            self.opened.set(self.opened.get() + 1);
            self.changed.notify_waiters();
            if place == self.home {
                stream.ended().await;
                continue;
            }
            tokio::select! {
                _ = stream.ended() => {}
                home = self.home_again() => {
                    next = Some((self.home, home));
                    stream.close();
                }
            }
        }
    }

    async fn anywhere(&self) -> (usize, Rc<Stream>) {
        let mut place = self.home;
        loop {
            if let Some(stream) = self.try_open(place).await {
                return (place, stream);
            }
            place = (place + 1) % self.nodes.len();
            tokio::time::sleep(OPEN_PAUSE).await;
        }
    }

    async fn home_again(&self) -> Rc<Stream> {
        loop {
            tokio::time::sleep(HOME_PERIOD).await;
            if let Some(stream) = self.try_open(self.home).await {
                return stream;
            }
        }
    }

    async fn try_open(&self, place: usize) -> Option<Rc<Stream>> {
        let node = ours::channel_with(&self.nodes[place], self.window);
        let open = async { Stream::open(node.await?).await };
        tokio::time::timeout(OPEN_TIMEOUT, open).await.ok()?.ok()
    }

    /// The stream, as soon as there is one.
    pub async fn stream(&self) -> Rc<Stream> {
        loop {
            let changed = self.changed.notified();
            let current = self.current.borrow().clone();
            if let Some(stream) = current.filter(|stream| !stream.has_ended()) {
                return stream;
            }
            changed.await;
        }
    }

    /// Makes a call until it is answered, a command under the same number.
    pub async fn call(&self, group: u32, input: &v1::PartitionInput) -> v1::StreamAnswer {
        loop {
            let stream = self.stream().await;
            let asked = stream.ask(group, Call::Command(input.clone()));
            let answer = match asked {
                Some((_, answer)) => answer.await.ok(),
                None => None,
            };
            match answer {
                Some(answer) if !may_pass(&answer) => return answer,
                Some(_) => tokio::time::sleep(RETRY_PAUSE).await,
                None => {}
            }
            self.again.set(self.again.get() + 1);
        }
    }

    /// The same, but canceled when it has waited for so long. What became of it says the same
    /// number, asked once more.
    pub async fn call_for(
        &self,
        group: u32,
        input: &v1::PartitionInput,
        patience: Duration,
    ) -> v1::StreamAnswer {
        let stream = self.stream().await;
        if let Some((id, answer)) = stream.ask(group, Call::Command(input.clone())) {
            match tokio::time::timeout(patience, answer).await {
                Ok(Ok(answer)) if !may_pass(&answer) => return answer,
                Ok(_) => {}
                Err(_) => stream.cancel(id, group),
            }
        }
        self.call(group, input).await
    }
}

/// Whether nothing is known, and the same call may be made again.
pub fn may_pass(answer: &v1::StreamAnswer) -> bool {
    let code = Code::from(answer.code as i32);
    matches!(
        code,
        Code::Unavailable | Code::ResourceExhausted | Code::NotFound | Code::DeadlineExceeded
    )
}
