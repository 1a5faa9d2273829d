//! Follows every node: one supervised task per pod UID and address, its view for whoever looks.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use hyper_util::rt::TokioIo;
use multiraft_proto::v1::node_client::NodeClient;
use multiraft_proto::v1::{GetInfoRequest, WatchRequest};
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};

use crate::backoff::Backoff;
use crate::certificate::{Certificate, Speech};
use crate::errors::chain;
use crate::limits::{
    NODE_CALL_TIMEOUT, NODE_CONNECT_TIMEOUT, NODE_DELAY_MAX, NODE_DELAY_MIN,
    NODE_MESSAGE_BYTES_MAX, NODE_REFRESH, NODE_REFRESH_SOON, NODE_SILENT,
};
use crate::metrics::Metrics;
use crate::queue::Queue;
use crate::store::Key;
use crate::view::{Effect, Link, NodeView};

/// The port of the node's API in every pod.
pub const NODE_PORT: u16 = 5678;

/// A pod whose node is to be followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    pub cluster: Key,
    pub pod: String,
    pub uid: String,
    pub address: IpAddr,
    /// Name that its certificate must have.
    pub host: String,
    pub speech: Speech,
}

/// All nodes of all clusters; clones share it.
#[derive(Clone)]
pub struct Nodes {
    followed: Arc<Mutex<BTreeMap<String, Followed>>>,
    queue: Arc<Queue>,
    metrics: Arc<Metrics>,
    /// Highest operator epoch that any node reported.
    epoch_floor: Arc<watch::Sender<u64>>,
    certificate: Certificate,
}

struct Followed {
    subject: Subject,
    view: watch::Receiver<NodeView>,
    channel: Channel,
    task: AbortHandle,
    /// Its state is wanted soon.
    wanted: Arc<Notify>,
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Nodes {
    pub fn new(
        queue: Arc<Queue>,
        metrics: Arc<Metrics>,
        epoch_floor: watch::Sender<u64>,
        certificate: Certificate,
    ) -> Self {
        let epoch_floor = Arc::new(epoch_floor);
        Self { followed: Arc::default(), queue, metrics, epoch_floor, certificate }
    }

    /// Follows the pod from now on; a changed address starts anew, the same again does nothing.
    pub fn follow(&self, subject: Subject) {
        let mut followed = self.lock();
        if followed.get(&subject.uid).is_some_and(|known| known.subject == subject) {
            return;
        }
        let plain = Arc::new(AtomicBool::new(false));
        let channel = channel(&subject, &self.certificate, plain.clone());
        let (sender, view) = watch::channel(NodeView::default());
        let wanted = Arc::new(Notify::new());
        let follower = Follower {
            wanted: wanted.clone(),
            plain,
            client: client(channel.clone()),
            view: sender,
            subject: subject.clone(),
            nodes: self.clone(),
        };
        let task = tokio::spawn(follower.run()).abort_handle();
        followed.insert(subject.uid.clone(), Followed { subject, view, channel, task, wanted });
        self.count(&followed);
    }

    /// The pod is gone or has no address any more.
    pub fn forget(&self, uid: &str) {
        let mut followed = self.lock();
        followed.remove(uid);
        self.count(&followed);
    }

    /// The node's state as last heard of.
    pub fn view(&self, uid: &str) -> Option<NodeView> {
        self.lock().get(uid).map(|node| node.view.borrow().clone())
    }

    /// A client for calls to the node in this very pod.
    pub fn client(&self, uid: &str) -> Option<NodeClient<Channel>> {
        self.lock().get(uid).map(|node| client(node.channel.clone()))
    }

    /// Something was changed there that its stream does not tell: look again soon.
    pub fn refresh(&self, uid: &str) {
        if let Some(node) = self.lock().get(uid) {
            node.wanted.notify_one();
        }
    }

    fn count(&self, followed: &BTreeMap<String, Followed>) {
        let live = followed.values().filter(|n| n.view.borrow().link == Link::Live).count();
        self.metrics.node_streams.set(i64::try_from(followed.len()).unwrap_or(i64::MAX));
        self.metrics.node_streams_live.set(i64::try_from(live).unwrap_or(i64::MAX));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Followed>> {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Connects when it is first used, and again when the connection was lost.
fn channel(subject: &Subject, certificate: &Certificate, plain: Arc<AtomicBool>) -> Channel {
    let (address, host) = ((subject.address, NODE_PORT), subject.host.clone());
    let (certificate, speech) = (certificate.clone(), subject.speech);
    let dial = tower::service_fn(move |_: http::Uri| {
        let (certificate, host) = (certificate.clone(), host.clone());
        let speech = match speech {
            Speech::Either if plain.load(Relaxed) => Speech::Plain,
            speech => speech,
        };
        async move { certificate.dial(address, &host, speech).await.map(TokioIo::new) }
    });
    Endpoint::from_shared(format!("http://{}:{NODE_PORT}", subject.host))
        .expect("a pod's name and a port make a URI")
        .connect_timeout(NODE_CONNECT_TIMEOUT)
        .http2_keep_alive_interval(NODE_SILENT / 2)
        .keep_alive_timeout(NODE_SILENT / 2)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true)
        .connect_with_connector_lazy(dial)
}

fn client(channel: Channel) -> NodeClient<Channel> {
    NodeClient::new(channel).max_decoding_message_size(NODE_MESSAGE_BYTES_MAX)
}

struct Follower {
    wanted: Arc<Notify>,
    /// Where both are taken, the next connection is in plain text: a node may refuse a certificate only
    /// after the handshake, and must not be lost by that.
    plain: Arc<AtomicBool>,
    client: NodeClient<Channel>,
    view: watch::Sender<NodeView>,
    subject: Subject,
    nodes: Nodes,
}

impl Follower {
    /// Never ends by itself; `Followed` aborts it.
    async fn run(mut self) {
        let mut backoff = Backoff::new(NODE_DELAY_MIN, NODE_DELAY_MAX);
        loop {
            let error = match self.one_stream(&mut backoff).await {
                Ok(()) => "the node closed its stream".to_owned(),
                Err(status) => words(&status),
            };
            tracing::debug!(cluster = %self.subject.cluster, pod = self.subject.pod, error, "node stream lost");
            self.nodes.metrics.node_reconnects.inc();
            let was_live = self.view.borrow().link == Link::Live;
            self.plain.store(!was_live && !self.plain.load(Relaxed), Relaxed);
            self.change(|view| {
                let before = (view.link, view.error.clone());
                view.lost(error);
                before != (view.link, view.error.clone())
            });
            tokio::time::sleep(backoff.next()).await;
        }
    }

    /// Connects, learns who the node is, and follows its stream until it breaks or goes silent.
    async fn one_stream(&mut self, backoff: &mut Backoff) -> Result<(), tonic::Status> {
        self.refresh().await?;
        let request = self.client.watch(WatchRequest::default());
        let mut stream = deadline(NODE_CALL_TIMEOUT, request).await?.into_inner();
        self.view.send_modify(NodeView::restart);
        let mut refresh_at = Instant::now() + NODE_REFRESH;
        let mut silent_at = Instant::now() + NODE_SILENT;
        loop {
            tokio::select! {
                message = stream.message() => {
                    let Some(event) = message? else { return Ok(()) };
                    silent_at = Instant::now() + NODE_SILENT;
                    let mut effect = Effect::None;
                    self.change(|view| {
                        effect = event.event.map_or(Effect::None, |kind| view.fold(kind));
                        // While the snapshot's parts arrive the view is incomplete: nobody need look.
                        effect != Effect::None && view.link == Link::Live
                    });
                    if effect == Effect::AskAgain {
                        backoff.reset();
                        refresh_at = refresh_at.min(Instant::now() + NODE_REFRESH_SOON);
                    }
                }
                () = self.wanted.notified() => {
                    refresh_at = refresh_at.min(Instant::now() + NODE_REFRESH_SOON);
                }
                () = tokio::time::sleep_until(refresh_at) => {
                    self.refresh().await?;
                    refresh_at = Instant::now() + NODE_REFRESH;
                }
                () = tokio::time::sleep_until(silent_at) => {
                    return Err(tonic::Status::deadline_exceeded("the stream is silent"));
                }
            }
        }
    }

    async fn refresh(&mut self) -> Result<(), tonic::Status> {
        let info = deadline(NODE_CALL_TIMEOUT, self.client.get_info(GetInfoRequest {}))
            .await?
            .into_inner();
        self.nodes.epoch_floor.send_if_modified(|floor| {
            let higher = info.operator_epoch > *floor;
            *floor = info.operator_epoch.max(*floor);
            higher
        });
        self.change(|view| view.learn(info) == Effect::Changed);
        Ok(())
    }

    /// Changes the view and, if that matters, wants a pass over the cluster.
    fn change(&self, change: impl FnOnce(&mut NodeView) -> bool) {
        if self.view.send_if_modified(change) {
            self.nodes.count(&self.nodes.lock());
            self.nodes.queue.mark(self.subject.cluster.clone());
        }
    }
}

/// Runs a call with a deadline of ours: a peer that accepts and says nothing must not hold us.
pub async fn deadline<T>(
    limit: std::time::Duration,
    call: impl Future<Output = Result<T, tonic::Status>>,
) -> Result<T, tonic::Status> {
    match tokio::time::timeout(limit, call).await {
        Ok(result) => result,
        Err(_) => Err(tonic::Status::deadline_exceeded(format!("no answer within {limit:?}"))),
    }
}

/// A status in words: transport errors hide the interesting part in their causes.
pub fn words(status: &tonic::Status) -> String {
    let text = chain(status);
    format!(
        "{:?}: {}",
        status.code(),
        if status.message().is_empty() { &text } else { status.message() }
    )
}
